//! `peer_wave`: several accounts like this one closed.

use super::{Limits, Reading, Severity, Trigger, View};

pub(super) const TRIGGER: Trigger = Trigger {
    limits: Limits {
        least: Some(3.0),
        ..Limits::NONE
    },
    ..Trigger::new("peer_wave", Severity::P3, reading)
};

/// Met with `least` closings among the peers, unmet below half of them.
fn reading(view: &View<'_>) -> Reading {
    let closed = view.facts.peers.as_ref().map_or(0.0, |peers| peers.closed);
    Reading::of(closed, view.rule.least(), view.rule.least() / 2.0)
}
