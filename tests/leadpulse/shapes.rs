//! Records in the shapes of their producers, on real Kafka: change envelopes, JSON, several types
//! on one topic.

use std::collections::BTreeMap;

use leadpulse_engine::ports::Output;
use leadpulse_kafka::Producer;
use leadpulse_schema::units::DAY_MS;
use serde_json::{Value as Json, json};

use super::checks::committed;
use super::dataset::{accounts, alone};
use super::process::PATIENCE;
use super::scenario::{Scenario, Status};

/// The moment of the test's first records: 2025-06-01.
const START_MS: i64 = 1_748_736_000_000;

/// The dataset's configuration, with further settings for the sources of some tables.
fn config(shapes: &[(&str, &str)]) -> toml::Table {
    let mut config = accounts().config.clone();
    for source in config["sources"].as_array_mut().unwrap() {
        let source = source.as_table_mut().unwrap();
        let table = source["table"].as_str().unwrap().to_owned();
        let shape = shapes.iter().find(|(name, _)| *name == table);
        if let Some((_, shape)) = shape {
            let shape: toml::Table = shape.parse().unwrap();
            source.extend(shape);
        }
    }
    config
}

/// The newest status of each account, and the reason where it has no score.
fn standings(scenario: &Scenario) -> BTreeMap<String, (Status, Option<String>)> {
    let scores = scenario.scores().into_iter();
    scores
        .map(|score| (score.entity_id, (score.status, score.reason)))
        .collect()
}

struct Producing<'a> {
    scenario: &'a Scenario,
    producer: Producer,
    now_ms: i64,
}

impl<'a> Producing<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        Self {
            scenario,
            producer: Producer::connect(&scenario.options, &scenario.metrics).unwrap(),
            now_ms: START_MS,
        }
    }
    /// Sends a record an hour after the one before.
    fn send(&mut self, table: &str, key: Option<&str>, value: Option<&Json>) {
        self.now_ms += DAY_MS / 24;
        let topic = self.scenario.topic(table);
        let value = value.map(|value| value.to_string().into_bytes());
        let key = key.map(str::as_bytes);
        self.producer
            .send(topic, key, value.as_deref(), self.now_ms)
            .unwrap();
    }
    fn account(&mut self, operation: &str, id: i64, name: &str) {
        let row = json!({"id": id, "name": name, "updated_at": self.now_ms * 1000, "address": {"country": "DE"}});
        let (before, after) = match operation {
            "d" => (row, Json::Null),
            _ => (Json::Null, row),
        };
        let change = json!({"op": operation, "before": before, "after": after,
            "source": {"table": "account", "ts_ms": self.now_ms}, "ts_ms": self.now_ms});
        let key = json!({ "id": id }).to_string();
        self.send("accounts", Some(&key), Some(&change));
    }
    fn run(&mut self) -> super::scenario::Summary {
        self.producer.flush(PATIENCE).unwrap();
        self.scenario.run_to_end()
    }
}

#[test]
fn changes_and_events_are_read_in_the_shapes_of_their_producers() {
    let _alone = alone();
    let shapes = [
        (
            "accounts",
            r#"topic = "crm"
               format = "json"
               envelope = "debezium"
               where = { "source.table" = "account" }
               columns = { id = "account_id", country = "address.country" }
               times = { updated_at = "micros" }"#,
        ),
        (
            "contacts",
            r#"topic = "crm"
               format = "json"
               envelope = "debezium"
               where = { "source.table" = "contact" }
               times = { updated_at = "micros" }"#,
        ),
        (
            "activities",
            r#"topic = "events"
               format = "json"
               where = { kind = "activity" }
               columns = { id = "activity_id", "who.account" = "account_id" }"#,
        ),
        (
            "content_views",
            r#"topic = "events"
               format = "json"
               where = { kind = "view" }
               columns = { id = "view_id", "who.account" = "account_id" }"#,
        ),
        (
            "product_usage",
            r#"topic = "events"
               format = "json"
               where = { kind = ["usage", "session"] }
               columns = { id = "usage_id", "who.account" = "account_id" }"#,
        ),
        (
            "opportunities",
            r#"format = "json"
               envelope = "salesforce-cdc"
               where = { "ChangeEventHeader.entityName" = "Opportunity" }
               columns = { StageName = "stage", AccountId = "account_id" }"#,
        ),
    ];
    let Some(scenario) = Scenario::with_config(accounts(), "shapes", config(&shapes)) else {
        return;
    };
    scenario.create_inputs(1);
    let mut producing = Producing::new(&scenario);
    for id in 1..=3 {
        producing.account("r", id, &format!("Company {id}"));
    }
    producing.account("u", 1, "Company One");
    let summary = producing.run();
    assert_eq!(
        (summary.accepted, summary.dead_lettered),
        (4, 0),
        "{summary:?}"
    );
    let found = standings(&scenario);
    assert!(
        found.values().all(|(status, _)| *status == Status::Scored),
        "{found:?}"
    );
    assert_eq!(found.len(), 3);

    producing.account("d", 3, "Company 3");
    producing.send("accounts", Some(r#"{"id":3}"#), None);
    producing.account("t", 0, "");
    for (index, kind) in ["activity", "view", "usage", "other"]
        .into_iter()
        .enumerate()
    {
        let at = jiff_text(producing.now_ms);
        let event = json!({"kind": kind, "id": format!("e{index}"), "type": "meeting", "content_type": "pricing",
            "feature": "export", "occurred_at": at, "who": {"account": "1"}});
        producing.send("activities", None, Some(&event));
    }
    let change = |kind: &str, changed: Json, stage: &str, now_ms: i64| {
        json!({"ChangeEventHeader": {"entityName": "Opportunity", "recordIds": ["O1", "O2"], "changeType": kind,
            "changedFields": changed, "commitTimestamp": now_ms}, "StageName": stage, "AccountId": "2"})
    };
    for (kind, changed) in [
        ("CREATE", json!([])),
        ("UPDATE", json!(["StageName", "LastModifiedDate"])),
        ("GAP_UPDATE", json!([])),
    ] {
        let change = change(kind, changed, "Negotiation", producing.now_ms);
        producing.send("opportunities", None, Some(&change));
    }
    let summary = producing.run();
    // Deleted, three events, three changes of opportunities; the tombstone behind the deletion is
    // a repeat, and the truncation a dead letter.
    assert_eq!(
        (
            summary.accepted,
            summary.duplicate,
            summary.dead_lettered,
            summary.unchanged
        ),
        (7, 1, 1, 1),
        "{summary:?}"
    );
    let found = standings(&scenario);
    assert_eq!(found["3"], (Status::Ineligible, Some("deleted".into())));
    assert_eq!(found["1"], (Status::Scored, None));
    assert_eq!(scenario.committed(Output::DeadLetters).len(), 1);
    committed(&scenario);
}

fn jiff_text(ms: i64) -> String {
    // Days since START_MS are few, so the date is written by hand.
    let hours = (ms - START_MS) / (DAY_MS / 24);
    format!("2025-06-{:02}T{:02}:00:00Z", 1 + hours / 24, hours % 24)
}

#[test]
fn plain_event_types_on_one_topic_are_told_apart_by_record_name() {
    let _alone = alone();
    let shared = r#"topic = "events""#;
    let shapes = ["activities", "content_views", "product_usage"].map(|table| (table, shared));
    let Some(scenario) = Scenario::with_config(accounts(), "shared", config(&shapes)) else {
        return;
    };
    scenario.create_inputs(1);
    let mut producing = super::bad_input::Producing::new(&scenario);
    producing.good_rows_of_three_types(START_MS);
    let summary = scenario.run_to_end();
    assert_eq!(
        (summary.accepted, summary.dead_lettered),
        (4, 0),
        "{summary:?}"
    );
    committed(&scenario);
}

#[test]
fn sources_that_cannot_be_told_apart_end_the_start_with_words() {
    let _alone = alone();
    let shared = "topic = \"events\"\nformat = \"json\"";
    let shapes = ["activities", "content_views"].map(|table| (table, shared));
    let Some(scenario) = Scenario::with_config(accounts(), "ambiguous", config(&shapes)) else {
        return;
    };
    scenario.create_inputs(1);
    let ended = scenario.start("config", &["check"]).wait();
    let found = ended.clone().failed(1, &["has 1 fault"]);
    for words in ["cannot be told apart", "where"] {
        assert!(found.out.contains(words), "{words}: {found:?}");
    }
}
