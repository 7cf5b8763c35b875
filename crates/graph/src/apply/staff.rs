//! Staff: the people of the own company whom rows are assigned to, as their newest rows describe
//! them.
//!
//! Staff are no nodes: they touch no cell, and no feature reads them. Records alone do, to name
//! somebody who still works here.
//!
//! Decision: docs/decisions/0041-whom-a-record-is-for.md

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use leadpulse_schema::{FieldId, Operation, Row, Table, TableId, Value};

use crate::apply::outcome::{Described, RowOutcome};
use crate::pieces::Kept;

/// The newest row of a person of the own company.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StaffRow {
    /// False only where a field marked active says so.
    is_active: bool,
    territory: Option<Arc<str>>,
}

type StaffTables = BTreeMap<TableId, BTreeMap<Arc<str>, Option<StaffRow>>>;

/// Rows of all staff tables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Staff {
    /// By table and key; `None` once the row was deleted.
    pub(crate) tables: Kept<StaffTables>,
}

impl Staff {
    /// Takes a row of a staff table, of which the log's order decides the newest.
    pub fn take(&mut self, table: &Table, row: Row<'_>) -> RowOutcome {
        let people = self.tables.change().entry(table.id).or_default();
        let before = people.get(row.key());
        if row.operation() == Operation::Gap {
            return RowOutcome::Accepted;
        }
        if row.operation() != Operation::Upsert {
            let outcome = RowOutcome::of_deletion(match before {
                None => Described::Never,
                Some(None) => Described::Before,
                Some(Some(_)) => Described::Now,
            });
            if outcome.is_accepted() {
                people.insert(row.key().into(), None);
            }
            return outcome;
        }
        let before = before.cloned().flatten();
        let told =
            |field: Option<FieldId>| Some(row.get(field.filter(|f| table.carries(row, *f))?));
        let is_active = match told(table.active) {
            Some(value) => value != Value::Bool(false),
            None => before.as_ref().is_none_or(|before| before.is_active),
        };
        let territory = match told(table.territory) {
            Some(value) => value.text().map(Arc::from),
            None => before.as_ref().and_then(|before| before.territory.clone()),
        };
        let now = StaffRow {
            is_active,
            territory,
        };
        let outcome = match before.is_none() && !table.is_whole(row) {
            true => RowOutcome::InPart,
            false => RowOutcome::Accepted,
        };
        people.insert(row.key().into(), Some(now));
        outcome
    }

    /// Whether rows may be assigned to a key: an active person, or any key of a table that no row
    /// describes.
    pub fn may_be_assigned(&self, table: TableId, key: &str) -> bool {
        let Some(people) = self.tables.get(&table) else {
            return true;
        };
        match people.get(key) {
            Some(Some(person)) => person.is_active,
            _ => people.values().all(Option::is_none),
        }
    }

    /// The active person who covers a territory; the smallest table and key of several.
    pub fn covering(&self, territory: &str) -> Option<&Arc<str>> {
        let covers =
            |person: &StaffRow| person.is_active && person.territory.as_deref() == Some(territory);
        let mut people = self.tables.values().flatten();
        people.find_map(|(key, person)| person.as_ref().is_some_and(covers).then_some(key))
    }

    /// Bytes on the heap, roughly.
    pub fn heap_bytes(&self) -> usize {
        let people = self.tables.values().flatten();
        people
            .map(|(key, _)| key.len() + size_of::<(Arc<str>, Option<StaffRow>)>())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use leadpulse_schema::{Catalog, Position, RowBatch};

    use super::*;
    use crate::pieces::{Part, Pieces, Which};

    const ACCOUNTS: &str = r#"{"type":"record","name":"A","leadpulse":{"table":"accounts","role":"root"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"rep","type":["null","string"],"default":null,"leadpulse":{"ref":"reps"}}]}"#;
    const REPS: &str = r#"{"type":"record","name":"R","leadpulse":{"table":"reps","role":"staff"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"area","type":["null","string"],"default":null,"leadpulse":{"territory":true}},
      {"name":"works","type":["null","boolean"],"default":null,"leadpulse":{"active":true}}]}"#;

    fn take(staff: &mut Staff, catalog: &Catalog, operation: Operation, key: &str) -> RowOutcome {
        let table = catalog.table("reps").expect("the catalog has the table");
        let mut batch = RowBatch::new();
        let mut row = batch.start(catalog, table.id, operation, Position::default(), 1);
        row.set(table.key, Value::Text(key));
        row.set(table.territory.expect("marked"), Value::Text("north"));
        row.finish();
        staff.take(table, batch.row(0))
    }

    #[test]
    fn rows_and_deletions_of_people_have_the_outcomes_of_entities_and_are_stored() {
        let catalog = Catalog::from_json(&[("a", ACCOUNTS), ("r", REPS)]).expect("sound");
        let reps = catalog.table("reps").expect("the catalog has the table").id;
        let mut staff = Staff::default();
        let mut take = |operation, key| take(&mut staff, &catalog, operation, key);
        assert_eq!(take(Operation::Delete, "zoe"), RowOutcome::NothingToDelete);
        assert_eq!(take(Operation::Upsert, "zoe"), RowOutcome::Accepted);
        assert_eq!(take(Operation::Upsert, "ann"), RowOutcome::Accepted);
        assert_eq!(take(Operation::Gap, "ann"), RowOutcome::Accepted);
        assert_eq!(take(Operation::Delete, "ann"), RowOutcome::Accepted);
        assert_eq!(take(Operation::Delete, "ann"), RowOutcome::Duplicate);
        let mut pieces = Pieces::default();
        staff.tables.write(Which::All, 1, &mut pieces);
        let mut read = Staff::default();
        for (key, value) in pieces.iter() {
            let value = value.expect("nothing was removed");
            read.tables.read(1, &key[1..], value).expect("as written");
        }
        for staff in [staff, read] {
            assert!(staff.may_be_assigned(reps, "zoe"));
            assert!(!staff.may_be_assigned(reps, "ann"));
            assert!(!staff.may_be_assigned(reps, "queue"));
            assert_eq!(staff.covering("north").map(|key| &**key), Some("zoe"));
            assert_eq!(staff.covering("south"), None);
        }
    }
}
