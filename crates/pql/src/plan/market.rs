//! A small market for the tests of the planner.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use leadpulse_schema::Catalog;

use crate::{Diagnostic, Plan, parse, plan};

const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/market");

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    Catalog::load(Path::new(SCHEMAS)).unwrap_or_else(|faults| panic!("{faults:?}"))
});

/// Accounts with contacts, leads, opportunities; activities and invoices; products as a hub.
pub(crate) fn catalog() -> Catalog {
    CATALOG.clone()
}

/// The named targets of the tests.
pub(crate) fn names() -> BTreeMap<String, String> {
    [
        (
            "will_convert",
            "COUNT(opportunities.* WHERE opportunities.stage = 'Closed Won', 0, 90, days) > 0",
        ),
        (
            "conversion",
            "BOOL(leads.status = 'Closed Won', 0, 90, days)",
        ),
        ("revenue", "SUM(invoices.amount, 0, 90, days)"),
        ("chicken", "NOT egg"),
        ("egg", "chicken OR will_convert"),
        ("typo", "COUNT(invoicess.*, 0, 90, days) > 0"),
        ("unparsable", "COUNT(invoices.*"),
    ]
    .map(|(name, text)| (name.to_owned(), text.to_owned()))
    .into()
}

pub(crate) fn planned(query: &str) -> Result<Plan, Diagnostic> {
    parse(query).and_then(|query| plan(&query, &CATALOG, &names()))
}
