//! Records become rows, or dead letters. A record that cannot be used never stops its partition.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use leadpulse_schema::{
    Catalog, DecodeError, Frame, Operation, Position, Role, RowBatch, RowDecoder, SchemaRef,
    TableId, Value,
};

use leadpulse_records::{OutputRecord, Reason, Rejected};
use leadpulse_schema::units::AsOf;

use crate::epoch::DecidedRange;
use crate::ports::{InputPartition, Record, RecordBatch, SchemaLookupError, SchemaStore};

/// Writer schemas compiled for the tables they are read as.
#[derive(Default)]
pub struct Decoders {
    /// By schema and table: the decoder, or the reason why no record under the schema can be a row.
    compiled: FxHashMap<(SchemaRef, TableId), Result<Arc<RowDecoder>, Arc<str>>>,
}

/// The records of an epoch, decoded: rows, dead letters, and partitions that wait.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Rows, ordered by partition and offset.
    pub rows: RowBatch,
    /// Index of the record, by row.
    pub records: Vec<u32>,
    /// Unusable records in the same order: index of the record, reason, message for its producer.
    pub dead: Vec<(u32, Reason, String)>,
    /// Partitions that go no further now, at most one entry each. Their records from the offset on
    /// are
    /// neither rows nor dead letters.
    pub blocked: Vec<Blocked>,
}

/// A partition whose next record needs a writer schema that no registry has answered for yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Index of the partition.
    pub partition: u32,
    /// Offset of the record.
    pub offset: i64,
    /// The missing schema and the answer so far, for people.
    pub reason: String,
}

impl Decoded {
    /// True for the blocked record of a partition and for those behind it.
    pub fn holds_back(&self, partition: u32, offset: i64) -> bool {
        self.blocked
            .iter()
            .any(|blocked| blocked.partition == partition && offset >= blocked.offset)
    }
}

/// The authority on writer schemas that are registered nowhere.
#[derive(Clone, Copy, Debug)]
pub enum SchemaVerdicts<'a> {
    /// The schema store as of now: its "no such schema" makes a dead letter, and is recorded.
    Store,
    /// The script: exactly these offsets were refused for it, whatever the store says today.
    Recorded(&'a [DecidedRange]),
}

/// Indices of records by partition, then offset: the order in which an epoch is processed, however
/// it was polled.
fn canonical_order(batch: &RecordBatch) -> Vec<u32> {
    let mut order: Vec<u32> = (0..batch.len() as u32).collect();
    order.sort_by_key(|i| {
        let record = batch.record(*i as usize);
        (record.partition(), record.offset())
    });
    order
}

impl Decoders {
    /// Decodes an epoch's records. Never waits: a partition whose writer schema is not known now is
    /// blocked from that record on.
    pub fn decode(
        &mut self,
        batch: &RecordBatch,
        partitions: &[InputPartition],
        catalog: &Catalog,
        schemas: &dyn SchemaStore,
        verdicts: SchemaVerdicts<'_>,
    ) -> Decoded {
        let mut decoded = Decoded::default();
        for index in canonical_order(batch) {
            let record = batch.record(index as usize);
            let input = &partitions[record.partition() as usize];
            if decoded
                .blocked
                .last()
                .is_some_and(|blocked| blocked.partition == record.partition())
            {
                self.ask_ahead(record, input, schemas);
                continue;
            }
            match self.row(record, input, catalog, schemas, verdicts, &mut decoded.rows) {
                Ok(()) => decoded.records.push(index),
                Err(RecordRefusal::Dead(reason, message)) => {
                    decoded.dead.push((index, reason, message))
                }
                Err(RecordRefusal::Wait(reason)) => {
                    decoded.blocked.push(Blocked {
                        partition: record.partition(),
                        offset: record.offset(),
                        reason,
                    });
                }
            }
        }
        decoded
    }

    /// True if a record's writer schema is known by now, or known to be registered nowhere.
    pub fn is_decidable(
        &self,
        record: Record<'_>,
        input: &InputPartition,
        schemas: &dyn SchemaStore,
    ) -> bool {
        let Some(schema) = schema_of(record) else {
            return true;
        };
        self.compiled.contains_key(&(schema, input.table))
            || !matches!(
                schemas.find(&schema),
                Err(SchemaLookupError::Unavailable(_) | SchemaLookupError::Denied(_))
            )
    }

    /// Has the store ask for a schema that will be needed, because one by one each would cost a
    /// round trip.
    fn ask_ahead(&self, record: Record<'_>, input: &InputPartition, schemas: &dyn SchemaStore) {
        if let Some(schema) = schema_of(record)
            && !self.compiled.contains_key(&(schema, input.table))
        {
            drop(schemas.find(&schema));
        }
    }

    fn row(
        &mut self,
        record: Record<'_>,
        input: &InputPartition,
        catalog: &Catalog,
        schemas: &dyn SchemaStore,
        verdicts: SchemaVerdicts<'_>,
        rows: &mut RowBatch,
    ) -> Result<(), RecordRefusal> {
        let position = Position {
            partition: record.partition(),
            offset: record.offset(),
        };
        let Some(value) = record.value() else {
            return tombstone(record, input, catalog, position, rows);
        };
        let frame = Frame::parse(value, present_headers(record))
            .map_err(|e| RecordRefusal::Dead(Reason::WireFormat, e.to_string()))?;
        if let SchemaVerdicts::Recorded(refused) = verdicts
            && refused
                .iter()
                .any(|range| range.holds(record.partition(), record.offset()))
        {
            return Err(RecordRefusal::Dead(
                Reason::UnknownSchema,
                "refused when its epoch was decided".to_owned(),
            ));
        }
        let decoder = self.decoder(frame.schema, input.table, catalog, schemas, verdicts)?;
        decoder
            .decode(frame.body, catalog, rows, position, record.timestamp_ms())
            .map_err(|e| {
                let reason = if matches!(e, DecodeError::Invalid { .. }) {
                    Reason::Validation
                } else {
                    Reason::AvroDecode
                };
                RecordRefusal::Dead(reason, e.to_string())
            })
    }

    fn decoder(
        &mut self,
        schema: SchemaRef,
        table: TableId,
        catalog: &Catalog,
        schemas: &dyn SchemaStore,
        verdicts: SchemaVerdicts<'_>,
    ) -> Result<Arc<RowDecoder>, RecordRefusal> {
        let compiled = match self.compiled.get(&(schema, table)) {
            Some(compiled) => compiled.clone(),
            None => {
                let json = schemas.find(&schema).map_err(|error| match (&error, verdicts) {
                    (SchemaLookupError::Unknown(_), SchemaVerdicts::Store) => RecordRefusal::Dead(Reason::UnknownSchema, error.to_string()),
                    (SchemaLookupError::Unknown(_), SchemaVerdicts::Recorded(_)) => RecordRefusal::Wait(format!(
                        "{error} any more, though committed records were read with it: register it again under this id"
                    )),
                    (SchemaLookupError::Unavailable(_) | SchemaLookupError::Denied(_), _) => RecordRefusal::Wait(error.to_string()),
                })?;
                let compiled = compile(&json, table, catalog)
                    .map(Arc::new)
                    .map_err(Arc::from);
                self.compiled.insert((schema, table), compiled.clone());
                compiled
            }
        };
        compiled.map_err(|message| RecordRefusal::Dead(Reason::AvroDecode, message.to_string()))
    }
}

fn schema_of(record: Record<'_>) -> Option<SchemaRef> {
    Frame::parse(record.value()?, present_headers(record))
        .ok()
        .map(|frame| frame.schema)
}

/// Headers with a value. A header without one names no schema.
fn present_headers(record: Record<'_>) -> impl Iterator<Item = (&str, &[u8])> {
    record
        .headers()
        .filter_map(|(name, value)| Some((name, value?)))
}

fn compile(json: &str, table: TableId, catalog: &Catalog) -> Result<RowDecoder, String> {
    let writer = apache_avro::Schema::parse_str(json)
        .map_err(|e| format!("the writer schema is not an Avro schema: {e}"))?;
    RowDecoder::compile(&writer, catalog, table).map_err(|e| e.to_string())
}

enum RecordRefusal {
    Dead(Reason, String),
    Wait(String),
}

fn tombstone(
    record: Record<'_>,
    input: &InputPartition,
    catalog: &Catalog,
    position: Position,
    rows: &mut RowBatch,
) -> Result<(), RecordRefusal> {
    let table = catalog.table_at(input.table);
    if table.role == Role::Event {
        return Err(RecordRefusal::Dead(
            Reason::TombstoneOfEvent,
            format!("{} are events: they have no tombstones", table.name),
        ));
    }
    let key = record
        .key()
        .and_then(|key| std::str::from_utf8(key).ok())
        .filter(|key| !key.is_empty());
    let Some(key) = key else {
        return Err(RecordRefusal::Dead(
            Reason::Validation,
            format!(
                "a tombstone of {} needs the entity's key as its UTF-8 record key",
                table.name
            ),
        ));
    };
    let mut row = rows.start(
        catalog,
        input.table,
        Operation::Delete,
        position,
        record.timestamp_ms(),
    );
    row.set(table.key, Value::Text(key));
    row.finish();
    Ok(())
}

/// The dead letter of `record`, read from `partition` in the epoch valid at `as_of`. `message`
/// names the fault, without payload.
pub fn dead_letter(
    record: Record<'_>,
    partition: &InputPartition,
    reason: Reason,
    message: &str,
    as_of: AsOf,
) -> OutputRecord {
    let rejected = Rejected {
        topic: &partition.topic,
        partition: partition.partition,
        offset: record.offset(),
        timestamp_ms: record.timestamp_ms(),
        key: record.key(),
        value: record.value(),
        headers: record.headers().collect(),
    };
    rejected.dead_letter(reason, message, as_of)
}
