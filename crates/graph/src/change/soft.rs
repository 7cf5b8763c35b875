//! Soft-dirty cells: those that may wait, taken a few at a time, the nearest to a threshold first.
//!
//! A cell is soft-dirty when a board moved its view of its hubs by more than ε, or when a cell
//! changed that it and very many others refer to.

use rayon::prelude::*;

use crate::change::sharing::Sharing;
use crate::change::{TrackedCell, Tracker, Tracking};
use crate::ids::CellRef;
use crate::state::Cells;
use crate::state::hubs::Hubs;

impl Tracker {
    /// Puts a cell among the soft-dirty because of a cell that it refers to.
    pub(super) fn soften(&mut self, at: CellRef, fired_ms: i64) {
        let cell = self.cell(at);
        if !cell.reasons.is_empty() || cell.is_stale {
            return;
        }
        let (waits, round) = (cell.is_moved, self.round);
        self.cell_mut(at).is_stale = true;
        match self.sharing {
            Sharing::Budget { .. } if waits => {}
            Sharing::Budget { .. } => {
                self.cell_mut(at).since = round;
                self.waiting += 1;
                self.soft.push(at);
                self.soft_ages.insert((round, at));
                self.soft_is_ordered = false;
            }
            Sharing::Places { .. } => self.wait_for_place(at, fired_ms),
        }
    }

    /// Finds the cells whose view of the hubs moved by more than ε since their last score. They are
    /// soft-dirty, beside those that wait because of others already; or they wait for their place
    /// after the board.
    pub fn sweep(&mut self, cells: &Cells, hubs: &Hubs, board_ms: i64) {
        if self.tracking == Tracking::Off || self.is_replaying {
            return;
        }
        let waits_by_budget = self.sharing.is_by_budget();
        let epsilon = cells.shared.options.board_epsilon;
        let tracked = self.shards.par_iter().zip(&cells.shards).enumerate();
        let soft = tracked.flat_map_iter(|(number, (tracked, shard))| {
            let both = tracked.cells.iter().zip(shard.cells()).enumerate();
            both.filter_map(move |(index, (known, cell))| {
                let is_drifted = || {
                    known.is_scored && hubs.mean_drift(&cell.hubs()) - known.drift_seen > epsilon
                };
                let waits = known.waits() && waits_by_budget;
                let is_soft =
                    known.reasons.is_empty() && (waits || !cell.nodes.is_empty() && is_drifted());
                is_soft.then_some(CellRef::at(number, index))
            })
        });
        let soft: Vec<CellRef> = soft.collect();
        let round = self.round;
        for at in &soft {
            if !self.cell(*at).waits() {
                let cell = self.cell_mut(*at);
                cell.is_moved = true;
                if waits_by_budget {
                    cell.since = round;
                    self.waiting += 1;
                    self.soft_ages.insert((round, *at));
                }
            }
            if !waits_by_budget {
                self.wait_for_place(*at, board_ms);
            }
        }
        if waits_by_budget {
            self.soft = soft;
            self.soft_is_ordered = false;
        }
    }

    /// Makes the next sweep list every cell that was scored, whatever its hubs did.
    pub fn forget_drift(&mut self) {
        let shards = self.shards.iter_mut();
        for known in shards.flat_map(|shard| shard.cells.iter_mut()) {
            known.drift_seen = f64::NEG_INFINITY;
        }
    }

    /// Orders soft-dirty cells: the one nearest to a threshold comes last.
    pub(super) fn order_soft(&mut self) {
        if self.soft_is_ordered {
            return;
        }
        let with_margin = self.soft.iter().map(|at| (self.cell(*at).margin, *at));
        let mut soft: Vec<(f32, CellRef)> = with_margin.collect();
        soft.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
        self.soft = soft.into_iter().map(|(_, at)| at).collect();
        self.soft_is_ordered = true;
    }

    /// The number of soft-dirty cells.
    pub fn deferred(&self) -> usize {
        self.waiting
    }

    /// Ends the wait of a cell, which is scored or gone. Its place among the soft-dirty stays
    /// until it comes up.
    pub(super) fn end_wait(&mut self, at: CellRef) {
        let cells = &self.shards[at.shard as usize].cells;
        if !cells.get(at.index as usize).is_some_and(TrackedCell::waits) {
            return;
        }
        self.cell_mut(at).end_wait();
        if self.sharing.is_by_budget() {
            self.waiting -= 1;
        }
    }
}
