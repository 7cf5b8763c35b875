//! `re_engaged_after_loss`: an account with a lost deal became active again.

use leadpulse_schema::units::DAY_MS;

use super::{Limits, Reading, Severity, Trigger, View};

/// Time after a loss that its own last events take, milliseconds.
const AFTERMATH_MS: i64 = 14 * DAY_MS;

pub(super) const TRIGGER: Trigger = Trigger {
    limits: Limits {
        least: Some(2.0),
        within_ms: Some(14 * DAY_MS),
        ..Limits::NONE
    },
    ..Trigger::new("re_engaged_after_loss", Severity::P2, reading)
};

/// Met while `least` events a week come after the loss and its aftermath, the newest at most
/// `within` old. A deal that is open again is no longer lost.
fn reading(view: &View<'_>) -> Reading {
    let facts = view.facts;
    let Some((lost_ms, newest_ms)) = facts.lost_ms.zip(facts.newest_event_ms) else {
        return Reading::Unmet;
    };
    let is_recent = view.tick_ms.saturating_sub(newest_ms) <= view.rule.within_ms();
    let is_after = newest_ms.saturating_sub(lost_ms) >= AFTERMATH_MS;
    if !facts.open_deals.is_empty() || !is_after || !is_recent {
        return Reading::Unmet;
    }
    let week = facts.engagement.map_or(0.0, |pace| pace.week);
    Reading::of(week, view.rule.least(), view.rule.least() / 2.0)
}
