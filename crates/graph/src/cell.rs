//! A cell: one root entity and all its members with their event state. The unit of sharding, of re-scoring, of storage.

use serde::Serialize;
use smallvec::SmallVec;

use leadpulse_schema::{FieldId, Measure, Population, Row, RowBatch, TableId, Value, View};

use crate::days::DayBuckets;
use crate::decay::{Bank, Landmark, NO_LANDMARK};
use crate::events::EventState;
use crate::layout::{StateLayout, bounded};
use crate::options::GraphOptions;

/// An interned entity key: dense, in order of first sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct EntityId(pub u32);

/// Where a cell is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellRef {
    /// Its shard.
    pub shard: u16,
    /// Its index in the shard.
    pub index: u32,
}

/// Why a cell's score may have changed. A set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reasons(u8);

impl Reasons {
    /// A row changed it.
    pub const EVENT: Reasons = Reasons(1);
    /// A board moved its view of its hubs.
    pub const BOARD: Reasons = Reasons(2);
    /// Time passed.
    pub const TIMER: Reasons = Reasons(4);
    /// Another model scores it.
    pub const BUNDLE: Reasons = Reasons(8);
    /// The closing tick of a run to the end.
    pub const CLOSING: Reasons = Reasons(16);

    /// Both sets.
    pub fn with(self, other: Reasons) -> Reasons {
        Reasons(self.0 | other.0)
    }
    /// Whether all of `other` is in it.
    pub fn contains(self, other: Reasons) -> bool {
        self.0 & other.0 == other.0
    }
    /// Whether there is no reason.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// A hub an entity's events have touched.
#[derive(Clone, Debug, PartialEq)]
pub struct Touch {
    /// The hub's node.
    pub hub: EntityId,
    landmark: Landmark,
    /// Decayed with the longest half-life, relative to the landmark.
    weight: f64,
    /// How often.
    pub count: u32,
    /// The newest touch, milliseconds.
    pub newest_ms: i64,
}

impl Touch {
    /// Its decayed weight at `t`.
    pub fn weight_at(&self, bank: &Bank, t_ms: i64) -> f64 {
        self.weight * bank.read(bank.len() - 1, self.landmark, t_ms)
    }
}

/// One of the newest events of an entity, for evidence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Recent {
    /// When it happened, milliseconds.
    pub time_ms: i64,
    /// The event's id.
    pub id: Box<str>,
    /// The event table.
    pub table: u16,
    /// Its first category (its kind), if it has one.
    pub kind: Box<str>,
}

/// How many of the newest events a node keeps for evidence.
const RECENT_EVENTS: usize = 4;

/// One entity of a cell.
#[derive(Clone, Debug)]
pub struct Node {
    /// Who it is.
    pub entity: EntityId,
    /// Its table.
    pub table: TableId,
    /// The current version: none before the first one is known (a stub), and after a delete.
    row: RowBatch,
    /// When its first version became known, milliseconds.
    pub since_ms: Option<i64>,
    /// Hubs named by the current version, ascending.
    pub hubs: SmallVec<[EntityId; 4]>,
    /// One state per event table that may hang on it, in the layout's order.
    pub events: Vec<EventState>,
    /// Day counters that ever counted, ascending by counter.
    counters: Vec<(usize, DayBuckets)>,
    /// Hubs touched by events, ascending by hub.
    pub touches: Vec<Touch>,
    /// The newest events, ascending.
    pub recent: Vec<Recent>,
}

impl Node {
    /// A stub: someone is named, nothing is known.
    pub fn stub(entity: EntityId, table: TableId, layout: &StateLayout) -> Self {
        Self {
            entity,
            table,
            row: RowBatch::new(),
            since_ms: None,
            hubs: SmallVec::new(),
            events: vec![EventState::default(); layout.of_entity(table).len()],
            counters: Vec::new(),
            touches: Vec::new(),
            recent: Vec::new(),
        }
    }
    /// The current version of the entity.
    pub fn row(&self) -> Option<Row<'_>> {
        (!self.row.is_empty()).then(|| self.row.row(0))
    }
    /// Whether a version is known now.
    pub fn is_known(&self) -> bool {
        !self.row.is_empty()
    }
    pub(crate) fn set_row(&mut self, row: RowBatch, hubs: SmallVec<[EntityId; 4]>, known_ms: i64) {
        self.row = row;
        self.hubs = hubs;
        self.since_ms = Some(self.since_ms.map_or(known_ms, |since| since.min(known_ms)));
    }
    pub(crate) fn clear_row(&mut self) {
        self.row.clear();
        self.hubs.clear();
    }
    /// The value of a field of the current version.
    pub fn value(&self, field: FieldId) -> Value<'_> {
        self.row().map_or(Value::Null, |row| row.get(field))
    }
    /// The newest event on it, milliseconds.
    pub fn newest_event_ms(&self) -> Option<i64> {
        self.events.iter().filter_map(EventState::newest_ms).max()
    }
    /// A day counter's buckets on this node.
    pub fn counter(&self, index: usize) -> Option<&DayBuckets> {
        self.counters.binary_search_by_key(&index, |(i, _)| *i).ok().map(|at| &self.counters[at].1)
    }
    /// Day counters that ever counted.
    pub fn counters(&self) -> impl Iterator<Item = (usize, &DayBuckets)> {
        self.counters.iter().map(|(i, days)| (*i, days))
    }
    /// Adds an event row.
    pub(crate) fn add(&mut self, shared: &Shared, row: Row<'_>, fingerprint: u64, hubs: &[EntityId]) {
        let layout = shared.layout.event(row.table());
        let time_ms = row.event_ms();
        let position = shared.layout.position(self.table, row.table());
        let phi = layout.phi(row);
        self.events[position].add(&shared.bank, &shared.options, &phi, layout.stage(row), time_ms, fingerprint);
        for counter in &shared.layout.counters_of[row.table().index()] {
            let definition = &shared.options.day_counters[*counter];
            if definition.filter.as_ref().is_some_and(|filter| !filter.holds(&row)) {
                continue;
            }
            let amount = match definition.measure {
                Measure::Count => Some(1.0),
                Measure::CountOf(field) => (!row.get(field).is_null()).then_some(1.0),
                Measure::SumOf(field) => row.get(field).number().map(bounded),
            };
            if let Some(amount) = amount {
                let at = match self.counters.binary_search_by_key(counter, |(i, _)| *i) {
                    Ok(at) => at,
                    Err(at) => {
                        self.counters.insert(at, (*counter, DayBuckets::default()));
                        at
                    }
                };
                self.counters[at].1.add(time_ms, amount);
            }
        }
        for hub in hubs {
            self.touch(&shared.bank, *hub, time_ms);
        }
        let kind = layout.slots.iter().find_map(|slot| match slot.kind {
            crate::layout::SlotKind::Value(_) | crate::layout::SlotKind::Bucket(_) => slot.field.and_then(|f| row.get(f).text()),
            _ => None,
        });
        let recent = Recent { time_ms, id: row.key().into(), table: row.table().0, kind: kind.unwrap_or_default().into() };
        if self.recent.len() < RECENT_EVENTS || self.recent[0] < recent {
            let at = self.recent.partition_point(|r| *r < recent);
            self.recent.insert(at, recent);
            if self.recent.len() > RECENT_EVENTS {
                self.recent.remove(0);
            }
        }
    }
    fn touch(&mut self, bank: &Bank, hub: EntityId, time_ms: i64) {
        let longest = bank.len() - 1;
        let at = match self.touches.binary_search_by_key(&hub, |t| t.hub) {
            Ok(at) => at,
            Err(at) => {
                self.touches.insert(at, Touch { hub, landmark: bank.landmark(time_ms), weight: 0.0, count: 0, newest_ms: i64::MIN });
                at
            }
        };
        let touch = &mut self.touches[at];
        let landmark = bank.landmark(time_ms).max(touch.landmark);
        touch.weight = touch.weight * bank.rebase(longest, touch.landmark, landmark) + bank.weight(longest, time_ms, landmark);
        touch.landmark = landmark;
        touch.count += 1;
        touch.newest_ms = touch.newest_ms.max(time_ms);
    }
    /// Bytes on the heap, roughly.
    pub fn heap_bytes(&self) -> usize {
        self.row.text_bytes()
            + 64
            + self.events.iter().map(|e| size_of::<EventState>() + e.heap_bytes()).sum::<usize>()
            + self.touches.capacity() * size_of::<Touch>()
            + self.recent.capacity() * 64
    }
}

/// What every shard reads and none changes.
#[derive(Debug)]
pub struct Shared {
    /// Slots of event tables.
    pub layout: StateLayout,
    /// Half-lives.
    pub bank: Bank,
    /// Options.
    pub options: GraphOptions,
}

/// What a cell adds to its hubs: the same sums for each of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// The hubs, ascending.
    pub hubs: Vec<EntityId>,
    /// The landmark of the sums.
    pub landmark: Landmark,
    /// `[hub slots, half-lives]`.
    pub sums: Vec<f64>,
}

/// One root entity and its members.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The entity the cell is of: the root, or an entity that has none yet.
    pub anchor: EntityId,
    /// Its entities, in no particular order. Empty: the cell is free.
    pub nodes: Vec<Node>,
    /// The contribution that is in the hubs' sums, kept from the first change after a board until the next one.
    pub(crate) frozen: Option<Box<Contribution>>,
    /// Why it waits to be scored.
    pub(crate) reasons: Reasons,
    /// When time alone asks for a new score, milliseconds.
    pub(crate) deadline_ms: i64,
    /// The mean of its hubs' drift when it was last scored.
    pub(crate) drift_seen: f64,
    /// How near its last score was to a threshold, logits.
    pub(crate) margin: f32,
    /// Whether it was ever scored.
    pub(crate) scored: bool,
}

impl Cell {
    pub(crate) fn new(anchor: EntityId) -> Self {
        Self {
            anchor,
            nodes: Vec::new(),
            frozen: None,
            reasons: Reasons::default(),
            deadline_ms: i64::MAX,
            drift_seen: 0.0,
            margin: 0.0,
            scored: false,
        }
    }
    /// What of it is in the hubs' sums, if that differs from what it would contribute now.
    pub fn frozen(&self) -> Option<&Contribution> {
        self.frozen.as_deref()
    }
    /// The node of the entity the cell is of.
    pub fn anchor_node(&self) -> Option<&Node> {
        self.nodes.iter().find(|n| n.entity == self.anchor)
    }
    /// The newest event in it, milliseconds.
    pub fn newest_event_ms(&self) -> Option<i64> {
        self.nodes.iter().filter_map(Node::newest_event_ms).max()
    }
    /// Its hubs now, ascending: named by current versions or touched by events.
    pub fn hubs(&self) -> Vec<EntityId> {
        let mut hubs: Vec<EntityId> =
            self.nodes.iter().flat_map(|n| n.hubs.iter().copied().chain(n.touches.iter().map(|t| t.hub))).collect();
        hubs.sort_unstable();
        hubs.dedup();
        hubs
    }
    /// What it adds to its hubs now.
    pub fn contribution(&self, shared: &Shared) -> Contribution {
        let halves = shared.bank.len();
        let mut sums = vec![0.0; shared.layout.hub_width * halves];
        let states = || {
            self.nodes.iter().flat_map(|node| shared.layout.of_entity(node.table).iter().zip(&node.events)).filter(|(_, s)| !s.is_empty())
        };
        let landmark = states().map(|(_, state)| state.landmark()).max().unwrap_or(NO_LANDMARK);
        for (table, state) in states() {
            let layout = &shared.layout.events[*table];
            let factors: SmallVec<[f64; 6]> = (0..halves).map(|h| shared.bank.rebase(h, state.landmark(), landmark)).collect();
            for (slot, values, _) in state.slots(&shared.bank) {
                let Ok(at) = layout.hub_slots.binary_search(&slot) else { continue };
                let from = (layout.hub_offset + at) * halves;
                for h in 0..halves {
                    sums[from + h] += values[h] * factors[h];
                }
            }
        }
        Contribution { hubs: self.hubs(), landmark, sums }
    }
}

/// An entity as of a moment, for population filters.
#[derive(Clone, Copy, Debug)]
pub struct EntityView<'a> {
    /// Its cell.
    pub cell: &'a Cell,
    /// Its node.
    pub node: &'a Node,
    /// The moment, milliseconds.
    pub as_of_ms: i64,
    /// The filter that asks.
    pub population: &'a Population,
}

impl View for EntityView<'_> {
    fn column(&self, field: FieldId) -> Value<'_> {
        self.node.value(field)
    }
    fn window(&self, index: usize) -> Value<'_> {
        let window = self.population.windows[index];
        let read = |node: &Node| node.counter(window.counter).map_or(0.0, |d| d.window(self.as_of_ms, window.start_days, window.end_days));
        // Rows of a cell count for its root; a member has its own.
        let value = if self.node.entity == self.cell.anchor { self.cell.nodes.iter().map(read).sum() } else { read(self.node) };
        Value::Double(value)
    }
}

impl EntityView<'_> {
    /// Whether the entity is in the population: known, and the filter holds.
    pub fn is_eligible(&self) -> bool {
        self.node.is_known() && self.population.condition.as_ref().is_none_or(|c| c.holds(self))
    }
}
