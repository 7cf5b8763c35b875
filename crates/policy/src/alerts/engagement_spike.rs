//! `engagement_spike`: the account does much more than is usual for it.

use super::{Limits, Reading, Severity, Trigger, View, never_due};

pub(super) const TRIGGER: Trigger = Trigger {
    name: "engagement_spike",
    severity: Severity::P3,
    is_fall: false,
    fires_on_leaving: false,
    limits: Limits {
        least: Some(6.0),
        ratio: Some(3.0),
        within_ms: None,
    },
    reading,
    due_ms: never_due,
};

/// Met with `least` events a week that are `ratio` times the account's own usual week.
fn reading(view: &View<'_>) -> Reading {
    view.rule.spike(view.facts.engagement)
}
