//! One attempt to make an epoch visible in a transaction, and what is known afterwards.
//!
//! librdkafka speaks the first version of the transaction protocol: a delayed commit request may still take effect after the client gave
//! up on it. So an attempt has four ends, and "it failed" is none of them: see [`Outcome`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use leadpulse_engine::ports::{OutputRecord, PortError};

use crate::client::{Closing, Context, is_fenced, is_permanent, port_error, producer};
use crate::metrics::KafkaMetrics;
use crate::options::{KafkaOptions, OutputTopics, Role};

/// One wait for delivery reports. `BaseProducer::flush` would wait in steps of 100 ms.
const POLL_STEP: Duration = Duration::from_millis(1);
/// Between two tries to reach brokers that do not answer.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// What is known after an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of it is visible.
    Committed,
    /// Nothing of it is or will be visible; the producer can go on. Why.
    Aborted(String),
    /// Nobody knows: a new producer has to settle it. Why.
    Indefinite(String),
    /// Another producer took over the transactional id. Nothing of this attempt is visible unless its commit had already been accepted.
    Fenced(String),
}

/// Where an attempt can be interrupted by a test of what happens after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitPoint {
    /// The transaction has begun, nothing is sent.
    BeforeRecords,
    /// All records are acknowledged.
    BeforeOffsets,
    /// Positions are in the transaction.
    BeforeCommit,
    /// The commit was acknowledged.
    AfterCommit,
}

/// Called at each [`CommitPoint`] with the epoch's number; `true` makes the attempt end there as if its outcome were unknown.
pub type Failpoint = Box<dyn FnMut(CommitPoint, u64) -> bool + Send>;

/// Told between steps that a long wait goes on. The default tells nobody.
#[derive(Default)]
pub(crate) struct Heartbeat(Option<Box<dyn Fn() + Send>>);

impl Heartbeat {
    pub(crate) fn new(beat: impl Fn() + Send + 'static) -> Self {
        Self(Some(Box::new(beat)))
    }
    pub(crate) fn beat(&self) {
        self.0.iter().for_each(|beat| beat());
    }
}

/// A producer that has the transactional id.
pub(crate) struct TransactionalProducer {
    producer: Closing<BaseProducer<Context>>,
    topics: OutputTopics,
    step_limit: Duration,
}

impl TransactionalProducer {
    /// Takes the transactional id over: earlier owners are fenced, their open transaction is aborted, their prepared one is completed.
    /// Tries again while brokers do not answer, until `deadline`.
    pub(crate) fn take_over(
        options: &KafkaOptions,
        metrics: &Arc<KafkaMetrics>,
        deadline: Instant,
        alive: &Heartbeat,
    ) -> Result<Self, PortError> {
        let producer = Closing::new(producer(options, Role::Sink, "sink", metrics)?, "sink", options.close_timeout());
        let doing = format!("taking over the transactional id '{}'", options.transactional_id);
        loop {
            alive.beat();
            let Err(error) = producer.init_transactions(options.commit_timeout()) else { break };
            let retriable = matches!(&error, KafkaError::Transaction(error) if error.is_retriable() && !error.is_fatal());
            match port_error(&doing, &error) {
                PortError::Retriable(message) if retriable && Instant::now() < deadline => {
                    tracing::warn!("{message}; trying again");
                    std::thread::sleep(RETRY_PAUSE);
                }
                error => return Err(error),
            }
        }
        Ok(Self { producer, topics: options.outputs.clone(), step_limit: options.commit_timeout() })
    }

    /// Begin, records, positions, commit.
    pub(crate) fn attempt(
        &self,
        epoch: u64,
        records: &[OutputRecord],
        offsets: &TopicPartitionList,
        group: &ConsumerGroupMetadata,
        failpoint: &mut Option<Failpoint>,
        alive: &Heartbeat,
    ) -> Result<Outcome, PortError> {
        let mut interrupted = |point| failpoint.as_mut().is_some_and(|failpoint| failpoint(point, epoch));
        let injected = |point: CommitPoint| Ok(Outcome::Indefinite(format!("interrupted at {point:?} by a failpoint")));
        if let Err(error) = self.producer.begin_transaction() {
            return Ok(self.end_after("beginning a transaction", &error, alive));
        }
        if interrupted(CommitPoint::BeforeRecords) {
            return injected(CommitPoint::BeforeRecords);
        }
        match send_all(&self.producer, &self.topics, records, self.step_limit) {
            Ok(()) => {}
            Err(SendError::Impossible(error)) => return Err(error),
            Err(SendError::Failed(error)) => {
                return Ok(self.fenced().unwrap_or_else(|| self.abort(format!("sending the records: {error}"), alive)));
            }
            Err(SendError::TimedOut(what)) => return Ok(self.fenced().unwrap_or(Outcome::Indefinite(what))),
        }
        alive.beat();
        if interrupted(CommitPoint::BeforeOffsets) {
            return injected(CommitPoint::BeforeOffsets);
        }
        if let Err(error) = self.producer.send_offsets_to_transaction(offsets, group, self.step_limit) {
            return Ok(self.end_after("adding the positions to the transaction", &error, alive));
        }
        alive.beat();
        if interrupted(CommitPoint::BeforeCommit) {
            return injected(CommitPoint::BeforeCommit);
        }
        // From here on, whatever goes wrong, the commit may have been accepted.
        match self.producer.commit_transaction(self.step_limit) {
            Ok(()) if interrupted(CommitPoint::AfterCommit) => injected(CommitPoint::AfterCommit),
            Ok(()) => Ok(Outcome::Committed),
            Err(error) => Ok(self.fenced().unwrap_or_else(|| Outcome::Indefinite(format!("committing: {error}")))),
        }
    }

    /// After an error before the commit was requested: abort if librdkafka says that this suffices.
    fn end_after(&self, doing: &str, error: &KafkaError, alive: &Heartbeat) -> Outcome {
        let message = format!("{doing}: {error}");
        match error {
            _ if self.fenced().is_some() => Outcome::Fenced(message),
            KafkaError::Transaction(error) if error.txn_requires_abort() => self.abort(message, alive),
            _ => Outcome::Indefinite(message),
        }
    }

    /// Whether librdkafka was told that another producer has the transactional id.
    fn fenced(&self) -> Option<Outcome> {
        let (code, why) = self.producer.client().fatal_error()?;
        is_fenced(code).then_some(Outcome::Fenced(why))
    }

    fn abort(&self, why: String, alive: &Heartbeat) -> Outcome {
        alive.beat();
        // Delivery reports that nobody fetched make an abort fail after its time limit.
        if let Err(waited) = drain(&self.producer, Instant::now() + self.step_limit) {
            return Outcome::Indefinite(format!("{why}; then, before aborting: {waited}"));
        }
        self.producer.context().take_failed_delivery();
        alive.beat();
        match self.producer.abort_transaction(self.step_limit) {
            Ok(()) => Outcome::Aborted(why),
            Err(error) => self.fenced().unwrap_or_else(|| Outcome::Indefinite(format!("{why}; aborting: {error}"))),
        }
    }
}

/// Why records could not be sent.
pub(crate) enum SendError {
    /// They never will be: the configuration does not allow it.
    Impossible(PortError),
    /// The broker or librdkafka refused one.
    Failed(KafkaError),
    /// Not all were acknowledged in time.
    TimedOut(String),
}

/// Sends the records in order and waits until every one is acknowledged, at most `limit`.
pub(crate) fn send_all(
    producer: &BaseProducer<Context>,
    topics: &OutputTopics,
    records: &[OutputRecord],
    limit: Duration,
) -> Result<(), SendError> {
    let deadline = Instant::now() + limit;
    for record in records {
        let topic = topics.name(record.output);
        let mut message = to_message(topic, record);
        // librdkafka's queue is bounded: when it is full, delivery reports make room.
        while let Err((error, refused)) = producer.send(message) {
            match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) if Instant::now() < deadline => producer.poll(POLL_STEP),
                Some(RDKafkaErrorCode::QueueFull) => {
                    return Err(SendError::TimedOut(format!("no room in the producer's queue within {limit:?}")));
                }
                Some(code) if is_permanent(code) && code != RDKafkaErrorCode::Fatal => {
                    return Err(SendError::Impossible(impossible(topic, record, &error)));
                }
                _ => return Err(SendError::Failed(error)),
            }
            message = refused;
        }
    }
    drain(producer, deadline).map_err(SendError::TimedOut)?;
    match producer.context().take_failed_delivery() {
        None => Ok(()),
        Some(error) => Err(SendError::Failed(error)),
    }
}

fn impossible(topic: &str, record: &OutputRecord, error: &KafkaError) -> PortError {
    let bytes = record.value.as_ref().map_or(0, Vec::len);
    PortError::Fatal(format!(
        "kafka: a record of {bytes} bytes cannot be produced to '{topic}': {error}. If it is too large, raise kafka.client.\"producer.message.max.bytes\" \
         and the topic's max.message.bytes; else see the topic's name and permissions"
    ))
}

/// Fetches delivery reports until nothing is in flight.
fn drain(producer: &BaseProducer<Context>, deadline: Instant) -> Result<(), String> {
    while producer.in_flight_count() > 0 {
        producer.poll(POLL_STEP);
        if Instant::now() >= deadline {
            return Err(format!("{} records are not acknowledged in time", producer.in_flight_count()));
        }
    }
    Ok(())
}

fn to_message<'a>(topic: &'a str, record: &'a OutputRecord) -> BaseRecord<'a, [u8], [u8]> {
    // Kafka has no timestamps before 1970, and librdkafka takes 0 for "now", which would differ when the record is sent again.
    let mut message = BaseRecord::to(topic).timestamp(record.timestamp_ms.max(1));
    if let Some(key) = &record.key {
        message = message.key(key.as_slice());
    }
    if let Some(value) = &record.value {
        message = message.payload(value.as_slice());
    }
    if !record.headers.is_empty() {
        let headers = OwnedHeaders::new_with_capacity(record.headers.len());
        let insert =
            |headers: OwnedHeaders, (name, value): &(String, Option<Vec<u8>>)| headers.insert(Header { key: name, value: value.as_ref() });
        message = message.headers(record.headers.iter().fold(headers, insert));
    }
    message
}
