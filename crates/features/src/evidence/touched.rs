//! The hubs that a cell touches most, with what the others of each did: its neighbourhood.

use leadpulse_graph::{CellRef, EntityId, Graph};
use leadpulse_schema::Hub;
use leadpulse_schema::units::AsOf;
use serde::Serialize;

use super::Scene;
use super::account::HubEvidence;
use crate::hubs::{HubView, Others};

/// Outcomes of other cells below which a decayed sum is noise.
const LEAST_ENDS: f64 = 0.5;

/// A hub node that a cell touches.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TouchedHub {
    /// Name of the hub, such as a table or a field of categories.
    pub hub: String,
    /// Key of the node.
    pub key: String,
    /// Label of the node where its table has one, else the key.
    pub name: String,
    /// Touches by the cell's rows and events, decayed; a row that names the hub counts 1.
    pub touches: f64,
    /// Other cells that touch the node, as of the last board.
    pub others: u32,
    /// Their outcomes; `None` where nothing did.
    pub ends: Option<PeerEnds>,
}

/// Events of the other cells of a hub node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeerEnds {
    /// The good end of deals, or where the catalog has none the most frequent event.
    pub name: String,
    /// Their number, about: a decayed sum in whole events.
    pub count: u32,
    /// Days that the sum looks back, about.
    pub days: u32,
}

impl TouchedHub {
    /// The nodes that a cell touches most, at most so many; equal ones in order of hub and key. Empty
    /// where the catalog has no hubs, and for a cell that is outside.
    pub fn of(graph: &Graph, at: CellRef, as_of: AsOf, most: usize) -> Vec<Self> {
        let scene = Scene::of_cell(graph, at, as_of);
        let view = HubView::new(graph, scene.cell, as_of);
        let mut touched: Vec<(&Hub, EntityId, f64)> = Vec::new();
        for hub in &scene.catalog.hubs {
            let nodes = view.touched(hub.id);
            touched.extend(nodes.map(|(entity, weight)| (hub, entity, weight)));
        }
        // Stable, and nodes of a hub come in order of key.
        touched.sort_by(|one, other| other.2.total_cmp(&one.2));
        let sums = HubEvidence::of(&scene);
        touched
            .into_iter()
            .take(most)
            .map(|(hub, entity, touches)| {
                let others = view.others(entity);
                let ends = others.as_ref().and_then(|one| ends(&scene, &sums, one));
                Self {
                    hub: hub.name.clone(),
                    key: graph.directory().key(entity).to_string(),
                    name: scene.called(entity),
                    touches,
                    others: others.map_or(0, |others| others.cells),
                    ends,
                }
            })
            .collect()
    }
}

fn ends(scene: &Scene<'_>, sums: &HubEvidence, others: &Others<'_>) -> Option<PeerEnds> {
    let half_lives = &scene.graph.shared().options.half_lives_days;
    let (name, count) = sums.largest(others, half_lives)?;
    (count >= LEAST_ENDS).then(|| PeerEnds {
        name: name.to_owned(),
        count: count.round() as u32,
        days: half_lives[half_lives.len() - 1].round() as u32,
    })
}
