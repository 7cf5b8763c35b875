//! Dirty cells: taken to be scored, or marked all at once by the engine.

use crate::change::Tracker;
use crate::change::reasons::Reasons;
use crate::change::sharing::Sharing;
use crate::ids::CellRef;
use crate::state::Cells;
use crate::state::cell::Cell;

impl Tracker {
    /// Takes the cells to score now: all dirty ones, and up to `soft_budget` of the soft-dirty. In
    /// order of shard and index, each once, with its reasons. Emptied cells become free instead,
    /// once they wait in `other` no more either.
    pub fn take_dirty(
        &mut self,
        cells: &mut Cells,
        other: &Tracker,
        soft_budget: usize,
    ) -> Vec<(CellRef, Reasons)> {
        self.mark_soft(cells, soft_budget);
        let mut taken = Vec::new();
        for (number, shard) in self.shards.iter_mut().enumerate() {
            let state = &mut cells.shards[number];
            let mut dirty = std::mem::take(&mut shard.dirty);
            dirty.sort_unstable();
            for index in dirty {
                let known = shard.cells.at_mut(index as usize);
                let mut reasons = std::mem::take(&mut known.reasons);
                let cell = &state.cells()[index as usize];
                let at = CellRef::at(number, index as usize);
                if cell.nodes.is_empty() {
                    // Nobody scores it, and it is due no more.
                    if known.end_wait() && self.sharing == Sharing::Budget {
                        self.waiting -= 1;
                    }
                    shard.set_deadline(index, i64::MAX);
                    // With a kept contribution the cell is in `changed`: the next board frees it.
                    if cell.frozen.is_none() && !other.is_dirty(at) {
                        state.book.change().free.push(index);
                    }
                    continue;
                }
                if std::mem::take(&mut known.is_swapped) {
                    reasons = reasons.with(Reasons::BUNDLE);
                }
                taken.push((at, reasons));
            }
        }
        taken
    }

    /// Marks up to `budget` of the soft-dirty cells.
    fn mark_soft(&mut self, cells: &Cells, budget: usize) {
        self.order_soft();
        let mut left = budget;
        while left > 0
            && let Some(at) = self.soft.pop()
        {
            let known = self.cell(at);
            if !known.waits() {
                continue;
            }
            let reason = match known.is_stale {
                true => Reasons::EVENT,
                false => Reasons::BOARD,
            };
            self.end_wait(at);
            if cells.get(at).nodes.is_empty() {
                continue;
            }
            left -= 1;
            self.shards[at.shard as usize].mark(at.index, reason);
        }
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
        self.waiting = 0;
        for (number, shard) in self.shards.iter_mut().enumerate() {
            shard.timers.clear();
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
                if waits {
                    self.waiting += 1;
                    self.soft.push(at);
                }
            }
        }
        self.soft_is_ordered = false;
    }

    /// Marks every cell that has a node, with one reason.
    pub fn mark_all(&mut self, cells: &Cells, reason: Reasons) {
        for (at, _) in cells.occupied() {
            self.shards[at.shard as usize].mark(at.index, reason);
        }
    }
}
