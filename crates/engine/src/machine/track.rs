//! The second stage: `as_of` moves on, and the cells whose scores may have changed are found.

use leadpulse_graph::{CellRef, Reasons};
use leadpulse_schema::units::AsOf;

use crate::invariants;

use super::{AsOfRule, Cut, Machine, Readings};
use crate::epoch::EpochTally;

impl Machine {
    /// In: admitted rows in the graph, and the cut's moment.
    /// Out: the cells to score with their reasons, in order of cells. `as_of` has moved on, never
    /// back.
    pub(super) fn track(&mut self, cut: &Cut, tally: &mut EpochTally) -> Vec<(CellRef, Reasons)> {
        let before = self.state.as_of;
        self.advance(cut.moment, cut.clock);
        debug_assert!(invariants::as_of_never_goes_back(
            before.ms(),
            self.state.as_of.ms()
        ));
        if cut.closing {
            self.state.graph.mark_all(Reasons::CLOSING);
        }
        let dirty = self.state.graph.take_dirty(self.given.soft_budget);
        let dirty = self.with_revisits(dirty);
        tally.cells = dirty.len();
        tally.deferred = self.state.graph.deferred();
        dirty
    }

    /// Moves `as_of` on by the given rule, and lets the graph fire timers and boards.
    pub(super) fn advance(&mut self, moment: AsOfRule, clock: Readings) {
        let state = &mut self.state;
        // The clock counts once the inputs were read to their end. A partition that is still empty
        // then is no longer waited for.
        if clock.live_ms.is_some() {
            state.graph.caught_up();
        }
        // Before the first accepted row there is nothing to score at any moment. No score is valid
        // before 1970: records and their Kafka timestamps cannot hold such a moment, and a replay
        // of the script would score at another one.
        if state.newest_event_ms.is_none() {
            return;
        }
        let to_ms = match moment {
            AsOfRule::Fixed(as_of) => as_of.ms(),
            AsOfRule::Newest => {
                let newest_ms = state.newest_event_ms.max(clock.live_ms).unwrap_or_default();
                clock
                    .bound_ms
                    .map_or(newest_ms, |bound_ms| newest_ms.min(bound_ms))
            }
        };
        state.as_of = state.as_of.max(AsOf::from_ms(to_ms.max(0)));
        state.graph.advance(state.as_of);
    }

    /// Adds the cells of entities whose crossing has lasted long enough by now.
    fn with_revisits(&mut self, mut dirty: Vec<(CellRef, Reasons)>) -> Vec<(CellRef, Reasons)> {
        let state = &mut self.state;
        while let Some((at_ms, entity)) = state.revisits.first().copied() {
            if at_ms > state.as_of.ms() {
                break;
            }
            state.revisits.pop_first();
            let Some(place) = state.graph.directory().place(entity) else {
                continue;
            };
            match dirty.binary_search_by_key(&place.cell, |(at, _)| *at) {
                Ok(index) => dirty[index].1 = dirty[index].1.with(Reasons::TIMER),
                Err(index) => dirty.insert(index, (place.cell, Reasons::TIMER)),
            }
        }
        dirty
    }
}
