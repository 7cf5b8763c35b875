//! Examples as a task trains on them: weights, targets, labels, and the checks of all three.

use std::borrow::Cow;

use super::train::{Labelled, Trainer};
use super::{FitError, TaskDefinition, Weighting};
use crate::examples::ExampleSet;
use crate::network::TowerTarget;
use crate::network::head::Head;

/// The examples with the weights that the options ask for. Their mean weight is 1.
// Leaves of trees and the norm of gradients are bounded by sums of weights: those of a sample that
// stands for more rows than it has would count evidence that is not there.
pub(super) fn weighted(examples: &ExampleSet, weighting: Weighting) -> Cow<'_, ExampleSet> {
    match weighting {
        Weighting::Rows => {
            let mean = examples.mean_weight();
            if mean == 1.0 || mean <= 0.0 {
                return Cow::Borrowed(examples);
            }
            let mut copy = examples.clone();
            copy.scale_weights(1.0 / mean);
            Cow::Owned(copy)
        }
        Weighting::EntityQuarters => {
            let mut copy = examples.clone();
            copy.weigh_entity_quarters();
            Cow::Owned(copy)
        }
    }
}

/// Leaves out of the head's logit the last buckets whose end no training row has seen.
pub(super) fn leave_out_untrained(head: &mut Head, targets: &[(f32, f32)]) {
    let outputs = head.outputs();
    if let Head::Hazard { untrained, .. } = head {
        let trains = |bucket: usize| {
            targets
                .iter()
                .skip(bucket)
                .step_by(outputs)
                .any(|(_, weight)| *weight > 0.0)
        };
        let trained = (0..outputs)
            .rev()
            .find(|bucket| trains(*bucket))
            .map_or(1, |bucket| bucket + 1);
        *untrained = outputs - trained;
    }
}

pub(super) fn check_rows(
    task: &TaskDefinition,
    target: TowerTarget,
    examples: &ExampleSet,
    set: &'static str,
) -> Result<(), FitError> {
    for (row, example) in examples.examples().iter().enumerate() {
        if !task.head.accepts(&example.outcome) {
            return Err(FitError::WrongOutcome {
                task: task.name.clone(),
                set,
                row,
                head: format!("{:?}", task.head),
            });
        }
        if let TowerTarget::Member(table) = target {
            let present = examples.members_of(row, table);
            if example.slot >= present {
                return Err(FitError::NoSuchMember {
                    task: task.name.clone(),
                    set,
                    row,
                    slot: example.slot,
                    present,
                });
            }
        }
    }
    Ok(())
}

pub(super) fn check_outcomes(task: &TaskDefinition, trainer: &Trainer<'_>) -> Result<(), FitError> {
    // A hazard trains on every bucket that has closed, long before the whole window has.
    let training: Vec<f64> = trainer
        .targets
        .iter()
        .filter(|(_, weight)| *weight > 0.0)
        .map(|(target, _)| f64::from(*target))
        .collect();
    let validation: Vec<f64> = trainer.labelled.iter().map(|l| l.label).collect();
    let sizes = [
        ("training", training, trainer.examples.len()),
        ("validation", validation, trainer.validation.len()),
    ];
    for (set, labels, rows) in sizes {
        let Some(first) = labels.first() else {
            return Err(FitError::NoOutcomes {
                task: task.name.clone(),
                set,
                rows,
            });
        };
        if task.head.is_binary() && labels.iter().all(|l| l == first) {
            return Err(FitError::OneOutcome {
                task: task.name.clone(),
                set,
                rows: labels.len(),
                outcome: *first > 0.5,
            });
        }
    }
    Ok(())
}

/// Per training row and output the target and its weight, and the rows of which an output trains.
pub(super) fn training_targets(
    head: &Head,
    examples: &ExampleSet,
) -> (Vec<(f32, f32)>, Vec<usize>) {
    let mut targets = Vec::with_capacity(examples.len() * head.outputs());
    let mut usable = Vec::new();
    for (row, example) in examples.examples().iter().enumerate() {
        let mut trains = false;
        head.targets(&example.outcome, |y, w| {
            trains |= w > 0.0;
            targets.push((y, w * example.weight));
        });
        if trains {
            usable.push(row);
        }
    }
    (targets, usable)
}

pub(super) fn labelled(head: &Head, validation: &ExampleSet) -> Vec<Labelled> {
    let rows = validation.examples().iter().enumerate();
    rows.filter_map(|(index, e)| {
        head.label(&e.outcome).map(|label| Labelled {
            index,
            label,
            weight: f64::from(e.weight),
            entity: e.entity,
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use leadpulse_graph::EntityId;

    use super::*;
    use crate::network::head::Outcome;
    use crate::testing::{batch_of, layout, one_set};

    #[test]
    fn weights_count_beside_each_other_and_not_by_their_scale() {
        let layout = layout(1, &[]);
        let batch = batch_of(&layout, &[(&[1.0], &[]), (&[2.0], &[]), (&[3.0], &[])]);
        let mut set = one_set(&layout, &batch, |cell| {
            let outcome = Outcome::Window(cell == 1);
            (0, EntityId(cell as u32), 0, outcome)
        });
        let of = |set: &ExampleSet| -> Vec<f32> {
            let set = weighted(set, Weighting::Rows);
            set.examples().iter().map(|e| e.weight).collect()
        };
        assert!(matches!(weighted(&set, Weighting::Rows), Cow::Borrowed(_)));
        let first = set.select(&[0]);
        set.scale_weights(4.0);
        let mut mixed = first;
        set.examples()[1..].iter().for_each(|e| mixed.push(*e));
        assert_eq!(of(&set), [1.0, 1.0, 1.0]);
        let [one, four] = [1.0 / 3.0, 4.0 / 3.0];
        assert_eq!(of(&mixed), [one, four, four]);
    }
}
