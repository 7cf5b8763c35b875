//! Records become rows, or dead letters. A record that cannot be used never stops its partition.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use leadpulse_schema::{Catalog, DecodeError, Frame, Operation, Position, Role, RowBatch, RowDecoder, SchemaRef, TableId, Value};

use crate::dead_letter::Reason;
use crate::ports::{InputPartition, Record, RecordBatch, SchemaLookupError, SchemaStore};

/// Writer schemas compiled for the tables they are read as.
#[derive(Default)]
pub struct Decoders {
    /// Or why no record under this schema can be a row of the table.
    compiled: FxHashMap<(SchemaRef, TableId), Result<Arc<RowDecoder>, Arc<str>>>,
}

/// What decoding made of an epoch's records.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Rows, ordered by partition and offset.
    pub rows: RowBatch,
    /// Per row the index of its record.
    pub records: Vec<u32>,
    /// What could not be used, in the same order: index of the record, why, and what to tell its producer.
    pub dead: Vec<(u32, Reason, String)>,
}

/// The record's indices by partition, then offset: the order in which an epoch is always processed, however it was polled.
fn canonical_order(batch: &RecordBatch) -> Vec<u32> {
    let mut order: Vec<u32> = (0..batch.len() as u32).collect();
    order.sort_by_key(|i| {
        let record = batch.record(*i as usize);
        (record.partition(), record.offset())
    });
    order
}

impl Decoders {
    /// Decodes an epoch's records. Fails only when a writer schema cannot be had for now: nothing is lost, ask again.
    pub fn decode(
        &mut self,
        batch: &RecordBatch,
        partitions: &[InputPartition],
        catalog: &Catalog,
        schemas: &dyn SchemaStore,
    ) -> Result<Decoded, SchemaLookupError> {
        let mut decoded = Decoded::default();
        for index in canonical_order(batch) {
            let record = batch.record(index as usize);
            let input = &partitions[record.partition() as usize];
            match self.row(record, input, catalog, schemas, &mut decoded.rows) {
                Ok(()) => decoded.records.push(index),
                Err(Refusal::Dead(reason, message)) => decoded.dead.push((index, reason, message)),
                Err(Refusal::Wait(error)) => return Err(error),
            }
        }
        Ok(decoded)
    }

    fn row(
        &mut self,
        record: Record<'_>,
        input: &InputPartition,
        catalog: &Catalog,
        schemas: &dyn SchemaStore,
        rows: &mut RowBatch,
    ) -> Result<(), Refusal> {
        let position = Position { partition: record.partition(), offset: record.offset() };
        let Some(value) = record.value() else {
            return tombstone(record, input, catalog, position, rows);
        };
        // A header without a value names no schema.
        let headers = record.headers().filter_map(|(name, value)| Some((name, value?)));
        let frame = Frame::parse(value, headers).map_err(|e| Refusal::Dead(Reason::WireFormat, e.to_string()))?;
        let decoder = self.decoder(frame.schema, input.table, catalog, schemas)?;
        decoder.decode(frame.body, catalog, rows, position, record.timestamp_ms()).map_err(|e| {
            let reason = if matches!(e, DecodeError::Invalid { .. }) { Reason::Validation } else { Reason::AvroDecode };
            Refusal::Dead(reason, e.to_string())
        })
    }

    fn decoder(
        &mut self,
        schema: SchemaRef,
        table: TableId,
        catalog: &Catalog,
        schemas: &dyn SchemaStore,
    ) -> Result<Arc<RowDecoder>, Refusal> {
        let compiled = match self.compiled.get(&(schema, table)) {
            Some(compiled) => compiled.clone(),
            None => {
                let json = schemas.lookup(&schema).map_err(|error| match error {
                    SchemaLookupError::Unknown(_) => Refusal::Dead(Reason::UnknownSchema, error.to_string()),
                    SchemaLookupError::Unavailable(_) => Refusal::Wait(error),
                })?;
                let compiled = compile(&json, table, catalog).map(Arc::new).map_err(Arc::from);
                self.compiled.insert((schema, table), compiled.clone());
                compiled
            }
        };
        compiled.map_err(|message| Refusal::Dead(Reason::AvroDecode, message.to_string()))
    }
}

fn compile(json: &str, table: TableId, catalog: &Catalog) -> Result<RowDecoder, String> {
    let writer = apache_avro::Schema::parse_str(json).map_err(|e| format!("the writer schema is not an Avro schema: {e}"))?;
    RowDecoder::compile(&writer, catalog, table).map_err(|e| e.to_string())
}

enum Refusal {
    Dead(Reason, String),
    Wait(SchemaLookupError),
}

fn tombstone(
    record: Record<'_>,
    input: &InputPartition,
    catalog: &Catalog,
    position: Position,
    rows: &mut RowBatch,
) -> Result<(), Refusal> {
    let table = catalog.table_at(input.table);
    if table.role == Role::Event {
        return Err(Refusal::Dead(Reason::TombstoneOfEvent, format!("{} are events: they have no tombstones", table.name)));
    }
    let key = record.key().and_then(|key| std::str::from_utf8(key).ok()).filter(|key| !key.is_empty());
    let Some(key) = key else {
        return Err(Refusal::Dead(
            Reason::Validation,
            format!("a tombstone of {} needs the entity's key as its UTF-8 record key", table.name),
        ));
    };
    let mut row = rows.start(catalog, input.table, Operation::Delete, position, record.timestamp_ms());
    row.set(table.key, Value::Text(key));
    row.finish();
    Ok(())
}
