//! What people are told about a cell: who is active, what happened last. From state, never from a model.

use std::collections::BTreeMap;

use serde::Serialize;

use leadpulse_graph::{Cell, DAY_MS, Graph, Node};
use leadpulse_schema::{Feature, Value};

/// A member counts as active if it had an event within this long.
const ACTIVE_MS: i64 = 14 * DAY_MS;
/// At most so many active members are listed.
const LISTED_MEMBERS: usize = 10;
/// At most so many events are listed.
const LISTED_EVENTS: usize = 8;

/// An active member.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemberFact {
    /// Its table.
    pub table: String,
    /// Its key.
    pub key: String,
    /// Text fields of its current version that are features or labels: field → value.
    pub values: BTreeMap<String, String>,
    /// Its newest event, milliseconds.
    pub last_event_ms: i64,
    /// Days (UTC) with an event among the last 14.
    pub active_days: usize,
}

/// A recent event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventFact {
    /// When it happened, milliseconds.
    pub time_ms: i64,
    /// Its id.
    pub id: String,
    /// Its table.
    pub table: String,
    /// Its kind (its first category), if any.
    pub kind: String,
    /// Table of the entity it hangs on.
    pub owner_table: String,
    /// Key of the entity it hangs on.
    pub owner: String,
}

/// What is known about a cell at a moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Facts {
    /// Key of the root, if the cell has one.
    pub root: Option<String>,
    /// What people call it: the root's label field.
    pub name: Option<String>,
    /// Fields of the root's current version, as text. References and keys included.
    pub values: BTreeMap<String, String>,
    /// Members active in the last 14 days: how many, by table.
    pub active_members: BTreeMap<String, usize>,
    /// Distinct values among them: `table.field` → values, sorted.
    pub active_values: BTreeMap<String, Vec<String>>,
    /// The most recently active of them, at most 10.
    pub members: Vec<MemberFact>,
    /// The newest events in the cell, newest first, at most 8.
    pub events: Vec<EventFact>,
}

fn text(value: Value<'_>) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Bool(b) => Some(b.to_string()),
        Value::Long(n) => Some(n.to_string()),
        Value::Double(x) => Some(x.to_string()),
        Value::Time(t) => Some(t.to_string()),
        Value::Text(t) => Some(t.to_owned()),
        Value::List(items) => Some(items.iter().collect::<Vec<_>>().join(", ")),
    }
}

/// Days (UTC) with an event of any table within [`ACTIVE_MS`].
fn active_days(node: &Node, as_of_ms: i64) -> usize {
    let first = (as_of_ms - ACTIVE_MS).div_euclid(DAY_MS) as i32 + 1;
    let days: std::collections::BTreeSet<i32> = node.events.iter().flat_map(|e| e.days.iter().copied()).filter(|d| *d >= first).collect();
    days.len()
}

impl Facts {
    /// The facts of a cell as of a moment.
    pub fn of(graph: &Graph, cell: &Cell, as_of_ms: i64) -> Self {
        let (catalog, directory) = (graph.catalog(), graph.directory());
        let mut facts = Facts::default();
        if let Some(root) = cell.anchor_node().filter(|n| n.table == catalog.root().id) {
            let table = catalog.root();
            facts.root = Some(directory.key(root.entity).to_string());
            facts.name = table.fields.iter().filter(|f| f.label).find_map(|f| text(root.value(f.id)));
            facts.values = table.fields.iter().filter_map(|f| Some((f.name.clone(), text(root.value(f.id))?))).collect();
        }
        let is_active = |n: &&Node| n.newest_event_ms().is_some_and(|t| as_of_ms.saturating_sub(t) <= ACTIVE_MS);
        let mut active: Vec<&Node> = cell.nodes.iter().filter(|n| n.entity != cell.anchor && n.is_known()).filter(is_active).collect();
        active.sort_by(|a, b| {
            b.newest_event_ms().cmp(&a.newest_event_ms()).then_with(|| directory.key(a.entity).cmp(directory.key(b.entity)))
        });
        for node in &active {
            let table = catalog.table_at(node.table);
            *facts.active_members.entry(table.name.clone()).or_default() += 1;
            for field in table.fields.iter().filter(|f| f.feature == Feature::Category) {
                if let Some(value) = node.value(field.id).text() {
                    let values = facts.active_values.entry(format!("{}.{}", table.name, field.name)).or_default();
                    if let Err(at) = values.binary_search_by(|v| v.as_str().cmp(value)) {
                        values.insert(at, value.to_owned());
                    }
                }
            }
        }
        facts.members = active
            .iter()
            .take(LISTED_MEMBERS)
            .map(|node| {
                let table = catalog.table_at(node.table);
                let shown = |f: &&leadpulse_schema::Field| f.label || matches!(f.feature, Feature::Category | Feature::Text);
                MemberFact {
                    table: table.name.clone(),
                    key: directory.key(node.entity).to_string(),
                    values: table.fields.iter().filter(shown).filter_map(|f| Some((f.name.clone(), text(node.value(f.id))?))).collect(),
                    last_event_ms: node.newest_event_ms().unwrap_or_default(),
                    active_days: active_days(node, as_of_ms),
                }
            })
            .collect();
        let mut events: Vec<EventFact> = cell
            .nodes
            .iter()
            .flat_map(|node| {
                node.recent.iter().map(|r| EventFact {
                    time_ms: r.time_ms,
                    id: r.id.to_string(),
                    table: catalog.tables[r.table as usize].name.clone(),
                    kind: r.kind.to_string(),
                    owner_table: catalog.table_at(node.table).name.clone(),
                    owner: directory.key(node.entity).to_string(),
                })
            })
            .collect();
        events.sort_by(|a, b| b.time_ms.cmp(&a.time_ms).then_with(|| a.id.cmp(&b.id)));
        events.truncate(LISTED_EVENTS);
        facts.events = events;
        facts
    }
}
