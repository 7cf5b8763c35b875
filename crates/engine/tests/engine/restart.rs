//! What a restart depends on, and what it does not: the registry of today, added partitions, damaged batches, the format of older releases.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use leadpulse_engine::ports::{InputPartition, Output};
use leadpulse_engine::read_model::ReadModel;
use leadpulse_engine::{
    ClockMode, EPOCH_RECORD_VERSION, HEADER_REASON, PartitionLayout, ReasonCount, ScriptRecord,
    Skip, Until,
};
use leadpulse_graph::DAY_MS;
use leadpulse_schema::{FolderRegistry, encode_frame};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::broker::{HandClock, Message};
use super::market::Market;
use super::rig::Put::{Text, Time};
use super::rig::{Life, Rig};
use super::stops::{filled, rig};

const T0: i64 = 1_700_000_000_000;
const ACTIVITIES: usize = 4;

fn account(rig: &Rig, at_ms: i64) {
    rig.send(
        "accounts",
        at_ms,
        &[("account_id", Text("A1")), ("updated_at", Time(at_ms))],
    );
}

fn activity(rig: &Rig, id: &str, at_ms: i64) -> Vec<u8> {
    let fields = [
        ("activity_id", Text(id)),
        ("type", Text("meeting")),
        ("occurred_at", Time(at_ms)),
        ("account_id", Text("A1")),
    ];
    rig.encode("activities", &fields)
}

fn reasons(rig: &Rig) -> Vec<String> {
    let epochs = rig.broker.lock().epochs.clone();
    let letters = epochs
        .iter()
        .flat_map(|e| &e.outputs)
        .filter(|r| r.output == Output::DeadLetters);
    let reason = |r: &leadpulse_engine::ports::OutputRecord| {
        let (_, value) = r
            .headers
            .iter()
            .find(|(name, _)| name == HEADER_REASON)
            .unwrap();
        String::from_utf8(value.clone().unwrap()).unwrap()
    };
    letters.map(reason).collect()
}

#[test]
fn a_schema_that_is_registered_later_changes_nothing_that_was_decided() {
    let rig = rig();
    account(&rig, T0);
    let good = activity(&rig, "known", T0);
    let mut unknown = Vec::new();
    encode_frame(7, &activity(&rig, "unknown", T0)[5..], &mut unknown);
    for value in [good, unknown.clone()] {
        rig.produce(ACTIVITIES, T0, None, Some(value));
    }
    let first = rig.run_to_end();
    assert_eq!((first.accepted, first.dead_lettered), (2, 1));
    let refused: Vec<_> = rig
        .script()
        .iter()
        .flat_map(|record| record.refused.clone())
        .collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(
        (
            refused[0].partition,
            refused[0].start,
            refused[0].end,
            refused[0].reason.as_str()
        ),
        (4, 1, 2, "unknown_schema")
    );

    // As the documents advise: the schema is registered, then the record is sent again.
    rig.schemas
        .register(7, &rig.catalog.table("activities").unwrap().json);
    rig.produce(ACTIVITIES, T0, None, Some(unknown));
    let second = rig.run_to_end();
    assert_eq!(
        (
            second.replayed_epochs,
            second.accepted,
            second.dead_lettered
        ),
        (first.epochs, 1, 0)
    );
    assert_eq!(reasons(&rig), ["unknown_schema"]);
    assert_eq!(rig.run_to_end().epochs, 0);
}

#[test]
fn partitions_that_are_added_are_read_once_the_others_are() {
    let rig = filled();
    let table = rig.catalog.table("activities").unwrap().id;
    let sent: usize = rig.broker.lock().input.iter().map(Vec::len).sum();
    let added = Arc::new(Mutex::new(None));
    let model = Arc::new(ReadModel::new());
    let life = Life {
        read_model: model.clone(),
        ..Life::default()
    };
    let (stop, broker, into, made) = (
        life.stop.clone(),
        rig.broker.clone(),
        added.clone(),
        activity(&rig, "in the new one", T0 + 90 * DAY_MS),
    );
    let mut rounds = 0;
    let on_idle = Box::new(move || {
        rounds += 1;
        if rounds == 1 {
            let partition = broker.grow(InputPartition {
                topic: "mkt.activities".into(),
                partition: 2,
                tables: vec![table],
            });
            let message = Message {
                offset: 0,
                timestamp_ms: T0 + 90 * DAY_MS,
                key: None,
                value: Some(made.clone()),
                headers: vec![("none".into(), None)],
            };
            broker.append(partition, message);
            *into.lock().unwrap() = Some(partition);
        }
        stop.store(rounds > 3, Ordering::SeqCst);
    });
    rig.run(
        Until::Stopped,
        Life {
            on_idle: Some(on_idle),
            ..life
        },
    )
    .unwrap();
    let partition = added.lock().unwrap().unwrap();
    let script = rig.script();
    let last = script.last().unwrap();
    assert_eq!(
        (last.layout, last.partitions.len()),
        (2, partition + 1),
        "the new partition is in the layout"
    );
    assert_eq!(
        script.iter().map(|record| record.records()).sum::<u64>(),
        sent as u64 + 1
    );
    assert!(
        script
            .iter()
            .filter(|record| record.layout == 1)
            .all(|record| record.partitions.len() == partition)
    );
    assert_eq!(model.conditions(), []);

    // The next process lists the partition as the source does, and finds the layouts in the script.
    let mut market = Market::new(2);
    market.send(&rig, 50);
    rig.run_to_end();
    rig.check_committed();
}

#[test]
fn a_run_to_the_end_reads_added_partitions_before_it_closes() {
    let rig = filled();
    rig.run_to_end();
    let table = rig.catalog.table("activities").unwrap().id;
    let partition = rig.broker.grow(InputPartition {
        topic: "mkt.activities".into(),
        partition: 2,
        tables: vec![table],
    });
    rig.produce(
        partition,
        T0 + 90 * DAY_MS,
        None,
        Some(activity(&rig, "in the new one", T0 + 90 * DAY_MS)),
    );
    let summary = rig.run_to_end();
    assert_eq!(
        (summary.accepted, rig.script().last().unwrap().layout),
        (1, 2)
    );
    assert!(rig.script().last().unwrap().closing);
    assert_eq!(rig.run_to_end().epochs, 0);
    rig.check_committed();
}

#[test]
fn a_damaged_batch_is_told_and_left_out_by_a_recorded_decision() {
    let rig = rig();
    account(&rig, T0);
    for number in 0..9 {
        let value = activity(&rig, &format!("e{number}"), T0 + number);
        rig.produce(ACTIVITIES, T0 + number, None, Some(value));
    }
    rig.broker.lock().damaged.push((ACTIVITIES, 3..6));
    let model = Arc::new(ReadModel::new());
    let life = Life {
        read_model: model.clone(),
        ..Life::default()
    };
    let (stop, watched, told) = (
        life.stop.clone(),
        model.clone(),
        Arc::new(Mutex::new(Vec::new())),
    );
    let into = told.clone();
    let on_idle = Box::new(move || {
        let conditions = watched.conditions();
        stop.store(!conditions.is_empty(), Ordering::SeqCst);
        *into.lock().unwrap() = conditions;
    });
    let without = rig
        .run(
            Until::Stopped,
            Life {
                on_idle: Some(on_idle),
                ..life
            },
        )
        .unwrap();
    assert_eq!(
        without.accepted, 4,
        "everything before the damage, and the other partitions"
    );
    let told = told.lock().unwrap().clone();
    assert!(
        told[0].blocks && told[0].text.contains("--skip mkt.activities/0@3"),
        "{told:?}"
    );

    let skips = vec![Skip {
        topic: "mkt.activities".into(),
        partition: 0,
        offset: 3,
    }];
    let with = rig
        .run(
            Until::End,
            Life {
                skips,
                ..Life::default()
            },
        )
        .unwrap();
    assert_eq!(with.accepted, 3, "everything behind it");
    let skipped: Vec<_> = rig
        .script()
        .iter()
        .flat_map(|record| record.skipped.clone())
        .collect();
    assert_eq!(
        skipped
            .iter()
            .map(|range| (range.partition, range.start, range.end))
            .collect::<Vec<_>>(),
        [(4, 3, 6)]
    );
    // The decision rules from now on, without being asked for again.
    let again = rig.run_to_end();
    assert_eq!(
        (again.epochs, again.replayed_epochs),
        (0, rig.script().len() as u64)
    );
}

#[test]
fn a_producer_from_the_future_moves_neither_time_nor_its_partition() {
    let mut rig = rig();
    rig.options.clock = ClockMode::Wall;
    rig.options.epoch_floor_ms = 1;
    account(&rig, T0);
    rig.produce(ACTIVITIES, T0, None, Some(activity(&rig, "now", T0)));
    let years = 3_650 * DAY_MS;
    rig.produce(
        ACTIVITIES,
        T0 + years,
        None,
        Some(activity(&rig, "in ten years", T0 + years)),
    );
    rig.send(
        "accounts",
        T0 + years,
        &[("account_id", Text("A2")), ("updated_at", Time(T0 + years))],
    );
    for number in 0..5 {
        rig.produce(
            ACTIVITIES,
            T0 + number,
            None,
            Some(activity(&rig, &format!("after {number}"), T0 + number)),
        );
    }
    let clock = HandClock::default();
    clock.0.store(T0 + 60_000, Ordering::SeqCst);
    let life = Life {
        clock: clock.clone(),
        ..Life::default()
    };
    let (stop, mut rounds) = (life.stop.clone(), 0);
    let on_idle = Box::new(move || {
        rounds += 1;
        stop.store(rounds > 5, Ordering::SeqCst);
    });
    let summary = rig
        .run(
            Until::Stopped,
            Life {
                on_idle: Some(on_idle),
                ..life
            },
        )
        .unwrap();
    assert_eq!((summary.accepted, summary.dead_lettered), (7, 2));
    assert_eq!(reasons(&rig), ["future_timestamp", "future_timestamp"]);
    let script = rig.script();
    assert!(
        script.iter().all(|record| record.as_of <= T0 + 60_000),
        "{script:?}"
    );
    assert!(script.iter().all(|record| record.clock.bound_at.is_some()));
    rig.check_committed();
}

#[test]
fn a_jump_of_the_clock_is_not_believed() {
    let mut rig = rig();
    rig.options.clock = ClockMode::Wall;
    rig.options.epoch_floor_ms = 1;
    account(&rig, T0);
    let life = Life::default();
    life.clock.0.store(T0, Ordering::SeqCst);
    let (clock, stop, model, mut rounds) = (
        life.clock.clone(),
        life.stop.clone(),
        life.read_model.clone(),
        0,
    );
    let told = Arc::new(Mutex::new(Vec::new()));
    let into = told.clone();
    let on_idle = Box::new(move || {
        rounds += 1;
        match rounds {
            // Two hours pass on both clocks; then the wall clock alone jumps a year.
            3 => drop(clock.0.fetch_add(2 * 3_600_000, Ordering::SeqCst)),
            6 => drop(clock.1.fetch_add(365 * DAY_MS, Ordering::SeqCst)),
            _ => {}
        }
        into.lock().unwrap().extend(model.conditions());
        stop.store(rounds > 12, Ordering::SeqCst);
    });
    rig.run(
        Until::Stopped,
        Life {
            on_idle: Some(on_idle),
            ..life
        },
    )
    .unwrap();
    // Idle polls move the monotonic clock alone, by less than a second in all: the jump is a year
    // without that.
    assert!(
        told.lock()
            .unwrap()
            .iter()
            .any(|c| c.blocks && c.text.contains("jumped by 31535999 s")),
        "{told:?}"
    );
    let last = rig.script().last().unwrap().clone();
    assert!(
        (T0 + 3_600_000..=T0 + 2 * 3_600_000).contains(&last.as_of),
        "{last:?}"
    );
}

/// An epoch record of the first release.
#[derive(Serialize, Deserialize)]
struct Format1 {
    worker: String,
    epoch: i64,
    as_of: i64,
    board: i64,
    bundle_id: Option<String>,
    plan_hash: Option<String>,
    catalog_fingerprint: String,
    partitions: Vec<Interval1>,
    clock: Clock1,
    closing: bool,
    accepted: i64,
    duplicate: i64,
    late: i64,
    future: i64,
    dead_lettered: Vec<ReasonCount>,
    scored: i64,
    scores: i64,
    alerts: i64,
    digest: String,
}

#[derive(Serialize, Deserialize)]
struct Interval1 {
    topic: String,
    partition: i32,
    start: i64,
    end: i64,
}

#[derive(Serialize, Deserialize)]
struct Clock1 {
    live_at: Option<i64>,
    newest_event_at: Option<i64>,
}

/// The bytes of an epoch record as the first release wrote them.
fn of_format_1(rig: &Rig, layout: &PartitionLayout, record: &Json) -> Vec<u8> {
    let text = include_str!("../../../../schemas/outputs/versions/epoch_record-1.avsc");
    let schema = apache_avro::Schema::parse_str(text).unwrap();
    let mut record = record.clone();
    for (interval, place) in record["partitions"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .zip(&layout.partitions)
    {
        interval["topic"] = json!(place.topic);
        interval["partition"] = json!(place.partition);
    }
    let mut body = Vec::new();
    let old: Format1 = serde_json::from_value(record).unwrap();
    apache_avro::writer::datum::GenericDatumWriter::builder(&schema)
        .build()
        .unwrap()
        .write_ser(&mut body, &old)
        .unwrap();
    let mut framed = Vec::new();
    encode_frame(FolderRegistry::id_of(text).unwrap(), &body, &mut framed);
    assert!(matches!(
        rig.encoders.read_script(&framed).unwrap()[..],
        [ScriptRecord::Layout(_), ScriptRecord::Epoch(_)]
    ));
    framed
}

#[test]
fn a_deployment_of_the_first_format_is_upgraded_by_one_start() {
    let rig = filled();
    // Format 1 does not say which records were refused.
    let mut unknown = Vec::new();
    encode_frame(7, b"junk", &mut unknown);
    rig.produce(0, T0, None, Some(unknown));
    rig.run_killed_before(3);
    let layout = PartitionLayout::of(1, &rig.broker.lock().partitions);
    let script = rig.script();
    {
        let mut cluster = rig.broker.lock();
        for (sealed, record) in cluster.epochs.iter_mut().zip(&script) {
            let value = of_format_1(&rig, &layout, &serde_json::to_value(record).unwrap());
            sealed
                .outputs
                .iter_mut()
                .filter(|r| r.output == Output::Epochs)
                .for_each(|r| r.value = Some(value.clone()));
            sealed.nonce.0 = 0;
        }
    }
    let summary = rig.run_to_end();
    assert!(
        summary.replayed_epochs == 3 && summary.epochs > 0,
        "{summary:?}"
    );
    let after = rig.script();
    assert_eq!(
        after
            .iter()
            .map(|record| record.version)
            .collect::<Vec<_>>()[..4],
        [1, 1, 1, EPOCH_RECORD_VERSION]
    );
    assert_eq!(after[3].layout, 1);
    let closed_at = after.last().unwrap().as_of;
    let (standings, rebuilt) = (rig.standings(), rig.rebuilt_standings(closed_at));
    assert_eq!(standings.len(), rebuilt.len());
    assert!(
        standings
            .iter()
            .all(|(key, logit)| (logit - rebuilt[key]).abs() < 1e-4)
    );
    assert_eq!(rig.run_to_end().epochs, 0, "and by no more than one");
}

#[test]
fn ticks_end_within_their_epoch_though_a_marker_lies_before_a_record_that_waits() {
    let rig = rig();
    // A producer's transaction left a marker; then the registry is away for one question.
    rig.broker.append_marker(rig.partition_of("accounts"));
    account(&rig, T0);
    for (id, at_ms) in [("a1", T0), ("a2", T0 + 60_000), ("a3", T0 + 120_000)] {
        let value = activity(&rig, id, at_ms);
        rig.produce(ACTIVITIES, at_ms, None, Some(value));
    }
    rig.schemas.down.store(1, Ordering::SeqCst);
    rig.run_to_end();
    let first = &rig.script()[0];
    assert!(!first.ticks.is_empty(), "ticks end while the account waits");
    assert_eq!(first.partitions[0].end, 0, "{first:?}");
    rig.check_committed();
    assert_eq!(rig.run_to_end().epochs, 0, "another process starts");
}
