//! Counts over the cells of a store: how wide rows are, how much of that is used, and how many
//! members share a row.

use crate::examples::store::{CellRow, CellStore};

/// The rows of one kind in all cells of a store: those of roots, or of one member table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowTally {
    /// Name of the member table; `None` for rows of roots.
    pub table: Option<String>,
    /// Number of rows.
    pub rows: usize,
    /// Number of members that are in the "rest" row of their cell, summed over cells.
    pub folded: usize,
    /// Number of columns.
    pub columns: usize,
    /// Number of columns that some row has a value other than 0 in.
    pub used: usize,
    /// Number of columns of each explanation group that has any, by code.
    pub groups: Vec<(String, usize)>,
}

impl CellStore {
    /// The rows of roots, then of each member table in the layout's order.
    pub fn tally(&self) -> Vec<RowTally> {
        let layout = self.layout();
        let kinds: Vec<_> = std::iter::once((None, &layout.root))
            .chain(layout.members.iter().map(|m| (Some(&m.name), &m.columns)))
            .collect();
        let mut rows = vec![0; kinds.len()];
        let mut used: Vec<Vec<bool>> = kinds.iter().map(|(_, c)| vec![false; c.len()]).collect();
        for cell in 0..self.len() {
            self.visit(
                CellRow::nth(cell),
                |kind, count| rows[kind] += count,
                |kind, column, _| used[kind][column] = true,
            );
        }
        let mut tallies = Vec::new();
        for (kind, (table, columns)) in kinds.into_iter().enumerate() {
            let mut groups = vec![0; layout.groups.len()];
            columns.iter().for_each(|column| groups[column.group] += 1);
            let groups = layout.groups.iter().zip(groups);
            tallies.push(RowTally {
                table: table.cloned(),
                rows: rows[kind],
                folded: kind.checked_sub(1).map_or(0, |table| self.folded(table)),
                columns: columns.len(),
                used: used[kind].iter().filter(|used| **used).count(),
                groups: groups
                    .filter(|(_, count)| *count > 0)
                    .map(|(group, count)| (group.code.clone(), count))
                    .collect(),
            });
        }
        tallies
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{OwnedCell, batch_of_owned, layout};

    #[test]
    fn rows_folded_members_and_used_columns_are_counted() {
        let layout = layout(3, &[2]);
        let cell: OwnedCell = (vec![0.0, 1.0, 0.0], vec![vec![vec![0.0, 2.0]; 4]]);
        let mut batch = batch_of_owned(&layout, &[cell]);
        (batch.members[0].attended[0], batch.members[0].folded[0]) = (2, 3);
        let mut store = CellStore::new(&layout);
        store.push(&batch, 0);
        store.push(&batch, 0);
        let tally = store.tally();
        let counts = |t: &RowTally| (t.rows, t.folded, t.columns, t.used);
        assert_eq!(counts(&tally[0]), (2, 0, 3, 1));
        assert_eq!(counts(&tally[1]), (8, 6, 2, 1));
        assert_eq!(tally[1].table, Some(layout.members[0].name.clone()));
        let of_groups: usize = tally[0].groups.iter().map(|(_, count)| count).sum();
        assert_eq!(of_groups, 3);
    }
}
