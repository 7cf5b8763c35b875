//! Dirty cells: taken to be scored within a limit, or marked all at once by the engine.

use crate::change::Tracker;
use crate::change::reasons::Reasons;
use crate::ids::CellRef;
use crate::state::Cells;
use crate::state::cell::Cell;

/// The most to take at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakeLimit {
    /// Soft-dirty cells.
    pub soft_cells: usize,
    /// Work of all cells together: see [`crate::Graph::work`]. One cell is taken in any case.
    pub nodes: u64,
}

impl TakeLimit {
    /// Takes everything.
    pub const NONE: TakeLimit = TakeLimit {
        soft_cells: usize::MAX,
        nodes: u64::MAX,
    };

    /// Takes all dirty cells, and so many of the soft-dirty.
    pub fn of_soft(soft_cells: usize) -> Self {
        Self {
            soft_cells,
            nodes: u64::MAX,
        }
    }
}

/// The work of scoring a cell, in nodes.
// A cell without members costs about as much as four members do: the columns of the root and of its
// hubs.
pub(crate) fn work_of(cell: &Cell) -> u64 {
    4 + cell.nodes.len() as u64
}

/// Takes after which a cell goes before all that began to wait later, however far from a threshold.
const AGED_ROUNDS: u32 = 64;
/// The share of a limit that soft-dirty cells get however many dirty ones there are.
const SOFT_SHARE: u64 = 4;

impl Tracker {
    /// Takes the cells to score now, within a limit: the dirty ones, then the soft-dirty. In order of
    /// shard and index, each once, with its reasons. Emptied cells become free instead,
    /// once they wait in `other` no more either.
    ///
    /// Where not all fit, those that have waited for [`AGED_ROUNDS`] takes come first, the longest
    /// wait before the others; then those nearest to a threshold. The rest waits on.
    // Decision: docs/decisions/0072-epochs-bounded-by-work.md
    pub fn take_dirty(
        &mut self,
        cells: &mut Cells,
        other: &Tracker,
        limit: TakeLimit,
    ) -> Vec<(CellRef, Reasons)> {
        if self.sharing.is_by_budget() {
            self.round = self.round.saturating_add(1);
        }
        self.free_emptied(cells, other);
        let reserved = match self.waiting > 0 && limit.soft_cells > 0 {
            true => limit.nodes / SOFT_SHARE,
            false => 0,
        };
        let mut chosen = self.choose_dirty(cells, limit.nodes - reserved);
        let used: u64 = chosen.iter().map(|at| work_of(cells.get(*at))).sum();
        let left = TakeLimit {
            nodes: limit.nodes.saturating_sub(used),
            ..limit
        };
        self.choose_soft(cells, left, &mut chosen);
        chosen.sort_unstable();
        let taken = chosen.into_iter().map(|at| {
            let known = self.cell_mut(at);
            let reasons = std::mem::take(&mut known.reasons);
            match std::mem::take(&mut known.is_swapped) {
                true => (at, reasons.with(Reasons::BUNDLE)),
                false => (at, reasons),
            }
        });
        let taken: Vec<(CellRef, Reasons)> = taken.collect();
        for shard in &mut self.shards {
            let cells = &shard.cells;
            let is_left = |index: &u32| !cells[*index as usize].reasons.is_empty();
            shard.dirty.retain(is_left);
        }
        taken
    }

    /// Drops dirty cells without nodes: nobody scores them, and they are due no more.
    fn free_emptied(&mut self, cells: &mut Cells, other: &Tracker) {
        for (number, shard) in self.shards.iter_mut().enumerate() {
            let state = &mut cells.shards[number];
            let mut dirty = std::mem::take(&mut shard.dirty);
            dirty.sort_unstable();
            for index in dirty {
                let cell = &state.cells()[index as usize];
                if !cell.nodes.is_empty() {
                    shard.dirty.push(index);
                    continue;
                }
                let is_frozen = cell.frozen.is_some();
                let known = shard.cells.at_mut(index as usize);
                known.reasons = Reasons::default();
                if known.end_wait() && self.sharing.is_by_budget() {
                    self.waiting -= 1;
                }
                shard.set_deadline(index, i64::MAX);
                // With a kept contribution the cell is in `changed`: the next board frees it.
                let at = CellRef::at(number, index as usize);
                if !is_frozen && !other.is_dirty(at) {
                    state.book.change().free.push(index);
                }
            }
        }
    }

    /// The dirty cells within so many nodes.
    fn choose_dirty(&self, cells: &Cells, nodes: u64) -> Vec<CellRef> {
        let shards = self.shards.iter().enumerate();
        let all = shards.flat_map(|(number, shard)| {
            let dirty = shard.dirty.iter();
            dirty.map(move |index| CellRef::at(number, *index as usize))
        });
        let mut chosen: Vec<CellRef> = all.collect();
        let work: u64 = chosen.iter().map(|at| work_of(cells.get(*at))).sum();
        if work <= nodes {
            return chosen;
        }
        chosen.sort_by(|a, b| self.urgency(*a).cmp(&self.urgency(*b)).then(a.cmp(b)));
        let mut used = 0;
        let within = chosen.iter().take_while(|at| {
            let has_room = used < nodes;
            used += work_of(cells.get(**at));
            has_room
        });
        let within = within.count();
        chosen.truncate(within);
        chosen
    }

    /// The order of cells that do not all fit: what has waited long, then what is near to a threshold.
    fn urgency(&self, at: CellRef) -> (bool, u32, u32) {
        let cell = self.cell(at);
        match self.is_aged(cell.since) {
            true => (false, cell.since, 0),
            // Distances are not negative, so their bits have their order.
            false => (true, 0, cell.margin.to_bits()),
        }
    }

    fn is_aged(&self, since: u32) -> bool {
        self.round.saturating_sub(since) > AGED_ROUNDS
    }

    /// Adds soft-dirty cells within a limit, marked with their reason.
    fn choose_soft(&mut self, cells: &Cells, limit: TakeLimit, chosen: &mut Vec<CellRef>) {
        self.order_soft();
        let (mut left, mut nodes) = (limit.soft_cells, limit.nodes);
        while left > 0 && (nodes > 0 || chosen.is_empty()) {
            let Some(at) = self.pop_aged().or_else(|| self.soft.pop()) else {
                break;
            };
            let known = self.cell(at);
            // One that is dirty, too, is taken with the others.
            if !known.waits() || !known.reasons.is_empty() {
                continue;
            }
            let reason = match known.is_stale {
                true => Reasons::EVENT,
                false => Reasons::BOARD,
            };
            self.end_wait(at);
            let cell = cells.get(at);
            if cell.nodes.is_empty() {
                continue;
            }
            left -= 1;
            nodes = nodes.saturating_sub(work_of(cell));
            self.shards[at.shard as usize].mark(at.index, reason, self.round);
            chosen.push(at);
        }
    }

    /// The soft-dirty cell that has waited longest, if that is long.
    fn pop_aged(&mut self) -> Option<CellRef> {
        while let Some((since, at)) = self.soft_ages.first().copied() {
            if !self.is_aged(since) {
                return None;
            }
            self.soft_ages.pop_first();
            if self.cell(at).since == since {
                return Some(at);
            }
        }
        None
    }

    /// Stops boards from marking cells until [`Self::restart`].
    pub fn begin_replay(&mut self) {
        self.is_replaying = true;
    }

    /// Makes every cell soft-dirty, as if none had been scored before.
    pub fn restart(
        &mut self,
        cells: &Cells,
        margin: impl Fn(CellRef, &Cell) -> f32,
        is_swapped: bool,
    ) {
        self.is_replaying = false;
        self.soft.clear();
        self.soft_ages.clear();
        self.round = 0;
        self.waiting = 0;
        for (number, shard) in self.shards.iter_mut().enumerate() {
            shard.timers.clear();
            // What did not fit into an epoch waits like all others.
            let state = cells.shards[number].cells();
            shard
                .dirty
                .retain(|index| state[*index as usize].nodes.is_empty());
            for (index, known) in shard.cells.iter_mut().enumerate() {
                let at = CellRef::at(number, index);
                let cell = cells.get(at);
                let waits = !cell.nodes.is_empty();
                known.deadline_ms = i64::MAX;
                known.is_scored = false;
                known.drift_seen = 0.0;
                known.margin = if waits { margin(at, cell) } else { 0.0 };
                known.is_stale = waits;
                known.is_moved = false;
                known.is_swapped = waits && is_swapped;
                known.since = 0;
                if waits {
                    known.reasons = Reasons::default();
                    self.waiting += 1;
                    self.soft.push(at);
                }
            }
        }
        self.soft_ages = self.soft.iter().map(|at| (0, *at)).collect();
        self.soft_is_ordered = false;
    }

    /// Marks every cell that has a node, with one reason.
    pub fn mark_all(&mut self, cells: &Cells, reason: Reasons) {
        for (at, _) in cells.occupied() {
            self.shards[at.shard as usize].mark(at.index, reason, self.round);
        }
    }
}
