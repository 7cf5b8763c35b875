//! The port between the engine and a model.

use leadpulse_schema::TableId;
use serde::{Deserialize, Serialize};

use crate::batch::FeatureBatch;
use crate::plan::FeaturePlan;

/// A prediction that a bundle makes.
#[derive(Clone, Debug, PartialEq)]
pub struct ScorerTask {
    /// The task's name in the configuration.
    pub name: String,
    /// The entity table scored: the root, or a member table.
    pub entity: TableId,
    /// End of the predicted window, milliseconds after the moment of scoring.
    pub horizon_ms: i64,
    /// Grade of the evaluation, as records have it: `sound`, `provisional`, …; `None` for a model
    /// that was not graded.
    pub quality: Option<String>,
    /// Half the width of the 95 % interval of a logit, logits: how far the level of one period of
    /// outcomes lies from that of others. `None` where fewer than four periods are known, and for a
    /// regression.
    pub interval_logits: Option<f64>,
}

/// The part of a logit that one explanation group contributes.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// Index into [`crate::Layout::groups`].
    pub group: usize,
    /// Shapley value, in logits, signed.
    pub logit: f64,
}

/// The parts of a logit: `base_logit + Σ contributions = logit`.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The logit with every group taken out.
    pub base_logit: f64,
    /// Logit of the explained row.
    pub logit: f64,
    /// One entry per group of the layout, in its order.
    pub contributions: Vec<Contribution>,
}

/// The program that computes scores. Logits of the two differ by rounding: by a step of the grid at
/// most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forward {
    /// Loops over one cell at a time, compiled from the networks: the faster one on a processor, with
    /// the same bits on each.
    #[default]
    Plain,
    /// The networks as they were trained, in batches of cells of like shape.
    Burn,
}

/// A loaded model. The logit of a cell does not depend on the other cells in the batch.
pub trait Scorer: Send + Sync {
    /// Identifier of the bundle, written into every output.
    fn bundle_id(&self) -> &str;
    /// The plan by which cells are encoded for this model.
    fn plan(&self) -> &FeaturePlan;
    /// The predictions of the bundle, in the order of their indices.
    fn tasks(&self) -> &[ScorerTask];
    /// Calibrated logits of task `task` (an index into [`Self::tasks`]), on the grid: see
    /// [`on_grid`].
    ///
    /// # Shapes
    /// `[cells]` for a task on the root; `[cells, slots]` of the task's member block for a task on
    /// a member table, with NaN for padding rows.
    fn logits(&self, batch: &FeatureBatch, task: usize) -> Vec<f64>;
    /// Logits of several tasks, each as [`Self::logits`]: what tasks share is computed once.
    fn logits_of(&self, batch: &FeatureBatch, tasks: &[usize]) -> Vec<Vec<f64>> {
        let tasks = tasks.iter();
        tasks.map(|task| self.logits(batch, *task)).collect()
    }
    /// Explains one row: cell `cell`, and for member tasks slot `slot` (else 0).
    fn explain(&self, batch: &FeatureBatch, task: usize, cell: usize, slot: usize) -> Explanation;
    /// The model for people, as JSON: origin, tasks with grade and metrics. Null for a scorer without
    /// one.
    fn card(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}

/// Grid points per logit. Two runs over the same rows sum in different orders, so a logit on the
/// edge of a step may fall to either side. A step of 1e-5 logits is at most 2.5e-6 of probability,
/// within the promised 1e-5: see docs/decisions/0005-logits-on-a-grid-of-1e-5.md.
pub const LOGIT_STEPS: f64 = 1e5;

/// A calibrated logit rounded to the grid on which scores are compared, ranked and written: see
/// [`LOGIT_STEPS`].
pub fn on_grid(logit: f64) -> f64 {
    (logit * LOGIT_STEPS).round() / LOGIT_STEPS
}

/// The probability of a calibrated logit: `1 / (1 + exp(−logit))`.
pub fn probability(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}
