//! `leadpulse erase`: after the proof no byte of the person is in the folder of the state, in a
//! snapshot, or the newest record of a compacted topic.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use leadpulse_engine::ports::Output;
use leadpulse_kafka::Producer;
use leadpulse_schema::Value;

use super::bad_input::{NOW_MS, framed, row};
use super::dataset::{alone, contacts};
use super::process::{PATIENCE, arg};
use super::scenario::Scenario;

const KEY: &str = "zq-victim";
const EMAIL: &str = "vic@zqvictims.example";
const TRACES: [&[u8]; 4] = [b"zq-victim", b"zq-turn", b"zqtimsen", b"zqvictims"];

fn holds(bytes: &[u8]) -> bool {
    let holds = |trace: &&[u8]| bytes.windows(trace.len()).any(|part| part == *trace);
    TRACES.iter().any(holds)
}

/// A file below a folder that contains bytes of the person.
fn file_with_trace(dir: &Path) -> Option<String> {
    // Files of a running database come and go.
    let entries = std::fs::read_dir(dir).ok()?.flatten();
    entries.map(|entry| entry.path()).find_map(|path| {
        if path.is_dir() {
            return file_with_trace(&path);
        }
        let content = std::fs::read(&path).unwrap_or_default();
        holds(&content).then(|| path.display().to_string())
    })
}

/// A row as table, key and fields.
type SentRow<'a> = (&'a str, &'a str, &'a [(&'a str, Value<'a>)]);

fn send(scenario: &Scenario, rows: &[SentRow<'_>], at_ms: i64) {
    let mut producer = Producer::connect(&scenario.options, &scenario.metrics).unwrap();
    for (table, key, fields) in rows {
        let value = framed(scenario, table, &row(scenario, table, fields));
        let topic = scenario.topic(table);
        producer
            .send(topic, Some(key.as_bytes()), Some(&value), at_ms)
            .unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

fn send_account(scenario: &Scenario, at_ms: i64) {
    let account = [
        ("account_id", Value::Text("A1")),
        ("updated_at", Value::Time(at_ms)),
    ];
    send(scenario, &[("accounts", "A1", &account)], at_ms);
}

fn send_person(scenario: &Scenario, turn: i64, at_ms: i64) {
    let contact = [
        ("contact_id", Value::Text(KEY)),
        ("updated_at", Value::Time(at_ms)),
        ("account_id", Value::Text("A1")),
        ("name", Value::Text("Vic zqtimsen")),
        ("email", Value::Text(EMAIL)),
    ];
    send(scenario, &[("contacts", KEY, &contact)], at_ms);
    for number in 0..5 {
        let id = format!("zq-turn-{turn}-{number}");
        let fields = [
            ("activity_id", Value::Text(id.as_str())),
            ("type", Value::Text("call")),
            ("occurred_at", Value::Time(at_ms + number)),
            ("contact_id", Value::Text(KEY)),
            ("account_id", Value::Text("A1")),
        ];
        send(scenario, &[("activities", KEY, &fields)], at_ms + number);
    }
}

/// The newest values of the compacted outputs, by output and key.
fn current(scenario: &Scenario) -> BTreeMap<(u8, Vec<u8>), Vec<u8>> {
    let mut newest = BTreeMap::new();
    for output in [
        Output::CurrentScores,
        Output::PolicyState,
        Output::WorkLists,
    ] {
        for record in scenario.committed(output) {
            let key = (output as u8, record.key.unwrap_or_default());
            match record.value {
                Some(value) => newest.insert(key, value),
                None => newest.remove(&key),
            };
        }
    }
    newest
}

fn assert_gone(scenario: &Scenario, folder: &Path) {
    assert_eq!(file_with_trace(folder), None);
    for ((output, key), value) in current(scenario) {
        let key = String::from_utf8_lossy(&key);
        assert!(!holds(key.as_bytes()) && !holds(&value), "{output} {key}");
    }
}

/// Lines of a log that warn of hashes without a secret.
fn warnings_of_secret(log: &str) -> Vec<&str> {
    let lines = log.lines().filter(|line| line.contains("WARN"));
    lines
        .filter(|line| line.contains("erasure.secret"))
        .collect()
}

#[test]
fn an_erased_person_is_in_no_folder_snapshot_or_current_topic() {
    let _alone = alone();
    let Some(mut scenario) = Scenario::new(contacts(), "erasure") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (state, other) = (dir.path().join("state"), dir.path().join("other"));
    let snapshots = dir.path().join("snapshots");
    scenario.set("STORE__DIR", arg(&state));
    scenario.set("ENGINE__CLOCK", "events");
    scenario.create_inputs(1);
    send_account(&scenario, NOW_MS);
    send_person(&scenario, 0, NOW_MS);
    let log = scenario.run(&["--until-end"]).wait().done().err;
    assert!(
        warnings_of_secret(&log).is_empty(),
        "nothing is erased yet: {log}"
    );
    assert!(log.contains("no erasure.secret is set"), "{log}");
    assert!(file_with_trace(&state).is_some());
    assert!(current(&scenario).values().any(|value| holds(value)));

    let by = ["--by", "a test", "--id", "r1"];
    let subject = ["--table", "contacts", "--key", KEY, "--email", EMAIL];
    let asked = scenario.start_under("erase", "request", &[&subject[..], &by[..]].concat());
    asked.wait().done();
    let log = scenario.run(&["--until-end"]).wait().done().err;
    assert_eq!(warnings_of_secret(&log).len(), 1, "{log}");
    assert_gone(&scenario, &state);
    let proofs = scenario.start_under("erase", "proofs", &["--json"]).wait();
    let proofs = proofs.done().out;
    assert!(
        proofs.contains("r1") && !holds(proofs.as_bytes()),
        "{proofs}"
    );
    assert!(proofs.contains(scenario.topic("contacts")), "{proofs}");

    // Rows of the person come again, while snapshots are made.
    send_person(&scenario, 0, NOW_MS);
    send_person(&scenario, 1, NOW_MS + 60_000);
    scenario.set("STORE__SNAPSHOTS__TO", arg(&snapshots));
    scenario.set("STORE__SNAPSHOTS__EVERY", "1s");
    let mut process = scenario.run(&[]);
    let started = Instant::now();
    let is_made =
        |dir: &Path| std::fs::read_dir(dir.join("snapshots")).is_ok_and(|mut d| d.next().is_some());
    let mut turn = 0;
    while !is_made(&snapshots) {
        turn += 1;
        send_account(&scenario, NOW_MS + 120_000 + turn);
        assert!(process.runs_on(), "{}", process.last_lines(5));
        assert!(started.elapsed() < PATIENCE, "no snapshot");
    }
    process.stop().done();
    assert_gone(&scenario, &state);
    // Another machine starts from the snapshot.
    scenario.set("STORE__DIR", arg(&other));
    scenario.run_to_end();
    assert!(other.join("keyspaces").is_dir());
    assert_gone(&scenario, &other);
    let refused = scenario
        .epochs()
        .into_iter()
        .flat_map(|epoch| epoch.unchanged);
    let refused = refused.filter(|one| one.reason == "erased");
    assert_eq!(refused.map(|one| one.count).sum::<i64>(), 12);
}
