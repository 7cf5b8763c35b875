//! Relations between entities: survivors, joined rows, edges.

use leadpulse_schema::{RelationId, RelationKind};
use smallvec::SmallVec;

use crate::graph::Graph;
use crate::ids::EntityId;
use crate::state::node::Node;
use crate::who::edges::{Edge, each_once};

impl Graph {
    /// The entity that stands for another: itself unless it was absorbed.
    pub fn survivor(&self, entity: EntityId) -> EntityId {
        self.entities.identity.survivor(entity)
    }

    /// Everyone who is joined with an entity, itself included, ascending by (table, key); empty if nobody is.
    pub fn joined(&self, entity: EntityId) -> &[EntityId] {
        self.entities.identity.group(entity)
    }

    /// Who refers to an entity, or was its member before: (relation, who says so), ascending. For one that was absorbed ask its
    /// survivor, whose list holds all. Two of them may be one person: see [`Self::survivor`].
    pub fn incoming(&self, entity: EntityId) -> &[(RelationId, EntityId)] {
        self.entities.incoming.of(entity)
    }

    /// The edges of a node and of those it absorbed, as they lead now: to survivors, each once per relation (a reference since the
    /// earliest time, a former root since the latest), never to itself, and not to a former root that it belongs to again.
    /// Ascending; of a node that was absorbed there are none.
    pub fn edges(&self, node: &Node) -> SmallVec<[Edge; 4]> {
        let mut edges: SmallVec<[Edge; 4]> = SmallVec::new();
        if node.absorbed {
            return edges;
        }
        let joined = self
            .joined(node.entity)
            .iter()
            .filter(|e| **e != node.entity);
        let said = joined
            .map(|e| self.cells.node(self.entities.place(*e)))
            .chain([node])
            .flat_map(|n| n.edges.iter().copied());
        let anchor = self
            .entities
            .directory
            .place(node.entity)
            .map(|place| self.cell(place.cell).anchor);
        let is_former = |relation: RelationId| {
            matches!(
                self.catalog().relations[relation.index()].kind,
                RelationKind::Previous
            )
        };
        for Edge {
            relation,
            to,
            since_ms,
        } in said
        {
            let to = self.survivor(to);
            if to != node.entity && !(is_former(relation) && Some(to) == anchor) {
                edges.push(Edge {
                    relation,
                    to,
                    since_ms,
                });
            }
        }
        each_once(edges, is_former)
    }
}
