//! Relations between entities: survivors, joined rows, edges.

use leadpulse_schema::{RelationId, RelationKind};
use smallvec::SmallVec;

use crate::graph::Graph;
use crate::ids::EntityId;
use crate::state::node::Node;
use crate::who::edges::{Edge, each_once};

impl Graph {
    /// The entity that stands for another: the entity itself unless it was absorbed.
    pub fn survivor(&self, entity: EntityId) -> EntityId {
        self.entities.identity.survivor(entity)
    }

    /// All entities joined with one, itself included, ascending by (table, key); empty for an
    /// entity without links.
    pub fn joined(&self, entity: EntityId) -> &[EntityId] {
        self.entities.identity.group(entity)
    }

    /// The entities that refer to one, or were its members before: (relation, referring entity),
    /// ascending. The list of an absorbed entity is its survivor's. Two of the entities may be one
    /// person: see [`Self::survivor`].
    pub fn incoming(&self, entity: EntityId) -> &[(RelationId, EntityId)] {
        self.entities.incoming.of(entity)
    }

    /// The edges of a node and of the nodes that it absorbed, ascending; none for an absorbed
    /// node.
    ///
    /// Edges lead to survivors, each once per relation: a reference since the earliest time, a
    /// former root since the latest. None leads to the node itself, or to a former root that the
    /// node belongs to again.
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
