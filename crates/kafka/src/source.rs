//! [`KafkaSource`]: the input topics as the engine's source.
//!
//! A thread owns the consumer, polls it and copies records into batches
//! ([`consumer_thread`](crate::consumer_thread)). The engine takes batches from a bounded channel.
//! No librdkafka message leaves the thread. When the engine is slow the channel fills, the thread
//! waits, librdkafka's queue fills, and fetching stops. So memory is bounded by `queue_bytes` and
//! librdkafka's own limit.
//!
//! All partitions are assigned by hand at offsets that the engine names. The group only keeps
//! committed positions. Each [`Source::seek`] starts a new generation, and deliveries of an older
//! one are dropped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, unbounded};

use leadpulse_engine::ports::{
    InputPartition, LogEnd, NextOffset, PollLimit, PortCause, PortError, RecordBatch, Source, Stuck,
};
use leadpulse_schema::TableId;

use crate::client::consumer;
use crate::client_settings::ClientRole;
use crate::consumer_thread::{ConsumerCommand, ConsumerThread, Delivery};
use crate::metrics::KafkaMetrics;
use crate::offsets::{Isolation, OffsetReader, log_ends};
use crate::options::KafkaOptions;
use crate::watch::{Arrangement, InputWatch, Suspects};

/// Most batches that wait for the engine.
const QUEUED_BATCHES: usize = 8;

/// An input topic and its tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputTopic {
    /// Topic name.
    pub topic: String,
    /// Tables of the rows in the topic, in the order of their sources.
    pub tables: Vec<TableId>,
}

/// A batch in the hands of the engine, and the number of records taken from it.
struct PartlyTaken {
    batch: RecordBatch,
    taken: usize,
}

/// The input topics on a cluster.
pub struct KafkaSource {
    arrangement: Arc<Arrangement>,
    offsets: OffsetReader,
    /// A `read_uncommitted` client, for the high watermarks.
    latest: OffsetReader,
    watch: InputWatch,
    commands: Sender<ConsumerCommand>,
    deliveries: Receiver<Delivery>,
    recycled: Sender<RecordBatch>,
    finished: Receiver<()>,
    close_timeout: Duration,
    generation: u64,
    current: Option<PartlyTaken>,
    /// One past the newest offset that was delivered or passed over, by input partition. Empty
    /// before the first seek of an arrangement.
    read_to: Vec<NextOffset>,
    /// The error that stopped reading. Only a seek starts reading again.
    failed: Option<PortError>,
    metrics: Arc<KafkaMetrics>,
}

/// Every partition of the topics, by topic as configured, then by number.
fn list_partitions(
    offsets: &OffsetReader,
    options: &KafkaOptions,
    inputs: &[InputTopic],
) -> Result<Vec<InputPartition>, PortError> {
    let mut partitions = Vec::new();
    for InputTopic { topic, tables } in inputs {
        let Some(count) = offsets.partition_count(topic)? else {
            return Err(PortError::fatal(
                PortCause::TopicMissing,
                format!(
                    "kafka: there is no input topic '{topic}' on {}: create it, or correct its name in the sources",
                    options.brokers
                ),
            ));
        };
        partitions.extend((0..count).map(|partition| InputPartition {
            topic: topic.clone(),
            partition,
            tables: tables.clone(),
        }));
    }
    Ok(partitions)
}

impl KafkaSource {
    /// Finds the partitions and starts the consumer's thread. Nothing is read before the first
    /// seek.
    ///
    /// # Errors
    /// A topic that does not exist, or brokers that do not answer.
    pub fn open(
        options: &KafkaOptions,
        inputs: &[InputTopic],
        metrics: &Arc<KafkaMetrics>,
    ) -> Result<Self, PortError> {
        let offsets = OffsetReader::connect(options, Isolation::Committed, metrics)?;
        let latest = OffsetReader::connect(options, Isolation::Uncommitted, metrics)?;
        let partitions = list_partitions(&offsets, options, inputs)?;
        let arrangement = Arc::new(Arrangement::new(partitions));
        let (commands, command_inbox) = unbounded();
        let (delivery_outbox, deliveries) = bounded(QUEUED_BATCHES);
        let (recycled, recycling) = bounded(QUEUED_BATCHES + 2);
        let (finish, finished) = bounded::<()>(0);
        let suspects = Arc::new(Suspects::default());
        let watch = InputWatch::start(
            options,
            inputs,
            Arc::clone(&arrangement),
            &suspects,
            metrics,
        )?;
        let thread = ConsumerThread::new(
            consumer(options, ClientRole::Source, "source", Some(metrics))?,
            command_inbox,
            delivery_outbox,
            recycling,
            options.queue_bytes / QUEUED_BATCHES,
            Arc::clone(metrics),
            suspects,
        );
        let spawned = std::thread::Builder::new()
            .name("kafka-source".into())
            .spawn(move || {
                thread.run();
                drop(finish); // disconnects the channel that `drop` waits for
            });
        spawned.map_err(|error| {
            PortError::fatal(
                PortCause::Local,
                format!("kafka: the source's thread cannot be started: {error}"),
            )
        })?;
        Ok(Self {
            arrangement,
            offsets,
            latest,
            watch,
            commands,
            deliveries,
            recycled,
            finished,
            close_timeout: options.close_timeout(),
            generation: 0,
            current: None,
            read_to: Vec::new(),
            failed: None,
            metrics: Arc::clone(metrics),
        })
    }

    fn command(&self, command: ConsumerCommand) -> Result<(), PortError> {
        self.commands.send(command).map_err(|_| thread_ended())
    }

    /// Drops the records that were fetched for an earlier arrangement or an earlier seek, also
    /// those still to come.
    fn begin_generation(&mut self) {
        self.generation += 1;
        if let Some(current) = self.current.take() {
            self.recycle(current.batch);
        }
    }

    fn check_inputs(&self, inputs: &[u32]) -> Result<(), PortError> {
        let known = self.arrangement.partitions.len();
        match inputs.iter().find(|input| **input as usize >= known) {
            None => Ok(()),
            Some(input) => Err(PortError::fatal(
                PortCause::Misuse,
                format!("kafka: input partition {input} of {known} was named"),
            )),
        }
    }

    /// Refuses positions outside the log. Staying alive there would lose records without a word.
    fn check_positions(&mut self, positions: &[NextOffset]) -> Result<(), PortError> {
        if positions.len() != self.arrangement.partitions.len() {
            let (given, read) = (positions.len(), self.arrangement.partitions.len());
            return Err(PortError::fatal(
                PortCause::Misuse,
                format!("kafka: {given} positions for {read} input partitions"),
            ));
        }
        let starts = self.offsets.starts(&self.arrangement.places)?;
        let ends = self.offsets.stable_ends(&self.arrangement.places)?;
        for (((place, position), start), end) in self
            .arrangement
            .places
            .iter()
            .zip(positions)
            .zip(starts)
            .zip(ends)
        {
            let (topic, partition) = place;
            if *position < start {
                self.metrics.count_out_of_range();
                return Err(PortError::fatal(
                    PortCause::RecordsExpired,
                    format!(
                        "kafka: {topic}/{partition} starts at offset {}, but {} is the next to read: {} records were deleted by the topic's retention \
                     before they were read. Raise the retention; to go on without them, start over with a new kafka.group_id and new output topics",
                        start.0,
                        position.0,
                        start.0 - position.0
                    ),
                ));
            }
            if position.0 > end {
                self.metrics.count_out_of_range();
                return Err(PortError::fatal(
                    PortCause::TopicReplaced,
                    format!(
                        "kafka: {topic}/{partition} ends at offset {end}, but {} is the next to read: the topic was deleted and created again, or \
                     truncated, so its records are other ones. \
                     Start over with a new kafka.group_id and new output topics",
                        position.0
                    ),
                ));
            }
        }
        Ok(())
    }

    /// The next batch of this generation; `None` when nothing came within `wait`.
    fn next_batch(&mut self, wait: Duration) -> Result<Option<RecordBatch>, PortError> {
        let deadline = Instant::now() + wait;
        loop {
            let delivery = match self.deliveries.try_recv() {
                Ok(delivery) => delivery,
                Err(TryRecvError::Empty) => match self
                    .deliveries
                    .recv_timeout(deadline.saturating_duration_since(Instant::now()))
                {
                    Ok(delivery) => delivery,
                    Err(RecvTimeoutError::Timeout) => return Ok(None),
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err(thread_ended());
                    }
                },
                Err(TryRecvError::Disconnected) => {
                    return Err(thread_ended());
                }
            };
            match delivery {
                Delivery::Batch { generation, batch } if generation == self.generation => {
                    return Ok(Some(batch));
                }
                Delivery::Batch { batch, .. } => self.recycle(batch),
                Delivery::Passed {
                    generation,
                    read_to,
                } if generation == self.generation => self.read_to = read_to,
                Delivery::Passed { .. } => {}
                Delivery::Failed { generation, error } if generation == self.generation => {
                    return Err(self.name_denied(error));
                }
                Delivery::Failed { .. } => {}
            }
        }
    }

    /// The error of a denied read with the topic's name, which librdkafka leaves out.
    fn name_denied(&self, error: PortError) -> PortError {
        if error.cause() != PortCause::Refused {
            return error;
        }
        let named = self.offsets.denied_topic(&self.arrangement.places);
        named.unwrap_or(error)
    }

    fn recycle(&self, mut batch: RecordBatch) {
        batch.clear();
        let _ = self.recycled.try_send(batch); // full: the memory is freed instead
    }

    /// Moves records of the current batch into `batch`, up to `limit`. `before` is the number of
    /// records and bytes in `batch` at the start. True when the current batch is used up.
    fn take_current(
        &mut self,
        batch: &mut RecordBatch,
        limit: PollLimit,
        before: (usize, usize),
    ) -> bool {
        let Some(current) = &mut self.current else {
            return true;
        };
        let room = |batch: &RecordBatch| {
            batch.len() - before.0 < limit.records && batch.bytes() - before.1 < limit.bytes
        };
        let fits = current.batch.len() <= limit.records && current.batch.bytes() <= limit.bytes;
        if current.taken == 0 && batch.is_empty() && fits {
            std::mem::swap(batch, &mut current.batch);
            for record in batch.iter() {
                self.read_to[record.partition() as usize] = NextOffset(record.offset() + 1);
            }
            current.taken = current.batch.len(); // the batch is now the caller's, which was empty
        } else {
            while current.taken < current.batch.len() && room(batch) {
                let record = current.batch.record(current.taken);
                batch.push(
                    record.partition(),
                    record.offset(),
                    record.timestamp_ms(),
                    record.key(),
                    record.value(),
                    record.headers(),
                );
                self.read_to[record.partition() as usize] = NextOffset(record.offset() + 1);
                current.taken += 1;
            }
        }
        current.taken >= current.batch.len()
    }
}

fn thread_ended() -> PortError {
    PortError::fatal(PortCause::Local, "kafka: the source's thread has ended")
}

impl Source for KafkaSource {
    fn partitions(&self) -> &[InputPartition] {
        &self.arrangement.partitions
    }

    fn arrange(&mut self, partitions: Vec<InputPartition>) -> Result<(), PortError> {
        if partitions == self.arrangement.partitions {
            return Ok(());
        }
        let mut counts: BTreeMap<&str, i32> = BTreeMap::new();
        for InputPartition {
            topic, partition, ..
        } in &partitions
        {
            let count = match counts.get(topic.as_str()) {
                Some(count) => *count,
                None => {
                    let count = self.offsets.partition_count(topic)?.unwrap_or(0);
                    counts.insert(topic, count);
                    count
                }
            };
            if !(0..count).contains(partition) {
                return Err(PortError::fatal(
                    PortCause::TopicReplaced,
                    format!(
                        "kafka: {topic}/{partition} is to be read, but the topic has {count} partitions: it was deleted, or deleted and created again \
                     with fewer. Start over with a new kafka.group_id and new output topics"
                    ),
                ));
            }
        }
        self.begin_generation();
        self.read_to.clear();
        self.failed = Some(PortError::fatal(
            PortCause::Misuse,
            "kafka: nothing is read between a new arrangement and the next seek",
        ));
        self.arrangement = Arc::new(Arrangement::new(partitions));
        self.watch.arrange(Arc::clone(&self.arrangement));
        Ok(())
    }

    fn added(&mut self) -> Vec<InputPartition> {
        self.watch.added()
    }

    /// A pause costs a fetch: librdkafka drops the fetched records of the partitions.
    fn pause(&mut self, partitions: &[u32]) -> Result<(), PortError> {
        self.check_inputs(partitions)?;
        self.command(ConsumerCommand::Pause(partitions.to_vec()))
    }

    fn resume(&mut self, partitions: &[u32]) -> Result<(), PortError> {
        self.check_inputs(partitions)?;
        self.command(ConsumerCommand::Resume(partitions.to_vec()))
    }

    fn skip_to(&mut self, partition: u32, offset: NextOffset) -> Result<(), PortError> {
        self.check_inputs(&[partition])?;
        let read_to = self
            .read_to
            .get(partition as usize)
            .copied()
            .unwrap_or_default();
        if offset < read_to {
            return Err(PortError::fatal(
                PortCause::Misuse,
                format!(
                    "kafka: input partition {partition} cannot be skipped back to offset {}: it was read to {}",
                    offset.0, read_to.0
                ),
            ));
        }
        self.watch.skipped(partition);
        self.command(ConsumerCommand::SkipTo(partition, offset))
    }

    fn stuck(&mut self) -> Vec<Stuck> {
        let mut stuck = self.watch.stuck();
        stuck.retain(|stuck| {
            self.read_to
                .get(stuck.partition as usize)
                .is_some_and(|read_to| *read_to <= stuck.offset)
        });
        stuck
    }

    fn readable_after(
        &mut self,
        partition: u32,
        offset: NextOffset,
    ) -> Result<NextOffset, PortError> {
        self.check_inputs(&[partition])?;
        let place = &self.arrangement.places[partition as usize];
        let ends = self.offsets.stable_ends(std::slice::from_ref(place))?;
        let end = ends.first().copied().unwrap_or(offset.0);
        self.offsets.readable_after(place, offset, NextOffset(end))
    }

    fn seek(&mut self, positions: &[NextOffset]) -> Result<(), PortError> {
        self.check_positions(positions)?;
        self.begin_generation();
        self.failed = None;
        self.read_to = positions.to_vec();
        let places = Arc::clone(&self.arrangement.places);
        self.command(ConsumerCommand::Seek {
            generation: self.generation,
            places,
            positions: positions.to_vec(),
        })
    }

    fn poll(
        &mut self,
        batch: &mut RecordBatch,
        limit: PollLimit,
        wait: Duration,
    ) -> Result<(), PortError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if limit.records == 0 {
            return Ok(());
        }
        if batch.is_empty() {
            // Bytes of records that the caller took out would count against the limit.
            batch.clear();
        }
        let before = (batch.len(), batch.bytes());
        let mut wait = wait;
        loop {
            if self.current.is_none() {
                match self.next_batch(wait) {
                    Ok(Some(next)) => {
                        self.current = Some(PartlyTaken {
                            batch: next,
                            taken: 0,
                        })
                    }
                    Ok(None) => return Ok(()),
                    // Records from before the failure are delivered first.
                    Err(error) => {
                        self.failed = Some(error.clone());
                        return if batch.len() > before.0 {
                            Ok(())
                        } else {
                            Err(error)
                        };
                    }
                }
            }
            if !self.take_current(batch, limit, before) {
                return Ok(()); // the limit is reached
            }
            if let Some(used) = self.current.take() {
                self.recycle(used.batch);
            }
            if batch.len() - before.0 >= limit.records || batch.bytes() - before.1 >= limit.bytes {
                return Ok(());
            }
            wait = Duration::ZERO;
        }
    }

    fn read_to(&mut self) -> Result<Vec<NextOffset>, PortError> {
        if self.read_to.is_empty() && !self.arrangement.partitions.is_empty() {
            return Err(PortError::fatal(
                PortCause::Misuse,
                "kafka: nothing is read before the first seek",
            ));
        }
        Ok(self.read_to.clone())
    }

    fn starts(&mut self) -> Result<Vec<NextOffset>, PortError> {
        self.offsets.starts(&self.arrangement.places)
    }

    fn ends(&mut self) -> Result<Vec<LogEnd>, PortError> {
        log_ends(&self.offsets, &self.latest, &self.arrangement.places)
    }

    fn last_ends(&mut self) -> Option<Vec<LogEnd>> {
        self.watch.last_ends()
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        let _ = self.commands.send(ConsumerCommand::Stop); // an error means that it has stopped
        if self.finished.recv_timeout(self.close_timeout) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the Kafka consumer did not close in time and is left behind");
        }
    }
}
