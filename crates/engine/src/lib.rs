//! The epoch machine, its ports and the committed read model.
//!
//! [`Machine::step`] decides an epoch from rows, a moment and a bundle, and nothing else; [`Engine::run`] drives it: gather, decode,
//! step, commit, publish. Invariants: synchronous; time and IO come through [`ports`]; an epoch is sealed (its bytes final) before it
//! is committed; the read model holds committed state only; a script of epoch records replays to the same outputs; explanations on
//! request ([`explain`]) change nothing.

mod alerts;
mod dead_letter;
mod decode;
mod epoch;
pub mod explain;
mod explained;
mod machine;
mod metrics;
mod options;
mod output;
mod people;
pub mod ports;
pub mod read_model;
mod records;
mod run;
mod standings;

pub use dead_letter::{
    HEADER_APPLICATION, HEADER_HEADERS_BYTES, HEADER_HEADERS_SHA256, HEADER_KEY_BYTES, HEADER_KEY_SHA256, HEADER_MESSAGE, HEADER_OFFSET,
    HEADER_PARTITION, HEADER_REASON, HEADER_STAGE, HEADER_TIMESTAMP, HEADER_TOPIC, HEADER_VALUE_BYTES, HEADER_VALUE_SHA256, Reason,
    dead_letter, without_key, without_original_headers, without_value,
};
pub use decode::{Decoded, Decoders};
pub use epoch::{ClockState, EpochRecord, PartitionInterval, ReasonCount, check_script};
pub use explained::drivers;
pub use machine::{Cut, Machine, MachineError, MachineParts, Moment, Stepped, Tally, Task, output_key};
pub use metrics::Metrics;
pub use options::{ClockMode, EngineOptions, EngineOptionsError};
pub use output::{AlertRecord, Driver, OutputEncoders, ScoreRecord};
pub use run::{Engine, Ports, RunError, Summary, Until};
pub use standings::Standing;
