//! Raw logits to calibrated logits: owns the map that is learnt on validation rows and kept in the
//! bundle.
//!
//! Platt's two parameters always; where validation has 1,000 distinct entities with a positive
//! outcome, isotonic regression (pool adjacent violators), kept as a strictly increasing
//! piecewise-linear map between logits, so that no ranking is lost. Overlapping anchors repeat an
//! outcome, so evidence is counted in entities, not in rows.
//!
//! Platt, "Probabilistic Outputs for Support Vector Machines and Comparisons to Regularized
//! Likelihood Methods", 1999. Isotonic: Zadrozny and Elkan, "Transforming Classifier Scores into
//! Accurate Multiclass Probability Estimates", 2002.
//!
//! Decision: docs/decisions/0018-cross-entropy-then-calibration.md

use leadpulse_features::probability;
use leadpulse_graph::EntityId;
use leadpulse_schema::units::logit;
use serde::{Deserialize, Serialize};

use crate::network::head::softplus;
use std::collections::BTreeSet;

/// Distinct positive entities from which isotonic regression is used.
// Below about a thousand cases isotonic regression fits noise (Niculescu-Mizil and Caruana,
// "Predicting Good Probabilities with Supervised Learning", ICML 2005). Here cases are the rarer
// kind.
const ISOTONIC_FROM: usize = 1000;
/// Weight of the pull of the slope towards 1, in entities: a prior of standard deviation 0.5.
const SLOPE_PRECISION: f64 = 4.0;
/// A slope below this would erase or reverse the ranking.
const SLOPE_FLOOR: f64 = 0.05;
/// Isotonic blocks have at least this share of the rows.
// A block of a few rows would have a rate of 0 or 1. Why one in a hundred is unknown.
const BLOCK_RATIO: f64 = 0.01;

/// A monotone map between logits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Calibration {
    /// The logit as it is, for regressions.
    Identity,
    /// `slope · logit + intercept`.
    Platt {
        /// Factor of the logit, above 0.
        slope: f64,
        /// Added to the scaled logit.
        intercept: f64,
    },
    /// Linear between knots, of slope 1 beyond them.
    Isotonic {
        /// (raw logit, calibrated logit), both ascending.
        knots: Vec<(f64, f64)>,
    },
}

/// One row of evidence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutcomeRow {
    pub logit: f64,
    pub outcome: bool,
    pub weight: f64,
    pub entity: EntityId,
    /// Moment of the prediction, milliseconds.
    pub anchor_ms: i64,
}

impl Calibration {
    /// Learns the map. Expects outcomes of both kinds. Its numbers are multiples of 1e-9, so that
    /// they read back from JSON unchanged.
    pub(crate) fn fit(rows: &[OutcomeRow]) -> Self {
        let positives: BTreeSet<EntityId> = rows
            .iter()
            .filter(|r| r.outcome)
            .map(|r| r.entity)
            .collect();
        if positives.len() >= ISOTONIC_FROM
            && let Some(isotonic) = isotonic(rows)
        {
            return isotonic;
        }
        Self::fit_platt(rows)
    }

    /// Platt's map, whatever the number of rows.
    pub(crate) fn fit_platt(rows: &[OutcomeRow]) -> Self {
        let (slope, intercept) = platt(rows);
        Self::Platt {
            slope: printable(slope),
            intercept: printable(intercept),
        }
    }

    /// The calibrated logit of a raw one.
    pub fn apply(&self, logit: f64) -> f64 {
        match self {
            Self::Identity => logit,
            Self::Platt { slope, intercept } => slope * logit + intercept,
            Self::Isotonic { knots } => interpolate(knots, logit),
        }
    }

    /// The same map with so much added to its logits; a regression's stays.
    pub(crate) fn lifted(&self, added: f64) -> Self {
        match self {
            Self::Identity => Self::Identity,
            Self::Platt { slope, intercept } => Self::Platt {
                slope: *slope,
                intercept: printable(intercept + added),
            },
            Self::Isotonic { knots } => {
                let knots = knots.iter().map(|(x, y)| (*x, printable(y + added)));
                Self::Isotonic {
                    knots: knots.collect(),
                }
            }
        }
    }

    /// The same shape for members that were trained again: moved along the axis of their logits
    /// until the mean probability over some rows is what the members before had there. Outcomes
    /// are not looked at.
    pub(crate) fn aligned(&self, before: &[OutcomeRow], again: &[f64]) -> Self {
        let weight: f64 = before.iter().map(|row| row.weight).sum();
        let mean = |logits: &mut dyn Iterator<Item = f64>| {
            let rows = before.iter().zip(logits);
            let sum: f64 = rows
                .map(|(row, z)| row.weight * probability(self.apply(z)))
                .sum();
            sum / weight
        };
        let wanted = mean(&mut before.iter().map(|row| row.logit));
        let offset = zero_of_rising(|offset| mean(&mut again.iter().map(|z| z + offset)) - wanted);
        match self {
            Self::Identity => Self::Identity,
            Self::Platt { slope, intercept } => Self::Platt {
                slope: *slope,
                intercept: printable(intercept + slope * offset),
            },
            Self::Isotonic { knots } => Self::Isotonic {
                knots: knots
                    .iter()
                    .map(|(x, y)| (printable(x - offset), *y))
                    .collect(),
            },
        }
    }

    /// Whether it is a strictly increasing map of finite numbers.
    pub(crate) fn is_sound(&self) -> bool {
        match self {
            Self::Identity => true,
            Self::Platt { slope, intercept } => {
                slope.is_finite() && *slope > 0.0 && intercept.is_finite()
            }
            Self::Isotonic { knots } => {
                !knots.is_empty()
                    && knots.iter().all(|(x, y)| x.is_finite() && y.is_finite())
                    && knots.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1)
            }
        }
    }
}

/// A number on a grid of 1e-9, which the decimal text of the bundle gives back bit for bit.
fn printable(x: f64) -> f64 {
    (x * 1e9).round() / 1e9
}

fn interpolate(knots: &[(f64, f64)], x: f64) -> f64 {
    let after = knots.partition_point(|(k, _)| *k <= x);
    match (after.checked_sub(1).map(|i| knots[i]), knots.get(after)) {
        (Some((x0, y0)), Some((x1, y1))) => y0 + (y1 - y0) * (x - x0) / (x1 - x0),
        (Some((x0, y0)), None) | (None, Some(&(x0, y0))) => y0 + (x - x0),
        (None, None) => x,
    }
}

/// The negative log likelihood of an outcome under the probability of a logit.
pub(super) fn log_loss(logit: f64, outcome: bool) -> f64 {
    softplus(logit) - f64::from(u8::from(outcome)) * logit
}

/// The offset of a logit at which a rising function is 0, by bisection. Ten logits are more than
/// any level is off, and 60 halvings leave less than the 1e-9 that is kept.
pub(super) fn zero_of_rising(f: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (-10.0, 10.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if f(middle) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// Entities per row: what one row counts as evidence.
pub(super) fn evidence_per_row(rows: &[OutcomeRow]) -> f64 {
    let entities: BTreeSet<EntityId> = rows.iter().map(|r| r.entity).collect();
    let weight: f64 = rows.iter().map(|r| r.weight).sum();
    entities.len() as f64 / weight.max(f64::MIN_POSITIVE)
}

/// Slope and intercept by Newton's method on the log likelihood (Platt 1999), with a normal prior
/// on the slope around 1. Steps are halved until the loss does not rise.
fn platt(rows: &[OutcomeRow]) -> (f64, f64) {
    let unit = evidence_per_row(rows);
    let loss = |a: f64, b: f64| {
        let data: f64 = rows
            .iter()
            .map(|r| {
                let z = a * r.logit + b;
                unit * r.weight * log_loss(z, r.outcome)
            })
            .sum();
        data + SLOPE_PRECISION / 2.0 * (a - 1.0).powi(2)
    };
    // From the identity, where the prior has its mode. Newton needs a handful of steps; the bounds
    // end what rounding would keep going.
    let (mut a, mut b) = (1.0, 0.0);
    let mut current = loss(a, b);
    for _ in 0..100 {
        let (mut ga, mut gb, mut haa, mut hab, mut hbb) =
            (SLOPE_PRECISION * (a - 1.0), 0.0, SLOPE_PRECISION, 0.0, 1e-9);
        for r in rows {
            let p = 1.0 / (1.0 + (-(a * r.logit + b)).exp());
            let weight = unit * r.weight;
            let (error, curvature) = (weight * (p - f64::from(r.outcome)), weight * p * (1.0 - p));
            ga += error * r.logit;
            gb += error;
            haa += curvature * r.logit * r.logit;
            hab += curvature * r.logit;
            hbb += curvature;
        }
        let determinant = haa * hbb - hab * hab;
        if determinant <= 0.0 {
            break;
        }
        let (da, db) = (
            (hbb * ga - hab * gb) / determinant,
            (haa * gb - hab * ga) / determinant,
        );
        let Some((next, step)) = (0..30)
            .map(|i| 0.5f64.powi(i))
            .map(|s| (loss(a - s * da, b - s * db), s))
            .find(|(l, _)| *l <= current)
        else {
            break;
        };
        (a, b) = (a - step * da, b - step * db);
        let gained = current - next;
        current = next;
        if gained < 1e-12 {
            break;
        }
    }
    if a >= SLOPE_FLOOR {
        return (a, b);
    }
    // A ranking that validation contradicts is kept, nearly flat, at the base rate.
    let weight: f64 = rows.iter().map(|r| r.weight).sum();
    let positive: f64 = rows.iter().filter(|r| r.outcome).map(|r| r.weight).sum();
    let mean: f64 = rows.iter().map(|r| r.weight * r.logit).sum::<f64>() / weight;
    let rate = (positive / weight).clamp(1e-6, 1.0 - 1e-6);
    (SLOPE_FLOOR, logit(rate) - SLOPE_FLOOR * mean)
}

struct PooledBlock {
    weight: f64,
    logits: f64,
    positives: f64,
}

impl PooledBlock {
    fn rate(&self) -> f64 {
        self.positives / self.weight
    }
}

/// Isotonic regression by pooling adjacent violators over logits (Ayer et al. 1955); `None` where
/// that leaves a single block.
fn isotonic(rows: &[OutcomeRow]) -> Option<Calibration> {
    let mut sorted = rows.to_vec();
    sorted.sort_by(|x, y| x.logit.total_cmp(&y.logit));
    let total: f64 = sorted.iter().map(|r| r.weight).sum();
    let mut fine: Vec<PooledBlock> = Vec::new();
    let mut last_logit = f64::NAN;
    for row in &sorted {
        let (weight, logits, positives) = (
            row.weight,
            row.weight * row.logit,
            row.weight * f64::from(row.outcome),
        );
        match fine.last_mut() {
            // Tied logits stay together, and no block is so small that its rate is noise.
            Some(block) if row.logit == last_logit || block.weight < total * BLOCK_RATIO => {
                block.weight += weight;
                block.logits += logits;
                block.positives += positives;
            }
            _ => fine.push(PooledBlock {
                weight,
                logits,
                positives,
            }),
        }
        last_logit = row.logit;
    }
    let mut pooled: Vec<PooledBlock> = Vec::new();
    for block in fine {
        pooled.push(block);
        while pooled.len() > 1 && pooled[pooled.len() - 2].rate() >= pooled[pooled.len() - 1].rate()
        {
            let last = pooled.pop().expect("more than one block");
            let into = pooled.last_mut().expect("more than one block");
            into.weight += last.weight;
            into.logits += last.logits;
            into.positives += last.positives;
        }
    }
    let unit = evidence_per_row(rows);
    let mut knots: Vec<(f64, f64)> = Vec::new();
    for block in pooled {
        // Half an entity of each outcome keeps the ends finite.
        let (entities, positives) = (block.weight * unit, block.positives * unit);
        let y = printable(((positives + 0.5) / (entities - positives + 0.5)).ln());
        let x = printable(block.logits / block.weight);
        if knots.last().is_none_or(|(x0, y0)| x > *x0 && y > *y0) {
            knots.push((x, y));
        }
    }
    (knots.len() > 1).then_some(Calibration::Isotonic { knots })
}

#[cfg(test)]
mod tests {
    use leadpulse_features::probability;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::fit::metrics::BinaryMetrics;

    /// Rows whose true logit is `truth(raw)`, an entity each.
    fn rows(n: u32, truth: impl Fn(f64) -> f64) -> Vec<OutcomeRow> {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        (0..n)
            .map(|i| {
                let logit = rng.random_range(-4.0..2.0);
                let outcome = rng.random_bool(probability(truth(logit)));
                OutcomeRow {
                    logit,
                    outcome,
                    weight: 1.0,
                    entity: EntityId(i),
                    anchor_ms: 0,
                }
            })
            .collect()
    }

    fn ece(calibration: &Calibration, rows: &[OutcomeRow]) -> f64 {
        let p: Vec<f64> = rows
            .iter()
            .map(|r| probability(calibration.apply(r.logit)))
            .collect();
        BinaryMetrics::of(&p, &rows.iter().map(|r| r.outcome).collect::<Vec<_>>())
            .unwrap()
            .ece
    }

    #[test]
    fn members_trained_again_keep_the_mean_probability() {
        let before = rows(2000, |z| 0.6 * z - 0.5);
        for map in [Calibration::fit_platt(&before), isotonic(&before).unwrap()] {
            let again: Vec<f64> = before.iter().map(|row| row.logit - 0.8).collect();
            let moved = map.aligned(&before, &again);
            for logit in [-2.0, -0.5, 1.0] {
                assert!(
                    (moved.apply(logit - 0.8) - map.apply(logit)).abs() < 1e-6,
                    "{map:?}"
                );
            }
            assert!(moved.is_sound());
        }
    }

    #[test]
    fn a_lifted_map_is_higher_by_as_much_everywhere() {
        let platt = Calibration::fit_platt(&rows(500, |z| 0.6 * z));
        let isotonic = isotonic(&rows(5000, |z| z)).unwrap();
        for map in [platt, isotonic] {
            for logit in [-5.0, -2.0, 0.0, 3.0] {
                let moved = map.lifted(0.7).apply(logit) - map.apply(logit);
                assert!((moved - 0.7).abs() < 1e-8, "{map:?}");
            }
            assert!(map.lifted(0.7).is_sound());
        }
        assert_eq!(Calibration::Identity.lifted(0.7), Calibration::Identity);
    }

    #[test]
    fn platt_finds_slope_and_intercept() {
        let Calibration::Platt { slope, intercept } =
            Calibration::fit_platt(&rows(20_000, |z| 0.6 * z - 1.0))
        else {
            panic!("Platt's map")
        };
        assert!(
            (slope - 0.6).abs() < 0.05 && (intercept + 1.0).abs() < 0.08,
            "{slope} {intercept}"
        );
    }

    #[test]
    fn little_evidence_keeps_the_slope() {
        let few = rows(10, |z| 0.2 * z);
        let Calibration::Platt { slope, .. } = Calibration::fit(&few) else {
            panic!("Platt's map")
        };
        assert!((slope - 1.0).abs() < 0.6, "{slope}");
        // The same ten outcomes seen at a hundred anchors each are no more evidence.
        let repeated: Vec<OutcomeRow> = few.iter().flat_map(|r| [*r; 100]).collect();
        let Calibration::Platt { slope: again, .. } = Calibration::fit(&repeated) else {
            panic!("Platt's map")
        };
        assert!((slope - again).abs() < 1e-6);
    }

    #[test]
    fn separable_rows_stay_finite_and_a_reversed_ranking_is_not_turned() {
        for reversed in [false, true] {
            let data: Vec<OutcomeRow> = (0..200)
                .map(|i| {
                    let logit = f64::from(i) / 20.0 - 5.0;
                    OutcomeRow {
                        logit,
                        outcome: (logit > 0.0) != reversed,
                        weight: 1.0,
                        entity: EntityId(i as u32),
                        anchor_ms: 0,
                    }
                })
                .collect();
            assert!(Calibration::fit(&data).is_sound());
        }
    }

    #[test]
    fn isotonic_mends_what_platt_cannot() {
        let data = rows(20_000, |z| {
            if z > 0.0 {
                3.0 * z - 1.0
            } else {
                0.2 * z - 1.0
            }
        });
        let isotonic = Calibration::fit(&data);
        assert!(matches!(isotonic, Calibration::Isotonic { .. }) && isotonic.is_sound());
        assert!(ece(&isotonic, &data) < 0.5 * ece(&Calibration::fit_platt(&data), &data));
    }

    #[test]
    fn isotonic_needs_a_thousand_positive_entities() {
        let data: Vec<OutcomeRow> = rows(20_000, |z| z)
            .into_iter()
            .map(|r| OutcomeRow {
                entity: EntityId(r.entity.0 % 900),
                anchor_ms: 0,
                ..r
            })
            .collect();
        assert!(matches!(Calibration::fit(&data), Calibration::Platt { .. }));
    }

    #[test]
    fn maps_rise_strictly() {
        let isotonic = Calibration::Isotonic {
            knots: vec![(-1.0, -2.0), (0.0, -1.9), (1.0, 3.0)],
        };
        for calibration in [
            isotonic,
            Calibration::Platt {
                slope: 0.3,
                intercept: 1.0,
            },
        ] {
            let values: Vec<f64> = (-40..40)
                .map(|i| calibration.apply(f64::from(i) / 10.0))
                .collect();
            assert!(values.windows(2).all(|w| w[0] < w[1]), "{calibration:?}");
        }
        assert!(
            !Calibration::Isotonic {
                knots: vec![(0.0, 1.0), (1.0, 1.0)]
            }
            .is_sound()
        );
    }
}
