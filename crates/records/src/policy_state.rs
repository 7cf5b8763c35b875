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
}
