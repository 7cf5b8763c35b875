//! A cell: one root entity and all its members with their event state. The unit of sharding, of re-scoring, of storage.

use serde::Serialize;
use smallvec::SmallVec;

use leadpulse_schema::{FieldId, Population, Value, View};

use crate::options::GraphOptions;
use crate::state::decay::{Bank, Landmark, NO_LANDMARK};
use crate::state::layout::StateLayout;
use crate::state::node::Node;

/// An interned entity key: dense, in order of first sight.
#[cfg_attr(not(test), derive(PartialEq, Eq, PartialOrd, Ord, Hash))]
#[derive(Clone, Copy, Debug, Serialize)]
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
    /// The entity the cell is of: the root, an entity that has none yet, or the domain that entities without a root share
    /// (then no node is the anchor's).
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
    /// Whether it waits among the soft-dirty because of what it refers to.
    pub(crate) stale: bool,
    /// Whether its last score is another bundle's.
    pub(crate) swapped: bool,
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
            stale: false,
            swapped: false,
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
        let mut hubs: Vec<EntityId> = self
            .nodes
            .iter()
            .flat_map(|n| {
                n.hubs
                    .iter()
                    .copied()
                    .chain(n.touches().iter().map(|t| t.hub))
            })
            .collect();
        hubs.sort_unstable();
        hubs.dedup();
        hubs
    }
    /// What it adds to its hubs now.
    pub fn contribution(&self, shared: &Shared) -> Contribution {
        let halves = shared.bank.len();
        let mut sums = vec![0.0; shared.layout.hub_width * halves];
        let states = || {
            self.nodes
                .iter()
                .flat_map(|node| shared.layout.of_entity(node.table).iter().zip(&node.events))
                .filter(|(_, s)| !s.is_empty())
        };
        let landmark = states()
            .map(|(_, state)| state.landmark())
            .max()
            .unwrap_or(NO_LANDMARK);
        for (table, state) in states() {
            let layout = &shared.layout.events[*table];
            let factors: SmallVec<[f64; 6]> = (0..halves)
                .map(|h| shared.bank.rebase(h, state.landmark(), landmark))
                .collect();
            for (slot, values, _) in state.slots(&shared.bank) {
                let Ok(at) = layout.hub_slots.binary_search(&slot) else {
                    continue;
                };
                let from = (layout.hub_offset + at) * halves;
                for h in 0..halves {
                    sums[from + h] += values[h] * factors[h];
                }
            }
        }
        Contribution {
            hubs: self.hubs(),
            landmark,
            sums,
        }
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
        let read = |node: &Node| {
            node.counter(window.counter).map_or(0.0, |d| {
                d.window(self.as_of_ms, window.start_days, window.end_days)
            })
        };
        // Rows of a cell count for its root; a member has its own, which its survivor keeps.
        let value = if self.node.entity == self.cell.anchor {
            self.cell.nodes.iter().map(read).sum()
        } else if self.node.absorbed {
            self.cell
                .nodes
                .iter()
                .find(|node| node.entity == self.node.survivor)
                .map_or(0.0, read)
        } else {
            read(self.node)
        };
        Value::Double(value)
    }
}

impl EntityView<'_> {
    /// Whether the entity is in the population: known, not merged into another of its table, and the filter holds. One that became
    /// an entity of another table (a converted lead) is judged by the filter like any other.
    pub fn is_eligible(&self) -> bool {
        self.node.is_known()
            && !self.node.is_merged()
            && self
                .population
                .condition
                .as_ref()
                .is_none_or(|c| c.holds(self))
    }
}

/// Comparisons of entities, counted per thread: the tests' measure of work.
#[cfg(test)]
pub(crate) mod work {
    use std::cell::Cell;
    use std::cmp::Ordering;
    use std::hash::{Hash, Hasher};

    use super::EntityId;

    thread_local!(static COMPARISONS: Cell<u64> = const { Cell::new(0) });

    /// Comparisons of entities on this thread so far.
    pub(crate) fn comparisons() -> u64 {
        COMPARISONS.get()
    }

    impl PartialEq for EntityId {
        fn eq(&self, other: &Self) -> bool {
            self.cmp(other).is_eq()
        }
    }
    impl Eq for EntityId {}
    impl PartialOrd for EntityId {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }
    impl Ord for EntityId {
        fn cmp(&self, other: &Self) -> Ordering {
            COMPARISONS.set(COMPARISONS.get() + 1);
            self.0.cmp(&other.0)
        }
    }
    impl Hash for EntityId {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }
}
