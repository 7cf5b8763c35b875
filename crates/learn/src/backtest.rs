//! Scores as of past moments: for each (timestamp, key) row the probability from what was known
//! then.

use std::io::Write;

use leadpulse_features::Scorer;
use leadpulse_graph::EntityId;

use crate::data_report::DataReport;
use crate::given::GivenRows;
use crate::out_table::{CellKind, OutCells, OutError, OutTable};
use crate::predict::{Ask, Bound, TaskJudgement, predict};
use crate::report::Baselines;
use crate::report::notes::Notes;
use crate::report::rows::EvaluatedRow;
use crate::walk::Walk;
use crate::{LearnError, Progress};
use leadpulse_history::Files;
use leadpulse_project::{Project, TaskPlan};
use leadpulse_schema::units::AsOf;

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
    rows: &GivenRows,
    out: OutTable<impl Write + Send>,
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
    let points = baselines.existing_score;
    let notes = tasks.iter();
    let notes = notes.map(|task| Notes::new(project, task, scorer.plan(), points));
    let mut notes: Vec<Notes> = notes.collect::<Result<_, _>>()?;
    let bound = tasks.iter().map(|task| Bound::new(scorer, task));
    let bound = bound.collect::<Result<Vec<_>, _>>()?;
    let given = rows.rows();
    let mut order: Vec<usize> = (0..given.len()).collect();
    order.sort_by_key(|row| given[*row].at_ms);
    let mut walk = Walk::new(project, files, freeze_at_ms.unwrap_or(i64::MAX))?;
    let mut scores = Scores {
        predictions: vec![None; given.len()],
        entities: vec![None; given.len()],
    };
    for moment in order.chunk_by(|a, b| given[*a].at_ms == given[*b].at_ms) {
        let as_of = AsOf::from_ms(given[moment[0]].at_ms);
        walk.reach(as_of.ms(), progress)?;
        let graph = walk.graph();
        let mut asks: Vec<Ask> = Vec::new();
        for &id in moment {
            let row = &given[id];
            let found = graph.find(tasks[row.task].plan.entity, &row.key);
            if let Some((at, node)) = found.filter(|(_, node)| graph.exists(node)) {
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
        predict(
            graph,
            &bound,
            &mut asks,
            as_of,
            |ask, predicted, batch, place| {
                scores.predictions[ask.id] = Some(predicted);
                let numbers = &mut notes[ask.task].numbers;
                numbers.note((ask.entity, as_of.ms()), batch, place);
            },
        );
    }
    write_rows(rows, scores.predictions.clone(), out)?;
    let judgements = bound.iter().zip(&notes).enumerate();
    let judgements = judgements.map(|(index, (bound, notes))| {
        let base_rate = baselines.base_rates.get(index).copied().flatten();
        scores.judgement(bound, (index, base_rate), rows, notes)
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
        rows: &GivenRows,
        notes: &Notes,
    ) -> TaskJudgement {
        let given = rows.rows();
        let of_task = (0..given.len()).filter(|id| given[*id].task == index);
        let of_task: Vec<usize> = of_task.collect();
        let evaluated = |id: &usize| {
            let (entity, row) = (self.entities[*id]?, &given[*id]);
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

/// Writes the columns of the rows as they came, and the predictions after them.
fn write_rows(
    rows: &GivenRows,
    predictions: Vec<Option<f64>>,
    out: OutTable<impl Write + Send>,
) -> Result<(), OutError> {
    let table = rows.table();
    let names = table.columns.iter();
    let mut columns: Vec<(String, CellKind)> =
        names.map(|name| (name.clone(), CellKind::Text)).collect();
    columns.push(("probability".to_owned(), CellKind::Number));
    let mut written = out.with_columns(&columns)?;
    let of_column = |column: usize| {
        let cells = table.rows.iter().map(|row| row.cells[column].clone());
        OutCells::Text(cells.collect())
    };
    let mut cells: Vec<OutCells> = (0..table.columns.len()).map(of_column).collect();
    cells.push(OutCells::Number(predictions));
    written.write(&cells)?;
    written.finish()
}
