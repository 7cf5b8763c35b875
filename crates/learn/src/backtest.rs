//! Scores as of past moments: for each (timestamp, key) row the probability from what was known then.

use std::io::{Read, Write};

use leadpulse_features::{Scorer, probability};
use leadpulse_graph::{CellRef, EntityId, Tracking};
use leadpulse_model::{BinaryMetrics, RegressionMetrics};
use leadpulse_pql::TargetKind;
use leadpulse_schema::RowBatch;

use crate::collect::apply_some;
use crate::project::{Project, TaskPlan};
use crate::sources::{FileSource, Replay};
use crate::{LearnError, Progress};

/// Cells scored at a time.
const CHUNK_CELLS: usize = 512;

/// Why rows cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// A column is missing.
    #[error("the rows need a column {wanted}; they have {found}")]
    MissingColumn {
        /// What is needed.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// A value cannot be read.
    #[error("line {line}, column {column}: {value:?} is not {expected}")]
    Value {
        /// The line, from 1.
        line: u64,
        /// The column.
        column: String,
        /// The value.
        value: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The table cannot be read or written.
    #[error("the rows cannot be read or written: {0}")]
    Csv(#[from] csv::Error),
    /// Likewise.
    #[error("the rows cannot be written: {0}")]
    Io(#[from] std::io::Error),
}

/// Rows to score, as read.
struct Rows {
    header: csv::StringRecord,
    records: Vec<csv::StringRecord>,
    /// (timestamp, record), by timestamp.
    order: Vec<(i64, usize)>,
    key: usize,
    label: Option<usize>,
}

fn read_rows(rows: impl Read, key_name: &str) -> Result<Rows, RowsError> {
    let mut reader = csv::Reader::from_reader(rows);
    let header = reader.headers()?.clone();
    let find = |names: &[&str]| header.iter().position(|h| names.contains(&h));
    let missing = |wanted: &str| RowsError::MissingColumn { wanted: wanted.into(), found: header.iter().collect::<Vec<_>>().join(", ") };
    let time = find(&["timestamp", "anchor", "as_of"]).ok_or_else(|| missing("timestamp"))?;
    let key = find(&[key_name, "key", "entity_id"]).ok_or_else(|| missing(key_name))?;
    let label = find(&["label"]);
    let mut records = Vec::new();
    let mut order = Vec::new();
    for record in reader.into_records() {
        let record = record?;
        let text = record.get(time).unwrap_or_default();
        let at = leadpulse_schema::parse_time_ms(text).ok_or_else(|| RowsError::Value {
            line: record.position().map_or(0, csv::Position::line),
            column: header.get(time).unwrap_or_default().to_owned(),
            value: text.to_owned(),
            expected: "a time: YYYY-MM-DD, YYYY-MM-DD HH:MM:SS, RFC 3339 or epoch milliseconds",
        })?;
        order.push((at, records.len()));
        records.push(record);
    }
    order.sort_unstable();
    Ok(Rows { header, records, order, key, label })
}

/// What to score with what.
pub struct Backtest<'a> {
    /// The deployment.
    pub project: &'a Project,
    /// The task.
    pub task: &'a TaskPlan,
    /// The files.
    pub sources: &'a [FileSource],
    /// The bundle.
    pub scorer: &'a dyn Scorer,
    /// Nothing known after this moment is used, whatever a row's timestamp; milliseconds.
    pub freeze_at_ms: Option<i64>,
}

/// What a backtest found.
#[derive(Clone, Debug, Default)]
pub struct BacktestReport {
    /// Rows read.
    pub rows: usize,
    /// Rows scored: their entity was known at their timestamp.
    pub scored: usize,
    /// Metrics, when rows carry labels and the target is a condition.
    pub binary: Option<BinaryMetrics>,
    /// Metrics, when rows carry labels and the target is a number.
    pub regression: Option<RegressionMetrics>,
}

/// Scores the rows and writes them, in their order, with a column `probability` appended (empty where the entity was not known yet).
pub fn backtest(
    job: &Backtest<'_>,
    rows: impl Read,
    out: impl Write,
    progress: &mut dyn FnMut(Progress),
) -> Result<BacktestReport, LearnError> {
    let Backtest { project, task, sources, scorer, freeze_at_ms } = *job;
    let table = project.catalog.table_at(task.plan.entity);
    let rows = read_rows(rows, &table.field_at(table.key).name)?;
    let index = scorer.tasks().iter().position(|t| t.name == task.name).ok_or_else(|| LearnError::NoSuchTask {
        task: task.name.clone(),
        known: scorer.tasks().iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", "),
    })?;
    let is_regression = task.plan.target.kind() == TargetKind::Regression;
    let mut replay = Replay::open(project.catalog.clone(), sources)?;
    let mut graph = project.graph(Tracking::Off);
    let mut batch = RowBatch::new();
    let mut predictions: Vec<Option<f64>> = vec![None; rows.records.len()];
    let mut done = 0_u64;
    let mut at = 0;
    while at < rows.order.len() {
        let as_of_ms = rows.order[at].0;
        let end = at + rows.order[at..].partition_point(|(t, _)| *t == as_of_ms);
        // The board of a moment holds what was known at its place on the grid.
        let period = project.graph_options.board_period_ms;
        for until_ms in [as_of_ms.div_euclid(period) * period, as_of_ms] {
            let until_ms = freeze_at_ms.map_or(until_ms, |freeze| until_ms.min(freeze));
            while apply_some(&mut replay, &mut graph, until_ms, &mut batch, |_, _| {})? {
                done += batch.len() as u64;
                progress(Progress::Replay { rows: done, of: 0 });
            }
            graph.advance(until_ms);
        }
        graph.advance(as_of_ms);
        let mut asked: Vec<(CellRef, EntityId, usize)> = rows.order[at..end]
            .iter()
            .filter_map(|(_, record)| {
                let key = rows.records[*record].get(rows.key)?;
                let (cell, node) = graph.find(table.id, key).filter(|(_, node)| node.is_known())?;
                Some((cell, node.entity, *record))
            })
            .collect();
        asked.sort_unstable();
        for chunk in asked.chunks(CHUNK_CELLS) {
            let mut cells: Vec<CellRef> = chunk.iter().map(|(cell, ..)| *cell).collect();
            cells.dedup();
            let features = scorer.plan().encode(&graph, &cells, as_of_ms);
            let logits = scorer.logits(&features, index);
            for (cell, entity, record) in chunk {
                let cell = cells.binary_search(cell).expect("cells were taken from this chunk, in order");
                predictions[*record] = scorer.plan().row_of(&features, table.id, cell, *entity).map(|(row, _)| {
                    let logit = logits[row];
                    if is_regression { logit.signum() * logit.abs().exp_m1() } else { probability(logit) }
                });
            }
        }
        at = end;
    }
    let report = judge(&rows, &predictions, is_regression)?;
    write_rows(&rows, &predictions, out)?;
    Ok(report)
}

fn judge(rows: &Rows, predictions: &[Option<f64>], is_regression: bool) -> Result<BacktestReport, RowsError> {
    let mut report = BacktestReport { rows: predictions.len(), scored: predictions.iter().flatten().count(), ..BacktestReport::default() };
    let Some(label) = rows.label else { return Ok(report) };
    let mut pairs = Vec::new();
    for (record, prediction) in rows.records.iter().zip(predictions) {
        let text = record.get(label).unwrap_or_default();
        let value = match text {
            "true" | "True" => 1.0,
            "false" | "False" => 0.0,
            text => text.parse::<f64>().map_err(|_| RowsError::Value {
                line: record.position().map_or(0, csv::Position::line),
                column: "label".into(),
                value: text.to_owned(),
                expected: "0, 1 or a number",
            })?,
        };
        if let Some(prediction) = prediction {
            pairs.push((*prediction, value));
        }
    }
    let predicted: Vec<f64> = pairs.iter().map(|(p, _)| *p).collect();
    if is_regression {
        report.regression = RegressionMetrics::of(&predicted, &pairs.iter().map(|(_, y)| *y).collect::<Vec<_>>());
    } else {
        report.binary = BinaryMetrics::of(&predicted, &pairs.iter().map(|(_, y)| *y > 0.5).collect::<Vec<_>>());
    }
    Ok(report)
}

fn write_rows(rows: &Rows, predictions: &[Option<f64>], out: impl Write) -> Result<(), RowsError> {
    let mut writer = csv::Writer::from_writer(out);
    let mut header = rows.header.clone();
    header.push_field("probability");
    writer.write_record(&header)?;
    for (record, prediction) in rows.records.iter().zip(predictions) {
        let mut record = record.clone();
        record.push_field(&prediction.map_or(String::new(), |p| p.to_string()));
        writer.write_record(&record)?;
    }
    writer.flush()?;
    Ok(())
}
