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

/// Up to this many players a tree's leaves are kept by combination.
// What is kept has a place for each of 2^players combinations, and is cleared for each tree.
const MOST_KEPT_PLAYERS: usize = 12;

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
        let (outputs, bucket) = (self.forest.output_count(), self.forest.bucket());
        let mut sums = vec![self.forest.base(); coalitions.len() * outputs];
        let mut leaves = Leaves::new(player_of.iter().flatten().count());
        for tree in self.forest.trees() {
            let seen = tree.columns().fold(0, |seen, column| {
                let table = self.numbers[column].table();
                seen | bits[column] | table.map_or(0, |table| presence.players(table))
            });
            let bucket = bucket.filter(|bucket| tree.reads(*bucket));
            leaves.begin(if bucket.is_some() { outputs } else { 1 });
            for ((c, coalition), sums) in coalitions
                .iter()
                .enumerate()
                .zip(sums.chunks_exact_mut(outputs))
            {
                let leaf = |output: usize| {
                    tree.leaf_by(|column| {
                        if bucket == Some(column) {
                            return output as i64;
                        }
                        let table = self.numbers[column].table();
                        let set = table.map_or(0, |table| sets[table].of[c]);
                        // A group that is no player has the same values present and absent.
                        let is_in = bits[column] & coalition != 0;
                        values[column][set][usize::from(is_in)]
                    })
                };
                let found = leaves.of(coalition & seen, leaf);
                for (output, sum) in sums.iter_mut().enumerate() {
                    *sum += found[output % found.len()];
                }
            }
        }
        let rows = sums.chunks_exact(outputs).map(|sums| {
            let outputs: Vec<f32> = sums.iter().map(|sum| *sum as f32).collect();
            head.logit(&outputs)
        });
        rows.collect()
    }
}

/// Leaves of one tree by the coalitions that it can tell apart: a tree reads few groups, so most
/// coalitions are alike to it.
struct Leaves {
    /// Per combination of players its place among `found`, from 1; 0 for none yet. Empty where there
    /// are too many to keep.
    places: Vec<u32>,
    found: Vec<f64>,
    /// Leaves of one combination.
    width: usize,
}

impl Leaves {
    fn new(players: usize) -> Self {
        let kept = players <= MOST_KEPT_PLAYERS;
        Self {
            places: vec![0; if kept { 1 << players } else { 0 }],
            found: Vec::new(),
            width: 1,
        }
    }

    /// Forgets the last tree's; the next has `width` leaves a combination.
    fn begin(&mut self, width: usize) {
        self.places.fill(0);
        self.found.clear();
        self.width = width;
    }

    /// The leaves of a combination of the players that the tree can tell apart.
    fn of(&mut self, seen: Coalition, leaf: impl Fn(usize) -> f64) -> &[f64] {
        let width = self.width;
        let place = match self.places.get_mut(seen as usize) {
            Some(0) | None => {
                if self.places.is_empty() {
                    self.found.clear();
                }
                self.found.extend((0..width).map(leaf));
                let place = self.found.len() / width;
                if let Some(kept) = self.places.get_mut(seen as usize) {
                    *kept = place as u32;
                }
                place
            }
            Some(place) => *place as usize,
        };
        &self.found[(place - 1) * width..place * width]
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
