//! Evidence from current fields: of the explained entity, of its root, of the members.

use std::collections::BTreeMap;

use leadpulse_graph::Node;
use leadpulse_schema::{Feature, Field, Table, TableId, Value};

use super::values::FIELD;
use super::{EvidenceDraft, Rank, Scene, values};
use crate::fields::is_time;
use crate::{groups, words};

/// Most items of a set that are named.
const LISTED: usize = 5;
/// Most values of members that are named.
const MEMBER_VALUES: usize = 3;

/// Lines about all fields with columns.
pub(super) fn fields(scene: &Scene<'_>, found: &mut EvidenceDraft<'_>) {
    match scene.member {
        Some(member) => {
            own(scene, member, Rank::Own, found);
            scene
                .root
                .into_iter()
                .for_each(|root| own(scene, root, Rank::Others, found));
        }
        None => {
            scene
                .root
                .into_iter()
                .for_each(|root| own(scene, root, Rank::Own, found));
            scene
                .catalog
                .members()
                .for_each(|table| of_members(scene, table, found));
        }
    }
}

fn own(scene: &Scene<'_>, node: &Node, rank: Rank, found: &mut EvidenceDraft<'_>) {
    let table = scene.catalog.table_at(node.table);
    for field in &table.fields {
        let Some(text) = phrase(scene, table, field, node) else {
            continue;
        };
        let group = match node.value(field.id) {
            Value::Text(value) => groups::of_field_value(field, value),
            _ => groups::of_field(field),
        };
        if rank == Rank::Own {
            own_value(table, field, node, &group, found);
        }
        found.line(&group, rank, text);
    }
}

/// The value of a category or number of the explained entity itself. Ages move with time alone, and
/// free text and lists are no values to compare.
fn own_value(
    table: &Table,
    field: &Field,
    node: &Node,
    group: &str,
    found: &mut EvidenceDraft<'_>,
) {
    if is_time(table, field) || table.outcome.as_ref().is_some_and(|o| o.field == field.id) {
        return;
    }
    let value = node.value(field.id);
    let text = match field.feature {
        Feature::Category => value.text().and_then(words::value),
        Feature::Number => value.number().map(words::number),
        Feature::None | Feature::Time | Feature::Set | Feature::Text => None,
    };
    let order = if field.ordinal {
        &field.values[..]
    } else {
        &[]
    };
    if let Some(text) = text {
        let label = words::name(&field.name);
        values::text(found, group, label, FIELD, (text, order));
    }
}

/// A field in words: `employee count 12,000`, `region North America`, `created 240 days ago`.
fn phrase(scene: &Scene<'_>, table: &Table, field: &Field, node: &Node) -> Option<String> {
    let value = node.value(field.id);
    if is_time(table, field) {
        // The time of a change says nothing by itself.
        let Value::Time(time_ms) = value else {
            return None;
        };
        return (Some(field.id) != table.time)
            .then(|| format!("{} {}", words::moment(&field.name), scene.ago(time_ms)));
    }
    let name = words::name(&field.name);
    match field.feature {
        Feature::None | Feature::Time => None,
        Feature::Number => match value {
            Value::Bool(truth) => Some(format!("{name}: {}", if truth { "yes" } else { "no" })),
            _ => value
                .number()
                .map(|x| format!("{name} {}", words::number(x))),
        },
        Feature::Category | Feature::Set | Feature::Text => match value {
            Value::Text(text) => words::value(text).map(|v| format!("{name} {v}")),
            Value::List(items) => {
                let items: Vec<String> = items.iter().filter_map(words::value).collect();
                (!items.is_empty()).then(|| format!("{name} {}", words::listed(&items, LISTED)))
            }
            _ => None,
        },
    }
}

/// Lines about the members of a table: the greatest numbers, the most frequent categories.
fn of_members(scene: &Scene<'_>, table: &Table, found: &mut EvidenceDraft<'_>) {
    // Other lines name open members one by one, and people as a committee.
    if table.outcome.is_some() {
        return;
    }
    let committee = groups::is_person(scene.catalog, table.id)
        .then(|| groups::of_members(scene.catalog, table.id));
    for field in table.fields.iter().filter(|f| !is_time(table, f)) {
        let group = groups::of_field(field);
        let text = match field.feature {
            Feature::Number => numbers(scene, table.id, field),
            Feature::Category if committee.as_ref() != Some(&group) => {
                categories(scene, table.id, field)
            }
            _ => None,
        };
        if let Some(text) = text {
            found.line(
                &group,
                Rank::Others,
                format!(
                    "{}: {} {text}",
                    words::name(&table.name),
                    words::name(&field.name)
                ),
            );
        }
    }
}

fn numbers(scene: &Scene<'_>, table: TableId, field: &Field) -> Option<String> {
    let mut values: Vec<f64> = scene
        .members(table)
        .filter_map(|n| n.value(field.id).number())
        .collect();
    values.sort_unstable_by(|a, b| b.total_cmp(a));
    let named: Vec<String> = values.iter().map(|x| words::number(*x)).collect();
    (!named.is_empty()).then(|| words::listed(&named, MEMBER_VALUES))
}

fn categories(scene: &Scene<'_>, table: TableId, field: &Field) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    scene
        .members(table)
        .filter_map(|n| n.value(field.id).text())
        .for_each(|value| *counts.entry(value).or_default() += 1);
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let named: Vec<String> = counts
        .iter()
        .filter_map(|(value, n)| Some(format!("{n} × {}", words::value(value)?)))
        .collect();
    (!named.is_empty()).then(|| words::listed(&named, MEMBER_VALUES))
}
