//! The score record and its drivers.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use leadpulse_features::{Group, GroupKind, probability};

use crate::symbol::Symbol;

/// Avro schema of [`Score`], JSON.
pub const SCORE_SCHEMA: &str = include_str!("../../../schemas/outputs/score.avsc");

/// Status of an entity inside its task's population.
pub const SCORED: Symbol = Symbol("scored");
/// Status of an entity outside its task's population, or deleted.
pub const INELIGIBLE: Symbol = Symbol("ineligible");

/// `sequence` of a score that no epoch holds: the answer to a request.
pub const ON_REQUEST: i32 = -1;

/// One explanation group's part in a score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Driver {
    /// Code of the explanation group.
    pub group: String,
    /// Name of the group for people.
    pub label: String,
    /// Shapley value of the group, or the difference of two, logits, signed.
    pub contribution: f64,
    /// Percent of the positive contributions; 0 for a negative one.
    pub share: i32,
    /// Value behind the contribution, in words.
    pub value: Option<String>,
    /// Facts in words, the most telling first.
    pub evidence: Vec<String>,
    /// Ids of the events behind the contribution, newest first.
    pub event_ids: Vec<String>,
}

/// A value behind the evidence of a group, now and at the explanation that changes are told since.
/// A number or a text; both null where the value was not there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComparedValue {
    /// Code of the explanation group.
    pub group: String,
    /// Name of the value in words.
    pub label: String,
    /// Weight of events (one half after the longest half-life), or a number of rows.
    pub number: Option<f64>,
    /// Value of a field.
    pub text: Option<String>,
    /// The number then.
    pub number_before: Option<f64>,
    /// The text then.
    pub text_before: Option<String>,
}

/// Four readings of an explanation, 0 to 100: each is 100 · σ(C), with C the sum of the contributions
/// of all groups of its kind, logits. 50 is neither for nor against.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubScores {
    /// Fields and attributes of the entity.
    pub fit: f64,
    /// Events of the entity and its people.
    pub behaviour: f64,
    /// Peers, references, people who moved.
    pub relations: f64,
    /// Ages, silence, season, stages of deals.
    pub timing: f64,
}

impl SubScores {
    /// The sub-scores of contributions, which have an entry for each group.
    pub fn of(contributions: &[f64], groups: &[Group]) -> Self {
        let of_kind = |kind: GroupKind| {
            let both = contributions.iter().zip(groups);
            let of_kind = both.filter(|(_, group)| group.kind == kind);
            100.0 * probability(of_kind.map(|(x, _)| x).sum())
        };
        Self {
            fit: of_kind(GroupKind::Fit),
            behaviour: of_kind(GroupKind::Behaviour),
            relations: of_kind(GroupKind::Relations),
            timing: of_kind(GroupKind::Timing),
        }
    }
}

/// One score: written to the scores topic, kept in the read model, served by the HTTP API.
///
/// `schemas/outputs/score.avsc` gives the meaning, unit and empty case of each field. A new field
/// needs a place there, here, in the builder `Emission::score` and in `docs/events.md`.
// Scores of an older schema lack fields: they read back as empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Score {
    pub task: Arc<str>,
    pub entity_type: Arc<str>,
    pub entity_id: Arc<str>,
    pub account_id: Option<Arc<str>>,
    pub epoch: i64,
    pub sequence: i32,
    pub as_of: i64,
    pub status: Symbol,
    pub reason: Option<String>,
    pub probability: Option<f64>,
    pub logit: Option<f64>,
    pub score: Option<f64>,
    pub band: Option<Arc<str>>,
    pub previous_band: Option<Arc<str>>,
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
    pub bundle_id: Option<Arc<str>>,
    pub plan_hash: Option<Arc<str>>,
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
    pub quality: Option<Arc<str>>,
    pub probability_low: Option<f64>,
    pub probability_high: Option<f64>,
    pub sub_scores: Option<SubScores>,
    pub compared_values: Vec<ComparedValue>,
}

/// Counts and attributes of the account's people with events in the last 14 days.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreCommittee {
    pub active_contacts_14d: i32,
    pub departments: Vec<String>,
    pub seniority_max: Option<String>,
    pub by_field: BTreeMap<String, Vec<String>>,
    pub highest: BTreeMap<String, String>,
}

impl Score {
    /// The point that the score is in the past of its entity.
    pub fn point(&self) -> ScorePoint {
        ScorePoint {
            as_of: self.as_of,
            probability: self.probability,
        }
    }

    /// True if the entity belongs to the task's population and is ranked.
    pub fn is_scored(&self) -> bool {
        self.status == SCORED
    }
}

/// A score with the words that pages add to its record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownScore {
    /// The record, as written to the topic; its fields stand beside `name` and `facts` in JSON.
    #[serde(flatten)]
    pub record: Score,
    /// Label of the entity, or of its account; `None` if neither has one.
    pub name: Option<String>,
    /// Facts of the entity's cell at `as_of`; null for an entity that left the graph.
    pub facts: serde_json::Value,
    /// The newest emitted probabilities, this one last; at most [`HISTORY_POINTS`]. Not in lists.
    #[serde(skip)]
    pub history: Vec<ScorePoint>,
}

/// Points of a score's past that are kept; all are in the scores topic.
pub const HISTORY_POINTS: usize = 64;

/// An emitted probability.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScorePoint {
    /// The moment at which it was valid, milliseconds.
    pub as_of: i64,
    /// The probability; `None` while the entity was not eligible.
    pub probability: Option<f64>,
}

impl ShownScore {
    /// Takes the past of the record before, and adds this one's point.
    pub fn succeed(&mut self, before: &[ScorePoint]) {
        let point = self.record.point();
        let is_repeated = before.last().is_some_and(|last| last.as_of >= point.as_of);
        let surplus = (before.len() + 1).saturating_sub(HISTORY_POINTS);
        self.history = before.iter().skip(surplus).copied().collect();
        if !is_repeated || before.is_empty() {
            self.history.push(point);
        }
    }
}

#[cfg(test)]
mod tests;
