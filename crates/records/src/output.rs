//! Output records with their topics and keys.

/// The topic an output record goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Output {
    /// Score records of all epochs: the history.
    Scores,
    /// Alert records.
    Alerts,
    /// Input records that could not be used, with their original bytes.
    DeadLetters,
    /// Records of the epochs: the script.
    Epochs,
    /// Memory of the alert rules about each (task, entity).
    PolicyState,
    /// The newest score record of each (task, entity); a tombstone once the entity is deleted.
    CurrentScores,
    /// The newest work list of each (task, person).
    WorkLists,
    /// Alerts that were told, or held out, one record each.
    Exposures,
    /// Proofs that a person was erased.
    ErasureProofs,
}

impl Output {
    /// All outputs, in order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Scores,
        Self::Alerts,
        Self::DeadLetters,
        Self::Epochs,
        Self::PolicyState,
        Self::CurrentScores,
        Self::WorkLists,
        Self::Exposures,
        Self::ErasureProofs,
    ];
}

/// A record to produce, with final bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputRecord {
    /// Topic of the record.
    pub output: Output,
    /// Kafka key; `None` is a null key.
    pub key: Option<Vec<u8>>,
    /// Kafka value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers, in order; `None` is a null value.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Record timestamp, milliseconds: the epoch's `as_of` (dead letters: the original's).
    pub timestamp_ms: i64,
}

/// Kafka key of scores and policy states: task, table and entity key, joined by bars.
pub fn output_key(task: &str, entity_type: &str, entity_id: &str) -> Vec<u8> {
    format!("{task}|{entity_type}|{entity_id}").into_bytes()
}
