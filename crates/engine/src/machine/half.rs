//! A half-closed tick: its due cells are more than one epoch may score, so the epochs that follow go
//! on with it at the same moment.
//!
//! Between them no row is applied, `as_of` stands and no timer fires, so every cell is scored as one
//! long epoch would have. Cells are taken in their order up to a cursor. Whatever is decided about the
//! tick as a whole (one alert an account, caps, digests, lists) is decided once, after the last cell,
//! from the drafts that were kept. The record of each epoch has the cursor and the drafts: a restart
//! by rows finds the due cells in the graph and goes on behind the cursor.
//!
//! Decision: docs/decisions/0072-epochs-bounded-by-work.md

use std::collections::VecDeque;
use std::time::Duration;

use leadpulse_graph::{CellRef, Reasons};

use super::decide::Decided;
use super::score::TickScores;
use super::ticks::{Folding, TickState};
use super::{Machine, WorkerState};
use crate::epoch::{EpochTally, TickProgress, TickStep, WorkBudget};

/// A tick with very many alerts takes no more epochs than about so many: each of its records has all
/// that are left, so many records of few steps would be written for hours.
const MOST_STEPS: u64 = 32;
/// Drafts up to which the records of a tick are small.
const FEW_DRAFTS: usize = 64;

/// The decisions of one epoch while they are made, and the work that ticks may still do in it.
pub(super) struct Pass<'a> {
    pub folding: Folding,
    pub left: WorkBudget,
    pub decided: Decided,
    pub tally: &'a mut EpochTally,
    /// A monotonic clock, for the tally alone.
    pub elapsed: &'a dyn Fn() -> Duration,
}

impl Pass<'_> {
    /// Notes explanations that were made since a reading of the clock.
    pub fn note_explained(&mut self, count: u64, started: Duration) {
        self.left.explanations = self.left.explanations.saturating_sub(count);
        let seconds = (self.elapsed)().saturating_sub(started).as_secs_f64();
        self.tally.explained.add(count, seconds);
    }
}

/// A tick whose due cells are not all folded, or whose alerts or lists are not all written.
#[derive(Clone)]
pub(super) struct HalfTick {
    /// The due cells in their order. After a restart those behind the cursor only.
    pub due: Vec<(CellRef, Reasons)>,
    pub progress: TickProgress,
}

impl HalfTick {
    /// A tick at which nothing was done. `before` is the place before it.
    pub fn begun(
        tick_ms: i64,
        before: TickState,
        is_listing: bool,
        due: Vec<(CellRef, Reasons)>,
    ) -> Self {
        Self {
            due,
            progress: TickProgress {
                tick: tick_ms,
                after: before.folded_ms,
                looking_from: before.looking_from_ms,
                step: TickStep::Folding,
                cursor: None,
                fired: Vec::new(),
                alerts: VecDeque::new(),
                is_listing,
                listed: None,
                epochs: 0,
            },
        }
    }

    /// The due cells that are not folded.
    pub fn left(&self) -> &[(CellRef, Reasons)] {
        let folded = self.progress.cursor.map_or(0, |cursor| {
            self.due.partition_point(|(at, _)| *at <= cursor)
        });
        &self.due[folded..]
    }

    /// Adds a cell that is not folded, unless it is due anyway.
    fn add(&mut self, at: CellRef, reason: Reasons) {
        if let Err(index) = self.due.binary_search_by_key(&at, |(at, _)| *at) {
            self.due.insert(index, (at, reason));
        }
    }

    /// Lets the levels of all cells that are not folded be placed: another version scores them.
    pub fn place_anew(&mut self) {
        for (_, reasons) in &mut self.due {
            *reasons = reasons.with(Reasons::BUNDLE);
        }
    }
}

impl WorkerState {
    /// Adds the cells of entities about which time alone decides by the tick, from the moments that
    /// are listed.
    pub(super) fn take_revisits(&mut self) {
        let Some(half) = &mut self.half else { return };
        while let Some((at_ms, _, entity)) = self.revisits.first().copied() {
            if at_ms > half.progress.tick {
                break;
            }
            self.revisits.pop_first();
            if let Some(place) = self.graph.directory().place(entity) {
                half.add(place.cell, Reasons::TIMER);
            }
        }
    }
}

impl Machine {
    /// True while a tick is half-closed: no epoch takes rows until it is closed.
    pub fn is_half_closed(&self) -> bool {
        self.state.half.is_some()
    }

    /// The due cells of a half-closed tick that are not folded.
    pub fn tick_cells_left(&self) -> usize {
        self.state.half.as_ref().map_or(0, |half| half.left().len())
    }

    /// Goes on with the tick that is half-closed, as far as the work left goes. Returns true once it
    /// is closed.
    pub(super) fn go_on_with_tick(&mut self, pass: &mut Pass<'_>) -> bool {
        let Some(mut half) = self.state.half.take() else {
            return true;
        };
        half.progress.epochs += 1;
        let is_closed = self.fold_on(&mut half, pass);
        if !is_closed {
            self.state.half = Some(half);
        } else if !half.due.is_empty() {
            pass.tally.tick_epochs.push(half.progress.epochs);
        }
        is_closed
    }

    fn fold_on(&mut self, half: &mut HalfTick, pass: &mut Pass<'_>) -> bool {
        if half.progress.step == TickStep::Folding {
            self.fold_slice(half, pass);
            if !half.left().is_empty() {
                return false;
            }
            self.decide_tick(half, pass);
            half.progress.step = TickStep::Telling;
        }
        let least = half.progress.alerts.len() as u64 / MOST_STEPS;
        let mut beyond = least.saturating_sub(pass.left.explanations);
        while let Some((alert, reasons)) = half.progress.alerts.pop_front() {
            if pass.left.explanations == 0 {
                if beyond == 0 {
                    half.progress.alerts.push_front((alert, reasons));
                    return false;
                }
                beyond -= 1;
            }
            self.tell(&alert, reasons, pass);
        }
        half.progress.step = TickStep::Listing;
        !half.progress.is_listing || self.write_lists(&mut half.progress.listed, pass)
    }

    /// Scores and folds the next due cells, in their order, as long as there is work left.
    fn fold_slice(&mut self, half: &mut HalfTick, pass: &mut Pass<'_>) {
        let started = (pass.elapsed)();
        let mut slice = Vec::new();
        let mut nodes = 0;
        let mut most = pass.left.nodes;
        if half.progress.fired.len() > FEW_DRAFTS {
            let left = half.left().iter();
            let work: u64 = left.map(|(at, _)| self.state.graph.work(*at)).sum();
            most = most.max(work / MOST_STEPS);
        }
        for one in half.left() {
            if nodes >= most {
                break;
            }
            nodes += self.state.graph.work(one.0);
            slice.push(*one);
        }
        let assessed = self.score(&slice);
        for item in &assessed {
            self.fold_one(half.progress.tick, item, &mut half.progress.fired, pass);
        }
        if let Some((last, _)) = slice.last() {
            half.progress.cursor = Some(*last);
        }
        pass.left.nodes = pass.left.nodes.saturating_sub(nodes);
        *pass.tally.work.entry("tick").or_default() += nodes;
        let seconds = (pass.elapsed)().saturating_sub(started).as_secs_f64();
        pass.tally.scored.add(nodes, seconds);
        pass.decided.tick_scores = Some(TickScores {
            as_of: self.state.as_of,
            cells: slice.into_iter().map(|(at, _)| at).collect(),
            assessed,
        });
    }

    /// Takes the progress of a tick from the record of an epoch whose rows were applied: its cells
    /// are those that were due there.
    pub(super) fn follow_tick(&mut self, progress: Option<TickProgress>) {
        let half = self.state.half.take();
        if let Some(progress) = &progress {
            self.state.ticks.looking_from_ms = progress.looking_from;
        }
        self.state.half = half
            .zip(progress)
            .map(|(half, progress)| HalfTick { progress, ..half });
    }

    /// Finds the cells of a half-closed tick that are due by time alone, after the memory of alerts
    /// was read back.
    pub(super) fn restore_revisits_of_tick(&mut self) {
        let Some(mut half) = self.state.half.take() else {
            return;
        };
        let progress = &half.progress;
        let (tick_ms, cursor, after_ms) = (progress.tick, progress.cursor, progress.after);
        let is_folding = progress.step == TickStep::Folding;
        for ((_, entity), tracked) in self.state.tracked.iter().filter(|_| is_folding) {
            let due_ms = self.given.revisit_ms(tracked.alerts.revisit_at_ms);
            let is_due = due_ms.is_some_and(|due_ms| due_ms <= tick_ms)
                && after_ms.is_none_or(|after_ms| due_ms > Some(after_ms));
            let place = self.state.graph.directory().place(*entity);
            if let Some(place) = place.filter(|place| is_due && Some(place.cell) > cursor) {
                half.add(place.cell, Reasons::TIMER);
            }
        }
        self.state.half = Some(half);
    }
}
