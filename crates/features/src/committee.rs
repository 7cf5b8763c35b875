//! The committee: the number of members, of active ones, of distinct values among them, and the
//! highest value of each ordinal.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use leadpulse_graph::{Cell, EntityId, Graph, Node, Persons};
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Catalog, DataType, Feature, Field, FieldId, Table, TableId};

use crate::batch::{Absent, GroupKind};
use crate::columns::{UnplacedColumn, days, log_count};
use crate::groups;

/// True for a member that counts: known, and not absorbed by another row of the same person.
pub(crate) fn is_present(node: &Node) -> bool {
    node.is_known() && !node.absorbed
}

/// The people of a cell and their newest activity. A person may have several rows: absorbed ones,
/// which keep the events that the survivor's table cannot carry, and rows with the same address.
pub(crate) struct Activity {
    persons: Persons,
    /// Who stands for a person → newest event on another row, milliseconds.
    elsewhere: FxHashMap<EntityId, i64>,
}

impl Activity {
    pub(crate) fn of(graph: &Graph, cell: &Cell) -> Self {
        let persons = graph.persons(cell);
        let mut elsewhere: FxHashMap<EntityId, i64> = FxHashMap::default();
        for node in &cell.nodes {
            let one = persons.of(node.survivor);
            if one == node.entity {
                continue;
            }
            if let Some(newest_ms) = node.newest_event_ms() {
                let known_ms = elsewhere.entry(one).or_insert(newest_ms);
                *known_ms = newest_ms.max(*known_ms);
            }
        }
        Self { persons, elsewhere }
    }

    /// True for a member that counts as a person: present, and not another row of one.
    pub(crate) fn is_person(&self, node: &Node) -> bool {
        is_present(node) && self.persons.is_one(node)
    }

    /// The newest event of a person on any row, milliseconds.
    pub(crate) fn newest_ms(&self, node: &Node) -> Option<i64> {
        let elsewhere_ms = self.elsewhere.get(&node.entity).copied();
        node.newest_event_ms().max(elsewhere_ms)
    }

    /// The entity that stands for the person of a row.
    pub(crate) fn person_of(&self, node: &Node) -> EntityId {
        self.persons.of(node.survivor)
    }

    /// The text of a field of a person: that of the row which stands for it, else that of the first
    /// other row of the table by key.
    pub(crate) fn text<'c>(
        &self,
        graph: &Graph,
        cell: &'c Cell,
        node: &'c Node,
        field: FieldId,
    ) -> Option<&'c str> {
        let own = node.value(field).text();
        if own.is_some() || self.persons.is_empty() {
            return own;
        }
        let is_other = |other: &&Node| {
            other.table == node.table
                && is_present(other)
                && self.persons.of(other.entity) == node.entity
        };
        let others = cell.nodes.iter().filter(is_other);
        let told = others.filter_map(|other| {
            Some((
                graph.directory().key(other.entity),
                other.value(field).text()?,
            ))
        });
        told.min().map(|(_, text)| text)
    }

    /// True if a member had an event within `within_days`.
    pub(crate) fn is_active(&self, node: &Node, within_days: f64, as_of: AsOf) -> bool {
        self.newest_ms(node)
            .is_some_and(|t| days(t, as_of) <= within_days)
    }
}

/// Category fields with one value a row: those that tell members apart.
pub(crate) fn distinguishing(table: &Table) -> impl Iterator<Item = &Field> {
    table
        .fields
        .iter()
        .filter(|f| f.feature == Feature::Category && f.data_type != DataType::TextList)
}

/// The position of a value among the declared values of an ordinal field.
pub(crate) fn rank(field: &Field, value: &str) -> Option<usize> {
    field.values.iter().position(|v| v == value)
}

#[derive(Clone, Debug)]
struct Ordinal {
    field: FieldId,
    values: Vec<String>,
}

/// The committee columns of one member table.
#[derive(Clone, Debug)]
pub(crate) struct CommitteeBlock {
    table: TableId,
    /// Category fields whose distinct values among active members are counted.
    fields: Vec<FieldId>,
    /// Fields whose highest value among active members has a column.
    ordinals: Vec<Ordinal>,
    /// Windows of activity, days: a member with an event within one counts as active.
    active_days: Vec<f64>,
}

impl CommitteeBlock {
    /// The block of a member table, with its columns.
    pub(crate) fn new(
        catalog: &Catalog,
        table: &Table,
        active_days: &[f64],
        columns: &mut Vec<UnplacedColumn>,
    ) -> Self {
        let fields: Vec<&Field> = distinguishing(table).collect();
        let ordinals: Vec<&Field> = fields.iter().copied().filter(|f| f.ordinal).collect();
        let group = groups::of_members(catalog, table.id);
        let mut name = |what: String| {
            columns.push(UnplacedColumn {
                name: format!("{}/{what}", table.name),
                group: group.clone(),
                kind: GroupKind::Behaviour,
                absent: Absent::Zero,
            })
        };
        name("known".into());
        for within in active_days {
            name(format!("active/{within}d"));
            fields
                .iter()
                .for_each(|field| name(format!("active/{within}d/distinct {}", field.name)));
            ordinals
                .iter()
                .for_each(|field| name(format!("active/{within}d/highest {}", field.name)));
        }
        Self {
            table: table.id,
            active_days: active_days.to_vec(),
            fields: fields.iter().map(|f| f.id).collect(),
            ordinals: ordinals
                .iter()
                .map(|f| Ordinal {
                    field: f.id,
                    values: f.values.clone(),
                })
                .collect(),
        }
    }

    /// Appends the block's numbers.
    pub(crate) fn write(
        &self,
        graph: &Graph,
        cell: &Cell,
        activity: &Activity,
        as_of: AsOf,
        out: &mut Vec<f32>,
    ) {
        let members: SmallVec<[&Node; 16]> = cell
            .nodes
            .iter()
            .filter(|n| n.table == self.table && activity.is_person(n))
            .collect();
        // All members beside the active ones: together they tell how far interest has spread.
        out.push(log_count(members.len()));
        for within in &self.active_days {
            let active: SmallVec<[&Node; 16]> = members
                .iter()
                .copied()
                .filter(|n| activity.is_active(n, *within, as_of))
                .collect();
            out.push(log_count(active.len()));
            for field in &self.fields {
                let mut distinct: SmallVec<[&str; 16]> = active
                    .iter()
                    .filter_map(|n| activity.text(graph, cell, n, *field))
                    .collect();
                distinct.sort_unstable();
                distinct.dedup();
                out.push(distinct.len() as f32);
            }
            for ordinal in &self.ordinals {
                let highest = active
                    .iter()
                    .filter_map(|n| activity.text(graph, cell, n, ordinal.field))
                    .filter_map(|value| ordinal.values.iter().position(|v| v == value))
                    .max();
                out.push(
                    highest.map_or(0.0, |rank| (rank + 1) as f32 / ordinal.values.len() as f32),
                );
            }
        }
    }
}
