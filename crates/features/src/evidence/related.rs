//! The entities of other cells that a cell refers to, came from, or that refer to it.

use std::cmp::Reverse;

use leadpulse_graph::{CellRef, EntityId, Graph, Node};
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Relation, RelationKind};
use serde::Serialize;

use super::Scene;
use super::account::relation_name;
use crate::relations::{CustomersElsewhere, referring};

/// An edge between an entity of a cell and one of another cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RelatedEntity {
    /// What the edge says of the entity that it starts from: `referred by`, `previously at`; of one
    /// that leads to the cell `names this as referred by`, `previously here`.
    pub relation: String,
    /// Whether the edge leads from the cell to the other entity.
    pub is_outgoing: bool,
    /// The end in the cell.
    pub own: NamedEntity,
    /// The end in another cell.
    pub other: NamedEntity,
    /// Key of the root of the other cell; `None` while it has none.
    pub other_root: Option<String>,
    /// Whether the other cell has won.
    pub is_customer: bool,
    /// The edge's start, milliseconds; `None` for an edge that leads to the cell.
    pub since_ms: Option<i64>,
}

/// An entity with its name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NamedEntity {
    /// Name of its table.
    pub table: String,
    /// Its key.
    pub key: String,
    /// Its label where its table has one, else its key.
    pub name: String,
}

impl RelatedEntity {
    /// The edges between a cell and others, at most so many: those of customers first, then outgoing
    /// ones, newest first; equal ones in order of names and keys. Mentions by events are not among
    /// them: the graph keeps their sums, not who they are from.
    pub fn of(graph: &Graph, at: CellRef, as_of: AsOf, most: usize) -> Vec<Self> {
        let scene = Scene::of_cell(graph, at, as_of);
        let mut customers = CustomersElsewhere::new(graph, at);
        let mut found: Vec<Self> = Vec::new();
        for node in scene.cell.nodes.iter().filter(|node| !node.absorbed) {
            for (relation, other, since_ms) in edges(graph, node) {
                // What lies in the same cell is not related to it, but part of it.
                if graph
                    .directory()
                    .place(other)
                    .is_some_and(|place| place.cell == at)
                {
                    continue;
                }
                let ends = (named(&scene, node.entity), named(&scene, other));
                let (Some(own), Some(other_end)) = ends else {
                    continue;
                };
                found.push(Self {
                    relation: words(&scene, relation, since_ms.is_some()),
                    is_outgoing: since_ms.is_some(),
                    own,
                    other: other_end,
                    other_root: root_of(graph, other),
                    is_customer: customers.contains(other),
                    since_ms,
                });
            }
        }
        found.sort_by_cached_key(|one| {
            let of = |end: &NamedEntity| (end.table.clone(), end.key.clone());
            let names = (one.relation.clone(), of(&one.own), of(&one.other));
            (Reverse((one.is_customer, one.since_ms)), names)
        });
        found.truncate(most);
        found
    }
}

fn words(scene: &Scene<'_>, relation: &Relation, is_outgoing: bool) -> String {
    let name = relation_name(scene, relation);
    match (is_outgoing, relation.kind) {
        (true, _) => name,
        (false, RelationKind::Previous) => "previously here".into(),
        (false, _) => format!("names this as {name}"),
    }
}

/// The edges from and to a node: relation, the other entity, and the start of an edge that leads from
/// the node.
fn edges<'g>(graph: &'g Graph, node: &Node) -> Vec<(&'g Relation, EntityId, Option<i64>)> {
    let relations = &graph.catalog().relations;
    let out = graph.edges(node);
    let out = out
        .iter()
        .map(|edge| (edge.relation, edge.to, Some(edge.since_ms)));
    let into = referring(graph, node.entity, |_| true)
        .into_iter()
        .filter(|(_, from)| *from != node.entity)
        .map(|(relation, from)| (relation, from, None));
    out.chain(into)
        .map(|(relation, other, since)| (&relations[relation.index()], other, since))
        .collect()
}

/// An entity of a table; `None` for one that no table describes.
fn named(scene: &Scene<'_>, entity: EntityId) -> Option<NamedEntity> {
    let directory = scene.graph.directory();
    Some(NamedEntity {
        table: scene
            .catalog
            .table_at(directory.table(entity)?)
            .name
            .clone(),
        key: directory.key(entity).to_string(),
        name: scene.called(entity),
    })
}

fn root_of(graph: &Graph, entity: EntityId) -> Option<String> {
    let place = graph.directory().place(entity)?;
    let root = graph.root_node(graph.cell(place.cell))?;
    Some(graph.directory().key(root.entity).to_string())
}
