//! From examples to a trained ensemble: owns the choice of regularisation and the assembly of what
//! was trained.
//!
//! Candidates are chosen by validation only, by the loss that early stopping uses. All randomness
//! comes from the seed of the options: the same examples give the same parameters, whatever the
//! number of threads.

pub(crate) mod average;
pub(crate) mod calibrate;
pub(crate) mod embedded;
mod ensemble;
mod error;
mod jobs;
pub(crate) mod levels;
pub(crate) mod metrics;
mod options;
mod rows;
mod task;
pub(crate) mod train;

use leadpulse_features::{FeatureBatch, Layout};
use leadpulse_schema::TableId;
use serde_json::{Map, Value};

pub use error::FitError;
pub use options::{FitOptions, Regularisation, TaskDefinition, Weighting};

use calibrate::Calibration;
pub use task::CLEARLY_AHEAD;
use task::{Base, Sets, fit_task};
use train::FitProgress;

use crate::bundle::manifest::Quality;
use crate::examples::ExampleSet;
use crate::examples::normalise::Normaliser;
use crate::network::{Network, NetworkConfig, TowerTarget, TrunkConfig};
use crate::trees::TreeMember;
use crate::trees::options::TreeOptions;

/// Validation rows kept as golden examples.
// One chunk of scoring, spread over validation. Why not more is unknown.
const GOLDEN_ROWS: usize = 16;

/// One task of a trained ensemble.
#[derive(Clone, Debug, PartialEq)]
pub struct FittedTask {
    /// The definition of the task.
    pub definition: TaskDefinition,
    /// The regularisation that validation chose.
    pub regularisation: Regularisation,
    /// Raw to calibrated logits.
    pub calibration: Calibration,
    /// The trees beside the networks, if validation gave them weight.
    pub(crate) trees: Option<TreeMember>,
    /// Metrics by name; `fit` writes `validation`, `candidates` and `members`, the caller may add
    /// more.
    pub metrics: Map<String, Value>,
    /// The grade that the caller gave; it ends up in the manifest.
    pub quality: Option<Quality>,
    /// The labelled rows of validation, as the networks that had not seen them predict them. Not
    /// in a bundle: empty for a loaded one.
    pub validation: Vec<JudgedRow>,
}

/// A prediction beside its outcome.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JudgedRow {
    /// Index among the examples of validation.
    pub example: usize,
    /// Calibrated probability; of a regression the number.
    pub predicted: f64,
    /// 1 or 0; of a regression the number.
    pub label: f64,
}

/// A trained ensemble with all of its tasks.
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
    /// The fitted tasks, in the order of the towers.
    pub fn tasks(&self) -> &[FittedTask] {
        &self.tasks
    }

    /// Writes metrics of a task, e.g. those of a test period, under a name. They end up in the
    /// manifest.
    pub fn set_metrics(&mut self, task: usize, name: &str, metrics: Value) {
        self.tasks[task].metrics.insert(name.to_owned(), metrics);
    }

    /// Keeps the tasks of some names, with their towers; the scores of a kept task stay what they
    /// are, because no tower reads another.
    pub fn retain_tasks(&mut self, is_kept: impl Fn(&str) -> bool) {
        let kept: Vec<bool> = self
            .tasks
            .iter()
            .map(|task| is_kept(&task.definition.name))
            .collect();
        fn retain<T>(items: &mut Vec<T>, kept: &[bool]) {
            let mut marks = kept.iter();
            items.retain(|_| *marks.next().expect("every task has a tower"));
        }
        retain(&mut self.tasks, &kept);
        retain(&mut self.config.towers, &kept);
        for network in &mut self.networks {
            retain(&mut network.towers, &kept);
        }
    }

    /// Writes the grade of a task's evaluation. It ends up in the manifest.
    pub fn set_quality(&mut self, task: usize, quality: Quality) {
        self.tasks[task].quality = Some(quality);
    }

    /// The widths of its networks.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }
}

/// The rows that a task scores: the cell, or the rows of a member table.
pub(crate) fn target_of(layout: &Layout, entity: TableId) -> TowerTarget {
    layout
        .members
        .iter()
        .position(|m| m.table == entity)
        .map_or(TowerTarget::Root, TowerTarget::Member)
}

/// Trains a new ensemble for one task.
///
/// Epochs and candidates are chosen by the validation log loss after Platt's parameters are
/// refitted (squared error for a regression). With `refit`, examples up to the newest known
/// outcome, validation's included, the chosen candidate is then trained again on them, each member
/// for as many epochs as it was best after; calibration stays that of the members which had not
/// seen validation.
///
/// # Errors
/// Where there is nothing to learn, or examples, task and options do not fit together.
pub fn fit(
    examples: &ExampleSet,
    validation: &ExampleSet,
    refit: Option<&ExampleSet>,
    task: TaskDefinition,
    options: &FitOptions,
    progress: &mut dyn FnMut(FitProgress),
) -> Result<Fitted, FitError> {
    let sets = Sets {
        examples,
        validation,
        refit,
    };
    fit_new(sets, task, options, false, progress)
}

/// As [`fit()`], for a bundle in which tasks about members follow: where the networks of this task do
/// not read members, the trunk is trained by others that do, on this task.
///
/// # Errors
/// As [`fit()`].
// A trunk that learnt what moves accounts makes leads rank by what they do; one that tasks about
// leads train by themselves makes them rank by their status:
// docs/decisions/0085-networks-of-the-root-row.md.
pub fn fit_with_trunk(
    examples: &ExampleSet,
    validation: &ExampleSet,
    refit: Option<&ExampleSet>,
    task: TaskDefinition,
    options: &FitOptions,
    progress: &mut dyn FnMut(FitProgress),
) -> Result<Fitted, FitError> {
    let sets = Sets {
        examples,
        validation,
        refit,
    };
    fit_new(sets, task, options, true, progress)
}

fn fit_new(
    sets: Sets<'_>,
    task: TaskDefinition,
    options: &FitOptions,
    needs_trunk: bool,
    progress: &mut dyn FnMut(FitProgress),
) -> Result<Fitted, FitError> {
    let Sets {
        examples,
        validation,
        ..
    } = sets;
    let normaliser = Normaliser::fit(examples);
    let trunk = TrunkConfig::for_layout(examples.layout());
    let base = Base {
        normaliser: &normaliser,
        trunk: &trunk,
        networks: None,
        has_trunk: false,
    };
    let parts = if needs_trunk { 2.0 } else { 1.0 };
    let outcome = fit_task(sets, task.clone(), options, base, &mut |mut p| {
        p.done_ratio /= parts;
        progress(p);
    })?;
    let mut has_trunk = outcome.tower.reads_members;
    let mut trunks = Vec::new();
    if needs_trunk && !has_trunk && !examples.layout().members.is_empty() {
        let options = of_a_trunk(options, outcome.members.len());
        let taught = fit_task(sets, task, &options, base, &mut |mut p| {
            p.done_ratio = (1.0 + p.done_ratio) / parts;
            progress(p);
        })?;
        trunks.extend(taught.members.into_iter().map(|m| m.pair.trunk));
        has_trunk = true;
    }
    let config = NetworkConfig {
        trunk,
        towers: vec![outcome.tower],
        has_trunk,
    };
    let mut trunks = trunks.into_iter();
    let networks = outcome
        .members
        .into_iter()
        .map(|m| Network {
            trunk: trunks.next().unwrap_or(m.pair.trunk),
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

/// Options for networks of which the trunk is kept: the first candidate that reads members, no trees.
fn of_a_trunk(options: &FitOptions, networks: usize) -> FitOptions {
    let reading = options.candidates.iter().find(|one| one.members);
    let candidate = reading.or(options.candidates.first());
    FitOptions {
        candidates: candidate
            .map(|candidate| Regularisation {
                members: true,
                ..candidate.clone()
            })
            .into_iter()
            .collect(),
        ensemble: networks,
        trees: TreeOptions {
            rounds: 0,
            ..options.trees.clone()
        },
        ..options.clone()
    }
}

/// Trains the tower of one more task on the trunks of `base`, which stay what they are: its other
/// tasks keep every logit. Where `base` has none that was trained, the new task trains them.
/// Chooses and refits as [`fit()`].
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
    progress: &mut dyn FnMut(FitProgress),
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
    let has_trunk = base.config.has_trunk;
    let base = Base {
        normaliser: &base.normaliser,
        trunk: &base.config.trunk,
        networks: Some(&base.networks),
        has_trunk,
    };
    let sets = Sets {
        examples,
        validation,
        refit,
    };
    let outcome = fit_task(sets, task, options, base, progress)?;
    fitted.config.has_trunk |= outcome.tower.reads_members;
    fitted.config.towers.push(outcome.tower);
    for (network, member) in fitted.networks.iter_mut().zip(outcome.members) {
        if !has_trunk {
            network.trunk = member.pair.trunk;
        }
        network.towers.push(member.pair.tower);
    }
    fitted.tasks.push(outcome.task);
    Ok(fitted)
}
