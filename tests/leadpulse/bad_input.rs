//! Malformed records among good ones: each record has one outcome, and the engine keeps going.

use std::collections::BTreeMap;

use apache_avro::types::Value as Avro;
use leadpulse_engine::ports::Output;
use leadpulse_engine::{HEADER_OFFSET, HEADER_PARTITION, HEADER_REASON, HEADER_TOPIC};
use leadpulse_kafka::{OwnedRecord, Producer};
use leadpulse_schema::units::DAY_MS;
use leadpulse_schema::{
    FolderRegistry, Operation, Position, RowBatch, RowEncoder, SCHEMA_HEADER, Value, encode_frame,
};
use serde_json::{Value as Json, json};
use toml::Value as Toml;

use super::checks::committed;
use super::dataset::{Dataset, accounts, alone};
use super::process::{PATIENCE, arg};
use super::scenario::{Scenario, Status, Summary};
use super::script::assert_script_gives_the_same;

const HOUR_MS: i64 = 3_600_000;
/// The newest moment of the test's history: 2025-06-01.
pub const NOW_MS: i64 = 1_748_736_000_000;

/// The outcome of a record.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Accepted,
    Duplicate,
    /// A dead letter of this reason.
    Dead(&'static str),
}

struct Sent {
    topic: String,
    offset: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    fate: Fate,
}

/// Produces to topics of one partition and keeps what was sent.
pub struct Producing<'a> {
    scenario: &'a Scenario,
    producer: Producer,
    next: BTreeMap<String, i64>,
    sent: Vec<Sent>,
}

impl<'a> Producing<'a> {
    pub fn new(scenario: &'a Scenario) -> Self {
        let producer = Producer::connect(&scenario.options, &scenario.metrics).unwrap();
        Self {
            scenario,
            producer,
            next: BTreeMap::new(),
            sent: Vec::new(),
        }
    }

    /// An account, and an event of each of three tables.
    pub fn good_rows_of_three_types(&mut self, at_ms: i64) {
        let account = [
            ("account_id", Value::Text("A1")),
            ("updated_at", Value::Time(at_ms)),
        ];
        self.row("accounts", at_ms, &account, Fate::Accepted);
        for (table, id, kind) in [
            ("activities", "activity_id", "type"),
            ("content_views", "view_id", "content_type"),
            ("product_usage", "usage_id", "kind"),
        ] {
            let fields = [
                (id, Value::Text("e")),
                (kind, Value::Text("other")),
                ("occurred_at", Value::Time(at_ms)),
                ("account_id", Value::Text("A1")),
            ];
            self.row(table, at_ms, &fields, Fate::Accepted);
        }
        self.producer.flush(PATIENCE).unwrap();
    }

    fn send_with(
        &mut self,
        table: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
        known_ms: i64,
        fate: Fate,
    ) {
        let topic = self.scenario.topic(table).to_owned();
        self.producer
            .send_with_headers(&topic, key, value, headers, known_ms)
            .unwrap();
        let next = self.next.entry(topic.clone()).or_default();
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.map(<[u8]>::to_vec)))
            .collect();
        self.sent.push(Sent {
            topic,
            offset: *next,
            key: key.map(Into::into),
            value: value.map(Into::into),
            headers,
            fate,
        });
        *next += 1;
    }

    fn send(&mut self, table: &str, key: &str, value: &[u8], known_ms: i64, fate: Fate) {
        self.send_with(
            table,
            Some(key.as_bytes()),
            Some(value),
            &[("trace", Some(b"\x00\xff")), ("none", None)],
            known_ms,
            fate,
        );
    }

    /// Sends a row that is known when it happened.
    fn row(&mut self, table: &str, at_ms: i64, fields: &[(&str, Value<'_>)], fate: Fate) {
        let value = framed(self.scenario, table, &row(self.scenario, table, fields));
        self.send(table, "row", &value, at_ms, fate);
    }

    /// An activity of an account, framed for the registry.
    fn activity(&self, id: &str, at_ms: i64) -> Vec<u8> {
        framed(
            self.scenario,
            "activities",
            &activity(self.scenario, id, at_ms),
        )
    }
}

/// A row in Avro.
pub fn row(scenario: &Scenario, table: &str, fields: &[(&str, Value<'_>)]) -> Vec<u8> {
    let table = scenario.catalog.table(table).unwrap();
    let mut rows = RowBatch::new();
    let mut row = rows.start(
        &scenario.catalog,
        table.id,
        Operation::Upsert,
        Position::default(),
        0,
    );
    for (name, value) in fields {
        row.set(table.field(name).unwrap().id, *value);
    }
    row.finish();
    let mut body = Vec::new();
    RowEncoder::new(&scenario.catalog)
        .encode(rows.row(0), &mut body)
        .unwrap();
    body
}

pub fn activity(scenario: &Scenario, id: &str, at_ms: i64) -> Vec<u8> {
    let fields = [
        ("activity_id", Value::Text(id)),
        ("type", Value::Text("meeting")),
        ("occurred_at", Value::Time(at_ms)),
        ("account_id", Value::Text("A1")),
    ];
    row(scenario, "activities", &fields)
}

fn id_of(scenario: &Scenario, table: &str) -> u32 {
    FolderRegistry::id_of(&scenario.catalog.table(table).unwrap().json).unwrap()
}

pub fn framed(scenario: &Scenario, table: &str, body: &[u8]) -> Vec<u8> {
    frame(id_of(scenario, table), body)
}

fn frame(id: u32, body: &[u8]) -> Vec<u8> {
    let mut value = Vec::new();
    encode_frame(id, body, &mut value);
    value
}

/// A schema by which another producer writes activities, and a record of it.
pub fn other_writer(fields: Json, record: &[(&str, Avro)]) -> (String, Vec<u8>) {
    let json = json!({ "type": "record", "name": "Activity", "namespace": "leadpulse.crm", "fields": fields }).to_string();
    let schema = apache_avro::Schema::parse_str(&json).unwrap();
    let mut body = Vec::new();
    let writer = apache_avro::writer::datum::GenericDatumWriter::builder(&schema)
        .build()
        .unwrap();
    writer
        .write_value(
            &mut body,
            Avro::Record(
                record
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), value.clone()))
                    .collect(),
            ),
        )
        .unwrap();
    (
        json.clone(),
        frame(FolderRegistry::id_of(&json).unwrap(), &body),
    )
}

/// The first half of the SHA-256 of a schema's canonical form, in the header's framing.
fn guid_header(json: &str) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let canonical = apache_avro::Schema::parse_str(json)
        .unwrap()
        .canonical_form();
    [&[1u8][..], &Sha256::digest(canonical)[..16]].concat()
}

/// A copy of a dataset's schemas, with an empty folder for those of other writers.
pub fn copied_schemas(dataset: &Dataset) -> tempfile::TempDir {
    let schemas = tempfile::tempdir().unwrap();
    let shipped = dataset.config["schemas"].as_str().unwrap();
    for entry in std::fs::read_dir(shipped)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_file())
    {
        std::fs::copy(entry.path(), schemas.path().join(entry.file_name())).unwrap();
    }
    std::fs::create_dir(schemas.path().join("versions")).unwrap();
    schemas
}

#[test]
fn every_record_has_its_outcome_once() {
    let _alone = alone();
    let [id, kind, account] =
        ["activity_id", "type", "account_id"].map(|name| json!({ "name": name, "type": "string" }));
    let named = |id: &str| {
        [("activity_id", id), ("type", "call"), ("account_id", "A1")]
            .map(|(name, text)| (name, Avro::from(text)))
    };
    let time = json!({ "name": "occurred_at", "type": { "type": "long", "logicalType": "timestamp-millis" } });
    let older = other_writer(
        json!([id, kind, account, time]),
        &[
            &named("older-writer")[..],
            &[("occurred_at", Avro::TimestampMillis(NOW_MS))],
        ]
        .concat(),
    );
    let wrong_type = other_writer(
        json!([id, kind, account, { "name": "occurred_at", "type": "boolean" }]),
        &[&named("x")[..], &[("occurred_at", Avro::Boolean(true))]].concat(),
    );
    let without_time = other_writer(json!([id, kind, account]), &named("x"));

    let dataset = accounts();
    // The folder of schemas, with those of the other writers beside ours.
    let schemas = copied_schemas(dataset);
    for (index, (json, _)) in [&older, &wrong_type, &without_time].into_iter().enumerate() {
        std::fs::write(
            schemas
                .path()
                .join(format!("versions/activities-{index}.avsc")),
            json,
        )
        .unwrap();
    }
    let mut config = dataset.config.clone();
    config.insert("schemas".into(), Toml::String(arg(schemas.path()).into()));
    let Some(scenario) = Scenario::with_config(dataset, "bad-input", config) else {
        return;
    };
    scenario.create_inputs(1);

    let mut producing = Producing::new(&scenario);
    for account in ["A1", "A2"] {
        let fields = [
            ("account_id", Value::Text(account)),
            ("updated_at", Value::Time(NOW_MS - 20 * DAY_MS)),
        ];
        producing.row("accounts", NOW_MS - 20 * DAY_MS, &fields, Fate::Accepted);
    }
    let good = |producing: &mut Producing<'_>, id: &str| {
        let value = producing.activity(id, NOW_MS);
        producing.send("activities", "A1", &value, NOW_MS, Fate::Accepted);
        value
    };
    let first = good(&mut producing, "first");
    producing.producer.flush(PATIENCE).unwrap();
    let summary = scenario.run_to_end();
    assert_eq!(
        (summary.accepted, summary.dead_lettered),
        (3, 0),
        "{summary:?}"
    );
    assert_eq!(status(&scenario, "A2"), (Status::Scored, None));

    let cut_off = &first[..first.len() - 3];
    let trailing = [&first[..], b"xyz"].concat();
    let no_account = framed(
        &scenario,
        "activities",
        &row(
            &scenario,
            "activities",
            &[
                ("activity_id", Value::Text("nobody's")),
                ("type", Value::Text("call")),
                ("occurred_at", Value::Time(NOW_MS)),
            ],
        ),
    );
    let no_key = producing.activity("", NOW_MS);
    let late = producing.activity("late", NOW_MS - 8 * DAY_MS);
    let future = producing.activity("future", NOW_MS + HOUR_MS);
    let unusable: [(&str, &[u8], Fate); 13] = [
        ("zero bytes", b"", Fate::Dead("wire_format")),
        (
            "wrong magic",
            b"{\"activity_id\":\"json\"}",
            Fate::Dead("wire_format"),
        ),
        ("ends within the id", &first[..4], Fate::Dead("wire_format")),
        (
            "unknown schema",
            &frame(7, &first[5..]),
            Fate::Dead("unknown_schema"),
        ),
        ("truncated", cut_off, Fate::Dead("avro_decode")),
        ("trailing bytes", &trailing, Fate::Dead("avro_decode")),
        ("wrong type", &wrong_type.1, Fate::Dead("avro_decode")),
        (
            "missing required field",
            &without_time.1,
            Fate::Dead("avro_decode"),
        ),
        ("empty key", &no_key, Fate::Dead("validation")),
        ("no owner", &no_account, Fate::Dead("validation")),
        ("future", &future, Fate::Dead("future_timestamp")),
        ("too late", &late, Fate::Dead("late_beyond_horizon")),
        ("again", &first, Fate::Duplicate),
    ];
    for (name, value, fate) in unusable {
        producing.send("activities", name, value, NOW_MS, fate);
        good(&mut producing, &format!("after {name}"));
    }
    producing.send("activities", "A1", &older.1, NOW_MS, Fate::Accepted);
    let body = activity(&scenario, "with a header", NOW_MS);
    let guid = guid_header(&scenario.catalog.table("activities").unwrap().json);
    producing.send_with(
        "activities",
        None,
        Some(&body),
        &[(SCHEMA_HEADER, Some(&guid))],
        NOW_MS,
        Fate::Accepted,
    );
    producing.send_with(
        "activities",
        None,
        Some(&body),
        &[(SCHEMA_HEADER, Some(&guid[..9]))],
        NOW_MS,
        Fate::Dead("wire_format"),
    );
    producing.send_with(
        "activities",
        Some(b"first"),
        None,
        &[],
        NOW_MS,
        Fate::Dead("tombstone_of_event"),
    );
    producing.send_with(
        "accounts",
        None,
        None,
        &[],
        NOW_MS,
        Fate::Dead("validation"),
    );
    producing.send_with("accounts", Some(b"A2"), None, &[], NOW_MS, Fate::Accepted);
    good(&mut producing, "last");
    producing.producer.flush(PATIENCE).unwrap();
    let sent = producing.sent;

    let summary = scenario.run_to_end();
    let of_fate =
        |fate: fn(&Fate) -> bool| sent.iter().filter(|record| fate(&record.fate)).count() as i64;
    let dead = of_fate(|fate| matches!(fate, Fate::Dead(_)));
    let (accepted, duplicate) = (
        of_fate(|fate| *fate == Fate::Accepted) - 3,
        of_fate(|fate| *fate == Fate::Duplicate),
    );
    assert_eq!(
        (summary.accepted, summary.duplicate, summary.dead_lettered),
        (accepted, duplicate, dead),
        "{summary:?}"
    );

    let letters = scenario.committed(Output::DeadLetters);
    are_the_dead_of(&letters, &sent);
    are_judged_alike(&scenario, scenario.topic("activities"), &sent);
    let found = committed(&scenario);
    assert_eq!(
        found
            .epochs
            .iter()
            .map(|e| (e.late, e.future))
            .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
        (1, 1)
    );
    assert_eq!(status(&scenario, "A1"), (Status::Scored, None));
    assert_eq!(
        status(&scenario, "A2"),
        (Status::Ineligible, Some("deleted".into()))
    );
    assert_script_gives_the_same(&scenario, &found.epochs);
    let nothing = Summary {
        replayed: found.epochs.len() as i64,
        epochs: 0,
        records: 0,
        accepted: 0,
        duplicate: 0,
        dead_lettered: 0,
        unchanged: 0,
        scores: 0,
        alerts: 0,
    };
    assert_eq!(scenario.run_to_end(), nothing);
    assert!(scenario.committed(Output::DeadLetters) == letters);
}

/// Status and reason of an account's newest record.
fn status(scenario: &Scenario, account: &str) -> (Status, Option<String>) {
    let newest = scenario
        .scores()
        .into_iter()
        .rfind(|score| score.entity_id == account)
        .unwrap();
    (newest.status, newest.reason)
}

/// Requires of a dry run of a topic that each record has the fate that it had in the run.
fn are_judged_alike(scenario: &Scenario, topic: &str, sent: &[Sent]) {
    let judge = |more: &[&str]| {
        let arguments = [&["--topic", topic, "--json"], more].concat();
        scenario.start("validate", &arguments).wait()
    };
    let ended = judge(&["--last", "1000"]).failed(1, &["records cannot be used"]);
    let mut lines = ended.out.lines().map(|line| {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|_| panic!("{line}"))
    });
    let mut refused = 0;
    for record in sent.iter().filter(|record| record.topic == topic) {
        let verdict = lines.next().unwrap();
        let place = format!("{topic}/0@{}", record.offset);
        let (outcome, is_refused) = match record.fate {
            Fate::Accepted => ("accepted", false),
            Fate::Duplicate => ("duplicate", false),
            // A late or future row is a row; its outcome has the name that the graph gives it.
            Fate::Dead("late_beyond_horizon") => ("late", true),
            Fate::Dead("future_timestamp") => ("future", true),
            Fate::Dead(reason) => (reason, true),
        };
        refused += i32::from(is_refused);
        assert_eq!(verdict["place"], place);
        assert_eq!(verdict["outcome"], outcome, "{verdict}");
        assert_eq!(verdict["is_refused"], is_refused, "{verdict}");
        assert!(!verdict["why"].as_str().unwrap().is_empty(), "{verdict}");
    }
    let summary = &lines.next().unwrap()["summary"];
    assert_eq!(summary["refused"], refused);
    let last = judge(&["--last", "3"]);
    assert_eq!(last.out.lines().count(), 4, "three records and the summary");
}

/// Requires one dead letter for each refused record: bytes and headers unchanged, reason and place
/// in our headers.
fn are_the_dead_of(letters: &[OwnedRecord], sent: &[Sent]) {
    let text = |letter: &OwnedRecord, header: &str| {
        String::from_utf8(letter.header(header).unwrap().to_vec()).unwrap()
    };
    let place = |letter: &OwnedRecord| {
        (
            text(letter, HEADER_TOPIC),
            text(letter, HEADER_OFFSET).parse::<i64>().unwrap(),
        )
    };
    let mut by_place = BTreeMap::new();
    for letter in letters {
        assert_eq!(text(letter, HEADER_PARTITION), "0");
        assert!(
            by_place.insert(place(letter), letter).is_none(),
            "{:?} twice",
            place(letter)
        );
    }
    for record in sent {
        let letter = by_place.remove(&(record.topic.clone(), record.offset));
        let Fate::Dead(reason) = record.fate else {
            assert!(
                letter.is_none(),
                "{:?} at {}: {:?}",
                record.fate,
                record.offset,
                letter.map(|l| text(l, HEADER_REASON))
            );
            continue;
        };
        let letter = letter.unwrap_or_else(|| {
            panic!(
                "{reason} at {} of {} has no letter",
                record.offset, record.topic
            )
        });
        assert_eq!(text(letter, HEADER_REASON), reason, "at {}", record.offset);
        assert_eq!(
            (&letter.key, &letter.value),
            (&record.key, &record.value),
            "{reason}"
        );
        assert_eq!(
            letter.headers[..record.headers.len()],
            record.headers[..],
            "{reason}"
        );
    }
    assert!(
        by_place.is_empty(),
        "letters of nothing: {:?}",
        by_place.keys()
    );
}
