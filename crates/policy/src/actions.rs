//! Recommended actions: an ordered table of rules, of which the first that fits wins.
//!
//! A rule's conditions are all optional and all have to hold. Names in them are checked twice:
//! bands with the policy, everything that comes from the data and the bundle (explanation groups,
//! fields of people) by [`Policy::actions`](crate::Policy::actions) at start. Pure: the same
//! situation gives the same action.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use leadpulse_schema::units::{DAY_MS, as_span};

use crate::alerts::AlertType;
use crate::error::PolicyError;
use crate::trend::Trend;

/// Most rules of a task.
// Rules are read in order for every score that is written. Why 100 is unknown.
const MAX_ACTIONS: usize = 100;

/// A rule as a person writes it.
///
/// ```toml
/// code = "schedule_exec_call"
/// label = "Schedule exec call"
/// when = { band = ["hot"], trend = ["improving"], min_distinct = { department = 2 }, highest = {
/// seniority = "VP" } }
/// sla = "1h"
/// expires = "7d"
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ActionOptions {
    /// The action's identifier in records. Several rules may lead to the same action.
    pub code: String,
    /// The text that people read; the code if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The conditions of the rule. A rule without conditions always fits.
    pub when: ActionWhen,
    /// The time to react to an alert with this action, minutes.
    /// [`crate::PolicyOptions::sla_minutes`] otherwise.
    #[serde(
        rename = "sla",
        alias = "sla_minutes",
        with = "as_span::whole_minutes",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub sla_minutes: Option<u32>,
    /// The time after which an alert with this action is no longer worth acting on, days.
    /// [`crate::PolicyOptions::expires_days`] otherwise.
    #[serde(
        rename = "expires",
        alias = "expires_days",
        with = "as_span::whole_days",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub expires_days: Option<u32>,
}

/// The conditions of a rule: all that are given have to hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ActionWhen {
    /// The entity is in one of these bands.
    pub band: Vec<String>,
    /// The score is heading in one of these directions.
    pub trend: Vec<Trend>,
    /// The strongest positive reason is one of these explanation groups. Does not hold for a score
    /// that was never explained.
    pub top_group: Vec<String>,
    /// The record reports one of these alerts.
    pub alert: Vec<AlertType>,
    /// The probability is at least this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_probability: Option<f64>,
    /// The probability is at most this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_probability: Option<f64>,
    /// At least so many people of the account were active in the last 14 days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_active_members: Option<usize>,
    /// At most so many people of the account were active in the last 14 days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_active_members: Option<usize>,
    /// Field → the active people have at least so many different values of it.
    pub min_distinct: BTreeMap<String, usize>,
    /// Ordered field → the highest value among the active people is this or a higher one.
    pub highest: BTreeMap<String, String>,
    /// Nothing has happened at the account for at least so many days; an account at which nothing
    /// ever happened is silent too.
    #[serde(
        rename = "silent",
        alias = "silent_days",
        with = "as_span::whole_days",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub silent_days: Option<u32>,
}

/// The names that rules may use, as far as the data and the bundle decide them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vocabulary {
    /// Codes of the explanation groups.
    pub groups: BTreeSet<String>,
    /// Fields of people with a known set of values or free categories.
    pub categories: BTreeSet<String>,
    /// Ordered fields of people: the values of each table that has the field, ascending.
    pub ordered: BTreeMap<String, Vec<Vec<String>>>,
}

/// The facts about one score that conditions read.
#[derive(Clone, Debug, PartialEq)]
pub struct Situation<'a> {
    /// The band, `None` below all bands.
    pub band: Option<&'a str>,
    /// The direction of the score.
    pub trend: Trend,
    /// Code of the strongest positive explanation group, if it is known.
    pub top_group: Option<&'a str>,
    /// The alert that the record reports, if any.
    pub alert: Option<AlertType>,
    /// The calibrated probability of the score.
    pub probability: f64,
    /// People of the account who were active in the last 14 days.
    pub active_members: usize,
    /// Field → different values among them.
    pub values: &'a BTreeMap<String, Vec<String>>,
    /// Ordered field → the highest value among them.
    pub highest: &'a BTreeMap<String, String>,
    /// Since the newest event of the account, milliseconds; `None` if there never was one.
    pub silent_ms: Option<i64>,
}

/// The action that a table recommends in a situation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// The identifier in records.
    pub code: Arc<str>,
    /// The text that people read.
    pub label: Arc<str>,
    /// Minutes within which to react to an alert.
    pub sla_minutes: Option<u32>,
    /// Days for which an alert is worth acting on.
    pub expires_days: Option<u32>,
}

/// Code of actions that recommend to do nothing.
const NOTHING_TO_DO: &str = "none";

impl Action {
    /// True for an action that recommends to do nothing: its code is `none`.
    pub fn is_nothing(&self) -> bool {
        &*self.code == NOTHING_TO_DO
    }
}

/// Checked rules, in the order of the configuration.
#[derive(Clone, Debug, Default)]
pub struct ActionTable {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    when: ActionWhen,
    /// Ordered field → the values that are high enough.
    high_enough: BTreeMap<String, BTreeSet<String>>,
    action: Action,
}

impl ActionTable {
    /// The action of the first rule that fits.
    pub fn choose(&self, situation: &Situation<'_>) -> Option<&Action> {
        self.rules
            .iter()
            .find(|rule| rule.fits(situation))
            .map(|rule| &rule.action)
    }

    pub(crate) fn bound(
        options: &[ActionOptions],
        known: &Vocabulary,
    ) -> Result<Self, PolicyError> {
        let bind = |(index, options): (usize, &ActionOptions)| -> Result<Rule, PolicyError> {
            let place = |condition: &str| {
                format!("actions[{index}] (\"{}\").when.{condition}", options.code)
            };
            for group in &options.when.top_group {
                known_name(place("top_group"), group, known.groups.iter())?;
            }
            check_fields(&options.when, known, place)?;
            let mut high_enough = BTreeMap::new();
            for (field, least) in &options.when.highest {
                let orders = &known.ordered[field];
                let from = |order: &Vec<String>| {
                    order
                        .iter()
                        .position(|value| value == least)
                        .map(|at| order[at..].to_vec())
                };
                high_enough.insert(
                    field.clone(),
                    orders.iter().filter_map(from).flatten().collect(),
                );
            }
            let code: Arc<str> = options.code.as_str().into();
            let action = Action {
                label: options
                    .label
                    .as_deref()
                    .map_or_else(|| code.clone(), Arc::from),
                code,
                sla_minutes: options.sla_minutes,
                expires_days: options.expires_days,
            };
            Ok(Rule {
                when: options.when.clone(),
                high_enough,
                action,
            })
        };
        Ok(Self {
            rules: options
                .iter()
                .enumerate()
                .map(bind)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl Rule {
    fn fits(&self, now: &Situation<'_>) -> bool {
        let reaches = |(field, values): (&String, &BTreeSet<String>)| {
            let highest = now.highest.get(field);
            highest.is_some_and(|value| values.contains(value))
        };
        self.when.holds(now) && self.high_enough.iter().all(reaches)
    }
}

impl ActionWhen {
    /// True if all conditions hold but those on ordered fields, which the caller judges by their
    /// order.
    pub(crate) fn holds(&self, now: &Situation<'_>) -> bool {
        let when = self;
        let among = |names: &[String], name: Option<&str>| {
            names.is_empty() || name.is_some_and(|name| names.iter().any(|n| n == name))
        };
        let distinct = |field: &String| now.values.get(field).map_or(0, Vec::len);
        among(&when.band, now.band)
            && among(&when.top_group, now.top_group)
            && (when.trend.is_empty() || when.trend.contains(&now.trend))
            && (when.alert.is_empty() || now.alert.is_some_and(|alert| when.alert.contains(&alert)))
            && when
                .min_probability
                .is_none_or(|least| now.probability >= least)
            && when
                .max_probability
                .is_none_or(|most| now.probability <= most)
            && when
                .min_active_members
                .is_none_or(|least| now.active_members >= least)
            && when
                .max_active_members
                .is_none_or(|most| now.active_members <= most)
            && when
                .min_distinct
                .iter()
                .all(|(field, least)| distinct(field) >= *least)
            && when.silent_days.is_none_or(|days| {
                now.silent_ms
                    .is_none_or(|silent| silent >= i64::from(days) * DAY_MS)
            })
    }
}

impl ActionOptions {
    /// True for a rule that fits every score.
    pub fn is_fallback(&self) -> bool {
        self.when == ActionWhen::default()
    }
}

/// Checks everything that needs neither data nor bundle.
pub(crate) fn check(actions: &[ActionOptions], bands: &[&str]) -> Result<(), PolicyError> {
    if actions.len() > MAX_ACTIONS {
        return Err(PolicyError::TooManyActions {
            limit: MAX_ACTIONS,
            found: actions.len(),
        });
    }
    for (index, action) in actions.iter().enumerate() {
        if action.code.trim().is_empty() {
            return Err(PolicyError::NamelessAction { index });
        }
        let place =
            |condition: &str| format!("actions[{index}] (\"{}\").when.{condition}", action.code);
        check_when(&action.when, bands, place)?;
    }
    Ok(())
}

/// Checks the conditions of a rule that need neither data nor bundle. `place` names a key.
pub(crate) fn check_when(
    when: &ActionWhen,
    bands: &[&str],
    place: impl Fn(&str) -> String,
) -> Result<(), PolicyError> {
    for band in &when.band {
        known_name(place("band"), band, bands)?;
    }
    for (condition, value) in [
        ("min_probability", when.min_probability),
        ("max_probability", when.max_probability),
    ] {
        if let Some(value) = value.filter(|value| !(0.0..=1.0).contains(value)) {
            return Err(PolicyError::ActionProbability {
                place: place(condition),
                value,
            });
        }
    }
    Ok(())
}

/// Checks the fields of people that the conditions of a rule name. `place` names a key.
pub(crate) fn check_fields(
    when: &ActionWhen,
    known: &Vocabulary,
    place: impl Fn(&str) -> String,
) -> Result<(), PolicyError> {
    for field in when.min_distinct.keys() {
        known_name(place("min_distinct"), field, known.categories.iter())?;
    }
    for (field, least) in &when.highest {
        known_name(place("highest"), field, known.ordered.keys())?;
        let values = known.ordered[field].iter().flatten();
        known_name(place(&format!("highest.{field}")), least, values)?;
    }
    Ok(())
}

fn known_name<T: AsRef<str>>(
    place: String,
    name: &str,
    known: impl IntoIterator<Item = T>,
) -> Result<(), PolicyError> {
    let known: BTreeSet<String> = known
        .into_iter()
        .map(|name| name.as_ref().to_owned())
        .collect();
    if known.contains(name) {
        return Ok(());
    }
    let known = if known.is_empty() {
        "(none)".to_owned()
    } else {
        known.into_iter().collect::<Vec<_>>().join(", ")
    };
    Err(PolicyError::UnknownName {
        place,
        name: name.to_owned(),
        known,
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::PolicyOptions;

    fn vocabulary() -> Vocabulary {
        let texts = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        Vocabulary {
            groups: texts(&["high_intent", "silence"]).into_iter().collect(),
            categories: texts(&["department", "seniority"]).into_iter().collect(),
            ordered: BTreeMap::from([(
                "seniority".to_owned(),
                vec![
                    texts(&["IC", "Manager", "VP", "C-Level"]),
                    texts(&["junior", "VP", "owner"]),
                ],
            )]),
        }
    }

    fn table(actions: &str) -> Result<ActionTable, String> {
        let json = format!(
            r#"{{"bands":[{{"name":"warm","enter":0.2}},{{"name":"hot","enter":0.5}}],"actions":{actions}}}"#
        );
        let options: PolicyOptions =
            serde_json::from_str(&json).map_err(|error| error.to_string())?;
        let policy = options.validated().map_err(|error| error.to_string())?;
        policy
            .actions(&vocabulary())
            .map_err(|error| error.to_string())
    }

    fn check_fit(when: &str, fits: bool) {
        let table = table(&format!(r#"[{{"code":"call","when":{when}}}]"#)).unwrap();
        let values = BTreeMap::from([(
            "department".to_owned(),
            vec!["Data".to_owned(), "IT".to_owned()],
        )]);
        let highest = BTreeMap::from([("seniority".to_owned(), "VP".to_owned())]);
        let situation = Situation {
            band: Some("hot"),
            trend: Trend::Improving,
            top_group: Some("high_intent"),
            alert: Some(AlertType::ThresholdUp),
            probability: 0.6,
            active_members: 3,
            values: &values,
            highest: &highest,
            silent_ms: Some(2 * DAY_MS),
        };
        assert_eq!(table.choose(&situation).is_some(), fits, "{when}");
    }

    #[rstest]
    #[case("{}", true)]
    #[case(r#"{"band":["hot","warm"]}"#, true)]
    #[case(r#"{"band":["warm"]}"#, false)]
    #[case(r#"{"trend":["improving"]}"#, true)]
    #[case(r#"{"trend":["steady","declining"]}"#, false)]
    #[case(r#"{"top_group":["silence","high_intent"]}"#, true)]
    #[case(r#"{"top_group":["silence"]}"#, false)]
    #[case(r#"{"alert":["threshold_up"]}"#, true)]
    #[case(r#"{"alert":["threshold_down"]}"#, false)]
    #[case(r#"{"min_probability":0.6,"max_probability":0.6}"#, true)]
    #[case(r#"{"min_probability":0.61}"#, false)]
    #[case(r#"{"max_probability":0.59}"#, false)]
    #[case(r#"{"min_active_members":3,"max_active_members":3}"#, true)]
    #[case(r#"{"min_active_members":4}"#, false)]
    #[case(r#"{"max_active_members":2}"#, false)]
    #[case(r#"{"min_distinct":{"department":2}}"#, true)]
    #[case(r#"{"min_distinct":{"department":3}}"#, false)]
    #[case(r#"{"min_distinct":{"seniority":1}}"#, false)]
    #[case(r#"{"highest":{"seniority":"Manager"}}"#, true)]
    #[case(r#"{"highest":{"seniority":"VP"}}"#, true)]
    #[case(r#"{"highest":{"seniority":"C-Level"}}"#, false)]
    #[case(r#"{"highest":{"seniority":"junior"}}"#, true)]
    #[case(r#"{"silent_days":2}"#, true)]
    #[case(r#"{"silent_days":3}"#, false)]
    #[case(
        r#"{"band":["hot"],"trend":["improving"],"min_active_members":9}"#,
        false
    )]
    fn every_condition_has_to_hold(#[case] when: &str, #[case] fits: bool) {
        check_fit(when, fits);
    }

    #[test]
    fn an_unknown_fact_fits_no_condition_but_silence() {
        let (values, highest) = (BTreeMap::new(), BTreeMap::new());
        let nothing = Situation {
            band: None,
            trend: Trend::Unknown,
            top_group: None,
            alert: None,
            probability: 0.1,
            active_members: 0,
            values: &values,
            highest: &highest,
            silent_ms: None,
        };
        for (when, fits) in [
            (r#"{"band":["warm"]}"#, false),
            (r#"{"top_group":["silence"]}"#, false),
            (r#"{"alert":["threshold_up","threshold_down"]}"#, false),
            (r#"{"highest":{"seniority":"IC"}}"#, false),
            (r#"{"silent_days":400}"#, true),
        ] {
            let table = table(&format!(r#"[{{"code":"call","when":{when}}}]"#)).unwrap();
            assert_eq!(table.choose(&nothing).is_some(), fits, "{when}");
        }
    }

    #[test]
    fn the_first_rule_that_fits_wins() {
        let table = table(
            r#"[{"code":"call","label":"Call","when":{"band":["hot"]},"sla_minutes":60,"expires_days":7},
                {"code":"call","when":{"band":["warm"]}},{"code":"wait"}]"#,
        )
        .unwrap();
        let (values, highest) = (BTreeMap::new(), BTreeMap::new());
        let told = |band: Option<&str>| {
            let situation = Situation {
                band,
                trend: Trend::Unknown,
                top_group: None,
                alert: None,
                probability: 0.5,
                active_members: 0,
                values: &values,
                highest: &highest,
                silent_ms: None,
            };
            let action = table.choose(&situation).unwrap();
            (
                action.code.to_string(),
                action.label.to_string(),
                action.sla_minutes,
                action.expires_days,
            )
        };
        assert_eq!(
            told(Some("hot")),
            ("call".into(), "Call".into(), Some(60), Some(7))
        );
        assert_eq!(
            told(Some("warm")),
            ("call".into(), "call".into(), None, None)
        );
        assert_eq!(told(None), ("wait".into(), "wait".into(), None, None));
    }

    #[rstest]
    #[case(r#"[{"code":" "}]"#, "actions[0] has an empty code")]
    #[case(
        r#"[{"code":"a","when":{"band":["cold"]}}]"#,
        "actions[0] (\"a\").when.band names \"cold\", which is not one of: hot, warm"
    )]
    #[case(
        r#"[{"code":"a","when":{"top_group":["x"]}}]"#,
        "when.top_group names \"x\", which is not one of: high_intent, silence"
    )]
    #[case(
        r#"[{"code":"a","when":{"min_distinct":{"team":2}}}]"#,
        "when.min_distinct names \"team\", which is not one of: department, seniority"
    )]
    #[case(
        r#"[{"code":"a","when":{"highest":{"department":"IT"}}}]"#,
        "when.highest names \"department\", which is not one of: seniority"
    )]
    #[case(
        r#"[{"code":"a","when":{"highest":{"seniority":"Boss"}}}]"#,
        "when.highest.seniority names \"Boss\", which is not one of: C-Level, IC,"
    )]
    #[case(
        r#"[{"code":"a","when":{"min_probability":1.5}}]"#,
        "when.min_probability is 1.5"
    )]
    #[case(r#"[{"code":"a","when":{"trend":["upwards"]}}]"#, "unknown variant")]
    #[case(r#"[{"code":"a","when":{"brand":["hot"]}}]"#, "unknown field")]
    fn faults_are_named(#[case] actions: &str, #[case] message: &str) {
        let error = table(actions).expect_err("the rules have a fault");
        assert!(
            error.contains(message),
            "{error:?} does not say {message:?}"
        );
    }
}
