//! Questions about rows that never came: the score that an entity would have if they did.

use leadpulse_schema::{
    Catalog, DataType, Field, Operation, Position, Role, RowBatch, RowBuilder, Table, Value,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::explain::ExplainRefusal;

/// Most rows of one question.
pub const MOST_TRIED_ROWS: usize = 50;

/// The place of rows that never came: a partition that no worker reads, by which nothing is late.
const NOWHERE: Position = Position {
    partition: u32::MAX,
    offset: 0,
};

/// A question: rows of the account or its members, and events, as if they came now or later.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhatIf {
    /// Rows, in any order: those of one moment in the order of the list.
    pub rows: Vec<TriedRow>,
    /// The moment to score at, milliseconds; without one, the newest event of the rows, at least the
    /// moment of the worker's state.
    #[serde(default)]
    pub as_of: Option<i64>,
}

/// A row that never came.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TriedRow {
    /// Name of the table: root, member or event.
    pub table: String,
    /// Values by name of the field. Of an entity that is known, fields that are not named stay as they
    /// are. An event without a key gets one, a row without a time the moment of the worker's state.
    /// Times are milliseconds since 1970 UTC. Amounts are of the deployment's currency.
    pub fields: Map<String, Json>,
}

/// Reasons why a question about rows has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhatIfRefusal {
    /// The entity or task of the question has none.
    #[error(transparent)]
    Subject(#[from] ExplainRefusal),
    /// The rows do not fit.
    #[error("row {row} of the question: {fault}")]
    Row {
        /// Place of the row in the question, from 1.
        row: usize,
        /// The fault, in words.
        fault: String,
    },
    /// No rows, or too many.
    #[error("a question has 1 to {MOST_TRIED_ROWS} rows, this one has {0}")]
    Count(usize),
    /// The moment lies before the state, or more than a year ahead.
    #[error(
        "the moment to score at is {as_of}, and has to be between {from} and {to}: of this worker, and at most a year ahead, milliseconds"
    )]
    Moment { as_of: i64, from: i64, to: i64 },
}

/// The answer: the score now, and with the rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WhatIfAnswer {
    pub task: String,
    pub entity_type: String,
    pub entity_id: String,
    /// Grade of the model for the task; null for a bundle without one.
    pub quality: Option<String>,
    /// The score as of the worker's state.
    pub now: TriedScore,
    /// The score with the rows, at the moment that was asked for.
    pub then: TriedScore,
    /// Contributions of each group that has one, strongest change first; empty unless both scores are
    /// there.
    pub groups: Vec<GroupMove>,
    /// Bands that are entered or left between the two, lowest first; empty unless both scores are there.
    pub crossings: Vec<BandCrossing>,
}

/// A score of a question.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TriedScore {
    /// Moment, milliseconds.
    pub as_of: i64,
    pub logit: Option<f64>,
    pub probability: Option<f64>,
    /// The highest band whose entry the probability reaches; null below all.
    pub band: Option<String>,
    /// The reason for which there is no score, in words; null with one.
    pub absent: Option<String>,
}

/// The change of an explanation group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupMove {
    /// Code of the group.
    pub group: String,
    /// Name of the group for people.
    pub label: String,
    /// Contribution now, logits.
    pub now: f64,
    /// Contribution with the rows, logits.
    pub then: f64,
}

/// A band that is entered or left.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BandCrossing {
    pub band: String,
    /// True if the probability reaches the band's entry, false if it falls below its exit.
    pub is_entered: bool,
    /// That entry or exit.
    pub threshold: f64,
}

/// Rows of a question by their moments, ascending.
pub(crate) struct TriedRows {
    pub moments: Vec<TriedMoment>,
}

/// The rows of one moment.
pub(crate) struct TriedMoment {
    pub at_ms: i64,
    pub rows: RowBatch,
    /// Places of the rows in the question, from 1.
    pub places: Vec<usize>,
}

impl WhatIf {
    /// The rows of the catalog's tables, those without a time at `now_ms`.
    ///
    /// # Errors
    /// The first row that fits no table.
    pub(crate) fn rows(&self, catalog: &Catalog, now_ms: i64) -> Result<TriedRows, WhatIfRefusal> {
        if !(1..=MOST_TRIED_ROWS).contains(&self.rows.len()) {
            return Err(WhatIfRefusal::Count(self.rows.len()));
        }
        let mut ordered = Vec::new();
        for (index, row) in self.rows.iter().enumerate() {
            let place = index + 1;
            let refused = |fault| WhatIfRefusal::Row { row: place, fault };
            let table = tried_table(catalog, &row.table).map_err(refused)?;
            let at_ms = row_moment(table, row, now_ms).map_err(refused)?;
            ordered.push((at_ms, place, table.id, row));
        }
        // Stable: rows of one moment keep their order.
        ordered.sort_by_key(|(at_ms, ..)| *at_ms);
        let mut moments: Vec<TriedMoment> = Vec::new();
        for (at_ms, place, table, row) in ordered {
            if moments.last().is_none_or(|last| last.at_ms != at_ms) {
                moments.push(TriedMoment {
                    at_ms,
                    rows: RowBatch::new(),
                    places: Vec::new(),
                });
            }
            let moment = moments.last_mut().expect("one was just added");
            let table = catalog.table_at(table);
            let known_ms = at_ms.max(now_ms);
            let (operation, position) = (Operation::Upsert, NOWHERE);
            let batch = &mut moment.rows;
            let mut builder = batch.start(catalog, table.id, operation, position, known_ms);
            fill(&mut builder, table, row, (at_ms, place))
                .map_err(|fault| WhatIfRefusal::Row { row: place, fault })?;
            builder.finish();
            moment.places.push(place);
        }
        Ok(TriedRows { moments })
    }
}

/// The table of a row.
fn tried_table<'c>(catalog: &'c Catalog, name: &str) -> Result<&'c Table, String> {
    let is_tried = |table: &&Table| matches!(table.role, Role::Root | Role::Member | Role::Event);
    let found = catalog.table(name).filter(is_tried);
    found.ok_or_else(|| {
        let names = catalog.tables.iter().filter(is_tried);
        let names: Vec<&str> = names.map(|table| table.name.as_str()).collect();
        format!(
            "\"{name}\" is no table of entities or events: name one of {}",
            names.join(", ")
        )
    })
}

/// The moment of a row: its time, else that of the state.
fn row_moment(table: &Table, row: &TriedRow, now_ms: i64) -> Result<i64, String> {
    let given = table.time.map(|time| &table.field_at(time).name);
    match given.and_then(|name| Some((name, row.fields.get(name)?))) {
        None | Some((_, Json::Null)) => Ok(now_ms),
        Some((name, value)) => {
            let at_ms = value.as_i64();
            at_ms.ok_or_else(|| format!("{name} is {value}, not a time in milliseconds since 1970"))
        }
    }
}

/// Sets the fields of a row.
fn fill(
    builder: &mut RowBuilder<'_>,
    table: &Table,
    row: &TriedRow,
    (at_ms, place): (i64, usize),
) -> Result<(), String> {
    for name in row.fields.keys() {
        if table.field(name).is_none() {
            return Err(format!("{} has no field \"{name}\"", table.name));
        }
    }
    for field in &table.fields {
        match row.fields.get(&field.name) {
            Some(value) if !value.is_null() => set(builder, field, value)?,
            Some(_) if !field.nullable => return Err(format!("{} cannot be null", field.name)),
            Some(_) => {}
            None if table.is_entity() => builder.set_unchanged(field.id),
            None if field.data_type == DataType::Bool && !field.nullable => {
                builder.set(field.id, Value::Bool(false));
            }
            None => {}
        }
    }
    if let Some(time) = table.time {
        builder.set(time, Value::Time(at_ms));
    }
    let key = &table.field_at(table.key).name;
    match (row.fields.contains_key(key), table.role) {
        (true, _) => {}
        (false, Role::Event) => {
            let made = format!("what-if-{place}");
            builder.set(table.key, Value::Text(&made));
        }
        (false, _) => return Err(format!("a row of {} needs its key, {key}", table.name)),
    }
    Ok(())
}

/// Sets a field to a value that is not null.
fn set(builder: &mut RowBuilder<'_>, field: &Field, value: &Json) -> Result<(), String> {
    let unfit = |what: &str| format!("{} is {value}, and has to be {what}", field.name);
    match &field.data_type {
        DataType::Bool => {
            let value = value.as_bool().ok_or_else(|| unfit("true or false"))?;
            builder.set(field.id, Value::Bool(value));
        }
        DataType::Long => {
            let value = value.as_i64().ok_or_else(|| unfit("a whole number"))?;
            builder.set(field.id, Value::Long(value));
        }
        DataType::Double => {
            let value = value.as_f64().ok_or_else(|| unfit("a number"))?;
            builder.set(field.id, Value::Double(value));
        }
        DataType::Time => {
            let time_ms = value.as_i64();
            let time_ms = time_ms.ok_or_else(|| unfit("a time in milliseconds since 1970"))?;
            builder.set(field.id, Value::Time(time_ms));
        }
        DataType::Text => {
            let text = value.as_str().ok_or_else(|| unfit("a text"))?;
            builder.set(field.id, Value::Text(&field.normalised(text)));
        }
        DataType::Symbol(symbols) => {
            let text = value
                .as_str()
                .filter(|text| symbols.iter().any(|s| s == text));
            let text = text.ok_or_else(|| unfit(&format!("one of {}", symbols.join(", "))))?;
            builder.set(field.id, Value::Text(text));
        }
        DataType::TextList => {
            let items = value.as_array().map(|items| items.iter().map(Json::as_str));
            let texts: Option<Vec<&str>> = items.and_then(Iterator::collect);
            let texts = texts.ok_or_else(|| unfit("a list of texts"))?;
            let texts: Vec<_> = texts.iter().map(|text| field.normalised(text)).collect();
            builder.set_list(field.id, texts.iter().map(|text| &**text));
        }
    }
    Ok(())
}
