//! The epoch record: what decided an epoch's outcome. All of them, with the input topics, are a script any engine replays.

use serde::{Deserialize, Serialize};

use crate::ports::{CommittedEpoch, InputPartition, NextOffset, PortError};

/// The records an epoch took from one partition: `start..end`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionInterval {
    /// Topic name.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// First offset taken.
    pub start: i64,
    /// One past the last offset taken.
    pub end: i64,
}

/// What `as_of` was decided from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockState {
    /// The wall clock given to the epoch, milliseconds; `None` when only events moved `as_of`.
    pub live_at: Option<i64>,
    /// Newest accepted event time of any epoch so far, milliseconds.
    pub newest_event_at: Option<i64>,
}

/// A number of records by reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonCount {
    /// Reason.
    pub reason: String,
    /// How many.
    pub count: i64,
}

/// What decided an epoch's outcome, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Worker the epoch belongs to.
    pub worker: String,
    /// Number, from 1, without gaps.
    pub epoch: i64,
    /// Moment its scores are valid at, milliseconds.
    pub as_of: i64,
    /// Board in force at its end; -1 before the first.
    pub board: i64,
    /// Bundle that scored.
    pub bundle_id: Option<String>,
    /// Feature plan of that bundle.
    pub plan_hash: Option<String>,
    /// Fingerprint of the input schemas.
    pub catalog_fingerprint: String,
    /// Every input partition, in order, whether it moved or not.
    pub partitions: Vec<PartitionInterval>,
    /// What `as_of` was decided from.
    pub clock: ClockState,
    /// Whether this is the closing tick.
    pub closing: bool,
    /// Records applied to the graph.
    pub accepted: i64,
    /// Records dropped because their id was seen.
    pub duplicate: i64,
    /// Records older than the late horizon; dead letters too.
    pub late: i64,
    /// Records ahead of their Kafka timestamp; dead letters too.
    pub future: i64,
    /// Dead letters by reason, late and future ones included.
    pub dead_lettered: Vec<ReasonCount>,
    /// Entities scored.
    pub scored: i64,
    /// Score records written.
    pub scores: i64,
    /// Alert records written.
    pub alerts: i64,
    /// SHA-256 of the outputs' keys and values in order, hexadecimal.
    pub digest: String,
}

impl EpochRecord {
    /// The positions after it.
    pub fn positions(&self) -> Vec<NextOffset> {
        self.partitions.iter().map(|p| NextOffset(p.end)).collect()
    }
    /// Records it took.
    pub fn records(&self) -> u64 {
        self.partitions.iter().map(|p| (p.end - p.start).max(0) as u64).sum()
    }
    /// Whether it speaks of exactly these input partitions, in this order.
    pub fn is_of(&self, partitions: &[InputPartition]) -> bool {
        self.partitions.len() == partitions.len()
            && self.partitions.iter().zip(partitions).all(|(a, b)| a.topic == b.topic && a.partition == b.partition)
    }
}

/// Checks that committed epoch records form a script up to the committed epoch: numbers without gaps, intervals that tile every
/// partition, `as_of` that never goes back, and an end where the committed positions are.
pub fn check_script(script: &[EpochRecord], committed: &CommittedEpoch, partitions: &[InputPartition]) -> Result<(), PortError> {
    let refuse = |message: String| Err(PortError::Fatal(format!("the epoch records are not a script: {message}")));
    let Some(last) = script.last() else {
        return refuse(format!("epoch {} is committed, but the topic holds no record of it", committed.number));
    };
    for (index, record) in script.iter().enumerate() {
        if record.epoch != index as i64 + 1 {
            return refuse(format!("record {} is of epoch {}, not {}", index, record.epoch, index + 1));
        }
        if !record.is_of(partitions) {
            return refuse(format!("epoch {} was of other input partitions; partitions are fixed when a deployment starts", record.epoch));
        }
        if let Some(before) = index.checked_sub(1).map(|i| &script[i]) {
            if record.as_of < before.as_of {
                return refuse(format!("as_of goes back in epoch {}", record.epoch));
            }
            if record.partitions.iter().zip(&before.partitions).any(|(now, then)| now.start != then.end) {
                return refuse(format!("the intervals of epochs {} and {} do not meet", before.epoch, record.epoch));
            }
        }
    }
    if last.epoch as u64 != committed.number || last.positions().into_iter().map(Some).ne(committed.positions.iter().copied()) {
        return refuse(format!("it ends with epoch {}, but epoch {} is committed", last.epoch, committed.number));
    }
    Ok(())
}
