//! `threshold_up`: the score rose over the configured threshold.

use super::{Limits, Reading, Severity, Trigger, View, never_due};

pub(super) const TRIGGER: Trigger = Trigger {
    name: "threshold_up",
    severity: Severity::P2,
    is_fall: false,
    fires_on_leaving: false,
    limits: Limits {
        least: None,
        ratio: None,
        within_ms: None,
    },
    reading,
    due_ms: never_due,
};

/// Met from `enter` on, unmet below `exit`.
fn reading(view: &View<'_>) -> Reading {
    view.thresholds
        .reading(view.thresholds.up, view.probability)
}
