//! Seats of a buying committee: the people of a cell by department and seniority, or by the two
//! fields of a schema that stand for them.

use std::collections::BTreeMap;

use serde::Serialize;

use leadpulse_graph::{Cell, Graph, Node};
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Catalog, Field};

use crate::committee::{Activity, distinguishing};
use crate::facts::{ACTIVE_DAYS, by_activity};
use crate::groups::is_person;

/// Most people that are listed.
const LISTED_PEOPLE: usize = 200;
/// Fields that divide people, where a schema has them: the column, then the row of the table.
const USUAL_FIELDS: [&str; 2] = ["department", "seniority"];

/// The people of a cell by two fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CommitteeSeats {
    /// Names of the fields that divide people, two at most.
    pub fields: Vec<String>,
    /// Number of people.
    pub people: usize,
    /// Number of people with an event within 14 days.
    pub active: usize,
    /// Numbers by values of the fields, in the order of their values.
    pub seats: Vec<Seat>,
    /// Declared values of a field that nobody has: field → values in their order.
    pub gaps: BTreeMap<String, Vec<String>>,
    /// The most recently active people, at most 200.
    pub members: Vec<SeatedPerson>,
}

/// The people with the same values.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Seat {
    /// A value for each field; `None` where people have none.
    pub values: Vec<Option<String>>,
    pub people: usize,
    /// Those with an event within 14 days.
    pub active: usize,
}

/// A person with a seat.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeatedPerson {
    /// Name of the person's table.
    pub table: String,
    /// Key of the row that stands for the person.
    pub key: String,
    /// A value for each field; `None` where the person has none.
    pub values: Vec<Option<String>>,
    /// Time of the newest event on any row of the person, milliseconds; `None` without one.
    pub last_event_ms: Option<i64>,
    pub is_active: bool,
}

/// Values of a seat, each with its place in the order of the field's values.
type SeatPlace = Vec<(usize, Option<String>)>;

impl CommitteeSeats {
    /// The seats of a cell at a moment.
    pub fn of(graph: &Graph, cell: &Cell, as_of: AsOf) -> Self {
        let catalog = graph.catalog();
        let fields = dividing_fields(catalog);
        let activity = Activity::of(graph, cell);
        let is_one = |node: &&Node| {
            catalog.members().any(|table| table.id == node.table)
                && is_person(catalog, node.table)
                && activity.is_person(node)
        };
        let people = by_activity(graph, cell.nodes.iter().filter(is_one));
        let mut seats: BTreeMap<SeatPlace, (usize, usize)> = BTreeMap::new();
        let mut found = Self {
            fields: fields.iter().map(|field| field.name.clone()).collect(),
            people: people.len(),
            ..Self::default()
        };
        for node in people {
            let values: Vec<Option<String>> = fields
                .iter()
                .map(|field| value_of(graph, cell, node, field, &activity))
                .collect();
            let is_active = activity.is_active(node, ACTIVE_DAYS as f64, as_of);
            let place = fields.iter().zip(&values);
            let place = place.map(|(field, value)| (order_of(field, value), value.clone()));
            let (people, active) = seats.entry(place.collect()).or_default();
            *people += 1;
            *active += usize::from(is_active);
            found.active += usize::from(is_active);
            if found.members.len() < LISTED_PEOPLE {
                found.members.push(SeatedPerson {
                    table: catalog.table_at(node.table).name.clone(),
                    key: graph.directory().key(node.entity).to_string(),
                    values,
                    last_event_ms: activity.newest_ms(node),
                    is_active,
                });
            }
        }
        found.gaps = gaps(&fields, seats.keys());
        let seat = |(place, (people, active)): (SeatPlace, (usize, usize))| Seat {
            values: place.into_iter().map(|(_, value)| value).collect(),
            people,
            active,
        };
        found.seats = seats.into_iter().map(seat).collect();
        found
    }
}

/// The usual fields, where tables of people have them; else the first two that tell people apart.
fn dividing_fields(catalog: &Catalog) -> Vec<&Field> {
    let tables = catalog
        .members()
        .filter(|table| is_person(catalog, table.id));
    let fields: Vec<&Field> = tables.flat_map(distinguishing).collect();
    let named = |name: &&str| fields.iter().find(|field| field.name == **name).copied();
    let usual: Vec<&Field> = USUAL_FIELDS.iter().filter_map(named).collect();
    if !usual.is_empty() {
        return usual;
    }
    let mut first: Vec<&Field> = Vec::new();
    for field in fields {
        let is_new = first.iter().all(|known| known.name != field.name);
        if is_new && first.len() < USUAL_FIELDS.len() {
            first.push(field);
        }
    }
    first
}

/// The text of a field of a person, by name: tables of people may each have a field of it.
fn value_of(
    graph: &Graph,
    cell: &Cell,
    node: &Node,
    field: &Field,
    activity: &Activity,
) -> Option<String> {
    let table = graph.catalog().table_at(node.table);
    let own = table.fields.iter().find(|one| one.name == field.name)?;
    let text = activity.text(graph, cell, node, own.id)?;
    Some(text.to_owned())
}

/// The place of a value: that among the declared ones, then others, then none.
fn order_of(field: &Field, value: &Option<String>) -> usize {
    match value {
        None => usize::MAX,
        Some(value) => crate::committee::rank(field, value).unwrap_or(usize::MAX - 1),
    }
}

/// The declared values of each field that no place has.
fn gaps<'a>(
    fields: &[&Field],
    places: impl Iterator<Item = &'a Vec<(usize, Option<String>)>>,
) -> BTreeMap<String, Vec<String>> {
    let places: Vec<_> = places.collect();
    let mut found = BTreeMap::new();
    for (index, field) in fields.iter().enumerate() {
        let is_taken = |value: &&String| {
            let mut taken = places.iter().filter_map(|place| place[index].1.as_ref());
            taken.any(|other| other == *value)
        };
        let missing = field.values.iter().filter(|value| !is_taken(value));
        found.insert(field.name.clone(), missing.cloned().collect());
    }
    found
}
