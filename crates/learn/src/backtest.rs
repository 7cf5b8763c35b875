//! Scores as of past moments: for each (timestamp, key) row the probability from what was known
//! then.

use std::io::{Read, Write};

use leadpulse_features::Scorer;
use leadpulse_graph::EntityId;

use crate::data_report::DataReport;
use crate::predict::{Ask, Bound, TaskJudgement, predict};
use crate::report::Baselines;
use crate::report::notes::Notes;
use crate::report::rows::EvaluatedRow;
use crate::walk::Walk;
use crate::{LearnError, Progress};
use leadpulse_history::Files;
use leadpulse_project::{Project, TaskPlan};
use leadpulse_schema::units::AsOf;

/// A fault of the rows to score.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// A column is missing.
    #[error("the rows need a column {wanted}; they have {found}")]
    MissingColumn {
        /// The columns that are needed.
        wanted: String,
        /// The columns that the header has.
        found: String,
    },
    /// A value cannot be read.
    #[error("line {line}, column {column}: {value:?} is not {expected}")]
    Value {
        /// The line, from 1.
        line: u64,
        column: String,
        value: String,
        /// The expected value, for people.
        expected: String,
    },
    /// The table cannot be read or written.
    #[error("the rows cannot be read or written: {0}")]
    Csv(#[from] csv::Error),
    #[error("the rows cannot be written: {0}")]
    Io(#[from] std::io::Error),
}

/// A row to score.
struct Asked {
    record: csv::StringRecord,
    at_ms: i64,
    task: usize,
    key: usize,
    label: Option<f64>,
}

/// Rows to score, as read.
struct Rows {
    header: csv::StringRecord,
    rows: Vec<Asked>,
}

/// The columns of the rows to score, by index.
struct Columns {
    header: csv::StringRecord,
    time: usize,
    /// `None` where one task is asked for.
    task: Option<usize>,
    /// By task; `None` for a task whose key no column has, which is a fault once a row is of it.
    keys: Vec<Option<usize>>,
    label: Option<usize>,
}

/// The column of a task's keys.
fn key_name<'a>(project: &'a Project, task: &TaskPlan) -> &'a str {
    let table = project.catalog.table_at(task.plan.entity);
    &table.field_at(table.key).name
}

impl Columns {
    fn of(
        header: csv::StringRecord,
        project: &Project,
        tasks: &[&TaskPlan],
    ) -> Result<Self, RowsError> {
        let find = |names: &[&str]| header.iter().position(|h| names.contains(&h));
        let missing = |wanted: &str| missing(&header, wanted);
        let time = find(&["timestamp", "anchor", "as_of"]).ok_or_else(|| missing("timestamp"))?;
        let task = match tasks {
            [_] => None,
            _ => Some(find(&["task"]).ok_or_else(|| missing("task (or a single --task)"))?),
        };
        let keys = tasks
            .iter()
            .map(|task| find(&[key_name(project, task), "key", "entity_id"]))
            .collect();
        let label = find(&["label"]);
        Ok(Self {
            time,
            task,
            keys,
            label,
            header,
        })
    }

    fn wrong(&self, record: &csv::StringRecord, column: usize, expected: String) -> RowsError {
        RowsError::Value {
            line: record.position().map_or(0, csv::Position::line),
            column: self.header.get(column).unwrap_or_default().to_owned(),
            value: record.get(column).unwrap_or_default().to_owned(),
            expected,
        }
    }

    /// The index of a row's task.
    fn task(&self, record: &csv::StringRecord, tasks: &[&TaskPlan]) -> Result<usize, RowsError> {
        let Some(column) = self.task else {
            return Ok(0);
        };
        let name = record.get(column).unwrap_or_default();
        let found = tasks.iter().position(|task| task.name == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
            let expected = format!("a task asked for: {}", names.join(", "));
            self.wrong(record, column, expected)
        })
    }

    /// The label of a row; `None` without a column of labels.
    fn label(&self, record: &csv::StringRecord) -> Result<Option<f64>, RowsError> {
        let Some(column) = self.label else {
            return Ok(None);
        };
        match record.get(column).unwrap_or_default() {
            "true" | "True" => Ok(Some(1.0)),
            "false" | "False" => Ok(Some(0.0)),
            number => match number.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(self.wrong(record, column, "0, 1 or a number".into())),
            },
        }
    }
}

fn missing(header: &csv::StringRecord, wanted: &str) -> RowsError {
    RowsError::MissingColumn {
        wanted: wanted.into(),
        found: header.iter().collect::<Vec<_>>().join(", "),
    }
}

fn read_rows(rows: impl Read, project: &Project, tasks: &[&TaskPlan]) -> Result<Rows, RowsError> {
    let mut reader = csv::Reader::from_reader(rows);
    let columns = Columns::of(reader.headers()?.clone(), project, tasks)?;
    let mut found = Vec::new();
    for record in reader.into_records() {
        let record = record?;
        let task = columns.task(&record, tasks)?;
        let time = record.get(columns.time).unwrap_or_default();
        let at_ms = leadpulse_schema::parse_time_ms(time).ok_or_else(|| {
            let expected =
                "a time: YYYY-MM-DD, YYYY-MM-DD HH:MM:SS, RFC 3339 or epoch milliseconds";
            columns.wrong(&record, columns.time, expected.into())
        })?;
        let key = columns.keys[task]
            .ok_or_else(|| missing(&columns.header, key_name(project, tasks[task])))?;
        let label = columns.label(&record)?;
        found.push(Asked {
            at_ms,
            task,
            key,
            label,
            record,
        });
    }
    Ok(Rows {
        header: columns.header,
        rows: found,
    })
}

/// The job of a backtest: a bundle, and the part of the files that it scores.
pub struct Backtest<'a> {
    pub project: &'a Project,
    /// The tasks. With several, the rows say in a column `task` which they are of.
    pub tasks: &'a [&'a TaskPlan],
    pub files: &'a Files,
    pub scorer: &'a dyn Scorer,
    /// Nothing known after this moment is used, whatever a row's timestamp; milliseconds.
    pub freeze_at_ms: Option<i64>,
    /// What the report compares the scores with.
    pub baselines: Baselines<'a>,
}

/// The findings of a backtest of given rows.
#[derive(Clone, Debug)]
pub struct Backtested {
    /// Per task, in the order of the job.
    pub tasks: Vec<TaskJudgement>,
    /// What became of the rows of the files.
    pub data: DataReport,
}

/// Scores the rows and writes them, in their order, with a column `probability` appended (empty
/// where the entity was not known yet). Judges the tasks, where rows carry labels.
pub fn backtest(
    job: &Backtest<'_>,
    rows: impl Read,
    out: impl Write,
    progress: &mut dyn FnMut(Progress),
) -> Result<Backtested, LearnError> {
    let Backtest {
        project,
        tasks,
        files,
        scorer,
        freeze_at_ms,
        baselines,
    } = *job;
    let notes = tasks
        .iter()
        .map(|task| Notes::new(project, task, baselines.existing_score));
    let mut notes: Vec<Notes> = notes.collect::<Result<_, _>>()?;
    let bound = tasks
        .iter()
        .map(|task| Bound::new(scorer, task))
        .collect::<Result<Vec<_>, _>>()?;
    let rows = read_rows(rows, project, tasks)?;
    let mut order: Vec<usize> = (0..rows.rows.len()).collect();
    order.sort_by_key(|row| rows.rows[*row].at_ms);
    let mut walk = Walk::new(project, files, freeze_at_ms.unwrap_or(i64::MAX))?;
    let mut scores = Scores {
        predictions: vec![None; rows.rows.len()],
        entities: vec![None; rows.rows.len()],
    };
    for moment in order.chunk_by(|a, b| rows.rows[*a].at_ms == rows.rows[*b].at_ms) {
        let as_of = AsOf::from_ms(rows.rows[moment[0]].at_ms);
        walk.reach(as_of.ms(), progress)?;
        let graph = walk.graph();
        let mut asks: Vec<Ask> = Vec::new();
        for &id in moment {
            let row = &rows.rows[id];
            let key = row.record.get(row.key).unwrap_or_default();
            if let Some((at, node)) = graph
                .find(tasks[row.task].plan.entity, key)
                .filter(|(_, node)| graph.exists(node))
            {
                scores.entities[id] = Some(node.entity);
                notes[row.task].note(graph, node.entity, as_of.ms());
                asks.push(Ask {
                    at,
                    entity: node.entity,
                    task: row.task,
                    id,
                });
            }
        }
        predict(graph, &bound, &mut asks, as_of, |id, prediction| {
            scores.predictions[id] = Some(prediction)
        });
    }
    write_rows(&rows, &scores.predictions, out)?;
    let judgements = bound.iter().zip(&notes).enumerate();
    let judgements = judgements.map(|(index, (bound, notes))| {
        let base_rate = baselines.base_rates.get(index).copied().flatten();
        scores.judgement(bound, (index, base_rate), &rows, notes)
    });
    Ok(Backtested {
        tasks: judgements.collect(),
        data: walk.report(files),
    })
}

/// Answers by row.
struct Scores {
    /// `None` where the entity was not known yet.
    predictions: Vec<Option<f64>>,
    /// The entities of the rows, where they were known.
    entities: Vec<Option<EntityId>>,
}

impl Scores {
    /// Judges the rows of the task at `index`, where they carry labels.
    fn judgement(
        &self,
        bound: &Bound<'_>,
        (index, base_rate): (usize, Option<f64>),
        rows: &Rows,
        notes: &Notes,
    ) -> TaskJudgement {
        let of_task = (0..rows.rows.len()).filter(|id| rows.rows[*id].task == index);
        let of_task: Vec<usize> = of_task.collect();
        let evaluated = |id: &usize| {
            let (entity, row) = (self.entities[*id]?, &rows.rows[*id]);
            Some(EvaluatedRow {
                entity,
                at_ms: row.at_ms,
                predicted: self.predictions[*id]?,
                label: row.label?,
                facts: notes.facts(entity, row.at_ms),
            })
        };
        let judged: Vec<EvaluatedRow> = of_task.iter().filter_map(evaluated).collect();
        let pairs: Vec<(f64, f64)> = judged.iter().map(|r| (r.predicted, r.label)).collect();
        let scored = of_task.iter().filter(|id| self.predictions[**id].is_some());
        let mut judgement = TaskJudgement::of(bound, of_task.len(), scored.count(), &pairs);
        let evaluate = || bound.evaluate(notes, base_rate, Vec::new(), &judged);
        judgement.evaluation = (!judged.is_empty()).then(evaluate);
        judgement
    }
}

fn write_rows(rows: &Rows, predictions: &[Option<f64>], out: impl Write) -> Result<(), RowsError> {
    let mut writer = csv::Writer::from_writer(out);
    let mut header = rows.header.clone();
    header.push_field("probability");
    writer.write_record(&header)?;
    for (row, prediction) in rows.rows.iter().zip(predictions) {
        let mut record = row.record.clone();
        record.push_field(&prediction.map_or(String::new(), |p| p.to_string()));
        writer.write_record(&record)?;
    }
    writer.flush()?;
    Ok(())
}
