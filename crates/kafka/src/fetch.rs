//! The consumer's thread: polls librdkafka, copies records into batches, hands them over.
//!
//! Partitions are assigned by hand: positions belong to the transactions of the epochs, so no rebalance may move them. Commands come through
//! a channel and are obeyed between two polls, also while a batch waits for room. Only a seek makes that batch stale.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, select_biased};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use rustc_hash::{FxHashMap, FxHashSet};

use leadpulse_engine::ports::{NextOffset, PortCause, PortError, RecordBatch};

use crate::client::{Context, is_permanent};
use crate::metrics::KafkaMetrics;
use crate::offsets::{Place, is_damage, place_list};
use crate::record::{for_each_header, timestamp_ms};
use crate::watch::{Suspect, Suspects};

/// How long one poll of an idle consumer waits: the delay of a command at most.
const IDLE_POLL: Duration = Duration::from_millis(20);
/// Records in a batch at most.
const BATCH_RECORDS: usize = 4096;
/// Limit of a seek within librdkafka; it only passes messages between threads.
const SEEK_LIMIT: Duration = Duration::from_secs(5);
/// Between two looks at which partition stands still while batches cannot be read. librdkafka fetches a damaged one again twice a second.
const DAMAGE_ROUND: Duration = Duration::from_millis(300);
/// Looks in a row that found a partition at the same place before it is suspected.
const DAMAGE_ROUNDS: u32 = 3;
/// Errors of one code are logged at most this often.
const LOG_PAUSE: Duration = Duration::from_secs(10);

/// From the engine to the thread.
pub(crate) enum Command {
    /// Read these partitions from here; all of them, none paused.
    Seek {
        generation: u64,
        places: Arc<[Place]>,
        positions: Vec<NextOffset>,
    },
    /// Fetch no more of these input partitions.
    Pause(Vec<u32>),
    /// Fetch them again, where they were left.
    Resume(Vec<u32>),
    /// Go on with one input partition at a later offset.
    SkipTo(u32, NextOffset),
    /// End.
    Stop,
}

/// From the thread to the engine.
pub(crate) enum Delivery {
    /// Records, in offset order by partition.
    Batch { generation: u64, batch: RecordBatch },
    /// Nothing is left to read now, and the reader is past these offsets: markers and aborted records deliver nothing.
    Passed {
        generation: u64,
        read_to: Vec<NextOffset>,
    },
    /// Reading stopped for good.
    Failed { generation: u64, error: PortError },
}

/// The way on after a step of the loop.
enum Next {
    /// Go on polling.
    Poll,
    /// Drop the records fetched so far, and read from here.
    Seek(Seek),
    /// The engine is gone.
    End,
}

struct Seek {
    generation: u64,
    places: Arc<[Place]>,
    positions: Vec<NextOffset>,
}

/// Topic → partition number → index of the input partition. A topic's partitions may have gaps and any order, and stand apart.
type Index = FxHashMap<String, FxHashMap<i32, u32>>;

/// The thread's state.
pub(crate) struct Fetcher {
    consumer: BaseConsumer<Context>,
    commands: Receiver<Command>,
    deliveries: Sender<Delivery>,
    recycling: Receiver<RecordBatch>,
    batch_bytes: usize,
    metrics: Arc<KafkaMetrics>,
    suspects: Arc<Suspects>,
    places: Arc<[Place]>,
    index: Index,
    generation: u64,
    /// The lowest offset that may come next, by input partition.
    next: Vec<i64>,
    /// Offsets that the engine was last told to be passed.
    passed: Vec<NextOffset>,
    paused: FxHashSet<u32>,
    /// The engine does not know yet that a place was skipped.
    skipped: bool,
    damage: Damage,
    /// By error code.
    logged: FxHashMap<i32, Logged>,
    /// A record came since the thread started: permissions and names were right then.
    has_read: bool,
}

/// Partitions that stand still while librdkafka reports batches that it cannot read: its errors do not name the partition.
#[derive(Default)]
struct Damage {
    /// The error since the last look.
    reason: Option<String>,
    looked: Option<Instant>,
    /// Positions at the last look, and how many looks found them.
    standing: Vec<(NextOffset, u32)>,
}

#[derive(Default)]
struct Logged {
    at: Option<Instant>,
    suppressed: u64,
}

impl Fetcher {
    pub(crate) fn new(
        consumer: BaseConsumer<Context>,
        commands: Receiver<Command>,
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
            index: Index::default(),
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

    /// Until the engine says stop or is gone. Then the consumer closes, on this thread.
    pub(crate) fn run(mut self) {
        let mut next = self.await_seek();
        while let Next::Seek(seek) = next {
            let ended = match self.assign(seek) {
                Ok(()) => self.fetch(),
                Err(error) => Err(error),
            };
            next = match ended {
                Ok(next) => next,
                Err(error) => match self.deliver(Delivery::Failed {
                    generation: self.generation,
                    error,
                }) {
                    Ok(Next::Poll) | Err(_) => self.await_seek(),
                    Ok(other) => other,
                },
            };
        }
        if let Err(error) = self.consumer.unassign() {
            tracing::debug!(%error, "unassigning before the consumer closes");
        }
    }

    /// Reading has not begun, or has failed: pauses and skips mean nothing until the next seek.
    fn await_seek(&self) -> Next {
        loop {
            match self.commands.recv() {
                Ok(Command::Seek {
                    generation,
                    places,
                    positions,
                }) => {
                    return Next::Seek(Seek {
                        generation,
                        places,
                        positions,
                    });
                }
                Ok(Command::Pause(_) | Command::Resume(_) | Command::SkipTo(..)) => {}
                Ok(Command::Stop) | Err(_) => return Next::End,
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
        let mut index = Index::default();
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
        // First nothing, then all: librdkafka drops what it had fetched for the old assignment.
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
    fn fetch(&mut self) -> Result<Next, PortError> {
        loop {
            loop {
                let next = match self.commands.try_recv() {
                    Ok(command) => self.obey(command)?,
                    Err(TryRecvError::Disconnected) => Next::End,
                    Err(TryRecvError::Empty) => break,
                };
                if !matches!(next, Next::Poll) {
                    return Ok(next);
                }
            }
            // Behind the batches that the engine has not taken yet.
            if std::mem::take(&mut self.skipped) {
                self.passed = self.position()?;
                let skipped = Delivery::Passed {
                    generation: self.generation,
                    read_to: self.passed.clone(),
                };
                match self.deliver(skipped)? {
                    Next::Poll => {}
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
                Next::Poll => {}
                other => return Ok(other),
            }
        }
    }

    /// Does what a command asks for, if that does not end the generation.
    fn obey(&mut self, command: Command) -> Result<Next, PortError> {
        match command {
            Command::Seek {
                generation,
                places,
                positions,
            } => {
                return Ok(Next::Seek(Seek {
                    generation,
                    places,
                    positions,
                }));
            }
            Command::Stop => return Ok(Next::End),
            Command::Pause(inputs) => {
                // librdkafka throws away the records of theirs that it has fetched, and fetches them again after the resume.
                let failed = |error| {
                    PortError::fatal(
                        PortCause::Local,
                        format!("kafka: pausing input partitions: {error}"),
                    )
                };
                self.consumer.pause(&self.list(&inputs)).map_err(failed)?;
                self.paused.extend(inputs);
            }
            Command::Resume(inputs) => {
                let failed = |error| {
                    PortError::fatal(
                        PortCause::Local,
                        format!("kafka: resuming input partitions: {error}"),
                    )
                };
                self.consumer.resume(&self.list(&inputs)).map_err(failed)?;
                self.paused.retain(|input| !inputs.contains(input));
            }
            Command::SkipTo(input, offset) => self.skip(input, offset)?,
        }
        Ok(Next::Poll)
    }

    fn skip(&mut self, input: u32, offset: NextOffset) -> Result<(), PortError> {
        let (topic, partition) = &self.places[input as usize];
        if offset.0 <= self.next[input as usize] {
            return Ok(()); // reading has passed it by itself
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
        let of = |((topic, partition), next): (&Place, &i64)| match positions
            .find_partition(topic, *partition)
            .map(|element| element.offset())
        {
            Some(Offset::Offset(offset)) => NextOffset(offset.max(*next)),
            _ => NextOffset(*next),
        };
        Ok(self.places.iter().zip(&self.next).map(of).collect())
    }

    /// Polls until librdkafka has no more, or the batch is full. `None` if nothing came within [`IDLE_POLL`].
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
                    // Errors that come as fast as they are taken must not keep records and commands waiting.
                    if batch.is_some() {
                        return Ok(batch);
                    }
                    wait = Duration::ZERO;
                }
                None => return Ok(batch),
            }
        }
    }

    /// librdkafka reconnects, refreshes and retries by itself; only what it cannot cure is an error here. Every error is counted and logged.
    fn judge(&mut self, error: &KafkaError) -> Result<(), PortError> {
        let code = error
            .rdkafka_error_code()
            .unwrap_or(RDKafkaErrorCode::Unknown);
        self.metrics
            .count_client_error("source", &format!("{code:?}"));
        self.log(code, error);
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
        // Permissions that were there come back: somebody is changing them. At the start they are a fault of the configuration.
        if self.has_read && is_denial(code) {
            return Ok(());
        }
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_)) || is_permanent(code);
        if fatal {
            Err(PortError::fatal(
                PortCause::Refused,
                format!("kafka: reading the input topics: {error}"),
            ))
        } else {
            Ok(())
        }
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

    /// Suspects the partitions that stay where they are while batches cannot be read. [`crate::watch`] finds out which of them it is.
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

    /// Hands over as soon as there is room. A command is obeyed first; after a seek the delivery is stale.
    fn deliver(&mut self, delivery: Delivery) -> Result<Next, PortError> {
        let mut delivery = Some(delivery);
        while let Some(held) = delivery.take() {
            let command = select_biased! {
                recv(self.commands) -> command => {
                    delivery = Some(held);
                    command
                }
                send(self.deliveries, held) -> sent => return Ok(if sent.is_ok() { Next::Poll } else { Next::End }),
            };
            match command.map_or(Ok(Next::End), |command| self.obey(command))? {
                Next::Poll => {}
                other => return Ok(other),
            }
        }
        Ok(Next::Poll)
    }
}

/// Errors that say that this client may not do what it did before.
fn is_denial(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::Authentication
    )
}

/// Appends a copy of the message.
fn copy(
    message: &BorrowedMessage<'_>,
    index: &Index,
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
