//! Bytes become rows of declared tables.
//!
//! Invariants: no Kafka, no tokio, no clock. Every reader (Avro, CSV, JSON Lines, container files)
//! fills the same [`RowBatch`].
//!
//! The rooms: `catalog` reads the schemas folder, `avro` reads and writes records, `shape` turns
//! records of any format and envelope into rows, `files` reads files of history. Rows and the
//! conditions over rows stand between them.
//!
//! ```
//! use leadpulse_schema::{Catalog, Position, RowBatch, RowDecoder, Value};
//!
//! // Schemas are files in production; here they are texts.
//! let accounts = r#"{"type": "record", "name": "Account",
//!   "leadpulse": {"table": "accounts", "role": "root"},
//!   "fields": [
//!     {"name": "id", "type": "string", "leadpulse": {"key": true}},
//!     {"name": "employees", "type": ["null", "long"], "default": null}]}"#;
//! let visits = r#"{"type": "record", "name": "Visit",
//!   "leadpulse": {"table": "visits", "role": "event"},
//!   "fields": [
//!     {"name": "id", "type": "string", "leadpulse": {"key": true}},
//!     {"name": "account", "type": "string", "leadpulse": {"ref": "accounts", "owner": true}},
//!     {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"},
//!      "leadpulse": {"time": true}}]}"#;
//! let schemas = [("accounts.avsc", accounts), ("visits.avsc", visits)];
//! let catalog = Catalog::from_json(&schemas).expect("the schemas are valid");
//!
//! // A record in Avro binary: the text "a1", then the second branch of the union with 42.
//! let record = [4, b'a', b'1', 2, 84];
//! let table = catalog.table("accounts").expect("the catalog has accounts");
//! let decoder = RowDecoder::compile(&table.avro, &catalog, table.id)?;
//! let mut batch = RowBatch::new();
//! decoder.decode(&record, &catalog, &mut batch, Position::default(), 1_700_000_000_000)?;
//!
//! let row = batch.row(0);
//! let employees = table.field("employees").expect("accounts have employees").id;
//! assert_eq!(row.key(), "a1");
//! assert_eq!(row.get(employees), Value::Long(42));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod admit;
mod avro;
mod catalog;
mod condition;
mod draft;
mod files;
mod hex;
mod infer;
mod money;
mod row;
mod row_fit;
mod said;
mod shape;
pub mod units;
mod version;

pub use avro::{
    AvroPreview, CompileError, DecodeError, EncodeError, FolderRegistry, Frame, RegistryError,
    RowDecoder, RowEncoder, SCHEMA_HEADER, SchemaRef, WireError, avro_preview, encode_frame,
};
pub use catalog::{
    Bursting, Catalog, DataType, ErasureFields, Feature, FeedbackFields, Field, FieldId, Hub,
    HubId, MatchBy, Meaning, Normalise, OutcomeField, OverrideFields, Reference, Relation,
    RelationId, RelationKind, Role, SchemaFault, Staged, Table, TableId, Verdict,
};
pub use condition::{
    Absence, Comparison, Condition, DayCounter, DayWindow, Literal, Measure, Operand, Population,
    View,
};
pub use draft::{Draft, DraftError, KnownTable, draft};
pub use files::{FileError, FileOptions, FileOrigin, FileReader, parse_time_ms, utc};
pub use hex::hex;
pub use infer::{InferError, Inferred, TextRow, TextTable, infer};
pub use money::{CurrencyError, CurrencyOptions, CurrencyRates};
pub use row::{Operation, Position, Row, RowBatch, RowBuilder, TextList, Value};
pub use row_fit::{ReferenceFit, RowFit, ValueFit};
pub use said::{AlertVerdict, ErasureAction, PersonDecision};
pub use shape::{
    BadValue, Envelope, EnvelopeOption, FilterValue, FilterValues, FitRemark, NameList, RawRecord,
    RecordFate, RecordFault, SchemaLanguage, SchemaPlace, ShapeError, SourceFormat, SourceShape,
    TextOption, TimeDetails, TimeOption, TopicDecoder, TopicSource, WriterSchema,
};
pub use version::Version;
