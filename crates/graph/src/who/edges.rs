//! Edges between entities besides ownership and identity: references, and former roots.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use leadpulse_schema::RelationId;

use crate::ids::EntityId;
use crate::pieces::KeptMap;
use crate::who::identity::Identity;

/// The number of former roots kept per node, the newest.
pub(crate) const FORMER_ROOTS: usize = 8;

/// An edge as the versions of an entity declare it. The entity that it leads to now is the
/// [`crate::Graph::survivor`] of the one named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Edge {
    /// The relation of the edge.
    pub relation: RelationId,
    /// The entity that a version named.
    pub to: EntityId,
    /// The time since which a reference is known without a gap, or at which it became known that
    /// the node had left a former root, milliseconds.
    pub since_ms: i64,
}

/// The edges of a node, ascending.
pub type Edges = SmallVec<[Edge; 2]>;

/// The references of one version of `entity`, ascending: each once, none to the entity itself, and
/// since the time of the version before if that had the same. `before` is ascending.
// A list of references may be as long as a record, so the work is that of sorting it: comparing
// each with each took seconds for a deal with 40,000 keys.
pub(crate) fn references(mut said: Edges, entity: EntityId, before: &[Edge]) -> Edges {
    said.retain(|edge| edge.to != entity);
    said.sort_unstable();
    said.dedup_by_key(|edge| (edge.relation, edge.to));
    for edge in &mut said {
        if let Ok(at) = before.binary_search_by_key(&(edge.relation, edge.to), |known| {
            (known.relation, known.to)
        }) {
            edge.since_ms = before[at].since_ms;
        }
    }
    said
}

/// The edges each once, ascending: a reference since the earliest time, a former root since the
/// latest.
pub(crate) fn each_once(
    mut edges: SmallVec<[Edge; 4]>,
    is_former: impl Fn(RelationId) -> bool,
) -> SmallVec<[Edge; 4]> {
    edges.sort_unstable();
    edges.dedup_by(|later, kept| {
        let is_same = (later.relation, later.to) == (kept.relation, kept.to);
        if is_same && is_former(kept.relation) {
            kept.since_ms = later.since_ms;
        }
        is_same
    });
    edges
}

/// Edges by the entity they lead to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Incoming {
    /// (relation, referring entity) by survivor, ascending and distinct.
    pub(crate) by_target: KeptMap<EntityId, Vec<(RelationId, EntityId)>>,
}

impl Incoming {
    /// The entities that refer to a survivor, by relation, ascending.
    pub(crate) fn of(&self, entity: EntityId) -> &[(RelationId, EntityId)] {
        self.by_target.get(&entity).map_or(&[], |list| list)
    }
    /// Replaces the edges of an entity. Returns the entities that edges were added to or taken
    /// from.
    pub(crate) fn replace(
        &mut self,
        identity: &Identity,
        from: EntityId,
        before: &[Edge],
        after: &[Edge],
    ) -> SmallVec<[EntityId; 2]> {
        let ends = |edges: &[Edge]| {
            let mut ends: SmallVec<[(RelationId, EntityId); 4]> = edges
                .iter()
                .map(|e| (e.relation, identity.survivor(e.to)))
                .collect();
            ends.sort_unstable();
            ends.dedup();
            ends
        };
        let (before, after) = (ends(before), ends(after));
        let mut changed = SmallVec::new();
        for (relation, to) in before
            .iter()
            .filter(|end| after.binary_search(end).is_err())
        {
            let list = self
                .by_target
                .get_mut(to)
                .expect("every edge is listed under its target");
            if let Ok(at) = list.binary_search(&(*relation, from)) {
                list.remove(at);
            }
            if list.is_empty() {
                self.by_target.remove(to);
            }
            changed.push(*to);
        }
        for (relation, to) in after
            .iter()
            .filter(|end| before.binary_search(end).is_err())
        {
            let list = self.by_target.entry_or(*to, Vec::new);
            if let Err(at) = list.binary_search(&(*relation, from)) {
                list.insert(at, (*relation, from));
            }
            changed.push(*to);
        }
        changed
    }
    /// Lets the edges to one entity lead to another.
    pub(crate) fn redirect(&mut self, from: EntityId, to: EntityId) {
        let Some(list) = self.by_target.remove(&from) else {
            return;
        };
        let into = self.by_target.entry_or(to, Vec::new);
        into.extend(list);
        into.sort_unstable();
        into.dedup();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Edges of three relations and six entities; times lie within ten milliseconds.
    fn some_edges() -> impl Strategy<Value = Edges> {
        let edge = (0..3_u16, 0..6_u32, 0..10_i64);
        let edge = edge.prop_map(|(relation, to, since_ms)| Edge {
            relation: RelationId(relation),
            to: EntityId(to),
            since_ms,
        });
        prop::collection::vec(edge, 0..24).prop_map(Edges::from_vec)
    }

    /// The definition, one by one.
    fn references_one_by_one(said: &[Edge], entity: EntityId, before: &[Edge]) -> Edges {
        let mut edges = Edges::new();
        for edge in said {
            if edge.to != entity
                && !edges
                    .iter()
                    .any(|e| (e.relation, e.to) == (edge.relation, edge.to))
            {
                let known = before
                    .iter()
                    .find(|e| (e.relation, e.to) == (edge.relation, edge.to));
                edges.push(Edge {
                    since_ms: known.map_or(edge.since_ms, |e| e.since_ms),
                    ..*edge
                });
            }
        }
        edges.sort_unstable();
        edges
    }

    fn each_once_one_by_one(said: &[Edge], former: RelationId) -> Edges {
        let mut edges = Edges::new();
        for edge in said {
            match edges
                .iter_mut()
                .find(|e| (e.relation, e.to) == (edge.relation, edge.to))
            {
                Some(kept) if edge.relation == former => {
                    kept.since_ms = kept.since_ms.max(edge.since_ms)
                }
                Some(kept) => kept.since_ms = kept.since_ms.min(edge.since_ms),
                None => edges.push(*edge),
            }
        }
        edges.sort_unstable();
        edges
    }

    proptest! {
        #[test]
        fn references_are_those_found_one_by_one(
            mut said in some_edges(),
            before in some_edges(),
            entity in 0..6_u32,
        ) {
            let (entity, former) = (EntityId(entity), RelationId(2));
            // A version is known at one time.
            said.iter_mut().for_each(|edge| edge.since_ms = 10);
            let before = each_once_one_by_one(&before, former);
            let expected = references_one_by_one(&said, entity, &before);
            prop_assert_eq!(references(said, entity, &before), expected);
        }

        #[test]
        fn edges_are_each_once_as_found_one_by_one(said in some_edges()) {
            let former = RelationId(2);
            let found = each_once(said.iter().copied().collect(), |relation| relation == former);
            prop_assert_eq!(found.to_vec(), each_once_one_by_one(&said, former).to_vec());
        }
    }
}
