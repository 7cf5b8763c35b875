//! The engine's ports on rdkafka.
//!
//! * [`KafkaSource`] reads the input topics on a thread of its own; [`KafkaSink`] commits sealed
//!   epochs in transactions and settles those in doubt; [`KafkaOutputLog`] reads committed outputs
//!   back and on; [`KafkaHeartbeats`] writes and reads signs of life; [`SchemaPort`] gives writer
//!   schemas.
//! * [`TopicWatch`] warns of topic settings that delete records which a restart needs.
//! * [`check_cluster`] looks whether a cluster meets the needs of a deployment.
//! * [`KeyPast`] reads older records of one key backwards.
//! * [`CommittedFeed`] reads one output for a program with positions of its own.
//! * [`AcknowledgedProducer`] gives each record's fate to the thread that sent it.
//! * [`ensure_topics`], [`Producer`], [`TopicReader`] serve tools and tests.
//! * [`MockBroker`] and [`MockSink`] run without a cluster, at least once: for the demo, never as
//!   proof.
//!
//! The story of a commit is told in `sink.rs`, before the code.
//!
//! Invariants: a librdkafka message never leaves the thread that polled it; no promise rests on the
//! mock cluster; every wait has a limit.

mod access;
mod acknowledged;
mod check;
mod client;
mod client_settings;
mod committed;
mod committer;
mod consumer_thread;
mod feed;
mod heartbeat;
mod key_past;
mod metrics;
mod mock;
mod offsets;
mod options;
mod output_log;
mod output_tails;
mod output_topics;
mod oversize;
mod ownership;
mod patience;
mod polled;
mod producer;
mod reader;
mod record;
mod requests;
mod resend;
mod retained;
mod retention;
mod schemas;
mod security;
mod sink;
mod source;
mod topics;
mod transaction;
mod watch;

pub use acknowledged::{AcknowledgedProducer, PlainRecord, RecordFate};
pub use check::{ClusterReport, check_cluster};
pub use feed::{CommittedFeed, FeedStart};
pub use heartbeat::KafkaHeartbeats;
pub use key_past::{KeyPast, PastBounds, PastPage, PastPlace};
pub use metrics::{KAFKA_METRICS, KafkaMetrics};
pub use mock::{MockBroker, MockSink};
pub use offsets::Isolation;
pub use options::{KafkaOptions, OptionsError, is_secret_setting};
pub use output_log::KafkaOutputLog;
pub use output_topics::OutputTopics;
pub use producer::Producer;
pub use reader::{OwnedRecord, TopicReader, read_all};
pub use resend::{AddressedRecord, Resender};
pub use retained::OutputRetention;
pub use retention::{Finding, Holdings, TopicWatch, describe};
pub use schemas::SchemaPort;
pub use security::{SaslMechanism, SecurityOptions, SecurityProtocol};
pub use sink::KafkaSink;
pub use source::{InputTopic, KafkaSource};
pub use topics::{TopicSpec, ensure_topics, output_topics};
pub use transaction::{CommitPoint, Failpoint};
