//! The epoch machine behind its ports.
//!
//! [`Machine::step`] decides an epoch from rows, a moment and a deployed version, and nothing else.
//! [`Engine::run`] drives it: gather, decode, step, commit, publish.
//!
//! - Synchronous; time, waiting and IO come through [`ports`].
//! - An epoch is sealed, its bytes final, before it is committed. Only an [`Epoch<Committed>`] is
//!   published or counted; [`invariants`] names what holds of every epoch.
//! - A script of epoch records replays to the same outputs.
//! - Explanations on request ([`explain`]), scores of rows that never came ([`what_if`]) and other questions
//!   ([`questions`]) change nothing.

mod clock;
mod data_fit;
mod decode;
mod encoders;
mod epoch;
pub mod explain;
pub mod invariants;
mod machine;
mod metrics;
mod options;
pub mod ports;
pub mod questions;
pub mod read_model;
mod run;
mod script;
mod standby;
mod standings;
pub mod what_if;

pub use decode::{Blocked, Decoded, Decoders, SchemaVerdicts, dead_letter};
pub use encoders::OutputEncoders;
pub use epoch::{
    ClockState, Committed, DecidedRange, EPOCH_RECORD_VERSION, Epoch, EpochRecord, EpochTally,
    EpochViews, HOLDINGS_SECTION, LAYOUT_SECTION, LayoutPartition, MeasuredWork, Notice,
    OutcomeCounts, PartitionInterval, PartitionLayout, RESUMED_SECTION, ReasonCount, RescoringNote,
    ScriptRecord, Sealed, TickClosing, TickProgress, TickStep, VERSION_SECTION, VersionNote,
    WORK_SECTION, WorkBudget, WorkNote,
};
pub use leadpulse_graph::{EachNode, NODE_AREA, PieceError, Pieces, StoredNodes};
pub use leadpulse_records::{
    Alert, Driver, ErasureProof, EventHeaders, HEADER_APPLICATION, HEADER_HEADERS_BYTES,
    HEADER_HEADERS_SHA256, HEADER_KEY_BYTES, HEADER_KEY_SHA256, HEADER_MESSAGE, HEADER_OFFSET,
    HEADER_PARTITION, HEADER_REASON, HEADER_REPLAY_FIRST, HEADER_REPLAY_LETTER, HEADER_REPLAYED,
    HEADER_STAGE, HEADER_TIMESTAMP, HEADER_TOPIC, HEADER_VALUE_BYTES, HEADER_VALUE_SHA256,
    HeldUntil, LetterPlace, PolicyStateRecord, Reason, Score, ShownLetter, Standing, TRACEPARENT,
    TraceContext, WholeLetter, drivers, output_key, replayed_letter, without_key,
    without_original_headers, without_value,
};
pub use machine::{
    AsOfRule, CommitteeOf, Cut, CutTicks, Deployed, ErasedNames, ErasureKey, ErasureKeyError,
    Machine, MachineError, MachineParts, Readings, STATE_FORMAT, StateError, StateReader,
    StateShape, SubjectHash, SwapError, Task, TickState, Unmatched, WorkerState, outcome_in_words,
};
pub use metrics::{ENGINE_METRICS, Metrics};
pub use options::{ClockMode, EngineOptions, EngineOptionsError};
pub use run::audit::{AuditFindings, NoSink, audit};
pub use run::{Engine, Ports, RunError, RunSummary, Skip, Supervisor, Until, retry};
pub use script::{Chain, ScriptLink};
pub use standby::{StandbyOptions, StandbyOptionsError};
