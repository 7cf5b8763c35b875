//! The second stage: `as_of` moves on, and the cells whose scores may have changed are found.

use leadpulse_graph::{CellRef, Reasons, TakeLimit};
use leadpulse_schema::units::AsOf;

use crate::invariants;

use super::state::Closing;
use super::{AsOfRule, Cut, CutTicks, Machine, Readings};
use crate::epoch::EpochTally;

impl Machine {
    /// In: admitted rows in the graph, and the cut's moment.
    /// Out: the cells to score with their reasons, in order of cells. `as_of` has moved on, never
    /// back.
    pub(super) fn track(
        &mut self,
        cut: &Cut,
        is_closing: bool,
        tally: &mut EpochTally,
    ) -> Vec<(CellRef, Reasons)> {
        let before = self.state.as_of;
        self.advance(cut.moment, cut.clock, &cut.ticks);
        debug_assert!(invariants::as_of_never_goes_back(
            before.ms(),
            self.state.as_of.ms()
        ));
        self.mark_closing(is_closing);
        self.list_unexplained();
        let used = tally.work.get("tick").copied().unwrap_or_default();
        let dirty = self.state.graph.take_within(TakeLimit {
            soft_cells: self.given.soft_budget,
            nodes: cut.work.eager_nodes(used),
        });
        for (at, reasons) in &dirty {
            *tally.work.entry(reason_of_work(*reasons)).or_default() += self.state.graph.work(*at);
        }
        tally.cells = dirty.len();
        tally.deferred = self.state.graph.deferred();
        tally.dirty_left = self.state.graph.dirty();
        tally.tick_left = self.tick_cells_left();
        dirty
    }

    /// Notes that the closing tick has begun.
    pub(super) fn note_closing(&mut self, cut: &Cut) {
        if let (true, AsOfRule::Fixed(as_of)) = (cut.closing, cut.moment) {
            self.state.closing.get_or_insert(Closing {
                at_ms: as_of.ms(),
                is_marked: false,
            });
        }
    }

    /// Forgets a closing tick that is not complete once an epoch takes records.
    pub(super) fn end_closing_at_rows(&mut self, cut: &Cut) {
        if !cut.closing && cut.read.iter().any(|read| *read > 0) {
            self.state.closing = None;
        }
    }

    /// The moment of a closing tick that is not complete, milliseconds.
    pub fn closing_ms(&self) -> Option<i64> {
        self.state.closing.map(|closing| closing.at_ms)
    }

    /// Marks every cell, and lists every entity to explain, once in a closing tick.
    fn mark_closing(&mut self, is_closing: bool) {
        let closing = self.state.closing.as_mut().filter(|_| is_closing);
        if closing.is_some_and(|closing| !std::mem::replace(&mut closing.is_marked, true)) {
            self.state.graph.mark_all(Reasons::CLOSING);
            self.list_all_unexplained();
        }
    }

    /// Whether a closing tick has scored every cell and explained every entity that it should. It
    /// ends with that.
    pub(super) fn is_closed(&mut self) -> bool {
        let is_closed = self.state.graph.dirty() == 0 && self.state.unexplained.is_empty();
        if is_closed {
            self.state.closing = None;
        }
        is_closed
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
        // The cells of a half-closed tick are scored at its moment, on its graph.
        if state.half.is_some() {
            return;
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

/// The reason that a cell's work is counted under.
fn reason_of_work(reasons: Reasons) -> &'static str {
    let names = [
        (Reasons::CLOSING, "closing"),
        (Reasons::BUNDLE, "bundle"),
        (Reasons::EVENT, "event"),
        (Reasons::BOARD, "board"),
    ];
    let found = names.iter().find(|(reason, _)| reasons.contains(*reason));
    found.map_or("timer", |(_, name)| name)
}
