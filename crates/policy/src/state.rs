//! The memory of a policy about one entity of one task. The engine keeps it, writes it in the
//! epoch's transaction when it changed, and restores it. The format it is written in has to keep
//! every bit of an f64 (Avro and binary formats do, serde_json only with its feature
//! `float_roundtrip`): a restored state must decide like the one that was saved.

use leadpulse_schema::Absence;
use serde::{Deserialize, Serialize};

/// The memory of one (task, entity). The default is an entity never seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntityState {
    /// Whether the entity has been scored, and whether it still is.
    pub eligibility: Eligibility,
    /// The reason for which the entity is ineligible, if it is.
    #[serde(default)]
    pub absence: Option<Absence>,
    /// Identifies the thresholds that `level` counts: after a change of configuration the level
    /// means nothing.
    pub(crate) thresholds: u32,
    /// The number of thresholds, from the lowest, that the entity is over.
    pub(crate) level: u8,
    /// The last emitted score, kept while the entity is ineligible.
    pub emitted: Option<Emitted>,
    /// The number of records emitted, `ineligible` ones included.
    pub emissions: u64,
    /// The first score of each of the last days (UTC) that had one, oldest first.
    pub history: Vec<HistoryPoint>,
}

impl EntityState {
    /// The logit that consumers have, of an entity that belongs to the population: what it is
    /// ranked by.
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
    /// Never observed in this task.
    #[default]
    Unseen,
    /// Part of the population at the last observation.
    Eligible,
    /// Outside of the population at the last observation.
    Ineligible,
}

/// The last score that consumers were given.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Emitted {
    /// The time for which the score was valid, milliseconds.
    pub as_of_ms: i64,
    /// The calibrated probability of the record.
    pub probability: f64,
    /// The calibrated logit, on the grid of scores.
    pub logit: f64,
    /// The probability emitted before it.
    pub previous_probability: Option<f64>,
}

/// One point of an entity's score history.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryPoint {
    /// The time for which the score was valid, milliseconds.
    pub as_of_ms: i64,
    /// The calibrated probability at that time.
    pub probability: f64,
}
