//! The values of open categories that get a column of their own, and the events that get any.

use std::collections::{BTreeMap, BTreeSet};

use leadpulse_graph::{StateLayout, owners_of};
use leadpulse_schema::{Feature, Field, Role, Row, Table, TableId, Value};

use crate::fields::refers_to_hub;
use crate::hub_rows::path_of;
use crate::spec::FeatureSpec;

/// Counts of the values of categories without declared values, and what occurs in event tables: to
/// choose the columns of a plan.
#[derive(Clone, Debug, Default)]
pub struct VocabularyBuilder {
    counts: BTreeMap<String, BTreeMap<String, u64>>,
    /// Per event table the slots with an amount.
    slots: BTreeMap<TableId, BTreeSet<u16>>,
    /// Per event table the tables of its owners.
    owners: BTreeMap<TableId, BTreeSet<TableId>>,
}

impl VocabularyBuilder {
    /// Least count of a value with a column of its own. Rarer values, and those beyond the cap,
    /// share the "other" column.
    // A column that is set in fewer rows can hardly be learnt from. Why 10, and why 32, is unknown.
    const MIN_COUNT: u64 = 10;
    /// Most values of a field with columns of their own.
    const CAP: usize = 32;

    /// Counts the values of a row.
    pub fn observe(&mut self, state: &StateLayout, row: Row<'_>) {
        let table = state.catalog().table_at(row.table());
        match table.role {
            Role::Root | Role::Member => self.observe_entity(table, row),
            Role::Event => self.observe_event(state, row),
            Role::Hub => {
                let is_number = |f: &&Field| matches!(f.feature, Feature::Number | Feature::Time);
                let values = table.hub_features().filter(|f| !is_number(f));
                self.observe_fields(table, row, values);
            }
            Role::Staff | Role::Override | Role::Feedback | Role::Erasure => {}
        }
    }

    fn observe_entity(&mut self, table: &Table, row: Row<'_>) {
        let is_open = |f: &&Field| {
            let is_category = matches!(f.feature, Feature::Category | Feature::Set);
            is_category || refers_to_hub(f)
        };
        self.observe_fields(table, row, table.fields.iter().filter(is_open));
    }

    /// Counts the values of fields that have no declared ones.
    fn observe_fields<'f>(
        &mut self,
        table: &Table,
        row: Row<'_>,
        fields: impl Iterator<Item = &'f Field>,
    ) {
        for field in fields.filter(|field| field.values.is_empty()) {
            let counts = self.counts.entry(path_of(table, field)).or_default();
            let mut count = |value: &str| *counts.entry(value.to_owned()).or_default() += 1;
            match row.get(field.id) {
                Value::Text(value) => count(value),
                Value::List(values) => values.iter().for_each(count),
                _ => {}
            }
        }
    }

    /// Notes the slots and owners of an event. Rows that are no engagement are in no sum.
    fn observe_event(&mut self, state: &StateLayout, row: Row<'_>) {
        let layout = state.event(row.table());
        if !layout.is_engagement(row) {
            return;
        }
        let amounts = layout.phi(row).into_iter();
        let slots = amounts.filter(|(_, amount)| *amount != 0.0);
        let seen = self.slots.entry(row.table()).or_default();
        seen.extend(slots.map(|(slot, _)| slot));
        let owners = owners_of(state.catalog(), row).map(|(table, _)| table);
        self.owners.entry(row.table()).or_default().extend(owners);
    }

    /// The most frequent values of each field, at most 32, each seen at least 10 times, in rows of
    /// hubs once; the slots and owners that any event of a table had. Event tables without rows have none.
    pub fn finish(self, state: &StateLayout) -> FeatureSpec {
        let catalog = state.catalog();
        // A hub has one row, and as many readers as cells that touch it.
        let is_of_hub = |path: &str| {
            let table = path.split_once('.').and_then(|(t, _)| catalog.table(t));
            table.is_some_and(|table| table.role == Role::Hub)
        };
        let choose = |path: &str, counts: BTreeMap<String, u64>| {
            let least = if is_of_hub(path) { 1 } else { Self::MIN_COUNT };
            let mut values: Vec<(String, u64)> =
                counts.into_iter().filter(|(_, n)| *n >= least).collect();
            // Ties by value, so that one history has one vocabulary and one plan hash.
            values.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            values.into_iter().take(Self::CAP).map(|(v, _)| v).collect()
        };
        // A reference to a hub of many nodes is no category: the hub's sums stand for it.
        let is_kept = |path: &str, values: usize| {
            let field = path.split_once('.');
            let field = field.and_then(|(table, field)| catalog.table(table)?.field(field));
            values <= Self::CAP || !field.is_some_and(refers_to_hub) || is_of_hub(path)
        };
        let name = |table: TableId| catalog.table_at(table).name.clone();
        let mut spec = FeatureSpec {
            vocabularies: self
                .counts
                .into_iter()
                .filter(|(path, counts)| is_kept(path, counts.len()))
                .map(|(path, counts)| {
                    let values = choose(&path, counts);
                    (path, values)
                })
                .collect(),
            ..FeatureSpec::default()
        };
        for events in &state.events {
            let slots = self.slots.get(&events.table).into_iter().flatten();
            let owners = self.owners.get(&events.table).into_iter().flatten();
            spec.event_slots
                .insert(name(events.table), slots.copied().collect());
            spec.event_owners
                .insert(name(events.table), owners.map(|t| name(*t)).collect());
        }
        spec
    }
}
