//! A small market for the tests of planner and history.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use leadpulse_schema::{Catalog, Operation, Position, RowBatch, Value};

use crate::{Diagnostic, Plan, parse, plan};

const ACCOUNTS: &str = r#"{"type":"record","name":"Account","leadpulse":{"table":"accounts","role":"root","aliases":["account","company"]},"fields":[
  {"name":"account_id","type":"long","leadpulse":{"key":true}},
  {"name":"updated_at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"industry","type":["null","string"],"default":null},
  {"name":"employees","type":["null","long"],"default":null},
  {"name":"is_customer","type":["null","boolean"],"default":null},
  {"name":"tech_stack","type":{"type":"array","items":"string"},"default":[]}]}"#;
const CONTACTS: &str = r#"{"type":"record","name":"Contact","leadpulse":{"table":"contacts","role":"member","aliases":["contact"]},"fields":[
  {"name":"contact_id","type":"string","leadpulse":{"key":true}},
  {"name":"account_id","type":["null","long"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
  {"name":"created_at","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null,"leadpulse":{"static":true}},
  {"name":"title","type":["null","string"],"default":null,"leadpulse":{"feature":"text"}},
  {"name":"tier","type":{"type":"enum","name":"Tier","symbols":["Gold","Silver"]}}]}"#;
const LEADS: &str = r#"{"type":"record","name":"Lead","leadpulse":{"table":"leads","role":"member","aliases":["lead"]},"fields":[
  {"name":"lead_id","type":"string","leadpulse":{"key":true}},
  {"name":"updated_at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"account_id","type":["null","long"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
  {"name":"referred_by","type":["null","long"],"default":null,"leadpulse":{"ref":"accounts"}},
  {"name":"converted_contact_id","type":["null","string"],"default":null,"leadpulse":{"ref":"contacts","became":true}},
  {"name":"status","type":["null","string"],"default":null,"leadpulse":{"values":["Open","MQL","Closed Won","Closed Lost"]}},
  {"name":"phone","type":["null","string"],"default":null,"leadpulse":{"feature":"none"}},
  {"name":"changed","type":{"type":"array","items":"string"},"default":[],"leadpulse":{"changed_fields":true}}]}"#;
const OPPORTUNITIES: &str = r#"{"type":"record","name":"Opportunity","leadpulse":{"table":"opportunities","role":"member","aliases":["opportunity"],"outcome":{"field":"stage","won":["Closed Won"],"lost":["Closed Lost"]}},"fields":[
  {"name":"opportunity_id","type":"string","leadpulse":{"key":true}},
  {"name":"created_at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"account_id","type":["null","long"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
  {"name":"contact_id","type":["null","string"],"default":null,"leadpulse":{"ref":"contacts"}},
  {"name":"lead_ids","type":{"type":"array","items":"string"},"default":[],"leadpulse":{"ref":"leads"}},
  {"name":"stage","type":["null","string"],"default":null,"leadpulse":{"values":["Discovery","Closed Won","Closed Lost"]}},
  {"name":"amount","type":["null","double"],"default":null}]}"#;
const ACTIVITIES: &str = r#"{"type":"record","name":"Activity","leadpulse":{"table":"activities","role":"event","aliases":["activity"]},"fields":[
  {"name":"activity_id","type":"string","leadpulse":{"key":true}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"contact_id","type":["null","string"],"default":null,"leadpulse":{"ref":"contacts","owner":true}},
  {"name":"lead_id","type":["null","string"],"default":null,"leadpulse":{"ref":"leads","owner":true}},
  {"name":"retracted","type":"boolean","default":false,"leadpulse":{"retraction":true}},
  {"name":"type","type":["null","string"],"default":null}]}"#;
const INVOICES: &str = r#"{"type":"record","name":"Invoice","leadpulse":{"table":"invoices","role":"event"},"fields":[
  {"name":"invoice","type":"string","leadpulse":{"key":true}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"account_id","type":["null","long"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
  {"name":"sku","type":["null","string"],"default":null,"leadpulse":{"ref":"products"}},
  {"name":"is_cancel","type":["null","long"],"default":null},
  {"name":"amount","type":["null","double"],"default":null}]}"#;
const PRODUCTS: &str = r#"{"type":"record","name":"Product","leadpulse":{"table":"products","role":"hub"},"fields":[
  {"name":"sku","type":"string","leadpulse":{"key":true}},
  {"name":"price","type":["null","double"],"default":null}]}"#;

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    let files = [
        ("accounts.avsc", ACCOUNTS),
        ("contacts.avsc", CONTACTS),
        ("leads.avsc", LEADS),
        ("opportunities.avsc", OPPORTUNITIES),
        ("activities.avsc", ACTIVITIES),
        ("invoices.avsc", INVOICES),
        ("products.avsc", PRODUCTS),
    ];
    Catalog::from_json(&files).unwrap_or_else(|faults| panic!("{faults:?}"))
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

/// Adds a row of `table`, known `known_day` days after 1970, to the batch; days count as times for time fields.
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
    (day * 86_400_000.0) as i64
}
