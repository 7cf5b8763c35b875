//! The temporal graph: shards of cells, the directory of who is whose, hubs with boards, timers and the dirty set.
//!
//! A batch of rows is applied in two phases. *Resolve* is serial, in row order: versions of entities, links, moves between cells,
//! and the decision which events are let in and whose they are. *Apply* is parallel by shard: events add to their owners' state.
//! Since event state commutes and moves carry it along, the result does not depend on how rows were cut into batches.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use leadpulse_schema::{Catalog, DayWindow, Operation, Population, Role, Row, RowBatch, TableId, Value};

use crate::cell::{Cell, CellRef, EntityId, EntityView, Node, Reasons, Shared};
use crate::decay::Bank;
use crate::dedupe::{Gate, Outcome, fingerprint};
use crate::directory::{Directory, Place};
use crate::hubs::Hubs;
use crate::layout::StateLayout;
use crate::options::{DAY_MS, GraphOptions};

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

/// Events on their way into one shard.
#[derive(Debug)]
struct EventOp {
    cell: u32,
    node: u32,
    row: u32,
    fingerprint: u64,
    hubs: SmallVec<[EntityId; 2]>,
}

#[derive(Debug, Default)]
struct Shard {
    cells: Vec<Cell>,
    free: Vec<u32>,
    dirty: Vec<u32>,
    changed: Vec<u32>,
    timers: BTreeMap<i64, Vec<u32>>,
}

impl Shard {
    fn mark(&mut self, index: u32, reason: Reasons) {
        let cell = &mut self.cells[index as usize];
        if cell.reasons.is_empty() {
            self.dirty.push(index);
        }
        cell.reasons = cell.reasons.with(reason);
    }
    /// Keeps what the cell has in the hubs before its first change since the board.
    fn freeze(&mut self, index: u32, shared: &Shared) {
        if shared.layout.catalog().hubs.is_empty() {
            return;
        }
        let cell = &mut self.cells[index as usize];
        if cell.frozen.is_none() {
            cell.frozen = Some(Box::new(cell.contribution(shared)));
            self.changed.push(index);
        }
    }
    fn apply(&mut self, shared: &Shared, batch: &RowBatch, ops: &[EventOp], tracking: Tracking) {
        for op in ops {
            self.freeze(op.cell, shared);
            self.cells[op.cell as usize].nodes[op.node as usize].add(shared, batch.row(op.row as usize), op.fingerprint, &op.hubs);
            if tracking == Tracking::On {
                self.mark(op.cell, Reasons::EVENT);
            }
        }
    }
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
    shared: Arc<Shared>,
    directory: Directory,
    gate: Gate,
    shards: Vec<Shard>,
    hubs: Hubs,
    tracking: Tracking,
    as_of_ms: i64,
    board: i64,
    windows: Vec<DayWindow>,
    /// Soft-dirty cells, the one nearest to a threshold last.
    soft: Vec<CellRef>,
}

impl Graph {
    /// An empty graph. `options` are validated; `windows` are those of all populations, bound to the options' counters.
    pub fn new(catalog: Arc<Catalog>, options: GraphOptions, windows: Vec<DayWindow>, tracking: Tracking) -> Self {
        let bank = Bank::new(&options.half_lives_days);
        let layout = StateLayout::new(catalog.clone(), &options);
        let hubs = Hubs::new(layout.hub_width * bank.len());
        let shards = (0..options.shards).map(|_| Shard::default()).collect();
        Self {
            directory: Directory::new(&catalog),
            gate: Gate::default(),
            shards,
            hubs,
            tracking,
            as_of_ms: i64::MIN,
            board: i64::MIN,
            windows,
            soft: Vec::new(),
            shared: Arc::new(Shared { layout, bank, options }),
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
                .map(move |(index, cell)| (CellRef { shard: shard as u16, index: index as u32 }, cell))
        })
    }
    /// The cell and node of an entity, if it was ever named.
    pub fn find(&self, table: TableId, key: &str) -> Option<(CellRef, &Node)> {
        let place = self.directory.place(self.directory.find(self.directory.of_table(table), key)?)?;
        Some((place.cell, &self.cell(place.cell).nodes[place.node as usize]))
    }
    /// An entity as a population filter sees it at `as_of`.
    pub fn view<'a>(&self, cell: &'a Cell, node: &'a Node, as_of_ms: i64, population: &'a Population) -> EntityView<'a> {
        EntityView { cell, node, as_of_ms, population }
    }

    /// Applies rows in their order. Returns one outcome per row.
    pub fn apply(&mut self, batch: &RowBatch) -> Vec<Outcome> {
        let catalog = self.catalog().clone();
        let shared = self.shared.clone();
        let mut outcomes = vec![Outcome::Accepted; batch.len()];
        let mut events: Vec<(EntityId, EventOp)> = Vec::new();
        for (index, row) in batch.iter().enumerate() {
            let table = catalog.table_at(row.table());
            match (table.role, row.operation()) {
                (Role::Root | Role::Member, Operation::Upsert) => self.upsert(&catalog, row),
                (Role::Root | Role::Member, Operation::Delete) => self.delete(row),
                (Role::Hub, _) => {
                    let namespace = self.directory.of_table(row.table());
                    self.directory.intern(namespace, row.key());
                }
                (Role::Event, _) => {
                    let Some((owner_table, owner_key)) = owner_of(&catalog, row) else {
                        continue;
                    };
                    let fingerprint = fingerprint(row, owner_key);
                    outcomes[index] = self.gate.admit(&shared.options, row, fingerprint);
                    if outcomes[index] == Outcome::Accepted {
                        let owner = self.ensure(owner_table, owner_key);
                        let hubs = self.hub_nodes(row, &shared.layout.event(row.table()).hub_fields);
                        events.push((owner, EventOp { cell: 0, node: 0, row: index as u32, fingerprint, hubs }));
                    }
                }
            }
        }
        // Links are settled: only now does every owner have its place.
        let parallel = events.len() >= PARALLEL_FROM;
        let mut ops: Vec<Vec<EventOp>> = self.shards.iter().map(|_| Vec::new()).collect();
        for (owner, mut op) in events {
            let place = self.directory.place(owner).expect("ensure() gave every owner a place");
            op.cell = place.cell.index;
            op.node = place.node;
            ops[place.cell.shard as usize].push(op);
        }
        let tracking = self.tracking;
        if parallel {
            self.shards.par_iter_mut().zip(&ops).for_each(|(shard, ops)| shard.apply(&shared, batch, ops, tracking));
        } else {
            self.shards.iter_mut().zip(&ops).for_each(|(shard, ops)| shard.apply(&shared, batch, ops, tracking));
        }
        outcomes
    }

    /// Interns the hubs that fields of a row name.
    fn hub_nodes<const N: usize>(
        &mut self,
        row: Row<'_>,
        fields: &[(leadpulse_schema::FieldId, leadpulse_schema::HubId)],
    ) -> SmallVec<[EntityId; N]>
    where
        [EntityId; N]: smallvec::Array<Item = EntityId>,
    {
        let mut nodes = SmallVec::new();
        for (field, hub) in fields {
            let namespace = self.directory.of_hub(*hub);
            match row.get(*field) {
                // An empty key names nothing, or everyone without one would be peers.
                Value::Text(key) if !key.is_empty() => nodes.push(self.directory.intern(namespace, key)),
                Value::List(keys) => nodes.extend(keys.iter().filter(|k| !k.is_empty()).map(|key| self.directory.intern(namespace, key))),
                _ => {}
            }
        }
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// The entity of a key, with a node: a stub in a cell of its own if it was never named.
    fn ensure(&mut self, table: TableId, key: &str) -> EntityId {
        let entity = self.directory.intern(self.directory.of_table(table), key);
        if self.directory.place(entity).is_none() {
            let cell = self.own_cell(entity);
            let node = Node::stub(entity, table, &self.shared.layout);
            self.put(cell, node);
        }
        entity
    }

    /// A new cell of an entity.
    fn own_cell(&mut self, anchor: EntityId) -> CellRef {
        let shard = (xxh3_64(self.directory.key(anchor).as_bytes()) % self.shards.len() as u64) as u16;
        let s = &mut self.shards[shard as usize];
        let index = match s.free.pop() {
            Some(index) => {
                s.cells[index as usize] = Cell::new(anchor);
                index
            }
            None => {
                s.cells.push(Cell::new(anchor));
                s.cells.len() as u32 - 1
            }
        };
        CellRef { shard, index }
    }

    fn put(&mut self, cell: CellRef, node: Node) {
        self.shards[cell.shard as usize].freeze(cell.index, &self.shared);
        let nodes = &mut self.shards[cell.shard as usize].cells[cell.index as usize].nodes;
        self.directory.set_place(node.entity, Place { cell, node: nodes.len() as u32 });
        nodes.push(node);
    }

    fn take(&mut self, entity: EntityId) -> Node {
        let place = self.directory.place(entity).expect("only placed entities move");
        let shard = &mut self.shards[place.cell.shard as usize];
        shard.freeze(place.cell.index, &self.shared);
        let cell = &mut shard.cells[place.cell.index as usize];
        let node = cell.nodes.swap_remove(place.node as usize);
        if let Some(swapped) = cell.nodes.get(place.node as usize) {
            self.directory.set_place(swapped.entity, place);
        }
        node
    }

    fn mark(&mut self, cell: CellRef, reason: Reasons) {
        if self.tracking == Tracking::On {
            self.shards[cell.shard as usize].mark(cell.index, reason);
        }
    }

    fn upsert(&mut self, catalog: &Catalog, row: Row<'_>) {
        let table = catalog.table_at(row.table());
        let entity = self.ensure(row.table(), row.key());
        let place = self.directory.place(entity).expect("ensure() gave it a place");
        let fields: SmallVec<[_; 4]> = table.fields.iter().filter_map(|f| f.hub.map(|hub| (f.id, hub))).collect();

        let mut version = RowBatch::new();
        let current = self.cell(place.cell).nodes[place.node as usize].row();
        match (table.changed_fields.map(|f| row.get(f)), current) {
            (Some(Value::List(changed)), Some(current)) => {
                let mut builder = version.start(catalog, row.table(), Operation::Upsert, row.position(), row.known_ms());
                for field in &table.fields {
                    let is_new = field.id == table.key || Some(field.id) == table.time || changed.iter().any(|name| name == field.name);
                    builder.set(field.id, if is_new { row.get(field.id) } else { current.get(field.id) });
                }
                builder.finish();
            }
            _ => version.push_copy(catalog, row),
        }

        let hubs = self.hub_nodes(version.row(0), &fields);
        let parent = match table.role {
            Role::Member => owner_of(catalog, version.row(0)).map(|(t, key)| (t, key.to_owned())),
            _ => None,
        };
        let shard = &mut self.shards[place.cell.shard as usize];
        shard.freeze(place.cell.index, &self.shared);
        shard.cells[place.cell.index as usize].nodes[place.node as usize].set_row(version, hubs, row.known_ms());
        let parent = parent.map(|(t, key)| self.ensure(t, &key));
        if table.role == Role::Member && parent != self.directory.parent(entity) {
            self.relink(entity, parent);
        }
        let place = self.directory.place(entity).expect("moves keep a place");
        self.mark(place.cell, Reasons::EVENT);
    }

    /// Gives an entity another parent and moves it, with everyone below it, to that parent's cell. History moves along.
    fn relink(&mut self, entity: EntityId, parent: Option<EntityId>) {
        let from = self.directory.place(entity).expect("linked entities have a place").cell;
        let family = self.directory.subtree(entity);
        // A chain of members may close into a ring only through contradicting versions; such a link is not made.
        if parent.is_some_and(|p| family.contains(&p)) {
            return;
        }
        self.directory.set_parent(entity, parent);
        let to = match parent {
            Some(parent) => self.directory.place(parent).expect("ensure() gave the parent a place").cell,
            None => self.own_cell(entity),
        };
        if from == to {
            return;
        }
        self.mark(from, Reasons::EVENT);
        for member in family {
            let node = self.take(member);
            self.put(to, node);
        }
        self.mark(to, Reasons::EVENT);
    }

    fn delete(&mut self, row: Row<'_>) {
        let Some(entity) = self.directory.find(self.directory.of_table(row.table()), row.key()) else { return };
        let Some(place) = self.directory.place(entity) else { return };
        let shard = &mut self.shards[place.cell.shard as usize];
        shard.freeze(place.cell.index, &self.shared);
        shard.cells[place.cell.index as usize].nodes[place.node as usize].clear_row();
        self.mark(place.cell, Reasons::EVENT);
        if self.directory.parent(entity).is_some() {
            self.relink(entity, None);
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
        if moved && self.tracking == Tracking::On {
            self.sweep();
        }
    }

    /// Lists the cells whose view of the hubs moved by more than ε, the one nearest to a threshold last.
    fn sweep(&mut self) {
        let (hubs, epsilon) = (&self.hubs, self.shared.options.board_epsilon);
        let mut soft: Vec<(f32, CellRef)> = self
            .shards
            .par_iter()
            .enumerate()
            .flat_map_iter(|(shard, s)| {
                s.cells.iter().enumerate().filter_map(move |(index, cell)| {
                    let drifted = cell.scored && cell.reasons.is_empty() && hubs.mean_drift(&cell.hubs()) - cell.drift_seen > epsilon;
                    drifted.then_some((cell.margin, CellRef { shard: shard as u16, index: index as u32 }))
                })
            })
            .collect();
        soft.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
        self.soft = soft.into_iter().map(|(_, at)| at).collect();
    }

    /// When the first timer is due, milliseconds; it may turn out to have been overtaken.
    pub fn next_timer_ms(&self) -> Option<i64> {
        self.shards.iter().filter_map(|s| s.timers.keys().next().copied()).min()
    }

    /// Cells waiting because a board moved their hubs.
    pub fn deferred(&self) -> usize {
        self.soft.len()
    }

    /// Takes the cells to re-score now: all that rows or timers touched, and up to `soft_budget` of those a board moved.
    /// In order of shard and index, each once, with its reasons.
    pub fn take_dirty(&mut self, soft_budget: usize) -> Vec<(CellRef, Reasons)> {
        for _ in 0..soft_budget {
            let Some(at) = self.soft.pop() else { break };
            let shard = &mut self.shards[at.shard as usize];
            if !shard.cells[at.index as usize].nodes.is_empty() {
                shard.mark(at.index, Reasons::BOARD);
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
                taken.push((CellRef { shard: number as u16, index }, reasons));
            }
        }
        taken
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
        cell.margin = margin;
        cell.drift_seen = drift_seen;
        if cell.deadline_ms != deadline_ms {
            cell.deadline_ms = deadline_ms;
            let slot = deadline_ms.div_euclid(TIMER_GRID_MS).saturating_add(1).saturating_mul(TIMER_GRID_MS);
            shard.timers.entry(slot).or_default().push(at.index);
        }
    }

    /// When passing time alone may have moved a cell's score enough, or moved an entity out of a population.
    fn deadline(&self, cell: &Cell) -> i64 {
        let now = self.as_of_ms;
        let idle = cell.newest_event_ms().map_or(7 * DAY_MS, |t| now.saturating_sub(t).max(0));
        let drift = now.saturating_add((idle / 4).clamp(DAY_MS, 7 * DAY_MS));
        let turn = self
            .windows
            .iter()
            .flat_map(|w| cell.nodes.iter().filter_map(move |n| n.counter(w.counter)?.next_change_ms(now, w.start_days, w.end_days)))
            .min()
            .unwrap_or(i64::MAX);
        drift.min(turn)
    }

    /// Counts what is held.
    pub fn size(&self) -> GraphSize {
        let tables = self.catalog().tables.len();
        let mut size = GraphSize { known: vec![0; tables], stubs: vec![0; tables], ..GraphSize::default() };
        for (_, cell) in self.cells() {
            size.cells += 1;
            for node in &cell.nodes {
                let counts = if node.is_known() { &mut size.known } else { &mut size.stubs };
                counts[node.table.index()] += 1;
                size.bytes += size_of::<Node>() + node.heap_bytes();
            }
        }
        size.hubs = self.hubs.len();
        size.fingerprints = self.gate.len();
        size
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
