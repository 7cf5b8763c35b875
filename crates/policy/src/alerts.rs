//! Alert types, and the decision whether one fires.
//!
//! Each type is a file below this module with one [`AlertRule`]. A new type is such a file, a
//! variant of [`AlertType`] with its places in [`AlertType::ALL`] and [`AlertType::rule`], and a
//! mention in the `type` field of `schemas/outputs/alert.avsc`. A rule says that something
//! happened. Holding it back (mute, cooldown, first score) is the same for all types, below.

mod id;
mod threshold_down;
mod threshold_up;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use id::alert_id;

use crate::signal::{Continuity, Signal};
use crate::state::{EntityState, Fired};

/// The kind of thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertType {
    /// The probability rose over a threshold.
    ThresholdUp,
    /// The probability fell below a threshold that it had been over.
    ThresholdDown,
}

impl AlertType {
    /// All types, in the order in which rules are asked and alerts are returned.
    pub(crate) const ALL: [AlertType; 2] = [AlertType::ThresholdUp, AlertType::ThresholdDown];

    fn rule(self) -> AlertRule {
        match self {
            AlertType::ThresholdUp => threshold_up::RULE,
            AlertType::ThresholdDown => threshold_down::RULE,
        }
    }

    /// The name in records, metrics and alert ids.
    pub fn name(self) -> &'static str {
        self.rule().name
    }
}

impl fmt::Display for AlertType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An alert type's name and condition.
struct AlertRule {
    name: &'static str,
    /// The alert that a signal raises, if it raises one. Pure: equal signals raise equal alerts.
    raised: fn(&Signal<'_>) -> Option<Raised>,
}

/// The particulars of a raised alert that depend on its type.
struct Raised {
    threshold: f64,
    severity: Severity,
}

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

/// The reason for which a raised alert does not fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SuppressReason {
    /// The entity had an alert of this type less than the cooldown ago.
    Cooldown,
    /// The observation was marked as muted, as after a bundle swap.
    Muted,
    /// No score came before this one; see [`crate::PolicyOptions::alert_on_first`].
    FirstScore,
    /// The entity left the task's population, which is not a fall of its score.
    Ineligible,
    /// Thresholds were changed since the entity's last score.
    Reconfigured,
}

impl SuppressReason {
    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            SuppressReason::Cooldown => "cooldown",
            SuppressReason::Muted => "muted",
            SuppressReason::FirstScore => "first_score",
            SuppressReason::Ineligible => "ineligible",
            SuppressReason::Reconfigured => "reconfigured",
        }
    }
}

/// An alert that fires, as far as the policy knows it. The engine adds the entity and the reasons.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertDraft {
    /// The kind of thing that happened.
    pub alert_type: AlertType,
    /// The severity of the band entered (up) or left (down).
    pub severity: Severity,
    /// The number of alerts of this type the entity has had, this one included.
    pub ordinal: u64,
    /// The probability crossed: where the threshold is entered (up) or left (down).
    pub threshold: f64,
    /// The band before the crossing; `None` below all bands.
    pub previous_band: Option<Arc<str>>,
    /// The band after the crossing; `None` below all bands.
    pub band: Option<Arc<str>>,
}

/// The outcome of all rules on one signal.
#[derive(Debug, Default)]
pub(crate) struct RaisedAlerts {
    pub fired: Vec<AlertDraft>,
    pub suppressed: Vec<(AlertType, SuppressReason)>,
}

/// The conditions under which raised alerts are held back.
#[derive(Clone, Debug)]
pub(crate) struct AlertLimits {
    /// The least time between two alerts of one type, milliseconds of `as_of`.
    pub cooldown_ms: i64,
    /// True if a first score may fire.
    pub alert_on_first: bool,
}

impl AlertLimits {
    /// Asks every rule about a signal, and records in the state what fires.
    pub fn alerts(&self, state: &mut EntityState, signal: &Signal<'_>) -> RaisedAlerts {
        let mut alerts = RaisedAlerts::default();
        let held_back = self.held_back(signal);
        for alert_type in AlertType::ALL {
            let Some(raised) = (alert_type.rule().raised)(signal) else {
                continue;
            };
            match held_back.or_else(|| self.cooling_down(state, alert_type, signal.as_of_ms)) {
                Some(reason) => alerts.suppressed.push((alert_type, reason)),
                None => alerts.fired.push(fire(state, signal, alert_type, raised)),
            }
        }
        alerts
    }

    /// The reason that holds back all types alike. Of several the first in this order is named.
    fn held_back(&self, signal: &Signal<'_>) -> Option<SuppressReason> {
        let Some(observed) = signal.observed else {
            return Some(SuppressReason::Ineligible);
        };
        if observed.muted {
            return Some(SuppressReason::Muted);
        }
        match signal.continuity {
            Continuity::Reconfigured => Some(SuppressReason::Reconfigured),
            Continuity::First if !self.alert_on_first => Some(SuppressReason::FirstScore),
            _ => None,
        }
    }

    fn cooling_down(
        &self,
        state: &EntityState,
        alert_type: AlertType,
        as_of_ms: i64,
    ) -> Option<SuppressReason> {
        let last = state.fired.get(&alert_type)?;
        (as_of_ms.saturating_sub(last.last_as_of_ms) < self.cooldown_ms)
            .then_some(SuppressReason::Cooldown)
    }
}

fn fire(
    state: &mut EntityState,
    signal: &Signal<'_>,
    alert_type: AlertType,
    raised: Raised,
) -> AlertDraft {
    let fired_before = state
        .fired
        .get(&alert_type)
        .map_or(0, |fired| fired.ordinal);
    let fired = Fired {
        last_as_of_ms: signal.as_of_ms,
        ordinal: fired_before + 1,
    };
    state.fired.insert(alert_type, fired);
    AlertDraft {
        alert_type,
        severity: raised.severity,
        ordinal: fired.ordinal,
        threshold: raised.threshold,
        previous_band: signal.thresholds.band_name_at(signal.level_before),
        band: signal.thresholds.band_name_at(signal.level),
    }
}
