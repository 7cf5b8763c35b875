//! The epoch machine behind its ports.
//!
//! [`Machine::step`] decides an epoch from rows, a moment and a bundle, and nothing else; [`Engine::run`] drives it: gather, decode,
//! step, commit, publish. Invariants: synchronous; time and IO come through [`ports`]; an epoch is sealed (its bytes final) before it
//! is committed; the read model holds committed state only; a script of epoch records replays to the same outputs; explanations on
//! request ([`explain`]) change nothing.

mod clock;
mod decode;
mod encoders;
mod epoch;
pub mod explain;
mod machine;
mod metrics;
mod options;
pub mod ports;
pub mod read_model;
mod run;
mod standings;

pub use decode::{Blocked, Decoded, Decoders, Verdicts, dead_letter};
pub use encoders::OutputEncoders;
pub use epoch::{
    Chain, ClockState, DecidedRange, EPOCH_RECORD_VERSION, EpochRecord, LAYOUT_SECTION, Layout,
    LayoutPartition, Link, PartitionInterval, ReasonCount, ScriptRecord,
};
pub use leadpulse_records::{
    Alert, Driver, HEADER_APPLICATION, HEADER_HEADERS_BYTES, HEADER_HEADERS_SHA256,
    HEADER_KEY_BYTES, HEADER_KEY_SHA256, HEADER_MESSAGE, HEADER_OFFSET, HEADER_PARTITION,
    HEADER_REASON, HEADER_STAGE, HEADER_TIMESTAMP, HEADER_TOPIC, HEADER_VALUE_BYTES,
    HEADER_VALUE_SHA256, PolicyStateRecord, Reason, Score, Standing, drivers, output_key,
    without_key, without_original_headers, without_value,
};
pub use machine::{
    Cut, Machine, MachineError, MachineParts, Moment, Readings, Stepped, Tally, Task, Unmatched,
};
pub use metrics::Metrics;
pub use options::{ClockMode, EngineOptions, EngineOptionsError};
pub use run::audit::{AuditFindings, NoSink, audit};
pub use run::{Engine, Ports, RunError, Skip, Summary, Supervisor, Until, retry};
