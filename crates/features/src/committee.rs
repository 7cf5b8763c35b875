//! The committee: the number of members, of active ones, of distinct values among them, and the
//! highest value of each ordinal.

use rustc_hash::{FxHashMap, FxHashSet};

use leadpulse_graph::{Cell, EntityId, Node};
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Catalog, DataType, Feature, Field, FieldId, Table, TableId};

use crate::batch::Absent;
use crate::columns::{UnplacedColumn, days, log_count};
use crate::groups;

/// Windows of activity, days: a member with an event within one counts as active.
// The windows of the prototype's hand-made columns. Why these is unknown.
const ACTIVE_DAYS: [f64; 2] = [14.0, 45.0];

/// True for a member that counts: known, and not absorbed by another row of the same person.
pub(crate) fn is_present(node: &Node) -> bool {
    node.is_known() && !node.absorbed
}

/// The newest activity of the people in a cell. An absorbed row keeps the events that its
/// survivor's table cannot carry, so those rows count for the survivor.
pub(crate) struct Activity {
    /// Survivor → newest event on an absorbed row, milliseconds.
    absorbed: FxHashMap<EntityId, i64>,
}

impl Activity {
    pub(crate) fn of(cell: &Cell) -> Self {
        let mut absorbed: FxHashMap<EntityId, i64> = FxHashMap::default();
        for (node, newest_ms) in cell
            .nodes
            .iter()
            .filter(|n| n.absorbed)
            .filter_map(|n| Some((n, n.newest_event_ms()?)))
        {
            absorbed
                .entry(node.survivor)
                .and_modify(|t| *t = (*t).max(newest_ms))
                .or_insert(newest_ms);
        }
        Self { absorbed }
    }

    /// The newest event of a member and of the rows it absorbed, milliseconds.
    pub(crate) fn newest_ms(&self, node: &Node) -> Option<i64> {
        node.newest_event_ms()
            .max(self.absorbed.get(&node.entity).copied())
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
}

impl CommitteeBlock {
    /// The block of a member table, with its columns.
    pub(crate) fn new(catalog: &Catalog, table: &Table, columns: &mut Vec<UnplacedColumn>) -> Self {
        let fields: Vec<&Field> = distinguishing(table).collect();
        let ordinals: Vec<&Field> = fields.iter().copied().filter(|f| f.ordinal).collect();
        let group = groups::of_members(catalog, table);
        let mut name = |what: String| {
            columns.push(UnplacedColumn {
                name: format!("{}/{what}", table.name),
                group: group.clone(),
                absent: Absent::Zero,
            })
        };
        name("known".into());
        for within in ACTIVE_DAYS {
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
    pub(crate) fn write(&self, cell: &Cell, activity: &Activity, as_of: AsOf, out: &mut Vec<f32>) {
        let members: Vec<&Node> = cell
            .nodes
            .iter()
            .filter(|n| n.table == self.table && is_present(n))
            .collect();
        // All members beside the active ones: together they tell how far interest has spread.
        out.push(log_count(members.len()));
        for within in ACTIVE_DAYS {
            let active: Vec<&Node> = members
                .iter()
                .copied()
                .filter(|n| activity.is_active(n, within, as_of))
                .collect();
            out.push(log_count(active.len()));
            for field in &self.fields {
                let distinct: FxHashSet<&str> = active
                    .iter()
                    .filter_map(|n| n.value(*field).text())
                    .collect();
                out.push(distinct.len() as f32);
            }
            for ordinal in &self.ordinals {
                let highest = active
                    .iter()
                    .filter_map(|n| n.value(ordinal.field).text())
                    .filter_map(|value| ordinal.values.iter().position(|v| v == value))
                    .max();
                out.push(
                    highest.map_or(0.0, |rank| (rank + 1) as f32 / ordinal.values.len() as f32),
                );
            }
        }
    }
}
