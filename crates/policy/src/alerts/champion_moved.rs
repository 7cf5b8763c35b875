//! `champion_moved`: a person who was active at another account became active at this one.

use leadpulse_schema::units::DAY_MS;

use super::{Limits, Reading, Severity, Trigger, View};

pub(super) const TRIGGER: Trigger = Trigger {
    limits: Limits {
        within_ms: Some(30 * DAY_MS),
        ..Limits::NONE
    },
    ..Trigger::new("champion_moved", Severity::P2, reading)
};

/// Met while the newest arrival from another account is at most `within` old.
fn reading(view: &View<'_>) -> Reading {
    let newest_ms = view.facts.from_elsewhere.iter().map(|one| one.at_ms).max();
    Reading::occurred(newest_ms, view.tick_ms, view.rule.within_ms())
}
