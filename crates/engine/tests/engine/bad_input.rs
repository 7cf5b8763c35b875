//! C4: a record that cannot be used becomes a dead letter, once and unchanged; the engine keeps going. A registry that is away pauses.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use leadpulse_engine::ports::Output;
use leadpulse_engine::read_model::ReadModel;
use leadpulse_engine::{
    EpochRecord, HEADER_OFFSET, HEADER_PARTITION, HEADER_REASON, HEADER_STAGE, HEADER_TIMESTAMP,
    HEADER_TOPIC, ReasonCount, Until,
};
use leadpulse_graph::DAY_MS;
use leadpulse_schema::{FolderRegistry, SCHEMA_HEADER, encode_frame};
use sha2::{Digest, Sha256};

use super::broker::{Message, Reading};
use super::rig::Put::{Text, Time};
use super::rig::{Filter, Life, POLICY, Put, Rig, TaskSpec};
use super::scorer::by_name;

const T0: i64 = 1_700_000_000_000;

fn rig() -> Rig {
    Rig::new(
        &[TaskSpec {
            name: "buys_90d",
            table: "accounts",
            policy: POLICY,
            filter: Filter::Everyone,
        }],
        by_name,
    )
}

fn activity<'a>(id: &'a str, at_ms: i64) -> [(&'a str, Put<'a>); 4] {
    [
        ("activity_id", Text(id)),
        ("type", Text("meeting")),
        ("occurred_at", Time(at_ms)),
        ("account_id", Text("A1")),
    ]
}

/// Avro's form of a whole number.
fn long(n: i64) -> Vec<u8> {
    let mut rest = ((n << 1) ^ (n >> 63)) as u64;
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// A record, and what should become of it: `Ok` is accepted.
struct Case {
    name: &'static str,
    table: &'static str,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    header: Option<Vec<u8>>,
    expected: Result<(), &'static str>,
}

fn cases(rig: &Rig) -> Vec<Case> {
    let good = rig.encode("activities", &activity("good", T0));
    let account = rig.encode(
        "accounts",
        &[("account_id", Text("A2")), ("updated_at", Time(T0))],
    );
    let framed = |id: u32, body: &[u8]| {
        let mut framed = Vec::new();
        encode_frame(id, body, &mut framed);
        framed
    };
    // A writer that knows only some of the fields: one whose records can be rows, and one whose never can.
    let writer = |fields: &str| {
        format!(
            r#"{{"type":"record","name":"Activity","namespace":"leadpulse.crm","fields":[{fields}]}}"#
        )
    };
    let string = |name: &str| format!(r#"{{"name":"{name}","type":"string"}}"#);
    let time = r#"{"name":"occurred_at","type":{"type":"long","logicalType":"timestamp-millis"}}"#;
    rig.schemas.register(
        9001,
        &writer(
            &[
                &string("activity_id"),
                &string("type"),
                time,
                &string("account_id"),
            ]
            .map(|s| s.to_owned())
            .join(","),
        ),
    );
    rig.schemas.register(
        9002,
        &writer(
            &[&string("activity_id"), time, &string("account_id")]
                .map(|s| s.to_owned())
                .join(","),
        ),
    );
    rig.schemas.register(
        9003,
        &writer(
            &[
                &string("activity_id"),
                &string("type"),
                &string("occurred_at"),
            ]
            .map(|s| s.to_owned())
            .join(","),
        ),
    );
    rig.schemas.register(9004, "no schema");
    let minimal = [&b"\x02z\x0emeeting"[..], &long(T0), b"\x04A1"].concat();
    let guid = {
        let json = &rig.catalog.table("activities").unwrap().json;
        let canonical = apache_avro::Schema::parse_str(json)
            .unwrap()
            .canonical_form();
        [&[1], &Sha256::digest(canonical)[..16]].concat()
    };
    let value = |name, value: Vec<u8>, expected| Case {
        name,
        table: "activities",
        key: None,
        value: Some(value),
        header: None,
        expected,
    };
    let tombstone = |name, table, key: Option<&[u8]>, expected| Case {
        name,
        table,
        key: key.map(Into::into),
        value: None,
        header: None,
        expected,
    };
    let with_header = |name, header: Vec<u8>, expected| Case {
        name,
        table: "activities",
        key: None,
        value: Some(rig.encode("activities", &activity(name, T0))[5..].to_vec()),
        header: Some(header),
        expected,
    };
    vec![
        value("a good event", good.clone(), Ok(())),
        value("zero bytes", vec![], Err("wire_format")),
        value(
            "wrong magic",
            [b"\x07", &good[1..]].concat(),
            Err("wire_format"),
        ),
        value(
            "JSON",
            br#"{"activity_id":"x"}"#.to_vec(),
            Err("wire_format"),
        ),
        value("ends within the id", good[..4].to_vec(), Err("wire_format")),
        value(
            "unknown schema id",
            framed(77, &good[5..]),
            Err("unknown_schema"),
        ),
        value("no body", good[..5].to_vec(), Err("avro_decode")),
        value(
            "truncated body",
            good[..good.len() - 1].to_vec(),
            Err("avro_decode"),
        ),
        value(
            "trailing bytes",
            [&good[..], b"\0"].concat(),
            Err("avro_decode"),
        ),
        value("a record of another table", account, Err("avro_decode")),
        value(
            "an output record's schema",
            framed(FolderRegistry::id_of(SCORE).unwrap(), b"x"),
            Err("avro_decode"),
        ),
        value(
            "a schema that is none",
            framed(9004, b"x"),
            Err("avro_decode"),
        ),
        value("the same again", framed(9004, b"y"), Err("avro_decode")),
        value("an older writer", framed(9001, &minimal), Ok(())),
        value(
            "a writer without a required field",
            framed(9002, b"\x02z\x00\x04A1"),
            Err("avro_decode"),
        ),
        value(
            "a writer with another type",
            framed(9003, b"\x02z\x02m\x02t"),
            Err("avro_decode"),
        ),
        value(
            "a length of 2^62",
            framed(9001, b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"),
            Err("avro_decode"),
        ),
        value(
            "no id",
            rig.encode("activities", &activity("", T0)),
            Err("validation"),
        ),
        value(
            "no owner",
            rig.encode("activities", &activity("orphan", T0)[..3]),
            Err("validation"),
        ),
        value(
            "future",
            rig.encode("activities", &activity("future", T0 + 301_000)),
            Err("future_timestamp"),
        ),
        value(
            "just not future",
            rig.encode("activities", &activity("soon", T0 + 300_000)),
            Ok(()),
        ),
        value(
            "too late",
            rig.encode("activities", &activity("late", T0 - 8 * DAY_MS)),
            Err("late_beyond_horizon"),
        ),
        value(
            "just not too late",
            rig.encode("activities", &activity("old", T0 - 6 * DAY_MS)),
            Ok(()),
        ),
        tombstone(
            "tombstone of an event",
            "activities",
            Some(b"good"),
            Err("tombstone_of_event"),
        ),
        tombstone("tombstone of an account", "accounts", Some(b"A2"), Ok(())),
        tombstone("tombstone of nobody", "accounts", Some(b"nobody"), Ok(())),
        tombstone(
            "tombstone without a key",
            "accounts",
            None,
            Err("validation"),
        ),
        tombstone(
            "tombstone with an empty key",
            "accounts",
            Some(b""),
            Err("validation"),
        ),
        tombstone(
            "tombstone of a key that is no text",
            "accounts",
            Some(b"\xff\xfe"),
            Err("validation"),
        ),
        with_header("a schema GUID in the header", guid.clone(), Ok(())),
        with_header(
            "an unknown GUID",
            [&[1][..], &[7; 16]].concat(),
            Err("unknown_schema"),
        ),
        with_header("half a GUID", guid[..9].to_vec(), Err("wire_format")),
    ]
}

const SCORE: &str = include_str!("../../../../schemas/outputs/score.avsc");

#[test]
fn each_bad_record_has_its_outcome_and_the_rest_goes_on() {
    let rig = rig();
    // The accounts' records, too, are not held up by what lies between them.
    let account = |key: &str, at_ms: i64| {
        rig.send(
            "accounts",
            at_ms,
            &[("account_id", Text(key)), ("updated_at", Time(at_ms))],
        );
    };
    account("A1", T0);
    account("A2", T0);
    let mut expected = Vec::new();
    for case in cases(&rig) {
        let partition = rig.partition_of(case.table);
        let mut headers = vec![
            ("trace".to_owned(), Some(b"\xff\x00".to_vec())),
            ("none".to_owned(), None),
        ];
        headers.extend(
            case.header
                .map(|header| (SCHEMA_HEADER.to_owned(), Some(header))),
        );
        let message = Message {
            offset: 0,
            timestamp_ms: T0,
            key: case.key,
            value: case.value,
            headers,
        };
        let offset = rig.broker.append(partition, message);
        expected.push((case.name, partition, offset, case.expected));
        account("A1", T0);
    }
    for reading in [
        Reading::default(),
        Reading {
            most: 2,
            empty_ratio: 0.3,
            seed: 5,
            ..Reading::default()
        },
    ] {
        rig.broker.lock().epochs.clear();
        let summary = rig
            .run(
                Until::End,
                Life {
                    reading,
                    ..Life::default()
                },
            )
            .unwrap();
        rig.check_committed();
        let epochs = rig.broker.lock().epochs.clone();
        let partitions = rig.broker.lock().partitions.clone();
        let letters: Vec<_> = epochs
            .iter()
            .flat_map(|e| &e.outputs)
            .filter(|r| r.output == Output::DeadLetters)
            .collect();
        for (name, partition, offset, expected) in &expected {
            let header = |letter: &leadpulse_engine::ports::OutputRecord, name: &str| {
                letter
                    .headers
                    .iter()
                    .rfind(|(n, _)| n == name)
                    .map(|(_, value)| String::from_utf8(value.clone().unwrap()).unwrap())
            };
            let position = |letter: &&&leadpulse_engine::ports::OutputRecord| {
                header(letter, HEADER_TOPIC).as_deref()
                    == Some(partitions[*partition].topic.as_str())
                    && header(letter, HEADER_PARTITION)
                        == Some(partitions[*partition].partition.to_string())
                    && header(letter, HEADER_OFFSET) == Some(offset.to_string())
            };
            let found = letters.iter().find(position);
            assert_eq!(
                found.map(|letter| header(letter, HEADER_REASON).unwrap()),
                expected.err().map(str::to_owned),
                "{name}"
            );
            if let Some(letter) = found {
                let originals = [
                    ("trace".to_owned(), Some(b"\xff\x00".to_vec())),
                    ("none".to_owned(), None),
                ];
                assert_eq!(
                    letter.headers[..2],
                    originals,
                    "{name}: the original's headers come first"
                );
                assert!(
                    header(letter, HEADER_STAGE).is_some()
                        && header(letter, HEADER_TIMESTAMP).is_some()
                );
            }
        }
        let bad = expected
            .iter()
            .filter(|(.., outcome)| outcome.is_err())
            .count();
        let good = expected.len() - bad;
        assert_eq!(
            (
                summary.dead_lettered as usize,
                summary.accepted as usize,
                summary.duplicate,
                summary.unchanged
            ),
            (bad, good - 1 + expected.len() + 2, 0, 1),
            "the tombstone of nobody finds nothing"
        );
        assert!(
            rig.standings()
                .contains_key(&("buys_90d".into(), "A1".into()))
        );
        assert!(
            !rig.standings()
                .contains_key(&("buys_90d".into(), "A2".into())),
            "its tombstone came last"
        );
    }
}

#[test]
fn while_the_registry_is_away_the_engine_waits_and_says_so() {
    let rig = rig();
    rig.send(
        "accounts",
        T0,
        &[("account_id", Text("A1")), ("updated_at", Time(T0))],
    );
    rig.send("activities", T0, &activity("x", T0));
    rig.schemas.down.store(4, Ordering::SeqCst);
    let model = Arc::new(ReadModel::new());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (watched, into) = (model.clone(), seen.clone());
    *rig.schemas.on_down.lock().unwrap() = Some(Box::new(move || {
        into.lock()
            .unwrap()
            .push((watched.beats(), watched.conditions()))
    }));
    let summary = rig
        .run(
            Until::End,
            Life {
                read_model: model.clone(),
                ..Life::default()
            },
        )
        .unwrap();
    assert_eq!((summary.accepted, summary.dead_lettered), (2, 0));
    let seen = seen.lock().unwrap().clone();
    // Two partitions ask, once when they are read and again while they wait.
    let [(first, before), _, _, (last, while_waiting)] = &seen[..] else {
        panic!("asked four times in vain: {seen:?}")
    };
    assert!(last > first, "the loop beats while it waits");
    assert_eq!(*before, []);
    let [condition] = &while_waiting[..] else {
        panic!("{while_waiting:?}")
    };
    assert!(
        condition
            .text
            .contains("http://registry: connection refused")
            && !condition.blocks,
        "{condition:?}"
    );
    assert!(
        condition.text.contains("1 more partitions"),
        "{condition:?}"
    );
    assert_eq!(model.conditions(), [], "it is over");
    rig.check_committed();
}

#[test]
fn waiting_for_the_registry_can_be_stopped() {
    let rig = rig();
    rig.send(
        "accounts",
        T0,
        &[("account_id", Text("A1")), ("updated_at", Time(T0))],
    );
    rig.schemas.down.store(u32::MAX, Ordering::SeqCst);
    let life = Life::default();
    let stop = life.stop.clone();
    *rig.schemas.on_down.lock().unwrap() =
        Some(Box::new(move || stop.store(true, Ordering::SeqCst)));
    assert_eq!(rig.run(Until::End, life).unwrap().epochs, 0);
    assert!(rig.script().is_empty());
}

#[test]
fn a_time_at_the_end_of_the_world_stops_nobody() {
    for extreme in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX] {
        let rig = rig();
        let account = [("account_id", Text("A1")), ("updated_at", Time(T0))];
        rig.send("accounts", T0, &account);
        rig.send("activities", T0, &activity("extreme", extreme));
        let fields = [
            ("account_id", Text("A1")),
            ("updated_at", Time(extreme)),
            ("created_at", Time(extreme)),
        ];
        rig.send("accounts", T0, &fields);
        rig.send("activities", T0, &activity("normal", T0));
        rig.run_to_end();
        rig.check_committed();
        assert!(
            rig.standings()
                .contains_key(&("buys_90d".into(), "A1".into())),
            "{extreme}"
        );
    }
}

#[test]
fn refused_rows_are_counted_and_dead_letters_shown_also_after_a_restart() {
    let rig = rig();
    let accounts = rig.partition_of("accounts");
    let account = |updated_at| [("account_id", Text("A1")), ("updated_at", Time(updated_at))];
    rig.send("accounts", T0, &account(T0));
    rig.send("accounts", T0 + 1, &account(T0 - 1));
    rig.produce(accounts, T0 + 2, Some(b"A9"), None);
    rig.produce(
        accounts,
        T0 + 3,
        Some(b"A1"),
        Some(b"{\"account_id\": 1}".to_vec()),
    );
    rig.produce(accounts, T0 + 4, Some(b"A1"), None);
    rig.produce(accounts, T0 + 5, Some(b"A1"), None);
    let first = Life::default();
    let model = first.read_model.clone();
    let summary = rig.run(Until::End, first).unwrap();
    assert_eq!(
        (
            summary.accepted,
            summary.duplicate,
            summary.unchanged,
            summary.dead_lettered
        ),
        (3, 1, 1, 1),
        "the second tombstone of A1 repeats the first"
    );
    let script = rig.script();
    let counts = |counts: fn(&EpochRecord) -> &Vec<ReasonCount>| -> Vec<(String, i64)> {
        let all = script.iter().flat_map(counts);
        all.map(|one| (one.reason.clone(), one.count)).collect()
    };
    assert_eq!(
        counts(|record| &record.unchanged),
        [("nothing_to_delete".to_owned(), 1)]
    );
    assert_eq!(
        counts(|record| &record.remarked),
        [("stepped_back".to_owned(), 1)]
    );
    rig.check_committed();

    let shown = |model: &ReadModel| {
        let page = model.dead_letters(None, None, 10);
        let letters = page.letters.iter();
        letters
            .map(|letter| (letter.partition, letter.offset, letter.reason.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(shown(&model), [(0, 3, "wire_format".to_owned())]);
    let second = Life::default();
    let again = second.read_model.clone();
    rig.run(Until::End, second).unwrap();
    assert_eq!(shown(&again), shown(&model), "read back from their topic");
}
