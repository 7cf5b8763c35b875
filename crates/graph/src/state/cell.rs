//! A cell: one root entity and all its members with their event state. The unit of sharding, of re-scoring, of storage.

use smallvec::SmallVec;

use crate::ids::EntityId;
use crate::options::GraphOptions;
use crate::state::decay::{Bank, Landmark, NO_LANDMARK};
use crate::state::layout::StateLayout;
use crate::state::node::Node;

/// What every shard reads and none changes.
#[derive(Debug)]
pub struct StateRules {
    /// Slots of event tables.
    pub layout: StateLayout,
    /// Half-lives.
    pub bank: Bank,
    /// Options.
    pub options: GraphOptions,
}

/// What a cell adds to its hubs: the same sums for each of them.
#[derive(Clone, Debug, PartialEq)]
pub struct HubContribution {
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
    pub(crate) frozen: Option<Box<HubContribution>>,
}

impl Cell {
    pub(crate) fn new(anchor: EntityId) -> Self {
        Self {
            anchor,
            nodes: Vec::new(),
            frozen: None,
        }
    }
    /// What of it is in the hubs' sums, if that differs from what it would contribute now.
    pub fn frozen(&self) -> Option<&HubContribution> {
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
    pub fn contribution(&self, shared: &StateRules) -> HubContribution {
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
        HubContribution {
            hubs: self.hubs(),
            landmark,
            sums,
        }
    }
}
