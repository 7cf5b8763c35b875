//! `leadpulse dlq`: dead letters are listed, shown and sent again, each at most once.

use apache_avro::types::Value as Avro;
use leadpulse_engine::ports::Output;
use leadpulse_engine::{HEADER_REPLAY_FIRST, HEADER_REPLAY_LETTER};
use leadpulse_kafka::{OwnedRecord, Producer};
use leadpulse_schema::Value;
use serde_json::{Value as Json, json};
use toml::Value as Toml;

use super::bad_input::{NOW_MS, activity, copied_schemas, framed, other_writer, row};
use super::dataset::{accounts, alone};
use super::process::{Ended, PATIENCE, Process, arg};
use super::scenario::Scenario;

/// Runs `leadpulse dlq …`.
fn dlq(scenario: &Scenario, args: &[&str]) -> Ended {
    let (subcommand, rest) = args.split_first().unwrap();
    scenario.start_under("dlq", subcommand, rest).wait()
}

/// The JSON lines of a list: the letters, then the counts.
fn listed(scenario: &Scenario, args: &[&str]) -> (Vec<Json>, Json) {
    let ended = dlq(scenario, &[&["list", "--json"], args].concat()).done();
    let lines = ended
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let mut lines: Vec<Json> = lines.collect();
    let summary = lines.pop().unwrap()["summary"].clone();
    (lines, summary)
}

/// The number behind a word of the output.
fn number(ended: &Ended, word: &str) -> u64 {
    let line = ended.line(word);
    let digits = line.split_whitespace().find_map(|part| part.parse().ok());
    digits.unwrap_or_else(|| panic!("{line}"))
}

/// The records of the activities' topic that a replay sent.
fn replayed(scenario: &Scenario) -> Vec<OwnedRecord> {
    let mut records = scenario.read_topic(scenario.topic("activities"));
    records.retain(|record| record.header(HEADER_REPLAY_LETTER).is_some());
    records
}

/// Activities by a writer whose schema is registered nowhere yet: the schema, and a record per id.
fn of_a_new_writer(ids: &[&str]) -> (String, Vec<Vec<u8>>) {
    let [id, kind, account] =
        ["activity_id", "type", "account_id"].map(|name| json!({ "name": name, "type": "string" }));
    let time = json!({ "name": "occurred_at", "type": { "type": "long", "logicalType": "timestamp-millis" } });
    let fields = json!([id, kind, account, time]);
    let (mut schema, mut records) = (String::new(), Vec::new());
    for id in ids {
        let record = [
            ("activity_id", Avro::from(*id)),
            ("type", Avro::from("call")),
            ("account_id", Avro::from("A1")),
            ("occurred_at", Avro::TimestampMillis(NOW_MS)),
        ];
        let (json, framed) = other_writer(fields.clone(), &record);
        schema = json;
        records.push(framed);
    }
    (schema, records)
}

/// Sends an account, an activity, those of the new writer and one that nothing mends.
fn send(scenario: &Scenario, of_new_writer: &[Vec<u8>]) {
    let mut producer = Producer::connect(&scenario.options, &scenario.metrics).unwrap();
    let account = [
        ("account_id", Value::Text("A1")),
        ("updated_at", Value::Time(NOW_MS)),
    ];
    let account = framed(scenario, "accounts", &row(scenario, "accounts", &account));
    let topic = scenario.topic("accounts");
    producer
        .send(topic, Some(b"A1"), Some(&account), NOW_MS)
        .unwrap();
    let good = framed(scenario, "activities", &activity(scenario, "good", NOW_MS));
    let broken = [&good[..], b"trailing"].concat();
    let topic = scenario.topic("activities");
    let headers = [("trace", Some(&b"\x00\xff"[..])), ("none", None)];
    for value in [&good, &broken].into_iter().chain(of_new_writer) {
        producer
            .send_with_headers(topic, Some(b"A1"), Some(value), &headers, NOW_MS)
            .unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

#[test]
fn letters_are_sent_again_once_and_taken_once_their_schema_is_there() {
    let _alone = alone();
    let dataset = accounts();
    let schemas = copied_schemas(dataset);
    let mut config = dataset.config.clone();
    let folder = Toml::String(arg(schemas.path()).into());
    config.insert("schemas".into(), folder);
    let Some(scenario) = Scenario::with_config(dataset, "dead-letters", config) else {
        return;
    };
    scenario.create_inputs(1);
    let (schema, records) = of_a_new_writer(&["one", "two", "three"]);
    send(&scenario, &records);
    let summary = scenario.run_to_end();
    assert_eq!((summary.accepted, summary.dead_lettered), (2, 4));

    let (letters, counts) = listed(&scenario, &[]);
    assert_eq!(counts["letters"], 4);
    assert_eq!(
        counts["by_reason"],
        json!({ "unknown_schema": 3, "avro_decode": 1 })
    );
    assert!(letters.iter().all(|letter| letter["replayed"] == false));
    let (letters, counts) = listed(
        &scenario,
        &["--reason", "avro_decode", "--table", "activities"],
    );
    assert_eq!((letters.len(), &counts["letters"]), (1, &json!(1)));
    let broken = letters[0]["letter"].as_str().unwrap();
    let (letters, counts) = listed(&scenario, &["--reason", "unknown_schema", "--limit", "2"]);
    assert_eq!((letters.len(), &counts["letters"]), (2, &json!(3)));
    let unknown = letters[0]["letter"].as_str().unwrap();
    let (_, counts) = listed(&scenario, &["--since", "2025-06-02"]);
    assert_eq!(counts["letters"], 0, "letters lie before");
    dlq(&scenario, &["list", "--table", "nobody"]).failed(1, &["nobody", "activities"]);
    dlq(&scenario, &["list", "--reason", "bad"]).failed(2, &["avro_decode"]);

    // Nothing is mended yet: no record would be taken, and a replay of everything is asked for twice.
    dlq(&scenario, &["replay"]).failed(1, &["--all"]);
    let tried = dlq(&scenario, &["replay", "--all", "--dry-run"]).done();
    assert_eq!(
        (number(&tried, "to send"), number(&tried, "accepted")),
        (4, 0)
    );
    let shown = dlq(&scenario, &["show", unknown]).done();
    assert!(
        shown.line("now").contains("refused: unknown_schema"),
        "{}",
        shown.out
    );
    dlq(&scenario, &["show", "0:100000"]).failed(1, &["dlq list"]);

    std::fs::write(schemas.path().join("versions/new.avsc"), schema).unwrap();
    let tried = dlq(&scenario, &["replay", "--all", "--dry-run"]).done();
    assert_eq!(
        (number(&tried, "to send"), number(&tried, "accepted")),
        (4, 3)
    );
    let shown = dlq(&scenario, &["show", unknown]).done();
    assert!(shown.line("now").contains("accepted"), "{}", shown.out);
    let shown = dlq(&scenario, &["show", broken]).done();
    assert!(
        shown.line("now").contains("refused: avro_decode"),
        "{}",
        shown.out
    );
    assert_eq!(replayed(&scenario), [], "nothing was sent so far");

    // Two replays at once: each may end the other's transaction, and no record is sent twice.
    let slow = ["replay", "--all", "--rate", "2"];
    let both = [(), ()].map(|()| scenario.start_under("dlq", slow[0], &slow[1..]));
    let _ended: [Ended; 2] = both.map(Process::wait);
    let rest = dlq(&scenario, &["replay", "--all"]).done();
    let sent = replayed(&scenario);
    assert_eq!(sent.len(), 4, "{}", rest.out);
    let original = scenario.read_topic(scenario.topic("activities"));
    for (again, first) in sent.iter().zip(&original[1..]) {
        assert_eq!(
            (&again.key, &again.value, again.timestamp_ms),
            (&first.key, &first.value, first.timestamp_ms)
        );
        assert_eq!(again.headers[..2], first.headers[..]);
    }
    let (letters, counts) = listed(&scenario, &[]);
    assert!(letters.iter().all(|letter| letter["replayed"] == true));
    assert_eq!(counts["replayed"], 4);

    // Three are taken, once; the fourth is refused again, and its letter names the first.
    let summary = scenario.run_to_end();
    assert_eq!(
        (summary.accepted, summary.duplicate, summary.dead_lettered),
        (3, 0, 1),
        "{summary:?}"
    );
    let (letters, _) = listed(&scenario, &[]);
    assert_eq!(letters.len(), 5);
    assert_eq!(letters[4]["first_letter"], broken);
    let second = scenario.committed(Output::DeadLetters).pop().unwrap();
    assert_eq!(second.header(HEADER_REPLAY_FIRST), Some(broken.as_bytes()));

    // Again: nothing. Only a word more sends what was refused again.
    let nothing = dlq(&scenario, &["replay", "--all"]).done();
    assert_eq!(
        (number(&nothing, "to send"), number(&nothing, "sent  ")),
        (0, 0)
    );
    assert!(nothing.line("refused again").contains('1'));
    assert_eq!(replayed(&scenario).len(), 4);
    let again = dlq(&scenario, &["replay", "--all", "--again"]).done();
    assert_eq!(number(&again, "sent  "), 1);
    let summary = scenario.run_to_end();
    assert_eq!((summary.accepted, summary.dead_lettered), (0, 1));
}
