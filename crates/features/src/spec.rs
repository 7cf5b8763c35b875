//! The parts from which a plan makes its columns: catalog, state, options, and what a bundle adds.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use leadpulse_graph::{GraphOptions, StateLayout};
use leadpulse_schema::{Catalog, TableId};

/// The part of an encoding that the schema does not determine. A bundle stores it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FeatureSpec {
    /// `table.field` → values with a column of their own, most frequent first. Declared values need
    /// no entry.
    pub vocabularies: BTreeMap<String, Vec<String>>,
    /// Event table → slots of its state that some training row had an amount in, ascending. Other
    /// slots have no columns. A table without an entry has columns for all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub event_slots: BTreeMap<String, Vec<u16>>,
    /// Event table → entity tables that some training row named as an owner, by name. Rows of
    /// other tables have no columns of it. A table without an entry may have any owner.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub event_owners: BTreeMap<String, BTreeSet<String>>,
    /// True if the hour and the weekday of the moment of scoring have columns.
    #[serde(default)]
    pub has_clock: bool,
}

/// All that decides the columns of a plan.
#[derive(Clone, Copy)]
pub(crate) struct PlanSource<'a> {
    pub catalog: &'a Catalog,
    pub state: &'a StateLayout,
    pub options: &'a GraphOptions,
    pub spec: &'a FeatureSpec,
}

impl PlanSource<'_> {
    /// The values of a category or set with columns of their own: those that the schema declares,
    /// else those of the bundle. `path` is `table.field`.
    pub fn vocabulary(&self, path: &str) -> Vec<String> {
        let (table, field) = path.split_once('.').expect("paths are table.field");
        let field = self
            .catalog
            .table(table)
            .and_then(|t| t.field(field))
            .expect("paths come from this catalog");
        if field.values.is_empty() {
            let of_bundle = self.spec.vocabularies.get(path);
            of_bundle.cloned().unwrap_or_default()
        } else {
            field.values.clone()
        }
    }

    /// The root table, then the member tables.
    pub fn entities(&self) -> Vec<TableId> {
        let members = self.catalog.members().map(|table| table.id);
        std::iter::once(self.catalog.root().id)
            .chain(members)
            .collect()
    }

    /// Whether a column of a slot of an event table can be other than zero in training.
    pub fn is_seen(&self, events: &str, slot: u16) -> bool {
        let seen = self.spec.event_slots.get(events);
        seen.is_none_or(|seen| seen.contains(&slot))
    }

    /// Those of some entity tables that may carry events of a table, each with the position of the
    /// table's state among theirs.
    pub fn carriers(&self, events: TableId, tables: &[TableId]) -> Vec<(TableId, usize)> {
        let owners = self.owners(events);
        tables
            .iter()
            .filter(|table| self.state.carries(**table, events))
            .filter(|table| owners.as_ref().is_none_or(|owners| owners.contains(*table)))
            .map(|table| (*table, self.state.position(*table, events)))
            .collect()
    }

    /// The tables that training saw events of a table on, and those that their rows may become;
    /// `None` if any table may be one.
    fn owners(&self, events: TableId) -> Option<BTreeSet<TableId>> {
        let named = self
            .spec
            .event_owners
            .get(&self.catalog.table_at(events).name)?;
        let named = named.iter().filter_map(|name| self.catalog.table(name));
        let mut owners: BTreeSet<TableId> = named.map(|table| table.id).collect();
        loop {
            let before = owners.len();
            for table in &self.catalog.tables {
                let layout = self.state.entity(table.id);
                // The events of a lead that was converted lie at the contact.
                if owners.contains(&table.id) {
                    owners.extend(layout.became.iter().map(|(_, target)| *target));
                }
                if layout.was.iter().any(|(_, from)| owners.contains(from)) {
                    owners.insert(table.id);
                }
            }
            if owners.len() == before {
                return Some(owners);
            }
        }
    }
}
