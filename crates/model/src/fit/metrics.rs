//! Quality of predictions. Ties never depend on the order of rows: tied scores share what their
//! places give.

use serde::{Deserialize, Serialize};

/// Bins of the calibration error, of equal mass.
// As many as in Guo et al., "On Calibration of Modern Neural Networks", 2017 ([arXiv
// 1706.04599](https://arxiv.org/abs/1706.04599)), but of equal mass: with rare outcomes nearly all
// rows would lie in the first bin of equal width.
const ECE_BINS: usize = 15;
/// Probabilities are kept this far from 0 and 1 in the log loss.
// A single wrong certainty would make the mean infinite.
const PROBABILITY_FLOOR: f64 = 1e-12;

/// Of a task whose outcome is yes or no.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BinaryMetrics {
    /// Rows with an outcome.
    pub rows: usize,
    /// Rows whose outcome is yes.
    pub positives: usize,
    /// Area under the ROC curve; `None` with one kind of outcome only.
    pub auroc: Option<f64>,
    /// Average precision; `None` without positives.
    pub average_precision: Option<f64>,
    /// Mean negative log likelihood, nats.
    pub log_loss: f64,
    /// Mean squared error of the probability.
    pub brier: f64,
    /// Expected calibration error over 15 bins of equal mass.
    pub ece: f64,
    /// Rate among the highest 20 % of scores ÷ base rate; `None` without positives.
    pub lift_at_20_percent: Option<f64>,
    /// Rate among the highest 2 %.
    pub precision_at_2_percent: f64,
    /// Rate among the highest 5 %.
    pub precision_at_5_percent: f64,
    /// Rate among the highest 10 %.
    pub precision_at_10_percent: f64,
}

/// Of a task whose outcome is a number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegressionMetrics {
    /// Rows with an outcome.
    pub rows: usize,
    /// Mean absolute error, in units of the target.
    pub mae: f64,
    /// Mean absolute error of sign · log(1 + |value|), the scale that is learnt. Ranks are the same
    /// on both.
    pub mae_log1p: f64,
    /// Rank correlation; `None` where one side does not vary.
    pub spearman: Option<f64>,
}

impl BinaryMetrics {
    /// Compares probabilities with outcomes, row by row. `None` without rows.
    pub fn of(probabilities: &[f64], outcomes: &[bool]) -> Option<Self> {
        if outcomes.is_empty() || probabilities.len() != outcomes.len() {
            return None;
        }
        let rows = outcomes.len();
        let positives = outcomes.iter().filter(|o| **o).count();
        let ranked = Ranked::new(probabilities, outcomes);
        let base_rate = positives as f64 / rows as f64;
        let pairs = || {
            probabilities
                .iter()
                .zip(outcomes)
                .map(|(p, o)| (*p, f64::from(*o)))
        };
        Some(Self {
            rows,
            positives,
            auroc: ranked.auroc(),
            average_precision: ranked.average_precision(),
            log_loss: pairs().map(|(p, y)| log_loss(p, y)).sum::<f64>() / rows as f64,
            brier: pairs().map(|(p, y)| (p - y).powi(2)).sum::<f64>() / rows as f64,
            ece: ranked.ece(),
            lift_at_20_percent: (positives > 0).then(|| ranked.precision_at(0.20) / base_rate),
            precision_at_2_percent: ranked.precision_at(0.02),
            precision_at_5_percent: ranked.precision_at(0.05),
            precision_at_10_percent: ranked.precision_at(0.10),
        })
    }
}

impl RegressionMetrics {
    /// Compares predictions with outcomes, row by row. `None` without rows.
    pub fn of(predictions: &[f64], outcomes: &[f64]) -> Option<Self> {
        if outcomes.is_empty() || predictions.len() != outcomes.len() {
            return None;
        }
        let rows = outcomes.len();
        let log1p = |x: f64| x.signum() * x.abs().ln_1p();
        let mean_error = |scale: fn(f64) -> f64| {
            let errors = predictions
                .iter()
                .zip(outcomes)
                .map(|(p, y)| (scale(*p) - scale(*y)).abs());
            errors.sum::<f64>() / rows as f64
        };
        let (mae, mae_log1p) = (mean_error(|x| x), mean_error(log1p));
        Some(Self {
            rows,
            mae,
            mae_log1p,
            spearman: correlation(&mid_ranks(predictions), &mid_ranks(outcomes)),
        })
    }
}

/// Negative log likelihood of outcome `y` (1 or 0) under probability `p`.
fn log_loss(p: f64, y: f64) -> f64 {
    let p = p.clamp(PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR);
    -(y * p.ln() + (1.0 - y) * (1.0 - p).ln())
}

/// Rows of one score.
struct Tie {
    score: f64,
    rows: f64,
    positives: f64,
}

/// Groups of tied rows, highest score first.
struct Ranked {
    ties: Vec<Tie>,
    rows: f64,
    positives: f64,
}

impl Ranked {
    fn new(scores: &[f64], outcomes: &[bool]) -> Self {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let mut ties: Vec<Tie> = Vec::new();
        for i in order {
            let positive = f64::from(outcomes[i]);
            match ties.last_mut() {
                Some(tie) if tie.score == scores[i] => {
                    tie.rows += 1.0;
                    tie.positives += positive;
                }
                _ => ties.push(Tie {
                    score: scores[i],
                    rows: 1.0,
                    positives: positive,
                }),
            }
        }
        let positives = ties.iter().map(|t| t.positives).sum();
        Self {
            ties,
            rows: scores.len() as f64,
            positives,
        }
    }

    /// The probability that a positive row stands above a negative one, a tie counting half.
    fn auroc(&self) -> Option<f64> {
        let negatives = self.rows - self.positives;
        if self.positives == 0.0 || negatives == 0.0 {
            return None;
        }
        let mut positives_above = 0.0;
        let mut won = 0.0;
        for tie in &self.ties {
            won += (tie.rows - tie.positives) * (positives_above + tie.positives / 2.0);
            positives_above += tie.positives;
        }
        Some(won / (self.positives * negatives))
    }

    /// Σ over distinct scores of the recall gained there × the precision down to there.
    fn average_precision(&self) -> Option<f64> {
        if self.positives == 0.0 {
            return None;
        }
        let (mut rows, mut positives, mut sum) = (0.0, 0.0, 0.0);
        for tie in &self.ties {
            rows += tie.rows;
            positives += tie.positives;
            sum += tie.positives / self.positives * positives / rows;
        }
        Some(sum)
    }

    /// The rate among the highest `ratio` of rows, at least one; a tie at the edge counts by its
    /// mean rate.
    fn precision_at(&self, ratio: f64) -> f64 {
        let wanted = (self.rows * ratio).floor().max(1.0);
        let (mut rows, mut positives) = (0.0, 0.0);
        for tie in &self.ties {
            let taken = tie.rows.min(wanted - rows);
            positives += tie.positives * taken / tie.rows;
            rows += taken;
            if rows >= wanted {
                break;
            }
        }
        positives / wanted
    }

    /// Mean over bins of equal mass of |mean probability − rate|. A tie across an edge is split in
    /// proportion.
    fn ece(&self) -> f64 {
        let bins = ECE_BINS.min(self.rows as usize) as f64;
        let mass = self.rows / bins;
        let (mut error, mut room, mut expected, mut observed) = (0.0, mass, 0.0, 0.0);
        for tie in &self.ties {
            let mut left = tie.rows;
            while left > 1e-9 {
                let taken = left.min(room);
                expected += tie.score * taken;
                observed += tie.positives * taken / tie.rows;
                left -= taken;
                room -= taken;
                if room <= 1e-9 {
                    error += f64::abs(expected - observed);
                    (room, expected, observed) = (mass, 0.0, 0.0);
                }
            }
        }
        (error + f64::abs(expected - observed)) / self.rows
    }
}

fn mid_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let end = start
            + order[start..]
                .iter()
                .take_while(|i| values[**i] == values[order[start]])
                .count();
        for i in &order[start..end] {
            ranks[*i] = (start + end - 1) as f64 / 2.0;
        }
        start = end;
    }
    ranks
}

fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        ab += (x - mean_a) * (y - mean_b);
        aa += (x - mean_a).powi(2);
        bb += (y - mean_b).powi(2);
    }
    (aa > 0.0 && bb > 0.0).then(|| ab / (aa * bb).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(actual: f64, expected: f64) {
        assert!(
            (actual - expected).abs() < 1e-12,
            "{actual} instead of {expected}"
        );
    }

    #[test]
    fn binary_metrics_by_hand_with_ties() {
        // Scores .9 .7 .7 .7 .2 with outcomes 1 1 0 0 1: of 6 pairs .9 wins 2, .7 ties 2 of 2, .2
        // loses 2 → 3 of 6.
        let m = BinaryMetrics::of(
            &[0.9, 0.7, 0.7, 0.7, 0.2],
            &[true, true, false, false, true],
        )
        .unwrap();
        assert_eq!((m.rows, m.positives), (5, 3));
        check(m.auroc.unwrap(), 0.5);
        check(m.average_precision.unwrap(), 1.0 / 3.0 * (1.0 + 0.5 + 0.6));
        check(m.brier, (0.01 + 0.09 + 0.49 + 0.49 + 0.64) / 5.0);
        check(
            m.log_loss,
            -(0.9f64.ln() + 0.7f64.ln() + 2.0 * 0.3f64.ln() + 0.2f64.ln()) / 5.0,
        );
        check(m.lift_at_20_percent.unwrap(), 1.0 / 0.6);
        check(m.precision_at_10_percent, 1.0);
        // Five bins of one row each; the tied three share a rate of 1/3.
        check(m.ece, (0.1 + 3.0 * (0.7 - 1.0 / 3.0) + 0.8) / 5.0);
    }

    #[test]
    fn a_tie_at_the_edge_counts_by_its_rate() {
        let scores = [vec![0.5; 10], vec![0.1; 10]].concat();
        let outcomes: Vec<bool> = (0..20).map(|i| i < 4).collect();
        let m = BinaryMetrics::of(&scores, &outcomes).unwrap();
        check(m.precision_at_10_percent, 0.4);
        check(m.lift_at_20_percent.unwrap(), 2.0);
        let reversed: Vec<bool> = (0..20).map(|i| (6..10).contains(&i)).collect();
        assert_eq!(BinaryMetrics::of(&scores, &reversed).unwrap(), m);
    }

    #[test]
    fn perfect_reversed_and_one_sided() {
        let outcomes = [false, false, true, true];
        assert_eq!(
            BinaryMetrics::of(&[0.1, 0.2, 0.3, 0.4], &outcomes)
                .unwrap()
                .auroc,
            Some(1.0)
        );
        assert_eq!(
            BinaryMetrics::of(&[0.4, 0.3, 0.2, 0.1], &outcomes)
                .unwrap()
                .auroc,
            Some(0.0)
        );
        let none = BinaryMetrics::of(&[0.4, 0.3], &[false, false]).unwrap();
        assert_eq!(
            (none.auroc, none.average_precision, none.lift_at_20_percent),
            (None, None, None)
        );
        assert_eq!(BinaryMetrics::of(&[], &[]), None);
    }

    #[test]
    fn calibrated_bins_have_no_error() {
        let probabilities: Vec<f64> = (0..150).map(|i| f64::from(i / 10) / 15.0).collect();
        let outcomes: Vec<bool> = (0..150)
            .map(|i| f64::from(i % 10) < (f64::from(i / 10) / 15.0 * 10.0).round())
            .collect();
        assert!(BinaryMetrics::of(&probabilities, &outcomes).unwrap().ece < 0.04);
    }

    #[test]
    fn regression_metrics_by_hand() {
        let m = RegressionMetrics::of(&[1.0, 2.0, 2.0, 5.0], &[1.0, 3.0, 2.0, 9.0]).unwrap();
        check(m.mae, 5.0 / 4.0);
        check(m.mae_log1p, ((4f64 / 3.0).ln() + (10f64 / 6.0).ln()) / 4.0);
        // Ranks 0 1.5 1.5 3 against 0 2 1 3.
        check(m.spearman.unwrap(), 4.5 / (4.5f64 * 5.0).sqrt());
        assert_eq!(
            RegressionMetrics::of(&[1.0, 1.0], &[1.0, 2.0])
                .unwrap()
                .spearman,
            None
        );
    }
}
