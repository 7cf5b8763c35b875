//! Engagement by kind of person: which part of a cell's events came from people of each value of
//! the categories that all tables of people have, such as seniority and department.

use rustc_hash::FxHashMap;
use smallvec::{SmallVec, smallvec};

use leadpulse_graph::{Bank, Cell, EntityId, Graph, Node};
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Catalog, FieldId, Table, TableId};

use crate::batch::{Absent, GroupKind};
use crate::columns::UnplacedColumn;
use crate::committee::{Activity, distinguishing};
use crate::groups;

/// Most values of a field whose shares have columns: more are no small category.
// Chosen by width; not measured.
const MOST_VALUES: usize = 16;
/// Most rows of a cell that are searched one by one.
const SEARCHED: usize = 32;

/// A category of people, in every table that has it under its name.
#[derive(Clone, Debug)]
struct PersonField {
    /// The field in each table of people.
    fields: Vec<(TableId, FieldId)>,
    values: Vec<String>,
}

/// A person of a cell, with the decayed count of events of all of its rows.
struct Person<'g> {
    entity: EntityId,
    /// The row that stands for the person, if it is one of people.
    node: Option<&'g Node>,
    weight: f64,
}

impl Person<'_> {
    fn new(entity: EntityId) -> Self {
        Self {
            entity,
            node: None,
            weight: 0.0,
        }
    }
}

/// The share columns of a cell.
#[derive(Clone, Debug)]
pub(crate) struct ShareBlock {
    fields: Vec<PersonField>,
    /// The tables of people.
    tables: Vec<TableId>,
    /// The half-life by which events count.
    half: usize,
}

impl ShareBlock {
    /// The block of a catalog; `None` without a small category of people. Appends the columns.
    pub(crate) fn new(
        catalog: &Catalog,
        half_lives_days: &[f64],
        columns: &mut Vec<UnplacedColumn>,
    ) -> Option<Self> {
        let people: Vec<&Table> = catalog
            .members()
            .filter(|table| groups::is_person(catalog, table.id))
            .collect();
        let (first, others) = people.split_first()?;
        let mut found = Vec::new();
        for field in distinguishing(first) {
            let same = |table: &&Table| {
                let field = distinguishing(table).find(|other| other.name == field.name)?;
                Some((table.id, field.id))
            };
            let fields: Option<Vec<_>> = others.iter().map(same).collect();
            let is_small = (1..=MOST_VALUES).contains(&field.values.len());
            let Some(mut fields) = fields.filter(|_| is_small) else {
                continue;
            };
            fields.insert(0, (first.id, field.id));
            columns.extend(field.values.iter().map(|value| UnplacedColumn {
                name: format!("people/share {}={value}", field.name),
                group: groups::of_members(catalog, first.id),
                kind: GroupKind::Behaviour,
                absent: Absent::Zero,
            }));
            found.push(PersonField {
                fields,
                values: field.values.clone(),
            });
        }
        (!found.is_empty()).then_some(Self {
            fields: found,
            tables: people.iter().map(|table| table.id).collect(),
            half: half_lives_days.len() / 2,
        })
    }

    /// Appends the block's numbers. `nodes` are those of the cell, in an order of their own.
    pub(crate) fn write(
        &self,
        graph: &Graph,
        cell: &Cell,
        nodes: &[&Node],
        activity: &Activity,
        as_of: AsOf,
        out: &mut Vec<f32>,
    ) {
        let people = self.people(graph, nodes, activity, as_of);
        let total: f64 = people.iter().map(|person| person.weight).sum();
        for field in &self.fields {
            let mut sums: SmallVec<[f64; MOST_VALUES]> = smallvec![0.0; field.values.len()];
            for person in &people {
                let Some(node) = person.node else { continue };
                let mut of_table = field.fields.iter();
                let of_table = of_table.find(|(table, _)| *table == node.table);
                let text = of_table.and_then(|(_, field)| activity.text(graph, cell, node, *field));
                let at = text.and_then(|text| field.values.iter().position(|value| value == text));
                if let Some(at) = at {
                    sums[at] += person.weight;
                }
            }
            // A total that has decayed this far is the rounding of its sums.
            let share = |sum: &f64| if total > 1e-9 { sum / total } else { 0.0 };
            out.extend(sums.iter().map(|sum| share(sum) as f32));
        }
    }

    /// The decayed count of events of each person, in the order in which people occur.
    fn people<'g>(
        &self,
        graph: &Graph,
        nodes: &[&'g Node],
        activity: &Activity,
        as_of: AsOf,
    ) -> SmallVec<[Person<'g>; 16]> {
        let bank = &graph.shared().bank;
        let is_person = |node: &&&Node| self.tables.contains(&node.table);
        // A search through a few is faster than a map, and needs no memory.
        let mut places: Option<FxHashMap<EntityId, usize>> =
            (nodes.len() > SEARCHED).then(FxHashMap::default);
        let mut people: SmallVec<[Person<'g>; 16]> = SmallVec::new();
        for node in nodes.iter().filter(is_person) {
            let one = activity.person_of(node);
            let known = match &places {
                Some(places) => places.get(&one).copied(),
                None => people.iter().position(|person| person.entity == one),
            };
            let at = known.unwrap_or(people.len());
            if known.is_none() {
                people.push(Person::new(one));
                if let Some(places) = &mut places {
                    places.insert(one, at);
                }
            }
            people[at].weight += self.count(node, bank, as_of);
            if node.entity == one {
                people[at].node = Some(node);
            }
        }
        people
    }

    /// The decayed count of all events of a node.
    fn count(&self, node: &Node, bank: &Bank, as_of: AsOf) -> f64 {
        let mut sum = 0.0;
        for state in &node.events {
            // Slot 0 is the count of events, and comes first.
            let count = state.slots(bank).next().filter(|(slot, ..)| *slot == 0);
            let count = count.map_or(0.0, |(_, sums, _)| sums[self.half]);
            sum += count * bank.read(self.half, state.landmark(), as_of.ms());
        }
        sum
    }
}
