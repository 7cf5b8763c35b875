//! Facts about a cell for people: active members, open deals, the newest events. From state, never
//! from a model.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use leadpulse_graph::{Cell, Graph, Node, Recent};
use leadpulse_schema::units::{AsOf, DAY_MS};
use leadpulse_schema::{Catalog, Feature, Field, Role, Table, Value};

use crate::committee::{Activity, distinguishing, is_present, rank};
use crate::groups::is_person;

/// Window of activity, days: a member with an event within it counts as active.
pub(crate) const ACTIVE_DAYS: i64 = 14;
/// Most active members that are listed.
// The lists of a record are bounded, so that an account of thousands of people has no record of
// megabytes. Why these numbers is unknown.
const LISTED_MEMBERS: usize = 10;
/// Most distinct values of a field that are listed.
const LISTED_VALUES: usize = 24;
/// Most open members that are listed.
const LISTED_OPEN: usize = 8;
/// Most events that are listed.
const LISTED_EVENTS: usize = 8;

/// A person with an event in the last 14 days.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemberFact {
    /// Name of the person's table.
    pub table: String,
    /// Key of the row.
    pub key: String,
    /// Text fields of the current version that are features or labels: field → value.
    pub values: BTreeMap<String, String>,
    /// Time of the newest event, milliseconds.
    pub last_event_ms: i64,
    /// Days (UTC) with an event among the last 14.
    pub active_days: usize,
}

/// The people who were active in the last 14 days. A person with several rows counts once.
///
/// People are the members of tables with e-mail addresses. In a catalog without addresses all
/// members are people, except those of tables with outcomes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CommitteeFact {
    /// Number of active people.
    pub active: usize,
    /// Category field → distinct values among active people, at most 24: ascending if ordinal, else
    /// by name.
    pub by_field: BTreeMap<String, Vec<String>>,
    /// Ordinal field → the highest value among active people.
    pub highest: BTreeMap<String, String>,
    /// The most recently active people, at most 10.
    pub members: Vec<MemberFact>,
}

/// A member of a table with outcomes that is neither won nor lost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OpenFact {
    /// Name of the member's table.
    pub table: String,
    /// Key of the row.
    pub key: String,
    /// Fields as text, without references and addresses; times are milliseconds.
    pub values: BTreeMap<String, String>,
}

/// One of the newest events of a cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventFact {
    /// Event time, milliseconds.
    pub time_ms: i64,
    /// Id of the event, as its record has it.
    pub id: String,
    /// Name of the event table.
    pub table: String,
    /// Kind: the value of the first category field; empty without one.
    pub kind: String,
    /// Name of the owner's table. The owner is the entity that the event belongs to.
    pub owner_table: String,
    /// True if the owner is a person.
    pub by_person: bool,
    /// Key of the owner.
    pub owner: String,
}

/// The facts about a cell at a moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Facts {
    /// Key of the root, if the cell has one.
    pub root: Option<String>,
    /// Name for people: the root's label field.
    pub name: Option<String>,
    /// Fields of the root's current version as text, references and keys included.
    pub values: BTreeMap<String, String>,
    /// The people who were active in the last 14 days.
    pub committee: CommitteeFact,
    /// Members that may still be won, the most recently touched first, at most 8.
    pub open: Vec<OpenFact>,
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

fn values(
    table: &Table,
    node: &Node,
    is_shown: impl Fn(&Field) -> bool,
) -> BTreeMap<String, String> {
    let shown = table.fields.iter().filter(|f| is_shown(f));
    shown
        .filter_map(|f| Some((f.name.clone(), text(node.value(f.id))?)))
        .collect()
}

/// Days (UTC) with an event of any table among the last [`ACTIVE_DAYS`].
fn active_days(node: &Node, as_of: AsOf) -> usize {
    let first = (as_of.ms() - ACTIVE_DAYS * DAY_MS).div_euclid(DAY_MS) as i32 + 1;
    let days: BTreeSet<i32> = node
        .events
        .iter()
        .flat_map(|e| e.active_days())
        .filter(|d| *d >= first)
        .collect();
    days.len()
}

/// Nodes in order of their newest event, newest first; ties in order of keys.
pub(crate) fn by_activity<'a>(
    graph: &Graph,
    nodes: impl Iterator<Item = &'a Node>,
) -> Vec<&'a Node> {
    let mut nodes: Vec<&Node> = nodes.collect();
    let key = |n: &Node| graph.directory().key(n.entity).clone();
    nodes.sort_by(|a, b| {
        b.newest_event_ms()
            .cmp(&a.newest_event_ms())
            .then_with(|| key(a).cmp(&key(b)))
    });
    nodes
}

/// The people of a cell with an event within [`ACTIVE_DAYS`], newest first.
pub(crate) fn active_people<'a>(graph: &Graph, cell: &'a Cell, as_of: AsOf) -> Vec<&'a Node> {
    let catalog = graph.catalog();
    let people: Vec<_> = catalog
        .members()
        .filter(|t| is_person(catalog, t.id))
        .map(|t| t.id)
        .collect();
    let activity = Activity::of(graph, cell);
    let is_one = |n: &&Node| {
        people.contains(&n.table)
            && activity.is_person(n)
            && activity.is_active(n, ACTIVE_DAYS as f64, as_of)
    };
    by_activity(graph, cell.nodes.iter().filter(is_one))
}

/// Members of tables with outcomes whose value is neither won nor lost, the most recently touched
/// first.
pub(crate) fn open_members<'a>(graph: &Graph, cell: &'a Cell) -> Vec<&'a Node> {
    let catalog = graph.catalog();
    let is_open = |n: &&Node| {
        let table = catalog.table_at(n.table);
        let outcome = table
            .outcome
            .as_ref()
            .filter(|_| table.role == Role::Member && is_present(n));
        outcome.is_some_and(|o| {
            n.value(o.field)
                .text()
                .is_none_or(|value| o.of(value).is_none())
        })
    };
    by_activity(graph, cell.nodes.iter().filter(is_open))
}

/// The distinct values of a category field among some members.
pub(crate) struct Distinct<'a> {
    /// The field they came from.
    pub field: &'a Field,
    /// Ascending if ordinal, else by name.
    values: BTreeSet<(usize, &'a str)>,
}

impl<'a> Distinct<'a> {
    /// The values in order: ascending if ordinal, else by name.
    pub(crate) fn values(&self) -> impl Iterator<Item = &'a str> {
        self.values.iter().map(|(_, value)| *value)
    }

    /// The highest declared value of an ordinal field.
    pub(crate) fn highest(&self) -> Option<&'a str> {
        self.values
            .iter()
            .rev()
            .find(|(place, _)| self.field.ordinal && *place != UNRANKED)
            .map(|(_, value)| *value)
    }
}

/// Rank of values that an ordinal field does not declare.
const UNRANKED: usize = usize::MAX;

/// Distinct values of the category fields of some members, by field name.
pub(crate) fn distinct_values<'a>(
    catalog: &'a Catalog,
    members: &[&'a Node],
) -> BTreeMap<&'a str, Distinct<'a>> {
    let mut found: BTreeMap<&str, Distinct<'a>> = BTreeMap::new();
    for node in members {
        for field in distinguishing(catalog.table_at(node.table)) {
            if let Some(value) = node.value(field.id).text() {
                let place = if field.ordinal {
                    rank(field, value).unwrap_or(UNRANKED)
                } else {
                    0
                };
                let distinct = found.entry(&field.name).or_insert_with(|| Distinct {
                    field,
                    values: BTreeSet::new(),
                });
                distinct.values.insert((place, value));
            }
        }
    }
    found
}

impl CommitteeFact {
    fn of(graph: &Graph, cell: &Cell, as_of: AsOf) -> Self {
        let (catalog, directory) = (graph.catalog(), graph.directory());
        let active = active_people(graph, cell, as_of);
        let mut committee = CommitteeFact {
            active: active.len(),
            ..CommitteeFact::default()
        };
        for (name, distinct) in distinct_values(catalog, &active) {
            if let Some(highest) = distinct.highest() {
                committee
                    .highest
                    .insert(name.to_owned(), highest.to_owned());
            }
            committee.by_field.insert(
                name.to_owned(),
                distinct
                    .values()
                    .take(LISTED_VALUES)
                    .map(str::to_owned)
                    .collect(),
            );
        }
        let member = |node: &&Node| {
            let table = catalog.table_at(node.table);
            MemberFact {
                table: table.name.clone(),
                key: directory.key(node.entity).to_string(),
                values: values(table, node, |f| {
                    f.label || matches!(f.feature, Feature::Category | Feature::Text)
                }),
                last_event_ms: node.newest_event_ms().unwrap_or_default(),
                active_days: active_days(node, as_of),
            }
        };
        committee.members = active.iter().take(LISTED_MEMBERS).map(member).collect();
        committee
    }
}

impl Facts {
    /// The facts of a cell as of a moment.
    pub fn of(graph: &Graph, cell: &Cell, as_of: AsOf) -> Self {
        let (catalog, directory) = (graph.catalog(), graph.directory());
        let mut facts = Facts {
            committee: CommitteeFact::of(graph, cell, as_of),
            ..Facts::default()
        };
        if let Some(root) = graph.root_node(cell) {
            let table = catalog.root();
            facts.root = Some(directory.key(root.entity).to_string());
            facts.name = table
                .fields
                .iter()
                .filter(|f| f.label)
                .find_map(|f| text(root.value(f.id)));
            facts.values = values(table, root, |_| true);
        }
        let open = |node: &&Node| {
            let table = catalog.table_at(node.table);
            OpenFact {
                table: table.name.clone(),
                key: directory.key(node.entity).to_string(),
                values: values(table, node, |f| {
                    f.reference.is_none()
                        && f.match_by.is_none()
                        && Some(f.id) != table.changed_fields
                }),
            }
        };
        facts.open = open_members(graph, cell)
            .iter()
            .take(LISTED_OPEN)
            .map(open)
            .collect();
        let mut events: Vec<(&Node, &Recent)> = cell
            .nodes
            .iter()
            .flat_map(|node| node.recent().iter().map(move |r| (node, r)))
            .collect();
        events.sort_by(|(_, a), (_, b)| b.time_ms.cmp(&a.time_ms).then_with(|| a.id.cmp(&b.id)));
        let event = |(node, r): &(&Node, &Recent)| EventFact {
            time_ms: r.time_ms,
            id: r.id.to_string(),
            table: catalog.tables[r.table as usize].name.clone(),
            kind: r.kind.to_string(),
            owner_table: catalog.table_at(node.table).name.clone(),
            by_person: is_person(catalog, node.table),
            owner: directory.key(node.entity).to_string(),
        };
        facts.events = events.iter().take(LISTED_EVENTS).map(event).collect();
        facts
    }
}
