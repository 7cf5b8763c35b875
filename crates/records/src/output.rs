//! Output topics, and the records that go to them.

/// The topic an output record goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Output {
    /// Every score record: the history.
    Scores,
    /// Alert records.
    Alerts,
    /// Records that could not be used: original bytes.
    DeadLetters,
    /// Epoch records.
    Epochs,
    /// Policy state.
    PolicyState,
    /// The newest score record of each (task, entity); a tombstone once the entity is deleted.
    CurrentScores,
}

impl Output {
    /// Every output.
    pub const ALL: [Self; 6] = [
        Self::Scores,
        Self::Alerts,
        Self::DeadLetters,
        Self::Epochs,
        Self::PolicyState,
        Self::CurrentScores,
    ];
}

/// A record to produce. Its bytes are final when the epoch is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputRecord {
    /// Where to.
    pub output: Output,
    /// Kafka key.
    pub key: Option<Vec<u8>>,
    /// Kafka value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers, in order; `None` is a null value.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Record timestamp, milliseconds: the epoch's `as_of` (dead letters: the original's).
    pub timestamp_ms: i64,
}

/// Kafka key of scores and policy states.
pub fn output_key(task: &str, entity_type: &str, entity_id: &str) -> Vec<u8> {
    format!("{task}|{entity_type}|{entity_id}").into_bytes()
}
