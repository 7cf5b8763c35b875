//! Ticks: moments on a grid at which alerts are decided, so that they follow from the data alone.
//!
//! The records of a tick are chosen where they are gathered, and the choice is recorded. At a tick the graph
//! holds what was known by then and nothing later, whichever epochs brought it; the cells that are
//! due are those that rows, boards, deadlines or a new version touched since the tick before.
//! Scores emitted in between never reach the alerts.
//!
//! Decision: docs/decisions/0052-alerts-are-a-fold-over-ticks.md

use serde::{Deserialize, Serialize};

use leadpulse_schema::units::{AsOf, DAY_MS};
use leadpulse_schema::{Catalog, RowBatch};

use super::Machine;
use super::admit::AdmittedRows;
use super::half::{HalfTick, Pass};
use crate::decode::Decoded;
use crate::epoch::{EpochRecord, TickClosing, WorkNote};

/// Between two ticks with records further apart than this, only so much of the time after the
/// first is looked at moment by moment: a wrong timestamp may lie at the end of the world.
const LONGEST_GAP_MS: i64 = 366 * DAY_MS;

/// The ticks of a cut.
#[derive(Clone, Debug)]
pub struct CutTicks {
    /// The tick after which alerts fire, milliseconds, once it is decided. The first one counts.
    pub live_from_ms: Option<i64>,
    /// Ticks that the epoch closes, ascending. Their positions divide its records.
    pub closings: Vec<TickClosing>,
    /// The tick of the records behind the last closing, milliseconds.
    pub open_ms: Option<i64>,
    /// `as_of` stays before this moment, milliseconds: the first tick that is not closed.
    pub before_ms: i64,
    /// Records that came after their tick was closed.
    pub late: i64,
    /// Those among them up to each of `closings`; empty where it is not known.
    pub late_by: Vec<i64>,
    /// The moment that an epoch which is decided again stopped in, milliseconds.
    pub half_ms: Option<i64>,
}

impl Default for CutTicks {
    fn default() -> Self {
        Self {
            live_from_ms: None,
            closings: Vec::new(),
            open_ms: None,
            before_ms: i64::MAX,
            late: 0,
            late_by: Vec::new(),
            half_ms: None,
        }
    }
}

impl CutTicks {
    /// The recorded ticks of an epoch.
    pub(super) fn recorded(record: &EpochRecord, note: &WorkNote) -> Self {
        Self {
            live_from_ms: record.live_from,
            closings: record.ticks.clone(),
            open_ms: record.open_tick,
            before_ms: i64::MAX,
            late: record.late_for_tick,
            late_by: Vec::new(),
            half_ms: note.tick.as_ref().map(|progress| progress.tick),
        }
    }
}

/// The place of a deployment among its ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TickState {
    /// The tick after which alerts fire, milliseconds.
    pub live_from_ms: Option<i64>,
    /// The last closed tick, milliseconds.
    pub closed_ms: Option<i64>,
    /// The last tick that was looked at, milliseconds; `None` before the first row and tick.
    pub folded_ms: Option<i64>,
    /// The tick of rows that were applied since, milliseconds.
    pub open_ms: Option<i64>,
    /// The moment from which on moments without rows are looked at, while that is not done,
    /// milliseconds.
    pub looking_from_ms: Option<i64>,
    /// Number of entities that records of ticks up to `live_from_ms` named; later ones are new. Where
    /// there were none, those of the first tick with records.
    pub known: Option<u32>,
}

/// The part of an epoch that is done again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folding {
    /// Alerts are decided.
    On,
    /// Rows are applied and cells become due; what was decided is read back from the outputs.
    Off,
}

impl Machine {
    /// The place among the ticks, after the last epoch.
    pub fn ticks(&self) -> TickState {
        self.state.ticks
    }

    /// Decides from which tick on alerts fire, milliseconds, unless it is decided.
    pub fn live_from(&mut self, tick_ms: i64) {
        self.state.ticks.live_from_ms.get_or_insert(tick_ms);
    }

    /// The first tick that is looked at: before it nothing is remembered of any entity. `None`
    /// until it is decided from when on alerts fire.
    pub fn first_tick_ms(&self, step_ms: i64) -> Option<i64> {
        let live_from_ms = self.state.ticks.live_from_ms?;
        let policies = self
            .given
            .tasks
            .iter()
            .map(|task| task.policy.look_back_ms());
        let lookback_ms = policies.max().unwrap_or(0);
        Some((live_from_ms - lookback_ms).div_euclid(step_ms) * step_ms)
    }

    /// The first moment at which a cell, an entity, a digest or the work lists are due though no row
    /// touched anything, milliseconds.
    pub fn next_due_ms(&self) -> i64 {
        let revisit_ms = self.state.revisits.first().map(|(at_ms, _, _)| *at_ms);
        let digest_ms = self.given.caps.revisit_at_ms(&self.state.caps);
        let digest_ms = self.given.revisit_ms(digest_ms);
        let decided = [revisit_ms, digest_ms].into_iter().flatten();
        decided.fold(self.next_due_by_rows_ms(), i64::min)
    }

    /// As [`Self::next_due_ms`], without what the memory of alerts makes due.
    fn next_due_by_rows_ms(&self) -> i64 {
        let due_ms = self.state.graph.next_due_ms();
        // The first row opens the first tick: before it there is nothing to list.
        let lists_ms = self.state.ticks.folded_ms.and(self.next_lists_ms());
        lists_ms.map_or(due_ms, |lists_ms| lists_ms.min(due_ms))
    }

    /// The next moment to look at. Where rows are applied again nothing is decided: what waits for a
    /// decision would be due for ever.
    fn next_moment_ms(&self, folding: Folding) -> i64 {
        match folding {
            Folding::On => self.next_due_ms(),
            Folding::Off => self.next_due_by_rows_ms(),
        }
    }

    /// In: decoded rows by partition and offset, the clock reading that bounds the future, and the
    /// ticks that divide the rows.
    /// Out: one outcome per row that was applied, and what the closed ticks decided, in their order.
    /// Where the work is more than the pass has left, the number of closings whose rows were applied:
    /// none behind them was.
    pub(super) fn apply(
        &mut self,
        decoded: Decoded,
        bound_ms: Option<i64>,
        ticks: &CutTicks,
        pass: &mut Pass<'_>,
    ) -> (AdmittedRows, Option<usize>) {
        let live_from_ms = &mut self.state.ticks.live_from_ms;
        *live_from_ms = live_from_ms.or(ticks.live_from_ms);
        let catalog = self.given.catalog.clone();
        let (mut admitted, rows, records) = AdmittedRows::of(decoded);
        if pass.folding == Folding::On && !self.go_on_with_tick(pass) {
            return (admitted, Some(0));
        }
        let parts = parts(&catalog, rows, records, &ticks.closings);
        for (index, (rows, records)) in parts.into_iter().enumerate() {
            let closing = ticks.closings.get(index);
            let tick = closing.map(|closing| closing.tick).or(ticks.open_ms);
            // What follows the last closing is of the open tick, also where it gives no rows.
            let is_last = index == ticks.closings.len();
            if let Some(tick_ms) = tick.filter(|_| is_last || !rows.is_empty())
                && !self.open(tick_ms, pass)
            {
                return (admitted, Some(index));
            }
            if is_last && ticks.open_ms.is_some() || !rows.is_empty() {
                pass.decided.tick_scores = None;
            }
            self.admit(
                &rows,
                &records,
                bound_ms,
                pass.folding,
                &mut admitted,
                pass.tally,
            );
            let Some(closing) = closing else { continue };
            match self.close(closing.tick, pass) {
                Closed::Whole => {}
                Closed::Half => return (admitted, Some(index + 1)),
                Closed::NotYet => return (admitted, Some(index)),
            }
        }
        self.state.ticks.open_ms = ticks.open_ms;
        let stopped = self.look_again_up_to(ticks, pass);
        (admitted, stopped)
    }

    /// Looks at moments up to the one that an epoch stopped in which is decided again.
    fn look_again_up_to(&mut self, ticks: &CutTicks, pass: &mut Pass<'_>) -> Option<usize> {
        let place = &self.state.ticks;
        let half_ms = ticks.half_ms.filter(|ms| place.folded_ms < Some(*ms))?;
        let from_ms = place.looking_from_ms.or(place.folded_ms);
        self.look_before(half_ms + 1, pass);
        self.state.ticks.looking_from_ms = from_ms;
        if self.state.ticks.folded_ms < Some(half_ms) {
            // Only the memory of alerts makes something due there, and it is read back later.
            self.fold_at(half_ms, pass);
        }
        Some(ticks.closings.len())
    }

    /// Prepares for rows of a tick: all that is due before it is looked at without them. Returns
    /// false if that is not done.
    fn open(&mut self, tick_ms: i64, pass: &mut Pass<'_>) -> bool {
        if self.state.ticks.open_ms != Some(tick_ms) {
            if !self.look_before(tick_ms, pass) {
                return false;
            }
            if self.state.ticks.folded_ms.is_some() {
                self.state.graph.fire_before(tick_ms);
                self.note_known(tick_ms - 1);
            }
            self.state.ticks.open_ms = Some(tick_ms);
        }
        true
    }

    /// Notes the entities that are known by a moment whose rows were applied, if alerts fire from
    /// it on.
    fn note_known(&mut self, at_ms: i64) {
        let ticks = &mut self.state.ticks;
        if ticks.known.is_none() && ticks.live_from_ms.is_some_and(|live_ms| live_ms <= at_ms) {
            ticks.known = Some(self.state.graph.directory().len() as u32);
        }
    }

    /// Closes a tick, and looks at what is due at it.
    fn close(&mut self, tick_ms: i64, pass: &mut Pass<'_>) -> Closed {
        // Before the first accepted row there is nothing to look at. Before rows of the tick itself
        // everything else was looked at.
        let has_rows = self.state.newest_event_ms.is_some();
        let is_open = self.state.ticks.open_ms == Some(tick_ms);
        if has_rows && !is_open && !self.look_before(tick_ms, pass) {
            return Closed::NotYet;
        }
        self.state.ticks.closed_ms = Some(tick_ms);
        self.state.ticks.open_ms = None;
        match !has_rows || self.fold_at(tick_ms, pass) {
            true => Closed::Whole,
            false => Closed::Half,
        }
    }

    /// Looks at every moment before a tick at which something is due though no row touched it.
    /// Returns false if that is not done: one of them is half-closed.
    fn look_before(&mut self, tick_ms: i64, pass: &mut Pass<'_>) -> bool {
        let ticks = &mut self.state.ticks;
        let Some(folded_ms) = ticks.folded_ms else {
            return true;
        };
        let from_ms = *ticks.looking_from_ms.get_or_insert(folded_ms);
        let until_ms = tick_ms.min(from_ms.saturating_add(LONGEST_GAP_MS));
        while self.next_moment_ms(pass.folding) < until_ms {
            if !self.fold_at(self.next_moment_ms(pass.folding), pass) {
                // Rows of a tick before this moment come too late for it.
                self.state.ticks.open_ms = None;
                return false;
            }
        }
        self.state.ticks.looking_from_ms = None;
        true
    }

    /// Looks at a moment. Returns false if it is half-closed.
    fn fold_at(&mut self, tick_ms: i64, pass: &mut Pass<'_>) -> bool {
        let is_listing = self.next_lists_ms().is_some_and(|at_ms| at_ms <= tick_ms);
        let before = self.state.ticks;
        let state = &mut self.state;
        state.as_of = state.as_of.max(AsOf::from_ms(tick_ms));
        state.graph.advance(state.as_of);
        state.ticks.folded_ms = Some(tick_ms);
        self.note_known(tick_ms);
        let state = &mut self.state;
        let due = state.graph.take_due();
        for (at, _) in &due {
            state.graph.folded(*at);
        }
        state.half = Some(HalfTick::begun(tick_ms, before, is_listing, due));
        if pass.folding == Folding::Off {
            return true;
        }
        state.take_revisits();
        let due = self.tick_cells_left();
        pass.tally.due.extend(Some(due).filter(|due| *due > 0));
        self.go_on_with_tick(pass)
    }
}

/// The end of an attempt to close a tick.
enum Closed {
    /// The tick is closed.
    Whole,
    /// The tick is half-closed.
    Half,
    /// A moment before the tick is half-closed.
    NotYet,
}

/// Divides rows by the closings that cover them; the last part is behind all closings.
fn parts(
    catalog: &Catalog,
    rows: RowBatch,
    records: Vec<u32>,
    closings: &[TickClosing],
) -> Vec<(RowBatch, Vec<u32>)> {
    let part_of = |index: usize| {
        let at = rows.row(index).position();
        let covers = |closing: &TickClosing| closing.covers(at.partition, at.offset);
        closings.iter().position(covers).unwrap_or(closings.len())
    };
    let places: Vec<usize> = (0..rows.len()).map(part_of).collect();
    let mut parts: Vec<(RowBatch, Vec<u32>)> = vec![Default::default(); closings.len() + 1];
    if let Some(only) = places
        .first()
        .filter(|first| places.iter().all(|p| p == *first))
    {
        parts[*only] = (rows, records);
        return parts;
    }
    for (index, place) in places.into_iter().enumerate() {
        let (part, of) = &mut parts[place];
        part.push_copy(catalog, rows.row(index));
        of.push(records[index]);
    }
    parts
}
