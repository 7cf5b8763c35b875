//! The change that an alert tells: one score before, one span, one direction.

use leadpulse_schema::units::{DAY_MS, DAY_MS_F64, logit};

use super::Moment;
use crate::alerts::{AlertType, ScoreChange};
use crate::policy::Policy;
use crate::trend::Trend;

/// The span that changes are told over, where the history reaches as far.
const SPAN_MS: i64 = 7 * DAY_MS;
/// The time of history that gives every change its span: one day more, because a day's first score
/// stands for it.
pub(super) const HISTORY_MS: i64 = SPAN_MS + DAY_MS;
/// Over less than this a slope per day would be an extrapolation.
const MIN_SLOPE_MS: i64 = DAY_MS;
/// Keeps the logit of a probability of 0 or 1 finite.
const MIN_PROBABILITY: f64 = 1e-9;

/// A change with the direction and slope that it has, so that no two figures disagree.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub from: Option<ScoreChange>,
    pub trend: Trend,
    pub velocity_per_day: Option<f64>,
    /// Difference of logits; 0 without a score before.
    pub logits: f64,
}

impl Policy {
    /// The change that an alert of the rule tells at a moment.
    pub(crate) fn change(&self, now: &Moment<'_>) -> Change {
        self.change_since(score_before(now), now.seen.tick_ms, now.scored.probability)
    }

    /// The change of a standing score at a moment, for lists: alerts of thresholds may compare with
    /// another score.
    pub(crate) fn standing_change(
        &self,
        history: &[ScoreChange],
        tick_ms: i64,
        probability: f64,
    ) -> Change {
        self.change_since(usual_before(history, tick_ms), tick_ms, probability)
    }

    fn change_since(&self, from: Option<ScoreChange>, tick_ms: i64, probability: f64) -> Change {
        let Some(from) = from else {
            return Change {
                from: None,
                trend: Trend::Unknown,
                velocity_per_day: None,
                logits: 0.0,
            };
        };
        let span_ms = tick_ms - from.since_ms;
        let logits = bounded_logit(probability) - bounded_logit(from.probability);
        // A day at least: a step within an hour is no pace.
        let days = span_ms.max(MIN_SLOPE_MS) as f64 / DAY_MS_F64;
        let steady = self.steady_logit_per_day;
        let trend = match logits / days {
            slope if slope.abs() < steady || slope == 0.0 => Trend::Steady,
            slope if slope > 0.0 => Trend::Improving,
            _ => Trend::Declining,
        };
        let moved = probability - from.probability;
        Change {
            from: Some(from),
            trend,
            velocity_per_day: (span_ms >= MIN_SLOPE_MS).then(|| moved / days),
            logits,
        }
    }
}

/// The newest score that is a week old, else the oldest. For a threshold the score has to have
/// moved in the alert's direction: else the one of the last week that is farthest on the other side.
fn score_before(now: &Moment<'_>) -> Option<ScoreChange> {
    let usual = usual_before(now.history, now.seen.tick_ms)?;
    let sign = match now.rule.alert_type {
        AlertType::ThresholdUp => 1.0,
        AlertType::ThresholdDown => -1.0,
        _ => return Some(usual),
    };
    let moved = |point: &ScoreChange| sign * (now.scored.probability - point.probability);
    if moved(&usual) > 0.0 {
        return Some(usual);
    }
    let farthest = points_before(now.history, now.seen.tick_ms)
        .max_by(|a, b| moved(a).total_cmp(&moved(b)))?;
    (moved(farthest) > 0.0).then(|| farthest.clone())
}

/// The newest score that is a week old at a moment, else the oldest before it.
fn usual_before(history: &[ScoreChange], tick_ms: i64) -> Option<ScoreChange> {
    let is_old = |point: &&ScoreChange| tick_ms - point.since_ms >= SPAN_MS;
    let a_week_ago = points_before(history, tick_ms).rfind(is_old);
    let usual = a_week_ago.or_else(|| points_before(history, tick_ms).next());
    usual.cloned()
}

fn points_before(
    history: &[ScoreChange],
    tick_ms: i64,
) -> impl DoubleEndedIterator<Item = &ScoreChange> {
    let is_before = move |point: &&ScoreChange| point.since_ms < tick_ms;
    history.iter().filter(is_before)
}

fn bounded_logit(probability: f64) -> f64 {
    logit(probability.clamp(MIN_PROBABILITY, 1.0 - MIN_PROBABILITY))
}
