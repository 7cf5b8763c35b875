//! The canonical image of a graph, by key: graphs reached on different ways are compared by it.

use std::collections::BTreeMap;

use leadpulse_schema::{RelationId, Row, Value};
use serde::Serialize;

use crate::graph::Graph;
use crate::ids::EntityId;
use crate::state::cell::StateRules;
use crate::state::days::DayBuckets;
use crate::state::events::EventState;
use crate::state::node::{Node, Recent};
use crate::state::tally::DecayedTally;

/// A node in terms of keys.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeImage {
    /// Table and key of the anchor of the node's cell.
    pub cell: String,
    /// The current version: field → value.
    pub row: BTreeMap<String, String>,
    /// The time at which the first version became known, milliseconds.
    pub since_ms: Option<i64>,
    /// The survivor, for an absorbed node.
    pub survivor: Option<String>,
    /// Edges: (relation, entity that the version names, since, milliseconds).
    pub edges: Vec<(String, String, i64)>,
    /// Entities that refer to the node: (relation, entity).
    pub incoming: Vec<(String, String)>,
    /// Event states, by event table; sums relative to the landmark of the graph's moment.
    pub events: BTreeMap<String, EventState>,
    /// Day counters, by their index in the options.
    pub counters: BTreeMap<usize, DayBuckets>,
    /// Touched hubs: count, newest time, weight at the graph's moment.
    pub touches: BTreeMap<String, (u32, i64, f64)>,
    /// Mentions: count, newest time, weight at the graph's moment.
    pub mentions: BTreeMap<String, (u32, i64, f64)>,
    /// Ends of deals by events: won, lost, newest time of each.
    pub verdicts: Option<(u32, u32, Option<i64>, Option<i64>)>,
    /// Hubs named by the current version.
    pub hubs: Vec<String>,
    /// The newest events, ascending.
    pub recent: Vec<Recent>,
}

/// A graph in terms of keys.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Image {
    /// Nodes by `table/key`.
    pub nodes: BTreeMap<String, NodeImage>,
    /// `hub/key` → cells and sums at the last board.
    pub hubs: BTreeMap<String, (u32, Vec<f64>)>,
}

impl Graph {
    /// The canonical image. Discrete parts of two graphs of the same rows are equal; sums agree to
    /// rounding.
    pub fn image(&self) -> Image {
        let mut nodes = BTreeMap::new();
        let mut hubs = BTreeMap::new();
        for (_, cell) in self.cells() {
            let cell_name = self.image_name(cell.anchor);
            for node in &cell.nodes {
                let image = self.node_image(&cell_name, node);
                nodes.insert(self.image_name(node.entity), image);
            }
            for hub in cell.hubs() {
                if let Some(sums) = self.hubs().get(hub) {
                    hubs.insert(self.image_name(hub), (sums.cells, sums.sums.clone()));
                }
            }
        }
        Image { nodes, hubs }
    }

    /// The space and key of an entity, as `space/key`.
    fn image_name(&self, entity: EntityId) -> String {
        let (directory, catalog) = (self.directory(), self.catalog());
        let space = match (directory.table(entity), directory.hub(entity)) {
            (Some(table), _) => catalog.table_at(table).name.as_str(),
            (None, Some(hub)) => catalog.hubs[hub.index()].name.as_str(),
            (None, None) => "domain",
        };
        format!("{space}/{}", directory.key(entity))
    }

    fn node_image(&self, cell: &str, node: &Node) -> NodeImage {
        let name = |entity: EntityId| self.image_name(entity);
        let relation = |id: RelationId| self.catalog().relations[id.index()].name.clone();
        let edges = node.edges.iter();
        let incoming = self.incoming(node.entity).iter();
        let touches = node.touches().iter();
        let mentions = self.mentions(node).into_iter();
        let verdicts = node.verdicts(&self.shared().layout);
        NodeImage {
            cell: cell.to_owned(),
            row: node
                .row()
                .map_or_else(BTreeMap::new, |row| self.row_image(row)),
            since_ms: node.since_ms,
            survivor: node.absorbed.then(|| name(node.survivor)),
            edges: sorted(edges.map(|e| (relation(e.relation), name(e.to), e.since_ms))),
            incoming: sorted(incoming.map(|(r, from)| (relation(*r), name(*from)))),
            events: self.event_images(node),
            counters: node.counters().map(|(i, d)| (i, d.clone())).collect(),
            touches: touches
                .map(|t| (name(t.hub), self.tally_image(&t.tally)))
                .collect(),
            mentions: mentions
                .map(|m| (relation(m.relation), self.tally_image(&m.tally)))
                .collect(),
            verdicts: verdicts.map(|v| (v.won, v.lost, v.last_won_ms, v.last_lost_ms)),
            hubs: sorted(node.hubs.iter().map(|hub| name(*hub))),
            recent: node.recent().to_vec(),
        }
    }

    /// Fields of a row that are not null, by name.
    fn row_image(&self, row: Row<'_>) -> BTreeMap<String, String> {
        let mut image = BTreeMap::new();
        for field in &self.catalog().table_at(row.table()).fields {
            let text = match row.get(field.id) {
                Value::Null => continue,
                Value::List(items) => format!("{:?}", items.iter().collect::<Vec<_>>()),
                value => format!("{value:?}"),
            };
            image.insert(field.name.clone(), text);
        }
        image
    }

    /// Event states of a node by table, relative to the landmark of the graph's moment.
    fn event_images(&self, node: &Node) -> BTreeMap<String, EventState> {
        let StateRules { layout, bank, .. } = &**self.shared();
        let landmark = bank.landmark(self.as_of_ms());
        let states = layout.of_entity(node.table).iter().zip(&node.events);
        let images = states.map(|(index, state)| {
            let table = self.catalog().table_at(layout.events[*index].table);
            (table.name.clone(), state.relative_to(bank, landmark))
        });
        images.collect()
    }

    /// Count, newest time and weight of a tally at the graph's moment.
    fn tally_image(&self, tally: &DecayedTally) -> (u32, i64, f64) {
        let weight = tally.weight_at(&self.shared().bank, self.as_of_ms());
        (tally.count(), tally.newest_ms(), weight)
    }
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.sort_unstable();
    items
}
