//! Work lists: how many entities they have, when they are made, and what stays off them.

use leadpulse_schema::units::{DAY_MS, Span, at_or_after};
use serde::{Deserialize, Serialize};

use crate::error::PolicyError;
use crate::facts::AlertFacts;
use crate::policy::Policy;
use crate::suppress::{AccountOverride, OverrideKind, is_held_out};

/// Most entries of a list.
// A list is one record of at most 8 MiB, and nobody works on a thousand accounts in a day.
const MAX_SIZE: usize = 1000;
/// Shortest distance of two lists, milliseconds.
// All entities of a task are ordered for each.
const MIN_EVERY_MS: i64 = 60_000;

/// The lists of what each person should work on next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkListOptions {
    /// Entries of a list at most; 0 for no lists.
    pub size: usize,
    /// Distance of two lists: a multiple of the tick, counted from local midnight.
    pub every: Span,
}

impl Default for WorkListOptions {
    fn default() -> Self {
        Self {
            size: 20,
            every: Span::from_ms(DAY_MS),
        }
    }
}

impl WorkListOptions {
    /// Checks everything once. `tick_ms` is the distance of ticks, `utc_offset_minutes` that of
    /// local time from UTC.
    ///
    /// # Errors
    /// A size beyond 1,000; a distance that is shorter than a minute or no multiple of the tick.
    pub fn checked(&self, tick_ms: u64, utc_offset_minutes: i32) -> Result<WorkLists, PolicyError> {
        let refuse = |place, value: f64, expected| {
            Err(PolicyError::OutOfRange {
                place,
                value,
                expected,
            })
        };
        if self.size > MAX_SIZE {
            return refuse("worklist.size", self.size as f64, "from 0 to 1000");
        }
        let every_ms = self.every.ms();
        let is_multiple = u64::try_from(every_ms).is_ok_and(|ms| ms.is_multiple_of(tick_ms));
        if every_ms < MIN_EVERY_MS || !is_multiple {
            let expected = "in milliseconds a multiple of engine.tick, and a minute at least";
            return refuse("worklist.every", every_ms as f64, expected);
        }
        Ok(WorkLists {
            size: self.size,
            every_ms,
            tick_ms: tick_ms as i64,
            offset_ms: i64::from(utc_offset_minutes) * 60_000,
        })
    }
}

/// Checked [`WorkListOptions`].
#[derive(Clone, Debug)]
pub struct WorkLists {
    size: usize,
    every_ms: i64,
    tick_ms: i64,
    offset_ms: i64,
}

impl WorkLists {
    /// No lists.
    pub fn none() -> Self {
        Self {
            size: 0,
            every_ms: DAY_MS,
            tick_ms: DAY_MS,
            offset_ms: 0,
        }
    }

    /// True if lists are made.
    pub fn are_made(&self) -> bool {
        self.size > 0
    }

    /// Entries of a list at most.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The first moment after another one at which lists are due, milliseconds: the first tick of
    /// the span.
    pub fn next_ms(&self, after_ms: i64) -> i64 {
        let local_ms = after_ms.saturating_add(self.offset_ms);
        let span = local_ms.div_euclid(self.every_ms);
        // Local midnight need not be a tick, so that of the span under way may still be to come.
        let of_span = self.tick_of(span);
        if of_span > after_ms {
            of_span
        } else {
            self.tick_of(span + 1)
        }
    }

    /// The first tick at or after the start of a span, milliseconds.
    fn tick_of(&self, span: i64) -> i64 {
        let start_ms = span
            .saturating_mul(self.every_ms)
            .saturating_sub(self.offset_ms);
        at_or_after(start_ms, self.tick_ms)
    }
}

impl Policy {
    /// True for an entity that may stand on a list at a moment: nothing holds its alerts back, and
    /// its account is not of the hold-out share. A pinned one always may.
    pub fn may_be_listed(
        &self,
        facts: &AlertFacts,
        ruling: Option<&AccountOverride>,
        now_ms: i64,
    ) -> bool {
        let ruling = ruling.and_then(|ruling| ruling.at(now_ms));
        if ruling == Some(OverrideKind::Pin) {
            return true;
        }
        let is_held_out = is_held_out(&facts.account, self.rules.hold_out_share);
        !is_held_out && self.held_back_by(ruling, facts).is_none()
    }

    /// The share of accounts, 0 to 1, whose alerts reach nobody.
    pub fn hold_out_share(&self) -> f64 {
        self.rules.hold_out_share
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PolicyOptions;
    use crate::facts::OpenDeal;

    const HOUR_MS: i64 = DAY_MS / 24;

    fn options(json: &str) -> WorkListOptions {
        serde_json::from_str(json).expect("the options parse")
    }

    #[test]
    fn lists_are_due_at_multiples_from_local_midnight() {
        let daily = WorkListOptions::default().checked(10_000, 60).unwrap();
        assert_eq!(daily.next_ms(0), 23 * HOUR_MS, "midnight at UTC+1");
        assert_eq!(daily.next_ms(23 * HOUR_MS - 1), 23 * HOUR_MS);
        assert_eq!(daily.next_ms(23 * HOUR_MS), 47 * HOUR_MS, "after, not at");
        let six_hours = options(r#"{"every":"6h"}"#).checked(10_000, 0).unwrap();
        assert_eq!(six_hours.next_ms(7 * HOUR_MS), 12 * HOUR_MS);
        let hourly_ticks = WorkListOptions::default().checked(3_600_000, 330).unwrap();
        assert_eq!(hourly_ticks.next_ms(0), 19 * HOUR_MS, "a tick after 18:30");
        let half_past = 18 * HOUR_MS + HOUR_MS / 2;
        assert_eq!(hourly_ticks.next_ms(half_past), 19 * HOUR_MS);
        assert_eq!(hourly_ticks.next_ms(19 * HOUR_MS), 43 * HOUR_MS);
        assert!(six_hours.are_made() && six_hours.size() == 20);
        assert!(!WorkLists::none().are_made());
    }

    #[test]
    fn faults_of_the_options_are_named() {
        for (json, place) in [
            (r#"{"size":1001}"#, "worklist.size is 1001"),
            (r#"{"every":"59s"}"#, "worklist.every is 59000"),
            (r#"{"every":"3605s"}"#, "worklist.every is 3605000"),
        ] {
            let fault = options(json).checked(10_000, 0).unwrap_err().to_string();
            assert!(fault.contains(place), "{fault}");
        }
    }

    #[test]
    fn what_gets_no_alerts_is_on_no_list() {
        let policy = |json: &str| {
            let options: PolicyOptions = serde_json::from_str(json).unwrap();
            options.validated().unwrap()
        };
        let usual = policy(r#"{"suppress":{"domains":["rival.example"]}}"#);
        let held_out = policy(r#"{"hold_out_share":1.0}"#);
        let facts = || AlertFacts {
            account: "A1".into(),
            owner: Some("ann".into()),
            ..AlertFacts::default()
        };
        let ruling = |decision, until_ms| AccountOverride {
            decision,
            who: "ann".into(),
            why: None,
            until_ms,
        };
        let customer = AlertFacts {
            is_customer: true,
            ..facts()
        };
        let do_not_contact = AlertFacts {
            do_not_contact: true,
            ..facts()
        };
        let excluded_domain = AlertFacts {
            domain: Some("mail.rival.example".into()),
            ..facts()
        };
        let deal_of_bob = AlertFacts {
            open_deals: vec![OpenDeal {
                key: "D1".into(),
                amount: None,
                owner: Some("bob".into()),
            }],
            ..facts()
        };
        let is_listed = |facts: &AlertFacts, ruling: Option<&AccountOverride>| {
            usual.may_be_listed(facts, ruling, 10)
        };
        assert!(is_listed(&facts(), None));
        for facts in [&customer, &do_not_contact, &excluded_domain, &deal_of_bob] {
            assert!(!is_listed(facts, None), "{facts:?}");
            let pinned = ruling(OverrideKind::Pin, None);
            assert!(is_listed(facts, Some(&pinned)), "{facts:?}");
        }
        for decision in [OverrideKind::Mute, OverrideKind::Exclude] {
            assert!(!is_listed(&facts(), Some(&ruling(decision, None))));
            assert!(!is_listed(&facts(), Some(&ruling(decision, Some(11)))));
            assert!(is_listed(&facts(), Some(&ruling(decision, Some(10)))));
        }
        assert!(!held_out.may_be_listed(&facts(), None, 10));
        let pinned = ruling(OverrideKind::Pin, None);
        assert!(held_out.may_be_listed(&facts(), Some(&pinned), 10));
    }
}
