//! The policy state record.

use serde::{Deserialize, Serialize};

/// Avro schema of [`PolicyStateRecord`], JSON.
pub const POLICY_STATE_SCHEMA: &str = include_str!("../../../schemas/outputs/policy_state.avsc");

/// Memory of the alert rules about one entity under one task. `state` is the JSON of a policy's
/// entity state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyStateRecord {
    pub task: String,
    pub entity_type: String,
    pub entity_id: String,
    pub epoch: i64,
    pub band: Option<String>,
    pub state: String,
    /// JSON of the memory of alerts; `None` before an entity's first tick.
    #[serde(default)]
    pub alerts: Option<String>,
    /// Logit that work lists rank the entity by; `None` without a score.
    #[serde(default)]
    pub listed: Option<f64>,
    /// True while the entity has no score of the newest model; `None` without a change of model.
    #[serde(default)]
    pub awaits_score: Option<bool>,
    /// Logit that the entity is ranked by while a change of model is under way: that of its score
    /// before. `None` without one.
    #[serde(default)]
    pub ranked_by: Option<f64>,
}

/// Table of the record that holds the days under way of all owners' caps.
const CAPS: &str = "caps";

impl PolicyStateRecord {
    /// The record of all owners' caps: `state` is JSON.
    pub fn of_caps(epoch: i64, state: String) -> Self {
        Self {
            task: String::new(),
            entity_type: CAPS.to_owned(),
            entity_id: String::new(),
            epoch,
            band: None,
            state,
            alerts: None,
            listed: None,
            awaits_score: None,
            ranked_by: None,
        }
    }

    /// True for the record of all owners' caps; no task has an empty name.
    pub fn is_of_caps(&self) -> bool {
        self.task.is_empty() && self.entity_type == CAPS
    }
}
