//! The epoch record: the decisions of one epoch. All records in order, with the input topics, are
//! the *script* of a deployment.
//!
//! A restart follows the script: the same intervals, moments and external decisions give the same
//! graph (C2). What was scored and
//! alerted is not computed again; it is read back from the compacted outputs. [`Chain`](crate::Chain) checks
//! that records follow each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ports::{InputPartition, NextOffset, Nonce};

mod fate;
mod outcomes;
mod version;
mod work;

pub use fate::{Committed, Ending, Epoch, EpochTally, EpochViews, MeasuredWork, Sealed, UnderWay};
pub(crate) use outcomes::sum;
pub use outcomes::{Notice, OutcomeCounts};
pub use version::{RescoringNote, VERSION_SECTION, VersionNote};
pub use work::{TickProgress, TickStep, WORK_SECTION, WorkBudget, WorkNote};

/// The format of epoch records that this program writes.
pub const EPOCH_RECORD_VERSION: i32 = 4;
/// The format of layout records that this program writes.
pub const LAYOUT_VERSION: i32 = 1;
/// The section of an epoch record that holds the layout's record, in the first epoch that refers
/// to it. So every record of the epochs topic is
/// an epoch record: whoever reads the topic by one schema can.
pub const LAYOUT_SECTION: &str = "layout";
/// Section of the first epoch of a process that went on from the stored state of the epoch before:
/// nothing waits that did not wait then.
pub const RESUMED_SECTION: &str = "resumed";

/// Section of an epoch that took requests to erase: JSON of the places that held copies of records
/// then, as [`Holding`](crate::ports::Holding)s.
pub const HOLDINGS_SECTION: &str = "holdings";

/// The offsets an epoch took from one partition: `start..end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionInterval {
    /// First offset of the interval.
    pub start: i64,
    /// Offset after the interval.
    pub end: i64,
    /// Records in the interval. Markers and aborted records are offsets without a record.
    pub read: i64,
}

/// Offsets of one partition with an external decision: an unknown schema, a batch left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecidedRange {
    /// Index in the layout.
    pub partition: i32,
    pub start: i64,
    /// Offset after the last.
    pub end: i64,
    /// Code of the decision.
    pub reason: String,
}

impl DecidedRange {
    /// True if a record lies in the range.
    pub fn holds(&self, partition: u32, offset: i64) -> bool {
        self.partition as u32 == partition && (self.start..self.end).contains(&offset)
    }
}

/// The times that an epoch was decided with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockState {
    /// Reading of the clock that `as_of` moved by, milliseconds; `None` when only events moved it.
    pub live_at: Option<i64>,
    /// Reading of the clock that rows from the future were refused by, milliseconds; `None` where
    /// the clock is not looked at.
    pub bound_at: Option<i64>,
    /// Newest accepted event time of any epoch so far, milliseconds.
    pub newest_event_at: Option<i64>,
}

/// Count of the records with one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonCount {
    /// Code of the reason.
    pub reason: String,
    /// Records with the reason.
    pub count: i64,
}

/// The decisions of one epoch and their outcome; see `schemas/outputs/epoch_record.avsc`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Format the record was written in.
    pub version: i32,
    /// Bucket of root keys; 0 while one worker owns all.
    pub lane: i32,
    /// Id of the [`PartitionLayout`] that partitions are indices of.
    pub layout: i32,
    /// Worker of the epoch.
    pub worker: String,
    /// Program and version that decided the epoch; empty in format 1.
    pub program: String,
    /// Number, from 1, without gaps.
    pub epoch: i64,
    /// [`Nonce`] in hexadecimal; empty in format 1.
    pub nonce: String,
    /// Token of the process start that sealed the epoch; empty in format 1.
    pub owner: String,
    /// Moment its scores are valid at, milliseconds.
    pub as_of: i64,
    /// Board in force at its end; −1 before the first.
    pub board: i64,
    /// Digest of the deployed version; empty in format 1.
    pub deployed: String,
    /// Id of the bundle that scored.
    pub bundle_id: Option<String>,
    /// Feature plan of that bundle.
    pub plan_hash: Option<String>,
    /// Fingerprint of the input schemas.
    pub catalog_fingerprint: String,
    /// Interval of every partition of the layout, in its order.
    pub partitions: Vec<PartitionInterval>,
    /// The times it was decided with.
    pub clock: ClockState,
    /// True for the closing tick.
    pub closing: bool,
    /// Records that were dead letters because of an answer from outside.
    pub refused: Vec<DecidedRange>,
    /// Offsets that were not read, by an operator's decision.
    pub skipped: Vec<DecidedRange>,
    /// Records applied to the graph, those with a remark included.
    pub accepted: i64,
    /// Records dropped because their id was seen, and repeated deletions.
    pub duplicate: i64,
    /// Records older than the late horizon; dead letters too.
    pub late: i64,
    /// Records ahead of their Kafka timestamp or of the clock; dead letters too.
    pub future: i64,
    /// Dead letters by reason, late and future ones included.
    pub dead_lettered: Vec<ReasonCount>,
    /// Entities that were scored, whether or not a record was due.
    pub scored: i64,
    pub scores: i64,
    pub alerts: i64,
    /// SHA-256 of the outputs' keys and values in order, hexadecimal. An audit.
    pub digest: String,
    /// Further decisions by name.
    #[serde(with = "bytes_by_name")]
    pub sections: BTreeMap<String, Vec<u8>>,
    /// Records that changed nothing, besides duplicates and dead letters, by
    /// [code](leadpulse_graph::RowOutcome::code), `filtered` or `no_row`, sorted; empty before
    /// format 3.
    #[serde(default)]
    pub unchanged: Vec<ReasonCount>,
    /// Accepted records with a remark, counted in `accepted` too, by code, sorted; empty before
    /// format 3.
    #[serde(default)]
    pub remarked: Vec<ReasonCount>,
    /// The tick after which alerts fire, milliseconds; `None` until it is decided.
    #[serde(default)]
    pub live_from: Option<i64>,
    /// Ticks that were closed, ascending; empty before format 4.
    #[serde(default)]
    pub ticks: Vec<TickClosing>,
    /// The tick that records applied after the last closed one belong to, milliseconds.
    #[serde(default)]
    pub open_tick: Option<i64>,
    /// Records that came after their tick was closed.
    #[serde(default)]
    pub late_for_tick: i64,
}

/// A closed tick: what was known by then is applied, nothing later is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TickClosing {
    /// The moment, milliseconds.
    pub tick: i64,
    /// Next offset of every partition: records before it belong to this tick or an earlier one.
    pub positions: Vec<i64>,
}

impl TickClosing {
    /// True for a record that belongs to this tick or an earlier one.
    pub fn covers(&self, partition: u32, offset: i64) -> bool {
        let at = self.positions.get(partition as usize);
        at.is_some_and(|at| offset < *at)
    }
}

/// Avro bytes in a map: serde would write arrays of numbers.
mod bytes_by_name {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct AvroBytes(#[serde(with = "apache_avro::serde::bytes")] Vec<u8>);

    pub fn serialize<S: Serializer>(
        map: &BTreeMap<String, Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            map.iter()
                .map(|(name, bytes)| (name, AvroBytes(bytes.clone()))),
        )
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, Vec<u8>>, D::Error> {
        let map = BTreeMap::<String, AvroBytes>::deserialize(deserializer)?;
        Ok(map
            .into_iter()
            .map(|(name, bytes)| (name, bytes.0))
            .collect())
    }
}

impl EpochRecord {
    /// The next offset of every partition after the epoch.
    pub fn positions(&self) -> Vec<NextOffset> {
        self.partitions.iter().map(|p| NextOffset(p.end)).collect()
    }
    /// Records that the epoch took, over all partitions.
    pub fn records(&self) -> u64 {
        self.partitions.iter().map(|p| p.read.max(0) as u64).sum()
    }
    /// The counts of the epoch's records by outcome.
    pub fn outcomes(&self) -> OutcomeCounts {
        OutcomeCounts {
            accepted: self.accepted,
            duplicate: self.duplicate,
            late: self.late,
            future: self.future,
            dead: sum(&self.dead_lettered),
            unchanged: self.unchanged.clone(),
            remarked: self.remarked.clone(),
        }
    }
    /// The nonce of the epoch; `None` in format 1.
    pub fn nonce(&self) -> Option<Nonce> {
        self.nonce.parse().ok()
    }
}

/// One input partition of a layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutPartition {
    pub topic: String,
    /// Partition number within the topic.
    pub partition: i32,
}

/// The input partitions that epoch records name by index; see
/// `schemas/outputs/partition_layout.avsc`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionLayout {
    /// Format the record was written in.
    pub version: i32,
    /// Lane of the epochs that refer to it.
    pub lane: i32,
    /// Id, from 1; 0 for that of records of format 1, which name partitions themselves.
    pub layout: i32,
    /// The partitions in order.
    pub partitions: Vec<LayoutPartition>,
}

impl PartitionLayout {
    /// A layout of these partitions.
    pub fn of(id: i32, partitions: &[InputPartition]) -> Self {
        let partition = |p: &InputPartition| LayoutPartition {
            topic: p.topic.clone(),
            partition: p.partition,
        };
        Self {
            version: LAYOUT_VERSION,
            lane: 0,
            layout: id,
            partitions: partitions.iter().map(partition).collect(),
        }
    }
    /// True if it lists exactly these partitions, in this order.
    pub fn is_of(&self, partitions: &[InputPartition]) -> bool {
        self.partitions.len() == partitions.len()
            && self
                .partitions
                .iter()
                .zip(partitions)
                .all(|(a, b)| a.topic == b.topic && a.partition == b.partition)
    }
}

/// A record of the epochs topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScriptRecord {
    /// A layout that the epochs after it refer to.
    Layout(PartitionLayout),
    /// An epoch.
    Epoch(Box<EpochRecord>),
}

/// An epoch record of format 1: partitions by name, no owner, no external decisions.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename = "EpochRecord")]
pub(crate) struct EpochRecordV1 {
    worker: String,
    epoch: i64,
    as_of: i64,
    board: i64,
    bundle_id: Option<String>,
    plan_hash: Option<String>,
    catalog_fingerprint: String,
    partitions: Vec<PartitionIntervalV1>,
    clock: ClockStateV1,
    closing: bool,
    accepted: i64,
    duplicate: i64,
    late: i64,
    future: i64,
    dead_lettered: Vec<ReasonCount>,
    scored: i64,
    scores: i64,
    alerts: i64,
    digest: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename = "PartitionInterval")]
struct PartitionIntervalV1 {
    topic: String,
    partition: i32,
    start: i64,
    end: i64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename = "ClockState")]
struct ClockStateV1 {
    live_at: Option<i64>,
    newest_event_at: Option<i64>,
}

impl EpochRecordV1 {
    /// Converts to the current format: the layout that the record names, and the record.
    pub(crate) fn upgraded(self) -> (PartitionLayout, EpochRecord) {
        let partition = |p: &PartitionIntervalV1| LayoutPartition {
            topic: p.topic.clone(),
            partition: p.partition,
        };
        let layout = PartitionLayout {
            version: 1,
            lane: 0,
            layout: 0,
            partitions: self.partitions.iter().map(partition).collect(),
        };
        let interval = |p: &PartitionIntervalV1| PartitionInterval {
            start: p.start,
            end: p.end,
            read: (p.end - p.start).max(0),
        };
        let record = EpochRecord {
            version: 1,
            lane: 0,
            layout: 0,
            worker: self.worker,
            program: String::new(),
            epoch: self.epoch,
            nonce: String::new(),
            owner: String::new(),
            as_of: self.as_of,
            board: self.board,
            deployed: String::new(),
            bundle_id: self.bundle_id,
            plan_hash: self.plan_hash,
            catalog_fingerprint: self.catalog_fingerprint,
            partitions: self.partitions.iter().map(interval).collect(),
            clock: ClockState {
                live_at: self.clock.live_at,
                bound_at: None,
                newest_event_at: self.clock.newest_event_at,
            },
            closing: self.closing,
            refused: Vec::new(),
            skipped: Vec::new(),
            accepted: self.accepted,
            duplicate: self.duplicate,
            late: self.late,
            future: self.future,
            dead_lettered: self.dead_lettered,
            scored: self.scored,
            scores: self.scores,
            alerts: self.alerts,
            digest: self.digest,
            sections: BTreeMap::new(),
            unchanged: Vec::new(),
            remarked: Vec::new(),
            live_from: None,
            ticks: Vec::new(),
            open_tick: None,
            late_for_tick: 0,
        };
        (layout, record)
    }
}

/// Joins adjacent offsets of each partition into ranges. `offsets` are sorted.
pub(crate) fn ranges(
    offsets: impl IntoIterator<Item = (u32, i64)>,
    reason: &str,
) -> Vec<DecidedRange> {
    let mut found: Vec<DecidedRange> = Vec::new();
    for (partition, offset) in offsets {
        match found.last_mut() {
            Some(last) if last.partition as u32 == partition && last.end == offset => last.end += 1,
            _ => found.push(DecidedRange {
                partition: partition as i32,
                start: offset,
                end: offset + 1,
                reason: reason.to_owned(),
            }),
        }
    }
    found
}
