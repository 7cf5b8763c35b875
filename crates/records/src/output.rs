//! Output records as Avro, in the Confluent framing, under the schemas of `schemas/outputs`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Avro schema of [`ScoreRecord`], JSON.
pub const SCORE: &str = include_str!("../../../schemas/outputs/score.avsc");
/// Avro schema of [`AlertRecord`], JSON.
pub const ALERT: &str = include_str!("../../../schemas/outputs/alert.avsc");
/// Avro schema of [`PolicyStateRecord`], JSON.
pub const POLICY_STATE: &str = include_str!("../../../schemas/outputs/policy_state.avsc");

/// Why drivers were computed as they were, in alert records.
pub const EXPLAIN_METHOD: &str = "shapley-groups";

/// An enum's symbol, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Symbol(pub &'static str);

impl Serialize for Symbol {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The writer finds the symbol's number by its name.
        serializer.serialize_unit_variant("Symbol", 0, self.0)
    }
}

/// Every symbol that a [`Symbol`] may be read back as.
const SYMBOLS: [&str; 18] = [
    "scored",
    "ineligible",
    "improving",
    "steady",
    "declining",
    "unknown",
    "closing",
    "event",
    "bundle_swap",
    "timer",
    "board",
    "P1",
    "P2",
    "P3",
    "open",
    "threshold_up",
    "threshold_down",
    "",
];

/// An alert type, by name: text in records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeName(pub &'static str);

impl Serialize for TypeName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for TypeName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        symbol(deserializer).map(Self)
    }
}

/// The symbol of a text.
fn symbol<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<&'static str, D::Error> {
    let text = String::deserialize(deserializer)?;
    let found = SYMBOLS.iter().find(|symbol| **symbol == text);
    found
        .copied()
        .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not a symbol of any output")))
}

impl<'de> Deserialize<'de> for Symbol {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        symbol(deserializer).map(Self)
    }
}

/// One explanation group's part in a score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Driver {
    /// Group code.
    pub group: String,
    /// In words.
    pub label: String,
    /// Shapley value, logits, signed.
    pub contribution: f64,
    /// Percent of the positive contributions; 0 for a negative one.
    pub share: i32,
    /// The value behind it.
    pub value: Option<String>,
    /// Facts, newest first.
    pub evidence: Vec<String>,
    /// Ids of the events behind it, newest first.
    pub event_ids: Vec<String>,
}

/// A score record; see `schemas/outputs/score.avsc`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ScoreRecord {
    pub task: String,
    pub entity_type: String,
    pub entity_id: String,
    pub account_id: Option<String>,
    pub epoch: i64,
    pub sequence: i32,
    pub as_of: i64,
    pub status: Symbol,
    pub reason: Option<String>,
    pub probability: Option<f64>,
    pub logit: Option<f64>,
    pub score: Option<f64>,
    pub band: Option<String>,
    pub previous_band: Option<String>,
    pub previous_probability: Option<f64>,
    pub previous_score: Option<f64>,
    pub previous_as_of: Option<i64>,
    pub percentile: Option<f64>,
    pub rank: Option<i64>,
    pub ranked: Option<i64>,
    pub trend: Symbol,
    pub velocity_per_day: Option<f64>,
    pub acceleration_per_day2: Option<f64>,
    pub cause: Symbol,
    pub horizon_days: Option<i32>,
    pub bundle_id: Option<String>,
    pub plan_hash: Option<String>,
    pub board: i64,
    pub drivers: Vec<Driver>,
    pub base_logit: Option<f64>,
    pub drivers_as_of: Option<i64>,
    pub change_since: Option<i64>,
    pub change_drivers: Vec<Driver>,
    pub top_signal: Option<String>,
    pub recommended_action: Option<String>,
    pub recommended_action_label: Option<String>,
    pub committee: Option<ScoreCommittee>,
    pub trace: Vec<String>,
}

/// Who is active at the account, in short; see `schemas/outputs/score.avsc`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ScoreCommittee {
    pub active_contacts_14d: i32,
    pub departments: Vec<String>,
    pub seniority_max: Option<String>,
    pub by_field: BTreeMap<String, Vec<String>>,
    pub highest: BTreeMap<String, String>,
}

/// A person who was active; see `schemas/outputs/alert.avsc`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct CommitteeMember {
    pub contact_id: String,
    pub title: Option<String>,
    pub department: Option<String>,
    pub seniority: Option<String>,
    pub last_activity_at: Option<i64>,
    pub active_days_14d: i32,
}

/// Who is active at the account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Committee {
    pub active_contacts_14d: i32,
    pub departments: Vec<String>,
    pub seniority_max: Option<String>,
    pub by_field: BTreeMap<String, Vec<String>>,
    pub highest: BTreeMap<String, String>,
    pub members: Vec<CommitteeMember>,
}

/// An event, in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct RecentEvent {
    pub event_id: String,
    pub table: String,
    pub kind: Option<String>,
    pub occurred_at: i64,
    pub contact_id: Option<String>,
}

/// An opportunity that is not closed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct OpenOpportunity {
    pub opportunity_id: String,
    pub stage: Option<String>,
    pub amount: Option<f64>,
    pub close_date: Option<i64>,
}

/// An alert record; see `schemas/outputs/alert.avsc`. Fields the system does not know yet are left to their defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct AlertRecord {
    pub alert_id: String,
    pub r#type: TypeName,
    pub severity: Symbol,
    pub state: Symbol,
    pub ordinal: i64,
    pub dedupe_key: Option<String>,
    pub supersedes_alert_id: Option<String>,
    pub task: String,
    pub entity_type: String,
    pub entity_id: String,
    pub account_id: Option<String>,
    pub account_name: Option<String>,
    pub domain: Option<String>,
    pub lead_id: Option<String>,
    pub contact_id: Option<String>,
    pub crm_ids: BTreeMap<String, String>,
    pub owner_id: Option<String>,
    pub region: Option<String>,
    pub segment: Option<String>,
    pub industry: Option<String>,
    pub probability: f64,
    pub probability_low: Option<f64>,
    pub probability_high: Option<f64>,
    pub score: f64,
    pub previous_probability: Option<f64>,
    pub previous_score: Option<f64>,
    pub delta: Option<f64>,
    pub threshold: Option<f64>,
    pub band: Option<String>,
    pub previous_band: Option<String>,
    pub percentile: Option<f64>,
    pub rank: Option<i64>,
    pub ranked: Option<i64>,
    pub trend: Symbol,
    pub velocity_per_day: Option<f64>,
    pub acceleration_per_day2: Option<f64>,
    pub baseline_score: Option<f64>,
    pub horizon_days: Option<i32>,
    pub target: Option<String>,
    pub drivers: Vec<Driver>,
    pub base_logit: Option<f64>,
    pub change_since: Option<i64>,
    pub change_drivers: Vec<Driver>,
    pub top_signal: Option<String>,
    pub summary: Option<String>,
    pub explain_method: Option<String>,
    pub committee: Option<Committee>,
    pub last_events: Vec<RecentEvent>,
    pub open_opportunities: Vec<OpenOpportunity>,
    pub trigger: Option<RecentEvent>,
    pub recommended_action: Option<String>,
    pub recommended_action_label: Option<String>,
    pub suggested_contact_id: Option<String>,
    pub sla_minutes: Option<i32>,
    pub expires_at: Option<i64>,
    pub do_not_contact: Option<bool>,
    pub data_classes: Vec<String>,
    pub as_of: i64,
    pub occurred_at: Option<i64>,
    pub epoch: i64,
    pub bundle_id: Option<String>,
    pub plan_hash: Option<String>,
    pub board: i64,
    pub trace: Vec<String>,
}

/// What the alert rules remember of one entity for one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct PolicyStateRecord {
    pub task: String,
    pub entity_type: String,
    pub entity_id: String,
    pub epoch: i64,
    pub band: Option<String>,
    pub state: String,
}

#[cfg(test)]
mod tests;
