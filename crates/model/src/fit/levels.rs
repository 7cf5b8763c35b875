//! The level of a calibration: owns the choice of the periods that it is taken from.
//!
//! Validation is cut into periods as long as the task's horizon, counted back from the newest
//! anchor: outcomes of one period are known when the next but one begins. The level of a period is
//! the number that moves calibrated logits onto its outcomes. Three rules predict the level of the
//! next period from those before: the last, all alike, and a filtered mean that forgets half with
//! each period. The one with the least log loss, one period ahead, is used. Every row was judged by
//! members that had not seen it.
//!
//! From four periods on their spread gives every score an interval: where the level of the next
//! period is likely to lie.
//!
//! Decisions: docs/decisions/0050-the-level-comes-from-rows-that-no-member-saw.md,
//! docs/decisions/0055-an-interval-from-the-periods.md

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use leadpulse_features::probability;

use super::calibrate::{Calibration, OutcomeRow, evidence_per_row, log_loss, zero_of_rising};

/// Weight of the pull of a level towards 0, in entities: a prior of standard deviation 1.
// It keeps the level of a period without outcomes of one kind finite.
const LEVEL_PRECISION: f64 = 1.0;
/// Part of the filtered mean that each further period replaces.
// Half: the mean follows a lasting change within two periods, and halves the noise of one.
const FILTER_GAIN: f64 = 0.5;
/// From so many periods their spread is known well enough to be shown.
const SPREAD_FROM: usize = 4;

/// A rule that predicts the level of the next period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LevelRule {
    /// The level over all periods.
    All,
    /// The level of the last period.
    Last,
    /// The mean of the periods' levels, each further one with a weight of one half.
    Filtered,
}

/// The level of a calibration, for the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Levels {
    /// The rule that was chosen.
    pub rule: LevelRule,
    /// Periods with rows.
    pub periods: usize,
    /// Mean log loss of each rule, one period ahead; empty below three periods, where the rules do
    /// not differ.
    pub losses: Vec<(LevelRule, f64)>,
    /// Level of each period over that of all, oldest first, logits.
    pub levels: Vec<f64>,
    /// Standard deviation of `levels`; `None` below four periods.
    pub spread: Option<f64>,
}

impl Levels {
    /// The levels that a fit wrote to a task's metrics; `None` for a regression, or a bundle whose
    /// fit chose no level.
    pub fn of_metrics(metrics: &Map<String, Value>) -> Option<Self> {
        serde_json::from_value(metrics.get("level")?.clone()).ok()
    }

    /// Half the width of the 95 % interval of the next period's level, logits: Student's quantile
    /// times the standard deviation of a further period about the level that the rule gives. `None`
    /// below four periods.
    ///
    /// Levels of single periods contain the chance of their outcomes, so the interval is rather too
    /// wide where outcomes are few.
    pub fn interval_logits(&self) -> Option<f64> {
        let spread = self.spread.filter(|spread| spread.is_finite())?;
        let weights = self.rule.weights(self.levels.len());
        // The level of the rule is a weighted mean of levels that vary as the next one does.
        let variance = 1.0 + weights.iter().map(|weight| weight * weight).sum::<f64>();
        let degrees = self.levels.len() as f64 - 1.0;
        Some(student_975(degrees) * spread * variance.sqrt())
    }
}

/// The 97.5 % point of Student's distribution, within 1 % from three degrees of freedom on.
///
/// Abramowitz and Stegun, "Handbook of mathematical functions", 26.7.5.
fn student_975(degrees: f64) -> f64 {
    const Z: f64 = 1.959_964;
    let terms = [
        (Z.powi(3) + Z) / 4.0,
        (5.0 * Z.powi(5) + 16.0 * Z.powi(3) + 3.0 * Z) / 96.0,
        (3.0 * Z.powi(7) + 19.0 * Z.powi(5) + 17.0 * Z.powi(3) - 15.0 * Z) / 384.0,
    ];
    let powers = (1..).map(|power| degrees.powi(power));
    Z + terms.iter().zip(powers).map(|(t, p)| t / p).sum::<f64>()
}

impl LevelRule {
    const ALL: [Self; 3] = [Self::All, Self::Last, Self::Filtered];

    /// Weights of the periods in the level of this rule, oldest first; their sum is 1.
    fn weights(self, periods: usize) -> Vec<f64> {
        let age = |period: usize| (periods - 1 - period) as i32;
        let weight = |period: usize| match self {
            Self::All => 1.0 / periods as f64,
            Self::Last => f64::from(u8::from(age(period) == 0)),
            Self::Filtered if period == 0 => (1.0 - FILTER_GAIN).powi(age(period)),
            Self::Filtered => FILTER_GAIN * (1.0 - FILTER_GAIN).powi(age(period)),
        };
        (0..periods).map(weight).collect()
    }

    /// The level after periods of these levels, over that of all of them.
    fn next(self, levels: &[f64]) -> f64 {
        match self {
            Self::All => 0.0,
            Self::Last => levels.last().copied().unwrap_or_default(),
            Self::Filtered => {
                let follow = |mean: f64, level: &f64| mean + FILTER_GAIN * (level - mean);
                let (first, later) = levels.split_first().unwrap_or((&0.0, &[]));
                later.iter().fold(*first, follow)
            }
        }
    }
}

impl Calibration {
    /// Learns the map, and its level from the periods that predict the next one best.
    /// `horizon_ms` is the length of a period.
    pub(crate) fn fit_by_period(rows: &[OutcomeRow], horizon_ms: i64) -> (Self, Levels) {
        let periods = periods(rows, horizon_ms);
        let pooled = Self::fit(rows);
        let losses = losses(&periods);
        let least = |best: (LevelRule, f64), one: &(LevelRule, f64)| {
            if one.1 < best.1 { *one } else { best }
        };
        let (rule, _) = losses.iter().fold((LevelRule::All, f64::INFINITY), least);
        let levels: Vec<f64> = periods.iter().map(|rows| level(&pooled, rows)).collect();
        let chosen = pooled.lifted(rule.next(&levels));
        let spread = (levels.len() >= SPREAD_FROM).then(|| deviation(&levels));
        let levels = Levels {
            rule,
            periods: periods.len(),
            losses,
            levels,
            spread,
        };
        (chosen, levels)
    }
}

/// The rows of each period that has some, oldest first.
fn periods(rows: &[OutcomeRow], horizon_ms: i64) -> Vec<Vec<OutcomeRow>> {
    let newest = rows.iter().map(|row| row.anchor_ms).max().unwrap_or(0);
    let age = |row: &OutcomeRow| (newest - row.anchor_ms) / horizon_ms.max(1);
    let mut sorted = rows.to_vec();
    sorted.sort_by_key(|row| std::cmp::Reverse(age(row)));
    let periods = sorted.chunk_by(|a, b| age(a) == age(b));
    periods.map(<[OutcomeRow]>::to_vec).collect()
}

/// The number that moves calibrated logits onto the outcomes of some rows, with a pull towards 0.
fn level(map: &Calibration, rows: &[OutcomeRow]) -> f64 {
    let unit = evidence_per_row(rows);
    zero_of_rising(|offset| {
        let errors = rows.iter().map(|row| {
            let predicted = probability(map.apply(row.logit) + offset);
            row.weight * (predicted - f64::from(u8::from(row.outcome)))
        });
        unit * errors.sum::<f64>() + LEVEL_PRECISION * offset
    })
}

/// Mean log loss of each rule over the periods from the third: each is predicted by a map and
/// levels of the periods before. Empty if there is no third.
fn losses(periods: &[Vec<OutcomeRow>]) -> Vec<(LevelRule, f64)> {
    let mut sums = [0.0; LevelRule::ALL.len()];
    let mut weight = 0.0;
    for next in 2..periods.len() {
        let before = &periods[..next];
        let map = Calibration::fit_platt(&before.concat());
        let levels: Vec<f64> = before.iter().map(|rows| level(&map, rows)).collect();
        for (sum, rule) in sums.iter_mut().zip(LevelRule::ALL) {
            let moved = map.lifted(rule.next(&levels));
            *sum += periods[next]
                .iter()
                .map(|row| loss(&moved, row))
                .sum::<f64>();
        }
        weight += periods[next].iter().map(|row| row.weight).sum::<f64>();
    }
    if weight <= 0.0 {
        return Vec::new();
    }
    let means = sums.map(|sum| sum / weight);
    LevelRule::ALL.into_iter().zip(means).collect()
}

/// Weighted negative log likelihood of one row.
fn loss(map: &Calibration, row: &OutcomeRow) -> f64 {
    row.weight * log_loss(map.apply(row.logit), row.outcome)
}

/// Standard deviation of some numbers, at least two.
fn deviation(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|x| (x - mean).powi(2));
    (squares.sum::<f64>() / (count - 1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use leadpulse_graph::EntityId;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const HORIZON_MS: i64 = 1000;

    /// Rows of periods of these levels over the logits, 800 entities each, ten anchors a period.
    fn history(levels: &[f64], seed: u64) -> Vec<OutcomeRow> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut rows = Vec::new();
        for (period, level) in levels.iter().enumerate() {
            for entity in 0..800 {
                let logit = rng.random_range(-4.0..0.0);
                let anchor_ms = period as i64 * HORIZON_MS + HORIZON_MS / 10 * (entity % 10);
                rows.push(OutcomeRow {
                    logit,
                    outcome: rng.random_bool(probability(logit + level)),
                    weight: 1.0,
                    entity: EntityId((800 * period) as u32 + entity as u32),
                    anchor_ms,
                });
            }
        }
        rows
    }

    /// The mean of what the chosen calibration adds to logits, and the choice.
    fn fitted(levels: &[f64], seed: u64) -> (f64, Levels) {
        let rows = history(levels, seed);
        let (map, levels) = Calibration::fit_by_period(&rows, HORIZON_MS);
        let added = (0..40).map(|i| map.apply(-0.1 * f64::from(i)) + 0.1 * f64::from(i));
        (added.sum::<f64>() / 40.0, levels)
    }

    #[test]
    fn a_level_that_stays_comes_from_all_periods_and_a_lasting_change_from_the_last() {
        for seed in 0..5 {
            let (level, found) = fitted(&[0.0; 8], seed);
            assert!(level.abs() < 0.15, "{level}: {found:?}");
            let (level, found) = fitted(&[-1.5, -1.5, -1.5, 0.5, 0.5, 0.5], seed);
            assert_ne!(found.rule, LevelRule::All, "{found:?}");
            assert!((level - 0.5).abs() < 0.35, "{level}: {found:?}");
            let (level, found) = fitted(&[-2.0, -1.4, -0.8, -0.2, 0.4, 1.0], seed);
            assert_eq!(found.rule, LevelRule::Last, "{found:?}");
            assert!((level - 1.0).abs() < 0.35, "{level}: {found:?}");
        }
    }

    #[test]
    fn a_level_that_comes_and_goes_is_not_followed() {
        for seed in 0..5 {
            let (_, found) = fitted(&[0.6, -0.6, 0.6, -0.6, 0.6, -0.6, 0.6, -0.6], seed);
            assert_eq!(found.rule, LevelRule::All, "{found:?}");
            assert!(found.spread.is_some_and(|spread| spread > 0.4), "{found:?}");
        }
    }

    #[test]
    fn few_periods_decide_nothing() {
        for periods in 1..3 {
            let levels = vec![0.3; periods];
            let (_, found) = fitted(&levels, 3);
            assert_eq!((found.rule, found.periods), (LevelRule::All, periods));
            assert_eq!((found.losses.len(), found.spread), (0, None));
        }
        let rows = history(&[0.2, 0.2], 4);
        let (map, _) = Calibration::fit_by_period(&rows, HORIZON_MS);
        assert_eq!(map, Calibration::fit(&rows));
    }

    #[test]
    fn rules_are_means_with_their_weights() {
        let levels = [0.4, -0.2, 0.1, 0.7, -0.5];
        for rule in LevelRule::ALL {
            let weights = rule.weights(levels.len());
            assert!(
                (weights.iter().sum::<f64>() - 1.0).abs() < 1e-12,
                "{rule:?}"
            );
            let mean: f64 = weights.iter().zip(levels).map(|(w, l)| w * l).sum();
            if rule != LevelRule::All {
                assert!((mean - rule.next(&levels)).abs() < 1e-12, "{rule:?}");
            }
        }
    }

    #[test]
    fn students_quantiles_are_those_of_tables() {
        for (degrees, expected) in [(3.0, 3.182), (4.0, 2.776), (7.0, 2.365), (30.0, 2.042)] {
            let found: f64 = student_975(degrees);
            assert!((found / expected - 1.0).abs() < 0.01, "{degrees}: {found}");
        }
    }

    #[test]
    fn the_next_period_lies_in_the_interval_as_often_as_promised() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let (mut inside, mut narrow, cases) = (0, 0, 120);
        for case in 0..cases {
            // About normal, standard deviation .5.
            let mut level = || (0..3).map(|_| rng.random_range(-0.5..0.5)).sum::<f64>();
            let levels: Vec<f64> = (0..5).map(|_| level()).collect();
            let next = level();
            let (map, found) = Calibration::fit_by_period(&history(&levels, case), HORIZON_MS);
            let half = found.interval_logits().unwrap();
            let error = (-2.0 - map.apply(-2.0) + next).abs();
            inside += usize::from(error < half);
            narrow += usize::from(error < half / 3.0);
        }
        let share = f64::from(inside as u32) / cases as f64;
        assert!((0.9..=0.995).contains(&share), "{share}");
        // An interval that contains everything would too.
        assert!(f64::from(narrow as u32) / (cases as f64) < 0.8, "{narrow}");
    }

    #[test]
    fn the_interval_is_read_back_from_the_metrics() {
        let (_, found) =
            Calibration::fit_by_period(&history(&[0.1, -0.1, 0.3, 0.0], 2), HORIZON_MS);
        let level = serde_json::to_value(&found).unwrap();
        let metrics = Map::from_iter([("level".to_owned(), level)]);
        assert_eq!(Levels::of_metrics(&metrics), Some(found.clone()));
        assert!(found.interval_logits().is_some_and(|half| half > 0.0));
        let (_, few) = Calibration::fit_by_period(&history(&[0.1, -0.1, 0.3], 2), HORIZON_MS);
        assert_eq!(few.interval_logits(), None);
        assert_eq!(Levels::of_metrics(&Map::new()), None);
    }

    #[test]
    fn a_period_without_outcomes_has_a_finite_level() {
        let mut rows = history(&[0.0, 0.0, 0.0, 0.0], 5);
        for row in rows
            .iter_mut()
            .filter(|row| row.anchor_ms >= 3 * HORIZON_MS)
        {
            row.outcome = false;
        }
        let (map, found) = Calibration::fit_by_period(&rows, HORIZON_MS);
        assert!(map.is_sound() && found.levels[3] > -10.0, "{found:?}");
    }
}
