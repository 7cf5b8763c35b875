//! The consumer's thread: polls librdkafka, copies records into batches, hands them over.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, select_biased};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use rustc_hash::FxHashMap;

use leadpulse_engine::ports::{NextOffset, PortError, RecordBatch};

use crate::client::{Context, is_permanent};
use crate::metrics::KafkaMetrics;
use crate::offsets::Place;
use crate::record::{for_each_header, timestamp_ms};

/// How long one poll of an idle consumer waits: the delay of a seek at most.
const IDLE_POLL: Duration = Duration::from_millis(20);
/// Records in a batch at most.
const BATCH_RECORDS: usize = 4096;

/// From the engine to the thread.
pub(crate) enum Command {
    /// Read from here.
    Seek { generation: u64, positions: Vec<NextOffset> },
    /// End.
    Stop,
}

/// From the thread to the engine.
pub(crate) enum Delivery {
    /// Records, in offset order by partition.
    Batch { generation: u64, batch: RecordBatch },
    /// Nothing is left to read now, and the reader is past these offsets: markers and aborted records deliver nothing.
    Passed { generation: u64, read_to: Vec<NextOffset> },
    /// Reading stopped for good.
    Failed { generation: u64, error: PortError },
}

/// Why a step of the loop ended.
enum Next {
    /// Go on polling.
    Poll,
    /// Do this first.
    Obey(Command),
    /// The engine is gone.
    End,
}

/// The thread's state.
pub(crate) struct Fetcher {
    consumer: BaseConsumer<Context>,
    places: Vec<Place>,
    /// Topic → partition number → index of the input partition.
    index: FxHashMap<String, Vec<u32>>,
    commands: Receiver<Command>,
    deliveries: Sender<Delivery>,
    recycling: Receiver<RecordBatch>,
    batch_bytes: usize,
    metrics: Arc<KafkaMetrics>,
    generation: u64,
    /// The lowest offset that may come next, by input partition.
    next: Vec<i64>,
    /// What the engine was last told to be passed.
    passed: Vec<NextOffset>,
}

impl Fetcher {
    pub(crate) fn new(
        consumer: BaseConsumer<Context>,
        places: Vec<Place>,
        commands: Receiver<Command>,
        deliveries: Sender<Delivery>,
        recycling: Receiver<RecordBatch>,
        batch_bytes: usize,
        metrics: Arc<KafkaMetrics>,
    ) -> Self {
        let mut index: FxHashMap<String, Vec<u32>> = FxHashMap::default();
        for (input, (topic, partition)) in (0u32..).zip(&places) {
            let of_topic = index.entry(topic.clone()).or_default();
            debug_assert_eq!(of_topic.len(), *partition as usize, "a topic's partitions are listed from 0, without gaps");
            of_topic.push(input);
        }
        Self {
            consumer,
            places,
            index,
            commands,
            deliveries,
            recycling,
            batch_bytes,
            metrics,
            generation: 0,
            next: Vec::new(),
            passed: Vec::new(),
        }
    }

    /// Until the engine says stop or is gone. Then the consumer closes, on this thread.
    pub(crate) fn run(mut self) {
        let mut command = self.commands.recv().ok();
        while let Some(Command::Seek { generation, positions }) = command {
            self.generation = generation;
            let failed = match self.assign(&positions) {
                Ok(()) => self.fetch(),
                Err(error) => Err(error),
            };
            command = match failed {
                Ok(Next::Obey(command)) => Some(command),
                Ok(Next::Poll | Next::End) => None,
                Err(error) => match self.deliver(Delivery::Failed { generation, error }) {
                    Next::Poll => self.commands.recv().ok(),
                    Next::Obey(command) => Some(command),
                    Next::End => None,
                },
            };
        }
        if let Err(error) = self.consumer.unassign() {
            tracing::debug!(%error, "unassigning before the consumer closes");
        }
    }

    fn assign(&mut self, positions: &[NextOffset]) -> Result<(), PortError> {
        let failed = |error| PortError::Fatal(format!("kafka: assigning the input partitions: {error}"));
        let mut assignment = TopicPartitionList::with_capacity(self.places.len());
        for ((topic, partition), position) in self.places.iter().zip(positions) {
            assignment.add_partition_offset(topic, *partition, Offset::Offset(position.0)).map_err(failed)?;
        }
        // First nothing, then all: librdkafka drops what it had fetched for the old assignment.
        self.consumer.unassign().map_err(failed)?;
        self.consumer.assign(&assignment).map_err(failed)?;
        self.next = positions.iter().map(|position| position.0).collect();
        self.passed = positions.to_vec();
        Ok(())
    }

    /// Polls and hands over until a command comes or reading fails.
    fn fetch(&mut self) -> Result<Next, PortError> {
        loop {
            match self.commands.try_recv() {
                Ok(command) => return Ok(Next::Obey(command)),
                Err(TryRecvError::Disconnected) => return Ok(Next::End),
                Err(TryRecvError::Empty) => {}
            }
            let delivery = match self.fill_batch()? {
                Some(batch) => Delivery::Batch { generation: self.generation, batch },
                None => {
                    let read_to = self.position()?;
                    if read_to == self.passed {
                        continue;
                    }
                    self.passed.clone_from(&read_to);
                    Delivery::Passed { generation: self.generation, read_to }
                }
            };
            match self.deliver(delivery) {
                Next::Poll => {}
                other => return Ok(other),
            }
        }
    }

    /// One past the last offset that librdkafka gave out or passed over, by input partition.
    fn position(&self) -> Result<Vec<NextOffset>, PortError> {
        let positions = self.consumer.position().map_err(|error| PortError::Fatal(format!("kafka: asking for the position: {error}")))?;
        let of = |((topic, partition), next): (&Place, &i64)| match positions
            .find_partition(topic, *partition)
            .map(|element| element.offset())
        {
            Some(Offset::Offset(offset)) => NextOffset(offset.max(*next)),
            _ => NextOffset(*next),
        };
        Ok(self.places.iter().zip(&self.next).map(of).collect())
    }

    /// What librdkafka has, until it has no more or the batch is full. `None` if nothing came within [`IDLE_POLL`].
    fn fill_batch(&mut self) -> Result<Option<RecordBatch>, PortError> {
        let mut wait = IDLE_POLL;
        let mut batch: Option<RecordBatch> = None;
        loop {
            match self.consumer.poll(wait) {
                Some(Ok(message)) => {
                    let into = batch.get_or_insert_with(|| self.recycling.try_recv().unwrap_or_default());
                    copy(&message, &self.index, &mut self.next, into)?;
                    if into.len() >= BATCH_RECORDS || into.bytes() >= self.batch_bytes {
                        return Ok(batch);
                    }
                    wait = Duration::ZERO;
                }
                Some(Err(error)) => self.judge(&error)?,
                None => return Ok(batch),
            }
        }
    }

    /// librdkafka reconnects, refreshes and retries by itself; only what it cannot cure is an error here.
    fn judge(&self, error: &KafkaError) -> Result<(), PortError> {
        let code = error.rdkafka_error_code();
        if matches!(code, Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::LogTruncation)) {
            self.metrics.count_out_of_range();
            return Err(PortError::Fatal(format!(
                "kafka: the next offset to read is no longer in the log ({error}): records were deleted by retention, or a topic was created \
                 again, while the engine was reading. Restart to see which partition; raise the retention"
            )));
        }
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_)) || code.is_some_and(is_permanent);
        if fatal { Err(PortError::Fatal(format!("kafka: reading the input topics: {error}"))) } else { Ok(()) }
    }

    /// Hands over as soon as there is room, unless a command comes first: then the delivery is stale.
    fn deliver(&self, delivery: Delivery) -> Next {
        select_biased! {
            recv(self.commands) -> command => command.map_or(Next::End, Next::Obey),
            send(self.deliveries, delivery) -> sent => if sent.is_ok() { Next::Poll } else { Next::End },
        }
    }
}

/// Appends a copy of the message.
fn copy(
    message: &BorrowedMessage<'_>,
    index: &FxHashMap<String, Vec<u32>>,
    next: &mut [i64],
    batch: &mut RecordBatch,
) -> Result<(), PortError> {
    let place = || format!("{}/{}", message.topic(), message.partition());
    let of_topic = index.get(message.topic());
    let input = of_topic.and_then(|of_topic| of_topic.get(usize::try_from(message.partition()).ok()?));
    let Some(&input) = input else {
        return Err(PortError::Fatal(format!("kafka: a record of {} came, which is not read", place())));
    };
    let expected = &mut next[input as usize];
    if message.offset() < *expected {
        return Err(PortError::Fatal(format!("kafka: offset {} of {} came after {}", message.offset(), place(), *expected - 1)));
    }
    *expected = message.offset() + 1;
    let mut headers = Vec::new();
    for_each_header(message, |name, value| headers.push((name, value)));
    batch.push(input, message.offset(), timestamp_ms(message), message.key(), message.payload(), headers);
    Ok(())
}
