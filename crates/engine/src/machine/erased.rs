//! Erasure of a person: requests come as rows, and take everything of their subject away.
//!
//! | place | what happens |
//! |---|---|
//! | graph | nodes, events, keys and references of the person go ([`Graph::erase`](leadpulse_graph::Graph::erase)) |
//! | memory of the worker | scores, alerts, lists and notes about the person go |
//! | compacted outputs | tombstones, and new records of others that named the person, in one transaction |
//! | proofs | a record without the person: what went, and who may still hold copies until when |
//! | later rows | refused by keyed hashes, see [`list`] |
//!
//! Decision: docs/decisions/0070-a-person-is-erased.md

use std::collections::BTreeSet;
use std::sync::Arc;

use leadpulse_graph::{EntityId, ErasedRows, RowOutcome, owners_of, person_address};
use leadpulse_schema::{ErasureAction, ErasureFields, Operation, Row, TableId};

use super::Machine;
use super::admit::AdmittedRows;
use super::worklists::ListKey;

mod keyed;
mod list;
mod memory;
mod proof;
mod screen;

pub use keyed::{ErasureKey, ErasureKeyError, SubjectHash};
pub(super) use list::ErasureList;

/// The keys and addresses of an erased person, for whoever shows committed state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErasedNames {
    /// Tables and keys.
    pub entities: Vec<(Arc<str>, Arc<str>)>,
    /// Addresses, normalised.
    pub addresses: Vec<String>,
    /// Names for people.
    pub labels: Vec<String>,
}

impl ErasedNames {
    /// Whether an entity was erased; without a table, one of any table.
    pub fn has(&self, table: Option<&str>, key: &str) -> bool {
        let mut entities = self.entities.iter();
        entities.any(|(of, one)| **one == *key && table.is_none_or(|table| **of == *table))
    }

    /// Whether a text for people names the person: by key, address or name, as a word of its own.
    pub fn are_in(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        let keys = self.entities.iter().map(|(_, key)| &**key);
        let others = self.addresses.iter().chain(&self.labels);
        let mut all = keys.chain(others.map(String::as_str));
        all.any(|name| has_word(&text, &name.to_lowercase()))
    }
}

fn has_word(text: &str, word: &str) -> bool {
    let is_end = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
    !word.is_empty()
        && text.match_indices(word).any(|(at, _)| {
            is_end(text[..at].chars().next_back()) && is_end(text[at + word.len()..].chars().next())
        })
}

/// A request that took effect.
pub(super) struct DoneRequest {
    id: String,
    requested_at_ms: i64,
    action: ErasureAction,
    /// The hash that stands for the person.
    subject: SubjectHash,
    rows: ErasedRows,
    names: ErasedNames,
    /// Hashes that were listed, or lifted.
    hashes: usize,
}

/// The effects of an epoch's requests.
#[derive(Default)]
pub(super) struct Erasing {
    pub done: Vec<DoneRequest>,
    /// Tasks and entities whose records named a person.
    named_in: BTreeSet<(usize, EntityId)>,
    /// Work lists that named a person.
    lists: BTreeSet<ListKey>,
    /// True if the memory of caps named a person.
    pub is_in_caps: bool,
}

impl Machine {
    /// Lets a row of an erasure table take effect. A deletion of such a row has none: what was
    /// erased is gone.
    fn take_request(
        &mut self,
        row: Row<'_>,
        fields: ErasureFields,
        admitted: &mut AdmittedRows,
    ) -> RowOutcome {
        if row.operation() != Operation::Upsert {
            return RowOutcome::Duplicate;
        }
        let catalog = self.given.catalog.clone();
        let named: Vec<(TableId, &str)> = owners_of(&catalog, row).collect();
        let address = fields.email.and_then(|field| row.get(field).text());
        let word = fields.action.and_then(|field| row.get(field).text());
        let action = word.and_then(ErasureAction::of);
        let action = action.unwrap_or(ErasureAction::Erase);
        let key = &self.given.erasure_key;
        let name = |table: TableId| catalog.table_at(table).name.as_str();
        let entities = named.iter();
        let mut hashes: Vec<SubjectHash> = entities
            .map(|(table, id)| key.of_entity(name(*table), id))
            .collect();
        let addresses = address.and_then(person_address);
        hashes.extend(addresses.map(|address| key.of_address(&address)));
        let Some(first) = hashes.first().copied() else {
            // An address that several people share names nobody.
            return RowOutcome::NothingToDelete;
        };
        let at_ms = self.state.as_of.ms().max(0);
        let mut done = DoneRequest {
            id: row.key().to_owned(),
            requested_at_ms: row.event_ms(),
            action,
            subject: first,
            rows: ErasedRows::default(),
            names: ErasedNames::default(),
            hashes: 0,
        };
        match action {
            ErasureAction::Lift => done.hashes = self.state.erasures.lift(&hashes),
            ErasureAction::Erase => {
                let rows = self.state.graph.erase(&named, address);
                let entities = rows.entities.iter();
                hashes.extend(entities.map(|(_, table, id)| key.of_entity(name(*table), id)));
                let addresses = rows.addresses.iter();
                hashes.extend(addresses.map(|address| key.of_address(address)));
                hashes.sort_unstable();
                hashes.dedup();
                let at = hashes.iter().position(|hash| *hash == first);
                hashes.swap(0, at.unwrap_or(0));
                done.subject = self.state.erasures.add(key, &hashes, at_ms);
                done.hashes = hashes.len();
                done.names = self.names_of(&named, address, &rows);
                self.forget(&rows, &done.names, admitted);
                done.rows = rows;
            }
        }
        admitted.erasing.done.push(done);
        RowOutcome::Accepted
    }

    fn names_of(
        &self,
        named: &[(TableId, &str)],
        address: Option<&str>,
        rows: &ErasedRows,
    ) -> ErasedNames {
        let catalog = &self.given.catalog;
        let name = |table: TableId| -> Arc<str> { catalog.table_at(table).name.as_str().into() };
        let asked = named
            .iter()
            .map(|(table, key)| (name(*table), (*key).into()));
        let found = rows.entities.iter();
        let found = found.map(|(_, table, key)| (name(*table), key.clone()));
        let mut entities: Vec<(Arc<str>, Arc<str>)> = asked.chain(found).collect();
        entities.sort();
        entities.dedup();
        let mut addresses = rows.addresses.clone();
        addresses.extend(address.map(str::to_lowercase));
        ErasedNames {
            entities,
            addresses,
            labels: rows.labels.clone(),
        }
    }

    /// Takes the names of persons that were erased since the last call: pages and the stored past
    /// of scores are to forget them.
    pub fn take_erased(&mut self) -> Vec<ErasedNames> {
        std::mem::take(&mut self.state.erased)
    }

    /// Whether an entity was erased; without a table, one of any table.
    pub fn is_erased(&self, table: Option<&str>, key: &str) -> bool {
        let catalog = &self.given.catalog;
        let (erasures, graph) = (&self.state.erasures, &self.state.graph);
        let mut tables = catalog.tables.iter();
        !erasures.is_empty()
            && tables.any(|one| {
                table.is_none_or(|table| one.name == table)
                    && erasures.has_entity(&self.given.erasure_key, graph, one.id, key)
            })
    }

    /// `as_of` at the newest erasure, milliseconds; `None` without any.
    pub fn erased_until_ms(&self) -> Option<i64> {
        self.state.erasures.newest_ms()
    }

    /// The number of keyed hashes by which rows are refused.
    pub fn erased_hashes(&self) -> usize {
        self.state.erasures.len()
    }

    /// True if only the owner of the configuration can make the hashes of erased persons.
    pub fn erases_by_secret(&self) -> bool {
        self.given.erasure_key.is_secret()
    }

    /// Whether requests to erase can come.
    pub fn takes_erasures(&self) -> bool {
        let mut tables = self.given.catalog.tables.iter();
        tables.any(|table| table.erasure.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_name_a_person_by_whole_words() {
        let names = ErasedNames {
            entities: vec![("contacts".into(), "c-4".into())],
            addresses: vec!["jo@acme.com".into()],
            labels: vec!["Jo Doe".into()],
        };
        for text in ["asked c-4 twice", "C-4", "<Jo@Acme.com>", "met Jo Doe."] {
            assert!(names.are_in(text), "{text}");
        }
        for text in ["", "c-40", "abc-4", "banjo@acme.com", "Jo Doering", "Jo"] {
            assert!(!names.are_in(text), "{text}");
        }
        assert!(names.has(None, "c-4") && names.has(Some("contacts"), "c-4"));
        assert!(!names.has(Some("leads"), "c-4") && !names.has(None, "c-5"));
    }
}
