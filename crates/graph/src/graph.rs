//! The temporal graph: the way of rows, the passing of time, and the cells to score.
//!
//! A call goes through the rooms in one direction: rows change entities and cells
//! ([`crate::apply`]), their effects become marks ([`crate::change`]). Answers are in
//! the room `read`.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Catalog, DayWindow, Role, RowBatch, TableId};

use crate::apply::Writer;
use crate::apply::bursts::Bursts;
use crate::apply::erase::ErasedRows;
use crate::apply::gate::Gate;
use crate::apply::newest::NewestVersions;
use crate::apply::outcome::RowOutcome;
use crate::apply::staff::Staff;
use crate::change::boards::publish;
use crate::change::dirty::{TakeLimit, work_of};
use crate::change::effects::Effects;
use crate::change::reasons::Reasons;
use crate::change::sharing::{STEP_BY_DEFAULT_MS, Sharing};
use crate::change::{Tracker, Tracking};
use crate::ids::{CellRef, EntityId};
use crate::invariants::{BrokenInvariant, GraphParts};
use crate::options::GraphOptions;
use crate::state::Cells;
use crate::state::cell::{Cell, StateRules};
use crate::state::decay::Bank;
use crate::state::hubs::Hubs;
use crate::state::layout::StateLayout;
use crate::state::sources::SourceTimes;
use crate::who::Entities;
use crate::who::directory::Directory;
use crate::who::journal::Change;

#[cfg(test)]
mod tests;

/// Up to this many touched cells of a batch are checked in builds with debug assertions.
const CHECKED_CELLS: usize = 2;
/// Cells with more nodes are not checked after a batch.
const CHECKED_NODES: usize = 16;
/// Cells with longer lists are not checked after a batch.
const CHECKED_LENGTH: usize = 64;

/// Entities, their cells and hubs as of a moment, and the cells to score.
#[derive(Debug)]
pub struct Graph {
    pub(crate) entities: Entities,
    pub(crate) cells: Cells,
    pub(crate) hubs: Hubs,
    pub(crate) sources: SourceTimes,
    pub(crate) gate: Gate,
    pub(crate) newest: NewestVersions,
    pub(crate) bursts: Bursts,
    pub(crate) staff: Staff,
    /// What changed since each cell's last score.
    pub(crate) tracker: Tracker,
    /// What changed since each cell's last tick: see [`Self::take_due`].
    pub(crate) due: Tracker,
    pub(crate) as_of_ms: i64,
    /// The moment up to which timers have fired and boards are published, milliseconds.
    pub(crate) fired_ms: i64,
    pub(crate) board: i64,
    /// True if rows were applied since the last board.
    pub(crate) is_behind_board: bool,
}

impl Graph {
    /// An empty graph. `options` are validated; `windows` are those of all populations, bound to
    /// the options' counters.
    pub fn new(
        catalog: Arc<Catalog>,
        options: GraphOptions,
        windows: Vec<DayWindow>,
        tracking: Tracking,
    ) -> Self {
        let bank = Bank::new(&options.half_lives_days);
        let layout = StateLayout::new(catalog.clone(), &options);
        let step_ms = STEP_BY_DEFAULT_MS;
        let by_budget = Sharing::Budget { step_ms };
        let by_place = Sharing::Places { step_ms };
        Self {
            hubs: Hubs::new(layout.hub_width * bank.len()),
            sources: SourceTimes::default(),
            gate: Gate::new(&catalog),
            newest: NewestVersions::default(),
            bursts: Bursts::default(),
            staff: Staff::default(),
            tracker: Tracker::new(tracking, windows.clone(), options.shards, by_budget),
            due: Tracker::new(tracking, windows, options.shards, by_place),
            entities: Entities::new(catalog, &options),
            cells: Cells::new(Arc::new(StateRules {
                layout,
                bank,
                options,
            })),
            as_of_ms: i64::MIN,
            fired_ms: i64::MIN,
            board: i64::MIN,
            is_behind_board: false,
        }
    }

    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.entities.catalog
    }
    /// Layout, half-lives and options.
    pub fn shared(&self) -> &Arc<StateRules> {
        &self.cells.shared
    }
    /// Keys, places and parents.
    pub fn directory(&self) -> &Directory {
        &self.entities.directory
    }
    /// The hubs, as of the last board.
    pub fn hubs(&self) -> &Hubs {
        &self.hubs
    }
    /// The newest event of each event table, as of the last board; empty unless the options keep
    /// ages.
    pub fn source_times(&self) -> &SourceTimes {
        &self.sources
    }
    /// The newest moment that the graph was advanced to, milliseconds.
    pub fn as_of_ms(&self) -> i64 {
        self.as_of_ms
    }
    /// Number of the last board: its time on the grid divided by the period; `None` before the
    /// first.
    pub fn board(&self) -> Option<i64> {
        (self.board != i64::MIN).then_some(self.board)
    }
    /// The time of the first board that is not published, milliseconds.
    pub fn next_board_ms(&self) -> i64 {
        let period = self.shared().options.board_period_ms;
        (self.fired_ms.div_euclid(period) + 1) * period
    }

    /// Holds a table's fingerprints until a partition has had an accepted row of the table: such
    /// rows may be of any age, and rows of other partitions must not make them late. To be called
    /// for every partition whose history is still to be read; see [`Self::caught_up`].
    pub fn expect(&mut self, partition: u32, table: TableId) {
        if self.catalog().table_at(table).role == Role::Event {
            self.gate.expect(partition, table);
        }
    }

    /// Ends the wait for expected partitions without an accepted row: all history has been read. A
    /// partition that stays empty would otherwise hold its table's fingerprints for ever.
    pub fn caught_up(&mut self) {
        self.gate.caught_up();
    }

    /// Applies rows in their order. Returns one outcome per row; a row that
    /// [was not accepted](RowOutcome::is_accepted) changes nothing that can be read. A refused
    /// deletion with a version still holds off older versions of its key.
    ///
    /// `clock_ms` is our clock, milliseconds since 1970 UTC; `None` for history, whose rows are
    /// measured against their own known time alone. With a clock reading, a row of any table is
    /// [`RowOutcome::Future`] if its event time and its known time both exceed the reading by more
    /// than the tolerance, so no accepted row moves the moment further ahead.
    pub fn apply(&mut self, batch: &RowBatch, clock_ms: Option<i64>) -> Vec<RowOutcome> {
        let (outcomes, effects) = self.write(batch, clock_ms);
        self.is_behind_board |= !batch.is_empty();
        self.mark(&effects);
        outcomes
    }

    /// Marks the cells that rows affected.
    fn mark(&mut self, effects: &Effects) {
        let (directory, cells) = (&self.entities.directory, &self.cells);
        // The low bits of the same hash choose the shard.
        let place = |at: CellRef| {
            let key = directory.key(cells.get(at).anchor);
            (xxh3_64(key.as_bytes()) >> 32) as u32
        };
        self.tracker.mark_effects(effects, self.fired_ms, place);
        self.due.mark_effects(effects, self.fired_ms, place);
        debug_assert_eq!(self.check_touched(effects), Ok(()));
    }

    /// Erases the entities of some keys and all that are the same person's, `address` naming further
    /// rows of the person. Nothing happens to a key that no row named. Later rows are not refused:
    /// that is the caller's.
    pub fn erase(&mut self, named: &[(TableId, &str)], address: Option<&str>) -> ErasedRows {
        let (erased, effects) = self.writer().erase(named, address);
        self.is_behind_board |= !erased.entities.is_empty();
        self.mark(&effects);
        erased
    }

    /// Keeps the changes of homes and identities from now on, for [`Self::take_changes`].
    pub fn keep_changes(&mut self) {
        self.entities.directory.journal.keep();
    }

    /// The changes of homes and identities since the last call, in their order, each with the
    /// index of its row in the batch that was applied.
    pub fn take_changes(&mut self) -> Vec<(u32, Change)> {
        self.entities.directory.journal.take()
    }

    /// Lets rows change entities and cells. The effects are not marked yet.
    pub(crate) fn write(
        &mut self,
        batch: &RowBatch,
        clock_ms: Option<i64>,
    ) -> (Vec<RowOutcome>, Effects) {
        self.writer().apply(batch, clock_ms)
    }

    fn writer(&mut self) -> Writer<'_> {
        Writer {
            entities: &mut self.entities,
            cells: &mut self.cells,
            gate: &mut self.gate,
            hubs: &mut self.hubs,
            newest: &mut self.newest,
            bursts: &mut self.bursts,
            staff: &mut self.staff,
            regrouped: Vec::new(),
            effects: Effects::new(self.tracker.tracking()),
        }
    }

    /// Checks the invariants of a few touched cells. Small cells only: the cost of a batch in a
    /// development build stays that of its rows.
    fn check_touched(&self, effects: &Effects) -> Result<(), BrokenInvariant> {
        let is_small = |at: &CellRef| {
            let nodes = &self.cells.get(*at).nodes;
            let mut lists = nodes.iter().map(|n| n.edges.len() + n.touches().len());
            nodes.len() <= CHECKED_NODES && lists.all(|length| length <= CHECKED_LENGTH)
        };
        let cells = effects.iter().map(|(at, _)| at).filter(is_small);
        let every = effects.len() / CHECKED_CELLS + 1;
        cells
            .step_by(every)
            .try_for_each(|at| self.parts().check_cell(at))
    }

    /// Checks every invariant of the graph. Walks all cells: for tests.
    ///
    /// # Errors
    /// The first broken invariant.
    pub fn check(&self) -> Result<(), BrokenInvariant> {
        self.parts().check()
    }

    fn parts(&self) -> GraphParts<'_> {
        GraphParts {
            entities: &self.entities,
            cells: &self.cells,
            hubs: &self.hubs,
            trackers: [&self.tracker, &self.due],
            bursts: &self.bursts,
            fired_ms: self.fired_ms,
        }
    }

    /// Moves the moment on (never back): fires timers, publishes the board that is due. Only the
    /// newest board on the grid is published: the ones skipped were never read.
    pub fn advance(&mut self, as_of: AsOf) {
        self.advance_before(as_of, i64::MAX);
    }

    /// As [`Self::advance`], but fires and publishes only what lies before `tick_ms`: more rows of
    /// that tick may follow.
    pub fn advance_before(&mut self, as_of: AsOf, tick_ms: i64) {
        self.as_of_ms = self.as_of_ms.max(as_of.ms());
        self.fire(as_of.ms().min(tick_ms.saturating_sub(1)));
    }

    /// Fires and publishes all that lies before a tick, so that rows of the tick do not count
    /// there.
    pub fn fire_before(&mut self, tick_ms: i64) {
        self.fire(tick_ms.saturating_sub(1));
    }

    fn fire(&mut self, fired_ms: i64) {
        if fired_ms <= self.fired_ms {
            return;
        }
        self.fired_ms = fired_ms;
        self.tracker.fire_timers(&self.cells, fired_ms);
        self.due.fire_timers(&self.cells, fired_ms);
        debug_assert_eq!(self.parts().check_time(), Ok(()));
        let period = self.shared().options.board_period_ms;
        let due = fired_ms.div_euclid(period);
        if due <= self.board {
            return;
        }
        self.board = due;
        self.is_behind_board = false;
        self.gate.forget(&self.cells.shared.options);
        self.writer().close_bursts();
        let trackers = [&self.tracker, &self.due];
        let is_moved = publish(&mut self.cells, &mut self.hubs, &trackers, due * period);
        let is_back = self.publish_sources(due * period);
        if is_moved || is_back {
            let board_ms = due * period;
            self.tracker.sweep(&self.cells, &self.hubs, board_ms);
            self.due.sweep(&self.cells, &self.hubs, board_ms);
            // Places before this moment have passed already.
            self.due.fire_timers(&self.cells, fired_ms);
        }
    }

    /// Publishes the ages of sources. A source that is back changes what every cell reads: all that
    /// were scored wait for a new score. Returns true if so.
    fn publish_sources(&mut self, board_ms: i64) -> bool {
        if !self.shared().options.source_ages {
            return false;
        }
        let tables = self.entities.catalog.tables.iter();
        let newest_ms = tables.map(|table| self.gate.newest_ms(table.id));
        let newest = SourceTimes::new(newest_ms.collect());
        let is_back = self.sources.differs(&newest, board_ms);
        if is_back {
            self.tracker.forget_drift();
            self.due.forget_drift();
        }
        self.sources = newest;
        is_back
    }

    /// Takes the cells to re-score now: all that rows or timers touched, and up to `soft_budget`
    /// of those that wait. In order of shard and index, each once, with its reasons.
    pub fn take_dirty(&mut self, soft_budget: usize) -> Vec<(CellRef, Reasons)> {
        self.take_within(TakeLimit::of_soft(soft_budget))
    }

    /// As [`Self::take_dirty`], within a limit of work. Where not all fit, what has waited long comes
    /// first, then what is nearest to a threshold; the rest waits on.
    pub fn take_within(&mut self, limit: TakeLimit) -> Vec<(CellRef, Reasons)> {
        self.tracker.take_dirty(&mut self.cells, &self.due, limit)
    }

    /// The work of scoring a cell, in nodes: about that of one member each.
    pub fn work(&self, at: CellRef) -> u64 {
        work_of(self.cells.get(at))
    }

    /// Takes the cells that are due at the current moment, a tick: all that rows touched since their
    /// last tick, and of those that a board or a deadline concerns the ones whose
    /// place in the hour has come. Which these are depends on rows and ticks alone, neither on
    /// epochs, nor on what was scored in between, nor on budgets. In order of shard and index,
    /// each once, with its reasons; [`Self::folded`] ends the tick for a cell.
    pub fn take_due(&mut self) -> Vec<(CellRef, Reasons)> {
        self.due
            .take_dirty(&mut self.cells, &self.tracker, TakeLimit::NONE)
    }

    /// Makes the cell of an entity due at the tick that follows, though no row touched it. Nothing
    /// happens to an entity without a cell.
    pub fn mark_due(&mut self, entity: EntityId) {
        if let Some(place) = self.entities.directory.place(entity) {
            self.due.mark(place.cell, Reasons::EVENT);
        }
    }

    /// Notes that a due cell was evaluated at the current moment, and sets its deadline.
    pub fn folded(&mut self, at: CellRef) {
        self.due
            .scored(&self.cells, &self.hubs, self.as_of_ms, at, 0.0);
    }

    /// Makes every cell due at the next tick, as after a change of the deployed version.
    pub fn mark_all_due(&mut self, reason: Reasons) {
        self.due.mark_all(&self.cells, reason);
    }

    /// The distance of two ticks, milliseconds: a divisor of an hour. Deadlines, and what boards
    /// make due, lie on such ticks. Ten seconds unless set.
    pub fn set_tick_ms(&mut self, tick_ms: i64) {
        self.tracker.share(Sharing::Budget { step_ms: tick_ms });
        self.due.share(Sharing::Places { step_ms: tick_ms });
    }

    /// The time of the first deadline after the current moment, or of the first board that has rows
    /// to publish, milliseconds: before it nothing but rows makes a cell due.
    pub fn next_due_ms(&self) -> i64 {
        let timer_ms = self.due.next_timer_ms().unwrap_or(i64::MAX);
        match self.is_behind_board {
            true => timer_ms.min(self.next_board_ms()),
            false => timer_ms,
        }
    }

    /// The time of the first deadline, milliseconds.
    pub fn next_timer_ms(&self) -> Option<i64> {
        self.tracker.next_timer_ms()
    }

    /// The number of cells that wait because a board moved their hubs, or because an entity
    /// changed that very many refer to.
    pub fn deferred(&self) -> usize {
        self.tracker.deferred()
    }

    /// The number of cells that rows, timers or the engine made dirty and that are not taken.
    pub fn dirty(&self) -> usize {
        self.tracker.dirty()
    }

    /// Announces rows of the past, which are not scored: boards mark no cell until
    /// [`Self::restart`], which marks all.
    pub fn begin_replay(&mut self) {
        self.tracker.begin_replay();
    }

    /// Makes every cell wait to be scored, a few at a time, as if none had been scored before.
    /// `margin` is the distance of a cell's standing scores to the nearest threshold, logits;
    /// `swapped` means that they are another bundle's.
    ///
    /// Afterwards nothing of the graph depends on which cells were scored when: a process that
    /// replayed rows without scoring and one that scored all along go on alike. All cells are more
    /// than need it, but which do is unknown without having scored.
    // Decision: docs/decisions/0004-after-a-restart-every-cell-waits.md
    pub fn restart(&mut self, margin: impl Fn(CellRef, &Cell) -> f32, swapped: bool) {
        self.tracker.restart(&self.cells, margin, swapped);
    }

    /// Marks every cell that has a node, with one reason.
    pub fn mark_all(&mut self, reason: Reasons) {
        self.tracker.mark_all(&self.cells, reason);
    }

    /// Notes that a cell was scored at the current moment, `margin` logits from the nearest
    /// threshold, and sets its next timer.
    pub fn scored(&mut self, at: CellRef, margin: f32) {
        self.tracker
            .scored(&self.cells, &self.hubs, self.as_of_ms, at, margin);
    }
}
