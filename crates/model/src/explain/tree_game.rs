//! The trees' part of a coalition: a forest over numbers of which some groups are absent.
//!
//! Each number is made of one column, hence of one group: it has a value with the group and one
//! without. Pools and counts are taken over the rows that exist in the coalition. What no coalition
//! of the row can change is decided once: splits that lie outside of a number's range are gone from
//! the game's forest.

use std::collections::BTreeMap;

use leadpulse_features::{Absent, Column};

use crate::examples::normalise::Scales;
use crate::explain::coalitions::Coalition;
use crate::explain::parts::Parts;
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
    /// The number of rows of a table, so many at most.
    Count { table: usize, rows: usize },
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
pub(super) struct TreeGame {
    /// The trees with the splits that coalitions may tell apart.
    forest: Forest,
    /// A number per column of the forest.
    numbers: Vec<Number>,
    /// Group of each number; none for the bucket and for counts.
    groups: Vec<Option<usize>>,
}

/// The sets of a table's rows that exist in some coalitions.
struct RowSets {
    distinct: Vec<Vec<usize>>,
    /// Per coalition its index in `distinct`.
    of: Vec<usize>,
}

impl RowSets {
    fn new(coalitions: &[Coalition], presence: &Presence, table: usize) -> Self {
        let parts = Parts::new(coalitions, presence.players(table));
        let mut places: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
        let mut distinct = Vec::new();
        let mut of_part = Vec::with_capacity(parts.distinct.len());
        for part in &parts.distinct {
            let rows: Vec<usize> = presence.rows(table, *part).collect();
            let place = places.entry(rows).or_insert_with_key(|rows| {
                distinct.push(rows.clone());
                distinct.len() - 1
            });
            of_part.push(*place);
        }
        Self {
            of: parts.of.iter().map(|part| of_part[*part]).collect(),
            distinct,
        }
    }
}

impl TreeGame {
    /// `cell` is one raw cell, `row` its output row. `None` for a task without trees.
    pub fn new(fitted: &Fitted, cell: &GridCell, task: usize, row: usize) -> Option<Self> {
        let forest = &fitted.tasks[task].trees.as_ref()?.forest;
        let target = fitted.config.towers[task].target;
        let number = |column: &TreeColumn| number(fitted, cell, target, row, *column);
        let columns = forest.columns().iter();
        let ranges: Vec<(i64, i64)> = columns.map(|c| number(c).range()).collect();
        let forest = forest.within(&ranges);
        let numbers: Vec<Number> = forest.columns().iter().map(number).collect();
        Some(Self {
            groups: numbers.iter().map(Number::group).collect(),
            numbers,
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
            Number::Bucket | Number::Count { .. } => None,
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
        let tables = 0..presence.brought_by.len();
        let sets: Vec<RowSets> = tables
            .map(|table| RowSets::new(coalitions, presence, table))
            .collect();
        let values: Vec<Vec<[i64; 2]>> = self.numbers.iter().map(|n| n.values(&sets)).collect();
        let bits = self.groups.iter().map(|group| {
            let player = (*group).and_then(|group| player_of[group]);
            player.map_or(0, |player| 1 << player)
        });
        let bits: Vec<Coalition> = bits.collect();
        let mut numbers = vec![0; self.numbers.len()];
        let of = coalitions.iter().enumerate().map(|(c, coalition)| {
            for (i, to) in numbers.iter_mut().enumerate() {
                let set = self.numbers[i].table().map_or(0, |table| sets[table].of[c]);
                // A group that is no player has the same values present and absent.
                let is_in = bits[i] & coalition != 0;
                *to = values[i][set][usize::from(is_in)];
            }
            head.logit(&self.forest.outputs(&mut numbers))
        });
        of.collect()
    }
}

impl Number {
    fn group(&self) -> Option<usize> {
        match self {
            Self::Bucket | Self::Count { .. } => None,
            Self::Single { group, .. } | Self::Pooled { group, .. } => Some(*group),
        }
    }

    fn table(&self) -> Option<usize> {
        match self {
            Self::Bucket | Self::Single { .. } => None,
            Self::Count { table, .. } | Self::Pooled { table, .. } => Some(*table),
        }
    }

    /// Bounds of the number over all coalitions, both included.
    fn range(&self) -> (i64, i64) {
        match self {
            Self::Bucket => (i64::MIN, i64::MAX),
            Self::Count { rows, .. } => (0, count_on_grid(*rows)),
            Self::Single {
                present, absent, ..
            } => {
                let (present, absent) = (i64::from(*present), i64::from(*absent));
                (present.min(absent), present.max(absent))
            }
            Self::Pooled {
                pool,
                present,
                absent,
                ..
            } => {
                // Of each row the least and the most that it may be, 0 where it does not exist.
                let bounds = present.iter().map(|x| {
                    let (x, absent) = (i64::from(*x), i64::from(*absent));
                    (x.min(absent).min(0), x.max(absent).max(0))
                });
                let join = |(low, high): (i64, i64), (a, b): (i64, i64)| match pool {
                    ColumnPool::Sum => (low + a, high + b),
                    ColumnPool::Max | ColumnPool::Mean => (low.min(a), high.max(b)),
                };
                bounds.fold((0, 0), join)
            }
        }
    }

    /// Per set of rows of the number's table the value without its group and with it; of a number
    /// without a table for one set.
    fn values(&self, sets: &[RowSets]) -> Vec<[i64; 2]> {
        match self {
            Self::Bucket => vec![[0; 2]],
            Self::Count { table, .. } => {
                let sets = sets[*table].distinct.iter();
                sets.map(|rows| [count_on_grid(rows.len()); 2]).collect()
            }
            Self::Single {
                present, absent, ..
            } => vec![[i64::from(*absent), i64::from(*present)]],
            Self::Pooled {
                table,
                pool,
                present,
                absent,
                ..
            } => {
                let value = |rows: &Vec<usize>| {
                    let absent = rows.iter().map(|_| *absent);
                    let present = rows.iter().map(|row| present[*row]);
                    [
                        GridRows::pooled(absent, *pool),
                        GridRows::pooled(present, *pool),
                    ]
                };
                sets[*table].distinct.iter().map(value).collect()
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
        TreeColumn::Count(table) => Number::Count {
            table,
            rows: cell.members[table].attended,
        },
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
                present: (0..rows.attended).map(|r| rows.get(r, column)).collect(),
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
