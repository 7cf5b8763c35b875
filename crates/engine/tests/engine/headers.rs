//! Headers of scores, alerts and work lists: a cloud event about the record that carries them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use leadpulse_engine::ports::{Output, OutputRecord};
use leadpulse_engine::read_model::ReadModel;
use leadpulse_engine::{TraceContext, Until};
use leadpulse_graph::DAY_MS;
use serde_json::Value as Json;

use super::broker::Message;
use super::rig::Put::{Long, Text, Time};
use super::rig::{Filter, Life, Rig, TaskSpec};

const T0: i64 = 1_700_000_000_000;
const HOUR_MS: i64 = 3_600_000;

const POLICY: &str = r#"{"bands":[{"name":"warm","enter":0.3},{"name":"hot","enter":0.5}],"threshold_up":"warm","hysteresis_ratio":0.1,
    "confirm":{"min_active_members":0,"min_kinds":0}}"#;

/// More employees, a higher score: `logit = −1 + 3 · x / (1 + x)`.
fn by_employees(_: &str, column: &str) -> f64 {
    if column.contains("employee_count") {
        3.0
    } else {
        0.0
    }
}

/// A row by which a later tick closes.
fn later(rig: &Rig, at_ms: i64) {
    let fields = [("lead_id", Text("late")), ("updated_at", Time(at_ms))];
    rig.send("leads", at_ms, &fields);
}

/// Text headers of a record, by name.
fn headers(record: &OutputRecord) -> BTreeMap<&str, &str> {
    let mut found = BTreeMap::new();
    for (name, value) in &record.headers {
        let value = std::str::from_utf8(value.as_deref().unwrap()).unwrap();
        assert_eq!(found.insert(name.as_str(), value), None, "{name} once");
    }
    found
}

/// The attributes that every kind has, as a record's value gives them.
fn expected<'a>(of: Output, value: &'a Json, moment: &'a str) -> BTreeMap<&'a str, &'a str> {
    let text = |field: &str| value[field].as_str();
    let mut headers = BTreeMap::from([
        ("content-type", "application/avro"),
        ("ce_specversion", "1.0"),
        ("ce_source", "/leadpulse/worker-1"),
        ("ce_time", moment),
        ("task", text("task").unwrap()),
    ]);
    let kind = match of {
        Output::Alerts => "leadpulse.alert",
        Output::WorkLists => "leadpulse.worklist",
        _ => "leadpulse.score",
    };
    headers.insert("ce_type", kind);
    headers.extend(text("owner_id").map(|owner| ("owner", owner)));
    headers.extend(text("severity").map(|severity| ("severity", severity)));
    if of == Output::Alerts {
        headers.insert("ce_id", text("alert_id").unwrap());
        headers.insert("state", text("state").unwrap());
    }
    headers
}

#[test]
fn scores_alerts_and_work_lists_are_cloud_events_and_tombstones_are_not() {
    let task = TaskSpec {
        name: "buys",
        table: "accounts",
        policy: POLICY,
        filter: Filter::Everyone,
    };
    let mut rig = Rig::new(&[task], by_employees);
    rig.work_lists.size = 3;
    let account = |at_ms: i64, key: &str, employees: i64| {
        let fields = [
            ("account_id", Text(key)),
            ("updated_at", Time(at_ms)),
            ("owner_id", Text("ann")),
            ("employee_count", Long(employees)),
        ];
        rig.send("accounts", at_ms, &fields);
    };
    account(T0, "A1", 0);
    account(T0, "A2", 0);
    let meeting = [
        ("activity_id", Text("a1")),
        ("type", Text("meeting")),
        ("occurred_at", Time(T0 + HOUR_MS)),
        ("account_id", Text("A1")),
    ];
    rig.send("activities", T0 + HOUR_MS, &meeting);
    account(T0 + HOUR_MS, "A1", 900);
    // The end of the rise, and a row by which its tick closes.
    account(T0 + 5 * HOUR_MS, "A1", 0);
    later(&rig, T0 + 3 * DAY_MS);
    rig.run_to_end();
    // Scores of A2 are committed before it goes.
    let accounts = rig.partition_of("accounts");
    rig.produce(accounts, T0 + 4 * DAY_MS, Some(b"A2"), None);
    later(&rig, T0 + 5 * DAY_MS);
    rig.run_to_end();
    rig.check_committed();

    let epochs = rig.broker.lock().epochs.clone();
    let records = || {
        epochs
            .iter()
            .flat_map(|epoch| epoch.outputs.iter().map(|record| (epoch.number, record)))
    };
    let (mut ids, mut tombstones) = (BTreeSet::new(), 0);
    let mut seen: BTreeMap<Output, usize> = BTreeMap::new();
    for (epoch, record) in records() {
        let of = record.output;
        let is_event = matches!(
            of,
            Output::Scores | Output::CurrentScores | Output::Alerts | Output::WorkLists
        );
        if !is_event || record.value.is_none() {
            assert!(record.headers.is_empty(), "{record:?}");
            tombstones += usize::from(is_event);
            continue;
        }
        let value = rig.read(record);
        let at_ms = value["as_of"].as_i64().unwrap();
        let moment = jiff::Timestamp::from_millisecond(at_ms)
            .unwrap()
            .to_string();
        let found = headers(record);
        for (name, text) in expected(of, &value, &moment) {
            assert_eq!(found.get(name), Some(&text), "{name} of {value}");
        }
        let trace = TraceContext::of_epoch("worker-1", epoch);
        assert_eq!(found["traceparent"], trace.traceparent(true));
        if let Some(entity) = value["entity_id"].as_str() {
            assert_eq!(found["ce_subject"], format!("accounts/{entity}"));
        }
        // A current score is the score of the history, under the same id.
        if of != Output::CurrentScores {
            assert!(ids.insert(found["ce_id"].to_owned()), "{found:?} once");
        }
        *seen.entry(of).or_default() += 1;
    }
    assert!(tombstones > 0, "A2 was deleted");
    let kinds: Vec<Output> = seen.keys().copied().collect();
    let all = [
        Output::Scores,
        Output::Alerts,
        Output::CurrentScores,
        Output::WorkLists,
    ];
    assert_eq!(kinds, all, "{seen:?}");
    let states: BTreeSet<&str> = records()
        .filter(|(_, record)| record.output == Output::Alerts)
        .map(|(_, record)| headers(record)["state"])
        .collect();
    assert_eq!(states, BTreeSet::from(["open", "resolved"]));
}

#[test]
fn an_epoch_links_to_the_traces_that_its_records_name_each_once_and_32_at_most() {
    let task = TaskSpec {
        name: "buys",
        table: "accounts",
        policy: POLICY,
        filter: Filter::Everyone,
    };
    let rig = Rig::new(&[task], by_employees);
    let accounts = rig.partition_of("accounts");
    let send = |at_ms: i64, name: &str, value: Option<Vec<u8>>| {
        let fields = [("account_id", Text("A1")), ("updated_at", Time(at_ms))];
        let record = Message {
            offset: 0,
            timestamp_ms: at_ms,
            key: None,
            value: Some(rig.encode("accounts", &fields)),
            headers: vec![(name.to_owned(), value)],
        };
        rig.broker.append(accounts, record);
    };
    let producer = |number: u64| TraceContext::of_epoch("a producer", number);
    let named = |number: u64| Some(producer(number).traceparent(false).into_bytes());
    // Each run is at least one epoch.
    let run = || {
        let (sender, epochs) = sync_channel(64);
        let read_model = Arc::new(ReadModel::new());
        read_model.watch_epochs(Some(sender));
        let life = Life {
            read_model,
            ..Life::default()
        };
        rig.run(Until::End, life).unwrap();
        let found: Vec<TraceContext> = epochs
            .try_iter()
            .flat_map(|epoch| epoch.linked_traces)
            .collect();
        found
    };
    send(T0, "traceparent", named(1));
    send(T0 + 1, "Traceparent", named(2));
    send(T0 + 2, "traceparent", named(1));
    send(T0 + 3, "traceparent", Some(b"00-none".to_vec()));
    send(T0 + 4, "traceparent", None);
    send(T0 + 5, "tracestate", named(3));
    assert_eq!(run(), [producer(1), producer(2)]);
    for number in 100..200 {
        send(T0 + number as i64, "traceparent", named(number));
    }
    let first: Vec<TraceContext> = (100..132).map(producer).collect();
    assert_eq!(run(), first);
}
