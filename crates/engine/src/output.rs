//! Output records as Avro, in the Confluent framing, under the schemas of `schemas/outputs`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use leadpulse_schema::{Frame, SchemaRef, encode_frame};

use crate::epoch::{EpochRecord, EpochRecordV1, LAYOUT_SECTION, Layout, ScriptRecord};
use crate::ports::{PortCause, PortError, SchemaLookupError, SchemaStore};

const SCORE: &str = include_str!("../../../schemas/outputs/score.avsc");
const ALERT: &str = include_str!("../../../schemas/outputs/alert.avsc");
const EPOCH: &str = include_str!("../../../schemas/outputs/epoch_record.avsc");
const EPOCH_V1: &str = include_str!("../../../schemas/outputs/versions/epoch_record-1.avsc");
const LAYOUT: &str = include_str!("../../../schemas/outputs/partition_layout.avsc");
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

/// Every symbol that a [`Symbol`] may be read back as.
const SYMBOLS: [&str; 18] = [
    "scored",
    "ineligible",
    "improving",
    "steady",
    "declining",
    "unknown",
    "closing",
    "event",
    "bundle_swap",
    "timer",
    "board",
    "P1",
    "P2",
    "P3",
    "open",
    "threshold_up",
    "threshold_down",
    "",
];

/// An alert type, by name: text in records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeName(pub &'static str);

impl Serialize for TypeName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for TypeName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        symbol(deserializer).map(Self)
    }
}

/// The symbol of a text.
fn symbol<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<&'static str, D::Error> {
    let text = String::deserialize(deserializer)?;
    let found = SYMBOLS.iter().find(|symbol| **symbol == text);
    found
        .copied()
        .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not a symbol of any output")))
}

impl<'de> Deserialize<'de> for Symbol {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        symbol(deserializer).map(Self)
    }
}

/// One explanation group's part in a score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ScoreCommittee {
    pub active_contacts_14d: i32,
    pub departments: Vec<String>,
    pub seniority_max: Option<String>,
    pub by_field: BTreeMap<String, Vec<String>>,
    pub highest: BTreeMap<String, String>,
}

/// A person who was active; see `schemas/outputs/alert.avsc`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct RecentEvent {
    pub event_id: String,
    pub table: String,
    pub kind: Option<String>,
    pub occurred_at: i64,
    pub contact_id: Option<String>,
}

/// An opportunity that is not closed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct OpenOpportunity {
    pub opportunity_id: String,
    pub stage: Option<String>,
    pub amount: Option<f64>,
    pub close_date: Option<i64>,
}

/// An alert record; see `schemas/outputs/alert.avsc`. Fields the system does not know yet are left to their defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct AlertRecord {
    pub alert_id: String,
    pub r#type: TypeName,
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    fn new(
        json: &str,
        subject: &str,
        schemas: &dyn SchemaStore,
    ) -> Result<Self, SchemaLookupError> {
        let schema = apache_avro::Schema::parse_str(json)
            .expect("the shipped output schemas are Avro: tested");
        Ok(Self {
            id: schemas.id_of(subject, json)?,
            schema,
        })
    }
    fn encode<T: Serialize>(&self, value: &T) -> Vec<u8> {
        let mut body = Vec::with_capacity(512);
        let writer = apache_avro::writer::datum::GenericDatumWriter::builder(&self.schema)
            .build()
            .expect("a parsed schema resolves");
        writer
            .write_ser(&mut body, value)
            .expect("record structs mirror the shipped schemas: tested");
        let mut framed = Vec::with_capacity(body.len() + 5);
        encode_frame(self.id, &body, &mut framed);
        framed
    }
    /// Reads a record back under the schema it was written with: this one, or else what the store says.
    fn read<T: serde::de::DeserializeOwned>(
        &self,
        what: &str,
        value: &[u8],
        schemas: &dyn SchemaStore,
    ) -> Result<T, PortError> {
        let frame = Frame::parse(value, std::iter::empty()).map_err(|e| unreadable(what, &e))?;
        // Whatever id a registry gave it then: bytes that are one record of today's schema are that record.
        if let Some(record) = read_value(&self.schema, frame.body) {
            return Ok(record);
        }
        let older;
        let schema = if frame.schema == SchemaRef::Id(self.id) {
            &self.schema
        } else {
            let json = schemas.lookup(&frame.schema).map_err(|e| match e {
                SchemaLookupError::Unknown(_) => unreadable(what, &e),
                SchemaLookupError::Unavailable(_) => {
                    PortError::retriable(PortCause::NoAnswer, e.to_string())
                }
            })?;
            older = apache_avro::Schema::parse_str(&json).map_err(|e| unreadable(what, &e))?;
            &older
        };
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(schema)
            .build()
            .map_err(|e| unreadable(what, &e))?;
        let found = reader
            .read_value(&mut &frame.body[..])
            .map_err(|e| unreadable(what, &e))?;
        let json = serde_json::Value::try_from(found).map_err(|e| unreadable(what, &e))?;
        serde_json::from_value(json).map_err(|e| unreadable(what, &e))
    }
}

/// Writers of all outputs.
pub struct OutputEncoders {
    score: Encoder,
    alert: Encoder,
    epoch: Encoder,
    epoch_v1: apache_avro::Schema,
    layout: Encoder,
    policy_state: Encoder,
}

impl OutputEncoders {
    /// Registers the output schemas, or finds their ids.
    pub fn new(schemas: &dyn SchemaStore) -> Result<Self, SchemaLookupError> {
        Ok(Self {
            score: Encoder::new(SCORE, "scores-value", schemas)?,
            alert: Encoder::new(ALERT, "alerts-value", schemas)?,
            // A subject of its own: format 2 is no compatible evolution of format 1, and a registry would refuse it.
            epoch: Encoder::new(EPOCH, "epochs-v2-value", schemas)?,
            epoch_v1: apache_avro::Schema::parse_str(EPOCH_V1)
                .expect("the shipped output schemas are Avro: tested"),
            layout: Encoder::new(LAYOUT, "epochs-layout-value", schemas)?,
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
    pub fn epoch(&self, record: &EpochRecord) -> Vec<u8> {
        self.epoch.encode(record)
    }
    /// A framed layout.
    pub fn layout(&self, layout: &Layout) -> Vec<u8> {
        self.layout.encode(layout)
    }
    /// A framed policy state.
    pub fn policy_state(&self, record: &PolicyStateRecord) -> Vec<u8> {
        self.policy_state.encode(record)
    }
    /// Reads a record of the epochs topic back, of any format that any release wrote. A record that introduces a layout gives
    /// the layout and itself, and so does one of format 1, which names partitions.
    ///
    /// The program knows the schemas of its own formats, so no registry is asked: whatever ids a registry gives them today, old epoch
    /// records stay readable.
    ///
    /// # Errors
    /// Bytes that are of none of the formats.
    pub fn read_script(&self, value: &[u8]) -> Result<Vec<ScriptRecord>, PortError> {
        let frame = Frame::parse(value, std::iter::empty())
            .map_err(|e| unreadable("an epoch record", &e))?;
        if let Some(record) = read_whole::<EpochRecord>(&self.epoch.schema, frame.body) {
            let mut entries = Vec::with_capacity(2);
            if let Some(layout) = record.sections.get(LAYOUT_SECTION) {
                let frame = Frame::parse(layout, std::iter::empty())
                    .map_err(|e| unreadable("a layout", &e))?;
                let layout = read_whole::<Layout>(&self.layout.schema, frame.body);
                entries.push(ScriptRecord::Layout(layout.ok_or_else(|| {
                    unreadable("a layout", &"a newer program may have written it")
                })?));
            }
            entries.push(ScriptRecord::Epoch(Box::new(record)));
            return Ok(entries);
        }
        let Some(record) = read_whole::<EpochRecordV1>(&self.epoch_v1, frame.body) else {
            return Err(unreadable(
                "an epoch record",
                &"its bytes are of no format that this program knows; a newer program may have written it",
            ));
        };
        let (layout, record) = record.upgraded();
        Ok(vec![
            ScriptRecord::Layout(layout),
            ScriptRecord::Epoch(Box::new(record)),
        ])
    }
    /// Reads a score record back.
    ///
    /// # Errors
    /// Bytes that are no score record, or a writer schema that nobody knows.
    pub fn read_score(
        &self,
        value: &[u8],
        schemas: &dyn SchemaStore,
    ) -> Result<ScoreRecord, PortError> {
        self.score.read("a score record", value, schemas)
    }
    /// Reads an alert record back.
    ///
    /// # Errors
    /// As [`Self::read_score`].
    pub fn read_alert(
        &self,
        value: &[u8],
        schemas: &dyn SchemaStore,
    ) -> Result<AlertRecord, PortError> {
        self.alert.read("an alert record", value, schemas)
    }
    /// Reads a policy state back.
    ///
    /// # Errors
    /// As [`Self::read_score`].
    pub fn read_policy_state(
        &self,
        value: &[u8],
        schemas: &dyn SchemaStore,
    ) -> Result<PolicyStateRecord, PortError> {
        self.policy_state.read("a policy state", value, schemas)
    }
}

fn unreadable(what: &str, why: &dyn std::fmt::Display) -> PortError {
    PortError::fatal(
        PortCause::Unreadable,
        format!("{what} cannot be read: {why}"),
    )
}

/// The record, if all the bytes are one of this schema; by way of JSON, which has no enums.
fn read_value<T: serde::de::DeserializeOwned>(
    schema: &apache_avro::Schema,
    body: &[u8],
) -> Option<T> {
    let mut rest = body;
    let reader = apache_avro::reader::datum::GenericDatumReader::builder(schema)
        .build()
        .ok()?;
    let value = reader.read_value(&mut rest).ok()?;
    let json = serde_json::Value::try_from(value).ok()?;
    if rest.is_empty() {
        serde_json::from_value(json).ok()
    } else {
        None
    }
}

/// The record, if all the bytes are one of this schema.
fn read_whole<T: serde::de::DeserializeOwned>(
    schema: &apache_avro::Schema,
    body: &[u8],
) -> Option<T> {
    let mut rest = body;
    let reader = apache_avro::reader::datum::GenericDatumReader::builder(schema)
        .build()
        .ok()?;
    let record = reader.read_deser(&mut rest).ok()?;
    rest.is_empty().then_some(record)
}

#[cfg(test)]
mod tests;
