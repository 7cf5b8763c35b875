//! The port between the engine and a model.

use leadpulse_schema::TableId;

use crate::batch::FeatureBatch;
use crate::plan::FeaturePlan;

/// Something a bundle predicts.
#[derive(Clone, Debug, PartialEq)]
pub struct ScorerTask {
    /// The task's name in the configuration.
    pub name: String,
    /// The entity table scored: the root, or a member table.
    pub entity: TableId,
    /// End of the predicted window after the moment of scoring, milliseconds.
    pub horizon_ms: i64,
}

/// One explained group.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// Index into [`crate::Layout::groups`].
    pub group: usize,
    /// Shapley value, in logits, signed.
    pub logit: f64,
}

/// Why a score is what it is: `base_logit + Σ contributions = logit`.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The logit with every group taken out.
    pub base_logit: f64,
    /// The logit explained.
    pub logit: f64,
    /// One entry per group of the layout, in its order.
    pub contributions: Vec<Contribution>,
}

/// A loaded model. Scoring a cell gives the same logit whatever else is in the batch.
pub trait Scorer: Send + Sync {
    /// Identifies the bundle in every output.
    fn bundle_id(&self) -> &str;
    /// How cells are encoded for it.
    fn plan(&self) -> &FeaturePlan;
    /// What it predicts.
    fn tasks(&self) -> &[ScorerTask];
    /// Calibrated logits of task `task` (an index into [`Self::tasks`]): `[cells]` for a task on the root, `[cells, slots]` of the
    /// task's member block for a task on a member table (padding rows are NaN). On the grid: see [`on_grid`].
    fn logits(&self, batch: &FeatureBatch, task: usize) -> Vec<f64>;
    /// Explains one row: cell `cell`, and for member tasks slot `slot` (0 otherwise).
    fn explain(&self, batch: &FeatureBatch, task: usize, cell: usize, slot: usize) -> Explanation;
}

/// Grid points per logit. Two runs over the same rows sum in different orders, so a logit on the edge of its step may fall to either side:
/// a step of 1e-5 logits is at most 2.5e-6 of probability, within the promised 1e-5.
pub const LOGIT_STEPS: f64 = 1e5;

/// A calibrated logit rounded to the grid on which scores are compared, ranked and written: see [`LOGIT_STEPS`].
pub fn on_grid(logit: f64) -> f64 {
    (logit * LOGIT_STEPS).round() / LOGIT_STEPS
}

/// The probability of a calibrated logit.
pub fn probability(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}
