//! Columns to a common scale: owns the mean and spread of every column over the training examples.
//!
//! The spread is robust: a second pass counts values beyond 8 standard deviations of the first as
//! if they were at 8. Normalised values are clipped at ±8. A column that does not vary becomes 0
//! everywhere.

use leadpulse_features::{Absent, Column, FeatureBatch, Layout};
use serde::{Deserialize, Serialize};

use crate::examples::ExampleSet;

/// Normalised values lie within ± this.
// A value that training never saw must not carry a linear layer away. Why 8 is unknown.
const CLIP: f32 = 8.0;
/// Below this share of the column's magnitude a standard deviation is rounding noise: the column is
/// constant.
const STD_FLOOR_RATIO: f64 = 1e-6;

/// The scale of each column of one kind of row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scales {
    /// Subtracted from the value of a column.
    pub mean: Vec<f32>,
    /// Multiplied with, after subtraction: 1 ÷ standard deviation, or 0 for a constant column.
    pub scale: Vec<f32>,
    /// The normalised value of a column whose group is taken out of an explanation.
    pub absent: Vec<f32>,
}

/// The scale of each column, of the root and of each member table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normaliser {
    pub(crate) root: Scales,
    pub(crate) members: Vec<Scales>,
}

/// The columns that a fit leaves out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Dropped {
    pub root: Vec<bool>,
    pub members: Vec<Vec<bool>>,
}

impl Dropped {
    /// Columns whose group code is one of `prefixes` or whose name starts with one.
    pub fn by_prefix(layout: &Layout, prefixes: &[String]) -> Self {
        let matches = |column: &Column| {
            prefixes.iter().any(|p| {
                layout
                    .groups
                    .get(column.group)
                    .is_some_and(|g| g.code == *p)
                    || column.name.starts_with(p.as_str())
            })
        };
        let of = |columns: &[Column]| columns.iter().map(matches).collect();
        Self {
            root: of(&layout.root),
            members: layout.members.iter().map(|m| of(&m.columns)).collect(),
        }
    }

    /// The columns that both drop.
    pub fn and(mut self, other: &Self) -> Self {
        let both = |a: &mut Vec<bool>, b: &[bool]| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a &= b);
        };
        both(&mut self.root, &other.root);
        for (a, b) in self.members.iter_mut().zip(&other.members) {
            both(a, b);
        }
        self
    }

    /// Whether nothing is dropped.
    pub fn is_empty(&self) -> bool {
        !self
            .root
            .iter()
            .chain(self.members.iter().flatten())
            .any(|d| *d)
    }
}

impl Scales {
    fn new(columns: &[Column], means: &[f64], squares: &[f64]) -> Self {
        let mut scales = Self::default();
        for ((column, mean), square) in columns.iter().zip(means).zip(squares) {
            let (std, floor) = (square.sqrt(), STD_FLOOR_RATIO * mean.abs().max(1e-3));
            let scale = if std > floor { (1.0 / std) as f32 } else { 0.0 };
            scales.mean.push(*mean as f32);
            scales.scale.push(scale);
            scales.absent.push(match column.absent {
                Absent::Zero => normalised(0.0, *mean as f32, scale),
                Absent::Mean => 0.0,
            });
        }
        scales
    }

    /// Value `x` of a column, normalised.
    pub fn normalised(&self, column: usize, x: f32) -> f32 {
        normalised(x, self.mean[column], self.scale[column])
    }

    fn apply(&self, row: &mut [f32]) {
        for ((x, mean), scale) in row.iter_mut().zip(&self.mean).zip(&self.scale) {
            *x = normalised(*x, *mean, *scale);
        }
    }

    fn without(&mut self, dropped: &[bool]) {
        for (i, _) in dropped.iter().enumerate().filter(|(_, d)| **d) {
            self.scale[i] = 0.0;
            self.absent[i] = 0.0;
        }
    }

    fn is_finite(&self) -> bool {
        self.mean
            .iter()
            .chain(&self.scale)
            .chain(&self.absent)
            .all(|x| x.is_finite())
    }

    fn has_width(&self, width: usize) -> bool {
        [&self.mean, &self.scale, &self.absent]
            .iter()
            .all(|v| v.len() == width)
    }
}

fn normalised(x: f32, mean: f32, scale: f32) -> f32 {
    ((x - mean) * scale).clamp(-CLIP, CLIP)
}

/// Per kind of row and column, the mean of a function of the value over every row of the examples.
/// Reads only values that are not 0: the others are counted.
fn means(examples: &ExampleSet, of: impl Fn(usize, usize, f64) -> f64) -> Vec<Vec<f64>> {
    let layout = examples.layout();
    let widths =
        || std::iter::once(layout.root.len()).chain(layout.members.iter().map(|m| m.columns.len()));
    let mut rows = vec![0.0; 1 + layout.members.len()];
    // Σ of the function over values that are not 0, and how many those are.
    let mut sums: Vec<Vec<(f64, f64)>> = widths().map(|width| vec![(0.0, 0.0); width]).collect();
    for (cell, uses) in examples.cells_used() {
        let uses = f64::from(uses);
        let count = |kind: usize, count: usize| rows[kind] += uses * count as f64;
        examples.cells().visit(cell, count, |kind, column, x| {
            let (sum, there) = &mut sums[kind][column];
            *sum += uses * of(kind, column, f64::from(x));
            *there += uses;
        });
    }
    let mean = |kind: usize, column: usize, (sum, there): (f64, f64)| {
        if rows[kind] > 0.0 {
            (sum + (rows[kind] - there) * of(kind, column, 0.0)) / rows[kind]
        } else {
            0.0
        }
    };
    let of_kind = |(kind, sums): (usize, Vec<(f64, f64)>)| {
        sums.into_iter()
            .enumerate()
            .map(|(i, s)| mean(kind, i, s))
            .collect()
    };
    sums.into_iter().enumerate().map(of_kind).collect()
}

impl Normaliser {
    /// Learns the scale of every column from training examples.
    pub fn fit(examples: &ExampleSet) -> Self {
        let layout = examples.layout();
        let first = means(examples, |_, _, x| x);
        let spread = means(examples, |kind, i, x| (x - first[kind][i]).powi(2));
        let bounded = |kind: usize, i: usize, x: f64| {
            let bound = f64::from(CLIP) * spread[kind][i].sqrt();
            x.clamp(first[kind][i] - bound, first[kind][i] + bound)
        };
        let means_bounded = means(examples, bounded);
        let squares = means(examples, |kind, i, x| {
            (bounded(kind, i, x) - means_bounded[kind][i]).powi(2)
        });
        let scales = |kind: usize, columns: &[Column]| {
            Scales::new(columns, &means_bounded[kind], &squares[kind])
        };
        Self {
            root: scales(0, &layout.root),
            members: layout
                .members
                .iter()
                .enumerate()
                .map(|(table, m)| scales(table + 1, &m.columns))
                .collect(),
        }
    }

    /// Normalises a batch in place. Padding rows stay 0.
    pub fn apply(&self, batch: &mut FeatureBatch) {
        for row in batch.root.chunks_exact_mut(self.root.mean.len().max(1)) {
            self.root.apply(row);
        }
        for (block, scales) in batch.members.iter_mut().zip(&self.members) {
            for (row, mask) in block
                .values
                .chunks_exact_mut(scales.mean.len().max(1))
                .zip(&block.mask)
            {
                if *mask != 0.0 {
                    scales.apply(row);
                }
            }
        }
    }

    /// The same with some columns made constant.
    pub(crate) fn without(&self, dropped: &Dropped) -> Self {
        let mut masked = self.clone();
        masked.root.without(&dropped.root);
        for (scales, dropped) in masked.members.iter_mut().zip(&dropped.members) {
            scales.without(dropped);
        }
        masked
    }

    /// Whether every number is finite.
    pub(crate) fn is_finite(&self) -> bool {
        self.root.is_finite() && self.members.iter().all(Scales::is_finite)
    }

    /// Whether it has one scale for each column of this layout.
    pub(crate) fn fits(&self, layout: &Layout) -> bool {
        self.root.has_width(layout.root.len())
            && self.members.len() == layout.members.len()
            && self
                .members
                .iter()
                .zip(&layout.members)
                .all(|(s, m)| s.has_width(m.columns.len()))
    }
}

#[cfg(test)]
mod tests {
    use leadpulse_graph::EntityId;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::network::head::Outcome;
    use crate::testing::{OwnedCell, batch_of, batch_of_owned, layout, one_set, random_cell};

    fn fitted(values: &[f32], absent: Absent) -> (Normaliser, Layout) {
        let mut layout = layout(1, &[]);
        layout.root[0].absent = absent;
        let cells: Vec<OwnedCell> = values.iter().map(|value| (vec![*value], vec![])).collect();
        (Normaliser::fit(&set(&layout, &cells)), layout)
    }

    fn set(layout: &Layout, cells: &[OwnedCell]) -> ExampleSet {
        one_set(layout, &batch_of_owned(layout, cells), |_| {
            (0, EntityId(0), 0, Outcome::Window(false))
        })
    }

    fn apply(normaliser: &Normaliser, layout: &Layout, x: f32) -> f32 {
        let mut batch = batch_of(layout, &[(&[x], &[])]);
        normaliser.apply(&mut batch);
        batch.root[0]
    }

    #[test]
    fn scales_clips_and_knows_absence() {
        let (n, layout) = fitted(&[1.0, 3.0], Absent::Zero);
        for (raw, expected) in [
            (2.0, 0.0),
            (3.0, 1.0),
            (0.0, -2.0),
            (1e9, 8.0),
            (-1e9, -8.0),
        ] {
            assert_eq!(apply(&n, &layout, raw), expected);
        }
        assert_eq!(n.root.absent, [-2.0]);
        assert_eq!(fitted(&[1.0, 3.0], Absent::Mean).0.root.absent, [0.0]);
    }

    #[test]
    fn constant_columns_are_zero() {
        let (n, layout) = fitted(&[0.1; 7], Absent::Zero);
        assert_eq!((apply(&n, &layout, 55.0), n.root.absent[0]), (0.0, 0.0));
    }

    #[test]
    fn one_outlier_does_not_flatten_a_column() {
        let mut values: Vec<f32> = (0..1000).map(|i| (i % 10) as f32).collect();
        values.push(1e6);
        let (n, layout) = fitted(&values, Absent::Zero);
        let plain_std = 1e6 / 1001f32.sqrt();
        assert!(apply(&n, &layout, 9.0) - apply(&n, &layout, 0.0) > 9.0 / plain_std * 3.0);
    }

    #[test]
    fn zeros_count_and_shared_cells_count_for_each_example() {
        let layout = layout(3, &[4]);
        let mut rng = ChaCha8Rng::seed_from_u64(12);
        let mut cells: Vec<OwnedCell> =
            (0..50).map(|_| random_cell(&layout, 3, &mut rng)).collect();
        for (row, tables) in &mut cells {
            row.iter_mut()
                .chain(tables.iter_mut().flatten().flatten())
                .for_each(|x| *x *= f32::from(u8::from(rng.random_bool(0.3))));
        }
        let mut set = set(&layout, &cells);
        (0..20).for_each(|i| set.push(set.examples()[i]));
        let normaliser = Normaliser::fit(&set);
        cells.extend_from_within(..20);
        let rows: Vec<&Vec<f32>> = cells.iter().flat_map(|(_, tables)| &tables[0]).collect();
        let check = |scales: &Scales, rows: &[&Vec<f32>]| {
            for i in 0..rows[0].len() {
                let n = rows.len() as f64;
                let mean = rows.iter().map(|r| f64::from(r[i])).sum::<f64>() / n;
                let variance = rows
                    .iter()
                    .map(|r| (f64::from(r[i]) - mean).powi(2))
                    .sum::<f64>()
                    / n;
                assert!(
                    (f64::from(scales.mean[i]) - mean).abs() < 1e-6
                        && (f64::from(scales.scale[i]) * variance.sqrt() - 1.0).abs() < 1e-6
                );
            }
        };
        check(
            &normaliser.root,
            &cells.iter().map(|(row, _)| row).collect::<Vec<_>>(),
        );
        check(&normaliser.members[0], &rows);
    }
}
