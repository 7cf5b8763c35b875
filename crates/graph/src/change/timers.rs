//! Timers: passing time alone may move a score, or an entity out of a population.

use crate::change::Tracker;
use crate::change::reasons::Reasons;
use crate::ids::CellRef;
use crate::options::DAY_MS;
use crate::state::Cells;
use crate::state::cell::Cell;
use crate::state::hubs::Hubs;

impl Tracker {
    /// Marks the cells whose deadline has passed.
    pub fn fire_timers(&mut self, cells: &Cells, as_of_ms: i64) {
        let round = self.round;
        for (shard, state) in self.shards.iter_mut().zip(&cells.shards) {
            while let Some(entry) = shard.timers.first_entry().filter(|e| *e.key() <= as_of_ms) {
                for index in entry.remove().indices {
                    let cell = &shard.cells[index as usize];
                    // A cell that was just emptied has its timer, and must not be marked: its place may be
                    // given to another anchor at any time.
                    let is_empty = state.cells()[index as usize].nodes.is_empty();
                    if cell.deadline_ms <= as_of_ms && !is_empty {
                        let cell = shard.cells.at_mut(index as usize);
                        cell.deadline_ms = i64::MAX;
                        let reason = match (cell.is_stale, cell.is_moved) {
                            (true, _) => Reasons::EVENT,
                            (false, true) => Reasons::BOARD,
                            (false, false) => Reasons::TIMER,
                        };
                        shard.mark(index, reason, round);
                    }
                }
            }
        }
    }

    /// The time of the first deadline, milliseconds.
    pub fn next_timer_ms(&self) -> Option<i64> {
        let first = self.shards.iter().filter_map(|s| s.timers.keys().next());
        first.copied().min()
    }

    /// Notes that a cell was scored at a moment, and sets its next timer.
    pub fn scored(&mut self, cells: &Cells, hubs: &Hubs, as_of_ms: i64, at: CellRef, margin: f32) {
        let deadline_ms = self.deadline_ms(cells.get(at), as_of_ms);
        let drift_seen = hubs.mean_drift(&cells.get(at).hubs());
        self.end_wait(at);
        let place = self.cell(at).place;
        let deadline_ms = self.sharing.moment_after(place, deadline_ms);
        let shard = &mut self.shards[at.shard as usize];
        let cell = shard.cells.at_mut(at.index as usize);
        cell.is_scored = true;
        cell.margin = margin;
        cell.drift_seen = drift_seen;
        shard.set_deadline(at.index, deadline_ms);
    }

    /// The moment at which passing time alone may have moved a cell's score enough, or moved an
    /// entity out of a population.
    fn deadline_ms(&self, cell: &Cell, now_ms: i64) -> i64 {
        let newest_ms = cell.newest_event_ms();
        let idle_ms = newest_ms.map_or(7 * DAY_MS, |t| now_ms.saturating_sub(t).max(0));
        let drift_ms = now_ms.saturating_add((idle_ms / 4).clamp(DAY_MS, 7 * DAY_MS));
        let turns = self.windows.iter().flat_map(|w| {
            cell.nodes.iter().filter_map(move |node| {
                let days = node.counter(w.counter)?;
                days.next_change_ms(now_ms, w.start_days, w.end_days)
            })
        });
        drift_ms.min(turns.min().unwrap_or(i64::MAX))
    }
}
