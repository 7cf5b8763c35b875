//! From examples to a trained ensemble: owns the choice of regularisation and the assembly of what was trained.
//!
//! Candidates are chosen by validation only, by the loss that early stopping uses. All randomness comes from the seed of the options:
//! the same examples give the same parameters, whatever the number of threads.

pub(crate) mod average;
pub(crate) mod calibrate;
pub(crate) mod metrics;
pub(crate) mod train;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use leadpulse_features::{FeatureBatch, Layout, probability};
use leadpulse_schema::TableId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::examples::ExampleSet;
use crate::examples::normalise::{Dropped, Normaliser};
use crate::fit::calibrate::Calibration;
use crate::fit::metrics::{BinaryMetrics, RegressionMetrics};
use crate::fit::train::{Diverged, Labelled, Length, Progress, Trained, Trainer};
use crate::network::head::Head;
use crate::network::{Network, NetworkConfig, TowerConfig, TowerTarget, TrunkConfig};

/// Validation rows kept as golden examples.
const GOLDEN_ROWS: usize = 16;

/// What to predict, and for whom.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskDefinition {
    /// The task's name in the configuration.
    pub name: String,
    /// The entity table scored: the root, or a member table.
    pub entity: TableId,
    /// That table's name.
    pub entity_name: String,
    /// The query it was compiled from.
    pub pql: String,
    /// End of the predicted window after the anchor, milliseconds.
    pub horizon_ms: i64,
    /// Its last layer.
    pub head: Head,
}

/// One way to keep a network from overfitting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Regularisation {
    /// Width of the tower's hidden layers.
    pub hidden: usize,
    /// Share of hidden units left out while training.
    pub dropout_ratio: f64,
    /// Share of inputs left out while training.
    pub input_dropout_ratio: f64,
    /// Of AdamW.
    pub weight_decay: f64,
    /// At the start; falls along a cosine.
    pub learning_rate: f64,
    /// Whether the root row also reaches the output through one linear layer.
    pub residual: bool,
    /// Columns left out: codes of groups, or prefixes of column names. A candidate whose entries match nothing is the same as one
    /// without them, and trained once.
    pub without: Vec<String>,
}

impl Default for Regularisation {
    fn default() -> Self {
        Self {
            hidden: 64,
            dropout_ratio: 0.2,
            input_dropout_ratio: 0.0,
            weight_decay: 1e-3,
            learning_rate: 2e-3,
            residual: false,
            without: Vec::new(),
        }
    }
}

/// How training rows count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weighting {
    /// Each row the same.
    #[default]
    Rows,
    /// Each entity the same in each quarter, however many anchors it has there.
    EntityQuarters,
}

/// Settings of a fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FitOptions {
    /// The regularisations to choose from.
    pub candidates: Vec<Regularisation>,
    /// Members trained with different seeds, whose logits are averaged. A head on a frozen trunk has as many as its base.
    pub ensemble: usize,
    /// Members of each candidate that are trained in order to choose; at most `ensemble`.
    pub selection_members: usize,
    /// The learning rate reaches its end after this many epochs.
    pub max_epochs: usize,
    /// Evaluations (two per epoch) without improvement after which a member stops.
    pub patience: usize,
    /// Most rows per step; fewer where an epoch would have few steps.
    pub batch_size: usize,
    /// How training rows count.
    pub weighting: Weighting,
    /// Decides everything random.
    pub seed: u64,
}

impl Default for FitOptions {
    fn default() -> Self {
        // Inputs are left out because columns tell much the same in different ways: no row may lean on one of them.
        let light = Regularisation {
            input_dropout_ratio: 0.2,
            ..Regularisation::default()
        };
        let strong = Regularisation {
            hidden: 128,
            dropout_ratio: 0.3,
            weight_decay: 1e-2,
            ..light.clone()
        };
        Self {
            candidates: vec![light, strong],
            ensemble: 3,
            selection_members: 2,
            max_epochs: 10,
            patience: 6,
            batch_size: 256,
            weighting: Weighting::Rows,
            seed: 0,
        }
    }
}

/// Why nothing could be fitted.
#[derive(Debug, Error)]
pub enum FitError {
    /// There is nothing to learn from.
    #[error(
        "task `{task}`: no {set} row has a known outcome ({rows} rows): its window must have closed within the history; move the split times or shorten the window"
    )]
    NoOutcomes {
        /// The task.
        task: String,
        /// `training` or `validation`.
        set: &'static str,
        /// Rows given.
        rows: usize,
    },
    /// There is nothing to tell apart.
    #[error(
        "task `{task}`: all {rows} {set} rows with a known outcome are {outcome}; both outcomes are needed: widen the population or the period"
    )]
    OneOutcome {
        /// The task.
        task: String,
        /// `training` or `validation`.
        set: &'static str,
        /// Rows with a known outcome.
        rows: usize,
        /// The only one.
        outcome: bool,
    },
    /// An outcome that the head cannot learn from.
    #[error(
        "task `{task}`: the outcome of {set} row {row} does not fit its head ({head}); build outcomes with the task's plan"
    )]
    WrongOutcome {
        /// The task.
        task: String,
        /// `training` or `validation`.
        set: &'static str,
        /// Index of the row.
        row: usize,
        /// The head.
        head: String,
    },
    /// A member task's example without its member.
    #[error(
        "task `{task}`: {set} row {row} targets member slot {slot}, but the cell has {present}; push the slot the member was encoded at"
    )]
    NoSuchMember {
        /// The task.
        task: String,
        /// `training` or `validation`.
        set: &'static str,
        /// Index of the row.
        row: usize,
        /// The slot asked for.
        slot: usize,
        /// Members stored.
        present: usize,
    },
    /// Sets encoded differently.
    #[error(
        "task `{task}`: training, validation and base network must have the same columns; encode them with one feature plan"
    )]
    LayoutDiffers {
        /// The task.
        task: String,
    },
    /// A task that is not well formed.
    #[error("task `{task}`: {fault}")]
    BadTask {
        /// The task.
        task: String,
        /// What is wrong.
        fault: String,
    },
    /// Options that do not make sense.
    #[error("fit option `{option}`: {fault}")]
    BadOption {
        /// Its name.
        option: &'static str,
        /// What is wrong.
        fault: String,
    },
    /// The loss left the finite numbers.
    #[error(
        "task `{task}`: the loss of candidate {candidate}, member {member} diverged at step {step}; lower its learning rate"
    )]
    Diverged {
        /// The task.
        task: String,
        /// Index of the regularisation.
        candidate: usize,
        /// Index of the member.
        member: usize,
        /// The step.
        step: usize,
    },
}

/// One task of a trained ensemble.
#[derive(Clone, Debug, PartialEq)]
pub struct FittedTask {
    /// What it predicts.
    pub definition: TaskDefinition,
    /// The regularisation that validation chose.
    pub regularisation: Regularisation,
    /// Raw to calibrated logits.
    pub calibration: Calibration,
    /// Metrics by name; `fit` writes `validation` and `candidates`, the caller may add more.
    pub metrics: Map<String, Value>,
}

/// A trained ensemble.
#[derive(Clone, Debug)]
pub struct Fitted {
    pub(crate) layout: Layout,
    pub(crate) config: NetworkConfig,
    pub(crate) networks: Vec<Network>,
    pub(crate) normaliser: Normaliser,
    pub(crate) tasks: Vec<FittedTask>,
    pub(crate) golden: FeatureBatch,
}

impl Fitted {
    /// Its tasks.
    pub fn tasks(&self) -> &[FittedTask] {
        &self.tasks
    }

    /// Writes metrics of a task, e.g. those of a test period, under a name. They end up in the manifest.
    pub fn set_metrics(&mut self, task: usize, name: &str, metrics: Value) {
        self.tasks[task].metrics.insert(name.to_owned(), metrics);
    }

    /// The widths of its networks.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }
}

/// What a task reads: the cell, or the rows of a member table.
pub(crate) fn target_of(layout: &Layout, entity: TableId) -> TowerTarget {
    layout
        .members
        .iter()
        .position(|m| m.table == entity)
        .map_or(TowerTarget::Root, TowerTarget::Member)
}

/// Trains a new ensemble for one task.
///
/// Epochs and candidates are chosen by the validation log loss after Platt's parameters are refitted (squared error for a
/// regression). With `refit`, examples up to the newest known outcome, validation's included, the chosen candidate is then trained
/// again on them, each member for as many epochs as it was best after; calibration keeps the shape it had for the members which had
/// not seen validation.
///
/// # Errors
/// Where there is nothing to learn, or examples, task and options do not fit together.
pub fn fit(
    examples: &ExampleSet,
    validation: &ExampleSet,
    refit: Option<&ExampleSet>,
    task: TaskDefinition,
    options: &FitOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Fitted, FitError> {
    let normaliser = Normaliser::fit(examples);
    let trunk = TrunkConfig::for_layout(examples.layout());
    let base = Base {
        normaliser: &normaliser,
        trunk: &trunk,
        frozen: None,
    };
    let outcome = fit_task(examples, validation, refit, task, options, base, progress)?;
    let config = NetworkConfig {
        trunk,
        towers: vec![outcome.tower],
    };
    let networks = outcome
        .members
        .into_iter()
        .map(|m| Network {
            trunk: m.pair.trunk,
            towers: vec![m.pair.tower],
        })
        .collect();
    let step = validation.len().div_ceil(GOLDEN_ROWS).max(1);
    let golden_rows: Vec<usize> = (0..GOLDEN_ROWS)
        .map(|i| (i * step) % validation.len())
        .collect();
    let golden = validation.feature_batch(&golden_rows);
    Ok(Fitted {
        layout: examples.layout().clone(),
        config,
        networks,
        normaliser,
        tasks: vec![outcome.task],
        golden,
    })
}

/// Trains the tower of one more task on the frozen trunks of `base`: its other tasks keep every logit. Chooses and refits as
/// [`fit()`].
///
/// # Errors
/// As [`fit()`].
pub fn fit_head(
    base: &Fitted,
    examples: &ExampleSet,
    validation: &ExampleSet,
    refit: Option<&ExampleSet>,
    task: TaskDefinition,
    options: &FitOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Fitted, FitError> {
    if *examples.layout() != base.layout {
        return Err(FitError::LayoutDiffers { task: task.name });
    }
    if base.tasks.iter().any(|t| t.definition.name == task.name) {
        return Err(FitError::BadTask {
            fault: "the base network has a task of this name".into(),
            task: task.name,
        });
    }
    let mut fitted = base.clone();
    let base = Base {
        normaliser: &base.normaliser,
        trunk: &base.config.trunk,
        frozen: Some(&base.networks),
    };
    let outcome = fit_task(examples, validation, refit, task, options, base, progress)?;
    fitted.config.towers.push(outcome.tower);
    for (network, member) in fitted.networks.iter_mut().zip(outcome.members) {
        network.towers.push(member.pair.tower);
    }
    fitted.tasks.push(outcome.task);
    Ok(fitted)
}

struct TaskOutcome {
    task: FittedTask,
    tower: TowerConfig,
    members: Vec<Trained>,
}

/// What a task is trained on.
struct Base<'a> {
    normaliser: &'a Normaliser,
    trunk: &'a TrunkConfig,
    /// Networks whose trunks are kept; none to train new ones.
    frozen: Option<&'a [Network]>,
}

fn fit_task(
    examples: &ExampleSet,
    validation: &ExampleSet,
    refit: Option<&ExampleSet>,
    mut task: TaskDefinition,
    options: &FitOptions,
    Base {
        normaliser,
        trunk,
        frozen,
    }: Base<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<TaskOutcome, FitError> {
    check_options(options)?;
    if examples.layout() != validation.layout() {
        return Err(FitError::LayoutDiffers { task: task.name });
    }
    if let Some(fault) = task.head.fault() {
        return Err(FitError::BadTask {
            task: task.name,
            fault,
        });
    }
    let target = target_of(examples.layout(), task.entity);
    check_rows(&task, target, examples, "training")?;
    check_rows(&task, target, validation, "validation")?;

    let examples = &*weighted(examples, options.weighting);
    let (targets, usable) = training_targets(&task.head, examples);
    leave_out_untrained(&mut task.head, &targets);
    let labelled = labelled(&task.head, validation);
    let trainer = Trainer {
        task: &task.name,
        examples,
        usable,
        targets,
        validation,
        labelled,
        normaliser,
        head: &task.head,
        target,
        trunk,
        frozen,
        options,
    };
    check_outcomes(&task, &trainer)?;

    let candidates = distinct_candidates(options, examples.layout());
    let ensemble = frozen.map_or(options.ensemble, <[Network]>::len);
    let selecting = if candidates.len() > 1 {
        options.selection_members.min(ensemble)
    } else {
        ensemble
    };
    let units = candidates.len() * selecting + ensemble - selecting + refit.map_or(0, |_| ensemble);
    let mut done = 0;

    let jobs: Vec<Job> = (0..candidates.len())
        .flat_map(|c| {
            (0..selecting).map(move |member| Job {
                candidate: c,
                member,
            })
        })
        .collect();
    let by_validation = |_: &Job| Length::ByValidation;
    let mut trained = run_jobs(
        &trainer,
        &candidates,
        &jobs,
        by_validation,
        (&mut done, units),
        progress,
    )?;
    let mut losses = Vec::new();
    for c in 0..candidates.len() {
        losses.push(
            trainer.validation_loss(&mean_logits(&trained[c * selecting..(c + 1) * selecting])),
        );
    }
    let chosen = (0..candidates.len())
        .min_by(|a, b| losses[*a].total_cmp(&losses[*b]))
        .expect("at least one candidate");
    let mut members: Vec<Trained> = trained
        .drain(chosen * selecting..(chosen + 1) * selecting)
        .collect();
    let rest: Vec<Job> = (selecting..ensemble)
        .map(|member| Job {
            candidate: chosen,
            member,
        })
        .collect();
    members.extend(run_jobs(
        &trainer,
        &candidates,
        &rest,
        by_validation,
        (&mut done, units),
        progress,
    )?);

    let logits = mean_logits(&members);
    let mut calibration = if task.head.is_binary() {
        Calibration::fit(&trainer.evidence(&logits))
    } else {
        Calibration::Identity
    };
    let mut metrics = metrics(
        &trainer,
        &logits,
        &calibration,
        &candidates,
        &losses,
        chosen,
    );
    let regularisation = candidates[chosen].clone();
    tracing::info!(
        task = task.name,
        candidate = chosen,
        validation_loss = losses[chosen],
        "fitted"
    );
    let tower = trainer.tower(&regularisation);
    if let Some(refit) = refit {
        check_rows(&task, target, refit, "refit")?;
        let refit = &*weighted(refit, options.weighting);
        let (targets, usable) = training_targets(&task.head, refit);
        metrics.insert("refit_rows".into(), json!(usable.len()));
        let trainer = Trainer {
            examples: refit,
            usable,
            targets,
            ..trainer
        };
        let epochs: Vec<f64> = members.iter().map(|m| m.epochs).collect();
        let jobs: Vec<Job> = (0..ensemble)
            .map(|member| Job {
                candidate: chosen,
                member,
            })
            .collect();
        members = run_jobs(
            &trainer,
            &candidates,
            &jobs,
            |job| Length::Epochs(epochs[job.member]),
            (&mut done, units),
            progress,
        )?;
        if task.head.is_binary() {
            calibration = calibration.recentred(&trainer.evidence(&mean_logits(&members)));
        }
    } else {
        drop(trainer);
    }
    Ok(TaskOutcome {
        task: FittedTask {
            definition: task,
            regularisation,
            calibration,
            metrics,
        },
        tower,
        members,
    })
}

/// The examples with the weights that the options ask for.
fn weighted(examples: &ExampleSet, weighting: Weighting) -> Cow<'_, ExampleSet> {
    match weighting {
        Weighting::Rows => Cow::Borrowed(examples),
        Weighting::EntityQuarters => {
            let mut copy = examples.clone();
            copy.weigh_entity_quarters();
            Cow::Owned(copy)
        }
    }
}

/// Leaves the last buckets out of the head's logit that no training row has seen the end of.
fn leave_out_untrained(head: &mut Head, targets: &[(f32, f32)]) {
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

fn check_options(options: &FitOptions) -> Result<(), FitError> {
    let bad = |option, fault: &str| {
        Err(FitError::BadOption {
            option,
            fault: fault.into(),
        })
    };
    for (option, value) in [
        ("ensemble", options.ensemble),
        ("selection_members", options.selection_members),
        ("max_epochs", options.max_epochs),
        ("patience", options.patience),
        ("batch_size", options.batch_size),
        ("candidates", options.candidates.len()),
    ] {
        if value == 0 {
            return bad(option, "must be at least 1");
        }
    }
    for c in &options.candidates {
        if c.hidden == 0 {
            return bad("candidates.hidden", "must be at least 1");
        }
        if !(0.0..=0.9).contains(&c.dropout_ratio) || !(0.0..=0.9).contains(&c.input_dropout_ratio)
        {
            return bad("candidates.dropout_ratio", "ratios lie between 0 and 0.9");
        }
        if !(c.learning_rate > 0.0
            && c.learning_rate.is_finite()
            && c.weight_decay >= 0.0
            && c.weight_decay.is_finite())
        {
            return bad(
                "candidates.learning_rate",
                "the learning rate must be above 0, the weight decay not below it, and both finite",
            );
        }
    }
    Ok(())
}

fn check_rows(
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

fn check_outcomes(task: &TaskDefinition, trainer: &Trainer<'_>) -> Result<(), FitError> {
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
fn training_targets(head: &Head, examples: &ExampleSet) -> (Vec<(f32, f32)>, Vec<usize>) {
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

fn labelled(head: &Head, validation: &ExampleSet) -> Vec<Labelled> {
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

/// The candidates that differ, once entries that match no column are ignored.
fn distinct_candidates(options: &FitOptions, layout: &Layout) -> Vec<Regularisation> {
    let mut distinct: Vec<Regularisation> = Vec::new();
    for candidate in &options.candidates {
        let mut candidate = candidate.clone();
        if Dropped::by_prefix(layout, &candidate.without).is_empty() {
            candidate.without.clear();
        }
        if !distinct.contains(&candidate) {
            distinct.push(candidate);
        }
    }
    distinct
}

fn mean_logits(members: &[Trained]) -> Vec<f64> {
    let rows = members.first().map_or(0, |m| m.logits.len());
    (0..rows)
        .map(|i| members.iter().map(|m| m.logits[i]).sum::<f64>() / members.len() as f64)
        .collect()
}

#[derive(Clone, Copy)]
struct Job {
    candidate: usize,
    member: usize,
}

enum JobReport {
    Evaluated {
        job: usize,
        epochs: f64,
        training_loss: f64,
        validation_loss: f64,
    },
    Finished {
        job: usize,
        result: Result<Box<Trained>, Diverged>,
    },
}

/// Trains the jobs on as many threads as the machine has; results come in the order of the jobs.
fn run_jobs(
    trainer: &Trainer<'_>,
    candidates: &[Regularisation],
    jobs: &[Job],
    length: impl Fn(&Job) -> Length + Sync,
    (done, units): (&mut usize, usize),
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Trained>, FitError> {
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(jobs.len());
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    let mut results: Vec<Option<Result<Box<Trained>, Diverged>>> =
        jobs.iter().map(|_| None).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next, length) = (sender.clone(), &next, &length);
            scope.spawn(move || {
                loop {
                    let job = next.fetch_add(1, Ordering::Relaxed);
                    let Some(Job { candidate, member }) = jobs.get(job).copied() else {
                        break;
                    };
                    let length = length(&jobs[job]);
                    let result = trainer.train(
                        &candidates[candidate],
                        member,
                        length,
                        |epochs, training_loss, validation_loss| {
                            // The receiver lives until every sender is gone.
                            let _ = sender.send(JobReport::Evaluated {
                                job,
                                epochs,
                                training_loss,
                                validation_loss,
                            });
                        },
                    );
                    let _ = sender.send(JobReport::Finished {
                        job,
                        result: result.map(Box::new),
                    });
                }
            });
        }
        drop(sender);
        let mut parts = vec![0.0; jobs.len()];
        for report in receiver {
            match report {
                JobReport::Evaluated {
                    job,
                    epochs,
                    training_loss,
                    validation_loss,
                } => {
                    parts[job] = (epochs / trainer.options.max_epochs as f64).min(1.0);
                    let Job { candidate, member } = jobs[job];
                    let done_ratio = (*done as f64 + parts.iter().sum::<f64>()) / units as f64;
                    progress(Progress {
                        done_ratio,
                        candidate,
                        member,
                        epochs,
                        training_loss,
                        validation_loss,
                    });
                }
                JobReport::Finished { job, result } => {
                    parts[job] = 1.0;
                    results[job] = Some(result);
                }
            }
        }
    });
    *done += jobs.len();
    let finished = jobs.iter().zip(results);
    finished
        .map(|(job, result)| {
            match result.expect("every job reports its end, or its thread's panic is passed on") {
                Ok(trained) => Ok(*trained),
                Err(Diverged { step }) => Err(FitError::Diverged {
                    task: trainer.task.to_owned(),
                    candidate: job.candidate,
                    member: job.member,
                    step,
                }),
            }
        })
        .collect()
}

fn metrics(
    trainer: &Trainer<'_>,
    logits: &[f64],
    calibration: &Calibration,
    candidates: &[Regularisation],
    losses: &[f64],
    chosen: usize,
) -> Map<String, Value> {
    let entities: BTreeSet<_> = trainer.labelled.iter().map(|l| l.entity).collect();
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
    validation["entities"] = json!(entities.len());
    let tried: Vec<Value> = candidates
        .iter()
        .zip(losses)
        .enumerate()
        .map(|(i, (c, loss))| json!({ "regularisation": c, "validation_loss": loss, "chosen": i == chosen }))
        .collect();
    Map::from_iter([
        ("validation".to_owned(), validation),
        ("candidates".to_owned(), Value::Array(tried)),
        ("training_rows".to_owned(), json!(trainer.usable.len())),
    ])
}
