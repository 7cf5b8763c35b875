//! Columns to a common scale: owns the mean and spread of every column over the training examples.
//!
//! The spread is robust: a second pass counts values beyond 8 standard deviations of the first as if they were at 8. Normalised
//! values are clipped at ±8. A column that does not vary becomes 0 everywhere.

use leadpulse_features::{Absent, Column, FeatureBatch, Layout};
use serde::{Deserialize, Serialize};

use crate::examples::ExampleSet;

/// Normalised values lie within ± this.
const CLIP: f32 = 8.0;
/// Below this share of the column's magnitude a standard deviation is rounding noise: the column is constant.
const STD_FLOOR_RATIO: f64 = 1e-6;

/// The scale of each column of one kind of row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scales {
    /// Subtracted.
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

/// Which columns a fit leaves out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Dropped {
    pub root: Vec<bool>,
    pub members: Vec<Vec<bool>>,
}

impl Dropped {
    /// Columns whose group code is one of `prefixes` or whose name starts with one.
    pub fn by_prefix(layout: &Layout, prefixes: &[String]) -> Self {
        let matches = |column: &Column| {
            prefixes.iter().any(|p| layout.groups.get(column.group).is_some_and(|g| g.code == *p) || column.name.starts_with(p.as_str()))
        };
        let of = |columns: &[Column]| columns.iter().map(matches).collect();
        Self { root: of(&layout.root), members: layout.members.iter().map(|m| of(&m.columns)).collect() }
    }

    /// Whether nothing is dropped.
    pub fn is_empty(&self) -> bool {
        !self.root.iter().chain(self.members.iter().flatten()).any(|d| *d)
    }
}

impl Scales {
    fn fit<'a, I: Iterator<Item = &'a [f32]>>(columns: &[Column], rows: impl Fn() -> I) -> Self {
        let width = columns.len();
        let first = moments(rows(), width, |_, x| x);
        let bounds: Vec<(f64, f64)> =
            first.iter().map(|(mean, std)| (mean - f64::from(CLIP) * std, mean + f64::from(CLIP) * std)).collect();
        let second = moments(rows(), width, |i, x| x.clamp(bounds[i].0, bounds[i].1));
        let mut scales = Self::default();
        for (column, (mean, std)) in columns.iter().zip(second) {
            let floor = STD_FLOOR_RATIO * mean.abs().max(1e-3);
            let scale = if std > floor { (1.0 / std) as f32 } else { 0.0 };
            scales.mean.push(mean as f32);
            scales.scale.push(scale);
            scales.absent.push(match column.absent {
                Absent::Zero => normalised(0.0, mean as f32, scale),
                Absent::Mean => 0.0,
            });
        }
        scales
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
        self.mean.iter().chain(&self.scale).chain(&self.absent).all(|x| x.is_finite())
    }

    fn has_width(&self, width: usize) -> bool {
        [&self.mean, &self.scale, &self.absent].iter().all(|v| v.len() == width)
    }
}

fn normalised(x: f32, mean: f32, scale: f32) -> f32 {
    ((x - mean) * scale).clamp(-CLIP, CLIP)
}

fn moments<'a>(rows: impl Iterator<Item = &'a [f32]>, width: usize, value: impl Fn(usize, f64) -> f64) -> Vec<(f64, f64)> {
    // Welford: one pass, and no cancellation for columns whose mean is far above their spread.
    let mut count = 0.0;
    let mut moments = vec![(0.0f64, 0.0f64); width];
    for row in rows {
        count += 1.0;
        for (i, (mean, squares)) in moments.iter_mut().enumerate() {
            let x = value(i, f64::from(row[i]));
            let delta = x - *mean;
            *mean += delta / count;
            *squares += delta * (x - *mean);
        }
    }
    moments.into_iter().map(|(mean, squares)| (mean, if count > 0.0 { (squares / count).sqrt() } else { 0.0 })).collect()
}

impl Normaliser {
    /// Learns the scale of every column from training examples.
    pub fn fit(examples: &ExampleSet) -> Self {
        let layout = examples.layout();
        Self {
            root: Scales::fit(&layout.root, || examples.root_rows()),
            members: layout.members.iter().enumerate().map(|(t, m)| Scales::fit(&m.columns, || examples.member_rows(t))).collect(),
        }
    }

    /// Normalises a batch in place. Padding rows stay 0.
    pub fn apply(&self, batch: &mut FeatureBatch) {
        for row in batch.root.chunks_exact_mut(self.root.mean.len().max(1)) {
            self.root.apply(row);
        }
        for (block, scales) in batch.members.iter_mut().zip(&self.members) {
            for (row, mask) in block.values.chunks_exact_mut(scales.mean.len().max(1)).zip(&block.mask) {
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
            && self.members.iter().zip(&layout.members).all(|(s, m)| s.has_width(m.columns.len()))
    }
}

#[cfg(test)]
mod tests {
    use leadpulse_graph::EntityId;

    use super::*;
    use crate::head::Outcome;
    use crate::testing::{batch_of, layout};

    fn fitted(values: &[f32], absent: Absent) -> (Normaliser, Layout) {
        let mut layout = layout(1, &[]);
        layout.root[0].absent = absent;
        let mut set = ExampleSet::new(&layout);
        for value in values {
            set.push(&batch_of(&layout, &[(&[*value], &[])]), 0, 0, EntityId(0), 0, Outcome::Window(false));
        }
        (Normaliser::fit(&set), layout)
    }

    fn apply(normaliser: &Normaliser, layout: &Layout, x: f32) -> f32 {
        let mut batch = batch_of(layout, &[(&[x], &[])]);
        normaliser.apply(&mut batch);
        batch.root[0]
    }

    #[test]
    fn scales_clips_and_knows_absence() {
        let (n, layout) = fitted(&[1.0, 3.0], Absent::Zero);
        for (raw, expected) in [(2.0, 0.0), (3.0, 1.0), (0.0, -2.0), (1e9, 8.0), (-1e9, -8.0)] {
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
}
