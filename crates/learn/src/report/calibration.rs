//! Calibration beside its null: the error that a model with exactly true probabilities would show
//! on as many rows, because outcomes are chance.
//!
//! Decision: docs/decisions/0047-a-report-beside-its-null.md

use leadpulse_graph::EntityId;
use serde::{Deserialize, Serialize};

use super::bins::{Binning, calibration_error};
use super::draws::SeededDraws;
use super::rank::Ranking;

/// Bins of the calibration error: those of the metrics of a fit.
const BINS: usize = 15;
/// Simulated sets of outcomes.
const SIMULATIONS: u64 = 200;

/// Calibration of probabilities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationFigures {
    /// Expected calibration error over 15 bins of equal mass.
    pub ece: f64,
    /// The mean ECE of a model whose probabilities are true.
    pub null_ece: f64,
    /// The ECE that such a model exceeds once in twenty times.
    pub null_ece_high: f64,
    /// Mean probability.
    pub mean_predicted: f64,
    /// Share of rows with a positive outcome.
    pub rate: f64,
    /// Lowest probabilities first.
    pub bins: Vec<ReliabilityBin>,
}

/// A bin of the reliability diagram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Rows; a tie across an edge is split.
    pub rows: f64,
    /// Mean probability.
    pub predicted: f64,
    /// Share of positive outcomes.
    pub observed: f64,
    /// The range in which 95 % of the shares lie if the probabilities are true.
    pub null_low: f64,
    pub null_high: f64,
}

/// Rows whose outcomes are drawn together.
pub(super) struct Outcomes<'a> {
    pub entities: &'a [EntityId],
    pub times_ms: &'a [i64],
    pub horizon_ms: i64,
    pub outcomes: &'a [bool],
}

impl Outcomes<'_> {
    /// The draw that decides a row in a simulation: one for all rows of an entity whose windows
    /// may overlap.
    // Anchors nearer than a horizon ask about the same days: drawn apart, their errors would
    // cancel, and the null would be too small.
    fn draw(&self, simulation: u64, row: usize) -> f64 {
        let block = self.times_ms[row].div_euclid(self.horizon_ms.max(1));
        let entity = u64::from(self.entities[row].0);
        SeededDraws::of(simulation, (entity, block.cast_unsigned()))
    }
}

/// Compares probabilities with outcomes, and with outcomes drawn from the probabilities.
pub(super) fn calibration(
    ranking: &Ranking,
    probabilities: &[f64],
    given: &Outcomes<'_>,
) -> CalibrationFigures {
    let binning = Binning::new(ranking, BINS);
    let found = binning.sums(probabilities, |row| given.outcomes[row]);
    let mut errors = Vec::new();
    let mut shares: Vec<Vec<f64>> = vec![Vec::new(); found.len()];
    for simulation in 0..SIMULATIONS {
        let drawn = |row: usize| given.draw(simulation, row) < probabilities[row];
        let sums = binning.sums(probabilities, drawn);
        errors.push(calibration_error(&sums));
        for (share, sum) in shares.iter_mut().zip(&sums) {
            share.push(sum.observed / sum.rows);
        }
    }
    let at = |sorted: &mut Vec<f64>, ratio: f64| {
        sorted.sort_by(f64::total_cmp);
        sorted[((ratio * sorted.len() as f64) as usize).min(sorted.len() - 1)]
    };
    let bins = found
        .iter()
        .zip(&mut shares)
        .map(|(bin, shares)| ReliabilityBin {
            rows: bin.rows,
            predicted: bin.predicted / bin.rows,
            observed: bin.observed / bin.rows,
            null_low: at(shares, 0.025),
            null_high: at(shares, 0.975),
        });
    let mut bins: Vec<ReliabilityBin> = bins.collect();
    bins.reverse();
    let rows = probabilities.len() as f64;
    CalibrationFigures {
        ece: calibration_error(&found),
        null_ece: errors.iter().sum::<f64>() / errors.len() as f64,
        null_ece_high: at(&mut errors, 0.95),
        mean_predicted: probabilities.iter().sum::<f64>() / rows,
        rate: given.outcomes.iter().filter(|o| **o).count() as f64 / rows,
        bins,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 400 entities at some anchors a day apart, of a horizon of 30 days; outcomes are true to the
    /// probabilities, or to probabilities that are half as large.
    fn check(anchors: i64, is_true: bool) -> CalibrationFigures {
        let mut dice = SeededDraws::new(21);
        let (mut entities, mut times_ms) = (Vec::new(), Vec::new());
        let (mut outcomes, mut probabilities) = (Vec::new(), Vec::new());
        for entity in 0..400 {
            let p = dice.below(80) as f64 / 100.0;
            let chance = if is_true { p } else { p / 2.0 };
            let outcome = (dice.below(10_000) as f64) < chance * 10_000.0;
            for anchor in 0..anchors {
                entities.push(EntityId(entity));
                times_ms.push(anchor);
                outcomes.push(outcome);
                probabilities.push(p);
            }
        }
        let given = Outcomes {
            entities: &entities,
            times_ms: &times_ms,
            horizon_ms: 30,
            outcomes: &outcomes,
        };
        calibration(&Ranking::new(&probabilities), &probabilities, &given)
    }

    #[test]
    fn true_probabilities_lie_within_their_null() {
        for anchors in [1, 20] {
            let found = check(anchors, true);
            assert!(found.ece <= found.null_ece_high, "{anchors}: {found:?}");
            assert!(found.null_ece > 0.02, "{found:?}");
        }
        // Repeated rows are no evidence: the null stays where it is.
        let (once, often) = (check(1, true).null_ece, check(20, true).null_ece);
        assert!((once - often).abs() < 0.01, "{once} {often}");
    }

    #[test]
    fn probabilities_twice_too_large_lie_outside_their_null() {
        let found = check(1, false);
        assert!(found.ece > 2.0 * found.null_ece_high, "{found:?}");
        let highest = found.bins.last().unwrap();
        assert!(highest.observed < highest.null_low, "{highest:?}");
        assert!(found.bins[0].predicted < highest.predicted);
    }
}
