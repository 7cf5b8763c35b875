//! The fit of one task: candidates, the choice among them, the refit.

use std::collections::{BTreeMap, BTreeSet};

use leadpulse_features::probability;
use leadpulse_graph::EntityId;
use serde_json::{Map, Value, json};

use super::calibrate::Calibration;
use super::embedded::EmbeddedSets;
use super::ensemble::Ensemble;
use super::jobs::{Job, JobRunner};
use super::levels::Levels;
use super::metrics::{BinaryMetrics, RegressionMetrics};
use super::options::{check_options, distinct_candidates};
use super::rows::{
    check_outcomes, check_rows, labelled, leave_out_untrained, training_targets, weighted,
};
use super::train::{FitProgress, Length, Trained, Trainer};
use super::{
    FitError, FitOptions, FittedTask, JudgedRow, Regularisation, TaskDefinition, target_of,
};
use crate::examples::ExampleSet;
use crate::examples::normalise::Normaliser;
use crate::network::{Network, TowerConfig, TrunkConfig};

/// Standard errors of the loss on validation that networks which read members must be ahead by, to be
/// taken for a task about the root.
// Decision: docs/decisions/0085-networks-of-the-root-row.md
pub const CLEARLY_AHEAD: f64 = 2.0;

/// The examples of a fit.
#[derive(Clone, Copy)]
pub(super) struct Sets<'a> {
    pub examples: &'a ExampleSet,
    pub validation: &'a ExampleSet,
    /// Examples up to the newest known outcome, for the refit; `None` for no refit.
    pub refit: Option<&'a ExampleSet>,
}

/// The scales and trunks that a task is trained on.
#[derive(Clone, Copy)]
pub(super) struct Base<'a> {
    pub normaliser: &'a Normaliser,
    pub trunk: &'a TrunkConfig,
    /// The networks that a tower is added to; `None` for new ones.
    pub networks: Option<&'a [Network]>,
    /// Whether their trunks were trained, and stay what they are.
    pub has_trunk: bool,
}

impl<'a> Base<'a> {
    /// The networks whose trunks are kept; `None` where trunks are to be trained.
    fn frozen(&self) -> Option<&'a [Network]> {
        self.networks.filter(|_| self.has_trunk)
    }
}

/// A fitted task and its trained members.
pub(super) struct TaskFit {
    pub task: FittedTask,
    pub tower: TowerConfig,
    pub members: Vec<Trained>,
}

/// The candidates' losses on validation, and the candidate with the least.
struct Selection {
    losses: Vec<f64>,
    chosen: usize,
    /// Standard errors by which networks that read members are ahead, where both kinds were tried.
    members_ahead: Option<f64>,
}

/// Fits one task: trains candidates, keeps the best on validation, calibrates, and refits. Slope
/// and level come from the members that had not seen validation: rows that members were fitted
/// on flatter both.
// Decision: docs/decisions/0050-the-level-comes-from-rows-that-no-member-saw.md
pub(super) fn fit_task(
    sets: Sets<'_>,
    mut task: TaskDefinition,
    options: &FitOptions,
    base: Base<'_>,
    progress: &mut dyn FnMut(FitProgress),
) -> Result<TaskFit, FitError> {
    check(&sets, &task, options)?;
    let examples = &*weighted(sets.examples, options.weighting);
    let (targets, usable) = training_targets(&task.head, examples);
    leave_out_untrained(&mut task.head, &targets);
    let trainer = Trainer {
        task: &task.name,
        examples,
        usable,
        targets,
        validation: sets.validation,
        labelled: labelled(&task.head, sets.validation),
        normaliser: base.normaliser,
        head: &task.head,
        target: target_of(examples.layout(), task.entity),
        trunk: base.trunk,
        frozen: base.frozen(),
        embedded: base.frozen().and_then(|networks| {
            EmbeddedSets::new(networks.len(), base.trunk, [examples, sets.validation])
        }),
        options,
    };
    check_outcomes(&task, &trainer)?;

    let candidates = distinct_candidates(options, examples.layout(), trainer.target);
    let ensemble = base.networks.map_or(options.ensemble, <[Network]>::len);
    let selecting = selecting_members(options, &candidates, ensemble);
    let grown = usize::from(options.trees.rounds > 0);
    let judging_jobs = candidates.len() * selecting + ensemble - selecting + grown;
    let units = judging_jobs + sets.refit.map_or(0, |_| ensemble + grown);
    let mut runner = JobRunner::new(&candidates, units, progress);
    let (selection, mut members) = select(&trainer, &mut runner, selecting, ensemble)?;

    let judged = Ensemble::grow(&trainer, mean_logits(&members), &mut runner);
    let mut trees = judged.trees();
    let logits = judged.logits();
    let (mut calibration, levels) = calibrate_by_period(&trainer, &logits, task.horizon_ms);
    let mut metrics = metrics(&trainer, &logits, &calibration, &candidates, &selection);
    metrics.insert("members".into(), judged.members(&trainer, members.len()));
    let ahead = selection.members_ahead;
    metrics.extend(ahead.map(|ahead| ("members_ahead".to_owned(), json!(ahead))));
    metrics.extend(levels.map(|levels| ("level".to_owned(), json!(levels))));
    let validation = judged_rows(&trainer, &logits, &calibration);
    let regularisation = candidates[selection.chosen].clone();
    let (candidate, validation_loss) = (selection.chosen, selection.losses[selection.chosen]);
    tracing::info!(task = task.name, candidate, validation_loss, "fitted");
    if let Some(refit) = sets.refit {
        check_rows(&task, trainer.target, refit, "refit")?;
        let refit = &*weighted(refit, options.weighting);
        let trainer = trainer.on(refit);
        metrics.insert("refit_rows".into(), json!(trainer.usable.len()));
        members = train_again(&trainer, &mut runner, selection.chosen, &members)?;
        let again;
        (trees, again) = judged.grow_again(&trainer, mean_logits(&members), &mut runner)?;
        if trainer.head.is_binary() {
            calibration = calibration.aligned(&trainer.evidence(&logits), &again);
        }
    }
    Ok(TaskFit {
        tower: trainer.tower(&regularisation),
        task: FittedTask {
            definition: task,
            regularisation,
            calibration,
            trees,
            metrics,
            quality: None,
            validation,
        },
        members,
    })
}

/// The calibration of logits of the labelled rows; none for a regression.
pub(super) fn calibrate(trainer: &Trainer<'_>, logits: &[f64]) -> Calibration {
    if trainer.head.is_binary() {
        Calibration::fit(&trainer.evidence(logits))
    } else {
        Calibration::Identity
    }
}

/// [`calibrate`] with the level that predicts best from period to period, and how it was chosen;
/// `None` for a regression.
fn calibrate_by_period(
    trainer: &Trainer<'_>,
    logits: &[f64],
    horizon_ms: i64,
) -> (Calibration, Option<Levels>) {
    if !trainer.head.is_binary() {
        return (Calibration::Identity, None);
    }
    let (calibration, levels) = Calibration::fit_by_period(&trainer.evidence(logits), horizon_ms);
    (calibration, Some(levels))
}

/// The members of each candidate that are trained in order to choose: all where nothing is chosen.
fn selecting_members(
    options: &FitOptions,
    candidates: &[Regularisation],
    ensemble: usize,
) -> usize {
    if candidates.len() > 1 {
        options.selection_members.min(ensemble)
    } else {
        ensemble
    }
}

/// Refuses options, sets and tasks that do not fit together.
fn check(sets: &Sets<'_>, task: &TaskDefinition, options: &FitOptions) -> Result<(), FitError> {
    check_options(options)?;
    let (examples, validation) = (sets.examples, sets.validation);
    if examples.layout() != validation.layout() {
        return Err(FitError::LayoutDiffers {
            task: task.name.clone(),
        });
    }
    if let Some(fault) = task.head.fault() {
        return Err(FitError::BadTask {
            task: task.name.clone(),
            fault,
        });
    }
    let target = target_of(examples.layout(), task.entity);
    check_rows(task, target, examples, "training")?;
    check_rows(task, target, validation, "validation")
}

/// Trains `selecting` members of each candidate, and of the best the rest up to `ensemble`.
fn select(
    trainer: &Trainer<'_>,
    runner: &mut JobRunner<'_>,
    selecting: usize,
    ensemble: usize,
) -> Result<(Selection, Vec<Trained>), FitError> {
    let candidates = runner.candidates.len();
    let jobs: Vec<Job> = (0..candidates)
        .flat_map(|candidate| (0..selecting).map(move |member| Job { candidate, member }))
        .collect();
    let by_validation = |_: &Job| Length::ByValidation;
    let mut trained = runner.run(trainer, &jobs, by_validation)?;
    let of_candidate = trained.chunks(selecting);
    let logits: Vec<Vec<f64>> = of_candidate.map(mean_logits).collect();
    let selection = choose(trainer, runner.candidates, &logits);
    let chosen = selection.chosen;
    let mut members: Vec<Trained> = trained
        .drain(chosen * selecting..(chosen + 1) * selecting)
        .collect();
    let rest: Vec<Job> = (selecting..ensemble)
        .map(|member| Job {
            candidate: chosen,
            member,
        })
        .collect();
    members.extend(runner.run(trainer, &rest, by_validation)?);
    Ok((selection, members))
}

/// Chooses a candidate by its members' logits on validation: the one with the least loss. Of a task
/// about the root, networks that read members have to be clearly better.
fn choose(trainer: &Trainer<'_>, candidates: &[Regularisation], logits: &[Vec<f64>]) -> Selection {
    let losses: Vec<f64> = logits.iter().map(|z| trainer.validation_loss(z)).collect();
    let best = |members: bool| {
        (0..candidates.len())
            .filter(|at| candidates[*at].members == members)
            .min_by(|a, b| losses[*a].total_cmp(&losses[*b]))
    };
    let (chosen, members_ahead) = match (best(true), best(false)) {
        (Some(with), Some(without)) => {
            let ahead = errors_ahead(trainer, &logits[with], &logits[without]);
            let is_clear = ahead > CLEARLY_AHEAD;
            (if is_clear { with } else { without }, Some(ahead))
        }
        (one, other) => (one.or(other).expect("at least one candidate"), None),
    };
    Selection {
        losses,
        chosen,
        members_ahead,
    }
}

/// By how many standard errors the first logits lose less on validation than the second; the rows of
/// an entity are one observation, since they repeat its outcome.
fn errors_ahead(trainer: &Trainer<'_>, first: &[f64], second: &[f64]) -> f64 {
    let losses = [first, second].map(|logits| trainer.validation_losses(logits));
    let mut by_entity: BTreeMap<EntityId, f64> = BTreeMap::new();
    for ((row, first), second) in trainer.labelled.iter().zip(&losses[0]).zip(&losses[1]) {
        *by_entity.entry(row.entity).or_default() += second - first;
    }
    let total: f64 = by_entity.values().sum();
    let mean = total / by_entity.len() as f64;
    let spread: f64 = by_entity.values().map(|d| (d - mean).powi(2)).sum();
    total / spread.sqrt().max(f64::MIN_POSITIVE)
}

impl<'a> Trainer<'a> {
    /// The same trainer on other examples. Labels and early stopping stay those of validation.
    fn on<'b>(&'b self, examples: &'b ExampleSet) -> Trainer<'b>
    where
        'a: 'b,
    {
        let (targets, usable) = training_targets(self.head, examples);
        Trainer {
            examples,
            usable,
            targets,
            labelled: self.labelled.clone(),
            embedded: self.frozen.and_then(|networks| {
                EmbeddedSets::new(networks.len(), self.trunk, [examples, self.validation])
            }),
            ..*self
        }
    }
}

/// Trains each member on the trainer's examples, for as many epochs as it was best after before.
fn train_again(
    trainer: &Trainer<'_>,
    runner: &mut JobRunner<'_>,
    chosen: usize,
    members: &[Trained],
) -> Result<Vec<Trained>, FitError> {
    let jobs: Vec<Job> = (0..members.len())
        .map(|member| Job {
            candidate: chosen,
            member,
        })
        .collect();
    runner.run(trainer, &jobs, |job| {
        Length::Epochs(members[job.member].epochs)
    })
}

/// The mean over the members, per labelled row.
fn mean_logits(members: &[Trained]) -> Vec<f64> {
    let rows = members.first().map_or(0, |m| m.logits.len());
    (0..rows)
        .map(|i| members.iter().map(|m| m.logits[i]).sum::<f64>() / members.len() as f64)
        .collect()
}

/// The labelled rows of validation with their predictions.
fn judged_rows(trainer: &Trainer<'_>, logits: &[f64], calibration: &Calibration) -> Vec<JudgedRow> {
    let expand = |z: f64| z.signum() * z.abs().exp_m1();
    let is_binary = trainer.head.is_binary();
    let rows = trainer.labelled.iter().zip(logits);
    rows.map(|(row, logit)| JudgedRow {
        example: row.index,
        predicted: match is_binary {
            true => probability(calibration.apply(*logit)),
            false => expand(*logit),
        },
        label: match is_binary {
            true => f64::from(row.label > 0.5),
            false => expand(row.label),
        },
    })
    .collect()
}

/// The metrics that a fit writes: `validation`, `candidates` and `training_rows`.
fn metrics(
    trainer: &Trainer<'_>,
    logits: &[f64],
    calibration: &Calibration,
    candidates: &[Regularisation],
    selection: &Selection,
) -> Map<String, Value> {
    let tried: Vec<Value> = candidates
        .iter()
        .zip(&selection.losses)
        .enumerate()
        .map(|(i, (c, loss))| {
            json!({
                "regularisation": c,
                "validation_loss": loss,
                "chosen": i == selection.chosen,
            })
        })
        .collect();
    Map::from_iter([
        (
            "validation".to_owned(),
            validation_metrics(trainer, logits, calibration),
        ),
        ("candidates".to_owned(), Value::Array(tried)),
        ("training_rows".to_owned(), json!(trainer.usable.len())),
    ])
}

/// Metrics of calibrated logits of the labelled rows.
pub(super) fn validation_metrics(
    trainer: &Trainer<'_>,
    logits: &[f64],
    calibration: &Calibration,
) -> Value {
    let mut validation = if trainer.head.is_binary() {
        let p: Vec<f64> = logits
            .iter()
            .map(|z| probability(calibration.apply(*z)))
            .collect();
        let outcomes: Vec<bool> = trainer.labelled.iter().map(|l| l.label > 0.5).collect();
        let positives: BTreeSet<_> = trainer
            .labelled
            .iter()
            .filter(|l| l.label > 0.5)
            .map(|l| l.entity)
            .collect();
        let mut metrics = json!(BinaryMetrics::of(&p, &outcomes));
        metrics["positive_entities"] = json!(positives.len());
        metrics
    } else {
        let expand = |z: f64| z.signum() * z.abs().exp_m1();
        let predictions: Vec<f64> = logits.iter().map(|z| expand(*z)).collect();
        let outcomes: Vec<f64> = trainer.labelled.iter().map(|l| expand(l.label)).collect();
        json!(RegressionMetrics::of(&predictions, &outcomes))
    };
    validation["entities"] = json!(trainer.labelled_entities());
    validation
}
