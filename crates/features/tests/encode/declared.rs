//! Parts of a schema that became features late: times of events, references to small hubs, rows of
//! hubs, the clock of the moment.

use std::sync::Arc;

use leadpulse_features::{FeaturePlan, FeatureSpec, VocabularyBuilder};
use leadpulse_graph::{CellRef, DAY_MS, Graph, GraphOptions, StateLayout, Tracking};
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Catalog, Operation, Position, RowBatch, Value};

const SCHEMAS: [(&str, &str); 4] = [
    (
        "customer.avsc",
        r#"{"type":"record","name":"Customer","leadpulse":{"table":"customers","role":"root"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"depot","type":["null","string"],"default":null,"leadpulse":{"ref":"depots"}}]}"#,
    ),
    (
        "depot.avsc",
        r#"{"type":"record","name":"Depot","leadpulse":{"table":"depots","role":"hub"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"size","type":["null","double"],"default":null},
      {"name":"opened","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null},
      {"name":"kinds","type":["null",{"type":"array","items":"string"}],"default":null,"leadpulse":{"feature":"set"}},
      {"name":"city","type":["null","string"],"default":null,"leadpulse":{"ref":"cities"}}]}"#,
    ),
    (
        "city.avsc",
        r#"{"type":"record","name":"City","leadpulse":{"table":"cities","role":"hub"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}}]}"#,
    ),
    (
        "order.avsc",
        r#"{"type":"record","name":"Order","leadpulse":{"table":"orders","role":"event"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
      {"name":"due","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null},
      {"name":"depot","type":["null","string"],"default":null,"leadpulse":{"ref":"depots"}},
      {"name":"customer","type":"string","leadpulse":{"ref":"customers","owner":true}}]}"#,
    ),
];
/// A Monday, 06:00 UTC.
const NOW_MS: i64 = 1_731_304_800_000;

fn catalog() -> Arc<Catalog> {
    Arc::new(Catalog::from_json(&SCHEMAS).unwrap())
}

fn row(catalog: &Catalog, table: &str, values: &[(&str, Value<'_>)], into: &mut RowBatch) {
    let table = catalog.table(table).unwrap();
    let position = Position {
        partition: u32::from(table.id.0),
        offset: 0,
    };
    let mut row = into.start(catalog, table.id, Operation::Upsert, position, NOW_MS);
    for (field, value) in values {
        row.set(table.field(field).unwrap().id, *value);
    }
    row.finish();
}

/// The numbers of the customer "a" by the name of their columns.
fn numbers(rows: &RowBatch, spec: FeatureSpec) -> Vec<(String, f32)> {
    let (catalog, options) = (catalog(), GraphOptions::default().validated().unwrap());
    let plan = FeaturePlan::new(catalog.clone(), &options, spec);
    let mut graph = Graph::new(catalog.clone(), options, Vec::new(), Tracking::Off);
    graph.apply(rows, None);
    graph.advance(AsOf::from_ms(NOW_MS));
    let (at, _): (CellRef, _) = graph.find(catalog.root().id, "a").unwrap();
    let batch = plan.encode(&graph, &[at], AsOf::from_ms(NOW_MS), &[]);
    let names = plan.layout().root.iter().map(|c| c.name.clone());
    names.zip(batch.root).collect()
}

fn number(numbers: &[(String, f32)], name: &str) -> Option<f32> {
    numbers.iter().find(|(n, _)| n == name).map(|(_, x)| *x)
}

#[test]
fn a_time_of_an_event_counts_as_days_from_the_event() {
    let mut rows = RowBatch::new();
    for (id, days) in [("o1", 3), ("o2", -1)] {
        let values = [
            ("id", Value::Text(id)),
            ("customer", Value::Text("a")),
            ("at", Value::Time(NOW_MS)),
            ("due", Value::Time(NOW_MS + days * DAY_MS)),
        ];
        row(&catalog(), "orders", &values, &mut rows);
    }
    let numbers = numbers(&rows, FeatureSpec::default());
    let close = |name: &str, expected: f64| {
        let found = number(&numbers, name).unwrap();
        assert!(
            (f64::from(found) - expected).abs() < 1e-5,
            "{name}: {found}"
        );
    };
    // Three days ahead and one behind.
    close("orders.due/90d/sum", 2.0_f64.ln_1p());
    close(
        "orders.due/90d/mean",
        (3.0_f64.ln_1p() - 1.0_f64.ln_1p()) / 2.0,
    );
    assert!(
        !numbers
            .iter()
            .any(|(name, _)| name.starts_with("orders.at"))
    );
}

#[test]
fn a_reference_to_a_small_hub_is_a_category_and_to_a_large_one_none() {
    let catalog = catalog();
    let state = StateLayout::new(catalog.clone(), &GraphOptions::default());
    for (depots, expected) in [(3, Some(1.0)), (40, None)] {
        let mut rows = RowBatch::new();
        for customer in 0..20 * depots {
            let (id, depot) = (format!("c{customer}"), format!("d{}", customer % depots));
            let values = [("id", Value::Text(&id)), ("depot", Value::Text(&depot))];
            row(&catalog, "customers", &values, &mut rows);
        }
        let own = [("id", Value::Text("a")), ("depot", Value::Text("d1"))];
        row(&catalog, "customers", &own, &mut rows);
        let mut builder = VocabularyBuilder::default();
        rows.iter().for_each(|row| builder.observe(&state, row));
        let numbers = numbers(&rows, builder.finish(&state));
        assert_eq!(number(&numbers, "customers.depot=d1"), expected);
        assert_eq!(
            number(&numbers, "customers.depot=d2"),
            expected.map(|_| 0.0)
        );
    }
}

#[test]
fn the_clock_of_the_moment_has_columns_if_a_bundle_asks() {
    let mut rows = RowBatch::new();
    row(
        &catalog(),
        "customers",
        &[("id", Value::Text("a"))],
        &mut rows,
    );
    let with = |has_clock| {
        let spec = FeatureSpec {
            has_clock,
            ..FeatureSpec::default()
        };
        numbers(&rows, spec)
    };
    let hour = number(&with(true), "moment/hour_sin").unwrap();
    assert!((hour - 1.0).abs() < 1e-5, "a quarter of a day: {hour}");
    assert_eq!(number(&with(false), "moment/hour_sin"), None);
}

#[test]
fn rows_of_the_hubs_that_a_cell_touches_count_by_its_touches() {
    let catalog = catalog();
    let mut rows = RowBatch::new();
    // Two orders at d1, one at d2, one at a depot without a row.
    for (id, depot) in [("o1", "d1"), ("o2", "d1"), ("o3", "d2"), ("o4", "d3")] {
        let values = [
            ("id", Value::Text(id)),
            ("customer", Value::Text("a")),
            ("at", Value::Time(NOW_MS)),
            ("depot", Value::Text(depot)),
        ];
        row(&catalog, "orders", &values, &mut rows);
    }
    let of_first = [
        ("id", Value::Text("d1")),
        ("size", Value::Double(9.0)),
        ("opened", Value::Time(NOW_MS - 3 * DAY_MS)),
        ("city", Value::Text("Graz")),
    ];
    row(&catalog, "depots", &of_first, &mut rows);
    let of_second = [
        ("id", Value::Text("d2")),
        ("size", Value::Double(0.0)),
        ("city", Value::Text("Wien")),
    ];
    row(&catalog, "depots", &of_second, &mut rows);
    let state = StateLayout::new(catalog.clone(), &GraphOptions::default());
    let mut builder = VocabularyBuilder::default();
    rows.iter().for_each(|row| builder.observe(&state, row));
    let mut spec = builder.finish(&state);
    assert_eq!(spec.vocabularies["depots.city"], ["Graz", "Wien"]);
    spec.vocabularies.get_mut("depots.city").unwrap().pop();
    let numbers = numbers(&rows, spec);
    let close = |name: &str, expected: f64| {
        let found = number(&numbers, name).unwrap_or_else(|| panic!("{name}: {numbers:?}"));
        assert!(
            (f64::from(found) - expected).abs() < 1e-5,
            "{name}: {found}"
        );
    };
    close("depots/size/mean", 2.0 / 3.0 * 10.0_f64.ln());
    close("depots/size/known", 0.75);
    close("depots/opened/mean", 4.0_f64.ln());
    close("depots/opened/known", 0.5);
    close("depots/city=Graz/share", 2.0 / 3.0);
    close("depots/city/other", 1.0 / 3.0);
    close("depots/kinds/known", 0.0);
}
