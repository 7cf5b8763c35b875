//! The thresholds of a task as a person writes them, and the faults they may have.

use serde::{Deserialize, Serialize};

use leadpulse_schema::units::{DAY_MS, as_span};

use crate::actions::ActionOptions;
use crate::alerts::{AlertRuleOptions, AlertType, Severity};
use crate::facts::FactOptions;
use crate::policy::Policy;
use crate::suppress::{ConfirmOptions, SuppressOptions};

/// The rules by which scores of one task are emitted and alerts fire. [`PolicyOptions::validated`]
/// makes a [`Policy`] of it.
///
/// ```toml
/// bands = [{ name = "warm", enter = 0.2 }, { name = "hot", enter = 0.5, exit = 0.4, severity =
/// "P1" }]
/// threshold_up = "hot"
/// threshold_down = "hot"
/// emit_step = { logit = 0.1 }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyOptions {
    /// Ranges of the probability with names, lowest first. Below the first there is no band.
    pub bands: Vec<BandOptions>,
    /// The distance below `enter` at which a threshold without an `exit` of its own is left, as a
    /// share of `enter`: `exit = enter · (1 − ratio)`.
    pub hysteresis_ratio: f64,
    /// Fire `threshold_up` when this is entered from below.
    pub threshold_up: Option<Threshold>,
    /// Fire `threshold_down` when this is left.
    pub threshold_down: Option<Threshold>,
    /// A rise counts once the score has stayed over the threshold for this long, milliseconds of
    /// ticks. 0 counts it at once. Bands of scores do not wait for it.
    #[serde(rename = "min_dwell", alias = "min_dwell_ms", with = "as_span::ms")]
    pub min_dwell_ms: u64,
    /// A fall counts once the score has stayed below the threshold for this long, milliseconds of
    /// ticks. A score that is back before has neither fallen nor risen.
    #[serde(rename = "fall_dwell", with = "as_span::ms")]
    pub fall_dwell_ms: u64,
    /// After an alert, the entity has no further alert of the same type for this long, milliseconds
    /// of ticks. A crossing in between fires at the end, if it still holds.
    #[serde(rename = "cooldown", alias = "cooldown_ms", with = "as_span::ms")]
    pub cooldown_ms: u64,
    /// The activity that confirms a rise.
    pub confirm: ConfirmOptions,
    /// The accounts that get no alerts.
    pub suppress: SuppressOptions,
    /// The meaning of tables and fields for alerts.
    pub facts: FactOptions,
    /// The sum of open deals from which an alert is more urgent, in the currency of the graph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub large_value: Option<f64>,
    /// The share of accounts, 0 to 1, whose alerts are recorded and reach nobody, so that the effect
    /// of alerts can be measured. The same accounts in every task.
    pub hold_out_share: f64,
    /// Rules for alerts beside the thresholds, and conditions for those.
    pub alerts: Vec<AlertRuleOptions>,
    /// The least movement since the last emitted score that makes a new score record. Crossings
    /// emit whatever their size.
    pub emit_step: EmitStep,
    /// A score whose slope over the last days is smaller than this, in logits per day, is steady.
    pub steady_logit_per_day: f64,
    /// Rules for recommended actions, of which the first that fits wins; checked against data and
    /// bundle by [`Policy::actions`].
    pub actions: Vec<ActionOptions>,
    /// The time to react to an alert, minutes, where the action's rule gives none.
    #[serde(
        rename = "sla",
        alias = "sla_minutes",
        with = "as_span::whole_minutes",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub sla_minutes: Option<u32>,
    /// The time after which an alert is not worth acting on, days, where the action's rule gives
    /// none.
    #[serde(
        rename = "expires",
        alias = "expires_days",
        with = "as_span::whole_days",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub expires_days: Option<u32>,
}

impl Default for PolicyOptions {
    fn default() -> Self {
        Self {
            bands: Vec::new(),
            hysteresis_ratio: 0.3,
            threshold_up: None,
            threshold_down: None,
            min_dwell_ms: 0,
            fall_dwell_ms: DAY_MS as u64,
            cooldown_ms: 7 * DAY_MS as u64,
            confirm: ConfirmOptions::default(),
            suppress: SuppressOptions::default(),
            facts: FactOptions::default(),
            large_value: None,
            hold_out_share: 0.0,
            alerts: Vec::new(),
            emit_step: EmitStep::default(),
            steady_logit_per_day: 0.05,
            actions: Vec::new(),
            sla_minutes: None,
            expires_days: Some(14),
        }
    }
}

/// A named range of the probability: from `enter` up to the next band's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BandOptions {
    /// The name in configuration and records, unique within the task.
    pub name: String,
    /// The probability at which it is entered, greater than 0 and less than 1.
    pub enter: f64,
    /// The probability below which it is left again, less than `enter`. Without it
    /// [`PolicyOptions::hysteresis_ratio`] decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<f64>,
    /// The urgency of alerts about the band. Without it the highest band is P1, the next P2, all
    /// others P3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
}

/// The threshold of an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Threshold {
    /// A probability, greater than 0 and less than 1; left `hysteresis_ratio` below it.
    Probability(f64),
    /// The band of this name, with its `enter` and `exit`.
    Band(String),
}

/// The least movement that makes a new score record.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmitStep {
    /// Difference of probabilities, whatever the rate of the outcome.
    Probability(f64),
    /// Difference of logits: the same share of a rare and of a common outcome. A move from 1 to 2 %
    /// and one from 30 to 46 % are the same step.
    Logit(f64),
}

impl Default for EmitStep {
    fn default() -> Self {
        EmitStep::Logit(0.1)
    }
}

/// A fault in [`PolicyOptions`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// A band has no name.
    #[error("bands[{index}] has an empty name; give it one, e.g. \"hot\"")]
    NamelessBand {
        /// Position in `bands`, from 0.
        index: usize,
    },
    /// Two bands have the same name.
    #[error("the band \"{name}\" is there twice; every band of a task needs a name of its own")]
    DuplicateBand {
        /// The name that two bands share.
        name: String,
    },
    /// More bands than a level can count.
    #[error("a task has at most {limit} bands, these are {found}")]
    TooManyBands {
        /// The greatest number allowed.
        limit: usize,
        /// The number in the configuration.
        found: usize,
    },
    /// An `enter` or a threshold is not a probability that can be crossed.
    #[error("{place} is {value}, but must be a probability greater than 0 and less than 1")]
    NotAProbability {
        /// The key in the configuration.
        place: String,
        /// The value found there.
        value: f64,
    },
    /// An `exit` does not lie below its `enter`.
    #[error(
        "{place}: exit {exit} must be at least 0 and less than enter {enter}, or every wobble \
         around it would be a crossing"
    )]
    ExitNotBelowEnter {
        /// The key in the configuration.
        place: String,
        /// The probability at which the threshold is entered.
        enter: f64,
        /// The probability below which the threshold is left.
        exit: f64,
    },
    /// Bands, or the points where they are left, are not in ascending order.
    #[error(
        "{lower} and {upper} are out of order: both enter and exit must ascend (enter {lower_enter}, {upper_enter}; exit {lower_exit}, {upper_exit}); \
         order the bands from low to high, and check exit and hysteresis_ratio"
    )]
    NotAscending {
        /// The key of the first of the two.
        lower: String,
        /// The key of the next.
        upper: String,
        /// `enter` of the first.
        lower_enter: f64,
        /// `enter` of the next.
        upper_enter: f64,
        /// `exit` of the first.
        lower_exit: f64,
        /// `exit` of the next.
        upper_exit: f64,
    },
    /// A threshold names a band that does not exist.
    #[error("{place} names the band \"{name}\", which is not one of: {known}")]
    UnknownBand {
        /// The key in the configuration.
        place: &'static str,
        /// The value found there.
        name: String,
        /// The values that are allowed there.
        known: String,
    },
    /// An action has no code.
    #[error("actions[{index}] has an empty code; give it one, e.g. \"schedule_call\"")]
    NamelessAction {
        /// Position in `actions`, from 0.
        index: usize,
    },
    /// More rules than are allowed.
    #[error("a task has at most {limit} actions, these are {found}")]
    TooManyActions {
        /// The greatest number allowed.
        limit: usize,
        /// The number in the configuration.
        found: usize,
    },
    /// A condition of a rule is not a probability.
    #[error("{place} is {value}, but must be a probability from 0 to 1")]
    ActionProbability {
        /// The key in the configuration.
        place: String,
        /// The value found there.
        value: f64,
    },
    /// A rule names a band, group, field or value that does not exist.
    #[error("{place} names \"{name}\", which is not one of: {known}")]
    UnknownName {
        /// The key in the configuration.
        place: String,
        /// The value found there.
        name: String,
        /// The values that are allowed there.
        known: String,
    },
    /// Two rules of alerts have one trigger.
    #[error("{place}: two rules are about {trigger}; make them one")]
    DuplicateTrigger {
        /// The key in the configuration.
        place: String,
        /// The trigger of both.
        trigger: AlertType,
    },
    /// A rule has a key that its trigger does not read.
    #[error("{place} has no meaning for this trigger; leave it out")]
    UselessKey {
        /// The key in the configuration.
        place: String,
    },
    /// A number of a rule is too small.
    #[error("{place} is {value}, but must be greater than {least}")]
    RuleNumber {
        /// The key in the configuration.
        place: String,
        /// The value found there.
        value: f64,
        /// The greatest value that is too small.
        least: f64,
    },
    /// A rule makes a fall the most urgent.
    #[error("{place} is P1, but a fall is never P1; write P2 or P3")]
    UrgentFall {
        /// The key in the configuration.
        place: String,
    },
    /// A rule is about a threshold that the policy does not set.
    #[error("{place} is about a threshold, but {threshold} of the policy is not set; set it")]
    NoThreshold {
        /// The key in the configuration.
        place: String,
        /// The key that is missing.
        threshold: &'static str,
    },
    /// A rule is about facts that the options do not name.
    #[error("{place} needs {key}, which is not set; name the tables there")]
    NoFacts {
        /// The key in the configuration.
        place: String,
        /// The key that is missing.
        key: &'static str,
    },
    /// An excluded domain is no domain.
    #[error("{place} is \"{value}\", which is not a domain; write it like example.com")]
    NotADomain {
        /// The key in the configuration.
        place: String,
        /// The value found there.
        value: String,
    },
    /// A number is outside its range.
    #[error("{place} is {value}, but must be {expected}")]
    OutOfRange {
        /// The key in the configuration.
        place: &'static str,
        /// The value found there.
        value: f64,
        /// The values that are allowed there.
        expected: &'static str,
    },
}

impl PolicyOptions {
    /// Checks everything once, so that later code need not.
    ///
    /// # Errors
    /// The first thing that is wrong, see [`PolicyError`].
    pub fn validated(&self) -> Result<Policy, PolicyError> {
        Policy::from_options(self)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn check(json: &str) -> Result<Policy, String> {
        let options: PolicyOptions =
            serde_json::from_str(json).map_err(|error| error.to_string())?;
        options.validated().map_err(|error| error.to_string())
    }

    #[rstest]
    #[case(r#"{"bands":[{"name":"","enter":0.5}]}"#, "bands[0] has an empty name")]
    #[case(
        r#"{"bands":[{"name":"a","enter":0.2},{"name":"a","enter":0.5}]}"#,
        "the band \"a\" is there twice"
    )]
    #[case(
        r#"{"bands":[{"name":"a","enter":1.0}]}"#,
        "bands[0].enter (\"a\") is 1,"
    )]
    #[case(r#"{"bands":[{"name":"a","enter":0.0}]}"#, "greater than 0")]
    #[case(
        r#"{"bands":[{"name":"a","enter":0.5,"exit":0.5}]}"#,
        "less than enter 0.5"
    )]
    #[case(r#"{"bands":[{"name":"a","enter":0.5,"exit":-0.1}]}"#, "at least 0")]
    #[case(
        r#"{"bands":[{"name":"a","enter":0.5},{"name":"b","enter":0.2}]}"#,
        "out of order"
    )]
    #[case(
        r#"{"bands":[{"name":"a","enter":0.5},{"name":"b","enter":0.5}]}"#,
        "out of order"
    )]
    #[case(
        r#"{"bands":[{"name":"a","enter":0.4,"exit":0.39},{"name":"b","enter":0.5,"exit":0.3}]}"#,
        "out of order"
    )]
    #[case(
        r#"{"bands":[{"name":"a","enter":0.4}],"threshold_up":"hot"}"#,
        "threshold_up names the band \"hot\", which is not one of: a"
    )]
    #[case(r#"{"threshold_down":1.5}"#, "threshold_down is 1.5")]
    #[case(r#"{"hysteresis_ratio":0}"#, "hysteresis_ratio is 0,")]
    #[case(r#"{"hysteresis_ratio":1}"#, "hysteresis_ratio is 1,")]
    #[case(r#"{"emit_step":{"logit":-1}}"#, "emit_step is -1")]
    #[case(r#"{"steady_logit_per_day":-1}"#, "steady_logit_per_day is -1")]
    #[case(r#"{"thresholdup":0.5}"#, "unknown field")]
    #[case(r#"{"bands":[{"name":"a","enter":0.5,"leave":0.4}]}"#, "unknown field")]
    fn faults_are_named(#[case] json: &str, #[case] message: &str) {
        let error = check(json).expect_err("the options have a fault");
        assert!(
            error.contains(message),
            "{error:?} does not say {message:?}"
        );
    }

    #[rstest]
    #[case("{}")]
    #[case(r#"{"bands":[{"name":"warm","enter":0.2},{"name":"hot","enter":0.5,"exit":0.4,"severity":"P1"}],"threshold_up":"hot"}"#)]
    #[case(r#"{"bands":[{"name":"warm","enter":0.2}],"threshold_up":0.35,"threshold_down":0.2,"emit_step":{"probability":0.01}}"#)]
    fn good_options_are_accepted_and_survive_a_round_trip(#[case] json: &str) {
        check(json).expect("the options have no fault");
        let options: PolicyOptions = serde_json::from_str(json).expect("checked above");
        let again: PolicyOptions =
            serde_json::from_str(&serde_json::to_string(&options).unwrap()).unwrap();
        assert_eq!(options, again);
    }
}
