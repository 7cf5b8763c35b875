//! Cells on a grid, and the numbers that trees read of them.

use leadpulse_features::{FeatureBatch, Layout};
use serde::{Deserialize, Serialize};

use crate::network::TowerTarget;

/// Steps of the grid per unit of a column.
// Columns are logarithms, shares and flags of the size of 1: a step is .02 % of a count.
const STEPS: f64 = 4096.0;
/// Values on the grid lie within ± this, so that sums over members stay exact.
const LARGEST: f64 = (1 << 30) as f64;

/// A value of a column on the grid.
pub(crate) fn on_grid(x: f32) -> i32 {
    // Most values are 0, and rounding is a call into a library.
    if x == 0.0 {
        return 0;
    }
    (f64::from(x) * STEPS).round().clamp(-LARGEST, LARGEST) as i32
}

/// A summary of one column over the rows of a member table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ColumnPool {
    Sum,
    Max,
    /// Rounded to the grid.
    Mean,
}

/// One number that trees read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum TreeColumn {
    /// Index of the hazard's bucket, not on the grid.
    Bucket,
    /// A column of the root row.
    Root(usize),
    /// The number of rows of a member table that the cell is pooled over, on the grid.
    Count(usize),
    /// A column of a member table, pooled over its rows; 0 without rows.
    Pool {
        table: usize,
        column: usize,
        pool: ColumnPool,
    },
    /// A column of the row that a member task asks about.
    Own(usize),
}

impl TreeColumn {
    /// Every number that a cell of this layout has for a task.
    pub fn all(layout: &Layout, target: TowerTarget, outputs: usize) -> Vec<Self> {
        let mut columns: Vec<Self> = (0..layout.root.len()).map(Self::Root).collect();
        for (table, member) in layout.members.iter().enumerate() {
            columns.push(Self::Count(table));
            for column in 0..member.columns.len() {
                columns.extend(
                    [ColumnPool::Sum, ColumnPool::Max, ColumnPool::Mean].map(|pool| Self::Pool {
                        table,
                        column,
                        pool,
                    }),
                );
            }
        }
        if let TowerTarget::Member(table) = target {
            columns.extend((0..layout.members[table].columns.len()).map(Self::Own));
        }
        if outputs > 1 {
            columns.push(Self::Bucket);
        }
        columns
    }

    /// True if a cell of this layout has this number for a task.
    pub fn fits(self, layout: &Layout, target: TowerTarget) -> bool {
        let width = |table: usize| layout.members.get(table).map_or(0, |m| m.columns.len());
        match self {
            Self::Bucket => true,
            Self::Root(column) => column < layout.root.len(),
            Self::Count(table) => table < layout.members.len(),
            Self::Pool { table, column, .. } => column < width(table),
            Self::Own(column) => match target {
                TowerTarget::Root => false,
                TowerTarget::Member(table) => column < width(table),
            },
        }
    }

    /// The layout's column behind this number: the kind of row (0 the root, `t + 1` member table
    /// `t`) and its index there. `None` for the bucket and for counts.
    pub fn source(self, target: TowerTarget) -> Option<(usize, usize)> {
        match (self, target) {
            (Self::Root(column), _) => Some((0, column)),
            (Self::Pool { table, column, .. }, _) => Some((table + 1, column)),
            (Self::Own(column), TowerTarget::Member(table)) => Some((table + 1, column)),
            _ => None,
        }
    }
}

/// The rows of one member table on the grid.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GridRows {
    pub width: usize,
    /// `[rows, width]`.
    pub values: Vec<i32>,
    pub rows: usize,
    /// Number of rows that the cell is pooled over: the first ones.
    pub attended: usize,
}

impl GridRows {
    /// A pool of a column over values that are given in any order.
    pub fn pooled(values: impl Iterator<Item = i32>, pool: ColumnPool) -> i64 {
        let (mut sum, mut max, mut rows) = (0i64, i32::MIN, 0i64);
        for x in values {
            sum += i64::from(x);
            max = max.max(x);
            rows += 1;
        }
        match pool {
            _ if rows == 0 => 0,
            ColumnPool::Sum => sum,
            ColumnPool::Max => i64::from(max),
            ColumnPool::Mean => (sum as f64 / rows as f64).round() as i64,
        }
    }

    pub fn get(&self, row: usize, column: usize) -> i32 {
        self.values[row * self.width + column]
    }
}

/// A number of rows on the grid.
pub(crate) fn count_on_grid(rows: usize) -> i64 {
    rows as i64 * STEPS as i64
}

/// One cell on the grid, without padding.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GridCell {
    pub root: Vec<i32>,
    pub members: Vec<GridRows>,
}

impl GridCell {
    /// Cell `cell` of raw features.
    pub fn new(batch: &FeatureBatch, cell: usize) -> Self {
        let width = batch.root.len() / batch.cells.max(1);
        let root = &batch.root[cell * width..(cell + 1) * width];
        let members = batch.members.iter().map(|block| {
            let mut grid = GridRows {
                width: block.width,
                ..GridRows::default()
            };
            for slot in cell * block.slots..(cell + 1) * block.slots {
                if block.mask[slot] != 0.0 {
                    let row = &block.values[slot * block.width..(slot + 1) * block.width];
                    grid.values.extend(row.iter().map(|x| on_grid(*x)));
                    grid.rows += 1;
                }
            }
            grid.attended = grid.rows.min(block.attended[cell] as usize);
            grid
        });
        Self {
            root: root.iter().map(|x| on_grid(*x)).collect(),
            members: members.collect(),
        }
    }

    /// One number of this cell. `own` is the index of the asked member's row; the bucket is 0.
    pub fn value(&self, column: TreeColumn, target: TowerTarget, own: usize) -> i64 {
        match column {
            TreeColumn::Bucket => 0,
            TreeColumn::Root(i) => i64::from(self.root[i]),
            TreeColumn::Count(table) => count_on_grid(self.members[table].attended),
            TreeColumn::Pool {
                table,
                column,
                pool,
            } => {
                let rows = &self.members[table];
                GridRows::pooled((0..rows.attended).map(|r| rows.get(r, column)), pool)
            }
            TreeColumn::Own(i) => match target {
                TowerTarget::Root => 0,
                TowerTarget::Member(table) => i64::from(self.members[table].get(own, i)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch_of, layout};

    #[test]
    fn the_numbers_of_a_cell_by_hand() {
        let layout = layout(1, &[2, 1]);
        let batch = batch_of(
            &layout,
            &[
                (&[9.0], &[&[&[9.0, 9.0], &[9.0, 9.0], &[9.0, 9.0]], &[]]),
                (&[0.5], &[&[&[1.0, -1.0], &[0.25, -3.0]], &[]]),
            ],
        );
        let cell = GridCell::new(&batch, 1);
        let pool = |table, column, pool| TreeColumn::Pool {
            table,
            column,
            pool,
        };
        for (column, expected) in [
            (TreeColumn::Bucket, 0.0),
            (TreeColumn::Root(0), 0.5),
            (TreeColumn::Count(0), 2.0),
            (TreeColumn::Count(1), 0.0),
            (pool(0, 0, ColumnPool::Sum), 1.25),
            (pool(0, 0, ColumnPool::Max), 1.0),
            (pool(0, 0, ColumnPool::Mean), 0.625),
            (pool(0, 1, ColumnPool::Max), -1.0),
            (pool(1, 0, ColumnPool::Max), 0.0),
            (pool(1, 0, ColumnPool::Mean), 0.0),
            (TreeColumn::Own(1), -3.0),
        ] {
            let value = cell.value(column, TowerTarget::Member(0), 1);
            assert_eq!(value, (expected * 4096.0) as i64, "{column:?}");
        }
        let all = TreeColumn::all(&layout, TowerTarget::Member(0), 3);
        assert_eq!(all.len(), 1 + (1 + 6) + (1 + 3) + 2 + 1);
        assert!(all.iter().all(|c| c.fits(&layout, TowerTarget::Member(0))));
        for (column, target) in [
            (TreeColumn::Root(1), TowerTarget::Root),
            (TreeColumn::Own(0), TowerTarget::Root),
            (TreeColumn::Own(2), TowerTarget::Member(0)),
            (TreeColumn::Count(2), TowerTarget::Root),
            (pool(1, 1, ColumnPool::Sum), TowerTarget::Root),
        ] {
            assert!(!column.fits(&layout, target), "{column:?}");
        }
    }

    #[test]
    fn the_last_bit_of_a_value_is_not_on_the_grid() {
        for x in [0.1f32, -7.3, 1.0, 2f32.ln_1p()] {
            for neighbour in [
                f32::from_bits(x.to_bits() + 1),
                f32::from_bits(x.to_bits() - 1),
            ] {
                assert_eq!(on_grid(x), on_grid(neighbour), "{x}");
            }
        }
        assert_eq!(on_grid(f32::MAX), 1 << 30);
        assert_eq!(on_grid(-0.0), 0);
    }
}
