//! `new_executive`: a person of high rank became active at the account.

use leadpulse_schema::units::DAY_MS;

use super::{Limits, Reading, Severity, Trigger, View};

pub(super) const TRIGGER: Trigger = Trigger {
    limits: Limits {
        within_ms: Some(7 * DAY_MS),
        ..Limits::NONE
    },
    ..Trigger::new("new_executive", Severity::P2, reading)
};

/// Met while the newest first event of an executive is at most `within` old.
fn reading(view: &View<'_>) -> Reading {
    let newest_ms = view.facts.executives.iter().map(|one| one.at_ms).max();
    Reading::occurred(newest_ms, view.tick_ms, view.rule.within_ms())
}
