//! The temporal graph: shards of cells, the directory of who is whose, hubs with boards, timers and the dirty set.
//!
//! A batch of rows is applied in two phases. *Resolve* is serial, in row order: versions of entities, links, moves between cells,
//! and the decision which events are let in and whose they are. *Apply* is parallel by shard: events add to their owners' state.
//! Since event state commutes and moves carry it along, the result does not depend on how rows were cut into batches.

use std::sync::Arc;

use rayon::prelude::*;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use leadpulse_schema::{
    Absence, Catalog, DayWindow, FieldId, HubId, Operation, Population, RelationId, Role, Row,
    RowBatch, TableId, Value,
};

use crate::apply::gate::{Gate, Outcome, Takes, fingerprint, is_ahead};
use crate::apply::shard::{EventOp, Shard};
use crate::options::{DAY_MS, GraphOptions};
use crate::state::cell::{Cell, CellRef, EntityId, EntityView, Reasons, Shared};
use crate::state::decay::Bank;
use crate::state::hubs::Hubs;
use crate::state::layout::StateLayout;
use crate::state::node::Node;
use crate::who::directory::Directory;
use crate::who::domains::Domains;
use crate::who::edges::Incoming;
use crate::who::identity::Identity;
use crate::who::matching::Matching;

/// Timers fire on this grid.
const TIMER_GRID_MS: i64 = 3_600_000;

/// Below this many events an epoch is applied on the caller's thread.
const PARALLEL_FROM: usize = 256;

/// Whether changes are tracked for re-scoring. Training and backtests score at anchors of their own choosing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// Dirty cells, timers and soft-dirty sweeps after boards.
    On,
    /// None of it.
    Off,
}

/// An event row that was let in, until all links of its batch are settled.
#[derive(Debug)]
struct Admitted {
    row: u32,
    owner: EntityId,
    fingerprint: u64,
    is_certain: bool,
    hubs: SmallVec<[EntityId; 2]>,
    mentions: SmallVec<[(RelationId, EntityId); 1]>,
}

/// How large the graph is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GraphSize {
    /// Known entities per table, in table order.
    pub known: Vec<usize>,
    /// Named but unknown entities per table, in table order.
    pub stubs: Vec<usize>,
    /// Cells.
    pub cells: usize,
    /// Hub nodes with sums.
    pub hubs: usize,
    /// Event fingerprints held against duplicates.
    pub fingerprints: usize,
    /// Bytes held by nodes, roughly.
    pub bytes: usize,
}

/// The temporal graph.
#[derive(Debug)]
pub struct Graph {
    pub(crate) shared: Arc<Shared>,
    pub(crate) directory: Directory,
    pub(crate) identity: Identity,
    pub(crate) matching: Matching,
    pub(crate) domains: Domains,
    pub(crate) incoming: Incoming,
    pub(crate) gate: Gate,
    pub(crate) shards: Vec<Shard>,
    /// The cells of domains that lead to no root.
    pub(crate) provisional: FxHashMap<EntityId, CellRef>,
    hubs: Hubs,
    pub(crate) tracking: Tracking,
    as_of_ms: i64,
    board: i64,
    windows: Vec<DayWindow>,
    /// Soft-dirty cells, the one nearest to a threshold last.
    soft: Vec<CellRef>,
    soft_in_order: bool,
    /// Rows of the past are applied again: nobody will score before [`Graph::restart`].
    replaying: bool,
}

impl Graph {
    /// An empty graph. `options` are validated; `windows` are those of all populations, bound to the options' counters.
    pub fn new(
        catalog: Arc<Catalog>,
        options: GraphOptions,
        windows: Vec<DayWindow>,
        tracking: Tracking,
    ) -> Self {
        let bank = Bank::new(&options.half_lives_days);
        let layout = StateLayout::new(catalog.clone(), &options);
        let hubs = Hubs::new(layout.hub_width * bank.len());
        let shards = (0..options.shards).map(|_| Shard::default()).collect();
        Self {
            directory: Directory::new(&catalog),
            identity: Identity::default(),
            matching: Matching::default(),
            domains: Domains::new(&options.free_mail_domains),
            incoming: Incoming::default(),
            gate: Gate::default(),
            shards,
            provisional: FxHashMap::default(),
            hubs,
            tracking,
            as_of_ms: i64::MIN,
            board: i64::MIN,
            windows,
            soft: Vec::new(),
            soft_in_order: true,
            replaying: false,
            shared: Arc::new(Shared {
                layout,
                bank,
                options,
            }),
        }
    }

    /// The catalog.
    pub fn catalog(&self) -> &Arc<Catalog> {
        self.shared.layout.catalog()
    }
    /// Layout, half-lives and options.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
    /// Keys, places and parents.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }
    /// The hubs, as of the last board.
    pub fn hubs(&self) -> &Hubs {
        &self.hubs
    }
    /// The newest moment it was advanced to, milliseconds.
    pub fn as_of_ms(&self) -> i64 {
        self.as_of_ms
    }
    /// Number of the last board: its time on the grid divided by the period; `None` before the first.
    pub fn board(&self) -> Option<i64> {
        (self.board != i64::MIN).then_some(self.board)
    }
    /// The time of the first board after the current moment, milliseconds.
    pub fn next_board_ms(&self) -> i64 {
        let period = self.shared.options.board_period_ms;
        (self.as_of_ms.div_euclid(period) + 1) * period
    }
    /// A cell.
    pub fn cell(&self, at: CellRef) -> &Cell {
        &self.shards[at.shard as usize].cells[at.index as usize]
    }
    /// All cells, by shard and index.
    pub fn cells(&self) -> impl Iterator<Item = (CellRef, &Cell)> {
        self.shards.iter().enumerate().flat_map(|(shard, s)| {
            s.cells
                .iter()
                .enumerate()
                .filter(|(_, c)| !c.nodes.is_empty())
                .map(move |(index, cell)| {
                    (
                        CellRef {
                            shard: shard as u16,
                            index: index as u32,
                        },
                        cell,
                    )
                })
        })
    }
    /// The cell and node of an entity, if it was ever named.
    pub fn find(&self, table: TableId, key: &str) -> Option<(CellRef, &Node)> {
        let place = self
            .directory
            .place(self.directory.find(self.directory.of_table(table), key)?)?;
        Some((
            place.cell,
            &self.cell(place.cell).nodes[place.node as usize],
        ))
    }
    /// An entity as a population filter sees it at `as_of`.
    pub fn view<'a>(
        &self,
        cell: &'a Cell,
        node: &'a Node,
        as_of_ms: i64,
        population: &'a Population,
    ) -> EntityView<'a> {
        EntityView {
            cell,
            node,
            as_of_ms,
            population,
        }
    }

    /// Why a task about a population does not ask about an entity at `as_of`; `None` if it does.
    pub fn absence(
        &self,
        cell: &Cell,
        node: &Node,
        as_of_ms: i64,
        population: &Population,
    ) -> Option<Absence> {
        if node.is_merged() {
            return Some(Absence::Merged);
        }
        if !node.is_known() {
            return Some(Absence::Deleted);
        }
        let is_asked = self.view(cell, node, as_of_ms, population).is_eligible();
        (!is_asked).then_some(Absence::Outside)
    }

    /// The absence of an entity as people are told.
    pub fn absence_words(&self, entity: EntityId, why: Absence) -> String {
        match why {
            Absence::Outside => "outside the task's population".into(),
            Absence::Deleted => "deleted".into(),
            Absence::Merged => format!("merged into {}", self.directory.key(self.survivor(entity))),
        }
    }

    /// Holds a table's fingerprints until a partition has had an accepted row of it: its rows may be of any age, and rows of other
    /// partitions must not make them late. To be called for every partition whose history is still to be read; see [`Self::caught_up`].
    pub fn expect(&mut self, partition: u32, table: TableId) {
        if self.catalog().table_at(table).role == Role::Event {
            self.gate.expect(partition, table);
        }
    }

    /// Waits no longer for expected partitions that had no accepted row: all history has been read. Otherwise a partition that stays
    /// empty would hold its table's fingerprints for ever.
    pub fn caught_up(&mut self) {
        self.gate.caught_up();
    }

    /// Applies rows in their order. Returns one outcome per row; a row with another outcome than `Accepted` changes nothing.
    ///
    /// `clock_ms` is our clock, milliseconds since 1970 UTC; `None` for history, whose rows are measured against their own known time
    /// alone. With a clock reading, a row of any table is [`Outcome::Future`] if its event time and its known time both exceed it by
    /// more than the tolerance, so no accepted row moves the moment further ahead.
    pub fn apply(&mut self, batch: &RowBatch, clock_ms: Option<i64>) -> Vec<Outcome> {
        let shared = self.shared.clone();
        let catalog = self.catalog().clone();
        let mut outcomes = vec![Outcome::Accepted; batch.len()];
        let mut events: Vec<Admitted> = Vec::new();
        for (index, row) in batch.iter().enumerate() {
            if is_ahead(&shared.options, clock_ms, row) {
                outcomes[index] = Outcome::Future;
                continue;
            }
            match (catalog.table_at(row.table()).role, row.operation()) {
                (Role::Root | Role::Member, Operation::Upsert) => self.upsert(&catalog, row),
                (Role::Root | Role::Member, Operation::Delete | Operation::Retract) => {
                    self.delete(row)
                }
                (Role::Hub, _) => {
                    let namespace = self.directory.of_table(row.table());
                    self.directory.intern(namespace, row.key());
                }
                (Role::Event, _) => {
                    outcomes[index] = self.admit(&catalog, clock_ms, row, index as u32, &mut events)
                }
            }
        }
        self.apply_events(batch, &events);
        outcomes
    }

    /// Decides whether an event row is let in, and whose it is.
    fn admit(
        &mut self,
        catalog: &Catalog,
        clock_ms: Option<i64>,
        row: Row<'_>,
        index: u32,
        events: &mut Vec<Admitted>,
    ) -> Outcome {
        let Some((owner_table, owner_key)) = owner_of(catalog, row) else {
            return Outcome::Accepted;
        };
        let shared = self.shared.clone();
        let fingerprint = fingerprint(row, owner_key);
        let takes = match row.operation() {
            Operation::Retract => {
                Some(
                    self.gate
                        .admit_retraction(&shared.options, clock_ms, row, fingerprint),
                )
            }
            Operation::Upsert | Operation::Delete => None,
        };
        let outcome = match takes {
            None => self.gate.admit(&shared.options, clock_ms, row, fingerprint),
            Some(Takes::Back | Takes::BackIfThere | Takes::Ahead) => Outcome::Accepted,
            Some(Takes::Again) => Outcome::Duplicate,
            Some(Takes::Refused) => Outcome::Future,
        };
        if outcome != Outcome::Accepted {
            return outcome;
        }
        // Whoever a row names is there afterwards, whether its event or its retraction came first.
        let owner = self.ensure(owner_table, owner_key);
        let layout = shared.layout.event(row.table());
        let hubs = self.hub_nodes(row, &layout.hub_fields);
        let mut mentions = SmallVec::new();
        for (field, relation, target) in &layout.mentions {
            for key in keys_of(row.get(*field)) {
                mentions.push((*relation, self.ensure(*target, key)));
            }
        }
        mentions.sort_unstable();
        mentions.dedup();
        if takes != Some(Takes::Ahead) {
            let is_certain = takes != Some(Takes::BackIfThere);
            events.push(Admitted {
                row: index,
                owner,
                fingerprint,
                is_certain,
                hubs,
                mentions,
            });
        }
        outcome
    }

    /// Adds events to their owners' state and takes back what is taken back. Links are settled: everyone has their place.
    fn apply_events(&mut self, batch: &RowBatch, events: &[Admitted]) {
        let shared = self.shared.clone();
        let mut ops: Vec<Vec<EventOp>> = self.shards.iter().map(|_| Vec::new()).collect();
        let place = |directory: &Directory, entity| {
            directory
                .place(entity)
                .expect("ensure() gave everyone a place")
        };
        for event in events {
            let person = place(&self.directory, self.identity.survivor(event.owner));
            let state = place(
                &self.directory,
                self.carrier(event.owner, batch.row(event.row as usize).table()),
            );
            ops[person.cell.shard as usize].push(EventOp::Own {
                cell: person.cell.index,
                node: person.node,
                state: state.node,
                row: event.row,
                fingerprint: event.fingerprint,
                is_certain: event.is_certain,
                hubs: event.hubs.clone(),
            });
            for (relation, entity) in &event.mentions {
                let named = place(&self.directory, self.identity.survivor(*entity));
                let op = EventOp::Mention {
                    cell: named.cell.index,
                    node: named.node,
                    row: event.row,
                    relation: *relation,
                };
                ops[named.cell.shard as usize].push(op);
            }
        }
        let tracking = self.tracking;
        if events.len() >= PARALLEL_FROM {
            self.shards
                .par_iter_mut()
                .zip(&ops)
                .for_each(|(shard, ops)| shard.apply(&shared, batch, ops, tracking));
        } else {
            self.shards
                .iter_mut()
                .zip(&ops)
                .for_each(|(shard, ops)| shard.apply(&shared, batch, ops, tracking));
        }
        for number in 0..self.shards.len() {
            let mut decided = std::mem::take(&mut self.shards[number].decided);
            decided.sort_unstable();
            decided.dedup();
            for index in decided {
                self.mark_readers(CellRef {
                    shard: number as u16,
                    index,
                });
            }
        }
    }

    /// Interns the hubs that fields of a row name.
    pub(crate) fn hub_nodes<const N: usize>(
        &mut self,
        row: Row<'_>,
        fields: &[(FieldId, HubId)],
    ) -> SmallVec<[EntityId; N]>
    where
        [EntityId; N]: smallvec::Array<Item = EntityId>,
    {
        let mut nodes = SmallVec::new();
        for (field, hub) in fields {
            let namespace = self.directory.of_hub(*hub);
            nodes.extend(
                keys_of(row.get(*field))
                    .into_iter()
                    .map(|key| self.directory.intern(namespace, key)),
            );
        }
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    pub(crate) fn mark(&mut self, cell: CellRef, reason: Reasons) {
        if self.tracking == Tracking::On {
            self.shards[cell.shard as usize].mark(cell.index, reason);
        }
    }

    /// Puts a cell among the soft-dirty because of what it refers to.
    pub(crate) fn soften(&mut self, at: CellRef) {
        let cell = &mut self.shards[at.shard as usize].cells[at.index as usize];
        if cell.reasons.is_empty() && !cell.stale {
            cell.stale = true;
            self.soft.push(at);
            self.soft_in_order = false;
        }
    }

    /// Moves the moment on (never back): fires timers, publishes the board that is due. Only the newest board on the grid is
    /// published: the ones skipped were never read.
    pub fn advance(&mut self, as_of_ms: i64) {
        if as_of_ms <= self.as_of_ms {
            return;
        }
        self.as_of_ms = as_of_ms;
        for shard in &mut self.shards {
            while let Some(entry) = shard.timers.first_entry().filter(|e| *e.key() <= as_of_ms) {
                for index in entry.remove() {
                    let cell = &mut shard.cells[index as usize];
                    // A cell that everyone left keeps its timers, and must not be marked: it may be given away at any time.
                    if cell.deadline_ms <= as_of_ms && !cell.nodes.is_empty() {
                        cell.deadline_ms = i64::MAX;
                        shard.mark(index, Reasons::TIMER);
                    }
                }
            }
        }
        let due = as_of_ms.div_euclid(self.shared.options.board_period_ms);
        if due > self.board {
            self.publish(due);
        }
    }

    fn publish(&mut self, board: i64) {
        self.board = board;
        self.gate.forget(&self.shared.options);
        let board_ms = board * self.shared.options.board_period_ms;
        let shared = self.shared.clone();
        self.hubs.begin(&shared, board_ms);
        for shard in &mut self.shards {
            let mut changed = std::mem::take(&mut shard.changed);
            changed.sort_unstable();
            changed.dedup();
            for index in changed {
                let cell = &mut shard.cells[index as usize];
                if let Some(old) = cell.frozen.take() {
                    let new = cell.contribution(&shared);
                    self.hubs.replace(&shared, Some(&old), &new);
                }
                if cell.nodes.is_empty() && cell.reasons.is_empty() {
                    shard.free.push(index);
                }
            }
        }
        let moved = self.hubs.finish(&shared, board_ms);
        if moved && self.tracking == Tracking::On && !self.replaying {
            self.sweep();
        }
    }

    /// Lists the cells whose view of the hubs moved by more than ε, the one nearest to a threshold last.
    fn sweep(&mut self) {
        let (hubs, epsilon) = (&self.hubs, self.shared.options.board_epsilon);
        self.soft = self
            .shards
            .par_iter()
            .enumerate()
            .flat_map_iter(|(shard, s)| {
                s.cells.iter().enumerate().filter_map(move |(index, cell)| {
                    let drifted =
                        || cell.scored && hubs.mean_drift(&cell.hubs()) - cell.drift_seen > epsilon;
                    let is_soft = cell.reasons.is_empty()
                        && !cell.nodes.is_empty()
                        && (cell.stale || drifted());
                    is_soft.then_some(CellRef {
                        shard: shard as u16,
                        index: index as u32,
                    })
                })
            })
            .collect();
        self.soft_in_order = false;
    }

    /// The cell nearest to a threshold comes last.
    fn order_soft(&mut self) {
        if !self.soft_in_order {
            let mut soft: Vec<(f32, CellRef)> = self
                .soft
                .iter()
                .map(|at| (self.cell(*at).margin, *at))
                .collect();
            soft.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
            self.soft = soft.into_iter().map(|(_, at)| at).collect();
            self.soft_in_order = true;
        }
    }

    /// When the first timer is due, milliseconds; it may turn out to have been overtaken.
    pub fn next_timer_ms(&self) -> Option<i64> {
        self.shards
            .iter()
            .filter_map(|s| s.timers.keys().next().copied())
            .min()
    }

    /// Cells waiting because a board moved their hubs, or because something that very many refer to changed.
    pub fn deferred(&self) -> usize {
        self.soft.len()
    }

    /// Takes the cells to re-score now: all that rows or timers touched, and up to `soft_budget` of those that wait.
    /// In order of shard and index, each once, with its reasons.
    pub fn take_dirty(&mut self, soft_budget: usize) -> Vec<(CellRef, Reasons)> {
        self.order_soft();
        for _ in 0..soft_budget {
            let Some(at) = self.soft.pop() else { break };
            let shard = &mut self.shards[at.shard as usize];
            let cell = &mut shard.cells[at.index as usize];
            if !cell.nodes.is_empty() {
                let reason = if std::mem::take(&mut cell.stale) {
                    Reasons::EVENT
                } else {
                    Reasons::BOARD
                };
                shard.mark(at.index, reason);
            }
        }
        let mut taken = Vec::new();
        for (number, shard) in self.shards.iter_mut().enumerate() {
            let mut dirty = std::mem::take(&mut shard.dirty);
            dirty.sort_unstable();
            for index in dirty {
                let cell = &mut shard.cells[index as usize];
                let reasons = std::mem::take(&mut cell.reasons);
                if cell.nodes.is_empty() {
                    // Its last change left no contribution behind: it is in `changed` until the next board, or free now.
                    if cell.frozen.is_none() {
                        shard.free.push(index);
                    }
                    continue;
                }
                let reasons = if std::mem::take(&mut cell.swapped) {
                    reasons.with(Reasons::BUNDLE)
                } else {
                    reasons
                };
                taken.push((
                    CellRef {
                        shard: number as u16,
                        index,
                    },
                    reasons,
                ));
            }
        }
        taken
    }

    /// Rows of the past follow, which nobody scores: boards mark no cell until [`Self::restart`], which marks all.
    pub fn begin_replay(&mut self) {
        self.replaying = true;
    }

    /// Makes every cell wait to be scored, a few at a time, as if none had been scored before. `margin` is how near a cell's standing scores
    /// are to a threshold, logits; `swapped` says that they are another bundle's.
    ///
    /// Afterwards nothing of the graph depends on which cells were scored when: a process that replayed rows without scoring and one that
    /// scored all along go on alike. All cells are more than need it; what needs it is not known without having scored.
    pub fn restart(&mut self, margin: impl Fn(CellRef, &Cell) -> f32, swapped: bool) {
        self.replaying = false;
        self.soft.clear();
        for (number, shard) in self.shards.iter_mut().enumerate() {
            shard.timers.clear();
            for (index, cell) in shard.cells.iter_mut().enumerate() {
                let at = CellRef {
                    shard: number as u16,
                    index: index as u32,
                };
                let waits = !cell.nodes.is_empty();
                cell.deadline_ms = i64::MAX;
                cell.scored = false;
                cell.drift_seen = 0.0;
                cell.margin = if waits { margin(at, cell) } else { 0.0 };
                cell.stale = waits;
                cell.swapped = waits && swapped;
                if waits {
                    self.soft.push(at);
                }
            }
        }
        self.soft_in_order = false;
    }

    /// Marks every cell.
    pub fn mark_all(&mut self, reason: Reasons) {
        for shard in &mut self.shards {
            for index in 0..shard.cells.len() as u32 {
                if !shard.cells[index as usize].nodes.is_empty() {
                    shard.mark(index, reason);
                }
            }
        }
    }

    /// Notes that a cell was scored at the current moment, `margin` logits from the nearest threshold, and sets its next timer.
    pub fn scored(&mut self, at: CellRef, margin: f32) {
        let deadline_ms = self.deadline(self.cell(at));
        let drift_seen = self.hubs.mean_drift(&self.cell(at).hubs());
        let shard = &mut self.shards[at.shard as usize];
        let cell = &mut shard.cells[at.index as usize];
        cell.scored = true;
        cell.stale = false;
        cell.margin = margin;
        cell.drift_seen = drift_seen;
        if cell.deadline_ms != deadline_ms {
            cell.deadline_ms = deadline_ms;
            let slot = deadline_ms
                .div_euclid(TIMER_GRID_MS)
                .saturating_add(1)
                .saturating_mul(TIMER_GRID_MS);
            shard.timers.entry(slot).or_default().push(at.index);
        }
    }

    /// When passing time alone may have moved a cell's score enough, or moved an entity out of a population.
    fn deadline(&self, cell: &Cell) -> i64 {
        let now = self.as_of_ms;
        let idle = cell
            .newest_event_ms()
            .map_or(7 * DAY_MS, |t| now.saturating_sub(t).max(0));
        let drift = now.saturating_add((idle / 4).clamp(DAY_MS, 7 * DAY_MS));
        let turn = self
            .windows
            .iter()
            .flat_map(|w| {
                cell.nodes.iter().filter_map(move |n| {
                    n.counter(w.counter)?
                        .next_change_ms(now, w.start_days, w.end_days)
                })
            })
            .min()
            .unwrap_or(i64::MAX);
        drift.min(turn)
    }

    /// Counts what is held.
    pub fn size(&self) -> GraphSize {
        let tables = self.catalog().tables.len();
        let mut size = GraphSize {
            known: vec![0; tables],
            stubs: vec![0; tables],
            ..GraphSize::default()
        };
        for (_, cell) in self.cells() {
            size.cells += 1;
            for node in &cell.nodes {
                let counts = if node.is_known() {
                    &mut size.known
                } else {
                    &mut size.stubs
                };
                counts[node.table.index()] += 1;
                size.bytes += size_of::<Node>() + node.heap_bytes();
            }
        }
        size.hubs = self.hubs.len();
        size.fingerprints = self.gate.len();
        size
    }
}

/// The keys a value names: none, one or several. An empty key names nothing, or everyone without one would be related.
pub(crate) fn keys_of(value: Value<'_>) -> SmallVec<[&str; 2]> {
    match value {
        Value::Text(key) if !key.is_empty() => smallvec::smallvec![key],
        Value::List(keys) => keys.iter().filter(|key| !key.is_empty()).collect(),
        _ => SmallVec::new(),
    }
}

/// The table and key of the first owner reference that is not null.
pub fn owner_of<'a>(catalog: &Catalog, row: Row<'a>) -> Option<(TableId, &'a str)> {
    let table = catalog.table_at(row.table());
    table.owners.iter().find_map(|field| {
        let key = row.get(*field).text().filter(|k| !k.is_empty())?;
        Some((table.field_at(*field).reference?.table, key))
    })
}
