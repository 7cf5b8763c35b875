//! Relations between entities: survivors, joined rows, edges.

use leadpulse_schema::{RelationId, RelationKind};
use smallvec::SmallVec;

use crate::graph::Graph;
use crate::ids::EntityId;
use crate::state::node::Node;
use crate::state::tally::Mention;
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

    /// The number of entities that are joined with others.
    pub fn joined_count(&self) -> usize {
        self.entities.identity.len()
    }

    /// The entities that refer to one, or were its members before: (relation, referring entity),
    /// ascending. The list of an absorbed entity is its survivor's. Two of the entities may be one
    /// person: see [`Self::survivor`]. Outsiders are among them: see [`Self::is_outside`].
    pub fn incoming(&self, entity: EntityId) -> &[(RelationId, EntityId)] {
        self.entities.incoming.of(entity)
    }

    /// Whether an entity is an outsider: its address is of an own or a competitor's domain.
    pub fn is_outside(&self, entity: EntityId) -> bool {
        self.entities.outsider(entity).is_some()
    }

    /// Events of other owners that name an entity, without those of outsiders: one tally a
    /// relation, ascending.
    pub fn mentions(&self, node: &Node) -> SmallVec<[Mention; 2]> {
        let mut found: SmallVec<[Mention; 2]> = SmallVec::new();
        for mention in node.mentions() {
            if mention.owner.is_some_and(|owner| self.is_outside(owner)) {
                continue;
            }
            match found.last_mut() {
                Some(last) if last.relation == mention.relation => {
                    last.tally.merge(&self.shared().bank, &mention.tally);
                }
                _ => found.push(Mention {
                    owner: None,
                    ..mention.clone()
                }),
            }
        }
        found
    }

    /// The edges of a node and of the nodes that it absorbed, ascending; none for an absorbed
    /// node, none for an outsider, and none that lead to one.
    ///
    /// Edges lead to survivors, each once per relation: a reference since the earliest time, a
    /// former root since the latest. None leads to the node itself, or to a former root that the
    /// node belongs to again.
    pub fn edges(&self, node: &Node) -> SmallVec<[Edge; 4]> {
        let mut edges: SmallVec<[Edge; 4]> = SmallVec::new();
        if node.absorbed || node.is_outside() {
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
            let is_back = is_former(relation) && Some(to) == anchor;
            if to != node.entity && !is_back && !self.is_outside(to) {
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
