//! One epoch, from rows to sealed outputs. Deterministic: the same rows, moment and deployed
//! version on the same state give the same bytes.
//!
//! A [`Machine`] is two things: [`Deployed`], everything given to it, and [`WorkerState`],
//! everything it knows. [`Machine::step`] runs five
//! stages, `admit → track → score → decide → seal`, each in a file of its own.

use std::sync::Arc;
use std::time::Duration;

use leadpulse_graph::Graph;
use leadpulse_schema::units::AsOf;

use crate::decode::Decoded;
use crate::epoch::{DecidedRange, Epoch, EpochTally, PartitionLayout, Sealed, WorkBudget};
use crate::ports::{InputPartition, NextOffset, RecordBatch};

mod admit;
mod answer;
mod decide;
mod deployed;
mod erased;
mod exposures;
mod fold;
mod half;
mod notices;
mod reasons;
mod rescoring;
mod restore;
mod said;
mod score;
mod seal;
mod state;
mod store;
mod stored;
mod swap;
mod ticks;
mod trace;
mod track;
mod tried;
mod worklists;

use decide::{Asked, Decided};
use half::Pass;
use notices::kept_letters;
use ticks::Folding;

use admit::AdmittedRows;

pub use admit::outcome_in_words;
pub use answer::CommitteeOf;
pub use deployed::{Deployed, MachineError, MachineParts, StateShape, Task};
pub use erased::{ErasedNames, ErasureKey, ErasureKeyError, SubjectHash};
pub use restore::Unmatched;
pub(crate) use said::SaidKind;
pub use state::WorkerState;
pub use stored::{STATE_FORMAT, StateError, StateReader};
pub use swap::SwapError;
pub use ticks::{CutTicks, TickState};

/// The decisions of an epoch besides its rows.
#[derive(Clone, Debug)]
pub struct Cut {
    /// The next offset of every partition after the epoch.
    pub positions: Vec<NextOffset>,
    /// Records read from every partition.
    pub read: Vec<i64>,
    /// The rule by which `as_of` moves.
    pub moment: AsOfRule,
    /// Readings of the clock.
    pub clock: Readings,
    /// True for the closing tick: every cell is scored, every score emitted. Where that is more
    /// than the work of an epoch, until the record of one is [closing](crate::EpochRecord::closing).
    pub closing: bool,
    /// Offsets that were left out by an operator's decision.
    pub skipped: Vec<DecidedRange>,
    /// The ticks that divide its rows.
    pub ticks: CutTicks,
    /// The most work.
    pub work: WorkBudget,
}

/// The rule by which an epoch's `as_of` is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOfRule {
    /// The newest accepted event, and the clock where it counts; never back, and never beyond the
    /// clock that bounds the future.
    Newest,
    /// Exactly this moment: a script is repeated, or the closing tick.
    Fixed(AsOf),
}

/// Readings of the wall clock that an epoch is decided with, milliseconds. They are recorded, so
/// that a repetition decides the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// Moves `as_of`: once the topics are read to their end.
    pub live_ms: Option<i64>,
    /// Bounds the future: rows beyond it are dead letters, and no epoch moves `as_of` past it.
    pub bound_ms: Option<i64>,
}

/// The epoch machine of one worker.
pub struct Machine {
    given: Arc<Deployed>,
    state: WorkerState,
}

impl Machine {
    /// Builds a machine before its first epoch.
    ///
    /// # Errors
    /// If bundle, tasks and actions do not fit each other.
    pub fn new(parts: MachineParts) -> Result<Self, MachineError> {
        let (given, start) = parts.split()?;
        let state = WorkerState::before_first(start, &given);
        Ok(Self {
            given: Arc::new(given),
            state,
        })
    }

    /// The deployed version that the next epoch is decided under.
    pub fn deployed(&self) -> &Arc<Deployed> {
        &self.given
    }
    /// The graph of the accepted rows.
    pub fn graph(&self) -> &Graph {
        &self.state.graph
    }
    /// The partitions that positions and intervals refer to.
    pub fn layout(&self) -> &PartitionLayout {
        &self.state.layout
    }
    /// Number of the last epoch stepped; 0 before the first.
    pub fn number(&self) -> u64 {
        self.state.number
    }
    /// `as_of` of the last epoch; `None` before the first accepted row.
    pub fn as_of(&self) -> Option<AsOf> {
        self.state.as_of()
    }
    /// The next offset to take from each partition.
    pub fn positions(&self) -> &[NextOffset] {
        &self.state.positions
    }
    /// The time of the first board after the last epoch, milliseconds; `None` before the first
    /// accepted row.
    pub fn next_board_ms(&self) -> Option<i64> {
        self.as_of().map(|_| self.state.graph.next_board_ms())
    }

    /// Reads further partitions from now on, from these offsets. The next epoch's transaction
    /// holds the new layout.
    pub fn add_partitions(&mut self, partitions: &[InputPartition], starts: &[NextOffset]) {
        let state = &mut self.state;
        state.partitions.extend_from_slice(partitions);
        state.positions.extend_from_slice(starts);
        state.layout = PartitionLayout::of(state.layout.layout + 1, &state.partitions);
        state.layout_is_new = true;
    }

    /// True if an epoch without records would do something at this clock reading: a timer or a
    /// board is due, or cells or explanations wait, or lists of a task that is gone stand.
    pub fn wants_tick(&self, clock_ms: Option<i64>) -> bool {
        let graph = &self.state.graph;
        let waits = graph.deferred() > 0 && self.given.soft_budget > 0 || graph.dirty() > 0;
        let waits = waits || self.is_half_closed() || !self.state.unexplained.is_empty();
        if waits || self.has_retired_list() {
            return true;
        }
        let (Some(now_ms), Some(as_of)) = (clock_ms, self.as_of()) else {
            return false;
        };
        let due = |at_ms: Option<i64>| at_ms.is_some_and(|at_ms| now_ms >= at_ms);
        now_ms > as_of.ms() && (due(Some(graph.next_board_ms())) || due(graph.next_timer_ms()))
    }

    /// Decides the next epoch. `decoded` are the rows of exactly the records between the last
    /// positions and the cut's. If a tick is more work than the cut allows, the epoch ends within it:
    /// the positions of its record are those of the tick, and what the cut has behind them is for
    /// later epochs.
    pub fn step(&mut self, records: &RecordBatch, decoded: Decoded, cut: Cut) -> Epoch<Sealed> {
        self.step_timed(records, decoded, cut, &|| Duration::ZERO)
    }

    /// As [`Self::step`]. `elapsed` is a monotonic clock for the tally's seconds by stage; nothing
    /// is decided by it.
    pub fn step_timed(
        &mut self,
        records: &RecordBatch,
        decoded: Decoded,
        cut: Cut,
        elapsed: &dyn Fn() -> Duration,
    ) -> Epoch<Sealed> {
        let mut tally = EpochTally::default();
        let mut laps = Laps::start(elapsed);
        let before = (self.state.as_of.ms(), self.state.graph.joined_count());
        self.state.number += 1;
        let mut cut = cut;
        self.note_closing(&cut);
        let mut pass = Pass {
            folding: Folding::On,
            left: cut.work.of_ticks(),
            decided: Decided::default(),
            tally: &mut tally,
            elapsed,
        };
        let bound_ms = cut.clock.bound_ms;
        let (mut admitted, stopped) = self.apply(decoded, bound_ms, &cut.ticks, &mut pass);
        let Pass {
            left, mut decided, ..
        } = pass;
        if let Some(closings) = stopped {
            self.shorten(&mut cut, closings, records, &mut admitted);
        }
        self.end_closing_at_rows(&cut);
        self.count_without_row(records, &admitted, &mut tally);
        laps.end("graph", &mut tally);
        let is_closing = cut.closing && !self.is_half_closed();
        let mut dirty = self.track(&cut, is_closing, &mut tally);
        let mut wanted = self.take_unexplained(is_closing, left.explanations, &mut dirty);
        self.want_unnamed(&admitted, &mut dirty, &mut wanted);
        decided.caps_changed |= admitted.erasing.is_in_caps;
        laps.end("track", &mut tally);
        let assessed = self.score_measured(&dirty, decided.tick_scores.take(), elapsed, &mut tally);
        laps.end("infer", &mut tally);
        let asked = Asked {
            closing: is_closing,
            wanted,
        };
        self.decide(
            &dirty,
            &assessed,
            &asked,
            &mut decided,
            (elapsed, &mut tally),
        );
        laps.end("policy", &mut tally);
        let closes = is_closing && self.is_closed();
        let scored = assessed.iter().filter(|one| one.logit.is_ok()).count();
        tally.notices = self.notices(records, &admitted);
        decided.views.traced = self.traced_records(records, &mut admitted);
        tally.linked_traces = self.linked_traces(records, &cut);
        let changes = self.said_since(before, admitted.said);
        self.retire_lists(&mut decided);
        self.write_erasures(&admitted.erasing, cut.clock, &mut decided);
        tally.erased = admitted.erasing.done.len() as u64;
        let counts = (scored as i64, closes);
        let (sealed, record) = self.seal(records, cut, admitted, counts, decided.outputs);
        decided.views.dead_letters = kept_letters(&sealed.outputs);
        decided.views.said = self.said_view_of(changes);
        laps.end("seal", &mut tally);
        Epoch::sealed(sealed, record, decided.views, tally)
    }
}

impl Machine {
    /// Ends a cut behind so many of its closings, because a tick took the work of the epoch.
    fn shorten(
        &self,
        cut: &mut Cut,
        closings: usize,
        records: &RecordBatch,
        admitted: &mut AdmittedRows,
    ) {
        let ticks = &mut cut.ticks;
        ticks.closings.truncate(closings);
        ticks.open_ms = None;
        let late = closings.checked_sub(1).and_then(|at| ticks.late_by.get(at));
        ticks.late = late.copied().unwrap_or_default();
        cut.positions = match ticks.closings.last() {
            Some(last) => last.positions.iter().copied().map(NextOffset).collect(),
            None => self.state.positions.clone(),
        };
        let takes = |partition: u32, offset: i64| {
            let end = cut.positions.get(partition as usize);
            end.is_some_and(|end| offset < end.0)
        };
        cut.read = vec![0; cut.positions.len()];
        let taken = records.iter().filter(|r| takes(r.partition(), r.offset()));
        taken.for_each(|record| cut.read[record.partition() as usize] += 1);
        let is_passed = |range: &DecidedRange| takes(range.partition as u32, range.end - 1);
        cut.skipped.retain(is_passed);
        admitted.keep(|index| {
            let record = records.record(index as usize);
            takes(record.partition(), record.offset())
        });
    }
}

/// A stopwatch for the stages of one epoch.
struct Laps<'a> {
    elapsed: &'a dyn Fn() -> Duration,
    last: Duration,
}

impl<'a> Laps<'a> {
    fn start(elapsed: &'a dyn Fn() -> Duration) -> Self {
        let last = elapsed();
        Self { elapsed, last }
    }

    /// Notes the time since the last stage's end as that of `stage`.
    fn end(&mut self, stage: &'static str, tally: &mut EpochTally) {
        let now = (self.elapsed)();
        let seconds = now.saturating_sub(self.last).as_secs_f64();
        tally.stage_seconds.push((stage, seconds));
        self.last = now;
    }
}
