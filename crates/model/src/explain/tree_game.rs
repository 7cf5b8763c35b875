//! The trees' part of a coalition: a forest over numbers of which some groups are absent.
//!
//! Each number is made of one column, hence of one group: it has a value with the group and one
//! without. Pools and counts are taken over the rows that exist in the coalition.

use leadpulse_features::{Absent, Column};

use crate::examples::normalise::Scales;
use crate::explain::coalitions::Coalition;
use crate::explain::presence::Presence;
use crate::fit::Fitted;
use crate::network::TowerTarget;
use crate::network::head::Head;
use crate::trees::columns::{ColumnPool, GridCell, GridRows, TreeColumn, count_on_grid, on_grid};
use crate::trees::forest::Forest;

/// One number that the forest reads, with and without its group.
enum Number {
    /// The bucket of a hazard, which the forest sets.
    Bucket,
    /// The number of rows of a table.
    Count(usize),
    /// A column of one row.
    Single {
        group: usize,
        present: i32,
        absent: i32,
    },
    /// A column pooled over the rows of a table.
    Pooled {
        group: usize,
        table: usize,
        pool: ColumnPool,
        /// Per row.
        present: Vec<i32>,
        absent: i32,
    },
}

/// The forest of a task over one row.
pub(super) struct TreeGame<'a> {
    forest: &'a Forest,
    numbers: Vec<Number>,
}

impl<'a> TreeGame<'a> {
    /// `cell` is one raw cell, `row` its output row. `None` for a task without trees.
    pub fn new(fitted: &'a Fitted, cell: &GridCell, task: usize, row: usize) -> Option<Self> {
        let forest = &fitted.tasks[task].trees.as_ref()?.forest;
        let target = fitted.config.towers[task].target;
        let numbers = forest.columns().iter();
        let numbers = numbers.map(|column| number(fitted, cell, target, row, *column));
        Some(Self {
            numbers: numbers.collect(),
            forest,
        })
    }

    /// The groups of which a number differs from its absence; some more than once.
    pub fn groups(&self) -> impl Iterator<Item = usize> {
        self.numbers.iter().filter_map(|number| match number {
            Number::Single {
                group,
                present,
                absent,
            } => (present != absent).then_some(*group),
            Number::Pooled {
                group,
                present,
                absent,
                ..
            } => present.iter().any(|x| x != absent).then_some(*group),
            Number::Bucket | Number::Count(_) => None,
        })
    }

    /// The forest's logits of these coalitions of the players that groups are.
    pub fn logits(
        &self,
        coalitions: &[Coalition],
        player_of: &[Option<u32>],
        presence: &Presence,
        head: &Head,
    ) -> Vec<f64> {
        let tables = presence.changed.len();
        let of = coalitions.iter().map(|coalition| {
            let rows: Vec<Vec<usize>> = (0..tables)
                .map(|table| presence.rows(table, *coalition).collect())
                .collect();
            let is_in =
                |group: usize| player_of[group].is_none_or(|player| coalition >> player & 1 == 1);
            let numbers = self.numbers.iter();
            let mut numbers: Vec<i64> = numbers.map(|n| n.value(&rows, is_in)).collect();
            head.logit(&self.forest.outputs(&mut numbers))
        });
        of.collect()
    }
}

impl Number {
    /// The number where these rows of each table exist.
    fn value(&self, rows: &[Vec<usize>], is_in: impl Fn(usize) -> bool) -> i64 {
        match self {
            Self::Bucket => 0,
            Self::Count(table) => count_on_grid(rows[*table].len()),
            Self::Single {
                group,
                present,
                absent,
            } => i64::from(if is_in(*group) { *present } else { *absent }),
            Self::Pooled {
                group,
                table,
                pool,
                present,
                absent,
            } => {
                let rows = rows[*table].iter();
                if is_in(*group) {
                    GridRows::pooled(rows.map(|row| present[*row]), *pool)
                } else {
                    GridRows::pooled(rows.map(|_| *absent), *pool)
                }
            }
        }
    }
}

fn number(
    fitted: &Fitted,
    cell: &GridCell,
    target: TowerTarget,
    row: usize,
    column: TreeColumn,
) -> Number {
    let (layout, normaliser) = (&fitted.layout, &fitted.normaliser);
    let of_member = |table: usize, i: usize| {
        let columns = &layout.members[table].columns;
        (
            columns[i].group,
            absent(&columns[i], &normaliser.members[table], i),
        )
    };
    match column {
        TreeColumn::Bucket => Number::Bucket,
        TreeColumn::Count(table) => Number::Count(table),
        TreeColumn::Root(i) => Number::Single {
            group: layout.root[i].group,
            present: cell.root[i],
            absent: absent(&layout.root[i], &normaliser.root, i),
        },
        TreeColumn::Own(i) => {
            let TowerTarget::Member(table) = target else {
                unreachable!("a checked forest reads its own row for member tasks only")
            };
            let (group, absent) = of_member(table, i);
            Number::Single {
                group,
                present: cell.members[table].get(row, i),
                absent,
            }
        }
        TreeColumn::Pool {
            table,
            column,
            pool,
        } => {
            let (group, absent) = of_member(table, column);
            let rows = &cell.members[table];
            Number::Pooled {
                group,
                table,
                pool,
                present: (0..rows.rows).map(|r| rows.get(r, column)).collect(),
                absent,
            }
        }
    }
}

/// The value on the grid that stands for the absence of a column's group.
fn absent(column: &Column, scales: &Scales, i: usize) -> i32 {
    match column.absent {
        Absent::Zero => 0,
        Absent::Mean => on_grid(scales.mean[i]),
    }
}
