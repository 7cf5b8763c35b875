//! The engine's ports on rdkafka; dead letters, schema registry. The only crate that links librdkafka.
//!
//! * [`KafkaSource`] reads the input topics on a thread of its own; [`KafkaSink`] commits sealed epochs in transactions and settles those in
//!   doubt; [`KafkaEpochLog`] reads the committed epochs back; [`FolderStore`] and [`HttpRegistry`] give writer schemas.
//! * [`ensure_topics`], [`Producer`], [`Reader`] serve tools and tests.
//! * [`MockBroker`] and [`MockSink`] run without a cluster, at least once: for the demo, never as proof.
//!
//! Invariants: a librdkafka message never leaves the thread that polled it; no promise rests on the mock cluster; every wait has a limit.

mod client;
mod committer;
mod fetch;
mod http_registry;
mod metrics;
mod mock;
mod offsets;
mod options;
mod oversize;
mod ownership;
mod patience;
mod polled;
mod position;
mod producer;
mod reader;
mod record;
mod requests;
mod schemas;
mod sink;
mod source;
mod topics;
mod transaction;

pub use http_registry::{HttpRegistry, RegistryOptions};
pub use metrics::KafkaMetrics;
pub use mock::{MockBroker, MockSink};
pub use offsets::Isolation;
pub use options::{KafkaOptions, OptionsError, OutputTopics};
pub use producer::Producer;
pub use reader::{KafkaEpochLog, OwnedRecord, Reader, read_all};
pub use schemas::FolderStore;
pub use sink::KafkaSink;
pub use source::{InputTopic, KafkaSource};
pub use topics::{TopicSpec, ensure_topics, output_topics};
pub use transaction::{CommitPoint, Failpoint};
