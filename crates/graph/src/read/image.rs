//! The graph in one canonical form, by key: for comparing graphs that were reached on different ways.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::graph::Graph;
use crate::state::days::DayBuckets;
use crate::state::events::EventState;
use crate::state::node::{Node, Recent};
use crate::state::tally::DecayedTally;

/// A node by key.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeImage {
    /// Table and key of the cell it is in.
    pub cell: String,
    /// The current version: field → value.
    pub row: BTreeMap<String, String>,
    /// When it became known, milliseconds.
    pub since_ms: Option<i64>,
    /// Who stands for it, if it was absorbed.
    pub survivor: Option<String>,
    /// Its edges: (relation, whom the version names, since).
    pub edges: Vec<(String, String, i64)>,
    /// Who refers to it: (relation, who).
    pub incoming: Vec<(String, String)>,
    /// Event states, by event table; sums relative to the landmark of the graph's moment.
    pub events: BTreeMap<String, EventState>,
    /// Day counters.
    pub counters: BTreeMap<usize, DayBuckets>,
    /// Touched hubs: how often, newest, weight at the graph's moment.
    pub touches: BTreeMap<String, (u32, i64, f64)>,
    /// Mentions: how often, newest, weight at the graph's moment.
    pub mentions: BTreeMap<String, (u32, i64, f64)>,
    /// How its deals ended by events: won, lost, newest of each.
    pub verdicts: Option<(u32, u32, Option<i64>, Option<i64>)>,
    /// Hubs named by the current version.
    pub hubs: Vec<String>,
    /// The newest events.
    pub recent: Vec<Recent>,
}

/// A graph by key.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Image {
    /// `table/key` → node.
    pub nodes: BTreeMap<String, NodeImage>,
    /// `hub/key` → cells and sums at the last board.
    pub hubs: BTreeMap<String, (u32, Vec<f64>)>,
}

impl Graph {
    /// The canonical form. Discrete parts of two graphs of the same rows are equal; sums agree to rounding.
    pub fn image(&self) -> Image {
        let directory = self.directory();
        let catalog = self.catalog();
        let name = |entity| {
            let space = match (directory.table(entity), directory.hub(entity)) {
                (Some(table), _) => catalog.table_at(table).name.clone(),
                (None, Some(hub)) => catalog.hubs[hub.index()].name.clone(),
                (None, None) => "domain".to_owned(),
            };
            format!("{space}/{}", directory.key(entity))
        };
        let tally = |tally: &DecayedTally| {
            (
                tally.count(),
                tally.newest_ms(),
                tally.weight_at(&self.shared().bank, self.as_of_ms()),
            )
        };
        let image = |cell: &str, node: &Node| {
            let table = catalog.table_at(node.table);
            let layout = &self.shared().layout;
            let row = node.row().map_or_else(BTreeMap::new, |row| {
                table
                    .fields
                    .iter()
                    .filter(|f| !row.get(f.id).is_null())
                    .map(|f| {
                        let text = match row.get(f.id) {
                            leadpulse_schema::Value::List(items) => {
                                format!("{:?}", items.iter().collect::<Vec<_>>())
                            }
                            value => format!("{value:?}"),
                        };
                        (f.name.clone(), text)
                    })
                    .collect()
            });
            let mut hubs: Vec<String> = node.hubs.iter().map(|h| name(*h)).collect();
            hubs.sort_unstable();
            let bank = &self.shared().bank;
            let landmark = bank.landmark(self.as_of_ms());
            let relation =
                |id: leadpulse_schema::RelationId| catalog.relations[id.index()].name.clone();
            let mut edges: Vec<_> = node
                .edges
                .iter()
                .map(|e| (relation(e.relation), name(e.to), e.since_ms))
                .collect();
            edges.sort_unstable();
            let mut incoming: Vec<_> = self
                .incoming(node.entity)
                .iter()
                .map(|(r, from)| (relation(*r), name(*from)))
                .collect();
            incoming.sort_unstable();
            NodeImage {
                cell: cell.to_owned(),
                row,
                since_ms: node.since_ms,
                survivor: node.absorbed.then(|| name(node.survivor)),
                edges,
                incoming,
                events: layout
                    .of_entity(node.table)
                    .iter()
                    .zip(&node.events)
                    .map(|(e, state)| {
                        (
                            catalog.table_at(layout.events[*e].table).name.clone(),
                            state.relative_to(bank, landmark),
                        )
                    })
                    .collect(),
                counters: node.counters().map(|(i, d)| (i, d.clone())).collect(),
                touches: node
                    .touches()
                    .iter()
                    .map(|t| (name(t.hub), tally(&t.tally)))
                    .collect(),
                mentions: node
                    .mentions()
                    .iter()
                    .map(|m| (relation(m.relation), tally(&m.tally)))
                    .collect(),
                verdicts: node
                    .verdicts()
                    .map(|v| (v.won, v.lost, v.last_won_ms, v.last_lost_ms)),
                hubs,
                recent: node.recent().to_vec(),
            }
        };
        let mut nodes = BTreeMap::new();
        let mut hubs = BTreeMap::new();
        for (_, cell) in self.cells() {
            let cell_name = name(cell.anchor);
            for node in &cell.nodes {
                nodes.insert(name(node.entity), image(&cell_name, node));
            }
            for hub in cell.hubs() {
                if let Some(sums) = self.hubs().get(hub) {
                    hubs.insert(name(hub), (sums.cells, sums.sums.clone()));
                }
            }
        }
        Image { nodes, hubs }
    }
}
