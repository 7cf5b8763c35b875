//! A decision becomes the records that are written and shown.
//!
//! Invariants: synchronous; no topic is read and none is written; a record is a function of graph, decision and explanation alone, so
//! the same epoch gives the same bytes.

mod alerts;
mod codec;
mod dead_letter;
mod emission;
mod explained;
mod hex;
mod output;
mod people;
mod topics;
mod views;

pub use codec::{ReadError, RecordCodec};
pub use dead_letter::{
    HEADER_APPLICATION, HEADER_HEADERS_BYTES, HEADER_HEADERS_SHA256, HEADER_KEY_BYTES,
    HEADER_KEY_SHA256, HEADER_MESSAGE, HEADER_OFFSET, HEADER_PARTITION, HEADER_REASON,
    HEADER_STAGE, HEADER_TIMESTAMP, HEADER_TOPIC, HEADER_VALUE_BYTES, HEADER_VALUE_SHA256, Reason,
    Rejected, without_key, without_original_headers, without_value,
};
pub use emission::{Emission, Lineage, Records, Standing, name_of, silent_ms};
pub use explained::{Explained, driver_views, drivers};
pub use hex::hex;
pub use output::*;
pub use people::vocabulary;
pub use topics::{Output, OutputRecord, output_key};
pub use views::{AlertView, DriverView, ScoreStatus, ScoreView};
