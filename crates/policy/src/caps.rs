//! Caps: the most alerts that a person gets on a day, and one digest of the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use leadpulse_schema::units::DAY_MS;
use serde::{Deserialize, Serialize};

use crate::account::{AccountAlert, EntityDraft};
use crate::error::PolicyError;

/// Greatest distance of a local time from UTC, minutes.
const MAX_OFFSET_MINUTES: i32 = 14 * 60;

/// The most alerts that a person gets on a day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CapOptions {
    /// Alerts a person and day; 0 sends everything to the digest. Without it there is no cap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_owner_and_day: Option<u32>,
    /// Distance of local time from UTC, minutes: a day begins at local midnight.
    pub utc_offset_minutes: i32,
    /// Person → distance of their local time from UTC, minutes.
    pub utc_offset_minutes_of: BTreeMap<String, i32>,
}

impl Default for CapOptions {
    fn default() -> Self {
        Self {
            // Three a day is what people still act on by the measure of the design.
            per_owner_and_day: Some(3),
            utc_offset_minutes: 0,
            utc_offset_minutes_of: BTreeMap::new(),
        }
    }
}

impl CapOptions {
    /// Checks everything once.
    ///
    /// # Errors
    /// An offset of more than 14 hours.
    pub fn checked(&self) -> Result<Caps, PolicyError> {
        let all = std::iter::once(&self.utc_offset_minutes);
        for offset in all.chain(self.utc_offset_minutes_of.values()) {
            if offset.abs() > MAX_OFFSET_MINUTES {
                return Err(PolicyError::OutOfRange {
                    place: "utc_offset_minutes",
                    value: f64::from(*offset),
                    expected: "from -840 to 840",
                });
            }
        }
        Ok(Caps {
            options: self.clone(),
        })
    }
}

/// Checked [`CapOptions`].
#[derive(Clone, Debug)]
pub struct Caps {
    options: CapOptions,
}

/// The days under way: a small part of the deployment's state. The default is before the first
/// alert.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapState {
    /// Owner → day; alerts without an owner are under the empty name.
    days: BTreeMap<Arc<str>, OwnerDay>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnerDay {
    /// Local days since 1970.
    day: i64,
    sent: u32,
    kept: Vec<AccountAlert>,
}

impl CapState {
    /// Forgets the parts of kept alerts that are about some entities, and alerts without any other
    /// part. Returns true if there were any.
    pub fn forget(&mut self, is_gone: impl Fn(&EntityDraft) -> bool) -> bool {
        let mut is_changed = false;
        for day in self.days.values_mut() {
            let kept = std::mem::take(&mut day.kept);
            for alert in kept {
                let AccountAlert { lead, parts } = alert;
                let all = std::iter::once(lead).chain(parts);
                let (gone, left): (Vec<_>, Vec<_>) = all.partition(|part| is_gone(part));
                is_changed |= !gone.is_empty();
                let mut left = left.into_iter();
                if let Some(lead) = left.next() {
                    let parts = left.collect();
                    day.kept.push(AccountAlert { lead, parts });
                }
            }
        }
        is_changed
    }
}

/// The alerts of one person and day beyond the cap.
#[derive(Clone, Debug, PartialEq)]
pub struct Digest {
    /// The person; `None` for alerts of nobody.
    pub owner: Option<Arc<str>>,
    /// Local days since 1970.
    pub day: i64,
    /// End of the local day, milliseconds.
    pub ends_at_ms: i64,
    /// The alerts, the most urgent first.
    pub alerts: Vec<AccountAlert>,
}

impl Caps {
    /// Sends the alerts of a tick, or keeps them for the digest of their owner's day. Returns those
    /// to send, in order.
    ///
    /// Alerts come in the order of [`crate::combine`]. Pinned accounts, ends of alerts, and accounts
    /// of the hold-out share pass and do not count. Digests of days that are over by `tick_ms` are
    /// asked for first, see [`Self::due`].
    pub fn admit(
        &self,
        state: &mut CapState,
        tick_ms: i64,
        alerts: Vec<AccountAlert>,
    ) -> Vec<AccountAlert> {
        let Some(cap) = self.options.per_owner_and_day else {
            return alerts;
        };
        let mut sent = Vec::new();
        for alert in alerts {
            if alert.lead.draft.is_pinned || alert.is_held_out() || !alert.is_news() {
                sent.push(alert);
                continue;
            }
            let owner = alert.lead.owner.clone().unwrap_or_default();
            let day = self.day(&owner, tick_ms);
            let today = state.days.entry(owner).or_insert(OwnerDay {
                day,
                sent: 0,
                kept: Vec::new(),
            });
            debug_assert!(today.day == day, "digests of past days are taken first");
            if today.sent < cap {
                today.sent += 1;
                sent.push(alert);
            } else {
                today.kept.push(alert);
            }
        }
        sent
    }

    /// Takes the digests of days that are over at a tick, by owner.
    pub fn due(&self, state: &mut CapState, tick_ms: i64) -> Vec<Digest> {
        let is_over = |owner: &str, one: &OwnerDay| self.day(owner, tick_ms) > one.day;
        let over: Vec<Arc<str>> = state
            .days
            .iter()
            .filter(|(owner, one)| is_over(owner, one))
            .map(|(owner, _)| owner.clone())
            .collect();
        let mut digests = Vec::new();
        for owner in over {
            let Some(ended) = state.days.remove(&owner) else {
                continue;
            };
            if ended.kept.is_empty() {
                continue;
            }
            let mut alerts = ended.kept;
            alerts.sort_by(|a, b| a.lead.precedes(&b.lead));
            digests.push(Digest {
                ends_at_ms: self.end_ms(&owner, ended.day),
                owner: (!owner.is_empty()).then_some(owner),
                day: ended.day,
                alerts,
            });
        }
        digests
    }

    /// The next moment at which a digest is due, milliseconds.
    pub fn revisit_at_ms(&self, state: &CapState) -> Option<i64> {
        let kept = state.days.iter().filter(|(_, one)| !one.kept.is_empty());
        kept.map(|(owner, one)| self.end_ms(owner, one.day)).min()
    }

    /// End of the local day of a person that a moment lies in, milliseconds. The name is empty for
    /// alerts of nobody.
    pub fn day_ends_at_ms(&self, owner: &str, at_ms: i64) -> i64 {
        self.end_ms(owner, self.day(owner, at_ms))
    }

    fn offset_ms(&self, owner: &str) -> i64 {
        let own = self.options.utc_offset_minutes_of.get(owner);
        let minutes = own.copied().unwrap_or(self.options.utc_offset_minutes);
        i64::from(minutes) * 60_000
    }

    fn day(&self, owner: &str, tick_ms: i64) -> i64 {
        tick_ms
            .saturating_add(self.offset_ms(owner))
            .div_euclid(DAY_MS)
    }

    fn end_ms(&self, owner: &str, day: i64) -> i64 {
        (day + 1) * DAY_MS - self.offset_ms(owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{combine, tests::part};
    use crate::alerts::{AlertLife, Severity};

    const HOUR_MS: i64 = DAY_MS / 24;

    fn alert(account: &str, severity: Severity, owner: Option<&str>) -> AccountAlert {
        let mut one = part(
            "t",
            ("accounts", account),
            account,
            severity,
            0.0,
            AlertLife::Open,
        );
        one.owner = owner.map(Arc::from);
        combine(vec![one]).remove(0)
    }

    fn accounts(alerts: &[AccountAlert]) -> Vec<&str> {
        alerts.iter().map(|alert| &*alert.lead.account).collect()
    }

    fn caps(json: &str) -> Caps {
        let options: CapOptions = serde_json::from_str(json).expect("the options parse");
        options.checked().expect("the options have no fault")
    }

    #[test]
    fn a_person_gets_so_many_a_day_and_one_digest_of_the_rest() {
        let caps = caps(r#"{"per_owner_and_day":2}"#);
        let mut state = CapState::default();
        let ann = |account, severity| alert(account, severity, Some("ann"));
        let morning = vec![
            ann("A1", Severity::P2),
            ann("A2", Severity::P3),
            ann("A3", Severity::P3),
        ];
        let sent = caps.admit(&mut state, 8 * HOUR_MS, morning);
        assert_eq!(accounts(&sent), ["A1", "A2"]);
        let noon = vec![
            ann("A4", Severity::P1),
            alert("B1", Severity::P3, Some("bob")),
        ];
        assert_eq!(
            accounts(&caps.admit(&mut state, 12 * HOUR_MS, noon)),
            ["B1"]
        );
        assert_eq!(caps.revisit_at_ms(&state), Some(DAY_MS));
        assert!(caps.due(&mut state, DAY_MS - 1).is_empty());
        let saved = serde_json::to_string(&state).unwrap();
        let mut state: CapState = serde_json::from_str(&saved).unwrap();
        let digests = caps.due(&mut state, DAY_MS);
        assert_eq!(digests.len(), 1, "bob's day had no more");
        assert_eq!(
            (digests[0].owner.as_deref(), digests[0].day),
            (Some("ann"), 0)
        );
        assert_eq!(
            accounts(&digests[0].alerts),
            ["A4", "A3"],
            "the urgent first"
        );
        assert_eq!(caps.revisit_at_ms(&state), None);
        let next = caps.admit(&mut state, DAY_MS, vec![ann("A5", Severity::P3)]);
        assert_eq!(accounts(&next), ["A5"]);
    }

    #[test]
    fn days_begin_at_local_midnight() {
        let caps = caps(
            r#"{"per_owner_and_day":0,"utc_offset_minutes":60,"utc_offset_minutes_of":{"ann":-300}}"#,
        );
        for (owner, ends_at_ms) in [("ann", 5 * HOUR_MS), ("bob", 23 * HOUR_MS)] {
            let mut state = CapState::default();
            let sent = caps.admit(
                &mut state,
                HOUR_MS,
                vec![alert("A1", Severity::P1, Some(owner))],
            );
            assert!(sent.is_empty());
            assert_eq!(caps.revisit_at_ms(&state), Some(ends_at_ms), "{owner}");
            assert_eq!(caps.due(&mut state, ends_at_ms)[0].ends_at_ms, ends_at_ms);
        }
        let far: CapOptions = serde_json::from_str(r#"{"utc_offset_minutes":900}"#).unwrap();
        assert!(far.checked().is_err());
    }

    #[test]
    fn pinned_ended_and_held_out_alerts_pass() {
        let caps = caps(r#"{"per_owner_and_day":0}"#);
        let mut state = CapState::default();
        let mut pinned = alert("A1", Severity::P1, None);
        pinned.lead.draft.is_pinned = true;
        let mut ended = alert("A2", Severity::P1, None);
        ended.lead.draft.life = AlertLife::Resolved;
        let mut held_out = alert("A3", Severity::P1, None);
        held_out.lead.draft.is_held_out = true;
        let all = vec![pinned, ended, held_out, alert("A4", Severity::P1, None)];
        assert_eq!(
            accounts(&caps.admit(&mut state, 0, all)),
            ["A1", "A2", "A3"]
        );
    }
}
