//! A dry run of records against a configuration: each record's row, its owner, its outcome and why.
//!
//! Records take the way of `leadpulse run`: the same decoder, the same graph. Nothing is written,
//! no position is committed. The graph starts empty, or with the files of a data folder; what
//! depends on rows that were not read (duplicates, deletions, late events) is judged by what was.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use prometheus::Registry;
use serde::Serialize;
use serde_json::{Value as Json, json};

use leadpulse_engine::ports::{
    InputPartition, NextOffset, PollLimit, PortCause, PortError, RecordBatch, SchemaStore, Source,
};
use leadpulse_engine::{Decoded, Decoders, SchemaVerdicts, outcome_in_words, retry};
use leadpulse_graph::{Graph, RowOutcome, Tracking, owner_of};
use leadpulse_history::{FileSource, Replay};
use leadpulse_kafka::{KafkaMetrics, KafkaSource};
use leadpulse_project::Project;
use leadpulse_schema::{
    Catalog, FileReader, Operation, Role, Row, RowBatch, RowFit, TableId, Value,
};

use crate::clock::SystemClock;
use crate::error::DeployError;
use crate::loaded::Loaded;
use crate::ports::WithinLimit;

/// Wait of a poll while nothing arrives.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// Bytes of records that one dry run reads from a topic at most.
const TOPIC_BYTES: usize = 256 << 20;
/// Pause before writer schemas that were asked for are looked for again.
const SCHEMA_PAUSE: Duration = Duration::from_millis(50);
/// The case of a record that no source wants.
const FILTERED: &str = "the filter of no source of the topic lets it through";
/// The case of a record that gives no row.
const NO_ROW: &str = "it concerns no row, such as a message in a change log";
/// Rows of history applied at a time.
const HISTORY_ROWS: usize = 8192;

/// The outcome of one record of a dry run.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The record's place: topic, partition and offset, or file and row.
    pub place: String,
    /// The record's table.
    pub table: String,
    /// Code of the outcome: that of a row, the reason of a dead letter, `waits` or `bad_row`.
    pub outcome: String,
    /// True if the record would be a dead letter, or a file's row would be passed over.
    pub is_refused: bool,
    /// The outcome in words.
    pub why: String,
    /// The row as read; `None` where the record is none.
    pub row: Option<RowShown>,
}

/// A row as it was read.
#[derive(Clone, Debug, Serialize)]
pub struct RowShown {
    /// `upsert`, `delete`, `retract` or `gap`.
    pub operation: &'static str,
    /// The key or event id.
    pub key: String,
    /// Event time; the known time in tables without one.
    pub event_time: String,
    /// Known time.
    pub known_time: String,
    /// The entity that the row belongs to, for people.
    pub owner: String,
    /// Names and values of the fields, in the table's order; times as text. A change record has
    /// only those that it changes.
    pub fields: Vec<(String, Json)>,
}

/// Counts of a dry run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ValidationSummary {
    /// Records judged.
    pub records: u64,
    /// Records that would be dead letters, and rows of files that would be passed over.
    pub refused: u64,
    /// Records by outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// By table: fields that had a value in no row.
    pub never_fed: BTreeMap<String, Vec<String>>,
    /// Sentences about references that often find nobody and values that are often undeclared,
    /// in the records and the history they were judged with.
    pub remarks: Vec<String>,
}

/// Judges records, one after the other.
pub struct Validator {
    project: Project,
    graph: Graph,
    decoders: Decoders,
    schemas: Arc<dyn SchemaStore>,
    /// Limit of the wait for writer schemas.
    patience: Duration,
    summary: ValidationSummary,
    /// By table and field: rows with a value.
    fed: BTreeMap<String, Vec<u64>>,
    fit: RowFit,
}

impl Validator {
    /// A validator with an empty graph, or with the rows of the files in `data`.
    ///
    /// # Errors
    /// A configuration, schemas or files that cannot be read.
    pub fn new(
        loaded: &Loaded,
        schemas: Arc<dyn SchemaStore>,
        data: Option<&Path>,
    ) -> Result<Self, DeployError> {
        let project = loaded.project()?;
        let mut graph = project.graph(Tracking::Off);
        let mut fit = RowFit::new(&project.catalog);
        if let Some(data) = data {
            let sources = loaded.files(&project.catalog, data)?;
            let mut history = Replay::open(project.catalog.clone(), &sources)?;
            let mut batch = RowBatch::new();
            while history.read(i64::MAX, HISTORY_ROWS, &mut batch)? > 0 {
                graph.apply(&batch, None);
                let catalog = &project.catalog;
                batch.iter().for_each(|row| fit.observe(catalog, row));
                batch.clear();
            }
        }
        // A validator of files needs no topic.
        let has_topic = loaded.config.sources.iter().any(|s| s.topic.is_some());
        let topics = match has_topic {
            true => loaded.topics(&project.catalog)?,
            false => Vec::new(),
        };
        Ok(Self {
            graph,
            project,
            decoders: Decoders::default().with_topics(topics),
            schemas,
            patience: Duration::from_millis(loaded.config.kafka.request_timeout_ms),
            summary: ValidationSummary::default(),
            fed: BTreeMap::new(),
            fit,
        })
    }

    /// The tables and options that records are judged by.
    pub fn project(&self) -> &Project {
        &self.project
    }

    /// Judges records of input partitions, by partition and offset, as one epoch would. `clock_ms`
    /// bounds the future; `None` where the configuration does not look at the clock.
    pub fn records(
        &mut self,
        batch: &RecordBatch,
        partitions: &[InputPartition],
        clock_ms: Option<i64>,
    ) -> Vec<Verdict> {
        let decoded = self.decode(batch, partitions);
        let mut verdicts: Vec<(u32, i64, Verdict)> = Vec::with_capacity(batch.len());
        for (row, index) in decoded.rows.iter().zip(&decoded.records) {
            let record = batch.record(*index as usize);
            let place = place(&partitions[record.partition() as usize], record.offset());
            let verdict = self.row(place, row, clock_ms);
            verdicts.push((record.partition(), record.offset(), verdict));
        }
        for (index, reason, message) in &decoded.dead {
            let record = batch.record(*index as usize);
            let input = &partitions[record.partition() as usize];
            let verdict = self.refused(input, record.offset(), reason.code(), message);
            verdicts.push((record.partition(), record.offset(), verdict));
        }
        let without_row = [
            (&decoded.filtered, "filtered", FILTERED),
            (&decoded.ignored, "no_row", NO_ROW),
        ];
        for (indices, outcome, why) in without_row {
            for index in indices {
                let record = batch.record(*index as usize);
                let input = &partitions[record.partition() as usize];
                let verdict = self.without_row(input, record.offset(), outcome, why);
                verdicts.push((record.partition(), record.offset(), verdict));
            }
        }
        for record in batch.iter() {
            let (partition, offset) = (record.partition(), record.offset());
            let mut blocked = decoded.blocked.iter();
            let blocked = blocked.find(|b| b.partition == partition && offset >= b.offset);
            if let Some(blocked) = blocked {
                let input = &partitions[partition as usize];
                let verdict = self.refused(input, offset, "waits", &blocked.reason);
                verdicts.push((partition, offset, verdict));
            }
        }
        verdicts.sort_by_key(|(partition, offset, _)| (*partition, *offset));
        let verdicts = verdicts.into_iter().map(|(_, _, verdict)| verdict);
        let verdicts: Vec<Verdict> = verdicts.collect();
        verdicts.iter().for_each(|verdict| self.count(verdict));
        verdicts
    }

    /// Judges the rows of a file, one after the other. They are measured against their own known
    /// time, as history is.
    ///
    /// # Errors
    /// A file that cannot be read on.
    pub fn file(
        &mut self,
        source: &FileSource,
        each: &mut dyn FnMut(Verdict),
    ) -> Result<(), DeployError> {
        let catalog = self.project.catalog.clone();
        let table = catalog.table_at(source.table).name.clone();
        let options = source.options.clone();
        let mut reader = FileReader::open(&source.path, catalog, source.table, options)?;
        for number in 1_u64.. {
            let place = format!("{} row {number}", source.path.display());
            let mut batch = RowBatch::new();
            let verdict = match reader.read(&mut batch, 1) {
                Ok(0) => break,
                Ok(_) => {
                    // A record may hold several rows; those but the first are judged here.
                    let first = self.row(place.clone(), batch.row(0), None);
                    for row in batch.iter().skip(1) {
                        let verdict = self.row(place.clone(), row, None);
                        self.count(&verdict);
                        each(verdict);
                    }
                    first
                }
                Err(error) if error.is_row() => Verdict {
                    place,
                    table: table.clone(),
                    outcome: "bad_row".to_owned(),
                    is_refused: true,
                    why: error.to_string(),
                    row: None,
                },
                Err(error) => return Err(error.into()),
            };
            self.count(&verdict);
            each(verdict);
        }
        Ok(())
    }

    /// The counts of everything judged so far.
    pub fn summary(mut self) -> ValidationSummary {
        for (table, fed) in &self.fed {
            let Some(table) = self.project.catalog.table(table) else {
                continue;
            };
            let unfed = table.fields.iter().zip(fed).filter(|(_, rows)| **rows == 0);
            let names: Vec<String> = unfed.map(|(field, _)| field.name.clone()).collect();
            if !names.is_empty() {
                self.summary.never_fed.insert(table.name.clone(), names);
            }
        }
        self.summary.remarks = self.fit.remarks(&self.project.catalog, false);
        self.summary
    }

    /// Decodes as the engine does, and waits for writer schemas that a registry is asked for.
    fn decode(&mut self, batch: &RecordBatch, partitions: &[InputPartition]) -> Decoded {
        let started = Instant::now();
        loop {
            let decoded = self.decoders.decode(
                batch,
                partitions,
                &self.project.catalog,
                self.schemas.as_ref(),
                SchemaVerdicts::Store,
            );
            if decoded.blocked.is_empty() || started.elapsed() >= self.patience {
                return decoded;
            }
            std::thread::sleep(SCHEMA_PAUSE);
        }
    }

    /// Applies one row to the graph, and describes what came of it.
    fn row(&mut self, place: String, row: Row<'_>, clock_ms: Option<i64>) -> Verdict {
        let catalog = self.project.catalog.clone();
        let table = catalog.table_at(row.table());
        let was_known = self
            .graph
            .find(row.table(), row.key())
            .is_some_and(|(_, node)| node.is_known());
        let mut one = RowBatch::new();
        one.push_copy(&catalog, row);
        let outcome = self.graph.apply(&one, clock_ms)[0];
        self.fit.observe(&catalog, row);
        let why = match outcome_in_words(outcome) {
            Some(words) => words.to_owned(),
            None => accepted_in_words(table.role, row.operation(), outcome, was_known).to_owned(),
        };
        let fed = self
            .fed
            .entry(table.name.clone())
            .or_insert_with(|| vec![0; table.fields.len()]);
        if !matches!(row.operation(), Operation::Delete | Operation::Gap) {
            for (field, rows) in table.fields.iter().zip(fed) {
                *rows += u64::from(!row.get(field.id).is_null());
            }
        }
        Verdict {
            place,
            table: table.name.clone(),
            outcome: outcome.code().to_owned(),
            is_refused: matches!(outcome, RowOutcome::Late | RowOutcome::Future),
            why,
            row: Some(self.shown(row)),
        }
    }

    fn shown(&self, row: Row<'_>) -> RowShown {
        let table = self.project.catalog.table_at(row.table());
        let field = |field: &leadpulse_schema::Field| (field.name.clone(), json(row.get(field.id)));
        // A change leaves the other fields as they are.
        let is_said = |field: &&leadpulse_schema::Field| !row.is_unchanged(field.id);
        RowShown {
            operation: match row.operation() {
                Operation::Upsert => "upsert",
                Operation::Delete => "delete",
                Operation::Retract => "retract",
                Operation::Gap => "gap",
            },
            key: row.key().to_owned(),
            event_time: moment(row.event_ms()),
            known_time: moment(row.known_ms()),
            owner: self.owner(row),
            fields: table.fields.iter().filter(is_said).map(field).collect(),
        }
    }

    /// The entity that a row belongs to: the owner of an event, the root of an entity.
    fn owner(&self, row: Row<'_>) -> String {
        let catalog = &self.project.catalog;
        let name = |table: TableId, key: &str| format!("{} {key}", catalog.table_at(table).name);
        if catalog.table_at(row.table()).role == Role::Event {
            let Some((table, key)) = owner_of(catalog, row) else {
                return "nothing: every owner is null".to_owned();
            };
            let found = self.graph.find(table, key);
            let is_known = found.is_some_and(|(_, node)| node.is_known());
            let remark = if is_known {
                ""
            } else {
                ", of which no row was read"
            };
            return format!("{}{remark}", name(table, key));
        }
        let Some((cell, _)) = self.graph.find(row.table(), row.key()) else {
            return "nothing: it is in no account".to_owned();
        };
        let directory = self.graph.directory();
        let anchor = self.graph.cell(cell).anchor;
        let key = directory.key(anchor);
        match directory.table(anchor) {
            Some(table) if table == row.table() && **key == *row.key() => {
                "itself: it names no owner that is known".to_owned()
            }
            Some(table) => name(table, key),
            None => format!("the domain {key}, which no account has yet"),
        }
    }

    fn refused(
        &self,
        input: &InputPartition,
        offset: i64,
        outcome: &str,
        message: &str,
    ) -> Verdict {
        Verdict {
            place: place(input, offset),
            table: self.tables_of(input),
            outcome: outcome.to_owned(),
            is_refused: true,
            why: message.to_owned(),
            row: None,
        }
    }

    /// The tables of a partition's records, for people.
    fn tables_of(&self, input: &InputPartition) -> String {
        let name = |table: &TableId| self.project.catalog.table_at(*table).name.as_str();
        input.tables.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    /// The verdict on a record that gives no row and is no dead letter.
    fn without_row(
        &self,
        input: &InputPartition,
        offset: i64,
        outcome: &str,
        why: &str,
    ) -> Verdict {
        Verdict {
            is_refused: false,
            ..self.refused(input, offset, outcome, why)
        }
    }

    fn count(&mut self, verdict: &Verdict) {
        self.summary.records += 1;
        self.summary.refused += u64::from(verdict.is_refused);
        *self
            .summary
            .outcomes
            .entry(verdict.outcome.clone())
            .or_default() += 1;
    }
}

/// The newest records of a topic's partitions, about `last` of each, as a reader of committed
/// records sees them.
///
/// # Errors
/// A topic that is no source's, a cluster that does not answer.
pub fn newest_records(
    loaded: &Loaded,
    catalog: &Catalog,
    topic: &str,
    last: usize,
) -> Result<(RecordBatch, Vec<InputPartition>), DeployError> {
    let mut inputs = loaded.inputs(catalog)?;
    let known: Vec<String> = inputs.iter().map(|input| input.topic.clone()).collect();
    inputs.retain(|input| input.topic == topic);
    if inputs.is_empty() {
        return Err(DeployError::NoSource {
            topic: topic.to_owned(),
            known: known.join(", "),
        });
    }
    let options = &loaded.config.kafka;
    let limit = WithinLimit::of(options);
    let metrics = KafkaMetrics::register(&Registry::new())?;
    let mut source = retry(&SystemClock, &limit, || {
        KafkaSource::open(options, &inputs, &metrics)
    })?;
    let partitions = source.partitions().to_vec();
    let starts = retry(&SystemClock, &limit, || source.starts())?;
    let ends = retry(&SystemClock, &limit, || source.ends())?;
    let ends: Vec<NextOffset> = ends.into_iter().map(|end| end.stable).collect();
    let from = starts.iter().zip(&ends);
    let from: Vec<NextOffset> = from
        .map(|(start, end)| NextOffset(start.0.max(end.0.saturating_sub(last as i64))))
        .collect();
    source.seek(&from)?;
    let mut batch = RecordBatch::default();
    let mut quiet_since = Instant::now();
    while !has_reached(&source.read_to()?, &ends) && batch.bytes() < TOPIC_BYTES {
        let before = batch.len();
        let room = PollLimit {
            records: 10_000,
            bytes: TOPIC_BYTES - batch.bytes(),
        };
        source.poll(&mut batch, room, POLL_WAIT)?;
        if batch.len() > before {
            quiet_since = Instant::now();
        } else if quiet_since.elapsed() >= Duration::from_millis(options.request_timeout_ms) {
            return Err(PortError::fatal(
                PortCause::NoAnswer,
                format!("kafka: reading '{topic}': nothing arrives; is a partition damaged?"),
            )
            .into());
        }
    }
    // Records that came after the look at the ends are not asked for.
    batch.retain(|record| record.offset() < ends[record.partition() as usize].0);
    Ok((batch, partitions))
}

fn has_reached(read_to: &[NextOffset], ends: &[NextOffset]) -> bool {
    read_to.iter().zip(ends).all(|(at, end)| at >= end)
}

fn place(input: &InputPartition, offset: i64) -> String {
    format!("{}/{}@{offset}", input.topic, input.partition)
}

/// The effect of a row that was taken or repeated.
fn accepted_in_words(
    role: Role,
    operation: Operation,
    outcome: RowOutcome,
    was_known: bool,
) -> &'static str {
    match (role, operation, outcome) {
        (_, Operation::Delete, RowOutcome::Duplicate) => "deleted before",
        (_, _, RowOutcome::Duplicate) => "the id was there before",
        (_, Operation::Delete, _) => "deletes what the key holds",
        (_, Operation::Retract, _) => "takes the event of its id back",
        (_, Operation::Gap, _) => "says that changes of its key are missing",
        (Role::Event, ..) => "a new event of its owner",
        (Role::Hub, ..) => "describes a hub",
        (Role::Staff, ..) => "describes a person of the own company",
        _ if was_known => "replaces the version before",
        _ => "the first version of its key",
    }
}

fn json(value: Value<'_>) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(truth) => json!(truth),
        Value::Long(number) => json!(number),
        Value::Double(number) => json!(number),
        Value::Time(ms) => json!(moment(ms)),
        Value::Text(text) => json!(text),
        Value::List(items) => json!(items.iter().collect::<Vec<_>>()),
    }
}

/// A moment in RFC 3339; milliseconds where the calendar ends.
fn moment(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| at.to_string())
}
