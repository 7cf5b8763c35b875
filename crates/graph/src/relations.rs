//! Edges between entities besides ownership and identity: who refers to whom, who belonged where before.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use leadpulse_schema::RelationId;

use crate::cell::EntityId;
use crate::identity::Identity;

/// How many former roots of a node are kept, the newest.
pub(crate) const FORMER_ROOTS: usize = 8;

/// An edge as the entity's versions said it; whom it leads to now is told by [`crate::Graph::survivor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// What kind of edge.
    pub relation: RelationId,
    /// The entity named.
    pub to: EntityId,
    /// A reference: known since, without a gap. A former root: when it became known that the node had left it. Milliseconds.
    pub since_ms: i64,
}

/// The edges of a node, ascending.
pub type Edges = SmallVec<[Edge; 2]>;

/// Edges by the entity they lead to.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    /// Survivor → (relation, who says so), ascending and distinct.
    by_target: FxHashMap<EntityId, Vec<(RelationId, EntityId)>>,
}

impl Incoming {
    /// Who refers to an entity that nobody absorbed, ascending.
    pub(crate) fn of(&self, entity: EntityId) -> &[(RelationId, EntityId)] {
        self.by_target.get(&entity).map_or(&[], |list| list)
    }
    /// Replaces the edges of an entity. Returns the entities that edges were added to or taken from.
    pub(crate) fn replace(&mut self, identity: &Identity, from: EntityId, before: &[Edge], after: &[Edge]) -> SmallVec<[EntityId; 2]> {
        let ends = |edges: &[Edge]| {
            let mut ends: SmallVec<[(RelationId, EntityId); 4]> = edges.iter().map(|e| (e.relation, identity.survivor(e.to))).collect();
            ends.sort_unstable();
            ends.dedup();
            ends
        };
        let (before, after) = (ends(before), ends(after));
        let mut changed = SmallVec::new();
        for (relation, to) in before.iter().filter(|end| after.binary_search(end).is_err()) {
            let list = self.by_target.get_mut(to).expect("every edge is listed under its target");
            if let Ok(at) = list.binary_search(&(*relation, from)) {
                list.remove(at);
            }
            if list.is_empty() {
                self.by_target.remove(to);
            }
            changed.push(*to);
        }
        for (relation, to) in after.iter().filter(|end| before.binary_search(end).is_err()) {
            let list = self.by_target.entry(*to).or_default();
            if let Err(at) = list.binary_search(&(*relation, from)) {
                list.insert(at, (*relation, from));
            }
            changed.push(*to);
        }
        changed
    }
    /// Edges to one entity lead to another from now on.
    pub(crate) fn redirect(&mut self, from: EntityId, to: EntityId) {
        let Some(list) = self.by_target.remove(&from) else { return };
        let into = self.by_target.entry(to).or_default();
        into.extend(list);
        into.sort_unstable();
        into.dedup();
    }
}
