//! Records as queries see them.

use std::sync::Arc;

use serde::Serialize;

/// The committed score of one entity under one task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScoreView {
    /// Task name.
    pub task: Arc<str>,
    /// Entity table.
    pub entity_type: Arc<str>,
    /// Entity key.
    pub entity_id: Arc<str>,
    /// Key of the account it belongs to; its own for an account.
    pub account_id: Option<Arc<str>>,
    /// What people call it.
    pub name: Option<String>,
    /// Whether it belongs to the task's population.
    pub status: ScoreStatus,
    /// Calibrated probability; of an ineligible entity the last one it had.
    pub probability: Option<f64>,
    /// The same on a scale of 0–100.
    pub score: Option<f64>,
    /// Band name.
    pub band: Option<Arc<str>>,
    /// `improving`, `steady`, `declining` or `unknown`.
    pub trend: &'static str,
    /// The probability emitted before this one.
    pub previous_probability: Option<f64>,
    /// Slope of the probability over the last week, per day.
    pub velocity_per_day: Option<f64>,
    /// Change of that slope, per day.
    pub acceleration_per_day2: Option<f64>,
    /// Percent of the task's scored entities below it when it was scored, 0–100.
    pub percentile: Option<f64>,
    /// The strongest positive driver in a few words.
    pub top_signal: Option<String>,
    /// Code of what to do.
    pub recommended_action: Option<String>,
    /// The same in words.
    pub recommended_action_label: Option<String>,
    /// When the score is valid, milliseconds.
    pub as_of_ms: i64,
    /// The epoch that committed it.
    pub epoch: u64,
    /// The board it was computed with.
    pub board: u64,
    /// The bundle it was computed with.
    pub bundle_id: Arc<str>,
    /// Why, strongest first. May be older than the score.
    pub drivers: Vec<DriverView>,
    /// What moved it between the last two explanations, strongest first.
    pub change_drivers: Vec<DriverView>,
    /// The moment of the one before, milliseconds.
    pub change_since_ms: Option<i64>,
    /// What is known about the entity, in words and numbers.
    pub facts: serde_json::Value,
}

/// Whether an entity is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreStatus {
    /// It belongs to the population and is ranked.
    Scored,
    /// It does not, and is not.
    Ineligible,
}

/// One reason for a score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DriverView {
    /// Code of the feature group.
    pub group: String,
    /// Its name.
    pub label: String,
    /// Its Shapley value in logits, signed.
    pub logit: f64,
    /// Its share of all positive values, or of all negative ones, 0–1.
    pub share_ratio: f64,
    /// The value behind it, in words.
    pub value: Option<String>,
    /// What it rests on, in words.
    pub evidence: Vec<String>,
    /// Ids of the events behind it, newest first.
    pub event_ids: Vec<String>,
    /// When it was computed, milliseconds.
    pub as_of_ms: i64,
}

/// A committed alert.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AlertView {
    /// Its deterministic name.
    pub alert_id: String,
    /// Task name.
    pub task: Arc<str>,
    /// Entity table.
    pub entity_type: Arc<str>,
    /// Entity key.
    pub entity_id: Arc<str>,
    /// What people call the entity.
    pub name: Option<String>,
    /// `threshold_up`, `threshold_down`, …
    pub alert_type: &'static str,
    /// `P1`, `P2`, `P3`.
    pub severity: &'static str,
    /// When it happened, milliseconds.
    pub as_of_ms: i64,
    /// The epoch that committed it.
    pub epoch: u64,
    /// The whole record, as written to the alerts topic.
    pub record: serde_json::Value,
}
