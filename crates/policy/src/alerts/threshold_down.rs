//! `threshold_down`: the score fell below a threshold that it had been over.

use super::{Limits, Reading, Severity, Trigger, View, never_due};

pub(super) const TRIGGER: Trigger = Trigger {
    name: "threshold_down",
    severity: Severity::P2,
    is_fall: true,
    fires_on_leaving: true,
    limits: Limits {
        least: None,
        ratio: None,
        within_ms: None,
    },
    reading,
    due_ms: never_due,
};

/// Met from `enter` on, unmet below `exit`: the alert is about leaving.
fn reading(view: &View<'_>) -> Reading {
    view.thresholds
        .reading(view.thresholds.down, view.probability)
}
