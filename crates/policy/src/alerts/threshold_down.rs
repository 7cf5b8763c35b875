//! `threshold_down`: the score fell below a threshold that it had been over.

use super::{AlertRule, Raised};
use crate::signal::Signal;

pub(super) const RULE: AlertRule = AlertRule {
    name: "threshold_down",
    raised,
};

/// Raised when the threshold is left, with the severity of the band left.
fn raised(signal: &Signal<'_>) -> Option<Raised> {
    let line = signal.thresholds.down?;
    signal.left(line).then(|| Raised {
        threshold: signal.thresholds.lines[line].exit,
        severity: signal.thresholds.severity_at(signal.level_before),
    })
}
