//! Drafts of alerts from a moment and the memory of a rule.

use super::Moment;
use super::memory::OpenAlert;
use crate::alerts::{AlertDraft, AlertKey, AlertLife, AlertType};
use crate::policy::Policy;
use crate::suppress::{OverrideKind, is_held_out};

impl Policy {
    /// The end of an alert that fires at a tick, milliseconds; `None` without one.
    pub(super) fn expires_at_ms(&self, tick_ms: i64) -> Option<i64> {
        let expires_ms = self.rules.expires_ms?;
        Some(tick_ms.saturating_add(expires_ms))
    }

    /// The draft of an open alert at a moment.
    pub(super) fn draft(
        &self,
        now: &Moment<'_>,
        life: AlertLife,
        open: OpenAlert,
        level_before: u8,
    ) -> AlertDraft {
        let alert_type = now.rule.alert_type;
        let change = self.change(now);
        let is_pinned = now.ruling() == Some(OverrideKind::Pin);
        let share = self.rules.hold_out_share;
        AlertDraft {
            key: AlertKey {
                alert_type,
                crossed_at_ms: open.crossed_at_ms,
            },
            life,
            severity: open.severity,
            tick_ms: now.seen.tick_ms,
            probability: now.scored.probability,
            has_left: now.seen.score.is_err(),
            change: change.from,
            trend: change.trend,
            velocity_per_day: change.velocity_per_day,
            threshold: self.thresholds.crossed(alert_type),
            previous_band: self.thresholds.band_name_at(level_before),
            band: self.thresholds.band_name_at(now.level),
            value_at_stake: now.seen.facts.value_at_stake(),
            expires_at_ms: open.expires_at_ms,
            supersedes: None,
            is_held_out: !is_pinned && is_held_out(&now.seen.facts.account, share),
            is_pinned,
            is_silenced: false,
        }
    }
}

/// A threshold's alert that fires while the opposite one ends replaces it: the end alone would be
/// told twice.
pub(super) fn supersede(fired: &mut Vec<AlertDraft>) {
    for (new, old) in [
        (AlertType::ThresholdDown, AlertType::ThresholdUp),
        (AlertType::ThresholdUp, AlertType::ThresholdDown),
    ] {
        let is_ended =
            |draft: &AlertDraft| draft.key.alert_type == old && draft.life == AlertLife::Resolved;
        let Some(ended) = fired.iter().position(is_ended) else {
            continue;
        };
        let key = fired[ended].key;
        let opened = fired
            .iter_mut()
            .find(|draft| draft.key.alert_type == new && draft.life == AlertLife::Open);
        if let Some(opened) = opened {
            opened.supersedes = Some(key);
            fired.remove(ended);
        }
    }
}
