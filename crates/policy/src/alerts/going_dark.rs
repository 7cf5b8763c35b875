//! `going_dark`: an account that was active has stopped.

use leadpulse_schema::units::DAY_MS;

use super::{Limits, Reading, Severity, Trigger, View};

pub(super) const TRIGGER: Trigger = Trigger {
    is_fall: true,
    limits: Limits {
        ratio: Some(3.0),
        within_ms: Some(14 * DAY_MS),
        ..Limits::NONE
    },
    due_ms,
    ..Trigger::new("going_dark", Severity::P2, reading)
};

/// Silence that is unusual for the account: `within`, and `ratio` times its usual gap.
/// `None` for an account without a rhythm: nothing of it can stop.
fn limit_ms(view: &View<'_>) -> Option<i64> {
    let usual_ms = view.facts.usual_gap_ms?;
    let unusual_ms = (view.rule.ratio() * usual_ms as f64) as i64;
    Some(unusual_ms.max(view.rule.within_ms()))
}

/// Met once the silence is unusual.
fn reading(view: &View<'_>) -> Reading {
    let silent_ms = view.facts.silent_ms(view.tick_ms);
    match limit_ms(view).zip(silent_ms) {
        Some((limit_ms, silent_ms)) if silent_ms >= limit_ms => Reading::HOLDS,
        _ => Reading::Unmet,
    }
}

fn due_ms(view: &View<'_>) -> Option<i64> {
    let due_ms = view.facts.newest_event_ms?.saturating_add(limit_ms(view)?);
    (due_ms > view.tick_ms).then_some(due_ms)
}
