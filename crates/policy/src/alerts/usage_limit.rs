//! `usage_limit`: a limit of the product was reached.

use leadpulse_schema::units::DAY_MS;

use super::{Limits, Reading, Severity, Trigger, View, never_due};

pub(super) const TRIGGER: Trigger = Trigger {
    name: "usage_limit",
    severity: Severity::P2,
    is_fall: false,
    fires_on_leaving: false,
    limits: Limits {
        least: None,
        ratio: None,
        within_ms: Some(7 * DAY_MS),
    },
    reading,
    due_ms: never_due,
};

/// Met while the newest event about a limit is at most `within` old.
fn reading(view: &View<'_>) -> Reading {
    Reading::occurred(view.facts.limit_ms, view.tick_ms, view.rule.within_ms())
}
