//! The numbers that the model reads of some rows: those of the cell and of the entity's own row.

use leadpulse_features::{FeatureBatch, Layout};
use leadpulse_graph::EntityId;
use leadpulse_schema::TableId;
use rustc_hash::FxHashMap;

use crate::sampling::is_sampled;

/// Rows whose numbers are kept, at most.
// Thirty-odd MiB of a shipped layout. A share of 1 % of so many rows is known to a tenth of it.
const MAX_ROWS: usize = 1 << 14;

/// A number that the model reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NumberName {
    /// The column's path, after the member table where it is of the entity's own row.
    pub column: String,
    /// The explanation group, for people.
    pub group: String,
}

/// The numbers of some rows of one task: of all of them, or of a sample.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowNumbers {
    pub names: Vec<NumberName>,
    /// Index of the member table whose rows are asked about; `None` for tasks about the root.
    member: Option<usize>,
    rows: FxHashMap<(EntityId, i64), Box<[f32]>>,
    /// The share of rows that are kept is 1/2 to this power.
    halvings: i32,
}

impl RowNumbers {
    /// No rows yet, of a task about the entities of a table.
    pub fn new(layout: &Layout, entity: TableId) -> Self {
        let member = layout.members.iter().position(|m| m.table == entity);
        let group = |group: usize| layout.groups[group].label.clone();
        let root = layout.root.iter().map(|column| NumberName {
            column: column.name.clone(),
            group: group(column.group),
        });
        let own = member.map(|member| &layout.members[member]).into_iter();
        let own = own.flat_map(|member| {
            member.columns.iter().map(|column| NumberName {
                column: format!("{}: {}", member.name, column.name),
                group: group(column.group),
            })
        });
        Self {
            names: root.chain(own).collect(),
            member,
            ..Self::default()
        }
    }

    fn ratio(&self) -> f64 {
        0.5_f64.powi(self.halvings)
    }

    /// Keeps the numbers of an entity at a moment, milliseconds: cell `cell` and, for a task about
    /// members, slot `slot` of a batch. Which rows are kept follows from their entities and
    /// moments alone.
    pub fn note(
        &mut self,
        (entity, at_ms): (EntityId, i64),
        batch: &FeatureBatch,
        (cell, slot): (usize, usize),
    ) {
        if !is_sampled(entity, at_ms, self.ratio()) {
            return;
        }
        let width = batch.root.len() / batch.cells.max(1);
        let mut numbers = Vec::with_capacity(self.names.len());
        numbers.extend_from_slice(&batch.root[cell * width..(cell + 1) * width]);
        if let Some(member) = self.member {
            let block = &batch.members[member];
            let row = cell * block.slots + slot;
            numbers.extend_from_slice(&block.values[row * block.width..(row + 1) * block.width]);
        }
        self.rows.insert((entity, at_ms), numbers.into());
        while self.rows.len() > MAX_ROWS {
            self.halvings += 1;
            let ratio = self.ratio();
            self.rows
                .retain(|(entity, at_ms), _| is_sampled(*entity, *at_ms, ratio));
        }
    }

    /// The numbers of an entity at a moment; `None` for a row that is not in the sample.
    pub fn get(&self, entity: EntityId, at_ms: i64) -> Option<&[f32]> {
        self.rows.get(&(entity, at_ms)).map(|numbers| &**numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_bounded_and_the_same_in_any_order() {
        let batch = FeatureBatch {
            cells: 1,
            root: vec![1.0],
            ..FeatureBatch::default()
        };
        let sample = |rows: &mut dyn Iterator<Item = u32>| {
            let mut numbers = RowNumbers::default();
            rows.for_each(|row| numbers.note((EntityId(row), 7), &batch, (0, 0)));
            let mut kept: Vec<(EntityId, i64)> = numbers.rows.keys().copied().collect();
            kept.sort_unstable();
            kept
        };
        let forth = sample(&mut (0..40_000));
        assert!((4_000..=MAX_ROWS).contains(&forth.len()), "{}", forth.len());
        assert_eq!(forth, sample(&mut (0..40_000).rev()));
    }
}
