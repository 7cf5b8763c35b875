//! `threshold_up`: the score rose over the configured threshold.

use super::{Reading, Severity, Trigger, View};

pub(super) const TRIGGER: Trigger = Trigger::new("threshold_up", Severity::P2, reading);

/// Met from `enter` on, unmet below `exit`.
fn reading(view: &View<'_>) -> Reading {
    view.thresholds
        .reading(view.thresholds.up, view.probability)
}
