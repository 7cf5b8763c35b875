//! Reasons to hold alerts back: confirmers, relations of an account to the own company, what people
//! decided, and the hold-out share.

use leadpulse_schema::units::{DAY_MS, Span};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::alerts::SuppressReason;
use crate::error::PolicyError;
use crate::facts::AlertFacts;

/// The activity without which a rise is not told.
///
/// Facts that the tables cannot tell hold nothing back. Falls need no confirmation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfirmOptions {
    /// People of the account with an event in the last 14 days.
    pub min_active_members: u32,
    /// Different kinds of events in the last 14 days.
    pub min_kinds: u32,
    /// The greatest age of the account's newest event.
    pub recency: Span,
    /// The time for which a crossing waits for its confirmation.
    pub within: Span,
}

impl Default for ConfirmOptions {
    fn default() -> Self {
        Self {
            min_active_members: 1,
            min_kinds: 2,
            recency: Span::from_ms(7 * DAY_MS),
            within: Span::from_ms(3 * DAY_MS),
        }
    }
}

impl ConfirmOptions {
    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        if self.recency.ms() > 0 {
            return Ok(());
        }
        Err(PolicyError::OutOfRange {
            place: "confirm.recency",
            value: self.recency.ms() as f64,
            expected: "longer than 0",
        })
    }

    /// True if the activity of an account confirms a rise.
    pub(crate) fn is_confirmed(&self, facts: &AlertFacts, now_ms: i64) -> bool {
        let is_enough = |found: Option<u32>, least: u32| found.is_none_or(|found| found >= least);
        is_enough(facts.active_people, self.min_active_members)
            && is_enough(facts.active_kinds, self.min_kinds)
            && facts
                .silent_ms(now_ms)
                .is_some_and(|silent_ms| silent_ms <= self.recency.ms())
    }
}

/// The accounts that get no alerts of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SuppressOptions {
    /// Accounts with a won deal. False for tasks about customers, such as expansion.
    pub customers: bool,
    /// Accounts with an open deal of another person than alerts about the account are for.
    pub deals_of_others: bool,
    /// People and accounts that must not be contacted.
    pub do_not_contact: bool,
    /// Domains, with all below them: `example.com` excludes `mail.example.com` too.
    pub domains: Vec<String>,
}

impl Default for SuppressOptions {
    fn default() -> Self {
        Self {
            customers: true,
            deals_of_others: true,
            do_not_contact: true,
            domains: Vec::new(),
        }
    }
}

impl SuppressOptions {
    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        let is_domain = |domain: &&String| {
            let parts = domain.split('.').filter(|part| !part.is_empty()).count();
            parts >= 2 && !domain.contains(['/', '@', ' ', ':'])
        };
        match self.domains.iter().position(|one| !is_domain(&one)) {
            None => Ok(()),
            Some(index) => Err(PolicyError::NotADomain {
                place: format!("suppress.domains[{index}]"),
                value: self.domains[index].clone(),
            }),
        }
    }

    /// The reason for which an account gets no alerts; of several the first in this order.
    pub(crate) fn reason(&self, facts: &AlertFacts) -> Option<SuppressReason> {
        if self.do_not_contact && facts.do_not_contact {
            Some(SuppressReason::DoNotContact)
        } else if self.excludes(facts.domain.as_deref()) {
            Some(SuppressReason::ExcludedDomain)
        } else if self.customers && facts.is_customer {
            Some(SuppressReason::Customer)
        } else if self.deals_of_others && facts.has_deal_of_another_owner() {
            Some(SuppressReason::OtherOwner)
        } else {
            None
        }
    }

    fn excludes(&self, domain: Option<&str>) -> bool {
        let Some(domain) = domain.map(|domain| domain.trim_end_matches('.').to_lowercase()) else {
            return false;
        };
        self.domains.iter().any(|excluded| {
            let excluded = excluded.to_lowercase();
            let below = domain.strip_suffix(&excluded);
            below.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }
}

/// A person's decision about the alerts of an entity: an account with all its members, or one of
/// its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountOverride {
    pub decision: OverrideKind,
    /// The person who decided.
    pub who: String,
    /// The reason in the person's words.
    #[serde(default)]
    pub why: Option<String>,
    /// The end of the decision, milliseconds; `None` until another one.
    #[serde(default)]
    pub until_ms: Option<i64>,
}

/// The kinds of a person's decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverrideKind {
    /// Alert always: no suppression, no hold-out, no caps. What holds when the pin comes is told,
    /// though it began before.
    Pin,
    /// No alerts for a while; open ones end.
    Mute,
    /// No alerts, and on no list; open ones end.
    Exclude,
}

impl OverrideKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Pin, Self::Mute, Self::Exclude];

    /// The name in rows, metrics and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Mute => "mute",
            Self::Exclude => "exclude",
        }
    }

    /// True for a decision under which nothing is told.
    pub fn is_silent(self) -> bool {
        matches!(self, Self::Mute | Self::Exclude)
    }
}

impl AccountOverride {
    /// The decision, if it is in force at a moment.
    pub fn at(&self, now_ms: i64) -> Option<OverrideKind> {
        let is_over = self.until_ms.is_some_and(|until_ms| until_ms <= now_ms);
        (!is_over).then_some(self.decision)
    }
}

/// True for an account of the hold-out share, which is the same in every task and epoch.
///
/// The first 8 bytes of the SHA-256 of `leadpulse.holdout.v1` and the account's key, as a fraction
/// of 2^64, are compared with the share. A larger share keeps the accounts of a smaller one.
pub fn is_held_out(account: &str, share: f64) -> bool {
    if share <= 0.0 {
        return false;
    }
    let mut hasher = Sha256::new();
    hasher.update("leadpulse.holdout.v1");
    hasher.update(account.as_bytes());
    let digest = hasher.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    // 53 bits, so that the fraction is exact.
    let fraction = (u64::from_be_bytes(first) >> 11) as f64 / (1u64 << 53) as f64;
    fraction < share
}
