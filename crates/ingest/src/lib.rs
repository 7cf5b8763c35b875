//! Calls of other systems become records of input topics.
//!
//! [`Intake::take`] checks the signature of a call and splits its body into records, in the shapes
//! that `docs/connect` reads. [`Outcomes`] turn acknowledgements into an answer with a line for each
//! record. Pure: time is an argument, Kafka and HTTP are the callers' matter.
//!
//! Invariants: without a right signature or token nothing of a body is looked at; a record is
//! *accepted* only once Kafka acknowledged it; secrets are compared in constant time and never
//! printed.
//!
//! Decision: docs/decisions/0077-processes-beside-the-worker.md

mod answer;
mod call;
mod intake;
mod metrics;
mod options;
mod shapes;
mod signature;

pub use answer::{Acknowledgement, IngestAnswer, Outcomes};
pub use call::{IngestCall, IngestSource};
pub use intake::{Intake, Refusal};
pub use metrics::{INGEST_METRICS, IngestMetrics};
pub use options::{
    HubspotIngest, IngestOptions, IngestOptionsError, JsonIngest, MarketoIngest, SegmentIngest,
};
pub use shapes::{IngestRecord, Taken};
