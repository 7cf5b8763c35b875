//! The alert record: complete enough to be routed without a second look-up.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::score::{Driver, SubScores};
use crate::symbol::{Symbol, TypeName};

/// Avro schema of [`Alert`], JSON.
pub const ALERT_SCHEMA: &str = include_str!("../../../schemas/outputs/alert.avsc");

/// Method of the contributions in alert records.
pub(crate) const EXPLAIN_METHOD: &str = "shapley-groups";

/// A person of the account with events in the last 14 days.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommitteeMember {
    pub contact_id: String,
    pub title: Option<String>,
    pub department: Option<String>,
    pub seniority: Option<String>,
    pub last_activity_at: Option<i64>,
    pub active_days_14d: i32,
}

/// People of the account with events in the last 14 days, with the persons themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Committee {
    pub active_contacts_14d: i32,
    pub departments: Vec<String>,
    pub seniority_max: Option<String>,
    pub by_field: BTreeMap<String, Vec<String>>,
    pub highest: BTreeMap<String, String>,
    pub members: Vec<CommitteeMember>,
}

/// An event of the cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecentEvent {
    pub event_id: String,
    pub table: String,
    pub kind: Option<String>,
    pub occurred_at: i64,
    pub contact_id: Option<String>,
}

/// An open opportunity of the account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenOpportunity {
    pub opportunity_id: String,
    pub stage: Option<String>,
    pub amount: Option<f64>,
    pub close_date: Option<i64>,
}

/// Another alert of the same account and tick, which the record speaks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertPart {
    pub alert_id: String,
    pub r#type: TypeName,
    pub severity: Symbol,
    pub state: Symbol,
    pub task: Arc<str>,
    pub entity_type: Arc<str>,
    pub entity_id: Arc<str>,
    pub probability: f64,
}

/// One alert: written to the alerts topic, kept in the read model, served by the HTTP API.
///
/// `schemas/outputs/alert.avsc` gives the meaning, unit and empty case of each field.
// Alerts of an older schema lack fields: they read back as empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Alert {
    pub alert_id: String,
    pub r#type: TypeName,
    pub severity: Symbol,
    pub state: Symbol,
    pub dedupe_key: Option<String>,
    pub supersedes_alert_id: Option<String>,
    pub task: Arc<str>,
    pub entity_type: Arc<str>,
    pub entity_id: Arc<str>,
    pub account_id: Option<Arc<str>>,
    pub account_name: Option<String>,
    pub domain: Option<String>,
    pub lead_id: Option<String>,
    pub contact_id: Option<String>,
    pub owner_id: Option<String>,
    pub region: Option<String>,
    pub segment: Option<String>,
    pub industry: Option<String>,
    pub probability: f64,
    pub probability_low: Option<f64>,
    pub probability_high: Option<f64>,
    pub score: f64,
    pub previous_probability: Option<f64>,
    pub previous_score: Option<f64>,
    pub previous_as_of: Option<i64>,
    pub delta: Option<f64>,
    pub threshold: Option<f64>,
    pub band: Option<Arc<str>>,
    pub previous_band: Option<Arc<str>>,
    pub percentile: Option<f64>,
    pub rank: Option<i64>,
    pub ranked: Option<i64>,
    pub trend: Symbol,
    pub velocity_per_day: Option<f64>,
    pub horizon_days: Option<i32>,
    pub target: Option<String>,
    pub drivers: Vec<Driver>,
    pub base_logit: Option<f64>,
    pub drivers_as_of: Option<i64>,
    pub change_since: Option<i64>,
    pub change_drivers: Vec<Driver>,
    pub top_signal: Option<String>,
    pub summary: Option<String>,
    pub explain_method: Option<String>,
    pub committee: Option<Committee>,
    pub last_events: Vec<RecentEvent>,
    pub open_opportunities: Vec<OpenOpportunity>,
    pub trigger: Option<RecentEvent>,
    pub recommended_action: Option<String>,
    pub recommended_action_label: Option<String>,
    pub suggested_contact_id: Option<String>,
    pub sla_minutes: Option<i32>,
    pub expires_at: Option<i64>,
    pub do_not_contact: Option<bool>,
    pub value_at_stake: Option<f64>,
    pub is_customer: bool,
    pub hold_out: bool,
    pub parts: Vec<AlertPart>,
    pub as_of: i64,
    pub crossed_at: i64,
    pub occurred_at: Option<i64>,
    pub epoch: i64,
    pub bundle_id: Option<Arc<str>>,
    pub plan_hash: Option<Arc<str>>,
    pub board: i64,
    pub trace: Vec<String>,
    pub sub_scores: Option<SubScores>,
}

impl Alert {
    /// The alert without some entities, by table (`None` where the record does not name it) and key.
    /// `None` if it is about one of them. Where it named one, ids of events go as well: whose they
    /// are is not known.
    pub fn without(&self, is_gone: &dyn Fn(Option<&str>, &str) -> bool) -> Option<Self> {
        let is_key = |key: &Option<String>| key.as_deref().is_some_and(|key| is_gone(None, key));
        let account = self.account_id.as_deref();
        if is_gone(Some(&self.entity_type), &self.entity_id)
            || account.is_some_and(|key| is_gone(None, key))
        {
            return None;
        }
        let mut less = self.clone();
        less.parts
            .retain(|part| !is_gone(Some(&part.entity_type), &part.entity_id));
        if let Some(committee) = &mut less.committee {
            committee
                .members
                .retain(|member| !is_gone(None, &member.contact_id));
        }
        let is_ones = |event: &RecentEvent| is_key(&event.contact_id);
        less.last_events.retain(|event| !is_ones(event));
        less.trigger = less.trigger.filter(|event| !is_ones(event));
        for key in [
            &mut less.suggested_contact_id,
            &mut less.lead_id,
            &mut less.contact_id,
        ] {
            if is_key(key) {
                *key = None;
            }
        }
        if less != *self {
            less.trace.clear();
            less.last_events.clear();
            for driver in less.drivers.iter_mut().chain(&mut less.change_drivers) {
                driver.event_ids.clear();
            }
        }
        Some(less)
    }
}

/// An alert with the label that pages add to its record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownAlert {
    /// The record, as written to the topic; its fields stand beside `name` in JSON.
    #[serde(flatten)]
    pub record: Alert,
    /// Label of the entity, or of its account; `None` if neither has one.
    pub name: Option<String>,
}
