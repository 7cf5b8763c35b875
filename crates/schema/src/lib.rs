//! Bytes become rows of declared tables.
//!
//! Invariants: no Kafka, no tokio, no clock. Every reader (Avro, CSV, JSON Lines, container files) fills the same [`RowBatch`].

mod admit;
mod annotations;
mod catalog;
mod check;
mod condition;
mod cursor;
mod decode;
#[cfg(test)]
mod decode_tests;
mod fault;
mod files;
mod fingerprint;
mod link;
mod load;
#[cfg(test)]
mod load_tests;
mod program;
mod registry;
mod row;
mod shape;
mod wire;
mod write;

pub use catalog::{
    Catalog, DataType, Feature, Field, FieldId, Hub, HubId, MatchBy, Meaning, OutcomeField,
    Reference, Relation, RelationId, RelationKind, Role, Staged, Table, TableId,
};
pub use condition::{
    Absence, Comparison, Condition, DayCounter, DayWindow, Literal, Measure, Operand, Population,
    View,
};
pub use decode::{DecodeError, RowDecoder};
pub use fault::SchemaFault;
pub use files::{FileError, FileOptions, FileReader, parse_time_ms};
pub use program::CompileError;
pub use registry::{FolderRegistry, RegistryError};
pub use row::{Operation, Position, Row, RowBatch, RowBuilder, TextList, Value};
pub use wire::{Frame, SCHEMA_HEADER, SchemaRef, WireError, encode_frame};
pub use write::{EncodeError, RowEncoder};
