//! Figures with intervals: entities are drawn again with replacement, because the rows of one
//! entity repeat its outcome.
//!
//! Efron, "Bootstrap methods: another look at the jackknife", 1979; here in clusters.

use std::collections::BTreeMap;

use leadpulse_graph::EntityId;
use serde::{Deserialize, Serialize};

use super::draws::SeededDraws;
use super::rank::Ranking;

/// Resamples of an interval: at most this many, fewer where rows are many.
const RESAMPLES: usize = 400;
/// Row visits that all resamples of a task may take.
// About a second of a release build.
const VISITS: usize = 400_000_000;
/// Probabilities are kept this far from 0 and 1 in the log loss, as in the metrics of a fit.
const PROBABILITY_FLOOR: f64 = 1e-12;

/// A figure with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    pub value: f64,
    /// The 2.5 % point of the resamples.
    pub low: f64,
    /// The 97.5 % point of the resamples.
    pub high: f64,
}

/// The figures of one score over the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RankFigures {
    /// `None` with one kind of outcome only.
    pub auroc: Option<Estimate>,
    /// `None` without positives.
    pub average_precision: Option<Estimate>,
    /// The model's AUROC minus this one's on the same rows; `None` for the model itself.
    pub auroc_behind: Option<Estimate>,
}

/// Losses of probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossFigures {
    /// Mean negative log likelihood, nats.
    pub log_loss: Estimate,
    /// Mean squared error of the probability.
    pub brier: Estimate,
    /// Log loss minus that of the constant base rate: below 0 is better.
    pub log_loss_over_base_rate: Estimate,
}

/// Rows and scores that are resampled together.
pub(super) struct Resampled<'a> {
    pub entities: &'a [EntityId],
    pub outcomes: &'a [bool],
    pub probabilities: &'a [f64],
    /// The model's ranking first, then those of the baselines.
    pub rankings: Vec<Ranking>,
    /// The constant probability to compare with.
    pub base_rate: f64,
    pub seed: u64,
}

/// The values of one resample, or of the rows as they are.
struct Values {
    /// Per ranking: AUROC and average precision.
    ranked: Vec<(Option<f64>, Option<f64>)>,
    log_loss: f64,
    brier: f64,
    log_loss_over_base_rate: f64,
}

impl Resampled<'_> {
    /// Figures per ranking, and the losses of the probabilities.
    pub fn figures(&self) -> (Vec<RankFigures>, LossFigures) {
        let clusters = Clusters::new(self.entities);
        let whole = self.values(|_| 1.0);
        let mut dice = SeededDraws::new(self.seed);
        let visits = clusters.of_row.len() * (self.rankings.len() * 2 + 1);
        let samples: Vec<Values> = (0..resamples(visits))
            .map(|_| {
                let times = clusters.draw(&mut dice);
                self.values(|row| times[clusters.of_row[row]])
            })
            .collect();
        let estimate = |of: &dyn Fn(&Values) -> Option<f64>| {
            let drawn = samples.iter().filter_map(of).collect();
            of(&whole).map(|value| interval(value, drawn))
        };
        let ranked = (0..self.rankings.len()).map(|index| RankFigures {
            auroc: estimate(&|v| v.ranked[index].0),
            average_precision: estimate(&|v| v.ranked[index].1),
            auroc_behind: match index {
                0 => None,
                _ => estimate(&|v| Some(v.ranked[0].0? - v.ranked[index].0?)),
            },
        });
        let loss = |of: fn(&Values) -> f64| {
            estimate(&|v| Some(of(v))).expect("a loss has a value for every sample")
        };
        let losses = LossFigures {
            log_loss: loss(|v| v.log_loss),
            brier: loss(|v| v.brier),
            log_loss_over_base_rate: loss(|v| v.log_loss_over_base_rate),
        };
        (ranked.collect(), losses)
    }

    fn values(&self, weight: impl Fn(usize) -> f64) -> Values {
        let (mut rows, mut log_loss_sum, mut brier, mut over) = (0.0, 0.0, 0.0, 0.0);
        for (row, (p, outcome)) in self.probabilities.iter().zip(self.outcomes).enumerate() {
            let mass = weight(row);
            let loss = log_loss(*p, *outcome);
            rows += mass;
            log_loss_sum += mass * loss;
            over += mass * (loss - log_loss(self.base_rate, *outcome));
            brier += mass * (p - f64::from(*outcome)).powi(2);
        }
        let ranked = self.rankings.iter().map(|ranking| {
            (
                ranking.auroc(self.outcomes, &weight),
                ranking.average_precision(self.outcomes, &weight),
            )
        });
        Values {
            ranked: ranked.collect(),
            log_loss: log_loss_sum / rows,
            brier: brier / rows,
            log_loss_over_base_rate: over / rows,
        }
    }
}

/// The entities of rows, numbered in their order, to be drawn again with replacement.
pub(super) struct Clusters {
    /// The number of each row's entity.
    pub of_row: Vec<usize>,
    count: usize,
}

impl Clusters {
    pub fn new(entities: &[EntityId]) -> Self {
        let mut numbers: BTreeMap<EntityId, usize> = BTreeMap::new();
        let numbered = entities.iter().map(|entity| {
            let next = numbers.len();
            *numbers.entry(*entity).or_insert(next)
        });
        let of_row = numbered.collect();
        Self {
            of_row,
            count: numbers.len(),
        }
    }

    /// How often each entity is in a resample, by its number.
    pub fn draw(&self, dice: &mut SeededDraws) -> Vec<f64> {
        let mut times = vec![0.0_f64; self.count];
        for _ in 0..self.count {
            times[dice.below(self.count)] += 1.0;
        }
        times
    }
}

/// The number of resamples, of which each visits so many rows.
pub(super) fn resamples(visits: usize) -> usize {
    (VISITS / visits.max(1)).clamp(50, RESAMPLES)
}

pub(super) fn log_loss(p: f64, outcome: bool) -> f64 {
    let p = p.clamp(PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR);
    -(if outcome { p } else { 1.0 - p }).ln()
}

/// The value with the points that leave out 2.5 % of the drawn ones at either end.
pub(super) fn interval(value: f64, mut drawn: Vec<f64>) -> Estimate {
    drawn.retain(|x| x.is_finite());
    drawn.sort_by(f64::total_cmp);
    let at = |ratio: f64| {
        let place = (ratio * drawn.len() as f64) as usize;
        let last = drawn.len().checked_sub(1)?;
        drawn.get(place.min(last)).copied()
    };
    Estimate {
        value,
        low: at(0.025).unwrap_or(value),
        high: at(0.975).unwrap_or(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rows_per_entity: usize, seed: u64) -> Estimate {
        let mut dice = SeededDraws::new(11);
        let mut entities = Vec::new();
        let (mut outcomes, mut probabilities) = (Vec::new(), Vec::new());
        for entity in 0..200 {
            let p = dice.below(100) as f64 / 100.0;
            let outcome = (dice.below(1000) as f64) < p * 1000.0;
            for _ in 0..rows_per_entity {
                entities.push(EntityId(entity));
                outcomes.push(outcome);
                probabilities.push(p);
            }
        }
        let resampled = Resampled {
            entities: &entities,
            outcomes: &outcomes,
            rankings: vec![Ranking::new(&probabilities)],
            probabilities: &probabilities,
            base_rate: 0.5,
            seed,
        };
        resampled.figures().0[0].auroc.unwrap()
    }

    #[test]
    fn rows_of_an_entity_that_repeat_its_outcome_narrow_no_interval() {
        let (once, often) = (check(1, 5), check(20, 5));
        assert!((once.value - often.value).abs() < 1e-12);
        assert!(once.low < once.value && once.value < once.high);
        assert!(((once.high - once.low) - (often.high - often.low)).abs() < 0.01);
        // Hanley and McNeil's standard error of this AUROC is about .03.
        assert!((0.07..0.18).contains(&(once.high - once.low)), "{once:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_interval() {
        assert_eq!(check(2, 5), check(2, 5));
        assert_ne!(check(2, 5), check(2, 6));
    }
}
