//! The graph in one canonical form, by key: for comparing graphs that were reached on different ways.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cell::{Node, Recent};
use crate::days::DayBuckets;
use crate::events::EventState;
use crate::graph::Graph;

/// A node by key.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeImage {
    /// Table and key of the cell it is in.
    pub cell: String,
    /// The current version: field → value.
    pub row: BTreeMap<String, String>,
    /// When it became known, milliseconds.
    pub since_ms: Option<i64>,
    /// Event states, by event table.
    pub events: BTreeMap<String, EventState>,
    /// Day counters.
    pub counters: BTreeMap<usize, DayBuckets>,
    /// Touched hubs: how often, newest, weight at the graph's moment.
    pub touches: BTreeMap<String, (u32, i64, f64)>,
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
            let space = directory.table(entity).map_or_else(
                || directory.hub(entity).map_or(String::new(), |h| catalog.hubs[h.index()].name.clone()),
                |t| catalog.table_at(t).name.clone(),
            );
            format!("{space}/{}", directory.key(entity))
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
                            leadpulse_schema::Value::List(items) => format!("{:?}", items.iter().collect::<Vec<_>>()),
                            value => format!("{value:?}"),
                        };
                        (f.name.clone(), text)
                    })
                    .collect()
            });
            let mut hubs: Vec<String> = node.hubs.iter().map(|h| name(*h)).collect();
            hubs.sort_unstable();
            NodeImage {
                cell: cell.to_owned(),
                row,
                since_ms: node.since_ms,
                events: layout
                    .of_entity(node.table)
                    .iter()
                    .zip(&node.events)
                    .map(|(e, state)| (catalog.table_at(layout.events[*e].table).name.clone(), state.clone()))
                    .collect(),
                counters: node.counters().map(|(i, d)| (i, d.clone())).collect(),
                touches: node
                    .touches
                    .iter()
                    .map(|t| (name(t.hub), (t.count, t.newest_ms, t.weight_at(&self.shared().bank, self.as_of_ms()))))
                    .collect(),
                hubs,
                recent: node.recent.clone(),
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
