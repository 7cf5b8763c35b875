//! The ports of a sink.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value as Json};

use leadpulse_engine::ports::PortError;
use leadpulse_registry::{AccessToken, TokenError};

use crate::request::{HttpAnswer, HttpRequest};

/// A committed record of a topic, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Partition number.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// Kafka timestamp, milliseconds.
    pub timestamp_ms: i64,
    /// Key bytes.
    pub key: Option<Vec<u8>>,
    /// Value bytes; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// The topic of a sink, read by a group of the sink's own.
pub trait Inbox: Send {
    /// The next records, of each partition in order of offsets: at most `most_records`, and no more
    /// once they have `most_bytes`. Returns early with what is there; empty after `wait`.
    ///
    /// # Errors
    /// Retriable while brokers do not answer. Fatal for a position that the log no longer holds.
    fn take(
        &mut self,
        most_records: usize,
        most_bytes: usize,
        wait: Duration,
    ) -> Result<Vec<Arrived>, PortError>;

    /// Commits next offsets by partition, durably.
    ///
    /// # Errors
    /// Retriable while brokers do not answer: a later commit covers this one.
    fn commit(&mut self, next: &BTreeMap<i32, i64>) -> Result<(), PortError>;
}

/// A record that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadFailure {
    /// The bytes are no record of the topic's format.
    Unreadable(String),
    /// The writer's schema cannot be had now.
    Later(String),
}

/// Values of a topic as JSON.
pub trait RecordReader: Send {
    /// The fields of a record.
    ///
    /// # Errors
    /// See [`ReadFailure`].
    fn read(&self, value: &[u8]) -> Result<Map<String, Json>, ReadFailure>;
}

/// A record that a sink can never take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkLetter {
    /// Name of the sink, such as `webhook.ops`.
    pub sink: String,
    /// The answer, or the fault of the bytes.
    pub reason: String,
    /// The record as it came.
    pub record: Arrived,
}

/// Names of the headers of a sink's dead letter: the sink, the reason, and the place of the record.
pub const LETTER_HEADERS: [&str; 5] = [
    "x-deliver-sink",
    "x-deliver-reason",
    "x-deliver-topic",
    "x-deliver-partition",
    "x-deliver-offset",
];

/// The dead-letter topic of sinks.
pub trait Letters: Send {
    /// Writes a letter; returns once it is acknowledged.
    ///
    /// # Errors
    /// The letter may or may not be written.
    fn write(&mut self, letter: &SinkLetter) -> Result<(), PortError>;
}

/// A request without a whole answer, in words. The other side may have acted on it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TransportError(pub String);

/// The network.
pub trait Transport: Send {
    /// Sends a request and waits for its answer, within a limit.
    ///
    /// # Errors
    /// No connection, no answer within the limit, or half an answer.
    fn send(&mut self, request: &HttpRequest) -> Result<HttpAnswer, TransportError>;
}

/// An endpoint of access tokens.
pub trait Tokens: Send {
    /// Fetches a token.
    ///
    /// # Errors
    /// A refusal, or no answer.
    fn fetch(&mut self) -> Result<AccessToken, TokenError>;
}
