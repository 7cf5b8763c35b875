//! Column cohorts: rows by the values of a column, with the mean prediction beside the mean
//! outcome, so that a reader sees where the two part.
//!
//! Two kinds of columns are shown: those along which predictions differ most, and those with a
//! part of the rows that predictions miss by more than chance. Neither looks into the model.
//!
//! Decision: docs/decisions/0049-cohorts-by-what-tells-and-what-is-missed.md

use std::collections::BTreeMap;

use leadpulse_graph::EntityId;
use serde::{Deserialize, Serialize};

use super::numbers::RowNumbers;
use super::rows::EvaluatedRow;

/// Rows below which nothing is divided.
const MIN_ROWS: usize = 100;
/// The least share of the rows that is a part of its own.
const MIN_SHARE: f64 = 0.02;
/// Parts of a column's values, at most.
const MAX_PARTS: usize = 5;
/// Columns by the spread of predictions.
const MOST_TELLING: usize = 12;
/// Columns added because a part is missed by more than chance.
const MOST_MISSED: usize = 8;
/// Errors of chance from which predictions and outcomes part.
// About a hundred parts are looked at: two would be passed by five of them by chance alone.
const PARTING: f64 = 3.0;
/// Entities below which the error of chance is not known.
const MIN_ENTITIES: usize = 10;
/// Spreads up to this are what rounding leaves.
const NO_SPREAD: f64 = 1e-9;
/// The share of rows in like parts from which two columns say the same.
const SAME_SHARE: f64 = 0.95;

/// The rows by the values of one column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cohorts {
    /// The column's path; of a member task's own row after the table.
    pub column: String,
    /// The explanation group of the column.
    pub group: String,
    /// Share of the variance of the predictions (as logits) that lies between the parts, 0 to 1.
    pub spread: f64,
    /// Parts by value, ascending.
    pub parts: Vec<Cohort>,
}

/// The rows whose values of a column lie between two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cohort {
    /// Least and greatest value, as the model reads them (counts and amounts are logarithms).
    pub low: f64,
    pub high: f64,
    pub rows: usize,
    pub entities: usize,
    /// Share of all rows.
    pub share: f64,
    /// Mean prediction.
    pub predicted: f64,
    /// Mean outcome.
    pub observed: f64,
    /// (observed − predicted) ÷ its error of chance, in which an entity's rows count as one;
    /// `None` with fewer than 10 entities.
    pub gap_in_errors: Option<f64>,
}

impl Cohort {
    /// True where prediction and outcome differ by more than chance explains.
    pub fn is_missed(&self) -> bool {
        self.gap_in_errors.is_some_and(|gap| gap.abs() >= PARTING)
    }
}

/// The columns worth showing, the most telling first. None with fewer than 100 rows.
pub(super) fn cohorts(
    numbers: &RowNumbers,
    rows: &[EvaluatedRow],
    is_regression: bool,
) -> Vec<Cohorts> {
    let known = rows.iter().filter_map(|row| {
        let numbers = numbers.get(row.entity, row.at_ms)?;
        Some((row, numbers))
    });
    let known: Vec<(&EvaluatedRow, &[f32])> = known.collect();
    if known.len() < MIN_ROWS {
        return Vec::new();
    }
    let scores: Vec<f64> = known
        .iter()
        .map(|(row, _)| score(row.predicted, is_regression))
        .collect();
    let divided = numbers
        .names
        .iter()
        .enumerate()
        .filter_map(|(index, name)| {
            let values: Vec<f32> = known.iter().map(|(_, numbers)| numbers[index]).collect();
            let parts = divide(&values)?;
            let spread = spread(&scores, &parts);
            let found = judged(&known, &values, &parts);
            let cohorts = Cohorts {
                column: name.column.clone(),
                group: name.group.clone(),
                spread,
                parts: found,
            };
            Some((cohorts, parts))
        });
    chosen(divided.collect())
}

/// The columns to show out of all that could be divided, with the part of each row.
fn chosen(mut divided: Vec<(Cohorts, Vec<u8>)>) -> Vec<Cohorts> {
    let mut shown: Vec<(Cohorts, Vec<u8>)> = Vec::new();
    let missed = |cohorts: &Cohorts| {
        let gaps = cohorts.parts.iter().filter_map(|part| part.gap_in_errors);
        gaps.fold(0.0, |most: f64, gap| most.max(gap.abs()))
    };
    divided.sort_by(|(a, _), (b, _)| b.spread.total_cmp(&a.spread));
    let mut rest = Vec::new();
    for candidate in divided {
        let is_new = !shown.iter().any(|(_, parts)| is_same(parts, &candidate.1));
        if is_new && shown.len() < MOST_TELLING && candidate.0.spread > NO_SPREAD {
            shown.push(candidate);
        } else if is_new {
            rest.push(candidate);
        }
    }
    rest.retain(|(cohorts, _)| missed(cohorts) >= PARTING);
    rest.sort_by(|(a, _), (b, _)| missed(b).total_cmp(&missed(a)));
    let telling = shown.len();
    for candidate in rest {
        let is_new = !shown.iter().any(|(_, parts)| is_same(parts, &candidate.1));
        if is_new && shown.len() < telling + MOST_MISSED {
            shown.push(candidate);
        }
    }
    shown.into_iter().map(|(cohorts, _)| cohorts).collect()
}

/// The scale on which predictions are compared: logits, or the logarithm of a number.
fn score(predicted: f64, is_regression: bool) -> f64 {
    if is_regression {
        return predicted.signum() * predicted.abs().ln_1p();
    }
    let p = predicted.clamp(1e-6, 1.0 - 1e-6);
    (p / (1.0 - p)).ln()
}

/// The part of each row: zeros apart where they are many, other values in equal shares, equal
/// values never apart. `None` where all rows would be in one part.
fn divide(values: &[f32]) -> Option<Vec<u8>> {
    let least = ((values.len() as f64 * MIN_SHARE) as usize).max(1);
    let mut sorted: Vec<f32> = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    let zeros = sorted.iter().filter(|value| **value == 0.0).count();
    let has_zeros = zeros >= least;
    let room = MAX_PARTS - usize::from(has_zeros);
    let share = (values.len() - if has_zeros { zeros } else { 0 }).div_ceil(room);
    let share = share.max(least);
    // The greatest value of each part.
    let mut edges: Vec<f32> = Vec::new();
    let mut count = 0;
    for equal in sorted.chunk_by(|a, b| a == b) {
        let is_zero = has_zeros && equal[0] == 0.0;
        // A part of negative values ends before the zeros, however small.
        if is_zero && count > 0 {
            edges.push(below(&sorted, equal[0]));
            count = 0;
        }
        count += equal.len();
        if is_zero || count >= share {
            edges.push(equal[0]);
            count = 0;
        }
    }
    match edges.last_mut() {
        // Too few are left for a part of their own.
        Some(last) if count < least && *last != 0.0 => *last = f32::INFINITY,
        _ if count > 0 => edges.push(f32::INFINITY),
        _ => {}
    }
    let part = |value: &f32| edges.partition_point(|edge| edge < value) as u8;
    let parts: Vec<u8> = values.iter().map(part).collect();
    parts.iter().any(|part| *part != parts[0]).then_some(parts)
}

/// The greatest of sorted values below one of them.
fn below(sorted: &[f32], value: f32) -> f32 {
    let place = sorted.partition_point(|other| *other < value);
    sorted[place - 1]
}

/// The share of the variance of the scores that lies between the parts.
fn spread(scores: &[f64], parts: &[u8]) -> f64 {
    let mean = scores.iter().sum::<f64>() / scores.len() as f64;
    let total: f64 = scores.iter().map(|score| (score - mean).powi(2)).sum();
    let mut sums = [(0.0, 0.0); MAX_PARTS + 2];
    for (score, part) in scores.iter().zip(parts) {
        let (sum, rows) = &mut sums[usize::from(*part)];
        *sum += score;
        *rows += 1.0;
    }
    let between = sums.iter().filter(|(_, rows)| *rows > 0.0);
    let between: f64 = between
        .map(|(sum, rows)| rows * (sum / rows - mean).powi(2))
        .sum();
    if total > 0.0 { between / total } else { 0.0 }
}

/// The figures of each part that has rows.
fn judged(known: &[(&EvaluatedRow, &[f32])], values: &[f32], parts: &[u8]) -> Vec<Cohort> {
    let last = parts.iter().copied().max().unwrap_or(0);
    let figures = (0..=last).filter_map(|number| {
        let of_part = (0..known.len()).filter(|row| parts[*row] == number);
        let of_part: Vec<usize> = of_part.collect();
        let mut gaps: BTreeMap<EntityId, f64> = BTreeMap::new();
        let (mut predicted, mut observed) = (0.0, 0.0);
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for &index in &of_part {
            let row = known[index].0;
            *gaps.entry(row.entity).or_default() += row.label - row.predicted;
            predicted += row.predicted;
            observed += row.label;
            low = low.min(f64::from(values[index]));
            high = high.max(f64::from(values[index]));
        }
        if of_part.is_empty() {
            return None;
        }
        let rows = of_part.len() as f64;
        let error = gaps.values().map(|gap| gap * gap).sum::<f64>().sqrt() / rows;
        let (predicted, observed) = (predicted / rows, observed / rows);
        let is_known = gaps.len() >= MIN_ENTITIES && error > 0.0;
        Some(Cohort {
            low,
            high,
            rows: of_part.len(),
            entities: gaps.len(),
            share: rows / known.len() as f64,
            predicted,
            observed,
            gap_in_errors: is_known.then(|| (observed - predicted) / error),
        })
    });
    figures.collect()
}

/// True if two columns divide the rows alike, in either direction.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    let count = |parts: &[u8]| parts.iter().copied().max().unwrap_or(0);
    let (last, other) = (count(a), count(b));
    if last != other {
        return false;
    }
    let enough = |alike: usize| alike as f64 >= SAME_SHARE * a.len() as f64;
    let pairs = || a.iter().zip(b);
    enough(pairs().filter(|(a, b)| a == b).count())
        || enough(pairs().filter(|(a, b)| **a == last - **b).count())
}

#[cfg(test)]
mod tests {
    use leadpulse_features::FeatureBatch;

    use super::super::numbers::NumberName;
    use super::super::rows::RowFacts;
    use super::*;

    #[test]
    fn zeros_stand_apart_and_equal_values_together() {
        let check = |values: &[(f32, usize)], expected: &[usize]| {
            let all = values.iter().flat_map(|(value, rows)| vec![*value; *rows]);
            let parts = divide(&all.collect::<Vec<f32>>());
            let parts = parts.unwrap_or_default();
            let last = parts.iter().copied().max().unwrap_or(0);
            let count = |part: u8| parts.iter().filter(|p| **p == part).count();
            let counts: Vec<usize> = (0..=last).map(count).filter(|n| *n > 0).collect();
            assert_eq!(counts, expected, "{values:?}");
        };
        check(&[(0.0, 900), (1.0, 60), (2.0, 40)], &[900, 60, 40]);
        check(&[(0.0, 999), (1.0, 1)], &[999, 1]);
        check(&[(0.0, 5), (1.0, 500), (2.0, 495)], &[505, 495]);
        check(&[(-1.0, 10), (0.0, 500), (1.0, 490)], &[10, 500, 490]);
        let even: Vec<(f32, usize)> = (1..=100).map(|value| (value as f32, 10)).collect();
        check(&even, &[200, 200, 200, 200, 200]);
        check(&[(3.0, 1000)], &[]);
    }

    /// Rows of 500 entities: the first column makes the prediction, the second repeats it, the
    /// third adds `missed` to the outcome's rate and is not predicted, the fourth is constant.
    fn found(missed: bool) -> Vec<Cohorts> {
        let names = ["known", "again", "hidden", "constant"].map(|column| NumberName {
            column: column.into(),
            group: "g".into(),
        });
        let mut numbers = RowNumbers::default();
        numbers.names = names.into();
        let mut rows = Vec::new();
        for entity in 0..500 {
            for anchor in 0..4 {
                let (known, hidden) = (entity % 2, (entity / 2) % 2);
                let of_ten = entity / 4 % 10;
                let rate = 2 + 2 * known + if missed { 3 * hidden } else { 0 };
                let row = EvaluatedRow {
                    entity: EntityId(entity),
                    at_ms: anchor,
                    predicted: 0.2 + 0.2 * f64::from(known),
                    label: f64::from(u8::from(of_ten < rate)),
                    facts: RowFacts::default(),
                };
                let batch = FeatureBatch {
                    cells: 1,
                    root: vec![known as f32, 2.0 * known as f32, hidden as f32, 1.0],
                    ..FeatureBatch::default()
                };
                numbers.note((row.entity, anchor), &batch, (0, 0));
                rows.push(row);
            }
        }
        cohorts(&numbers, &rows, false)
    }

    #[test]
    fn a_column_that_predictions_miss_is_shown_after_those_that_tell() {
        let found = found(true);
        let names: Vec<&str> = found.iter().map(|c| c.column.as_str()).collect();
        assert_eq!(names, ["known", "hidden"]);
        assert!((found[0].spread - 1.0).abs() < 1e-9 && found[1].spread < 1e-9);
        let hidden = found[1].parts[1];
        assert_eq!((hidden.rows, hidden.entities), (1000, 250));
        assert!((hidden.predicted - 0.3).abs() < 0.01, "{hidden:?}");
        assert!((hidden.observed - 0.6).abs() < 0.03, "{hidden:?}");
        assert!(hidden.is_missed() && !found[1].parts[0].is_missed());
    }

    #[test]
    fn true_predictions_are_missed_nowhere() {
        let found = found(false);
        let names: Vec<&str> = found.iter().map(|c| c.column.as_str()).collect();
        assert_eq!(names, ["known"]);
        let mut parts = found.iter().flat_map(|cohorts| &cohorts.parts);
        assert!(parts.all(|part| !part.is_missed()), "{found:?}");
    }
}
