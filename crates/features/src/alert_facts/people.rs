//! The people of an account as alerts read them: who is active, of which rank, and from where.

use std::collections::{BTreeMap, BTreeSet};

use leadpulse_graph::{Cell, Graph, Node};
use leadpulse_policy::{AlertFacts, Arrival};
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{RelationKind, Table};

use crate::committee::{distinguishing, rank};
use crate::facts::{active_people, distinct_values};

/// Share of the ordered values of a field that are of high rank: the top quarter, one at least.
const HIGH_RANK: f64 = 0.75;

/// Writes the facts about active people.
pub(super) fn write(graph: &Graph, cell: &Cell, as_of: AsOf, facts: &mut AlertFacts) {
    let catalog = graph.catalog();
    let active = active_people(graph, cell, as_of);
    facts.active_people = Some(u32::try_from(active.len()).unwrap_or(u32::MAX));
    for (name, distinct) in distinct_values(catalog, &active) {
        let values: Vec<String> = distinct.values().map(str::to_owned).collect();
        if let Some(highest) = distinct.highest() {
            let order = &distinct.field.values;
            let at = order.iter().position(|value| value == highest);
            let reached: BTreeSet<String> = order
                .iter()
                .take(at.map_or(0, |at| at + 1))
                .cloned()
                .collect();
            facts.reached.insert(name.to_owned(), reached);
        }
        facts.by_field.insert(name.to_owned(), values);
    }
    let mut executives: BTreeMap<String, i64> = BTreeMap::new();
    for person in &active {
        let Some(first_ms) = first_event_ms(cell, person) else {
            continue;
        };
        let key = graph.directory().key(person.entity).to_string();
        if is_of_high_rank(catalog.table_at(person.table), person) {
            executives.insert(key.clone(), first_ms);
        }
        if let Some(arrival) = arrival(graph, person, key, first_ms) {
            facts.from_elsewhere.push(arrival);
        }
    }
    let mut executives: Vec<Arrival> = executives
        .into_iter()
        .map(|(key, at_ms)| Arrival {
            key,
            from: None,
            at_ms,
        })
        .collect();
    executives.sort_by(|a, b| b.at_ms.cmp(&a.at_ms).then_with(|| a.key.cmp(&b.key)));
    facts.executives = executives;
    facts
        .from_elsewhere
        .sort_by(|a, b| b.at_ms.cmp(&a.at_ms).then_with(|| a.key.cmp(&b.key)));
}

/// The first event of a person on any of its rows, milliseconds.
fn first_event_ms(cell: &Cell, person: &Node) -> Option<i64> {
    let rows = cell
        .nodes
        .iter()
        .filter(|node| node.survivor == person.survivor);
    let events = rows.flat_map(|node| node.events.iter());
    events
        .filter(|state| !state.is_empty())
        .map(|state| state.oldest_ms)
        .min()
}

/// True if an ordered field has a value of the top quarter of its order.
fn is_of_high_rank(table: &Table, person: &Node) -> bool {
    let mut ordered = distinguishing(table).filter(|field| field.ordinal);
    ordered.any(|field| {
        let place = person
            .value(field.id)
            .text()
            .and_then(|value| rank(field, value));
        place.is_some_and(|place| {
            let count = field.values.len();
            count > 1 && (place + 1) as f64 >= HIGH_RANK * count as f64
        })
    })
}

/// The arrival of a person who belonged to another account, acted before the move, and acts since.
fn arrival(graph: &Graph, person: &Node, key: String, first_ms: i64) -> Option<Arrival> {
    let is_previous = |relation| {
        let relations = &graph.catalog().relations;
        relations
            .iter()
            .any(|one| one.id == relation && one.kind == RelationKind::Previous)
    };
    let edges = graph.edges(person);
    let newest = edges
        .iter()
        .filter(|edge| is_previous(edge.relation))
        .max_by_key(|edge| (edge.since_ms, graph.directory().key(edge.to)))?;
    let acts_since = person.newest_event_ms()? >= newest.since_ms;
    (first_ms < newest.since_ms && acts_since).then(|| Arrival {
        key,
        from: Some(graph.directory().key(newest.to).to_string()),
        at_ms: newest.since_ms,
    })
}
