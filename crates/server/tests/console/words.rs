//! The words of two deployments: one that sells software, and one that no CRM knows.

use std::sync::Arc;

use leadpulse_engine::read_model::{EpochTimes, PartitionLag, ReadModel, StageTime, TracedRecord};
use leadpulse_records::{KeptLetter, Reason, Rejected, WorkList, WorkListEntry};
use leadpulse_schema::Catalog;
use leadpulse_schema::units::AsOf;
use leadpulse_server::{
    ActionView, ArchiveDesk, BandView, GroupView, HistoryDesk, NamedText, PlannedQuery, QueryDesk,
    QueryFault, QueryPlanner, QueryRemark, ServerState, TaskView, TaskViews,
};
use leadpulse_server::{
    AlertAnswer, ChangedChampion, KnownModel, OperationError, Operations, OperationsDesk,
    PromotionRequest, ReplayCounts, ReplayRequest, RollbackRequest, SentRow,
};
use serde_json::{Value, json};

use crate::past::{OldPoints, OnePast, evaluation};

/// Names of a deployment: tables, fields, task, reasons.
pub struct Words {
    pub table: &'static str,
    pub task: &'static str,
    pub query: &'static str,
    /// Label of a group, and what is to be seen of it.
    pub reasons: [(&'static str, &'static str); 3],
    /// End of an alert's sentence.
    pub sentence: &'static str,
    first: [&'static str; 8],
    second: [&'static str; 8],
    prefix: &'static str,
    event: (&'static str, &'static str),
    open_table: &'static str,
    member_table: &'static str,
    /// Fields of a row with their values.
    fields: &'static [(&'static str, &'static str)],
}

/// A seller of software.
pub static SOFTWARE: Words = Words {
    table: "accounts",
    task: "account-wins-90d",
    query: "PREDICT COUNT(opportunities.* WHERE opportunities.stage = 'Closed Won', 0, 90, days) > 0 FOR EACH accounts.account_id",
    reasons: [
        (
            "High intent content",
            "pricing page 4 times this week, the last by a VP yesterday",
        ),
        (
            "Committee",
            "3 people active in 14 days: Data, IT, Security",
        ),
        ("Silence", "no meeting for 41 days"),
    ],
    sentence: "3 people (Data, IT, Security) were active within 14 days; pricing page 1 → 4. Chance 31 % (was 12 % a week ago). Next: Call today.",
    first: [
        "Northwind",
        "Alder",
        "Helix",
        "Quarry",
        "Meridian",
        "Fathom",
        "Juniper",
        "Cobalt",
    ],
    second: [
        "Logistics",
        "Biotech",
        "Systems",
        "Retail Group",
        "Energy",
        "Insurance",
        "Robotics",
        "Media",
    ],
    prefix: "A0",
    event: ("content_views", "pricing"),
    open_table: "opportunities",
    member_table: "contacts",
    fields: &[
        ("industry", "Logistics"),
        ("region", "EMEA"),
        ("owner_id", "rep-17"),
        ("employee_count", "12000"),
        ("created_at", "1700000000000"),
    ],
};

/// A keeper of water wells: a table and fields that no code knows.
pub static WELLS: Words = Words {
    table: "water_wells",
    task: "runs-dry-in-summer",
    query: "PREDICT COUNT(dry_days.*, 0, 90, days) > 0 FOR EACH water_wells.well_no",
    reasons: [
        ("Rainfall", "12 mm in 30 days, a fifth of the usual"),
        ("Pumping", "pumped on 29 of 30 days"),
        ("Depth", "184 m, deeper than nine of ten"),
    ],
    sentence: "the water stands 3 m lower than a week ago. Chance 31 % (was 12 %). Next: Send a crew.",
    first: [
        "Upper", "Lower", "Old", "New", "North", "South", "East", "West",
    ],
    second: [
        "Meadow", "Ridge", "Ford", "Quarry", "Mill", "Heath", "Orchard", "Marsh",
    ],
    prefix: "W-",
    event: ("level_readings", "below_pump"),
    open_table: "repair_orders",
    member_table: "pumps",
    fields: &[
        ("soil_type", "sandy loam"),
        ("depth_m", "184"),
        ("drilled_at", "1500000000000"),
        ("parish", "St Olave"),
    ],
};

impl Words {
    /// The words of the deployment with this table.
    pub fn of_table(table: &str) -> &'static Self {
        match table == WELLS.table {
            true => &WELLS,
            false => &SOFTWARE,
        }
    }

    pub fn key(&self, index: usize) -> Arc<str> {
        format!("{}{:03}", self.prefix, index * 7 + 1).into()
    }

    pub fn name(&self, index: usize) -> String {
        let second = self.second[(index / 8 + index) % 8];
        format!("{} {second}", self.first[index % 8])
    }

    pub fn band(&self, probability: f64) -> Option<Arc<str>> {
        match probability {
            p if p >= 0.3 => Some("hot".into()),
            p if p >= 0.1 => Some("warm".into()),
            _ => None,
        }
    }

    /// Facts as the engine composes them.
    pub fn facts(&self, index: usize, as_of_ms: i64) -> Value {
        let values: serde_json::Map<String, Value> = self
            .fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        let events: Vec<Value> = (0..4)
            .map(|number: i64| {
                json!({
                    "time_ms": as_of_ms - number * 90_000_000, "id": format!("e-{number}"),
                    "table": self.event.0, "kind": self.event.1,
                    "owner_table": self.member_table, "by_person": true, "owner": "M-1",
                })
            })
            .collect();
        let open = json!([{"table": self.open_table, "key": "O-7", "values": {"name": "Renewal", "amount": "48000"}}]);
        json!({
            "root": self.key(index), "name": self.name(index), "values": values,
            "open": if index.is_multiple_of(2) { open } else { json!([]) }, "events": events,
        })
    }

    /// The state of a server that has no engine behind it.
    pub fn state(&self, read_model: &Arc<ReadModel>) -> ServerState {
        let band = |name: &str, enter, exit| BandView {
            name: name.into(),
            enter,
            exit,
        };
        let task = TaskView {
            name: self.task.into(),
            entity: self.table.into(),
            query: self.query.into(),
            horizon_ms: 90 * 86_400_000,
            bands: vec![band("warm", 0.1, 0.07), band("hot", 0.3, 0.2)],
            quality: Some("provisional".into()),
            groups: vec![GroupView {
                code: "committee".into(),
                label: "Committee".into(),
                kind: "behaviour",
            }],
            anchors: json!("every 10d"),
            actions: vec![ActionView {
                code: "call".into(),
                label: "Call today".into(),
                when: json!({"band": ["hot"]}),
            }],
        };
        ServerState {
            read_model: read_model.clone(),
            registry: prometheus::Registry::new(),
            tasks: TaskViews::new(vec![task], self.card()),
            tables: vec![self.table.into()],
            catalog: Some(Arc::new(self.catalog())),
            operations: Some(OperationsDesk::new(Arc::new(Done))),
            explanations: None,
            questions: None,
            history: Some(HistoryDesk::new(Arc::new(OnePast))),
            archive: Some(ArchiveDesk::new(Arc::new(OldPoints))),
            queries: Some(QueryDesk(Arc::new(OneQuery(self.query, self.table)))),
            schemas: None,
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    /// The tables of the deployment.
    fn catalog(&self) -> Catalog {
        if self.table == WELLS.table {
            return Catalog::from_json(&[("wells", WELL_SCHEMA), ("readings", READING_SCHEMA)])
                .expect("the schemas are sound");
        }
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas");
        Catalog::load(std::path::Path::new(shipped)).expect("the shipped schemas are sound")
    }

    fn card(&self) -> Value {
        json!({
            "bundle_id": "7f3a9c21", "created_by": "leadpulse", "created_at": null,
            "plan_hash": "05854de1e835c454", "networks": 4,
            "columns": {"root": 417, "members": [163]},
            "tasks": [{
                "name": self.task, "entity": self.table, "query": self.query,
                "horizon_ms": 7_776_000_000_i64, "has_trees": true,
                "quality": {"grade": "provisional", "reasons": ["67 entities have a positive outcome; 50 are the least, 200 are enough"]},
                "calibration": {"kind": "platt", "slope": 1.0, "intercept": 0.0},
                "metrics": {"validation": {
                    "rows": 1800, "positives": 77, "entities": 300, "auroc": 0.781,
                    "average_precision": 0.21, "log_loss": 0.169, "brier": 0.0403, "ece": 0.013,
                    "lift_at_20_percent": 3.1, "precision_at_2_percent": 0.31,
                    "precision_at_5_percent": 0.22, "precision_at_10_percent": 0.16,
                }, "evaluation": evaluation()},
            }],
        })
    }

    /// Gives the read model what does not come with epochs: letters, lists, places, records.
    pub fn furnish(&self, read_model: &ReadModel, as_of_ms: i64) {
        read_model.publish_dead_letters(letters());
        read_model.publish_work_lists(vec![Arc::new(self.list(as_of_ms))]);
        read_model.set_epoch_times(EpochTimes {
            epoch: 30,
            records: 420,
            scored: 96,
            scores: 31,
            alerts: 1,
            seconds: 0.042,
            newest_record_age_seconds: Some(0.31),
            stages: [("graph", 0.011), ("infer", 0.019), ("policy", 0.008)]
                .map(|(stage, seconds)| StageTime { stage, seconds })
                .into(),
            linked_traces: Vec::new(),
        });
        let lag = |partition| PartitionLag {
            topic: "crm.accounts.v1".into(),
            partition,
            next_offset: 1_204,
            end_offset: 1_207,
            lag_records: 3,
        };
        read_model.set_partition_lags(vec![lag(0), lag(1)]);
        let taken = TracedRecord {
            topic: "web.views".into(),
            partition: 2,
            offset: 9,
            epoch: 0,
            outcome: "accepted",
            remark: None,
            table: self.event.0.into(),
            key: "e-1".into(),
            entity: Some((self.table.into(), self.key(0))),
            account_id: Some(self.key(0)),
        };
        read_model.publish_traced(30, vec![taken]);
    }

    fn list(&self, as_of_ms: i64) -> WorkList {
        let entry = |index: usize| WorkListEntry {
            entity_type: self.table.into(),
            entity_id: self.key(index),
            account_id: self.key(index),
            name: Some(self.name(index)),
            quality: Some("provisional".into()),
            probability: 0.31 - 0.02 * index as f64,
            logit: -0.8,
            percentile: 98.0,
            rank: index as i64 + 1,
            ranked: 130,
            band: Some("hot".into()),
            trend: "improving".into(),
            top_group: Some("committee".into()),
            top_signal: Some(self.reasons[0].1.into()),
            drivers_as_of: as_of_ms,
            summary: format!("{}: {}", self.name(index), self.sentence),
            recommended_action: Some("call".into()),
            recommended_action_label: Some("Call today".into()),
            suggested_contact_id: None,
            value_at_stake: None,
            has_open_opportunity: false,
            listed_since: as_of_ms,
        };
        WorkList {
            task: self.task.into(),
            owner_id: Some("rep-17".into()),
            as_of: as_of_ms,
            horizon_days: Some(90),
            bundle_id: Some("7f3a9c21".into()),
            entries: (0..6).map(entry).collect(),
        }
    }
}

/// Plans one query; every other has a fault at its second line.
struct OneQuery(&'static str, &'static str);

impl QueryPlanner for OneQuery {
    fn plan(&self, text: &str) -> Result<PlannedQuery, Box<QueryFault>> {
        if text == self.0 {
            return Ok(PlannedQuery {
                text: text.into(),
                entity: self.1.into(),
                horizon_ms: 7_776_000_000,
                meaning: vec![
                    format!("for every row of {}", self.1),
                    "#1: rows in the 90 days after the anchor".into(),
                    "predict whether #1 is more than 0".into(),
                ],
                remarks: vec![QueryRemark {
                    message: "rows that end well, badly or not at all count alike".into(),
                    hint: "add WHERE with the outcome that counts".into(),
                }],
            });
        }
        Err(Box::new(QueryFault {
            message: "there is no table leeks".into(),
            hint: "did you mean leaks?".into(),
            line: 1,
            column: 15,
            length: 5,
            target: None::<NamedText>,
        }))
    }
}

/// A dead letter of some kinds of value.
fn letters() -> Vec<KeptLetter> {
    let cases: [(&str, Reason, &str, Option<&[u8]>); 3] = [
        (
            "web.views",
            Reason::WireFormat,
            "the first byte is 0x7b, not that of a schema id",
            Some(br#"{"view_id": "v1", "page": "/pricing", "at": 1760000000000}"#),
        ),
        (
            "web.views",
            Reason::TombstoneOfEvent,
            "views are events: they have no tombstones",
            None,
        ),
        (
            "mkt.activities",
            Reason::Validation,
            "activities.activity_id: the key is empty",
            Some("type=Öffnung;campaign=Herbst".as_bytes()),
        ),
    ];
    let letter = |(number, (topic, reason, message, value)): (i64, (_, Reason, _, _))| {
        let rejected = Rejected {
            topic,
            partition: 1,
            offset: 1_200 + number,
            timestamp_ms: 1_760_000_000_000 + 61_000 * number,
            key: Some(b"A0017"),
            value,
            headers: vec![("trace-id", Some(b"7f3a9c21".as_slice()))],
        };
        KeptLetter::of(&rejected.dead_letter(reason, message, AsOf::from_ms(1_760_000_000_000)))
    };
    (0..).zip(cases).filter_map(letter).collect()
}

const WELL_SCHEMA: &str = r#"{"type":"record","name":"Well","leadpulse":{"table":"water_wells","role":"root"},"fields":[
  {"name":"well_no","type":"string","leadpulse":{"key":true}},
  {"name":"depth_m","type":["null","double"],"default":null}]}"#;
const READING_SCHEMA: &str = r#"{"type":"record","name":"Reading","leadpulse":{"table":"level_readings","role":"event"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"read_at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"well","type":"string","leadpulse":{"ref":"water_wells","owner":true}}]}"#;

/// Operations that are done at once.
struct Done;

impl Operations for Done {
    fn answer_alert(&self, answer: &AlertAnswer, _: &str) -> Result<SentRow, OperationError> {
        Ok(SentRow {
            topic: "scoring.feedback.v1".into(),
            key: answer.alert_id.clone(),
        })
    }
    fn models(&self) -> Result<Vec<KnownModel>, OperationError> {
        let model = |bundle: &str, alias: &str, grade: &str| KnownModel {
            bundle: bundle.into(),
            aliases: vec![alias.into()],
            grade: Some(grade.into()),
            tasks: vec!["account-wins-90d".into()],
        };
        Ok(vec![
            model("7f3a9c21", "champion", "provisional"),
            model("b01d44e7", "challenger", "sound"),
        ])
    }
    fn promote(
        &self,
        request: &PromotionRequest,
        _: &str,
    ) -> Result<ChangedChampion, OperationError> {
        Ok(ChangedChampion {
            bundle: request.bundle.clone(),
            before: Some("7f3a9c21".into()),
            release: Some("2c1277c0".into()),
        })
    }
    fn roll_back(&self, _: &RollbackRequest, _: &str) -> Result<ChangedChampion, OperationError> {
        Err(OperationError::Refused(
            "there is no champion before".into(),
        ))
    }
    fn replay(&self, request: &ReplayRequest, _: &str) -> Result<ReplayCounts, OperationError> {
        Ok(ReplayCounts {
            letters: 2,
            accepted_now: 1,
            sent: if request.dry_run { 0 } else { 2 },
            ..ReplayCounts::default()
        })
    }
}
