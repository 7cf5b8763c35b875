//! `usage_spike`: the account uses the product much more than is usual for it.

use super::{Limits, Reading, Severity, Trigger, View};

pub(super) const TRIGGER: Trigger = Trigger {
    limits: Limits {
        least: Some(6.0),
        ratio: Some(3.0),
        ..Limits::NONE
    },
    ..Trigger::new("usage_spike", Severity::P3, reading)
};

/// Met with `least` events a week that are `ratio` times the account's own usual week.
fn reading(view: &View<'_>) -> Reading {
    view.rule.spike(view.facts.usage)
}
