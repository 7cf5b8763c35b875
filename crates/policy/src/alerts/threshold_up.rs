//! `threshold_up`: the score rose over the configured threshold.

use super::{AlertRule, Raised};
use crate::signal::Signal;

pub(super) const RULE: AlertRule = AlertRule {
    name: "threshold_up",
    raised,
};

/// Raised when the threshold is entered from below, with the severity of the band entered.
fn raised(signal: &Signal<'_>) -> Option<Raised> {
    let line = signal.thresholds.up?;
    signal.entered(line).then(|| Raised {
        threshold: signal.thresholds.lines[line].enter,
        severity: signal.thresholds.severity_at(signal.level),
    })
}
