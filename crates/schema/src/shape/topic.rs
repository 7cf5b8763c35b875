//! The records of one topic become rows: each source of the topic takes the records that its filter
//! lets through.
//!
//! Nothing is looked up here. [`TopicDecoder::read`] names the schema that a record is written under
//! if it was not learned yet; [`TopicDecoder::learn`] compiles it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::changes::ChangeNames;
use super::connect::{Typing, unwrap_payload};
use super::data_node::DataNode;
use super::data_read::DataProgram;
use super::fill::FieldFault;
use super::fit::{FitRemark, FitReport};
use super::keys::{FramedKey, KeyProgram};
use super::moment::BareNumbers;
use super::plan::{RowPlan, record_name, simple};
use super::protobuf::ProtobufWriter;
use super::rows::{RecordMeaning, fill_row, meaning};
use super::writer::{AvroWriter, SchemaLanguage, WriterSchema, field_order};
use super::{ShapeError, SourceFormat, SourceShape};
use crate::avro::cursor::AvroCursor;
use crate::avro::{
    DecodeError, Frame, RowDecoder, RowPosition, SCHEMA_HEADER, SchemaRef, WireError,
};
use crate::catalog::{Catalog, Role, Table, TableId};
use crate::row::{Operation, Position, RowBatch};

/// A source of a topic: its table and the shape of its records.
#[derive(Clone, Debug)]
pub struct TopicSource {
    pub table: TableId,
    pub shape: SourceShape,
}

/// A record's bytes.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'r> {
    pub key: Option<&'r [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'r [u8]>,
    /// Headers with a value.
    pub headers: &'r [(&'r str, &'r [u8])],
}

/// The place of a record in which a schema is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaPlace {
    Key,
    Value,
}

/// The fate of a record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordFate {
    /// Rows were appended.
    Rows,
    /// No source wants the record.
    Filtered,
    /// The record concerns no row: the reason, for people.
    Ignored(&'static str),
}

/// A record that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// The record's schema was not learned yet.
    #[error("the schema {schema:?} of its {place:?} was not learned")]
    Unlearned {
        place: SchemaPlace,
        schema: SchemaRef,
    },
    /// The value has no frame of its format.
    #[error("{0}")]
    Frame(String),
    /// The bytes are not what format, schema or shape say.
    #[error("{0}")]
    Unreadable(String),
    /// The row says too little, or cannot be applied.
    #[error("{0}")]
    Invalid(String),
    /// A tombstone, and rows of the table have none.
    #[error("{0}")]
    TombstoneOfEvent(String),
}

/// The reading of one writer schema's records for one source.
#[derive(Clone, Debug)]
enum LearnedSchema {
    /// Rows straight from the bytes, after the filter's values.
    Rows {
        decoder: Box<RowDecoder>,
        filter: Option<Box<DataProgram>>,
        name: String,
    },
    Data {
        program: Box<DataProgram>,
        names: Box<ChangeNames>,
        name: String,
    },
    Json {
        typing: Typing,
        name: Option<String>,
    },
    Protobuf(ProtobufWriter),
    /// Records that can be no rows, if the filter wants them at all.
    HopelessIfWanted {
        filter: Box<DataProgram>,
        name: String,
        why: Arc<str>,
    },
    /// Records of another source.
    Foreign(String),
    /// No record of the schema can be a row, or the schema cannot be read.
    Hopeless(Arc<str>),
}

/// The reading of one source's records.
#[derive(Clone, Debug)]
struct SourceDecoder {
    plan: RowPlan,
    format: SourceFormat,
    names: ChangeNames,
    /// Names of records that are this source's where no filter says so: several sources share the
    /// topic.
    own_names: Option<Vec<String>>,
    /// Other sources read the topic too.
    is_one_of_several: bool,
    learned: FxHashMap<SchemaRef, LearnedSchema>,
    fit: FitReport,
}

/// The readings of all sources of a topic.
#[derive(Clone, Debug)]
pub struct TopicDecoder {
    sources: Vec<SourceDecoder>,
    keys: FxHashMap<SchemaRef, Result<Arc<KeyProgram>, Arc<str>>>,
    topic: String,
}

/// The fate of a record at one source.
enum SourceFate {
    Rows,
    NotWanted(Option<String>),
    Ignored(&'static str),
    /// The value is JSON's null: a tombstone.
    Tombstone,
}

/// The record's frame as a source's format has it.
enum ReadValue<'r> {
    Framed(Frame<'r>),
    Bare(&'r [u8]),
}

impl TopicDecoder {
    /// Compiles the sources of a topic.
    ///
    /// # Errors
    /// A shape that does not fit its table; sources that cannot be told apart.
    pub fn new(
        topic: &str,
        catalog: &Catalog,
        sources: &[TopicSource],
    ) -> Result<Self, ShapeError> {
        let mut decoders = Vec::with_capacity(sources.len());
        for source in sources {
            let bare = BareNumbers::Refused;
            let plan = RowPlan::new(&source.shape, catalog, source.table, bare, None)?;
            decoders.push(SourceDecoder {
                names: ChangeNames::of(&plan),
                fit: FitReport::of(&plan),
                format: source.shape.format.of_topic(),
                own_names: None,
                is_one_of_several: sources.len() > 1,
                learned: FxHashMap::default(),
                plan,
            });
        }
        tell_apart(topic, catalog, &mut decoders)?;
        Ok(TopicDecoder {
            sources: decoders,
            keys: FxHashMap::default(),
            topic: topic.to_owned(),
        })
    }

    /// The sources of a topic of plain Avro: one per table.
    ///
    /// # Errors
    /// Tables whose records cannot be told apart.
    pub fn plain(topic: &str, catalog: &Catalog, tables: &[TableId]) -> Result<Self, ShapeError> {
        let source = |table: &TableId| TopicSource {
            table: *table,
            shape: SourceShape::default(),
        };
        let sources: Vec<TopicSource> = tables.iter().map(source).collect();
        Self::new(topic, catalog, &sources)
    }

    /// True if all sources of the topic read Avro.
    pub fn is_avro(&self) -> bool {
        self.sources
            .iter()
            .all(|source| source.format == SourceFormat::Avro)
    }

    /// The tables that the topic's records are rows of.
    pub fn tables(&self) -> impl Iterator<Item = TableId> {
        self.sources.iter().map(|source| source.plan.table)
    }

    /// The schema that must be learned before the record can be read, and its place; `None` if
    /// there is none.
    pub fn needs(&self, record: &RawRecord<'_>) -> Option<(SchemaPlace, SchemaRef)> {
        let Some(value) = record.value else {
            let schema = FramedKey::of(record.key?, record.headers).schema?;
            let is_known = self.keys.contains_key(&schema);
            return (!is_known).then_some((SchemaPlace::Key, schema));
        };
        let schema = Frame::parse(value, record.headers.iter().copied())
            .ok()?
            .schema;
        let lacks = |source: &SourceDecoder| {
            source.format != SourceFormat::Json && !source.learned.contains_key(&schema)
        };
        let lacks = self.sources.iter().any(lacks);
        lacks.then_some((SchemaPlace::Value, schema))
    }

    /// Compiles a writer schema for all sources of the topic.
    pub fn learn(
        &mut self,
        place: SchemaPlace,
        schema: SchemaRef,
        writer: &WriterSchema,
        catalog: &Catalog,
    ) {
        if place == SchemaPlace::Key {
            let program = KeyProgram::compile(writer).map(Arc::new).map_err(Arc::from);
            self.keys.insert(schema, program);
            return;
        }
        for source in &mut self.sources {
            if source.format != SourceFormat::Json {
                let learned = source.learn(writer, catalog);
                source.learned.insert(schema, learned);
            }
        }
    }

    /// Appends the rows of a record. After an error the batch is as before.
    ///
    /// # Errors
    /// A schema that must be learned first; a record that no source can read, or that one of them
    /// wants and cannot use.
    pub fn read(
        &mut self,
        record: &RawRecord<'_>,
        catalog: &Catalog,
        position: Position,
        known_ms: i64,
        rows: &mut RowBatch,
    ) -> Result<RecordFate, RecordFault> {
        let at = RowPosition { position, known_ms };
        let Some(value) = record.value else {
            return self.tombstone(record, catalog, at, rows);
        };
        if let [only] = self.sources.as_mut_slice()
            && !only.plan.is_filtered()
        {
            return match only.read(value, record, catalog, at, rows)? {
                SourceFate::Rows => Ok(RecordFate::Rows),
                SourceFate::Ignored(why) => Ok(RecordFate::Ignored(why)),
                SourceFate::NotWanted(_) => Ok(RecordFate::Filtered),
                SourceFate::Tombstone => self.tombstone(record, catalog, at, rows),
            };
        }
        let before = rows.len();
        let (mut has_rows, mut is_foreign) = (false, false);
        let (mut ignored, mut unreadable, mut name) = (None, None, None);
        for source in &mut self.sources {
            match source.read(value, record, catalog, at, rows) {
                Ok(SourceFate::Rows) => has_rows = true,
                Ok(SourceFate::Tombstone) => return self.tombstone(record, catalog, at, rows),
                Ok(SourceFate::Ignored(why)) => ignored = Some(why),
                Ok(SourceFate::NotWanted(found)) => {
                    is_foreign = true;
                    name = name.or(found);
                }
                // Another source of the topic may have another format.
                Err(fault @ RecordFault::Frame(_)) => unreadable = unreadable.or(Some(fault)),
                Err(fault) => {
                    rows.truncate(before);
                    return Err(fault);
                }
            }
        }
        let is_filtered = self.sources.iter().any(|source| source.plan.is_filtered());
        match (has_rows, ignored, unreadable) {
            (true, _, _) => Ok(RecordFate::Rows),
            (false, Some(why), _) => Ok(RecordFate::Ignored(why)),
            (false, None, Some(fault)) if !is_foreign => Err(fault),
            (false, None, _) if is_filtered => Ok(RecordFate::Filtered),
            (false, None, _) => Err(RecordFault::Invalid(
                self.no_source(name.as_deref(), catalog),
            )),
        }
    }

    fn no_source(&self, name: Option<&str>, catalog: &Catalog) -> String {
        let own = |source: &SourceDecoder| catalog.table_at(source.plan.table).name.clone();
        let tables: Vec<String> = self.sources.iter().map(own).collect();
        format!(
            "the record {} belongs to none of the sources of topic {} ({}); add a source, or give the sources \
             filters: records that fit none are then passed over",
            name.unwrap_or("without a name"),
            self.topic,
            tables.join(", ")
        )
    }

    /// A tombstone deletes the entity of its key in every entity table that the key fits.
    fn tombstone(
        &mut self,
        record: &RawRecord<'_>,
        catalog: &Catalog,
        at: RowPosition,
        rows: &mut RowBatch,
    ) -> Result<RecordFate, RecordFault> {
        let tables = self.sources.iter().map(|s| catalog.table_at(s.plan.table));
        let is_entity = |table: &Table| table.role != Role::Event;
        if !tables.clone().any(is_entity) {
            if self
                .sources
                .iter()
                .any(|source| source.plan.envelope.has_deletions())
            {
                return Ok(RecordFate::Ignored(
                    "a tombstone behind a deletion that was applied",
                ));
            }
            let names: Vec<&str> = tables.map(|table| table.name.as_str()).collect();
            return Err(RecordFault::TombstoneOfEvent(format!(
                "{} are events: they have no tombstones",
                names.join(", ")
            )));
        }
        let framed = FramedKey::of(record.key.unwrap_or_default(), record.headers);
        let program = match framed.schema.map(|schema| self.keys.get(&schema)) {
            None => None,
            Some(Some(Ok(program))) => Some(Arc::clone(program)),
            Some(Some(Err(why))) => return Err(key_fault(&self.topic, why)),
            Some(None) => {
                return Err(RecordFault::Unlearned {
                    place: SchemaPlace::Key,
                    schema: framed.schema.expect("looked up by it"),
                });
            }
        };
        let (mut has_rows, mut refused) = (false, None);
        let mut done: Vec<TableId> = Vec::new();
        for source in &self.sources {
            let table = catalog.table_at(source.plan.table);
            if !is_entity(table) || done.contains(&table.id) {
                continue;
            }
            done.push(table.id);
            let mut row = rows.start(
                catalog,
                table.id,
                Operation::Delete,
                at.position,
                at.known_ms,
            );
            match framed.set(program.as_deref(), &source.plan, table, &mut row) {
                Ok(()) => {
                    row.finish();
                    has_rows = true;
                }
                Err(why) => refused = refused.or(Some((table.name.clone(), why))),
            }
        }
        match refused {
            Some((table, why)) if !has_rows => Err(key_fault(&table, &why)),
            _ => Ok(RecordFate::Rows),
        }
    }

    /// Sentences about settings and fields that nothing fitted, once a source has had enough rows,
    /// or at the end. Each is given once.
    pub fn remarks(&mut self, catalog: &Catalog, at_end: bool) -> Vec<FitRemark> {
        let mut remarks = Vec::new();
        for source in &mut self.sources {
            if source.fit.is_due() || at_end && !source.fit.is_over() {
                source.fit.told();
                let table = catalog.table_at(source.plan.table);
                remarks.extend(source.fit.remarks(&source.plan, table));
            }
        }
        remarks
    }
}

fn key_fault(table: &str, why: &str) -> RecordFault {
    RecordFault::Invalid(format!(
        "a tombstone of {table} needs the entity's key as its record key, as text, as JSON, or framed with the \
         key column: {why}"
    ))
}

/// Gives sources without a filter the names of their records, where several sources share a topic.
fn tell_apart(
    topic: &str,
    catalog: &Catalog,
    sources: &mut [SourceDecoder],
) -> Result<(), ShapeError> {
    if sources.len() < 2 {
        return Ok(());
    }
    let unfiltered: Vec<usize> = (0..sources.len())
        .filter(|at| !sources[*at].plan.is_filtered())
        .collect();
    let ambiguous = |first: usize, second: usize, why: &str| ShapeError::Ambiguous {
        topic: topic.to_owned(),
        first: catalog.table_at(sources[first].plan.table).name.clone(),
        second: catalog.table_at(sources[second].plan.table).name.clone(),
        why: why.to_owned(),
    };
    let mut simple_names: BTreeMap<String, usize> = BTreeMap::new();
    for at in &unfiltered {
        let source = &sources[*at];
        if matches!(source.format, SourceFormat::Json | SourceFormat::JsonSchema) {
            let other = usize::from(*at == 0);
            return Err(ambiguous(
                *at,
                other,
                "JSON does not say what its records are",
            ));
        }
        let name = &source.plan.record_name;
        let twin = unfiltered
            .iter()
            .find(|other| **other < *at && sources[**other].plan.record_name == *name);
        if let Some(twin) = twin {
            let why = format!("the records of both are named {name}");
            return Err(ambiguous(*twin, *at, &why));
        }
        *simple_names.entry(simple(name).to_owned()).or_default() += 1;
    }
    for at in unfiltered {
        let full = sources[at].plan.record_name.clone();
        let short = simple(&full).to_owned();
        let mut names = vec![full];
        if simple_names.get(&short) == Some(&1) {
            names.push(short);
        }
        sources[at].own_names = Some(names);
    }
    Ok(())
}

impl SourceDecoder {
    /// True if the names of records say that this one is the source's, or say nothing.
    fn is_own(&self, name: &str) -> bool {
        let is_own = self.own_names.as_ref().is_none_or(|own| {
            own.iter()
                .any(|known| known == name || known == simple(name))
        });
        is_own && self.plan.wants_name(Some(name))
    }

    fn learn(&self, writer: &WriterSchema, catalog: &Catalog) -> LearnedSchema {
        let expected = match self.format {
            SourceFormat::Json | SourceFormat::JsonSchema => SchemaLanguage::JsonSchema,
            SourceFormat::Protobuf => SchemaLanguage::Protobuf,
            _ => SchemaLanguage::Avro,
        };
        if writer.language != expected && self.is_one_of_several {
            return LearnedSchema::Foreign(format!("of a {} schema", writer.language.name()));
        }
        if writer.language != expected {
            let format = match writer.language {
                SchemaLanguage::Avro => "avro",
                SchemaLanguage::JsonSchema => "json-schema",
                SchemaLanguage::Protobuf => "protobuf",
            };
            return hopeless(format!(
                "its schema is {}, but its source is read as {}; set format = \"{format}\" in the source",
                writer.language.name(),
                expected.name()
            ));
        }
        let learned = match self.format {
            SourceFormat::Json | SourceFormat::JsonSchema => learn_json(writer),
            SourceFormat::Protobuf => ProtobufWriter::parse(writer)
                .map(LearnedSchema::Protobuf)
                .map_err(|why| format!("the writer's schema is not a Protobuf schema: {why}")),
            _ => self.learn_avro(writer, catalog),
        };
        learned.unwrap_or_else(hopeless)
    }

    fn learn_avro(
        &self,
        writer: &WriterSchema,
        catalog: &Catalog,
    ) -> Result<LearnedSchema, String> {
        let avro = AvroWriter::parse(writer)
            .map_err(|e| format!("the writer schema is not an Avro schema: {e}"))?;
        let name = record_name(&avro.schema);
        if !self.is_own(&name) {
            return Ok(LearnedSchema::Foreign(name));
        }
        if self.plan.is_plain_for(&avro.schema) {
            let decoder =
                RowDecoder::compile_planned(&avro.schema, &avro.others, catalog, &self.plan);
            let filter = if self.plan.filters_by_name_only() {
                None
            } else {
                Some(Box::new(DataProgram::of_filter(&avro, &self.plan)?))
            };
            return match (decoder, filter) {
                (Ok(decoder), filter) => Ok(LearnedSchema::Rows {
                    decoder: Box::new(decoder),
                    filter,
                    name,
                }),
                // The records may be another source's: the filter says it of each.
                (Err(error), Some(filter)) => Ok(LearnedSchema::HopelessIfWanted {
                    filter,
                    name,
                    why: error.to_string().into(),
                }),
                (Err(error), None) => Err(error.to_string()),
            };
        }
        let names = self.names.clone().with_order(field_order(&avro.schema, 8));
        Ok(LearnedSchema::Data {
            program: Box::new(DataProgram::of_plan(&avro, &self.plan)?),
            names: Box::new(names),
            name,
        })
    }

    fn read(
        &mut self,
        value: &[u8],
        record: &RawRecord<'_>,
        catalog: &Catalog,
        at: RowPosition,
        rows: &mut RowBatch,
    ) -> Result<SourceFate, RecordFault> {
        let frame = match self.frame(value, record.headers)? {
            ReadValue::Framed(frame) => frame,
            ReadValue::Bare(body) => {
                let node = parse_json(body)?;
                return self.records(node, None, record, catalog, at, rows);
            }
        };
        let unlearned = RecordFault::Unlearned {
            place: SchemaPlace::Value,
            schema: frame.schema,
        };
        match self.learned.get(&frame.schema).ok_or(unlearned)? {
            LearnedSchema::Rows {
                decoder,
                filter,
                name,
            } => {
                if let Some(filter) = filter
                    && !self.filter_wants(filter, frame.body, name, catalog)?
                {
                    return Ok(SourceFate::NotWanted(Some(name.clone())));
                }
                let fit = &mut self.fit;
                decoder
                    .decode_counting(frame.body, catalog, rows, at, |unknown| {
                        fit.drop_value(unknown.amount.index(), &unknown.currency);
                    })
                    .map_err(row_fault)?;
                self.fit.row();
                if !self.fit.is_settled() {
                    decoder.fed().for_each(|field| self.fit.feed(field.index()));
                }
                Ok(SourceFate::Rows)
            }
            LearnedSchema::Data {
                program,
                names,
                name,
            } => {
                let node = program.read_all(frame.body);
                let node = node.map_err(|why| self.unreadable(catalog, why))?;
                let mut reading = Reading {
                    plan: &self.plan,
                    names,
                    fit: &mut self.fit,
                    key: record.key,
                    catalog,
                    at,
                    rows,
                };
                reading.records(&node, Some(name))
            }
            LearnedSchema::Json { typing, name } => {
                let mut node = parse_json(frame.body)?;
                typing.apply(&mut node);
                let name = name.clone();
                self.records(node, name, record, catalog, at, rows)
            }
            LearnedSchema::Protobuf(program) => {
                let indexes = message_numbers(record.headers);
                let name = program.name_of(frame.body, indexes);
                if name.as_ref().is_some_and(|name| !self.is_own(name)) {
                    return Ok(SourceFate::NotWanted(name));
                }
                let read = program.read(frame.body, indexes);
                let (name, node) = read.map_err(|why| self.unreadable(catalog, why))?;
                self.records(node, Some(name), record, catalog, at, rows)
            }
            LearnedSchema::HopelessIfWanted { filter, name, why } => {
                match self.filter_wants(filter, frame.body, name, catalog)? {
                    true => Err(RecordFault::Unreadable(why.to_string())),
                    false => Ok(SourceFate::NotWanted(Some(name.clone()))),
                }
            }
            LearnedSchema::Foreign(name) => Ok(SourceFate::NotWanted(Some(name.clone()))),
            LearnedSchema::Hopeless(why) => Err(RecordFault::Unreadable(why.to_string())),
        }
    }

    /// True if the filter wants a record, of which only the filter's values are read.
    fn filter_wants(
        &self,
        filter: &DataProgram,
        body: &[u8],
        name: &str,
        catalog: &Catalog,
    ) -> Result<bool, RecordFault> {
        let node = filter.read(&mut AvroCursor::new(body));
        let node = node.map_err(|snag| self.unreadable(catalog, snag.words()))?;
        Ok(self.plan.wants(&node, Some(name)))
    }

    /// Takes the frame off a value.
    fn frame<'r>(
        &self,
        value: &'r [u8],
        headers: &[(&str, &[u8])],
    ) -> Result<ReadValue<'r>, RecordFault> {
        let is_json = matches!(self.format, SourceFormat::Json | SourceFormat::JsonSchema);
        match Frame::parse(value, headers.iter().copied()) {
            Ok(frame) if self.format == SourceFormat::Json => Ok(ReadValue::Bare(frame.body)),
            Ok(frame) => Ok(ReadValue::Framed(frame)),
            Err(WireError::Empty) => Err(RecordFault::Frame(WireError::Empty.to_string())),
            Err(_) if is_json => Ok(ReadValue::Bare(value)),
            Err(error) => Err(RecordFault::Frame(error.to_string())),
        }
    }

    fn records(
        &mut self,
        node: DataNode<'_>,
        name: Option<String>,
        record: &RawRecord<'_>,
        catalog: &Catalog,
        at: RowPosition,
        rows: &mut RowBatch,
    ) -> Result<SourceFate, RecordFault> {
        let node = unwrap_payload(node);
        if node.is_null() {
            return Ok(SourceFate::Tombstone);
        }
        let node = self.plan.envelope.with_headers(node, record.headers);
        let mut reading = Reading {
            plan: &self.plan,
            names: &self.names,
            fit: &mut self.fit,
            key: record.key,
            catalog,
            at,
            rows,
        };
        reading.records(&node, name.as_deref())
    }

    fn unreadable(&self, catalog: &Catalog, why: String) -> RecordFault {
        let table = &catalog.table_at(self.plan.table).name;
        RecordFault::Unreadable(format!("table {table}: {why}"))
    }
}

fn hopeless(why: String) -> LearnedSchema {
    LearnedSchema::Hopeless(why.into())
}

fn learn_json(writer: &WriterSchema) -> Result<LearnedSchema, String> {
    let schema: serde_json::Value = serde_json::from_str(&writer.text)
        .map_err(|error| format!("the writer's schema is not a JSON Schema: {error}"))?;
    let title = schema.get("title").and_then(serde_json::Value::as_str);
    Ok(LearnedSchema::Json {
        typing: Typing::of_json_schema(&schema),
        name: title.map(str::to_owned),
    })
}

fn parse_json(body: &[u8]) -> Result<DataNode<'_>, RecordFault> {
    DataNode::json(body).map_err(|error| {
        let is_avro = body.first().is_some_and(|first| *first < b' ');
        let hint = if is_avro {
            "; it begins like a framed record: look at the source's format"
        } else {
            ""
        };
        RecordFault::Frame(format!("the value is not JSON: {error}{hint}"))
    })
}

fn row_fault(error: DecodeError) -> RecordFault {
    let text = error.to_string();
    match error {
        DecodeError::Invalid { .. } => RecordFault::Invalid(text),
        _ => RecordFault::Unreadable(text),
    }
}

/// The numbers of a Protobuf message in the schema header, behind the GUID.
fn message_numbers<'h>(headers: &'h [(&str, &[u8])]) -> Option<&'h [u8]> {
    let (_, value) = headers.iter().find(|(name, _)| *name == SCHEMA_HEADER)?;
    value.get(17..).filter(|numbers| !numbers.is_empty())
}

/// One record on its way into rows.
struct Reading<'s> {
    plan: &'s RowPlan,
    names: &'s ChangeNames,
    fit: &'s mut FitReport,
    /// The record's key.
    key: Option<&'s [u8]>,
    catalog: &'s Catalog,
    at: RowPosition,
    rows: &'s mut RowBatch,
}

impl Reading<'_> {
    /// Appends the rows of a record, or of each record of an array.
    fn records(
        &mut self,
        node: &DataNode<'_>,
        name: Option<&str>,
    ) -> Result<SourceFate, RecordFault> {
        let before = self.rows.len();
        let mut ignored = None;
        let records = match node {
            DataNode::List(items) => items.iter().collect(),
            one => vec![one],
        };
        for record in records {
            match self.record(record, name) {
                Ok(why) => ignored = ignored.or(why),
                Err(fault) => {
                    self.rows.truncate(before);
                    return Err(worded(self.catalog.table_at(self.plan.table), fault));
                }
            }
        }
        Ok(match ignored {
            _ if self.rows.len() > before => SourceFate::Rows,
            Some(why) => SourceFate::Ignored(why),
            None => SourceFate::NotWanted(name.map(str::to_owned)),
        })
    }

    /// Appends the rows of one record. Returns the reason why there are none, if it is the
    /// source's.
    fn record(
        &mut self,
        node: &DataNode<'_>,
        name: Option<&str>,
    ) -> Result<Option<&'static str>, FieldFault> {
        let meant = match meaning(self.plan, self.catalog, node, name)? {
            RecordMeaning::Rows(meant) => meant,
            RecordMeaning::NoRow(why) => return Ok(Some(why)),
            RecordMeaning::Foreign => return Ok(None),
            RecordMeaning::EndsByKey => return self.end_by_key().map(|()| None),
        };
        let (position, known_ms) = (self.at.position, self.at.known_ms);
        meant.try_for_each(|places| {
            let (table, operation) = (self.plan.table, meant.operation);
            let mut row = self
                .rows
                .start(self.catalog, table, operation, position, known_ms);
            let (plan, names, fit) = (self.plan, self.names, &mut *self.fit);
            fill_row(plan, names, self.catalog, places, operation, fit, &mut row)?;
            row.finish();
            Ok(())
        })?;
        Ok(None)
    }
}

impl Reading<'_> {
    /// Ends the row of the record's key: the record says that it ends, and does not hold it.
    fn end_by_key(&mut self) -> Result<(), FieldFault> {
        let framed = FramedKey::of(self.key.unwrap_or_default(), &[]);
        // A framed key is read under its schema with the tombstone that follows the deletion.
        if self.key.is_none_or(<[u8]>::is_empty) || framed.schema.is_some() {
            return Err(FieldFault::without_key());
        }
        let table = self.catalog.table_at(self.plan.table);
        let (position, known_ms) = (self.at.position, self.at.known_ms);
        let (table_id, operation) = (self.plan.table, Operation::Delete);
        let mut row = self
            .rows
            .start(self.catalog, table_id, operation, position, known_ms);
        let set = framed.set(None, self.plan, table, &mut row);
        set.map_err(|_| FieldFault::without_key())?;
        row.finish();
        Ok(())
    }
}

/// A fault in the words of [`DecodeError`].
fn worded(table: &Table, fault: FieldFault) -> RecordFault {
    let FieldFault {
        field,
        expected,
        is_incomplete,
        ..
    } = fault;
    let table = table.name.clone();
    match (is_incomplete, field.is_empty()) {
        (true, false) => RecordFault::Invalid(format!(
            "table {table}, field {field}: {expected}; the producer must fill it"
        )),
        (true, true) => {
            RecordFault::Invalid(format!("table {table}: the record is not {expected}"))
        }
        (false, true) => {
            RecordFault::Unreadable(format!("table {table}: the record is not {expected}"))
        }
        (false, false) => RecordFault::Unreadable(format!(
            "table {table}, field {field}: its value is not {expected}"
        )),
    }
}
