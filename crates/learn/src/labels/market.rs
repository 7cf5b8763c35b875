//! A small market for the tests of labels.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use leadpulse_pql::{Diagnostic, Plan, Reach, parse, plan};
use leadpulse_schema::units::DAY_MS_F64;
use leadpulse_schema::{Catalog, Operation, Position, RowBatch, TableId, Value};

use super::history::{OwnedAt, Ownership};
use super::{LabelHistory, Labels};

const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/market");

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    Catalog::load(Path::new(SCHEMAS)).unwrap_or_else(|faults| panic!("{faults:?}"))
});

/// Accounts with contacts, leads, opportunities; activities and invoices; products as a hub.
pub(crate) fn catalog() -> Catalog {
    CATALOG.clone()
}

pub(crate) fn planned(query: &str) -> Result<Plan, Diagnostic> {
    parse(query).and_then(|query| plan(&query, &CATALOG, &BTreeMap::new()))
}

/// Adds a row of `table`, known `known_day` days after 1970, to the batch; days count as times for
/// time fields.
pub(crate) fn push(
    batch: &mut RowBatch,
    catalog: &Catalog,
    table: &str,
    known_day: f64,
    values: &[(&str, Value<'_>)],
) {
    push_as(Operation::Upsert, batch, catalog, table, known_day, values);
}

/// [`push`] with another operation.
pub(crate) fn push_as(
    operation: Operation,
    batch: &mut RowBatch,
    catalog: &Catalog,
    table: &str,
    known_day: f64,
    values: &[(&str, Value<'_>)],
) {
    let table = catalog.table(table).unwrap();
    let offset = batch.len() as i64;
    let mut row = batch.start(
        catalog,
        table.id,
        operation,
        Position {
            partition: 0,
            offset,
        },
        at_day(known_day),
    );
    for (name, value) in values {
        row.set(table.field(name).unwrap().id, *value);
    }
    row.finish();
}

/// Milliseconds since 1970 of a day.
pub(crate) fn at_day(day: f64) -> i64 {
    (day * DAY_MS_F64) as i64
}

/// Entities by number: an account or a reference of that number, and 0 for every row that names
/// neither.
struct Numbered;

impl Ownership for Numbered {
    fn entities(&self, reach: Reach, named: &[(TableId, &str)], _: OwnedAt, found: &mut Vec<u32>) {
        let accounts = CATALOG.table("accounts").unwrap().id;
        let is_numbered = |table| table == accounts || matches!(reach, Reach::Reference(_));
        for (table, key) in named {
            match key.parse() {
                Ok(number) if is_numbered(*table) => found.push(number),
                _ => found.push(0),
            }
        }
        if named.is_empty() {
            found.push(0);
        }
        found.sort_unstable();
        found.dedup();
    }
}

/// Labels of a plan over rows of the batch, by what was known at a moment, milliseconds; see
/// [`Numbered`].
pub(crate) fn labels_known_by(
    plan: &Plan,
    batch: &RowBatch,
    order: &[usize],
    known_until_ms: i64,
) -> Labels {
    let mut history = LabelHistory::new(plan, &CATALOG);
    for index in order {
        history.offer(batch.row(*index));
    }
    history.known_by(&Numbered, known_until_ms).0
}
