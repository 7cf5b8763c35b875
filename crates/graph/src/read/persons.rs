//! People of a cell: rows of one address are one person.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::graph::Graph;
use crate::ids::EntityId;
use crate::state::cell::Cell;
use crate::state::node::Node;

/// The rows of a cell that are other rows of a person. Most cells have none.
#[derive(Clone, Debug, Default)]
pub struct Persons {
    /// Entity → the one that stands for the person.
    of: FxHashMap<EntityId, EntityId>,
}

impl Persons {
    /// The entity that stands for the person of a row: mostly the entity itself.
    pub fn of(&self, entity: EntityId) -> EntityId {
        self.of.get(&entity).copied().unwrap_or(entity)
    }
    /// Whether every row is a person of its own.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }
    /// Whether a row stands for its person.
    pub fn is_one(&self, node: &Node) -> bool {
        !self.of.contains_key(&node.entity)
    }
}

impl Graph {
    /// The people of a cell. Of the known rows with one address one stands for the person: a row of
    /// a table whose rows become no other (a contact before a lead), then the smallest (table, key).
    // Decision: docs/decisions/0039-people-by-address.md
    pub fn persons(&self, cell: &Cell) -> Persons {
        let mut rows: SmallVec<[(u64, &Node); 16]> = SmallVec::new();
        for node in &cell.nodes {
            if let Some(address) = node.address.filter(|_| node.is_known() && !node.absorbed) {
                rows.push((address, node));
            }
        }
        let mut persons = Persons::default();
        if rows.len() < 2 {
            return persons;
        }
        rows.sort_unstable_by(|(a, left), (b, right)| {
            let rank = |node: &Node| self.becomes_another(node);
            a.cmp(b)
                .then_with(|| rank(left).cmp(&rank(right)))
                .then_with(|| self.directory().order(left.entity, right.entity))
        });
        for same in rows.chunk_by(|(a, _), (b, _)| a == b) {
            let (_, one) = same[0];
            let others = same[1..].iter();
            persons
                .of
                .extend(others.map(|(_, node)| (node.entity, one.entity)));
        }
        persons
    }

    /// Whether rows of the node's table may become rows of another one.
    fn becomes_another(&self, node: &Node) -> bool {
        let became = &self.shared().layout.entity(node.table).became;
        became.iter().any(|(_, target)| *target != node.table)
    }
}
