//! Places that hold copies of records for a time: what the proof of an erasure names.

use serde::{Deserialize, Serialize};

/// The kind of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldingKind {
    /// An input topic.
    Input,
    /// An output topic whose records go by time, or never.
    Output,
    /// A topic that keeps the newest record of each key: compaction removes older ones.
    Compacted,
    /// Snapshots of the stored state.
    Snapshots,
}

impl HoldingKind {
    /// The name in proofs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::Compacted => "compacted",
            Self::Snapshots => "snapshots",
        }
    }
}

/// A place that holds copies of records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// Name of the topic, or of the place of snapshots.
    pub place: String,
    pub kind: HoldingKind,
    /// Time that a copy stays after it was made, milliseconds; `None` where no time ends it.
    pub keeps_ms: Option<i64>,
}
