//! Decisions of people about the alerts of entities, and the one that is in force.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leadpulse_graph::{Cell, EntityId, Graph, RowOutcome};
use leadpulse_policy::{AccountOverride, OverrideKind};
use leadpulse_schema::{
    Catalog, Operation, OverrideFields, PersonDecision, Row, Table, TableId, Value,
};
use serde::{Deserialize, Serialize};

use super::newest::{NewestRow, NewestRows, SaidAt};
use crate::machine::ErasedNames;
use crate::read_model::{RulingsView, ShownRuling};

/// Table and key.
pub(in crate::machine) type RowKey = (TableId, Arc<str>);
/// Rows about each entity of a table, in the order of what was said.
type RowsBySubject = BTreeMap<Arc<str>, BTreeSet<(SaidAt, RowKey)>>;

/// A person's word about an entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::machine) struct PersonsWord {
    /// The entity, by table and key.
    subject: RowKey,
    /// The decision; `None` for one that is taken back.
    ruling: Option<AccountOverride>,
}

/// All decisions by the key of their row. Of several about one entity the newest counts.
#[derive(Clone, Debug, Default)]
pub(in crate::machine) struct Rulings {
    pub words: NewestRows<RowKey, PersonsWord>,
    /// Rows about an entity in the order of what was said. Not stored: it follows from the words.
    by_subject: BTreeMap<TableId, RowsBySubject>,
}

/// The effect of a row: its outcome, and the entities that are to be looked at again.
pub(super) struct Ruled {
    pub outcome: RowOutcome,
    pub subjects: Vec<RowKey>,
}

impl Rulings {
    /// Finds the rows of entities again, after the words were read from stored state. Returns false
    /// if one is about an entity of a table beyond the first `tables`.
    pub fn index(&mut self, tables: usize) -> bool {
        let words = std::mem::take(&mut self.words);
        let mut is_known = true;
        for (key, row) in words.iter() {
            let subject = row.value.as_ref().map(|word| word.subject.0);
            is_known &= subject.is_none_or(|table| table.index() < tables);
            self.note(key, row);
        }
        self.words = words;
        is_known
    }

    /// Takes an admitted row of an override table, or its deletion.
    pub(super) fn take(&mut self, table: &Table, fields: &OverrideFields, row: Row<'_>) -> Ruled {
        let key: RowKey = (table.id, row.key().into());
        if row.operation() == Operation::Gap {
            return Ruled {
                outcome: RowOutcome::Accepted,
                subjects: Vec::new(),
            };
        }
        let word = match row.operation() {
            Operation::Upsert => word_of(table, fields, row),
            _ => None,
        };
        let taken = self.words.take(key.clone(), SaidAt::of(row), word);
        if let Some(before) = &taken.before {
            self.forget(&key, before);
        }
        let mut subjects: Vec<RowKey> = Vec::new();
        if taken.before.is_some() || taken.outcome == RowOutcome::Accepted {
            subjects.extend(taken.before.and_then(|row| row.value).map(|w| w.subject));
            if let Some(row) = self.words.get(&key).cloned() {
                self.note(&key, &row);
                subjects.extend(row.value.map(|word| word.subject));
            }
        }
        if taken.outcome != RowOutcome::Accepted {
            subjects.clear();
        }
        subjects.dedup();
        Ruled {
            outcome: taken.outcome,
            subjects,
        }
    }

    /// Forgets decisions about a person, and reasons that name the person. Returns true if there
    /// were any.
    pub(super) fn forget_person(&mut self, names: &ErasedNames, catalog: &Catalog) -> bool {
        let rows: Vec<_> = self
            .words
            .iter()
            .map(|(k, r)| (k.clone(), r.clone()))
            .collect();
        let mut is_changed = false;
        for (key, row) in rows {
            let Some(word) = &row.value else { continue };
            let (table, id) = &word.subject;
            let is_about = names.has(Some(&catalog.table_at(*table).name), id);
            let ruling = word.ruling.as_ref();
            let why = ruling.and_then(|ruling| ruling.why.as_deref());
            if is_about {
                self.forget(&key, &row);
                self.words.rows.remove(&key);
            } else if why.is_some_and(|why| names.are_in(why)) {
                let mut row = row.clone();
                if let Some(ruling) = row.value.as_mut().and_then(|word| word.ruling.as_mut()) {
                    ruling.why = None;
                }
                self.words.rows.insert(key, row);
            } else {
                continue;
            }
            is_changed = true;
        }
        is_changed
    }

    /// True if no row about an entity is known.
    pub fn is_empty(&self) -> bool {
        self.by_subject.is_empty()
    }

    /// The decision that is in force for an entity of a cell at a moment: one about the entity
    /// itself, else one about the account of the cell.
    pub fn about(
        &self,
        graph: &Graph,
        cell: &Cell,
        entity: EntityId,
        at_ms: i64,
    ) -> Option<&AccountOverride> {
        if self.is_empty() {
            return None;
        }
        let account = || self.of(graph, graph.root_node(cell)?.entity, at_ms);
        self.of(graph, entity, at_ms).or_else(account)
    }

    /// The newest decision in force about an entity, or about one that was joined to it.
    fn of(&self, graph: &Graph, entity: EntityId, at_ms: i64) -> Option<&AccountOverride> {
        let alone = [entity];
        let joined = match graph.joined(entity) {
            [] => &alone[..],
            joined => joined,
        };
        let directory = graph.directory();
        let found = joined.iter().filter_map(|one| {
            let table = directory.table(*one)?;
            self.newest(table, directory.key(*one))
        });
        let in_force = found.filter(|(_, ruling)| ruling.at(at_ms).is_some());
        in_force
            .max_by_key(|(said, _)| *said)
            .map(|(_, ruling)| ruling)
    }

    /// The newest decision about an entity; `None` if it was taken back.
    fn newest(&self, table: TableId, key: &str) -> Option<(SaidAt, &AccountOverride)> {
        let (said, row) = self.by_subject.get(&table)?.get(key)?.last()?;
        let word = self.words.get(row)?.value.as_ref()?;
        Some((*said, word.ruling.as_ref()?))
    }

    /// All entities with their newest decisions, ascending by table and key.
    fn all(&self) -> impl Iterator<Item = (TableId, &Arc<str>, SaidAt, &AccountOverride)> {
        self.by_subject.iter().flat_map(move |(table, keys)| {
            keys.keys().filter_map(move |key| {
                let (said, ruling) = self.newest(*table, key)?;
                Some((*table, key, said, ruling))
            })
        })
    }

    /// Number of entities with a decision of each kind in force at a moment.
    pub fn counts(&self, at_ms: i64) -> BTreeMap<OverrideKind, u64> {
        let mut counts: BTreeMap<_, _> = OverrideKind::ALL.map(|kind| (kind, 0)).into();
        for (.., ruling) in self.all() {
            if let Some(kind) = ruling.at(at_ms) {
                *counts.entry(kind).or_default() += 1;
            }
        }
        counts
    }

    /// True if a decision ends after one moment, and by the other.
    pub fn has_end_within(&self, after_ms: i64, by_ms: i64) -> bool {
        self.all().any(|(.., ruling)| {
            ruling
                .until_ms
                .is_some_and(|until_ms| after_ms < until_ms && until_ms <= by_ms)
        })
    }

    /// The decisions in force at a moment, each at the entity that stands for its subject.
    pub fn view(&self, graph: &Graph, at_ms: i64) -> RulingsView {
        let (catalog, directory) = (graph.catalog(), graph.directory());
        let mut newest: BTreeMap<RowKey, (SaidAt, &AccountOverride)> = BTreeMap::new();
        let in_force = self.all().filter(|(.., ruling)| ruling.at(at_ms).is_some());
        for (table, key, said, ruling) in in_force {
            let entity = directory.find(directory.of_table(table), key);
            let survivor = entity.map(|entity| graph.survivor(entity));
            let place = survivor.and_then(|survivor| {
                Some((directory.table(survivor)?, directory.key(survivor).clone()))
            });
            let place = place.unwrap_or_else(|| (table, key.clone()));
            let known = newest.entry(place).or_insert((said, ruling));
            if known.0 < said {
                *known = (said, ruling);
            }
        }
        let shown = newest.into_iter().map(|((table, key), (_, ruling))| {
            let table: Arc<str> = catalog.table_at(table).name.as_str().into();
            ((table, key), ShownRuling::from(ruling))
        });
        RulingsView::new(&catalog.root().name, shown.collect())
    }

    fn note(&mut self, key: &RowKey, row: &NewestRow<PersonsWord>) {
        if let Some(word) = &row.value {
            let (table, subject) = &word.subject;
            let keys = self.by_subject.entry(*table).or_default();
            let rows = keys.entry(subject.clone()).or_default();
            rows.insert((row.said, key.clone()));
        }
    }

    fn forget(&mut self, key: &RowKey, row: &NewestRow<PersonsWord>) {
        let Some((table, subject)) = row.value.as_ref().map(|word| &word.subject) else {
            return;
        };
        let Some(keys) = self.by_subject.get_mut(table) else {
            return;
        };
        if let Some(rows) = keys.get_mut(subject) {
            rows.remove(&(row.said, key.clone()));
            if rows.is_empty() {
                keys.remove(subject);
            }
        }
        if keys.is_empty() {
            self.by_subject.remove(table);
        }
    }
}

/// The word of an admitted row, which has a subject and one of the known decisions.
fn word_of(table: &Table, fields: &OverrideFields, row: Row<'_>) -> Option<PersonsWord> {
    let text = |value: Value<'_>| {
        value
            .text()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let mut owners = table.owners.iter();
    let subject = owners.find_map(|field| {
        let key = row.get(*field).text().filter(|key| !key.is_empty())?;
        Some((table.field_at(*field).reference?.table, key.into()))
    })?;
    let decision = match PersonDecision::of(row.get(fields.decision).text()?)? {
        PersonDecision::Pin => Some(OverrideKind::Pin),
        PersonDecision::Mute => Some(OverrideKind::Mute),
        PersonDecision::Exclude => Some(OverrideKind::Exclude),
        PersonDecision::Nothing => None,
    };
    let until_ms = fields.until.and_then(|field| match row.get(field) {
        Value::Time(until_ms) => Some(until_ms),
        _ => None,
    });
    let ruling = decision.map(|decision| AccountOverride {
        decision,
        who: text(row.get(fields.who)).unwrap_or_default(),
        why: fields.why.and_then(|field| text(row.get(field))),
        until_ms,
    });
    Some(PersonsWord { subject, ruling })
}

/// Makes the cells of entities due. An entity that no row has named yet has none: its first row
/// makes its cell due.
pub(super) fn mark_due(graph: &mut Graph, subjects: &[RowKey]) {
    for (table, key) in subjects {
        let directory = graph.directory();
        if let Some(entity) = directory.find(directory.of_table(*table), key) {
            graph.mark_due(entity);
        }
    }
}
