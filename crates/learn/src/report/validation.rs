//! The evaluation of a training: the rows of validation, as the networks that had not seen them
//! predict them.

use leadpulse_features::Scorer;
use leadpulse_graph::EntityId;
use leadpulse_model::{Bundle, Example, ExampleSet, Fitted};
use leadpulse_pql::TargetKind;
use leadpulse_project::{Project, TaskPlan};
use rustc_hash::FxHashSet;

use super::notes::Notes;
use super::rows::EvaluatedRow;
use super::{EvaluatedTask, GroupWeight, TaskEvaluation, evaluate};
use crate::collect::Collected;

/// Rows that are explained.
// Each costs thousands of forward passes of one cell; a mean over forty is told from another
// group's.
const EXPLAINED_ROWS: usize = 40;

/// Rows decoded at a time.
const CHUNK_ROWS: usize = 256;

/// The remark of a report whose calibration was fitted on its own rows.
const IN_SAMPLE: &str = "These are the rows on which early stopping, the choice among candidates \
    and calibration were decided: figures are a little better than those of rows to come. \
    `leadpulse backtest` measures on later rows.";

/// Evaluates the validation rows of every task, in the order of the fit.
pub(crate) fn evaluate_validation(
    project: &Project,
    plans: &[&TaskPlan],
    fitted: &Fitted,
    collected: &[Collected],
    notes: &mut [Notes],
    changing: &[bool],
) -> Vec<TaskEvaluation> {
    let tasks = plans.iter().zip(fitted.tasks()).zip(collected).zip(notes);
    let evaluations = tasks.map(|(((plan, task), examples), notes)| {
        let rows: Vec<EvaluatedRow> = task
            .validation
            .iter()
            .map(|row| {
                let example = &examples.validation.examples()[row.example];
                EvaluatedRow {
                    entity: example.entity,
                    at_ms: example.anchor_ms,
                    predicted: row.predicted,
                    label: row.label,
                    facts: notes.facts(example.entity, example.anchor_ms),
                }
            })
            .collect();
        note_numbers(notes, &examples.validation, &rows);
        let (training, validation) = (&examples.training_tally, &examples.validation_tally);
        let mut remarks = vec![IN_SAMPLE.to_owned()];
        remarks.extend(hindsight(project, notes, changing));
        remarks.extend(sampled(examples));
        let subject = EvaluatedTask {
            task: &plan.name,
            query: &plan.plan.text,
            horizon_ms: plan.plan.horizon_ms,
            is_regression: plan.plan.target.kind() == TargetKind::Regression,
            base_rate: training.base_rate(),
            positive_entities: Some(training.positive_entities_with(validation)),
            notes: &*notes,
            groups: Vec::new(),
            remarks,
            seed: 0,
        };
        evaluate(subject, &rows)
    });
    evaluations.collect()
}

/// Notes the numbers of the rows of validation that have an outcome.
fn note_numbers(notes: &mut Notes, validation: &ExampleSet, rows: &[EvaluatedRow]) {
    let judged: FxHashSet<(EntityId, i64)> = rows.iter().map(|r| (r.entity, r.at_ms)).collect();
    let examples = validation.examples().iter().enumerate();
    let examples = examples.filter(|(_, e)| judged.contains(&(e.entity, e.anchor_ms)));
    let examples: Vec<(usize, &Example)> = examples.collect();
    for chunk in examples.chunks(CHUNK_ROWS) {
        let indices: Vec<usize> = chunk.iter().map(|(index, _)| *index).collect();
        let batch = validation.feature_batch(&indices);
        for (cell, (_, example)) in chunk.iter().enumerate() {
            let of = (example.entity, example.anchor_ms);
            notes.numbers.note(of, &batch, (cell, example.slot));
        }
    }
}

/// A remark where training left rows out.
fn sampled(examples: &Collected) -> Option<String> {
    (examples.sampling.share < 1.0).then(|| {
        format!(
            "Training took {} of {} rows: all with an event in the 30 days before, and a share of \
             {:.3} of the others with the weight of all. Validation has all of its rows.",
            examples.training_tally.asked - examples.left_out,
            examples.training_tally.asked,
            examples.sampling.share
        )
    })
}

/// A remark where the existing score may know the outcome.
pub(crate) fn hindsight(project: &Project, notes: &Notes, changing: &[bool]) -> Option<String> {
    let points = notes.lookout.points.as_ref()?;
    let table = project.catalog.table_at(points.table());
    (!changing[table.id.index()]).then(|| {
        format!(
            "The files hold one version of every row of {}: {} is that of today, and may know the \
             outcome.",
            table.name, points.name
        )
    })
}

/// The mean weight of each explanation group over some rows of validation, largest first.
pub(crate) fn group_weights(
    bundle: &Bundle,
    task: usize,
    examples: &Collected,
) -> Vec<GroupWeight> {
    let rows = examples.validation.len();
    let step = rows.div_ceil(EXPLAINED_ROWS).max(1);
    let layout = bundle.plan().layout();
    let mut sums = vec![0.0; layout.groups.len()];
    let chosen: Vec<usize> = (0..rows).step_by(step).collect();
    for row in &chosen {
        let batch = examples.validation.feature_batch(&[*row]);
        let slot = examples.validation.examples()[*row].slot;
        for part in bundle.explain(&batch, task, 0, slot).contributions {
            sums[part.group] += part.logit.abs();
        }
    }
    let mut weights: Vec<GroupWeight> = layout
        .groups
        .iter()
        .zip(sums)
        .map(|(group, sum)| GroupWeight {
            group: group.label.clone(),
            mean_logit: sum / chosen.len().max(1) as f64,
        })
        .collect();
    weights.sort_by(|a, b| b.mean_logit.total_cmp(&a.mean_logit));
    weights
}
