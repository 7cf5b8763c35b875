//! The second stage: `as_of` moves on, and the cells whose scores may have changed are found.

use leadpulse_graph::{CellRef, Reasons};
use leadpulse_schema::units::AsOf;

use crate::invariants;

use super::{AsOfRule, Cut, CutTicks, Machine, Readings};
use crate::epoch::EpochTally;

impl Machine {
    /// In: admitted rows in the graph, and the cut's moment.
    /// Out: the cells to score with their reasons, in order of cells. `as_of` has moved on, never
    /// back.
    pub(super) fn track(&mut self, cut: &Cut, tally: &mut EpochTally) -> Vec<(CellRef, Reasons)> {
        let before = self.state.as_of;
        self.advance(cut.moment, cut.clock, &cut.ticks);
        debug_assert!(invariants::as_of_never_goes_back(
            before.ms(),
            self.state.as_of.ms()
        ));
        if cut.closing {
            self.state.graph.mark_all(Reasons::CLOSING);
        }
        let dirty = self.state.graph.take_dirty(self.given.soft_budget);
        tally.cells = dirty.len();
        tally.deferred = self.state.graph.deferred();
        dirty
    }

    /// Moves `as_of` on by the given rule, and lets the graph fire timers and boards. The newest
    /// event moves it no further than to the tick whose rows were applied, if that is not closed, and
    /// else not to the next one.
    pub(super) fn advance(&mut self, moment: AsOfRule, clock: Readings, ticks: &CutTicks) {
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
                let bound_ms = clock.bound_ms.unwrap_or(i64::MAX);
                newest_ms
                    .min(bound_ms)
                    .min(ticks.open_ms.unwrap_or(ticks.before_ms - 1))
            }
        };
        state.as_of = state.as_of.max(AsOf::from_ms(to_ms.max(0)));
        let open_ms = ticks.open_ms.unwrap_or(i64::MAX);
        state.graph.advance_before(state.as_of, open_ms);
    }
}
