//! Change tracking: which cells wait to be scored again, in which order, and why.
//!
//! A cell becomes dirty for one of four causes, each in its own file: effects of rows
//! ([`effects`]), boards that moved its hubs ([`soft`]), timers ([`timers`]), and orders of the
//! engine ([`dirty`]). Where many become dirty at once, [`sharing`] says when each is taken. The
//! tracker reads cells and never changes one.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use leadpulse_schema::DayWindow;

use crate::ids::CellRef;
use crate::pieces::{KeptList, Part, PieceError, Pieces, Which, read_value};

pub(crate) mod boards;
pub(crate) mod dirty;
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
    /// The round in which the cell began to wait: see [`Tracker::take_dirty`].
    since: u32,
}

impl TrackedCell {
    /// Whether the cell may wait, and does.
    fn waits(&self) -> bool {
        self.is_stale || self.is_moved
    }

    /// Ends the wait. Returns whether the cell waited.
    fn end_wait(&mut self) -> bool {
        let waited = self.waits();
        self.is_stale = false;
        self.is_moved = false;
        waited
    }
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
            since: 0,
        }
    }
}

/// The cells to look at at one moment.
#[derive(Clone, Debug, Default)]
struct TimerSlot {
    /// Indices of cells; some may have another deadline by now, or stand twice.
    indices: Vec<u32>,
    /// The number of cells with this deadline. A slot of none is dropped: nothing is due then.
    cells: usize,
}

/// The tracked cells of one shard, by index.
#[derive(Clone, Debug, Default)]
struct TrackedShard {
    cells: KeptList<TrackedCell>,
    /// Indices of cells with a reason, each once.
    dirty: Vec<u32>,
    /// Time on the grid → cells to look at then.
    timers: BTreeMap<i64, TimerSlot>,
}

impl TrackedShard {
    /// Gives a cell another deadline.
    fn set_deadline(&mut self, index: u32, deadline_ms: i64) {
        let before_ms = self.cells[index as usize].deadline_ms;
        if before_ms == deadline_ms {
            return;
        }
        self.leave_slot(before_ms);
        self.cells.at_mut(index as usize).deadline_ms = deadline_ms;
        if deadline_ms != i64::MAX {
            let slot = self.timers.entry(deadline_ms).or_default();
            slot.indices.push(index);
            slot.cells += 1;
        }
    }

    /// Notes that one cell less has a deadline.
    fn leave_slot(&mut self, deadline_ms: i64) {
        // Without a slot the deadline has passed.
        if let Entry::Occupied(mut slot) = self.timers.entry(deadline_ms) {
            slot.get_mut().cells -= 1;
            if slot.get().cells == 0 {
                slot.remove();
            }
        }
    }

    fn mark(&mut self, index: u32, reason: Reasons, round: u32) {
        let cell = &self.cells[index as usize];
        let (reasons, waits) = (cell.reasons, cell.waits());
        if reasons.is_empty() {
            self.dirty.push(index);
        }
        if !reasons.contains(reason) {
            let cell = self.cells.at_mut(index as usize);
            cell.reasons = reasons.with(reason);
            if reasons.is_empty() && !waits {
                cell.since = round;
            }
        }
    }
}

/// All that is known of changes since each cell's last score.
#[derive(Debug)]
pub(crate) struct Tracker {
    tracking: Tracking,
    /// Windows of all populations: a day that leaves one may move an entity out of its population.
    windows: Vec<DayWindow>,
    shards: Vec<TrackedShard>,
    /// Soft-dirty cells; once in order, the one nearest to a threshold is last. Some may have been
    /// scored since, and wait no more.
    soft: Vec<CellRef>,
    /// Soft-dirty cells with the round in which they began to wait. Some wait no more.
    soft_ages: BTreeSet<(u32, CellRef)>,
    /// Counts takes since the last restart, where cells wait by budget.
    round: u32,
    /// The number of cells that wait, where they wait by budget.
    waiting: usize,
    soft_is_ordered: bool,
    /// True while rows of the past are applied again: nothing is scored before a restart.
    is_replaying: bool,
    /// The way in which many cells that become dirty at once share the time after.
    sharing: Sharing,
}

impl Tracker {
    /// Makes a cell dirty.
    pub fn mark(&mut self, at: CellRef, reason: Reasons) {
        self.shards[at.shard as usize].mark(at.index, reason, self.round);
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
            soft_ages: BTreeSet::new(),
            round: 0,
            waiting: 0,
            soft_is_ordered: true,
            is_replaying: false,
        }
    }

    /// Whether rows of the past are applied again.
    pub fn is_replaying(&self) -> bool {
        self.is_replaying
    }

    /// Lists dirty and waiting cells, and timers, again, after cells were read from stored state.
    /// Timers up to `fired_ms` have fired: cells without nodes keep such deadlines.
    pub fn index(&mut self, fired_ms: i64) {
        let waits_by_budget = self.sharing.is_by_budget();
        for (number, shard) in self.shards.iter_mut().enumerate() {
            for (index, cell) in shard.cells.iter().enumerate() {
                if !cell.reasons.is_empty() {
                    shard.dirty.push(index as u32);
                } else if waits_by_budget && cell.waits() {
                    let at = CellRef::at(number, index);
                    self.soft.push(at);
                    self.soft_ages.insert((cell.since, at));
                }
                self.waiting += usize::from(waits_by_budget && cell.waits());
                if cell.deadline_ms > fired_ms && cell.deadline_ms != i64::MAX {
                    let slot = shard.timers.entry(cell.deadline_ms).or_default();
                    slot.indices.push(index as u32);
                    slot.cells += 1;
                }
            }
        }
        self.soft_is_ordered = false;
    }

    /// Whether every cell of the graph is tracked, and no other: `cells` has their number by
    /// shard.
    pub fn tracks(&self, cells: impl ExactSizeIterator<Item = usize>) -> bool {
        self.shards.len() == cells.len()
            && self
                .shards
                .iter()
                .zip(cells)
                .all(|(s, n)| s.cells.len() == n)
    }

    pub fn tracking(&self) -> Tracking {
        self.tracking
    }

    /// The number of takes since the last restart.
    pub fn round(&self) -> u32 {
        self.round
    }

    /// Sets the number of takes, of a stored tracker.
    pub fn set_round(&mut self, round: u32) {
        self.round = round;
    }

    /// The number of cells with a reason.
    pub fn dirty(&self) -> usize {
        self.shards.iter().map(|shard| shard.dirty.len()).sum()
    }

    fn cell(&self, at: CellRef) -> &TrackedCell {
        &self.shards[at.shard as usize].cells[at.index as usize]
    }

    fn cell_mut(&mut self, at: CellRef) -> &mut TrackedCell {
        self.shards[at.shard as usize]
            .cells
            .at_mut(at.index as usize)
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

/// A cell's piece has the numbers of its shard and of the cell as its key.
impl Part for Tracker {
    fn note(&mut self) {
        self.shards.iter_mut().for_each(|shard| shard.cells.start());
    }
    fn write(&self, which: Which, area: u8, pieces: &mut Pieces) {
        for (number, shard) in (0_u16..).zip(&self.shards) {
            for at in shard.cells.places(which) {
                let key = |out: &mut Vec<u8>| {
                    out.extend(number.to_be_bytes());
                    out.extend(at.to_be_bytes());
                };
                pieces.put(area, key, &shard.cells[at as usize]);
            }
        }
    }
    fn forget(&mut self) {
        let shards = self.shards.iter_mut();
        shards.for_each(|shard| shard.cells.forget_noted());
    }
    fn read(&mut self, area: u8, key: &[u8], value: &[u8]) -> Result<(), PieceError> {
        let (number, at) = key.split_first_chunk().ok_or(PieceError::Key)?;
        let at = u32::from_be_bytes(at.try_into().map_err(|_| PieceError::Key)?);
        let shard = self
            .shards
            .get_mut(usize::from(u16::from_be_bytes(*number)));
        let cell = read_value(area, value)?;
        shard.ok_or(PieceError::Key)?.cells.restore(at, cell)
    }
}
