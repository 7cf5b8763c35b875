//! The task to learn, and the settings of a fit.

use leadpulse_features::Layout;
use leadpulse_schema::TableId;
use serde::{Deserialize, Serialize};

use super::FitError;
use crate::examples::normalise::Dropped;
use crate::network::TowerTarget;
use crate::network::head::Head;
use crate::trees::options::TreeOptions;

/// A prediction to learn: the outcome, and the entities it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskDefinition {
    /// The task's name in the configuration.
    pub name: String,
    /// The entity table scored: the root, or a member table.
    pub entity: TableId,
    /// Name of the entity table.
    pub entity_name: String,
    /// The query it was compiled from.
    pub pql: String,
    /// End of the predicted window after the anchor, milliseconds.
    pub horizon_ms: i64,
    /// The last layer of the task.
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
    /// Weight decay of AdamW.
    pub weight_decay: f64,
    /// Learning rate at the start; the rate falls along a cosine.
    pub learning_rate: f64,
    /// Whether the root row also reaches the output through one linear layer.
    pub residual: bool,
    /// Whether networks of a task about the root read the rows of members. Without, they read the
    /// root row alone, which has what members did in sums. Tasks about members always read rows.
    pub members: bool,
    /// Columns left out: codes of groups, or prefixes of column names. A candidate whose entries
    /// match nothing is the same as one without them, and trained once.
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
            members: false,
            without: Vec::new(),
        }
    }
}

/// The weighting of training rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weighting {
    /// Equal weight for each row.
    #[default]
    Rows,
    /// Each entity the same in each quarter, however many anchors it has there.
    EntityQuarters,
}

/// The settings of a fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FitOptions {
    /// The regularisations to choose from.
    pub candidates: Vec<Regularisation>,
    /// Members trained with different seeds, whose logits are averaged. A head on a frozen trunk
    /// has as many as its base.
    pub ensemble: usize,
    /// Members of each candidate that are trained in order to choose; at most `ensemble`.
    pub selection_members: usize,
    /// The learning rate reaches its end after this many epochs.
    pub max_epochs: usize,
    /// Evaluations (two per epoch) without improvement after which a member stops.
    pub patience: usize,
    /// Most rows per step; fewer where an epoch would have few steps.
    pub batch_size: usize,
    /// The weighting of training rows.
    pub weighting: Weighting,
    /// The boosted trees beside the networks.
    pub trees: TreeOptions,
    /// Seed of everything random in the fit.
    pub seed: u64,
}

impl Default for FitOptions {
    fn default() -> Self {
        // Inputs are left out because columns tell much the same in different ways: no row may lean
        // on one of them.
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
        let members = Regularisation {
            members: true,
            ..light.clone()
        };
        Self {
            candidates: vec![light, strong, members],
            ensemble: 3,
            selection_members: 2,
            max_epochs: 10,
            patience: 6,
            batch_size: 256,
            weighting: Weighting::Rows,
            trees: TreeOptions::default(),
            seed: 0,
        }
    }
}

/// Refuses options that no training could follow.
pub(super) fn check_options(options: &FitOptions) -> Result<(), FitError> {
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
    if let Some((option, fault)) = options.trees.fault() {
        return bad(option, fault);
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

/// The candidates that differ, once entries that match no column, and words about members that a
/// task has or needs anyway, are ignored.
pub(super) fn distinct_candidates(
    options: &FitOptions,
    layout: &Layout,
    target: TowerTarget,
) -> Vec<Regularisation> {
    let mut distinct: Vec<Regularisation> = Vec::new();
    for candidate in &options.candidates {
        let mut candidate = candidate.clone();
        if Dropped::by_prefix(layout, &candidate.without).is_empty() {
            candidate.without.clear();
        }
        candidate.members = match target {
            TowerTarget::Root => candidate.members && !layout.members.is_empty(),
            TowerTarget::Member(_) => true,
        };
        if !distinct.contains(&candidate) {
            distinct.push(candidate);
        }
    }
    distinct
}
