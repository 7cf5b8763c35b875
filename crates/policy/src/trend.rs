//! Direction of a score: the slope of a line, and the bend of a parabola, fitted by least squares
//! to the first score of each of the last days and the newest one.

use serde::{Deserialize, Serialize};

use leadpulse_schema::units::{DAY_MS, DAY_MS_F64, logit};

use crate::state::HistoryPoint;

/// Points older than this are too old to tell the direction of now.
const WINDOW_MS: i64 = 7 * DAY_MS;
/// Over less than this a slope per day would be an extrapolation.
const MIN_SPAN_MS: i64 = DAY_MS;
/// One point a day of the window, and the one on its far edge.
const MAX_POINTS: usize = 8;
/// Keeps the logit of a probability of 0 or 1 finite.
const MIN_PROBABILITY: f64 = 1e-9;

/// The direction of a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trend {
    /// The score rises by at least `steady_logit_per_day`.
    Improving,
    /// The score moves by less than `steady_logit_per_day`.
    Steady,
    /// The score falls by at least `steady_logit_per_day`.
    Declining,
    /// The entity has been scored for less than a day, or not for a week.
    Unknown,
}

impl Trend {
    /// The symbol in records.
    pub fn name(self) -> &'static str {
        match self {
            Trend::Improving => "improving",
            Trend::Steady => "steady",
            Trend::Declining => "declining",
            Trend::Unknown => "unknown",
        }
    }
}

/// The trend, and the slope in probability per day where there is one, of a score that is now
/// `newest`.
pub(crate) fn of(
    history: &[HistoryPoint],
    newest: HistoryPoint,
    steady_logit_per_day: f64,
) -> (Trend, Option<f64>) {
    let recent = || {
        history
            .iter()
            .filter(|point| newest.as_of_ms - point.as_of_ms <= WINDOW_MS)
    };
    let Some(oldest) = recent().next() else {
        return (Trend::Unknown, None);
    };
    if newest.as_of_ms - oldest.as_of_ms < MIN_SPAN_MS {
        return (Trend::Unknown, None);
    }
    let slope_of = |value: fn(f64) -> f64| {
        let points = || {
            recent().chain([&newest]).map(|point| {
                (
                    (point.as_of_ms - newest.as_of_ms) as f64 / DAY_MS_F64,
                    value(point.probability),
                )
            })
        };
        let count = points().count() as f64;
        let (sum_x, sum_y) =
            points().fold((0.0, 0.0), |(sum_x, sum_y), (x, y)| (sum_x + x, sum_y + y));
        let (mean_x, mean_y) = (sum_x / count, sum_y / count);
        let (xy, xx) = points().fold((0.0, 0.0), |(xy, xx), (x, y)| {
            (xy + (x - mean_x) * (y - mean_y), xx + (x - mean_x).powi(2))
        });
        xy / xx
    };
    // The direction is judged in logits: .001 a day is much for a rare outcome, and little for a
    // common one. People are shown the slope in probability.
    let logit_per_day = slope_of(|probability| {
        let probability = probability.clamp(MIN_PROBABILITY, 1.0 - MIN_PROBABILITY);
        logit(probability)
    });
    let trend = match logit_per_day {
        slope if slope.abs() < steady_logit_per_day || slope == 0.0 => Trend::Steady,
        slope if slope > 0.0 => Trend::Improving,
        _ => Trend::Declining,
    };
    (trend, Some(slope_of(|probability| probability)))
}

/// The second derivative, in probability per day², of the parabola nearest to the points of the
/// last week. Needs three points over twice the span a slope does.
pub(crate) fn acceleration(history: &[HistoryPoint], newest: HistoryPoint) -> Option<f64> {
    let recent = || {
        history
            .iter()
            .filter(|point| newest.as_of_ms - point.as_of_ms <= WINDOW_MS)
    };
    let oldest = recent().next()?;
    // A score of this very moment is the newest one already.
    let points = || {
        let before = recent()
            .filter(|point| point.as_of_ms < newest.as_of_ms)
            .chain([&newest]);
        before.map(|point| {
            (
                (point.as_of_ms - newest.as_of_ms) as f64 / DAY_MS_F64,
                point.probability,
            )
        })
    };
    let count = points().count();
    if count < 3 || newest.as_of_ms - oldest.as_of_ms < 2 * MIN_SPAN_MS {
        return None;
    }
    // Least squares by polynomials that are orthogonal on the points: 1, x − a, (x − b)(x − a) − c.
    let mean_x = points().map(|(x, _)| x).sum::<f64>() / count as f64;
    let (mut xx, mut xxx) = (0.0, 0.0);
    for (x, _) in points() {
        let x = x - mean_x;
        xx += x * x;
        xxx += x * x * x;
    }
    let (bend, scale) = (xxx / xx, xx / count as f64);
    let (mut qy, mut qq) = (0.0, 0.0);
    for (x, y) in points() {
        let x = x - mean_x;
        let q = x * x - bend * x - scale;
        qy += q * y;
        qq += q * q;
    }
    // Three points of which two nearly coincide have no bend worth telling.
    (qq > 1e-6).then(|| 2.0 * qy / qq)
}

/// Keeps `newest` if it is the first of its day, by its time in milliseconds. Returns true if it was
/// kept.
pub(crate) fn record<P>(history: &mut Vec<P>, newest: P, time_ms: fn(&P) -> i64) -> bool {
    let day = |point: &P| time_ms(point).div_euclid(DAY_MS);
    if history.last().is_some_and(|last| day(last) >= day(&newest)) {
        return false;
    }
    if history.len() >= MAX_POINTS {
        history.drain(..=history.len() - MAX_POINTS);
    }
    history.push(newest);
    true
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn point(day: f64, probability: f64) -> HistoryPoint {
        HistoryPoint {
            as_of_ms: (day * DAY_MS_F64) as i64,
            probability,
        }
    }

    #[rstest]
    #[case(&[], point(1.0, 0.5), Trend::Unknown, None)]
    #[case(&[point(0.5, 0.1)], point(1.0, 0.5), Trend::Unknown, None)]
    #[case(&[point(0.0, 0.1)], point(9.0, 0.5), Trend::Unknown, None)]
    #[case(&[point(0.0, 0.1), point(1.0, 0.2)], point(2.0, 0.3), Trend::Improving, Some(0.1))]
    #[case(&[point(0.0, 0.3), point(1.0, 0.2)], point(2.0, 0.1), Trend::Declining, Some(-0.1))]
    #[case(&[point(0.0, 0.3), point(1.0, 0.3)], point(2.5, 0.3), Trend::Steady, Some(0.0))]
    #[case(&[point(0.0, 0.001)], point(2.0, 0.002), Trend::Improving, Some(0.0005))]
    #[case(&[point(0.0, 0.0)], point(2.0, 1.0), Trend::Improving, Some(0.5))]
    #[case(&[point(0.0, 0.5), point(9.0, 0.5)], point(10.0, 0.505), Trend::Steady, Some(0.005))]
    fn the_slope_decides(
        #[case] history: &[HistoryPoint],
        #[case] newest: HistoryPoint,
        #[case] trend: Trend,
        #[case] velocity: Option<f64>,
    ) {
        let (found_trend, found_velocity) = of(history, newest, 0.05);
        assert_eq!(found_trend, trend);
        assert_eq!(found_velocity.is_some(), velocity.is_some());
        if let (Some(found), Some(expected)) = (found_velocity, velocity) {
            assert!(
                (found - expected).abs() < 1e-12,
                "{found} instead of {expected}"
            );
        }
    }

    #[rstest]
    #[case(&[point(0.0, 0.1), point(1.0, 0.2)], point(2.0, 0.3), Some(0.0))]
    #[case(&[point(0.0, 0.0), point(1.0, 0.01), point(2.0, 0.04), point(3.0, 0.09)], point(5.0, 0.25), Some(0.02))]
    #[case(&[point(0.0, 0.5), point(1.0, 0.45)], point(2.0, 0.3), Some(-0.1))]
    #[case(&[point(0.0, 0.1)], point(2.0, 0.3), None)]
    #[case(&[point(0.0, 0.1), point(1.0, 0.2)], point(1.9, 0.3), None)]
    #[case(&[point(0.0, 0.9), point(8.0, 0.0), point(9.0, 0.01)], point(10.0, 0.04), Some(0.02))]
    #[case(&[point(0.0, 0.1), point(2.0, 0.2)], point(2.0, 0.3), None)]
    fn the_bend_is_the_acceleration(
        #[case] history: &[HistoryPoint],
        #[case] newest: HistoryPoint,
        #[case] expected: Option<f64>,
    ) {
        let found = acceleration(history, newest);
        assert_eq!(found.is_some(), expected.is_some(), "{found:?}");
        if let (Some(found), Some(expected)) = (found, expected) {
            assert!(
                (found - expected).abs() < 1e-9,
                "{found} instead of {expected}"
            );
        }
    }

    #[test]
    fn one_point_a_day_is_kept_and_eight_at_most() {
        let mut history = Vec::new();
        for hour in 0..24 * 20 {
            let kept = record(&mut history, point(f64::from(hour) / 24.0, 0.5), |p| {
                p.as_of_ms
            });
            assert_eq!(kept, hour % 24 == 0);
        }
        assert_eq!(history.len(), MAX_POINTS);
        assert_eq!(history[0], point(12.0, 0.5));
        assert_eq!(history[7], point(19.0, 0.5));
    }
}
