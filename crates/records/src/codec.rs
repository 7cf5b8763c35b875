//! Avro records in the Confluent framing: written under one schema, read back under any older one.

use std::fmt::Display;
use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use leadpulse_schema::{Frame, SchemaRef, encode_frame};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The writer and reader of one output schema.
pub struct RecordCodec {
    schema: Schema,
    id: u32,
}

/// Failure to read a record back.
#[derive(Debug, thiserror::Error)]
pub enum ReadError<E> {
    /// The bytes are no record of the schema that they name.
    #[error("{0}")]
    Unreadable(String),
    /// No writer schema could be found for the id that the bytes name.
    #[error(transparent)]
    Lookup(E),
}

impl<E> ReadError<E> {
    fn because(cause: impl Display) -> Self {
        Self::Unreadable(cause.to_string())
    }
}

impl RecordCodec {
    /// A codec that writes under `id`.
    ///
    /// # Panics
    /// If `json` is not an Avro schema: it is one that the program ships.
    pub fn new(json: &str, id: u32) -> Self {
        let schema = Schema::parse_str(json).expect("the shipped output schemas are Avro: tested");
        Self { schema, id }
    }

    /// A record in the registry's framing, ready to be written.
    ///
    /// # Panics
    /// If the value is no record of the schema.
    pub fn encode<T: Serialize>(&self, value: &T) -> Vec<u8> {
        let mut body = Vec::with_capacity(512);
        let writer = GenericDatumWriter::builder(&self.schema)
            .build()
            .expect("a parsed schema resolves");
        writer
            .write_ser(&mut body, value)
            .expect("record structs mirror the shipped schemas: tested");
        let mut framed = Vec::with_capacity(body.len() + 5);
        encode_frame(self.id, &body, &mut framed);
        framed
    }

    /// Reads a record back under the schema that wrote it: this one, or the one that `lookup` finds
    /// for the frame's id.
    ///
    /// # Errors
    /// Bytes that are no such record, or an id that `lookup` does not know.
    pub fn read<T: DeserializeOwned, E>(
        &self,
        value: &[u8],
        lookup: impl FnOnce(&SchemaRef) -> Result<Arc<str>, E>,
    ) -> Result<T, ReadError<E>> {
        let frame = Frame::parse(value, std::iter::empty()).map_err(ReadError::because)?;
        // Registries that were set up again give other ids: bytes that are one record of today's
        // schema are that record.
        if let Some(record) = read_value(&self.schema, frame.body) {
            return Ok(record);
        }
        let older;
        let schema = if frame.schema == SchemaRef::Id(self.id) {
            &self.schema
        } else {
            let json = lookup(&frame.schema).map_err(ReadError::Lookup)?;
            older = Schema::parse_str(&json).map_err(ReadError::because)?;
            &older
        };
        let reader = GenericDatumReader::builder(schema)
            .build()
            .map_err(ReadError::because)?;
        let found = reader
            .read_value(&mut &frame.body[..])
            .map_err(ReadError::because)?;
        let json = serde_json::Value::try_from(found).map_err(ReadError::because)?;
        serde_json::from_value(json).map_err(ReadError::because)
    }

    /// The record, if all the bytes of a frame's body are one of this schema; no registry is asked.
    pub fn read_whole<T: DeserializeOwned>(&self, body: &[u8]) -> Option<T> {
        let mut rest = body;
        let reader = GenericDatumReader::builder(&self.schema).build().ok()?;
        let record = reader.read_deser(&mut rest).ok()?;
        rest.is_empty().then_some(record)
    }
}

/// The record, if all the bytes are one of this schema. By way of JSON, because a symbol reads back
/// from text, not from an enum.
fn read_value<T: DeserializeOwned>(schema: &Schema, body: &[u8]) -> Option<T> {
    let mut rest = body;
    let reader = GenericDatumReader::builder(schema).build().ok()?;
    let value = reader.read_value(&mut rest).ok()?;
    let json = serde_json::Value::try_from(value).ok()?;
    if rest.is_empty() {
        serde_json::from_value(json).ok()
    } else {
        None
    }
}
