//! The thresholds of a task as a person writes them, and the faults they may have.

use serde::{Deserialize, Serialize};

use leadpulse_schema::units::{DAY_MS, as_span};

use crate::actions::ActionOptions;
use crate::alerts::{AlertRuleOptions, Severity};
use crate::error::PolicyError;
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

impl PolicyOptions {
    /// True if there are rules for actions, all of them with conditions: a score that fits none has
    /// no action.
    pub fn has_scores_without_action(&self) -> bool {
        !self.actions.is_empty() && !self.actions.iter().any(ActionOptions::is_fallback)
    }

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
    #[case(r#"{"hold_out_share":1.5}"#, "hold_out_share is 1.5")]
    #[case(r#"{"large_value":0}"#, "large_value is 0")]
    #[case(r#"{"confirm":{"recency":"0s"}}"#, "confirm.recency is 0")]
    #[case(
        r#"{"suppress":{"domains":["nowhere"]}}"#,
        "suppress.domains[0] is \"nowhere\""
    )]
    #[case(r#"{"suppress":{"domain":[]}}"#, "unknown field `domain`")]
    #[case(r#"{"alerts":[{"trigger":"spike"}]}"#, "unknown variant `spike`")]
    #[case(
        r#"{"alerts":[{"trigger":"peer_wave","every":1}]}"#,
        "unknown field `every`"
    )]
    #[case(
        r#"{"alerts":[{"trigger":"peer_wave"},{"trigger":"peer_wave"}]}"#,
        "alerts[1].trigger: two rules are about peer_wave"
    )]
    #[case(
        r#"{"alerts":[{"trigger":"going_dark","least":2}]}"#,
        "alerts[0].least (\"going_dark\") has no meaning"
    )]
    #[case(
        r#"{"alerts":[{"trigger":"going_dark","ratio":1}]}"#,
        "alerts[0].ratio (\"going_dark\") is 1, but must be greater than 1"
    )]
    #[case(
        r#"{"alerts":[{"trigger":"going_dark","severity":"P1"}]}"#,
        "a fall is never P1"
    )]
    #[case(
        r#"{"alerts":[{"trigger":"threshold_up"}]}"#,
        "threshold_up of the policy is not set"
    )]
    #[case(
        r#"{"alerts":[{"trigger":"usage_limit"}]}"#,
        "alerts[0].trigger (\"usage_limit\") needs facts.limits"
    )]
    #[case(
        r#"{"alerts":[{"trigger":"peer_wave","when":{"top_group":["x"]}}]}"#,
        "alerts[0].when.top_group (\"peer_wave\") has no meaning"
    )]
    #[case(
        r#"{"alerts":[{"trigger":"peer_wave","when":{"band":["hot"]}}]}"#,
        "names \"hot\", which is not one of: (none)"
    )]
    #[case(r#"{"bands":[{"name":"a","enter":0.5,"leave":0.4}]}"#, "unknown field")]
    fn faults_are_named(#[case] json: &str, #[case] message: &str) {
        let error = check(json).expect_err("the options have a fault");
        assert!(
            error.contains(message),
            "{error:?} does not say {message:?}"
        );
    }

    #[rstest]
    #[case("[]", false)]
    #[case(r#"[{"code":"call","when":{"min_probability":0.2}}]"#, true)]
    #[case(
        r#"[{"code":"call","when":{"min_probability":0.2}},{"code":"none"}]"#,
        false
    )]
    fn rules_without_a_fallback_are_seen(#[case] actions: &str, #[case] expected: bool) {
        let json = format!(r#"{{"actions":{actions}}}"#);
        let options: PolicyOptions = serde_json::from_str(&json).unwrap();
        assert_eq!(options.has_scores_without_action(), expected, "{actions}");
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
