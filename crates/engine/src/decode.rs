//! Records become rows, or dead letters. A record that cannot be used never stops its partition.

use smallvec::SmallVec;

use leadpulse_schema::units::AsOf;
use leadpulse_schema::{
    Catalog, Position, RawRecord, RecordFate, RecordFault, RowBatch, SchemaPlace, SchemaRef,
    ShapeError, TopicDecoder,
};

use leadpulse_records::{OutputRecord, Reason, Rejected};

use crate::epoch::DecidedRange;
use crate::ports::{InputPartition, Record, RecordBatch, SchemaLookupError, SchemaStore};

/// The readings of all input topics: sources with their shapes, and the writer schemas learned so
/// far.
#[derive(Debug, Default)]
pub struct Decoders {
    /// Topics without a configured shape are plain Avro.
    topics: Vec<TopicReading>,
    /// By partition: the topic's place, as last looked up.
    places: Vec<usize>,
}

#[derive(Debug)]
struct TopicReading {
    topic: String,
    /// The decoder, or the reason why nothing on the topic can be read.
    decoder: Result<Box<TopicDecoder>, ShapeError>,
    /// Whether a log line said that records were filtered, or ignored.
    is_filtering_told: bool,
    is_ignoring_told: bool,
}

impl TopicReading {
    fn new(topic: &str, decoder: Result<TopicDecoder, ShapeError>) -> Self {
        TopicReading {
            topic: topic.to_owned(),
            decoder: decoder.map(Box::new),
            is_filtering_told: false,
            is_ignoring_told: false,
        }
    }
}

/// The records of an epoch, decoded: rows, dead letters, records that give no row, and partitions
/// that wait.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Rows, ordered by partition and offset. A record may give several.
    pub rows: RowBatch,
    /// Index of the record, by row.
    pub records: Vec<u32>,
    /// Unusable records in the same order: index of the record, reason, message for its producer.
    pub dead: Vec<(u32, Reason, String)>,
    /// Indices of records that no source of their topic wants.
    pub filtered: Vec<u32>,
    /// Indices of records that concern no row.
    pub ignored: Vec<u32>,
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
    /// True if no record has an outcome: all wait for a schema.
    pub fn is_empty(&self) -> bool {
        let without_row = self.filtered.is_empty() && self.ignored.is_empty();
        self.records.is_empty() && self.dead.is_empty() && without_row
    }

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
            let raw_headers: SmallVec<[(&str, &[u8]); 4]> = present_headers(record).collect();
            let raw = raw_record(record, &raw_headers);
            let reading = self.reading(record.partition(), input, catalog);
            let before = decoded.rows.len();
            let read = read_record(
                reading,
                record,
                &raw,
                catalog,
                schemas,
                verdicts,
                &mut decoded.rows,
            );
            match read {
                Ok(RecordFate::Rows) => {
                    let rows = decoded.rows.len() - before;
                    decoded.records.extend(std::iter::repeat_n(index, rows));
                }
                Ok(RecordFate::Filtered) => {
                    reading.tell_filtered();
                    decoded.filtered.push(index);
                }
                Ok(RecordFate::Ignored(why)) => {
                    reading.tell_ignored(why);
                    decoded.ignored.push(index);
                }
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
        self.tell_fit(catalog, false);
        decoded
    }

    /// Reads these topics by the shapes of their sources.
    #[must_use]
    pub fn with_topics(mut self, topics: Vec<(String, TopicDecoder)>) -> Self {
        for (topic, decoder) in topics {
            self.topics.push(TopicReading::new(&topic, Ok(decoder)));
        }
        self
    }

    /// Logs what no record of a source fitted, once per source: when it had enough rows, or at the
    /// end.
    pub fn tell_fit(&mut self, catalog: &Catalog, at_end: bool) {
        for reading in &mut self.topics {
            if let Ok(decoder) = &mut reading.decoder {
                for remark in decoder.remarks(catalog, at_end) {
                    if remark.is_setting {
                        tracing::warn!(topic = reading.topic, "{}", remark.text);
                    } else {
                        tracing::info!(topic = reading.topic, "{}", remark.text);
                    }
                }
            }
        }
    }

    /// The reading of the topic of the partition with this number.
    fn reading(
        &mut self,
        partition: u32,
        input: &InputPartition,
        catalog: &Catalog,
    ) -> &mut TopicReading {
        let is_of = |reading: &TopicReading| reading.topic == input.topic;
        let partition = partition as usize;
        let noted = self.places.get(partition).copied();
        let noted = noted.filter(|place| self.topics.get(*place).is_some_and(is_of));
        let place = noted.unwrap_or_else(|| {
            let place = self.topics.iter().position(is_of).unwrap_or_else(|| {
                let decoder = TopicDecoder::plain(&input.topic, catalog, &input.tables);
                self.topics.push(TopicReading::new(&input.topic, decoder));
                self.topics.len() - 1
            });
            if self.places.len() <= partition {
                self.places.resize(partition + 1, usize::MAX);
            }
            self.places[partition] = place;
            place
        });
        &mut self.topics[place]
    }

    /// True if a record's writer schema is known by now, or known to be registered nowhere.
    pub fn is_decidable(
        &self,
        record: Record<'_>,
        input: &InputPartition,
        schemas: &dyn SchemaStore,
    ) -> bool {
        self.missing(record, input).is_none_or(|schema| {
            !matches!(
                schemas.find(&schema),
                Err(SchemaLookupError::Unavailable(_) | SchemaLookupError::Denied(_))
            )
        })
    }

    /// Has the store ask for a schema that will be needed, because one by one each would cost a
    /// round trip.
    fn ask_ahead(&self, record: Record<'_>, input: &InputPartition, schemas: &dyn SchemaStore) {
        if let Some(schema) = self.missing(record, input) {
            drop(schemas.find(&schema));
        }
    }

    /// The schema that a record needs and that was not learned yet.
    fn missing(&self, record: Record<'_>, input: &InputPartition) -> Option<SchemaRef> {
        let headers: SmallVec<[(&str, &[u8]); 4]> = present_headers(record).collect();
        let reading = self
            .topics
            .iter()
            .find(|reading| reading.topic == input.topic);
        let decoder = reading?.decoder.as_ref().ok()?;
        decoder
            .needs(&raw_record(record, &headers))
            .map(|(_, schema)| schema)
    }
}

impl TopicReading {
    fn tell_filtered(&mut self) {
        if !std::mem::replace(&mut self.is_filtering_told, true) {
            tracing::info!(
                topic = self.topic,
                "a record that no source of the topic wants was passed over; such records are \
                 counted in leadpulse_records_filtered_total"
            );
        }
    }

    fn tell_ignored(&mut self, why: &str) {
        if !std::mem::replace(&mut self.is_ignoring_told, true) {
            tracing::info!(
                topic = self.topic,
                why,
                "a record that concerns no row was passed over; such records are counted in \
                 leadpulse_records_ignored_total"
            );
        }
    }
}

/// Headers with a value. A header without one names no schema.
fn present_headers(record: Record<'_>) -> impl Iterator<Item = (&str, &[u8])> {
    record
        .headers()
        .filter_map(|(name, value)| Some((name, value?)))
}

fn raw_record<'r>(record: Record<'r>, headers: &'r [(&'r str, &'r [u8])]) -> RawRecord<'r> {
    RawRecord {
        key: record.key(),
        value: record.value(),
        headers,
    }
}

enum RecordRefusal {
    Dead(Reason, String),
    Wait(String),
}

fn read_record(
    reading: &mut TopicReading,
    record: Record<'_>,
    raw: &RawRecord<'_>,
    catalog: &Catalog,
    schemas: &dyn SchemaStore,
    verdicts: SchemaVerdicts<'_>,
    rows: &mut RowBatch,
) -> Result<RecordFate, RecordRefusal> {
    let decoder = match &mut reading.decoder {
        Ok(decoder) => decoder,
        Err(error) => return Err(RecordRefusal::Dead(Reason::Validation, error.to_string())),
    };
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
    let position = Position {
        partition: record.partition(),
        offset: record.offset(),
    };
    let known_ms = record.timestamp_ms();
    let mut read = decoder.read(raw, catalog, position, known_ms, rows);
    // A schema that was learned is never asked for again, so this ends: once for the value, or
    // once for the key of a tombstone.
    while let Err(RecordFault::Unlearned { place, schema }) = read {
        learn(decoder, place, schema, catalog, schemas, verdicts)?;
        read = decoder.read(raw, catalog, position, known_ms, rows);
    }
    read.map_err(|fault| {
        let reason = match fault {
            RecordFault::Frame(_) => Reason::WireFormat,
            RecordFault::Unreadable(_) if !decoder.is_avro() => Reason::Unreadable,
            RecordFault::Unreadable(_) | RecordFault::Unlearned { .. } => Reason::AvroDecode,
            RecordFault::Invalid(_) => Reason::Validation,
            RecordFault::TombstoneOfEvent(_) => Reason::TombstoneOfEvent,
        };
        RecordRefusal::Dead(reason, fault.to_string())
    })
}

/// Asks for a writer schema and compiles it.
fn learn(
    decoder: &mut TopicDecoder,
    place: SchemaPlace,
    schema: SchemaRef,
    catalog: &Catalog,
    schemas: &dyn SchemaStore,
    verdicts: SchemaVerdicts<'_>,
) -> Result<(), RecordRefusal> {
    let writer = schemas.find(&schema).map_err(|error| match (&error, verdicts) {
        (SchemaLookupError::Unknown(_), SchemaVerdicts::Store) => {
            RecordRefusal::Dead(Reason::UnknownSchema, error.to_string())
        }
        (SchemaLookupError::Unknown(_), SchemaVerdicts::Recorded(_)) => {
            RecordRefusal::Wait(format!(
                "{error} any more, though committed records were read with it: register it again \
                 under this id"
            ))
        }
        (SchemaLookupError::Unavailable(_) | SchemaLookupError::Denied(_), _) => {
                RecordRefusal::Wait(error.to_string())
            }
    })?;
    decoder.learn(place, schema, &writer, catalog);
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
