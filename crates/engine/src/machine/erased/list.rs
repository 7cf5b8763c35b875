//! The list of erased subjects: keyed hashes, by which later rows of a person are recognised.
//!
//! The list is part of the stored state and of snapshots. A start without either makes it anew from
//! the rows of the erasures topic.

use std::collections::BTreeSet;

use leadpulse_graph::Graph;
use leadpulse_graph::pieces::{Kept, KeptMap};
use leadpulse_schema::TableId;
use serde::{Deserialize, Serialize};

use super::keyed::{ErasureKey, SubjectHash};

/// A listed hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::machine) struct Listed {
    /// The hash that stands for the person: all hashes of one person are lifted together.
    person: SubjectHash,
    /// `as_of` at the erasure, milliseconds.
    at_ms: i64,
}

/// Everybody who was erased.
#[derive(Clone, Debug, Default)]
pub(in crate::machine) struct ErasureList {
    pub subjects: KeptMap<SubjectHash, Listed>,
    /// The hash of the key that the subjects are hashed with; `None` before the first.
    pub key: Kept<Option<SubjectHash>>,
}

impl ErasureList {
    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }

    /// The number of listed hashes.
    pub fn len(&self) -> usize {
        self.subjects.len()
    }

    /// Whether the list can be used with a key.
    pub fn is_of(&self, key: &ErasureKey) -> bool {
        self.key.is_none_or(|of| of == key.of_itself())
    }

    /// Lists the hashes of one person. Returns the hash that stands for the person: of one that is
    /// listed already, the one before.
    pub fn add(&mut self, key: &ErasureKey, hashes: &[SubjectHash], at_ms: i64) -> SubjectHash {
        if self.key.is_none() {
            *self.key.change() = Some(key.of_itself());
        }
        let listed = hashes.iter().find_map(|hash| self.subjects.get(hash));
        let person = listed.map_or(hashes[0], |listed| listed.person);
        for hash in hashes {
            self.subjects.insert(*hash, Listed { person, at_ms });
        }
        person
    }

    /// Takes persons off the list, each with all hashes. Returns the number of hashes.
    pub fn lift(&mut self, hashes: &[SubjectHash]) -> usize {
        let persons = hashes.iter().filter_map(|hash| self.subjects.get(hash));
        let persons: BTreeSet<SubjectHash> = persons.map(|listed| listed.person).collect();
        let all = self.subjects.iter();
        let lifted = all.filter(|(_, listed)| persons.contains(&listed.person));
        let lifted: Vec<SubjectHash> = lifted.map(|(hash, _)| *hash).collect();
        for hash in &lifted {
            self.subjects.remove(hash);
        }
        lifted.len()
    }

    /// Whether an entity is listed.
    // An entity that the graph knows is not: its key was removed with the erasure, and rows that
    // name it are refused or rewritten. So rows of known keys cost no hash.
    pub fn has_entity(&self, key: &ErasureKey, graph: &Graph, table: TableId, id: &str) -> bool {
        let directory = graph.directory();
        if self.is_empty() || directory.find(directory.of_table(table), id).is_some() {
            return false;
        }
        let table = &graph.catalog().table_at(table).name;
        self.subjects.contains_key(&key.of_entity(table, id))
    }

    /// Whether a normalised address is listed.
    pub fn has_address(&self, key: &ErasureKey, address: &str) -> bool {
        !self.is_empty() && self.subjects.contains_key(&key.of_address(address))
    }

    /// `as_of` of the newest erasure, milliseconds; `None` without any.
    pub fn newest_ms(&self) -> Option<i64> {
        self.subjects.values().map(|listed| listed.at_ms).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_lifted_with_all_hashes_and_nobody_else() {
        let key = ErasureKey::default();
        let [lead, contact, address, other] = [
            key.of_entity("leads", "l"),
            key.of_entity("contacts", "c"),
            key.of_address("jo@acme.com"),
            key.of_entity("contacts", "d"),
        ];
        let mut list = ErasureList::default();
        assert_eq!(list.newest_ms(), None);
        assert_eq!(list.add(&key, &[contact, address], 5), contact);
        assert_eq!(list.add(&key, &[other], 7), other);
        // A second request names the lead, and finds the person by the address.
        assert_eq!(list.add(&key, &[lead, address], 6), contact);
        assert_eq!((list.len(), list.newest_ms()), (4, Some(7)));
        assert_eq!(list.lift(&[lead]), 3);
        assert_eq!(list.lift(&[lead]), 0);
        assert!(list.subjects.contains_key(&other));
        assert!(list.has_address(&key, "jo@acme.com") == list.subjects.contains_key(&address));
        assert!(list.is_of(&key));
        assert!(!list.is_of(&ErasureKey::of(&[1; 16]).unwrap()));
    }
}
