//! Rules of alerts: the triggers that a task uses, with their numbers and conditions, checked.

use std::collections::BTreeSet;

use leadpulse_schema::units::Span;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{AlertType, Limits, Reading, Severity};
use crate::actions::{self, ActionWhen, Vocabulary};
use crate::error::PolicyError;
use crate::facts::Pace;
use crate::options::PolicyOptions;
use crate::suppress::{ConfirmOptions, SuppressOptions};
use crate::thresholds::Thresholds;

/// A rule as a person writes it: a trigger, its numbers, and conditions.
///
/// ```toml
/// trigger = "engagement_spike"
/// ratio = 4
/// when = { band = ["warm", "hot"], min_active_members = 2 }
/// cooldown = "14d"
/// ```
///
/// The triggers `threshold_up` and `threshold_down` need no rule: the thresholds of the policy turn
/// them on, and a rule adds conditions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertRuleOptions {
    /// The trigger; at most one rule of a task has it.
    pub trigger: AlertType,
    /// The conditions under which the alert fires. A crossing waits for them as for confirmers.
    /// `top_group` and `alert` are not known when an alert is decided, and are refused.
    #[serde(default)]
    pub when: ActionWhen,
    /// The severity, whatever the band, velocity and value. A fall is never P1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// The least time between two alerts of the type; that of the policy if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Span>,
    /// The time for which the condition has to last; for thresholds that of the policy, else 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dwell: Option<Span>,
    /// The least count: events a week, people, or closings of peers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least: Option<f64>,
    /// The least multiple of what is usual for the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// The greatest age of the occurrence; of `going_dark` the least silence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
}

impl AlertRuleOptions {
    /// A rule with the defaults of its trigger.
    pub fn new(trigger: AlertType) -> Self {
        Self {
            trigger,
            when: ActionWhen::default(),
            severity: None,
            cooldown: None,
            dwell: None,
            least: None,
            ratio: None,
            within: None,
        }
    }
}

/// One checked rule.
#[derive(Clone, Debug)]
pub(crate) struct AlertRule {
    pub alert_type: AlertType,
    pub when: ActionWhen,
    pub severity: Option<Severity>,
    pub cooldown_ms: i64,
    /// Time for which the condition has to hold before it is met.
    pub met_dwell_ms: i64,
    /// Time for which the condition has to fail before it is left.
    pub left_dwell_ms: i64,
    limits: Limits,
}

impl AlertRule {
    /// The least count; 0 for a trigger without one.
    pub fn least(&self) -> f64 {
        self.limits.least.unwrap_or_default()
    }

    /// The least multiple of what is usual; 0 for a trigger without one.
    pub fn ratio(&self) -> f64 {
        self.limits.ratio.unwrap_or_default()
    }

    /// The span of the condition, milliseconds; 0 for a trigger without one.
    pub fn within_ms(&self) -> i64 {
        self.limits.within_ms.unwrap_or_default()
    }

    /// Met for `least` events in a week that are `ratio` usual ones, unmet below two thirds of
    /// either. An account without a usual week has nothing to compare with.
    pub fn spike(&self, pace: Option<Pace>) -> Reading {
        let Some(pace) = pace.filter(|pace| pace.usual_week > 0.0) else {
            return Reading::Unmet;
        };
        let needed = self.least().max(self.ratio() * pace.usual_week);
        Reading::of(pace.week, needed, needed * 2.0 / 3.0)
    }
}

/// The checked rules of a task, and what holds all of them back.
#[derive(Clone, Debug)]
pub(crate) struct AlertRules {
    /// In the order of [`AlertType::ALL`].
    pub rules: Vec<AlertRule>,
    pub confirm: ConfirmOptions,
    pub suppress: SuppressOptions,
    pub large_value: Option<f64>,
    pub hold_out_share: f64,
    /// Time for which an alert is open, milliseconds.
    pub expires_ms: Option<i64>,
    /// Equal for two sets of rules under which memory means the same.
    pub fingerprint: u32,
}

impl AlertRules {
    pub fn checked(options: &PolicyOptions, thresholds: &Thresholds) -> Result<Self, PolicyError> {
        let mut seen = BTreeSet::new();
        for (index, rule) in options.alerts.iter().enumerate() {
            check(index, rule, options)?;
            if !seen.insert(rule.trigger) {
                return Err(PolicyError::DuplicateTrigger {
                    place: format!("alerts[{index}].trigger"),
                    trigger: rule.trigger,
                });
            }
        }
        options.confirm.check()?;
        options.suppress.check()?;
        let mut rules = Vec::new();
        for alert_type in AlertType::ALL {
            let written = options.alerts.iter().find(|one| one.trigger == alert_type);
            let by_default = AlertRuleOptions::new(alert_type);
            if written.is_some() || is_on_by_threshold(alert_type, options) {
                rules.push(bound(written.unwrap_or(&by_default), options));
            }
        }
        Ok(Self {
            fingerprint: fingerprint(thresholds.fingerprint, &rules),
            rules,
            confirm: options.confirm.clone(),
            suppress: options.suppress.clone(),
            large_value: options.large_value,
            hold_out_share: options.hold_out_share,
            expires_ms: options
                .expires_days
                .map(|days| Span::from_days(i64::from(days)).ms()),
        })
    }

    /// Checks the names of conditions against data and bundle.
    pub fn check_names(&self, known: &Vocabulary) -> Result<(), PolicyError> {
        for rule in &self.rules {
            let place = |key: &str| format!("alerts (\"{}\").when.{key}", rule.alert_type);
            actions::check_fields(&rule.when, known, place)?;
        }
        Ok(())
    }

    /// The longest time before a moment whose observations can matter at it, milliseconds; 0 without
    /// rules.
    pub fn look_back_ms(&self) -> i64 {
        let confirm_ms = self.confirm.within.ms();
        let of = |rule: &AlertRule| {
            rule.met_dwell_ms
                .max(rule.left_dwell_ms)
                .saturating_add(rule.cooldown_ms)
                .saturating_add(confirm_ms)
        };
        self.rules.iter().map(of).max().map_or(0, |ms| ms.max(1))
    }
}

fn is_on_by_threshold(alert_type: AlertType, options: &PolicyOptions) -> bool {
    match alert_type {
        AlertType::ThresholdUp => options.threshold_up.is_some(),
        AlertType::ThresholdDown => options.threshold_down.is_some(),
        _ => false,
    }
}

fn bound(written: &AlertRuleOptions, options: &PolicyOptions) -> AlertRule {
    let alert_type = written.trigger;
    let defaults = alert_type.trigger().limits;
    let span_ms = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    // Both thresholds cross their line alike, or a dip that is no fall would make a second rise.
    let is_threshold = matches!(
        alert_type,
        AlertType::ThresholdUp | AlertType::ThresholdDown
    );
    let (met_ms, left_ms) = if is_threshold {
        (
            span_ms(options.min_dwell_ms),
            span_ms(options.fall_dwell_ms),
        )
    } else {
        (0, 0)
    };
    let own_ms = written.dwell.map(Span::ms);
    let is_left = alert_type.trigger().fires_on_leaving;
    AlertRule {
        alert_type,
        when: written.when.clone(),
        severity: written.severity,
        cooldown_ms: written
            .cooldown
            .map_or(span_ms(options.cooldown_ms), Span::ms),
        met_dwell_ms: own_ms.filter(|_| !is_left).unwrap_or(met_ms),
        left_dwell_ms: own_ms.filter(|_| is_left).unwrap_or(left_ms),
        limits: Limits {
            least: written.least.or(defaults.least),
            ratio: written.ratio.or(defaults.ratio),
            within_ms: written.within.map(Span::ms).or(defaults.within_ms),
        },
    }
}

/// Checks everything of a rule that needs neither data nor bundle.
fn check(
    index: usize,
    rule: &AlertRuleOptions,
    options: &PolicyOptions,
) -> Result<(), PolicyError> {
    let trigger = rule.trigger;
    let place = |key: &str| format!("alerts[{index}].{key} (\"{trigger}\")");
    let limits = trigger.trigger().limits;
    let unused = [
        ("least", rule.least.is_some() && limits.least.is_none()),
        ("ratio", rule.ratio.is_some() && limits.ratio.is_none()),
        (
            "within",
            rule.within.is_some() && limits.within_ms.is_none(),
        ),
        ("when.top_group", !rule.when.top_group.is_empty()),
        ("when.alert", !rule.when.alert.is_empty()),
    ];
    if let Some((key, _)) = unused.iter().find(|(_, is_unused)| *is_unused) {
        return Err(PolicyError::UselessKey { place: place(key) });
    }
    for (key, value, least) in [("least", rule.least, 0.0), ("ratio", rule.ratio, 1.0)] {
        if let Some(value) = value.filter(|value| !value.is_finite() || *value <= least) {
            return Err(PolicyError::RuleNumber {
                place: place(key),
                value,
                least,
            });
        }
    }
    if rule.severity == Some(Severity::P1) && trigger.is_fall() {
        return Err(PolicyError::UrgentFall {
            place: place("severity"),
        });
    }
    let is_threshold = matches!(trigger, AlertType::ThresholdUp | AlertType::ThresholdDown);
    if is_threshold && !is_on_by_threshold(trigger, options) {
        return Err(PolicyError::NoThreshold {
            place: place("trigger"),
            threshold: trigger.name(),
        });
    }
    let facts = &options.facts;
    let missing = match trigger {
        AlertType::UsageSpike if facts.usage.is_empty() => Some("facts.usage"),
        AlertType::UsageLimit if facts.limits.is_empty() => Some("facts.limits"),
        _ => None,
    };
    if let Some(key) = missing {
        let place = place("trigger");
        return Err(PolicyError::NoFacts { place, key });
    }
    let bands: Vec<&str> = options.bands.iter().map(|band| &*band.name).collect();
    actions::check_when(&rule.when, &bands, |key| place(&format!("when.{key}")))
}

fn fingerprint(thresholds: u32, rules: &[AlertRule]) -> u32 {
    let mut hasher = Sha256::new();
    hasher.update(thresholds.to_be_bytes());
    for rule in rules {
        let numbers = [rule.least(), rule.ratio(), rule.within_ms() as f64];
        hasher.update(rule.alert_type.name());
        numbers
            .iter()
            .for_each(|number| hasher.update(number.to_bits().to_be_bytes()));
    }
    let digest = hasher.finalize();
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}
