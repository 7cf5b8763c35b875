//! Avro bytes become rows, and rows Avro bytes: writer schemas, frames, records.

pub(crate) mod cursor;
pub(crate) mod decode;
#[cfg(test)]
mod decode_tests;
mod preview;
pub(crate) mod program;
mod registry;
mod wire;
pub(crate) mod write;

pub(crate) use decode::RowPosition;
pub use decode::{DecodeError, RowDecoder};
pub use preview::{AvroPreview, avro_preview};
pub use program::CompileError;
pub use registry::{FolderRegistry, RegistryError};
pub use wire::{Frame, SCHEMA_HEADER, SchemaRef, WireError, encode_frame};
pub use write::{EncodeError, RowEncoder};
