//! `usage_limit`: a limit of the product was reached.

use leadpulse_schema::units::DAY_MS;

use super::{Limits, Reading, Severity, Trigger, View};

pub(super) const TRIGGER: Trigger = Trigger {
    limits: Limits {
        within_ms: Some(7 * DAY_MS),
        ..Limits::NONE
    },
    ..Trigger::new("usage_limit", Severity::P2, reading)
};

/// Met while the newest event about a limit is at most `within` old.
fn reading(view: &View<'_>) -> Reading {
    Reading::occurred(view.facts.limit_ms, view.tick_ms, view.rule.within_ms())
}
