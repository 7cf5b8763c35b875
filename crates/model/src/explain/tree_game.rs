//! The trees' part of a coalition: a forest over numbers of which some groups are absent.
//!
//! Each number is made of one column, hence of one group: a pool of a column whose group is absent
//! is the pool of as many rows with what stands for absence. So a number has two values, and a
//! coalition picks one of them.

use leadpulse_features::{Absent, Column};

use crate::examples::normalise::Scales;
use crate::explain::coalitions::Coalition;
use crate::fit::Fitted;
use crate::network::head::Head;
use crate::trees::columns::{GridCell, GridRows, on_grid};
use crate::trees::forest::Forest;

/// A number with and without its group.
#[derive(Clone, Copy)]
struct Numbers {
    /// The group of the column behind it; none for counts and for the bucket.
    group: Option<usize>,
    present: i64,
    absent: i64,
}

/// The forest of a task over one row.
pub(super) struct TreeGame<'a> {
    forest: &'a Forest,
    numbers: Vec<Numbers>,
}

impl<'a> TreeGame<'a> {
    /// `cell` is one raw cell, `row` its output row. `None` for a task without trees.
    pub fn new(fitted: &'a Fitted, cell: &GridCell, task: usize, row: usize) -> Option<Self> {
        let forest = &fitted.tasks[task].trees.as_ref()?.forest;
        let target = fitted.config.towers[task].target;
        let absent = absent(fitted, cell);
        let group = |(kind, i): (usize, usize)| match kind {
            0 => fitted.layout.root[i].group,
            _ => fitted.layout.members[kind - 1].columns[i].group,
        };
        let numbers = forest.columns().iter().map(|column| Numbers {
            group: column.source(target).map(group),
            present: cell.value(*column, target, row),
            absent: absent.value(*column, target, row),
        });
        Some(Self {
            numbers: numbers.collect(),
            forest,
        })
    }

    /// The groups of which a number differs from its absence; some more than once.
    pub fn groups(&self) -> impl Iterator<Item = usize> {
        let differing = self.numbers.iter().filter(|n| n.present != n.absent);
        differing.filter_map(|n| n.group)
    }

    /// The forest's logits of these coalitions of the players that groups are.
    pub fn logits(
        &self,
        coalitions: &[Coalition],
        player_of: &[Option<u32>],
        head: &Head,
    ) -> Vec<f64> {
        let mut numbers = vec![0; self.numbers.len()];
        let of = coalitions.iter().map(|coalition| {
            for (to, number) in numbers.iter_mut().zip(&self.numbers) {
                let player = number.group.and_then(|group| player_of[group]);
                let is_in = player.is_none_or(|player| coalition >> player & 1 == 1);
                *to = if is_in { number.present } else { number.absent };
            }
            head.logit(&self.forest.outputs(&mut numbers))
        });
        of.collect()
    }
}

/// The cell with every column at what stands for its absence.
fn absent(fitted: &Fitted, cell: &GridCell) -> GridCell {
    let (layout, normaliser) = (&fitted.layout, &fitted.normaliser);
    let members = cell.members.iter().zip(&layout.members);
    let members = members.zip(&normaliser.members);
    GridCell {
        root: absent_row(&layout.root, &normaliser.root),
        members: members
            .map(|((rows, member), scales)| GridRows {
                values: absent_row(&member.columns, scales).repeat(rows.rows),
                ..*rows
            })
            .collect(),
    }
}

fn absent_row(columns: &[Column], scales: &Scales) -> Vec<i32> {
    let columns = columns.iter().zip(&scales.mean);
    columns
        .map(|(column, mean)| match column.absent {
            Absent::Zero => 0,
            Absent::Mean => on_grid(*mean),
        })
        .collect()
}
