//! Alerts that fire, as far as the policy knows them, and the reasons for which others do not.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::AlertType;
use crate::trend::Trend;

/// The urgency of an alert: P1 is the most urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Severity {
    /// Act now.
    P1,
    /// Act today.
    P2,
    /// Good to know.
    P3,
}

impl Severity {
    /// All severities, the most urgent first.
    pub const ALL: [Self; 3] = [Severity::P1, Severity::P2, Severity::P3];

    /// The name in records and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Severity::P1 => "P1",
            Severity::P2 => "P2",
            Severity::P3 => "P3",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The reason for which an alert does not fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SuppressReason {
    /// Less than the cooldown has passed since the last alert of the type. The crossing waits, and
    /// fires at the end of the cooldown if it still holds.
    Cooldown,
    /// The confirmers, or the conditions of the rule, did not hold in time.
    Unconfirmed,
    /// The condition ended while the crossing waited.
    Reversed,
    /// Levels were being placed: before the start of alerting, or after a change of bundle.
    Placing,
    /// The entity was known before alerting began, and had no score yet.
    FirstScore,
    /// The entity left the task's population, which is not a fall of its score.
    Ineligible,
    /// Rules or thresholds were changed since the last fold.
    Reconfigured,
    /// The account is a customer.
    Customer,
    /// An open deal of the account belongs to another person.
    OtherOwner,
    /// The entity must not be contacted.
    DoNotContact,
    /// The account's domain is excluded.
    ExcludedDomain,
    /// A person muted the account.
    Muted,
    /// A person excluded the account.
    Excluded,
}

impl SuppressReason {
    pub const ALL: [Self; 13] = [
        SuppressReason::Cooldown,
        SuppressReason::Unconfirmed,
        SuppressReason::Reversed,
        SuppressReason::Placing,
        SuppressReason::FirstScore,
        SuppressReason::Ineligible,
        SuppressReason::Reconfigured,
        SuppressReason::Customer,
        SuppressReason::OtherOwner,
        SuppressReason::DoNotContact,
        SuppressReason::ExcludedDomain,
        SuppressReason::Muted,
        SuppressReason::Excluded,
    ];

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            SuppressReason::Cooldown => "cooldown",
            SuppressReason::Unconfirmed => "unconfirmed",
            SuppressReason::Reversed => "reversed",
            SuppressReason::Placing => "placing",
            SuppressReason::FirstScore => "first_score",
            SuppressReason::Ineligible => "ineligible",
            SuppressReason::Reconfigured => "reconfigured",
            SuppressReason::Customer => "customer",
            SuppressReason::OtherOwner => "other_owner",
            SuppressReason::DoNotContact => "do_not_contact",
            SuppressReason::ExcludedDomain => "excluded_domain",
            SuppressReason::Muted => "muted",
            SuppressReason::Excluded => "excluded",
        }
    }
}

/// The step in the life of an alert that a record reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertLife {
    /// The alert is new.
    Open,
    /// The alert became more urgent.
    Updated,
    /// The condition of the alert ended, or a person silenced it: nothing is left to do.
    Resolved,
}

/// The alert of an entity and task by its type and crossing: what [`super::alert_id`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AlertKey {
    pub alert_type: AlertType,
    /// Tick of the crossing, milliseconds.
    pub crossed_at_ms: i64,
}

/// A score that another one is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreChange {
    /// The moment of the score before, milliseconds.
    pub since_ms: i64,
    /// The probability then.
    pub probability: f64,
    /// People of the account who were active in the 14 days before; `None` where no table has
    /// people.
    pub active_people: Option<u32>,
    /// Events by kind and open deals then, as in [`crate::AlertFacts`]; `None` in a memory of before
    /// they were kept.
    #[serde(default)]
    pub counts: Option<Arc<BTreeMap<String, f64>>>,
}

/// An alert that fires, without the entity and the reasons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertDraft {
    /// The alert that is opened, updated or resolved.
    pub key: AlertKey,
    pub life: AlertLife,
    pub severity: Severity,
    /// The tick at which it fires, milliseconds: that of the crossing, or later where the crossing
    /// waited.
    pub tick_ms: i64,
    /// The probability at the tick; for an entity that left the population its last one.
    pub probability: f64,
    /// True for the end of an alert because the entity left the task's population.
    pub has_left: bool,
    /// The score to compare with: about a week before, or the oldest known. For a threshold the
    /// score moved in the direction of the alert since then.
    pub change: Option<ScoreChange>,
    /// The direction from `change` to now; unknown without one.
    pub trend: Trend,
    /// The change of the probability a day since `change`; `None` over less than a day.
    pub velocity_per_day: Option<f64>,
    /// The probability crossed: where the threshold is entered (up) or left (down); `None` for
    /// other types.
    pub threshold: Option<f64>,
    /// The band before the crossing; `None` below all bands.
    pub previous_band: Option<Arc<str>>,
    /// The band now; `None` below all bands.
    pub band: Option<Arc<str>>,
    /// Sum of the amounts of open deals.
    pub value_at_stake: f64,
    /// The moment from which the alert is not worth acting on, milliseconds.
    pub expires_at_ms: Option<i64>,
    /// The open alert that this one replaces.
    pub supersedes: Option<AlertKey>,
    /// True for an account of the hold-out share: the alert is recorded, and nobody gets it.
    pub is_held_out: bool,
    /// True for an account that a person pinned: caps do not apply.
    pub is_pinned: bool,
    /// True for the end of an alert because a person muted or excluded the account.
    pub is_silenced: bool,
}
