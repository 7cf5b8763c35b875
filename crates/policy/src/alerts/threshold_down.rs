//! `threshold_down`: the score fell below a threshold that it had been over.

use super::{Reading, Severity, Trigger, View};

pub(super) const TRIGGER: Trigger = Trigger {
    is_fall: true,
    fires_on_leaving: true,
    ..Trigger::new("threshold_down", Severity::P2, reading)
};

/// Met from `enter` on, unmet below `exit`: the alert is about leaving.
fn reading(view: &View<'_>) -> Reading {
    view.thresholds
        .reading(view.thresholds.down, view.probability)
}
