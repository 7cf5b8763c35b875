//! `peer_wave`: several accounts like this one closed.

use super::{Limits, Reading, Severity, Trigger, View, never_due};

pub(super) const TRIGGER: Trigger = Trigger {
    name: "peer_wave",
    severity: Severity::P3,
    is_fall: false,
    fires_on_leaving: false,
    limits: Limits {
        least: Some(3.0),
        ratio: None,
        within_ms: None,
    },
    reading,
    due_ms: never_due,
};

/// Met with `least` closings among the peers, unmet below half of them.
fn reading(view: &View<'_>) -> Reading {
    let closed = view.facts.peers.as_ref().map_or(0.0, |peers| peers.closed);
    Reading::of(closed, view.rule.least(), view.rule.least() / 2.0)
}
