//! What a policy remembers about one entity of one task. The engine keeps it, writes it in the epoch's transaction when it changed, and
//! restores it. The format it is written in has to keep every bit of an f64 (Avro and binary formats do, serde_json only with its feature
//! `float_roundtrip`): a restored state must decide like the one that was saved.

use std::collections::BTreeMap;

use leadpulse_schema::Absence;
use serde::{Deserialize, Serialize};

use crate::alerts::AlertType;
use crate::level::Dwell;

/// The memory of one (task, entity). The default is an entity never seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntityState {
    /// Whether the entity has been scored, and whether it still is.
    pub eligibility: Eligibility,
    /// Why it is ineligible, if it is.
    #[serde(default)]
    pub absence: Option<Absence>,
    /// Identifies the thresholds that `level` counts: after a change of configuration the level means nothing.
    pub(crate) thresholds: u32,
    /// How many thresholds, from the lowest, the entity is over.
    pub(crate) level: u8,
    /// Crossings that have not dwelt long enough to count.
    pub(crate) dwell: Dwell,
    /// The last emitted score.
    pub emitted: Option<Emitted>,
    /// How many records were emitted, `ineligible` ones included.
    pub emissions: u64,
    /// Alerts fired, by type.
    pub fired: BTreeMap<AlertType, Fired>,
    /// The first score of each of the last days (UTC) that had one, oldest first.
    pub history: Vec<HistoryPoint>,
}

impl EntityState {
    /// The logit that consumers have, of an entity that belongs to the population: what it is ranked by.
    pub fn standing_logit(&self) -> Option<f64> {
        self.emitted
            .filter(|_| self.eligibility == Eligibility::Eligible)
            .map(|emitted| emitted.logit)
    }
}

/// Whether an entity belongs to the task's population.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Eligibility {
    /// Never observed.
    #[default]
    Unseen,
    /// It was, at the last observation.
    Eligible,
    /// It was not.
    Ineligible,
}

/// A score that consumers have.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Emitted {
    /// When it was valid, milliseconds.
    pub as_of_ms: i64,
    /// Its probability.
    pub probability: f64,
    /// Its logit.
    pub logit: f64,
    /// The probability emitted before it.
    pub previous_probability: Option<f64>,
}

/// The alerts of one type an entity has had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fired {
    /// `as_of` of the last one, milliseconds.
    pub last_as_of_ms: i64,
    /// How many.
    pub ordinal: u64,
}

/// A score of the past.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryPoint {
    /// When it was valid, milliseconds.
    pub as_of_ms: i64,
    /// The probability then.
    pub probability: f64,
}
