//! The consumer's thread: polls librdkafka, copies records into batches, hands the batches over.
//!
//! A thread of its own, because `BaseConsumer::poll` blocks. The asynchronous consumer of rdkafka
//! is as fast (measured), but its wake-up can be lost until half of `max.poll.interval.ms` has
//! passed ([rust-rdkafka 848](https://github.com/fede1024/rust-rdkafka/issues/848)), and a queue
//! split off for one partition has no second wake-up at all ([rust-rdkafka
//! 840](https://github.com/fede1024/rust-rdkafka/pull/840)). Records are copied at once, because a
//! librdkafka message keeps the whole buffer of its fetch in memory, and a client with a live
//! message does not close.
//!
//! Partitions are assigned by hand: positions belong to the transactions of the epochs, so no
//! rebalance may move them. Commands come through a channel and are obeyed between two polls, also
//! while a batch waits for room. Only a seek makes that batch stale.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, select_biased};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use rustc_hash::{FxHashMap, FxHashSet};

use leadpulse_engine::ports::{NextOffset, PortCause, PortError, RecordBatch};

use crate::client::{ClientCallbacks, is_permanent, port_error_of};
use crate::metrics::KafkaMetrics;
use crate::offsets::{TopicPartition, is_damage, place_list};
use crate::record::{for_each_header, timestamp_ms};
use crate::watch::{Suspect, Suspects};

/// Longest wait of one poll of an idle consumer, and so the longest delay of a command.
const IDLE_POLL: Duration = Duration::from_millis(20);
/// Most records of a batch.
const BATCH_RECORDS: usize = 4096;
/// Limit of a seek within librdkafka. A seek only passes messages between threads.
const SEEK_LIMIT: Duration = Duration::from_secs(5);
/// Time between two looks at which partition stands still while batches cannot be read. librdkafka
/// fetches a damaged batch again twice a second.
const DAMAGE_ROUND: Duration = Duration::from_millis(300);
/// Looks in a row that must find a partition at the same offset before the partition is suspected.
const DAMAGE_ROUNDS: u32 = 3;
/// Least time between two log lines about errors of one code.
const LOG_PAUSE: Duration = Duration::from_secs(10);

/// Commands of the engine to the thread.
pub(crate) enum ConsumerCommand {
    /// Read exactly these partitions from these positions, none paused.
    Seek {
        generation: u64,
        places: Arc<[TopicPartition]>,
        positions: Vec<NextOffset>,
    },
    /// Fetch no more of these input partitions.
    Pause(Vec<u32>),
    /// Fetch these input partitions again, where they were left.
    Resume(Vec<u32>),
    /// Go on with one input partition at a later offset.
    SkipTo(u32, NextOffset),
    /// Close the consumer and end the thread.
    Stop,
}

/// Answers of the thread to the engine. The generation is that of the seek they belong to.
pub(crate) enum Delivery {
    /// Records, in offset order by partition.
    Batch { generation: u64, batch: RecordBatch },
    /// Nothing is left to read now, and reading is past these offsets. Markers and aborted records
    /// deliver nothing, so no batch can say that.
    Passed {
        generation: u64,
        read_to: Vec<NextOffset>,
    },
    /// Reading stopped for good.
    Failed { generation: u64, error: PortError },
}

/// The way on after a step of the loop.
enum NextStep {
    /// Go on polling.
    Poll,
    /// Drop the records fetched so far, and read from other positions.
    Seek(Seek),
    /// The engine is gone.
    End,
}

struct Seek {
    generation: u64,
    places: Arc<[TopicPartition]>,
    positions: Vec<NextOffset>,
}

/// Topic → partition number → index of the input partition. A topic's partitions may have gaps, any
/// order, and other topics in between.
type InputIndex = FxHashMap<String, FxHashMap<i32, u32>>;

/// State of the consumer's thread.
pub(crate) struct ConsumerThread {
    consumer: BaseConsumer<ClientCallbacks>,
    commands: Receiver<ConsumerCommand>,
    deliveries: Sender<Delivery>,
    recycling: Receiver<RecordBatch>,
    batch_bytes: usize,
    metrics: Arc<KafkaMetrics>,
    suspects: Arc<Suspects>,
    places: Arc<[TopicPartition]>,
    index: InputIndex,
    generation: u64,
    /// The lowest offset that may come next, by input partition.
    next: Vec<i64>,
    /// Offsets that the newest [`Delivery::Passed`] reported.
    passed: Vec<NextOffset>,
    paused: FxHashSet<u32>,
    /// True while the engine does not know yet that a skip moved a position.
    skipped: bool,
    damage: Damage,
    /// Newest log line by error code.
    logged: FxHashMap<i32, Logged>,
    /// True once a record came: permissions and names were right then.
    has_read: bool,
}

/// Partitions that stand still while librdkafka reports batches that cannot be read. Errors of
/// librdkafka do not name the partition.
#[derive(Default)]
struct Damage {
    /// The error since the last look.
    reason: Option<String>,
    looked: Option<Instant>,
    /// Position of each input partition at the last look, and the number of looks that found it.
    standing: Vec<(NextOffset, u32)>,
}

#[derive(Default)]
struct Logged {
    at: Option<Instant>,
    suppressed: u64,
}

impl ConsumerThread {
    pub(crate) fn new(
        consumer: BaseConsumer<ClientCallbacks>,
        commands: Receiver<ConsumerCommand>,
        deliveries: Sender<Delivery>,
        recycling: Receiver<RecordBatch>,
        batch_bytes: usize,
        metrics: Arc<KafkaMetrics>,
        suspects: Arc<Suspects>,
    ) -> Self {
        Self {
            consumer,
            commands,
            deliveries,
            recycling,
            batch_bytes,
            metrics,
            suspects,
            places: Arc::new([]),
            index: InputIndex::default(),
            generation: 0,
            next: Vec::new(),
            passed: Vec::new(),
            paused: FxHashSet::default(),
            skipped: false,
            damage: Damage::default(),
            logged: FxHashMap::default(),
            has_read: false,
        }
    }

    /// Runs until the engine stops the thread or is gone. Then the consumer closes, on this thread.
    pub(crate) fn run(mut self) {
        let mut next = self.await_seek();
        while let NextStep::Seek(seek) = next {
            let ended = match self.assign(seek) {
                Ok(()) => self.poll_until_seek(),
                Err(error) => Err(error),
            };
            next = match ended {
                Ok(next) => next,
                Err(error) => match self.deliver(Delivery::Failed {
                    generation: self.generation,
                    error,
                }) {
                    Ok(NextStep::Poll) | Err(_) => self.await_seek(),
                    Ok(other) => other,
                },
            };
        }
        if let Err(error) = self.consumer.unassign() {
            tracing::debug!(%error, "unassigning before the consumer closes");
        }
    }

    /// Waits for the next seek, where reading has not begun or has failed. Pauses and skips mean
    /// nothing until then.
    fn await_seek(&self) -> NextStep {
        loop {
            match self.commands.recv() {
                Ok(ConsumerCommand::Seek {
                    generation,
                    places,
                    positions,
                }) => {
                    return NextStep::Seek(Seek {
                        generation,
                        places,
                        positions,
                    });
                }
                Ok(
                    ConsumerCommand::Pause(_)
                    | ConsumerCommand::Resume(_)
                    | ConsumerCommand::SkipTo(..),
                ) => {}
                Ok(ConsumerCommand::Stop) | Err(_) => return NextStep::End,
            }
        }
    }

    fn assign(&mut self, seek: Seek) -> Result<(), PortError> {
        let Seek {
            generation,
            places,
            positions,
        } = seek;
        self.generation = generation;
        let failed = |error| {
            PortError::fatal(
                PortCause::Local,
                format!("kafka: assigning the input partitions: {error}"),
            )
        };
        let mut assignment = TopicPartitionList::with_capacity(places.len());
        let mut index = InputIndex::default();
        for (input, ((topic, partition), position)) in (0u32..).zip(places.iter().zip(&positions)) {
            assignment
                .add_partition_offset(topic, *partition, Offset::Offset(position.0))
                .map_err(failed)?;
            index
                .entry(topic.clone())
                .or_default()
                .insert(*partition, input);
        }
        // librdkafka keeps a pause through a new assignment.
        let paused: Vec<u32> = self.paused.drain().collect();
        self.consumer.resume(&self.list(&paused)).map_err(failed)?;
        // First nothing, then all: librdkafka drops the records fetched for the old assignment.
        self.consumer.unassign().map_err(failed)?;
        self.consumer.assign(&assignment).map_err(failed)?;
        self.next = positions.iter().map(|position| position.0).collect();
        self.passed = positions;
        (self.places, self.index) = (places, index);
        self.damage = Damage::default();
        self.suspects.set(Vec::new());
        Ok(())
    }

    fn list(&self, inputs: &[u32]) -> TopicPartitionList {
        place_list(inputs.iter().map(|input| &self.places[*input as usize]))
    }

    /// Polls and hands over until a seek comes, the engine is gone, or reading fails.
    fn poll_until_seek(&mut self) -> Result<NextStep, PortError> {
        loop {
            loop {
                let next = match self.commands.try_recv() {
                    Ok(command) => self.obey(command)?,
                    Err(TryRecvError::Disconnected) => NextStep::End,
                    Err(TryRecvError::Empty) => break,
                };
                if !matches!(next, NextStep::Poll) {
                    return Ok(next);
                }
            }
            // After the batches that the engine has not taken yet, so that its positions never go
            // back.
            if std::mem::take(&mut self.skipped) {
                self.passed = self.position()?;
                let skipped = Delivery::Passed {
                    generation: self.generation,
                    read_to: self.passed.clone(),
                };
                match self.deliver(skipped)? {
                    NextStep::Poll => {}
                    other => return Ok(other),
                }
            }
            let filled = self.fill_batch()?;
            self.look_for_damage()?;
            let delivery = match filled {
                Some(batch) => Delivery::Batch {
                    generation: self.generation,
                    batch,
                },
                None => {
                    let read_to = self.position()?;
                    if read_to == self.passed {
                        continue;
                    }
                    self.passed.clone_from(&read_to);
                    Delivery::Passed {
                        generation: self.generation,
                        read_to,
                    }
                }
            };
            match self.deliver(delivery)? {
                NextStep::Poll => {}
                other => return Ok(other),
            }
        }
    }

    /// Obeys a command, unless the command ends the generation: then returns the way on.
    fn obey(&mut self, command: ConsumerCommand) -> Result<NextStep, PortError> {
        match command {
            ConsumerCommand::Seek {
                generation,
                places,
                positions,
            } => {
                return Ok(NextStep::Seek(Seek {
                    generation,
                    places,
                    positions,
                }));
            }
            ConsumerCommand::Stop => return Ok(NextStep::End),
            ConsumerCommand::Pause(inputs) => {
                // librdkafka drops the fetched records of these partitions, and fetches them again
                // after the resume.
                let failed = |error| {
                    PortError::fatal(
                        PortCause::Local,
                        format!("kafka: pausing input partitions: {error}"),
                    )
                };
                self.consumer.pause(&self.list(&inputs)).map_err(failed)?;
                self.paused.extend(inputs);
            }
            ConsumerCommand::Resume(inputs) => {
                let failed = |error| {
                    PortError::fatal(
                        PortCause::Local,
                        format!("kafka: resuming input partitions: {error}"),
                    )
                };
                self.consumer.resume(&self.list(&inputs)).map_err(failed)?;
                self.paused.retain(|input| !inputs.contains(input));
            }
            ConsumerCommand::SkipTo(input, offset) => self.skip(input, offset)?,
        }
        Ok(NextStep::Poll)
    }

    fn skip(&mut self, input: u32, offset: NextOffset) -> Result<(), PortError> {
        let (topic, partition) = &self.places[input as usize];
        if offset.0 <= self.next[input as usize] {
            return Ok(()); // reading has passed the offset already
        }
        let failed = |error: KafkaError| {
            PortError::fatal(
                PortCause::Local,
                format!(
                    "kafka: skipping to offset {} of {topic}/{partition}: {error}",
                    offset.0
                ),
            )
        };
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(topic, *partition, Offset::Offset(offset.0))
            .map_err(failed)?;
        let answer = self
            .consumer
            .seek_partitions(list, SEEK_LIMIT)
            .map_err(failed)?;
        for element in answer.elements() {
            element.error().map_err(failed)?;
        }
        self.next[input as usize] = offset.0;
        self.skipped = true;
        self.damage = Damage::default();
        self.suspects.set(Vec::new());
        Ok(())
    }

    /// One past the last offset that librdkafka gave out or passed over, by input partition.
    fn position(&self) -> Result<Vec<NextOffset>, PortError> {
        let positions = self.consumer.position().map_err(|error| {
            PortError::fatal(
                PortCause::Local,
                format!("kafka: asking for the position: {error}"),
            )
        })?;
        let of = |((topic, partition), next): (&TopicPartition, &i64)| match positions
            .find_partition(topic, *partition)
            .map(|element| element.offset())
        {
            Some(Offset::Offset(offset)) => NextOffset(offset.max(*next)),
            _ => NextOffset(*next),
        };
        Ok(self.places.iter().zip(&self.next).map(of).collect())
    }

    /// Polls until librdkafka has no more records, or the batch is full. `None` if nothing came
    /// within [`IDLE_POLL`].
    fn fill_batch(&mut self) -> Result<Option<RecordBatch>, PortError> {
        let mut wait = IDLE_POLL;
        let mut batch: Option<RecordBatch> = None;
        loop {
            match self.consumer.poll(wait) {
                Some(Ok(message)) => {
                    let into =
                        batch.get_or_insert_with(|| self.recycling.try_recv().unwrap_or_default());
                    copy(&message, &self.index, &mut self.next, into)?;
                    drop(message);
                    self.has_read = true;
                    if into.len() >= BATCH_RECORDS || into.bytes() >= self.batch_bytes {
                        return Ok(batch);
                    }
                    wait = Duration::ZERO;
                }
                Some(Err(error)) => {
                    self.judge(&error)?;
                    // Errors that come as fast as they are taken must not keep records and commands
                    // waiting.
                    if batch.is_some() {
                        return Ok(batch);
                    }
                    wait = Duration::ZERO;
                }
                None => return Ok(batch),
            }
        }
    }

    /// Counts and logs an error of librdkafka. librdkafka reconnects, refreshes and retries by
    /// itself, so only faults that it cannot cure are errors here.
    fn judge(&mut self, error: &KafkaError) -> Result<(), PortError> {
        let code = error
            .rdkafka_error_code()
            .unwrap_or(RDKafkaErrorCode::Unknown);
        self.metrics
            .count_client_error("source", &format!("{code:?}"));
        if !is_denial(code) {
            self.log(code, error);
        }
        if matches!(
            code,
            RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::OffsetOutOfRange
                | RDKafkaErrorCode::LogTruncation
        ) {
            self.metrics.count_out_of_range();
            return Err(PortError::fatal(
                PortCause::RecordsExpired,
                format!(
                    "kafka: the next offset to read is no longer in the log ({error}): records were deleted by retention, or a topic was created \
                 again, while the engine was reading. Restart to see which partition; raise the retention"
                ),
            ));
        }
        if is_damage(code) {
            self.damage.reason = Some(code.to_string());
            return Ok(());
        }
        // Permissions that were granted before come back: an ACL is being replaced. At the start
        // missing ones are a fault of the configuration.
        if self.has_read && is_denial(code) {
            self.log(code, error);
            return Ok(());
        }
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_)) || is_permanent(code);
        if !fatal {
            return Ok(());
        }
        let access = self.consumer.context().access();
        let unanswered = PortError::retriable(PortCause::NoAnswer, String::new());
        if let denied @ PortError::Fatal(_) = access.explain(unanswered) {
            return Err(denied);
        }
        Err(port_error_of(
            access,
            "reading the input topics",
            "an input topic",
            error,
        ))
    }

    fn log(&mut self, code: RDKafkaErrorCode, error: &KafkaError) {
        let logged = self.logged.entry(code as i32).or_default();
        if logged.at.is_some_and(|at| at.elapsed() < LOG_PAUSE) {
            logged.suppressed += 1;
            return;
        }
        let suppressed = std::mem::take(&mut logged.suppressed);
        logged.at = Some(Instant::now());
        tracing::warn!(code = ?code, suppressed, "reading the input topics: {error}; librdkafka tries again");
    }

    /// Suspects the partitions that stand still while batches cannot be read. [`crate::watch`]
    /// finds out which of them is damaged, with a consumer that reads one partition only.
    fn look_for_damage(&mut self) -> Result<(), PortError> {
        if self.damage.reason.is_none()
            || self
                .damage
                .looked
                .is_some_and(|at| at.elapsed() < DAMAGE_ROUND)
        {
            return Ok(());
        }
        let positions = self.position()?;
        let damage = &mut self.damage;
        let reason = damage.reason.take().unwrap_or_default();
        damage.looked = Some(Instant::now());
        let looks = |(input, position): (usize, NextOffset)| match damage.standing.get(input) {
            Some((before, looks)) if *before == position => (position, looks + 1),
            _ => (position, 1),
        };
        damage.standing = positions.into_iter().enumerate().map(looks).collect();
        let suspected = (0u32..)
            .zip(&damage.standing)
            .filter(|(input, (_, looks))| *looks >= DAMAGE_ROUNDS && !self.paused.contains(input));
        let suspects = suspected
            .map(|(input, (offset, _))| Suspect {
                input,
                offset: *offset,
                reason: reason.clone(),
            })
            .collect();
        self.suspects.set(suspects);
        Ok(())
    }

    /// Hands over as soon as there is room. Commands are obeyed first. After a seek the delivery is
    /// stale, and dropped.
    fn deliver(&mut self, delivery: Delivery) -> Result<NextStep, PortError> {
        let mut delivery = Some(delivery);
        while let Some(held) = delivery.take() {
            let command = select_biased! {
                recv(self.commands) -> command => {
                    delivery = Some(held);
                    command
                }
                send(self.deliveries, held) -> sent => return Ok(if sent.is_ok() { NextStep::Poll } else { NextStep::End }),
            };
            match command.map_or(Ok(NextStep::End), |command| self.obey(command))? {
                NextStep::Poll => {}
                other => return Ok(other),
            }
        }
        Ok(NextStep::Poll)
    }
}

/// True for errors that deny this client a permission.
fn is_denial(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SSL
    )
}

/// Appends a copy of the message to `batch`.
///
/// # Errors
/// A record of a partition that is not read, or an offset below the expected one. Both would break
/// the order that the engine relies on.
fn copy(
    message: &BorrowedMessage<'_>,
    index: &InputIndex,
    next: &mut [i64],
    batch: &mut RecordBatch,
) -> Result<(), PortError> {
    let place = || format!("{}/{}", message.topic(), message.partition());
    let Some(&input) = index
        .get(message.topic())
        .and_then(|of_topic| of_topic.get(&message.partition()))
    else {
        return Err(PortError::fatal(
            PortCause::Misuse,
            format!("kafka: a record of {} came, which is not read", place()),
        ));
    };
    let expected = &mut next[input as usize];
    if message.offset() < *expected {
        return Err(PortError::fatal(
            PortCause::Misuse,
            format!(
                "kafka: offset {} of {} came after {}",
                message.offset(),
                place(),
                *expected - 1
            ),
        ));
    }
    *expected = message.offset() + 1;
    let mut headers = Vec::new();
    for_each_header(message, |name, value| headers.push((name, value)));
    batch.push(
        input,
        message.offset(),
        timestamp_ms(message),
        message.key(),
        message.payload(),
        headers,
    );
    Ok(())
}
