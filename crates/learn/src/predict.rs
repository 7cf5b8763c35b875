//! Scores of a graph at a moment, and how good scores are.

use leadpulse_features::{Scorer, probability};
use leadpulse_graph::{CellRef, EntityId, Graph};
use leadpulse_model::{BinaryMetrics, RegressionMetrics};
use leadpulse_pql::TargetKind;

use crate::LearnError;
use crate::report::notes::Notes;
use crate::report::rows::EvaluatedRow;
use crate::report::{EvaluatedTask, TaskEvaluation, evaluate};
use leadpulse_project::TaskPlan;
use leadpulse_schema::TableId;
use leadpulse_schema::units::AsOf;

/// Cells scored at a time.
const CHUNK_CELLS: usize = 512;

/// A task, found in a bundle.
#[derive(Clone, Copy)]
pub(crate) struct Bound<'a> {
    pub task: &'a TaskPlan,
    pub scorer: &'a dyn Scorer,
    /// Index among the scorer's tasks.
    pub index: usize,
}

impl<'a> Bound<'a> {
    /// Finds a task by its name.
    pub fn new(scorer: &'a dyn Scorer, task: &'a TaskPlan) -> Result<Self, LearnError> {
        let index = scorer
            .tasks()
            .iter()
            .position(|t| t.name == task.name)
            .ok_or_else(|| LearnError::NoSuchTask {
                task: task.name.clone(),
                known: scorer
                    .tasks()
                    .iter()
                    .map(|t| t.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
            })?;
        Ok(Self {
            task,
            scorer,
            index,
        })
    }

    /// Whether a number is predicted.
    pub fn is_regression(&self) -> bool {
        self.task.plan.target.kind() == TargetKind::Regression
    }

    /// Evaluates rows of this task; `base_rate` is what training knew.
    pub fn evaluate(
        &self,
        notes: &Notes,
        base_rate: Option<f64>,
        remarks: Vec<String>,
        rows: &[EvaluatedRow],
    ) -> TaskEvaluation {
        let plan = &self.task.plan;
        let subject = EvaluatedTask {
            task: &self.task.name,
            query: &plan.text,
            horizon_ms: plan.horizon_ms,
            is_regression: self.is_regression(),
            base_rate,
            positive_entities: None,
            lookout: &notes.lookout,
            words: &notes.words,
            groups: Vec::new(),
            remarks,
            seed: 0,
        };
        evaluate(subject, rows)
    }

    /// The probability that a logit means; of a regression, the number.
    pub fn predicted(&self, logit: f64) -> f64 {
        if self.is_regression() {
            logit.signum() * logit.abs().exp_m1()
        } else {
            probability(logit)
        }
    }
}

/// An entity to score for a task, with a number of the caller's.
pub(crate) struct Ask {
    pub at: CellRef,
    pub entity: EntityId,
    pub task: usize,
    pub id: usize,
}

/// Answers all questions of a moment: each cell is encoded once. `each` gets the caller's number
/// and the probability (or value); entities without a row of their own are skipped.
pub(crate) fn predict(
    graph: &Graph,
    tasks: &[Bound<'_>],
    asks: &mut [Ask],
    as_of: AsOf,
    mut each: impl FnMut(usize, f64),
) {
    let Some(scorer) = tasks.first().map(|t| t.scorer) else {
        return;
    };
    asks.sort_unstable_by_key(|ask| (ask.at, ask.task, ask.id));
    let mut cells: Vec<CellRef> = asks.iter().map(|ask| ask.at).collect();
    cells.dedup();
    let asked: Vec<TableId> = tasks.iter().map(|bound| bound.task.plan.entity).collect();
    let mut rest = &asks[..];
    for chunk in cells.chunks(CHUNK_CELLS) {
        let last = chunk.last().expect("chunks are not empty");
        let (now, later) = rest.split_at(rest.partition_point(|ask| ask.at <= *last));
        rest = later;
        let features = scorer.plan().encode(graph, chunk, as_of, &asked);
        for (index, bound) in tasks.iter().enumerate() {
            if now.iter().all(|ask| ask.task != index) {
                continue;
            }
            let logits = scorer.logits(&features, bound.index);
            for ask in now.iter().filter(|ask| ask.task == index) {
                let cell = chunk
                    .binary_search(&ask.at)
                    .expect("the chunk holds the cells of its questions, in order");
                if let Some((row, _)) =
                    scorer
                        .plan()
                        .row_of(&features, bound.task.plan.entity, cell, ask.entity)
                {
                    each(ask.id, bound.predicted(logits[row]));
                }
            }
        }
    }
}

/// Quality of a task's predictions.
#[derive(Clone, Debug, Default)]
pub struct TaskJudgement {
    pub task: String,
    /// Rows that were asked about.
    pub rows: usize,
    /// Rows scored: their entity was known at their moment.
    pub scored: usize,
    /// Metrics of a condition, where outcomes are known.
    pub binary: Option<BinaryMetrics>,
    /// Metrics of a number, where outcomes are known.
    pub regression: Option<RegressionMetrics>,
    /// The evaluation for the report; `None` where no outcome is known.
    pub evaluation: Option<TaskEvaluation>,
}

impl TaskJudgement {
    /// Compares predictions with outcomes, pair by pair; `rows` and `scored` are the caller's.
    pub(crate) fn of(task: &Bound<'_>, rows: usize, scored: usize, pairs: &[(f64, f64)]) -> Self {
        let mut judgement = Self {
            task: task.task.name.clone(),
            rows,
            scored,
            ..Self::default()
        };
        let predicted: Vec<f64> = pairs.iter().map(|(p, _)| *p).collect();
        if task.is_regression() {
            let outcomes: Vec<f64> = pairs.iter().map(|(_, y)| *y).collect();
            judgement.regression = RegressionMetrics::of(&predicted, &outcomes);
        } else {
            judgement.binary = BinaryMetrics::of(
                &predicted,
                &pairs.iter().map(|(_, y)| *y > 0.5).collect::<Vec<_>>(),
            );
        }
        judgement
    }
}
