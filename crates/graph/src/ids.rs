//! Dense identifiers of entities and cells.

use serde::{Deserialize, Serialize};

/// An interned entity key: dense, in order of first sight.
// Tests count comparisons of entities as their measure of work: see `work` below.
#[cfg_attr(not(test), derive(PartialEq, Eq, PartialOrd, Ord, Hash))]
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct EntityId(pub u32);

/// The place of a cell. A freed place is given to a later cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CellRef {
    /// Number of the shard, chosen by the hash of the anchor's key.
    pub shard: u16,
    /// Index among the shard's cells.
    pub index: u32,
}

impl CellRef {
    /// The cell at a position among shards and among their cells.
    pub(crate) fn at(shard: usize, index: usize) -> Self {
        Self {
            shard: shard as u16,
            index: index as u32,
        }
    }
}

/// Comparisons of entities, counted per thread: the tests' measure of work.
#[cfg(test)]
pub(crate) mod work {
    use std::cell::Cell;
    use std::cmp::Ordering;
    use std::hash::{Hash, Hasher};

    use super::EntityId;

    thread_local!(static COMPARISONS: Cell<u64> = const { Cell::new(0) });

    /// Comparisons of entities on this thread so far.
    pub(crate) fn comparisons() -> u64 {
        COMPARISONS.get()
    }

    impl PartialEq for EntityId {
        fn eq(&self, other: &Self) -> bool {
            self.cmp(other).is_eq()
        }
    }
    impl Eq for EntityId {}
    impl PartialOrd for EntityId {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }
    impl Ord for EntityId {
        fn cmp(&self, other: &Self) -> Ordering {
            COMPARISONS.set(COMPARISONS.get() + 1);
            self.0.cmp(&other.0)
        }
    }
    impl Hash for EntityId {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }
}
