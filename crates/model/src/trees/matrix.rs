//! The table that trees are grown on: a row per example and open bucket, a column per number.

use crate::examples::ExampleSet;
use crate::network::TowerTarget;
use crate::trees::columns::{GridCell, TreeColumn};

/// Cells made dense at a time.
const CHUNK: usize = 64;
/// Examples that are looked at, evenly spread, to find the columns that vary.
// A column that is constant over so many teaches nothing that a forest could keep.
const LOOKED_AT: usize = 20_000;

/// One row: an example that is at risk at the start of a bucket whose end has passed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PeriodRow {
    /// Index into the examples.
    pub example: usize,
    /// Index of the output.
    pub bucket: usize,
    pub target: f64,
    pub weight: f64,
}

/// Rows of some examples with the numbers of some columns.
pub(super) struct PeriodTable {
    pub rows: Vec<PeriodRow>,
    /// Column after column, as the library wants them.
    pub values: Vec<f64>,
}

impl PeriodTable {
    /// Fills the table. Rows of one example follow each other.
    pub fn new(
        set: &ExampleSet,
        target: TowerTarget,
        columns: &[TreeColumn],
        rows: Vec<PeriodRow>,
    ) -> Self {
        let mut values = vec![0.0; rows.len() * columns.len()];
        let mut examples: Vec<usize> = rows.iter().map(|row| row.example).collect();
        examples.dedup();
        let mut next = 0;
        for_each_cell(set, &examples, |index, cell, own| {
            let numbers: Vec<i64> = columns
                .iter()
                .map(|c| cell.value(*c, target, own))
                .collect();
            while rows
                .get(next)
                .is_some_and(|row| row.example == examples[index])
            {
                for (c, (column, number)) in columns.iter().zip(&numbers).enumerate() {
                    values[c * rows.len() + next] = match column {
                        TreeColumn::Bucket => rows[next].bucket as f64,
                        _ => *number as f64,
                    };
                }
                next += 1;
            }
        });
        Self { rows, values }
    }

    /// A cut that sends left what `number < cut` does, halfway to the next number of the table
    /// below. The cut then lies as far from what was seen as it can.
    pub fn cut_below(&self, column: usize, cut: f64) -> i64 {
        let values = &self.values[column * self.rows.len()..(column + 1) * self.rows.len()];
        let below = values.iter().copied().filter(|x| *x < cut);
        let (above, below) = (cut as i64, below.fold(f64::NEG_INFINITY, f64::max));
        if below == f64::NEG_INFINITY {
            return above - 1;
        }
        let below = below as i64;
        // "At most c" is a cut at c + ½: c lies from `below` to `above − 1`.
        below + (above - 1 - below) / 2
    }
}

/// Keeps at most so many rows. With `rare` outcomes, rows in which the target came true are thinned
/// last and to half of the room at most; the weight of the others rises by what was left out.
pub(super) fn thinned(rows: Vec<PeriodRow>, most: usize, rare: bool) -> Vec<PeriodRow> {
    if rows.len() <= most {
        return rows;
    }
    let is_event = |row: &PeriodRow| rare && row.target > 0.5;
    let events = rows.iter().filter(|row| is_event(row)).count();
    let kept = events.min(most / 2);
    let share = |of: usize, room: usize| (room as f64 / of.max(1) as f64).min(1.0);
    let (event_share, other_share) = (share(events, kept), share(rows.len() - events, most - kept));
    rows.into_iter()
        .filter_map(|row| {
            let share = if is_event(&row) {
                event_share
            } else {
                other_share
            };
            let weight = row.weight / share;
            (uniform(row) < share).then_some(PeriodRow { weight, ..row })
        })
        .collect()
}

/// A number from 0 to 1 that the row's place decides.
fn uniform(row: PeriodRow) -> f64 {
    let mut x = ((row.example as u64) << 8 ^ row.bucket as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

/// The columns, of those given, that differ between examples, or between rows in the bucket.
pub(super) fn varying(
    set: &ExampleSet,
    target: TowerTarget,
    columns: Vec<TreeColumn>,
    rows: &[PeriodRow],
) -> Vec<TreeColumn> {
    let step = rows.len().div_ceil(LOOKED_AT).max(1);
    let mut examples: Vec<usize> = rows.iter().step_by(step).map(|row| row.example).collect();
    examples.dedup();
    let mut first: Vec<i64> = Vec::new();
    let mut varies = vec![false; columns.len()];
    for_each_cell(set, &examples, |_, cell, own| {
        let numbers = columns.iter().map(|c| cell.value(*c, target, own));
        if first.is_empty() {
            first.extend(numbers);
        } else {
            for ((varies, number), first) in varies.iter_mut().zip(numbers).zip(&first) {
                *varies |= number != *first;
            }
        }
    });
    let buckets = rows.windows(2).any(|w| w[0].bucket != w[1].bucket);
    let columns = columns.into_iter().zip(varies);
    columns
        .filter(|(column, varies)| *varies || (*column == TreeColumn::Bucket && buckets))
        .map(|(column, _)| column)
        .collect()
}

/// Hands each example's cell to `each`, with the index in the list and the slot it asks about.
pub(super) fn for_each_cell(
    set: &ExampleSet,
    examples: &[usize],
    mut each: impl FnMut(usize, &GridCell, usize),
) {
    for (chunk, some) in examples.chunks(CHUNK).enumerate() {
        let batch = set.feature_batch(some);
        for (i, example) in some.iter().enumerate() {
            let slot = set.examples()[*example].slot;
            each(chunk * CHUNK + i, &GridCell::new(&batch, i), slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(n: usize, every: usize) -> Vec<PeriodRow> {
        (0..n)
            .map(|example| PeriodRow {
                example,
                bucket: 0,
                target: f64::from(u8::from(example.is_multiple_of(every))),
                weight: 1.0,
            })
            .collect()
    }

    #[test]
    fn rare_outcomes_stay_and_the_others_weigh_more() {
        assert_eq!(thinned(rows(100, 10), 100, true), rows(100, 10));
        let few = thinned(rows(100_000, 100), 20_000, true);
        let events: f64 = few.iter().map(|row| row.target).sum();
        assert_eq!(events, 1000.0);
        assert!((18_000..22_000).contains(&few.len()), "{}", few.len());
        let weight: f64 = few.iter().map(|row| row.weight).sum();
        assert!((weight / 100_000.0 - 1.0).abs() < 0.02, "{weight}");
        // Common outcomes are thinned too, and keep their rate.
        let few = thinned(rows(100_000, 2), 10_000, true);
        assert!((9_000..11_000).contains(&few.len()), "{}", few.len());
        let weighted: f64 = few.iter().map(|row| row.weight * row.target).sum();
        assert!((weighted / 50_000.0 - 1.0).abs() < 0.05, "{weighted}");
    }

    #[test]
    fn cuts_lie_halfway_between_what_was_seen() {
        let table = PeriodTable {
            rows: rows(4, 2),
            values: vec![0.0, 10.0, 0.0, 11.0],
        };
        for (cut, expected) in [(10.0, 4), (11.0, 10), (0.0, -1)] {
            assert_eq!(table.cut_below(0, cut), expected, "{cut}");
        }
    }
}
