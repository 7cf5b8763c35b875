//! Change tracking: which cells wait to be scored again, in which order, and why.
//!
//! A cell becomes dirty for one of four causes, each in its own file: effects of rows
//! ([`effects`]), boards that moved its hubs ([`soft`]), timers ([`timers`]), and orders of the
//! engine ([`dirty`]). Where many become dirty at once, [`sharing`] says when each is taken. The
//! tracker reads cells and never changes one.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use leadpulse_schema::DayWindow;

use crate::ids::CellRef;

pub(crate) mod boards;
mod dirty;
pub(crate) mod effects;
pub(crate) mod reasons;
pub(crate) mod sharing;
mod soft;
mod timers;

use reasons::Reasons;
use sharing::Sharing;

/// Tracking of changes for re-scoring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// Dirty cells, timers and soft-dirty sweeps after boards.
    On,
    /// None of it: training and backtests score at anchors of their own choosing.
    Off,
}

/// The knowledge of one cell's last score, and of the reasons to score it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct TrackedCell {
    /// The reasons for which the cell is dirty; empty for a clean one.
    reasons: Reasons,
    /// The time of the timer at which the cell becomes dirty by itself, milliseconds. Earlier timers
    /// of its index are of an earlier score, or of a cell that was there before.
    deadline_ms: i64,
    /// The mean drift of the cell's hubs at its last score.
    drift_seen: f64,
    /// Distance of the last score to the nearest threshold, logits.
    margin: f32,
    /// True once the cell was scored.
    is_scored: bool,
    /// True while the cell waits among the soft-dirty because of a cell that it refers to.
    is_stale: bool,
    /// True while the standing score of the cell is another bundle's.
    is_swapped: bool,
    /// True while the cell waits for its place after a board that moved its hubs.
    is_moved: bool,
    /// Hash of the anchor's key, which gives the cell its place in the hour.
    place: u32,
}

impl Default for TrackedCell {
    fn default() -> Self {
        Self {
            reasons: Reasons::default(),
            deadline_ms: i64::MAX,
            drift_seen: 0.0,
            margin: 0.0,
            is_scored: false,
            is_stale: false,
            is_swapped: false,
            is_moved: false,
            place: 0,
        }
    }
}

/// The tracked cells of one shard, by index.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct TrackedShard {
    cells: Vec<TrackedCell>,
    /// Indices of cells with a reason, each once.
    dirty: Vec<u32>,
    /// Time on the grid → indices of cells to look at then.
    timers: BTreeMap<i64, Vec<u32>>,
}

impl TrackedShard {
    fn mark(&mut self, index: u32, reason: Reasons) {
        let cell = &mut self.cells[index as usize];
        if cell.reasons.is_empty() {
            self.dirty.push(index);
        }
        cell.reasons = cell.reasons.with(reason);
    }
}

/// The stored state of a tracker.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredTracker<'a> {
    shards: Cow<'a, [TrackedShard]>,
    soft: Cow<'a, [CellRef]>,
    soft_is_ordered: bool,
    is_replaying: bool,
}

/// All that is known of changes since each cell's last score.
#[derive(Debug)]
pub(crate) struct Tracker {
    tracking: Tracking,
    /// Windows of all populations: a day that leaves one may move an entity out of its population.
    windows: Vec<DayWindow>,
    shards: Vec<TrackedShard>,
    /// Soft-dirty cells; once in order, the one nearest to a threshold is last.
    soft: Vec<CellRef>,
    soft_is_ordered: bool,
    /// True while rows of the past are applied again: nothing is scored before a restart.
    is_replaying: bool,
    /// The way in which many cells that become dirty at once share the time after.
    sharing: Sharing,
}

impl Tracker {
    /// Makes a cell dirty.
    pub fn mark(&mut self, at: CellRef, reason: Reasons) {
        self.shards[at.shard as usize].mark(at.index, reason);
    }

    pub fn new(
        tracking: Tracking,
        windows: Vec<DayWindow>,
        shards: usize,
        sharing: Sharing,
    ) -> Self {
        Self {
            tracking,
            windows,
            sharing,
            shards: (0..shards).map(|_| TrackedShard::default()).collect(),
            soft: Vec::new(),
            soft_is_ordered: true,
            is_replaying: false,
        }
    }

    /// The tracker as stored state, without what is given: the windows, and that changes are
    /// tracked.
    pub fn stored(&self) -> StoredTracker<'_> {
        StoredTracker {
            shards: Cow::Borrowed(&self.shards),
            soft: Cow::Borrowed(&self.soft),
            soft_is_ordered: self.soft_is_ordered,
            is_replaying: self.is_replaying,
        }
    }

    /// A tracker that goes on from stored state.
    pub fn restored(
        tracking: Tracking,
        windows: Vec<DayWindow>,
        sharing: Sharing,
        stored: StoredTracker<'_>,
    ) -> Self {
        Self {
            tracking,
            windows,
            sharing,
            shards: stored.shards.into_owned(),
            soft: stored.soft.into_owned(),
            soft_is_ordered: stored.soft_is_ordered,
            is_replaying: stored.is_replaying,
        }
    }

    /// Whether every cell of the graph is tracked, and no other: `cells` has their number by
    /// shard.
    pub fn tracks(&self, cells: impl ExactSizeIterator<Item = usize>) -> bool {
        let is_cell = |shard: usize, index: u32| {
            let of = self.shards.get(shard);
            of.is_some_and(|of| (index as usize) < of.cells.len())
        };
        let listed = self.shards.iter().enumerate().all(|(number, shard)| {
            let timed = shard.timers.values().flatten();
            let mut all = shard.dirty.iter().chain(timed);
            all.all(|index| is_cell(number, *index))
        });
        let mut soft = self.soft.iter();
        self.shards.len() == cells.len()
            && self
                .shards
                .iter()
                .zip(cells)
                .all(|(s, n)| s.cells.len() == n)
            && listed
            && soft.all(|at| is_cell(at.shard as usize, at.index))
    }

    pub fn tracking(&self) -> Tracking {
        self.tracking
    }

    fn cell(&self, at: CellRef) -> &TrackedCell {
        &self.shards[at.shard as usize].cells[at.index as usize]
    }

    fn cell_mut(&mut self, at: CellRef) -> &mut TrackedCell {
        &mut self.shards[at.shard as usize].cells[at.index as usize]
    }

    /// Whether the listed cells are those with a reason, each once.
    pub fn dirty_are_listed_once(&self) -> bool {
        self.shards.iter().all(|shard| {
            let mut listed = shard.dirty.clone();
            listed.sort_unstable();
            let cells = shard.cells.iter().enumerate();
            let dirty = cells.filter(|(_, cell)| !cell.reasons.is_empty());
            dirty.map(|(index, _)| index as u32).eq(listed)
        })
    }

    /// Whether a cell is dirty.
    pub fn is_dirty(&self, at: CellRef) -> bool {
        !self.cell(at).reasons.is_empty()
    }
}
