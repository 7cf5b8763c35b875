//! Networks and trees as one ensemble: owns the weight of the trees, and what the manifest says of
//! each member.
//!
//! The weight has the least log loss on validation, after Platt's parameters, of a grid between the
//! networks alone and the trees alone. Neither member was fitted on those rows. With few outcomes
//! the loss hardly tells weights apart, so the weight is pulled towards one half.
//!
//! Decision: docs/decisions/0045-trees-beside-the-nets.md

use serde_json::{Value, json};

use super::jobs::JobRunner;
use super::train::Trainer;
use super::{FitError, Regularisation};
use crate::examples::normalise::Dropped;
use crate::trees::grow::{Grower, Grown};
use crate::trees::{TreeMember, mixed};

/// Weights that are tried, from 0 to 1.
const WEIGHT_STEPS: u32 = 20;
/// Weight of the pull towards equal weights, in entities: a prior of standard deviation 0.25.
const WEIGHT_PRECISION: f64 = 16.0;

/// The members of a task's ensemble as validation saw them.
pub(super) struct Ensemble {
    /// Mean logits of the networks on the labelled rows.
    networks: Vec<f64>,
    /// The trees and their weight, or the reason for which there are none.
    trees: Result<(Grown, f64), String>,
}

impl Ensemble {
    /// Grows trees beside trained networks, and weighs them.
    pub fn grow(trainer: &Trainer<'_>, networks: Vec<f64>, runner: &mut JobRunner<'_>) -> Self {
        let trees = if trainer.options.trees.rounds == 0 {
            Err("the options ask for none".to_owned())
        } else {
            let left_out = left_out(trainer, runner.candidates);
            let grown = Grower::new(trainer, &left_out).grow();
            grown.and_then(|grown| {
                let weight = weight(trainer, &networks, &grown.logits)?;
                Ok((grown, weight))
            })
        };
        match &trees {
            Ok((grown, _)) => {
                let loss = trainer.validation_loss(&grown.logits);
                runner.grown(grown.forest.rounds(), loss);
            }
            Err(reason) => tracing::info!(task = trainer.task, reason, "no trees"),
        }
        Self { networks, trees }
    }

    /// The ensemble's logits of the labelled rows.
    pub fn logits(&self) -> Vec<f64> {
        match &self.trees {
            Ok((grown, weight)) => mixed_rows(*weight, &self.networks, &grown.logits),
            Err(_) => self.networks.clone(),
        }
    }

    /// The trees as they were judged.
    pub fn trees(&self) -> Option<TreeMember> {
        let (grown, weight) = self.trees.as_ref().ok()?;
        Some(TreeMember {
            weight: *weight,
            forest: grown.forest.clone(),
        })
    }

    /// As many trees, grown again on the trainer's examples, and the ensemble's logits of the
    /// labelled rows with them and `networks`.
    ///
    /// # Errors
    /// When they cannot be grown.
    pub fn grow_again(
        &self,
        trainer: &Trainer<'_>,
        networks: Vec<f64>,
        runner: &mut JobRunner<'_>,
    ) -> Result<(Option<TreeMember>, Vec<f64>), FitError> {
        let Ok((grown, weight)) = &self.trees else {
            return Ok((None, networks));
        };
        let left_out = left_out(trainer, runner.candidates);
        let grower = Grower::new(trainer, &left_out);
        let forest =
            grower
                .grow_again(grown.forest.rounds())
                .map_err(|reason| FitError::Trees {
                    task: trainer.task.to_owned(),
                    reason,
                })?;
        let logits = mixed_rows(*weight, &networks, &grower.logits(&forest));
        runner.grown(forest.rounds(), f64::NAN);
        let member = TreeMember {
            weight: *weight,
            forest,
        };
        Ok((Some(member), logits))
    }

    /// The members for the manifest: weight, size, and their metrics on validation, each calibrated
    /// by itself.
    pub fn members(&self, trainer: &Trainer<'_>, networks: usize) -> Value {
        let judged = |logits: &[f64]| {
            let calibration = super::task::calibrate(trainer, logits);
            (
                trainer.validation_loss(logits),
                super::task::validation_metrics(trainer, logits, &calibration),
            )
        };
        let weight = self.trees.as_ref().map_or(0.0, |(_, weight)| *weight);
        let (loss, validation) = judged(&self.networks);
        let nets = json!({
            "networks": networks,
            "weight": 1.0 - weight,
            "validation_loss": loss,
            "validation": validation,
        });
        let trees = match &self.trees {
            Err(reason) => json!({ "weight": 0.0, "left_out": reason }),
            Ok((grown, weight)) => {
                let (loss, validation) = judged(&grown.logits);
                json!({
                    "weight": weight,
                    "rounds": grown.forest.rounds(),
                    "columns": grown.columns,
                    "columns_read": grown.forest.columns().len(),
                    "validation_loss": loss,
                    "validation": validation,
                })
            }
        };
        json!({ "networks": nets, "trees": trees })
    }
}

fn mixed_rows(weight: f64, networks: &[f64], trees: &[f64]) -> Vec<f64> {
    let rows = networks.iter().zip(trees);
    rows.map(|(n, t)| mixed(weight, *n, *t)).collect()
}

/// The columns that every candidate leaves out: those that the task must not read.
fn left_out(trainer: &Trainer<'_>, candidates: &[Regularisation]) -> Dropped {
    let layout = trainer.examples.layout();
    let mut dropped = candidates
        .iter()
        .map(|candidate| Dropped::by_prefix(layout, &candidate.without));
    let first = dropped.next().unwrap_or_default();
    dropped.fold(first, |all, other| all.and(&other))
}

/// The weight of the trees, or the reason for which they get none.
fn weight(trainer: &Trainer<'_>, networks: &[f64], trees: &[f64]) -> Result<f64, String> {
    let constant = trainer.validation_loss(&trainer.constant_logits());
    let alone = trainer.validation_loss(trees);
    if alone >= constant {
        return Err(format!(
            "their validation loss of {alone:.5} is no better than {constant:.5} of the base rate"
        ));
    }
    let losses: Vec<f64> = (0..=WEIGHT_STEPS)
        .map(|step| trainer.validation_loss(&mixed_rows(step_weight(step), networks, trees)))
        .collect();
    let step = lightest(
        &losses,
        trainer.labelled_entities(),
        trainer.head.is_binary(),
    );
    if step == 0 {
        return Err("validation gives them no weight".into());
    }
    Ok(step_weight(step))
}

fn step_weight(step: u32) -> f64 {
    f64::from(step) / f64::from(WEIGHT_STEPS)
}

/// The step with the least total loss, with the pull towards one half. Losses are means per row;
/// rows of one entity repeat its outcome, so the total is over entities.
fn lightest(losses: &[f64], entities: usize, is_binary: bool) -> u32 {
    let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
    // A squared error is a log likelihood once divided by twice its variance.
    let unit = if is_binary {
        1.0
    } else {
        0.5 / least.max(f64::MIN_POSITIVE)
    };
    let total = |step: u32| {
        let pull = WEIGHT_PRECISION / 2.0 * (step_weight(step) - 0.5).powi(2);
        entities as f64 * unit * losses[step as usize] + pull
    };
    (0..=WEIGHT_STEPS)
        .min_by(|a, b| total(*a).total_cmp(&total(*b)))
        .expect("there are weights to try")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Losses with their least at a weight, of this curvature.
    fn valley(at: f64, curvature: f64) -> Vec<f64> {
        (0..=WEIGHT_STEPS)
            .map(|step| 0.1 + curvature * (step_weight(step) - at).powi(2))
            .collect()
    }

    #[test]
    fn few_entities_leave_equal_weights_and_many_decide() {
        let losses = valley(0.1, 0.02);
        assert_eq!(step_weight(lightest(&losses, 10, true)), 0.5);
        assert_eq!(step_weight(lightest(&losses, 100_000, true)), 0.1);
        let between = step_weight(lightest(&losses, 400, true));
        assert!(between > 0.1 && between < 0.5, "{between}");
        // Trees that only harm get nothing, trees that carry all get all.
        assert_eq!(lightest(&valley(-0.5, 0.1), 10_000, true), 0);
        assert_eq!(lightest(&valley(1.5, 0.1), 10_000, true), WEIGHT_STEPS);
    }
}
