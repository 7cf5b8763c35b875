//! Given rows: entities, moments and outcomes from a file, in place of a query's anchors and target.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use leadpulse_history::{FileSource, Files};
use leadpulse_model::{CellStore, Example, ExampleSet, Outcome};
use leadpulse_project::TaskPlan;
use leadpulse_schema::{Catalog, FileOptions, RowBatch};
use serde_json::json;

use crate::collect::{Collected, Harvest, Split, Stored, Wanted, store_cells};
use crate::data_report::DataReport;
use crate::labels::{Seen, Tally, TieShares};
use crate::report::notes::Notes;
use crate::walk::Walk;
use crate::{LearnError, Progress};
use leadpulse_schema::units::AsOf;

/// Rows read at a time.
const BATCH_ROWS: usize = 8192;

/// Names of the columns of given rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenColumns {
    /// The entity's key.
    pub entity: String,
    /// The moment of the example: features are those known then.
    pub time: String,
    /// The outcome: 0, 1, true or false; a number for a regression.
    pub label: String,
    /// A weight of 0 or more; `None` for 1.
    pub weight: Option<String>,
    /// `train` or `validation`; `None` divides by time.
    pub split: Option<String>,
}

/// A row of a file of examples.
#[derive(Clone, Debug, PartialEq)]
pub struct GivenRow {
    pub key: String,
    /// Milliseconds.
    pub at_ms: i64,
    pub label: f64,
    pub weight: f32,
    /// Whether the row is of validation; `None` where time decides.
    pub is_validation: Option<bool>,
}

/// The examples of a file, in order of time.
#[derive(Clone, Debug, PartialEq)]
pub struct GivenRows {
    rows: Vec<GivenRow>,
    path: PathBuf,
}

/// The catalog in which a file of examples is a table.
fn catalog_of(columns: &GivenColumns) -> Catalog {
    let mut fields = vec![
        json!({"name": "entity", "type": "string", "leadpulse": {"key": true}}),
        json!({"name": "time", "type": {"type": "long", "logicalType": "timestamp-millis"},
               "leadpulse": {"time": true}}),
        json!({"name": "label", "type": "string"}),
    ];
    if columns.weight.is_some() {
        fields.push(json!({"name": "weight", "type": "double"}));
    }
    if columns.split.is_some() {
        fields.push(json!({"name": "split", "type": "string"}));
    }
    let schema = json!({"type": "record", "name": "GivenRow", "fields": fields,
                        "leadpulse": {"table": "rows", "role": "root"}});
    let text = schema.to_string();
    Catalog::from_json(&[("rows.avsc", text.as_str())])
        .expect("a root of plain fields is a catalog")
}

impl GivenRows {
    /// Reads a file: delimited text, JSON Lines or Parquet, by its name.
    ///
    /// # Errors
    /// [`LearnError::History`] for a file or row that cannot be read, [`LearnError::Given`] for a
    /// value that means nothing.
    pub fn read(path: &Path, columns: &GivenColumns) -> Result<Self, LearnError> {
        let catalog = Arc::new(catalog_of(columns));
        let table = catalog.root().id;
        let named = [
            (Some(&columns.entity), "entity"),
            (Some(&columns.time), "time"),
            (Some(&columns.label), "label"),
            (columns.weight.as_ref(), "weight"),
            (columns.split.as_ref(), "split"),
        ];
        let mut places = serde_json::Map::new();
        for (column, field) in named {
            if let Some(column) = column.filter(|column| *column != field) {
                places.insert(field.to_owned(), json!(column));
            }
        }
        let shape = serde_json::from_value(json!({ "columns": places }));
        let source = FileSource {
            table,
            path: path.to_owned(),
            options: FileOptions {
                shape: shape.expect("names of columns are a shape"),
                ..FileOptions::default()
            },
            // Every row was chosen by its author: one that cannot be read is a mistake.
            refused_ratio: 0.0,
        };
        let files = Files::prepare(catalog.clone(), &[source])?;
        let mut replay = files.replay()?;
        let mut batch = RowBatch::new();
        let mut rows = Vec::new();
        let field = |name: &str| catalog.root().field(name).map(|field| field.id);
        while replay.read(i64::MAX, BATCH_ROWS, &mut batch)? > 0 {
            for row in batch.iter() {
                let text = |name: &str| field(name).and_then(|field| row.get(field).text());
                let number = |name: &str| field(name).and_then(|field| row.get(field).number());
                let key = row.key();
                rows.push(GivenRow {
                    key: key.to_owned(),
                    at_ms: row.known_ms(),
                    label: label(path, columns, key, text("label").unwrap_or_default())?,
                    weight: weight(path, columns, key, number("weight"))?,
                    is_validation: match text("split") {
                        None => None,
                        Some(split) => Some(is_validation(path, columns, key, split)?),
                    },
                });
            }
            batch.clear();
        }
        rows.sort_by_key(|row| row.at_ms);
        if rows.is_empty() {
            return Err(LearnError::Given(format!("{} has no rows", path.display())));
        }
        Ok(Self {
            rows,
            path: path.to_owned(),
        })
    }

    /// The rows, in order of time.
    pub fn rows(&self) -> &[GivenRow] {
        &self.rows
    }

    /// The split of the rows: validation starts at `val_from_ms`, or with the first row that its
    /// column puts there, or after three quarters of the rows.
    ///
    /// # Errors
    /// [`LearnError::Split`] if one of the parts has no row.
    pub(crate) fn split(&self, val_from_ms: Option<i64>) -> Result<Split, LearnError> {
        let named = self.rows.iter().find(|row| row.is_validation == Some(true));
        let late = &self.rows[self.rows.len() * 3 / 4];
        let val_from_ms = val_from_ms.unwrap_or(named.unwrap_or(late).at_ms);
        let last = self.rows.last().expect("read: there are rows");
        let split = Split {
            val_from_ms,
            test_from_ms: last.at_ms + 1,
        };
        let in_validation = self.rows.iter().filter(|row| row.is_in(split)).count();
        if in_validation == 0 || in_validation == self.rows.len() {
            return Err(LearnError::Split(format!(
                "of the {} rows of {} {in_validation} are of validation; choose --val-from within \
                 their times, or name a column of `train` and `validation` with --split-column",
                self.rows.len(),
                self.path.display()
            )));
        }
        Ok(split)
    }
}

impl GivenRow {
    fn is_in(&self, split: Split) -> bool {
        self.is_validation
            .unwrap_or(self.at_ms >= split.val_from_ms)
    }
}

fn wrong(path: &Path, column: &str, key: &str, value: &str, expected: &str) -> LearnError {
    LearnError::Given(format!(
        "{}, row of {key:?}, column {column:?}: {value:?} is not {expected}",
        path.display()
    ))
}

fn label(path: &Path, columns: &GivenColumns, key: &str, text: &str) -> Result<f64, LearnError> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(1.0),
        "false" => Ok(0.0),
        number => number
            .parse()
            .ok()
            .filter(|x: &f64| x.is_finite())
            .ok_or_else(|| {
                let expected = "0, 1, true, false or a number";
                wrong(path, &columns.label, key, text, expected)
            }),
    }
}

fn weight(
    path: &Path,
    columns: &GivenColumns,
    key: &str,
    weight: Option<f64>,
) -> Result<f32, LearnError> {
    let weight = weight.unwrap_or(1.0);
    if weight >= 0.0 && weight.is_finite() {
        return Ok(weight as f32);
    }
    let column = columns.weight.as_deref().unwrap_or("weight");
    let value = weight.to_string();
    Err(wrong(path, column, key, &value, "a weight of 0 or more"))
}

fn is_validation(
    path: &Path,
    columns: &GivenColumns,
    key: &str,
    split: &str,
) -> Result<bool, LearnError> {
    match split.to_ascii_lowercase().as_str() {
        "train" | "training" => Ok(false),
        "validation" | "val" => Ok(true),
        _ => {
            let column = columns.split.as_deref().unwrap_or("split");
            Err(wrong(path, column, key, split, "train or validation"))
        }
    }
}

/// The outcome of a label for a task.
fn outcome(task: &TaskPlan, label: f64) -> Outcome {
    match task.plan.target.kind() {
        leadpulse_pql::TargetKind::Regression => Outcome::Value(label),
        _ => Outcome::Window(label > 0.5),
    }
}

/// Takes the examples of the given rows. An entity of which nothing is known at its moment gives no
/// example: it counts as asked and dropped.
pub(crate) fn collect_given(
    harvest: &Harvest<'_>,
    given: &GivenRows,
    notes: &mut Notes,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Collected, DataReport), LearnError> {
    let (project, task) = (harvest.project, harvest.tasks[0]);
    let mut store = CellStore::new(harvest.plan.layout());
    let mut stored: Vec<(usize, Stored)> = Vec::new();
    let mut walk = Walk::new(project, harvest.files, i64::MAX)?;
    let numbered: Vec<(usize, &GivenRow)> = given.rows.iter().enumerate().collect();
    for moment in numbered.chunk_by(|a, b| a.1.at_ms == b.1.at_ms) {
        let at_ms = moment[0].1.at_ms;
        walk.reach(at_ms, progress)?;
        let graph = walk.graph();
        let find = |(index, row): &(usize, &GivenRow)| {
            let key = project.catalog.normalised_key(task.plan.entity, &row.key);
            let (at, node) = graph.find(task.plan.entity, &key)?;
            node.is_known().then_some(Wanted {
                at,
                entity: node.entity,
                table: task.plan.entity,
                id: *index,
            })
        };
        let wanted: Vec<Wanted> = moment.iter().filter_map(find).collect();
        for wanted in &wanted {
            notes.note(graph, wanted.entity, at_ms);
        }
        let as_of = AsOf::from_ms(at_ms);
        store_cells(
            (graph, harvest.plan, as_of),
            wanted,
            &mut store,
            |id, cell| {
                stored.push((id, cell));
            },
        );
    }
    let collected = examples(harvest, given, Arc::new(store), &stored);
    Ok((collected, walk.report(harvest.files)))
}

/// Divides the stored cells into the sets of a training.
fn examples(
    harvest: &Harvest<'_>,
    given: &GivenRows,
    store: Arc<CellStore>,
    stored: &[(usize, Stored)],
) -> Collected {
    let task = harvest.tasks[0];
    let empty = || ExampleSet::new(store.clone());
    let mut collected = Collected {
        training: empty(),
        validation: empty(),
        refit: empty(),
        training_tally: Tally::default(),
        validation_tally: Tally::default(),
        ties: TieShares::default(),
    };
    let mut is_found = vec![false; given.rows.len()];
    for (index, cell) in stored {
        let row = &given.rows[*index];
        is_found[*index] = true;
        let outcome = outcome(task, row.label);
        let example = Example {
            row: cell.row,
            slot: cell.slot,
            entity: cell.entity,
            anchor_ms: row.at_ms,
            outcome,
            weight: row.weight,
        };
        let (set, tally) = match row.is_in(harvest.split) {
            false => (&mut collected.training, &mut collected.training_tally),
            true => (&mut collected.validation, &mut collected.validation_tally),
        };
        let seen = Seen::Known {
            outcome,
            label: Some(row.label),
        };
        tally.add(cell.entity, &seen);
        set.push(example);
        collected.refit.push(example);
    }
    for (row, _) in given.rows.iter().zip(is_found).filter(|(_, found)| !found) {
        let tally = match row.is_in(harvest.split) {
            false => &mut collected.training_tally,
            true => &mut collected.validation_tally,
        };
        tally.asked += 1;
        tally.dropped += 1;
    }
    collected
}
