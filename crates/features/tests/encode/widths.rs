//! Widths: the columns of the shipped CRM, and columns that cannot be other than zero.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use leadpulse_features::{FeaturePlan, FeatureSpec, Layout, VocabularyBuilder};
use leadpulse_graph::{GraphOptions, StateLayout};
use leadpulse_schema::{Catalog, Operation, Position, RowBatch, Value};

fn shipped() -> Arc<Catalog> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
    let mut files: Vec<(String, String)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "avsc"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(n, t)| (n.as_str(), t.as_str()))
        .collect();
    Arc::new(Catalog::from_json(&files).unwrap())
}

/// Columns by group, for the message of a failure.
fn by_group(layout: &Layout) -> String {
    let mut text = String::new();
    let rows = std::iter::once(("root", &layout.root));
    let members = layout.members.iter().map(|m| (m.name.as_str(), &m.columns));
    for (row, columns) in rows.chain(members) {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for column in columns {
            let name = column.name.as_str();
            let part = name.split(['/', '=', '#']).next().unwrap();
            *counts.entry(part).or_default() += 1;
        }
        text += &format!("{row} {}: {counts:?}\n", columns.len());
    }
    text
}

/// One event row of the shipped CRM.
fn event(catalog: &Catalog, table: &str, values: &[(&str, Value<'_>)]) -> RowBatch {
    let table = catalog.table(table).unwrap();
    let position = Position {
        partition: 0,
        offset: 0,
    };
    let mut batch = RowBatch::new();
    let mut row = batch.start(catalog, table.id, Operation::Upsert, position, 0);
    for (field, value) in values {
        row.set(table.field(field).unwrap().id, *value);
    }
    row.finish();
    batch
}

fn seen(catalog: &Arc<Catalog>, rows: &[RowBatch]) -> FeatureSpec {
    let state = StateLayout::new(catalog.clone(), &GraphOptions::default());
    let mut builder = VocabularyBuilder::default();
    for batch in rows {
        batch.iter().for_each(|row| builder.observe(&state, row));
    }
    builder.finish(&state)
}

fn layout(catalog: &Arc<Catalog>, spec: FeatureSpec) -> Layout {
    let plan = FeaturePlan::new(catalog.clone(), &GraphOptions::default(), spec);
    plan.layout().clone()
}

/// Every value that the schemas declare, and one that they do not in each open category.
fn every_declared_value(catalog: &Catalog) -> Vec<RowBatch> {
    let mut rows = Vec::new();
    for (table, field, owner) in [
        ("activities", "type", "contact_id"),
        ("activities", "channel", "lead_id"),
        ("content_views", "content_type", "contact_id"),
        ("content_views", "content_type", "lead_id"),
        ("product_usage", "kind", "contact_id"),
        ("opportunity_stage_changes", "to_stage", "opportunity_id"),
    ] {
        let of_field = catalog.table(table).unwrap().field(field).unwrap();
        for value in &of_field.values {
            let number = match table {
                "activities" => "duration_seconds",
                "opportunity_stage_changes" => "amount",
                _ => "seconds",
            };
            let row = [
                (field, Value::Text(value)),
                (owner, Value::Text("x")),
                (number, Value::Double(2.0)),
            ];
            rows.push(event(catalog, table, &row));
        }
    }
    rows
}

#[test]
fn the_shipped_crm_has_at_most_twelve_groups() {
    let catalog = shipped();
    let rows = every_declared_value(&catalog);
    let layout = layout(&catalog, seen(&catalog, &rows));
    let codes: Vec<&str> = layout.groups.iter().map(|g| g.code.as_str()).collect();
    assert!(codes.len() <= 12, "{} groups: {codes:?}", codes.len());
    let kinds = layout.groups.iter();
    let kinds: Vec<String> = kinds
        .map(|group| format!("{} {}", group.code, group.kind.name()))
        .collect();
    let expected = [
        "committee behaviour",
        "demo_and_meetings behaviour",
        "early_engagement behaviour",
        "firmographics fit",
        "high_intent_content behaviour",
        "history fit",
        "industry_peers relations",
        "opportunities timing",
        "order behaviour",
        "product_usage behaviour",
        "season timing",
        "technology relations",
    ];
    assert_eq!(kinds, expected);
    let existence = layout.members.iter();
    let existence: Vec<(&str, &str)> = existence
        .map(|m| (m.name.as_str(), codes[m.existence]))
        .collect();
    let people = "committee";
    let expected = [
        ("contacts", people),
        ("leads", people),
        ("opportunities", "opportunities"),
    ];
    assert_eq!(existence, expected);
}

#[test]
fn the_shipped_crm_has_few_columns() {
    let catalog = shipped();
    let rows = every_declared_value(&catalog);
    let layout = layout(&catalog, seen(&catalog, &rows));
    assert!(layout.root.len() <= 360, "{}", by_group(&layout));
    for member in &layout.members {
        assert!(member.columns.len() <= 160, "{}", by_group(&layout));
    }
}

#[test]
fn what_no_training_row_has_has_no_columns() {
    let catalog = shipped();
    let row = [
        ("type", Value::Text("web_visit")),
        ("contact_id", Value::Text("c")),
    ];
    let spec = seen(&catalog, &[event(&catalog, "activities", &row)]);
    let layout = layout(&catalog, spec);
    let has = |columns: &[leadpulse_features::Column], prefix: &str| {
        columns.iter().any(|c| c.name.starts_with(prefix))
    };
    for (prefix, expected) in [
        ("activities/2d/sum", true),
        ("activities.type=web_visit/", true),
        ("activities.type=demo_request/", false),
        ("activities.type#", false),
        ("activities.duration_seconds", false),
        ("product_usage", false),
        ("industries/activities", true),
        ("industries/product_usage", false),
    ] {
        assert_eq!(has(&layout.root, prefix), expected, "{prefix}");
    }
    for member in &layout.members {
        let is_carrier = member.name == "contacts";
        assert_eq!(has(&member.columns, "activities/"), is_carrier);
    }
}

#[test]
fn events_of_a_row_that_becomes_another_may_lie_there() {
    let catalog = shipped();
    let row = [
        ("type", Value::Text("web_visit")),
        ("lead_id", Value::Text("l")),
    ];
    let spec = seen(&catalog, &[event(&catalog, "activities", &row)]);
    let layout = layout(&catalog, spec);
    for member in &layout.members {
        let has = member.columns.iter().any(|c| c.name == "activities/2d/sum");
        assert_eq!(has, member.name != "opportunities", "{}", member.name);
    }
}
