//! A decision becomes the records that are written and shown.
//!
//! Invariants: synchronous; no topic is read and none is written; a record is a function of graph,
//! decision and explanation alone, so the same epoch gives the same bytes.

mod alert;
mod codec;
mod dead_letter;
mod digest;
mod emission;
mod erasure_proof;
mod event_headers;
mod explained;
mod exposure;
mod output;
mod people;
mod policy_state;
mod score;
mod shown_letter;
mod symbol;
mod trace_context;
mod whole_letter;
mod wording;
mod worklist;

pub use alert::{
    ALERT_SCHEMA, Alert, AlertPart, Committee, CommitteeMember, OpenOpportunity, RecentEvent,
    ShownAlert,
};
pub use codec::{ReadError, RecordCodec};
pub use dead_letter::{
    HEADER_APPLICATION, HEADER_HEADERS_BYTES, HEADER_HEADERS_SHA256, HEADER_KEY_BYTES,
    HEADER_KEY_SHA256, HEADER_MESSAGE, HEADER_OFFSET, HEADER_PARTITION, HEADER_REASON,
    HEADER_RECORD_TIMESTAMP, HEADER_STAGE, HEADER_TIMESTAMP, HEADER_TOPIC, HEADER_VALUE_BYTES,
    HEADER_VALUE_SHA256, Reason, Rejected, without_key, without_original_headers, without_value,
};
pub use digest::digest_alert;
pub use emission::{
    Emission, EmissionRecords, Lineage, Listing, Standing, facts_json, name_of, score_causes,
};
pub use erasure_proof::{ERASURE_PROOF_SCHEMA, ErasureProof, HeldUntil};
pub use event_headers::{CONTENT_TYPE, EventHeaders};
pub use explained::{Explained, drivers};
pub use exposure::{EXPOSURE_SCHEMA, Exposure, ExposureGroup};
pub use output::{Output, OutputRecord, output_key};
pub use people::vocabulary;
pub use policy_state::{POLICY_STATE_SCHEMA, PolicyStateRecord};
pub use score::{
    ComparedValue, Driver, HISTORY_POINTS, INELIGIBLE, ON_REQUEST, SCORE_SCHEMA, SCORED, Score,
    ScoreCommittee, ScorePoint, ShownScore, SubScores,
};
pub use shown_letter::{BytesShown, HeaderShown, KeptLetter, ShownLetter};
pub use symbol::{Symbol, TypeName};
pub use trace_context::{TRACEPARENT, TraceContext};
pub use whole_letter::{
    HEADER_REPLAY_FIRST, HEADER_REPLAY_LETTER, HEADER_REPLAYED, LetterPlace, LetterPlaceError,
    WholeLetter, replayed_letter,
};
pub use worklist::{ListReasons, WORK_LIST_SCHEMA, WorkList, WorkListEntry};
