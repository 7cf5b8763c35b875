//! Alert types: each is a trigger in a file below this module.
//!
//! A trigger reads one observation and says on which side of its condition the entity is. Waiting,
//! confirming, holding back and firing are the same for all, in [`crate::Policy::fold`]. A new
//! type is such a file, a variant of [`AlertType`] with its places in [`AlertType::ALL`] and
//! [`AlertType::trigger`], its words in `records`, and a mention in `schemas/outputs/alert.avsc`.

mod champion_moved;
mod committee_formed;
mod draft;
mod engagement_spike;
mod going_dark;
mod id;
mod new_executive;
mod peer_wave;
mod re_engaged_after_loss;
pub(crate) mod rules;
mod threshold_down;
mod threshold_up;
mod usage_limit;
mod usage_spike;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use draft::{AlertDraft, AlertKey, AlertLife, ScoreChange, Severity, SuppressReason};
pub use id::{alert_id, digest_id};
pub use rules::AlertRuleOptions;

use crate::facts::AlertFacts;
use crate::thresholds::Thresholds;
use rules::AlertRule;

/// The kind of thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertType {
    /// The probability rose over a threshold.
    ThresholdUp,
    /// The probability fell below a threshold that it had been over.
    ThresholdDown,
    /// A person of high rank became active.
    NewExecutive,
    /// Several people of different departments, or the like, became active.
    CommitteeFormed,
    /// The account does much more than is usual for it.
    EngagementSpike,
    /// The account uses the product much more than is usual for it.
    UsageSpike,
    /// A limit of the product was reached.
    UsageLimit,
    /// An account that was active has stopped.
    GoingDark,
    /// A person who was active at another account became active at this one.
    ChampionMoved,
    /// An account with a lost deal became active again.
    ReEngagedAfterLoss,
    /// Several accounts like this one closed.
    PeerWave,
}

impl AlertType {
    /// All types, in the order in which rules are asked and alerts are returned.
    pub const ALL: [AlertType; 11] = [
        AlertType::ThresholdUp,
        AlertType::ThresholdDown,
        AlertType::NewExecutive,
        AlertType::CommitteeFormed,
        AlertType::EngagementSpike,
        AlertType::UsageSpike,
        AlertType::UsageLimit,
        AlertType::GoingDark,
        AlertType::ChampionMoved,
        AlertType::ReEngagedAfterLoss,
        AlertType::PeerWave,
    ];

    pub(crate) fn trigger(self) -> Trigger {
        match self {
            AlertType::ThresholdUp => threshold_up::TRIGGER,
            AlertType::ThresholdDown => threshold_down::TRIGGER,
            AlertType::NewExecutive => new_executive::TRIGGER,
            AlertType::CommitteeFormed => committee_formed::TRIGGER,
            AlertType::EngagementSpike => engagement_spike::TRIGGER,
            AlertType::UsageSpike => usage_spike::TRIGGER,
            AlertType::UsageLimit => usage_limit::TRIGGER,
            AlertType::GoingDark => going_dark::TRIGGER,
            AlertType::ChampionMoved => champion_moved::TRIGGER,
            AlertType::ReEngagedAfterLoss => re_engaged_after_loss::TRIGGER,
            AlertType::PeerWave => peer_wave::TRIGGER,
        }
    }

    /// The name in configuration, records, metrics and alert ids.
    pub fn name(self) -> &'static str {
        self.trigger().name
    }

    /// True for bad news, which is never the most urgent.
    pub fn is_fall(self) -> bool {
        self.trigger().is_fall
    }
}

impl fmt::Display for AlertType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An alert type's name, condition and defaults.
pub(crate) struct Trigger {
    pub name: &'static str,
    /// Urgency before velocity, value and people count; thresholds take their band's.
    pub severity: Severity,
    /// True for bad news: it fires when the condition ends, and needs nobody's activity.
    pub is_fall: bool,
    /// True if the alert fires when the condition is left, instead of met.
    pub fires_on_leaving: bool,
    /// Numbers of the condition; `None` for one that the trigger has no use for.
    pub limits: Limits,
    /// The side of the condition that the entity is on. Pure: equal views give equal readings.
    pub reading: fn(&View<'_>) -> Reading,
    /// The next moment at which time alone changes the reading, milliseconds.
    pub due_ms: fn(&View<'_>) -> Option<i64>,
}

impl Trigger {
    /// A rise that fires when its condition is met, without numbers of its own, whose reading
    /// changes with observations only.
    const fn new(
        name: &'static str,
        severity: Severity,
        reading: fn(&View<'_>) -> Reading,
    ) -> Self {
        Self {
            name,
            severity,
            is_fall: false,
            fires_on_leaving: false,
            limits: Limits::NONE,
            reading,
            due_ms: never_due,
        }
    }
}

/// The numbers of a condition, each optional.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Limits {
    /// Least count.
    pub least: Option<f64>,
    /// Least multiple of what is usual.
    pub ratio: Option<f64>,
    /// Span of time, milliseconds.
    pub within_ms: Option<i64>,
}

impl Limits {
    const NONE: Self = Self {
        least: None,
        ratio: None,
        within_ms: None,
    };
}

/// One observation as triggers read it.
pub(crate) struct View<'a> {
    pub tick_ms: i64,
    pub probability: f64,
    pub facts: &'a AlertFacts,
    pub thresholds: &'a Thresholds,
    pub rule: &'a AlertRule,
}

/// The side of a trigger's condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// The condition holds. The time says since which event, where the condition is an occurrence:
    /// a later one is another occurrence.
    Met { since_ms: Option<i64> },
    /// The condition does not hold.
    Unmet,
    /// Between the two: the side before stays.
    Between,
}

impl Reading {
    /// Met for a condition that is no occurrence.
    pub const HOLDS: Self = Self::Met { since_ms: None };

    /// The side of a value between two limits: met at `enter` and above, unmet below `exit`.
    pub fn of(value: f64, enter: f64, exit: f64) -> Self {
        if value >= enter {
            Self::HOLDS
        } else if value < exit {
            Self::Unmet
        } else {
            Self::Between
        }
    }

    /// Met for an occurrence at most `within_ms` before a moment.
    pub fn occurred(at_ms: Option<i64>, now_ms: i64, within_ms: i64) -> Self {
        match at_ms {
            Some(at_ms) if now_ms.saturating_sub(at_ms) <= within_ms => Self::Met {
                since_ms: Some(at_ms),
            },
            _ => Self::Unmet,
        }
    }
}

/// For triggers whose readings change with observations only.
fn never_due(_: &View<'_>) -> Option<i64> {
    None
}
