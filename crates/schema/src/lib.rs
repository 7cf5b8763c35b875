//! Avro schemas become tables, roles and fields; bytes become rows.
//!
//! Invariants: no Kafka, no tokio, no clock. Every reader (Avro, CSV, JSON Lines, container files) fills the same [`RowBatch`].

mod admit;
mod avro;
mod catalog;
mod condition;
mod files;
mod row;

pub use avro::{
    CompileError, DecodeError, EncodeError, FolderRegistry, Frame, RegistryError, RowDecoder,
    RowEncoder, SCHEMA_HEADER, SchemaRef, WireError, encode_frame,
};
pub use catalog::{
    Catalog, DataType, Feature, Field, FieldId, Hub, HubId, MatchBy, Meaning, OutcomeField,
    Reference, Relation, RelationId, RelationKind, Role, SchemaFault, Staged, Table, TableId,
};
pub use condition::{
    Absence, Comparison, Condition, DayCounter, DayWindow, Literal, Measure, Operand, Population,
    View,
};
pub use files::{FileError, FileOptions, FileReader, parse_time_ms};
pub use row::{Operation, Position, Row, RowBatch, RowBuilder, TextList, Value};
