//! Engagement by kind of person: which part of a cell's events came from people of each value of
//! the categories that all tables of people have, such as seniority and department.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

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

/// A category of people, in every table that has it under its name.
#[derive(Clone, Debug)]
struct PersonField {
    /// The field in each table of people.
    fields: Vec<(TableId, FieldId)>,
    values: Vec<String>,
}

/// The share columns of a cell.
#[derive(Clone, Debug)]
pub(crate) struct ShareBlock {
    fields: Vec<PersonField>,
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
        let weights = self.weights(graph, nodes, activity, as_of);
        let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
        let by_entity: FxHashMap<EntityId, &Node> =
            nodes.iter().map(|node| (node.entity, *node)).collect();
        for field in &self.fields {
            let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
            for (entity, weight) in &weights {
                let Some(node) = by_entity.get(entity) else {
                    continue;
                };
                let of_table = field.fields.iter().find(|(table, _)| *table == node.table);
                let text = of_table.and_then(|(_, field)| activity.text(graph, cell, node, *field));
                if let Some(text) = text {
                    *sums.entry(text).or_default() += weight;
                }
            }
            // A total that has decayed this far is the rounding of its sums.
            let share = |sum: f64| if total > 1e-9 { sum / total } else { 0.0 };
            out.extend(
                field.values.iter().map(|value| {
                    share(sums.get(value.as_str()).copied().unwrap_or_default()) as f32
                }),
            );
        }
    }

    /// The decayed count of events of each person, in the order in which people occur.
    fn weights(
        &self,
        graph: &Graph,
        nodes: &[&Node],
        activity: &Activity,
        as_of: AsOf,
    ) -> Vec<(EntityId, f64)> {
        let bank = &graph.shared().bank;
        let tables = self.fields.iter().flat_map(|field| &field.fields);
        let tables: Vec<TableId> = tables.map(|(table, _)| *table).collect();
        let mut place: FxHashMap<EntityId, usize> = FxHashMap::default();
        let mut weights: Vec<(EntityId, f64)> = Vec::new();
        for node in nodes.iter().filter(|node| tables.contains(&node.table)) {
            let one = activity.person_of(node);
            let at = *place.entry(one).or_insert_with(|| {
                weights.push((one, 0.0));
                weights.len() - 1
            });
            weights[at].1 += self.count(node, bank, as_of);
        }
        weights
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
