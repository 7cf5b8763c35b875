//! A cell: one root entity and all its members with their event state. The unit of sharding, of
//! re-scoring, and of storage.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::ids::EntityId;
use crate::options::GraphOptions;
use crate::state::decay::{Bank, Landmark, NO_LANDMARK};
use crate::state::layout::StateLayout;
use crate::state::node::Node;
use crate::state::nodes::Nodes;

/// The constants that every shard reads: fixed for the life of a graph.
#[derive(Debug)]
pub struct StateRules {
    /// Slots of event tables, fields of entity tables.
    pub layout: StateLayout,
    /// Half-lives of decayed sums.
    pub bank: Bank,
    pub options: GraphOptions,
}

/// The contribution of a cell to its hubs: the same sums for each of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HubContribution {
    /// The hubs of the cell, ascending.
    pub hubs: Vec<EntityId>,
    /// The landmark of the sums.
    pub landmark: Landmark,
    /// `[hub slots, half-lives]`.
    #[serde(with = "crate::encoding::sparse")]
    pub sums: Vec<f64>,
}

/// One root entity and its members.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The entity that the cell is of: a root, an entity without one, or the domain that entities
    /// without a root share. A domain has no node.
    pub anchor: EntityId,
    /// The entities of the cell, in no particular order. Empty for a cell that is free, or about
    /// to be.
    pub nodes: Nodes,
    /// The contribution that is in the hubs' sums, kept from the first change after a board until
    /// the next one.
    pub(crate) frozen: Option<Box<HubContribution>>,
    /// The hubs of a cell whose nodes are not in memory.
    pub(crate) known_hubs: Box<[EntityId]>,
}

impl Cell {
    pub(crate) fn new(anchor: EntityId) -> Self {
        Self {
            anchor,
            nodes: Nodes::default(),
            frozen: None,
            known_hubs: Box::default(),
        }
    }
    /// The contribution that is in the hubs' sums; `None` where it equals [`Self::contribution`].
    pub fn frozen(&self) -> Option<&HubContribution> {
        self.frozen.as_deref()
    }
    /// The anchor's node; `None` in the provisional cell of a domain.
    pub fn anchor_node(&self) -> Option<&Node> {
        self.nodes.iter().find(|n| n.entity == self.anchor)
    }
    /// The time of the newest event on any node, milliseconds.
    pub fn newest_event_ms(&self) -> Option<i64> {
        self.nodes.iter().filter_map(Node::newest_event_ms).max()
    }
    /// Whether the cell is an outsider's: it adds nothing to hubs.
    pub fn is_outside(&self) -> bool {
        self.anchor_node().is_some_and(Node::is_outside)
    }
    /// The hubs of the cell now, ascending: named by current versions or touched by events. None
    /// for an outsider's. Known without the nodes, too.
    pub fn hubs(&self) -> Vec<EntityId> {
        let Some(nodes) = self.nodes.in_memory() else {
            return self.known_hubs.to_vec();
        };
        let mut own = nodes.iter().filter(|node| node.entity == self.anchor);
        if own.next().is_some_and(Node::is_outside) {
            return Vec::new();
        }
        let mut hubs: Vec<EntityId> = nodes
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
    /// Adds the ends of deals that count to the sums of their values.
    // From the steps of deals, not from the sums of their table: ends that were taken back would
    // leave their rounding behind.
    fn add_ends(&self, shared: &StateRules, landmark: Landmark, sums: &mut [f64]) {
        let halves = shared.bank.len();
        for step in self.nodes.iter().flat_map(|n| n.ends(&shared.layout)) {
            let layout = shared.layout.event(step.table);
            let at = step.slot.map(|slot| layout.hub_slots.binary_search(&slot));
            let Some(Ok(at)) = at.filter(|_| step.is_engagement) else {
                continue;
            };
            let from = (layout.hub_offset + at) * halves;
            for (h, sum) in sums[from..from + halves].iter_mut().enumerate() {
                *sum += shared.bank.weight(h, step.time_ms, landmark);
            }
        }
    }
    /// The contribution of the cell to its hubs now.
    pub fn contribution(&self, shared: &StateRules) -> HubContribution {
        let halves = shared.bank.len();
        let mut sums = vec![0.0; shared.layout.hub_width * halves];
        if self.is_outside() {
            return HubContribution {
                hubs: Vec::new(),
                landmark: NO_LANDMARK,
                sums,
            };
        }
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
                if layout.end_slots.contains(&slot) {
                    continue;
                }
                let from = (layout.hub_offset + at) * halves;
                for h in 0..halves {
                    sums[from + h] += values[h] * factors[h];
                }
            }
        }
        self.add_ends(shared, landmark, &mut sums);
        HubContribution {
            hubs: self.hubs(),
            landmark,
            sums,
        }
    }
}
