//! Output records as Avro, in the Confluent framing, under the schemas of `schemas/outputs`.

use std::collections::BTreeMap;

use serde::Serialize;

use leadpulse_schema::{Frame, SchemaRef, encode_frame};

use crate::ports::{PortError, SchemaLookupError, SchemaStore};

const SCORE: &str = include_str!("../../../schemas/outputs/score.avsc");
const ALERT: &str = include_str!("../../../schemas/outputs/alert.avsc");
const EPOCH: &str = include_str!("../../../schemas/outputs/epoch_record.avsc");
const POLICY_STATE: &str = include_str!("../../../schemas/outputs/policy_state.avsc");

/// Why drivers were computed as they were, in alert records.
pub const EXPLAIN_METHOD: &str = "shapley-groups";

/// An enum's symbol, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Symbol(pub &'static str);

impl Serialize for Symbol {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The writer finds the symbol's number by its name.
        serializer.serialize_unit_variant("Symbol", 0, self.0)
    }
}

/// One explanation group's part in a score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Driver {
    /// Group code.
    pub group: String,
    /// In words.
    pub label: String,
    /// Shapley value, logits, signed.
    pub contribution: f64,
    /// Percent of the positive contributions; 0 for a negative one.
    pub share: i32,
    /// The value behind it.
    pub value: Option<String>,
    /// Facts, newest first.
    pub evidence: Vec<String>,
    /// Ids of the events behind it, newest first.
    pub event_ids: Vec<String>,
}

/// A score record; see `schemas/outputs/score.avsc`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct ScoreRecord {
    pub task: String,
    pub entity_type: String,
    pub entity_id: String,
    pub account_id: Option<String>,
    pub epoch: i64,
    pub sequence: i32,
    pub as_of: i64,
    pub status: Symbol,
    pub reason: Option<String>,
    pub probability: Option<f64>,
    pub logit: Option<f64>,
    pub score: Option<f64>,
    pub band: Option<String>,
    pub previous_band: Option<String>,
    pub previous_probability: Option<f64>,
    pub previous_score: Option<f64>,
    pub previous_as_of: Option<i64>,
    pub percentile: Option<f64>,
    pub rank: Option<i64>,
    pub ranked: Option<i64>,
    pub trend: Symbol,
    pub velocity_per_day: Option<f64>,
    pub acceleration_per_day2: Option<f64>,
    pub cause: Symbol,
    pub horizon_days: Option<i32>,
    pub bundle_id: Option<String>,
    pub plan_hash: Option<String>,
    pub board: i64,
    pub drivers: Vec<Driver>,
    pub base_logit: Option<f64>,
    pub drivers_as_of: Option<i64>,
    pub change_since: Option<i64>,
    pub change_drivers: Vec<Driver>,
    pub top_signal: Option<String>,
    pub recommended_action: Option<String>,
    pub recommended_action_label: Option<String>,
    pub committee: Option<ScoreCommittee>,
    pub trace: Vec<String>,
}

/// Who is active at the account, in short; see `schemas/outputs/score.avsc`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct ScoreCommittee {
    pub active_contacts_14d: i32,
    pub departments: Vec<String>,
    pub seniority_max: Option<String>,
    pub by_field: BTreeMap<String, Vec<String>>,
    pub highest: BTreeMap<String, String>,
}

/// A person who was active; see `schemas/outputs/alert.avsc`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct CommitteeMember {
    pub contact_id: String,
    pub title: Option<String>,
    pub department: Option<String>,
    pub seniority: Option<String>,
    pub last_activity_at: Option<i64>,
    pub active_days_14d: i32,
}

/// Who is active at the account.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Committee {
    pub active_contacts_14d: i32,
    pub departments: Vec<String>,
    pub seniority_max: Option<String>,
    pub by_field: BTreeMap<String, Vec<String>>,
    pub highest: BTreeMap<String, String>,
    pub members: Vec<CommitteeMember>,
}

/// An event, in short.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct RecentEvent {
    pub event_id: String,
    pub table: String,
    pub kind: Option<String>,
    pub occurred_at: i64,
    pub contact_id: Option<String>,
}

/// An opportunity that is not closed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct OpenOpportunity {
    pub opportunity_id: String,
    pub stage: Option<String>,
    pub amount: Option<f64>,
    pub close_date: Option<i64>,
}

/// An alert record; see `schemas/outputs/alert.avsc`. Fields the system does not know yet are left to their defaults.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct AlertRecord {
    pub alert_id: String,
    pub r#type: &'static str,
    pub severity: Symbol,
    pub state: Symbol,
    pub ordinal: i64,
    pub dedupe_key: Option<String>,
    pub supersedes_alert_id: Option<String>,
    pub task: String,
    pub entity_type: String,
    pub entity_id: String,
    pub account_id: Option<String>,
    pub account_name: Option<String>,
    pub domain: Option<String>,
    pub lead_id: Option<String>,
    pub contact_id: Option<String>,
    pub crm_ids: BTreeMap<String, String>,
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
    pub delta: Option<f64>,
    pub threshold: Option<f64>,
    pub band: Option<String>,
    pub previous_band: Option<String>,
    pub percentile: Option<f64>,
    pub rank: Option<i64>,
    pub ranked: Option<i64>,
    pub trend: Symbol,
    pub velocity_per_day: Option<f64>,
    pub acceleration_per_day2: Option<f64>,
    pub baseline_score: Option<f64>,
    pub horizon_days: Option<i32>,
    pub target: Option<String>,
    pub drivers: Vec<Driver>,
    pub base_logit: Option<f64>,
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
    pub data_classes: Vec<String>,
    pub as_of: i64,
    pub occurred_at: Option<i64>,
    pub epoch: i64,
    pub bundle_id: Option<String>,
    pub plan_hash: Option<String>,
    pub board: i64,
    pub trace: Vec<String>,
}

/// What the alert rules remember of one entity for one task.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct PolicyStateRecord {
    pub task: String,
    pub entity_type: String,
    pub entity_id: String,
    pub epoch: i64,
    pub band: Option<String>,
    pub state: String,
}

struct Encoder {
    schema: apache_avro::Schema,
    id: u32,
}

impl Encoder {
    fn new(json: &str, subject: &str, schemas: &dyn SchemaStore) -> Result<Self, SchemaLookupError> {
        let schema = apache_avro::Schema::parse_str(json).expect("the shipped output schemas are Avro: tested");
        Ok(Self { id: schemas.id_of(subject, json)?, schema })
    }
    fn encode<T: Serialize>(&self, value: &T) -> Vec<u8> {
        let mut body = Vec::with_capacity(512);
        let writer = apache_avro::writer::datum::GenericDatumWriter::builder(&self.schema).build().expect("a parsed schema resolves");
        writer.write_ser(&mut body, value).expect("record structs mirror the shipped schemas: tested");
        let mut framed = Vec::with_capacity(body.len() + 5);
        encode_frame(self.id, &body, &mut framed);
        framed
    }
}

/// Writers of all outputs.
pub struct OutputEncoders {
    score: Encoder,
    alert: Encoder,
    epoch: Encoder,
    policy_state: Encoder,
}

impl OutputEncoders {
    /// Registers the output schemas, or finds their ids.
    pub fn new(schemas: &dyn SchemaStore) -> Result<Self, SchemaLookupError> {
        Ok(Self {
            score: Encoder::new(SCORE, "scores-value", schemas)?,
            alert: Encoder::new(ALERT, "alerts-value", schemas)?,
            epoch: Encoder::new(EPOCH, "epochs-value", schemas)?,
            policy_state: Encoder::new(POLICY_STATE, "policy-state-value", schemas)?,
        })
    }
    /// A framed score.
    pub fn score(&self, record: &ScoreRecord) -> Vec<u8> {
        self.score.encode(record)
    }
    /// A framed alert.
    pub fn alert(&self, record: &AlertRecord) -> Vec<u8> {
        self.alert.encode(record)
    }
    /// A framed epoch record.
    pub fn epoch(&self, record: &crate::epoch::EpochRecord) -> Vec<u8> {
        self.epoch.encode(record)
    }
    /// A framed policy state.
    pub fn policy_state(&self, record: &PolicyStateRecord) -> Vec<u8> {
        self.policy_state.encode(record)
    }
    /// Reads an epoch record back from its framed bytes, under the schema it was written with.
    pub fn read_epoch(&self, value: &[u8], schemas: &dyn SchemaStore) -> Result<crate::epoch::EpochRecord, PortError> {
        let fatal = |e: &dyn std::fmt::Display| PortError::Fatal(format!("an epoch record cannot be read: {e}"));
        let frame = Frame::parse(value, std::iter::empty()).map_err(|e| fatal(&e))?;
        let older;
        let schema = if frame.schema == SchemaRef::Id(self.epoch.id) {
            &self.epoch.schema
        } else {
            let json = schemas.lookup(&frame.schema).map_err(|e| match e {
                SchemaLookupError::Unknown(_) => fatal(&e),
                SchemaLookupError::Unavailable(_) => PortError::Retriable(e.to_string()),
            })?;
            older = apache_avro::Schema::parse_str(&json).map_err(|e| fatal(&e))?;
            &older
        };
        let mut body = frame.body;
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(schema).build().map_err(|e| fatal(&e))?;
        reader.read_deser(&mut body).map_err(|e| fatal(&e))
    }
}

#[cfg(test)]
mod tests;
