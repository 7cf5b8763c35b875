//! Owners of one transactional id on a real broker: with any of them paused at any point, one goes
//! on, and no epoch is lost or doubled.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use leadpulse_engine::ports::{
    Attendant, CommittedEpoch, Nonce, Output, PortError, SealedEpoch, Sink,
};
use leadpulse_kafka::{CommitPoint, Failpoint, KafkaMetrics, KafkaOptions, KafkaSink};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::harness::unique;
use crate::ports_on_kafka::{Deployment, PATIENCE, committed, deployment, epoch};

/// A point at which a sink stops once, until the test releases it.
struct Pause {
    reached: Receiver<()>,
    release: Sender<()>,
}

impl Pause {
    fn reached(&self) {
        self.reached
            .recv_timeout(PATIENCE)
            .expect("the sink comes to its pause");
    }
    fn release(&self) {
        self.release.send(()).unwrap();
    }
}

/// A sink whose attempt ends in doubt at one point and pauses at another, each once. A point comes
/// with the number of an epoch.
fn interrupted(
    sink: KafkaSink,
    in_doubt: Option<(CommitPoint, u64)>,
    pause: (CommitPoint, u64),
) -> (KafkaSink, Pause) {
    let (to_test, reached) = bounded(1);
    let (release, released) = bounded::<()>(1);
    let (doubts, pauses) = (AtomicBool::new(true), AtomicBool::new(true));
    let failpoint: Failpoint = Arc::new(move |point, epoch| {
        if (point, epoch) == pause && pauses.swap(false, Ordering::SeqCst) {
            to_test.send(()).unwrap();
            let _ = released.recv(); // an error once the test has ended
        }
        Some((point, epoch)) == in_doubt && doubts.swap(false, Ordering::SeqCst)
    });
    (sink.with_failpoint(failpoint), Pause { reached, release })
}

/// An epoch with a nonce of its own, as each process seals it.
fn sealed(number: u64, nonce: u64, position: i64, value: &str) -> Arc<SealedEpoch> {
    Arc::new(SealedEpoch {
        nonce: Nonce(nonce),
        ..SealedEpoch::clone(&epoch(number, &[position], &[value]))
    })
}

fn found(number: u64, nonce: u64, position: i64) -> Option<CommittedEpoch> {
    committed(number, &[position]).map(|epoch| CommittedEpoch {
        nonce: Some(Nonce(nonce)),
        ..epoch
    })
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An attendant that keeps the reports of a sink.
#[derive(Default)]
struct RecordingAttendant {
    stopped: AtomicBool,
    reports: Mutex<Vec<Option<String>>>,
}

impl Attendant for RecordingAttendant {
    fn beat(&self) {}
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
    fn report(&self, _: &'static str, condition: Option<String>) {
        self.reports.lock().unwrap().push(condition);
    }
}

/// Offset and metadata of the input's partition.
fn committed_metadata(on: &Deployment) -> (Offset, String) {
    let consumer: BaseConsumer = client(on).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition(&on.inputs[0].topic, 0);
    let list = consumer.committed_offsets(list, PATIENCE).unwrap();
    let element = list.find_partition(&on.inputs[0].topic, 0).unwrap();
    (element.offset(), element.metadata().to_owned())
}

fn client(on: &Deployment) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &on.options.brokers)
        .set("group.id", &on.options.group_id)
        .set("enable.auto.commit", "false");
    config
}

#[test]
fn a_first_take_over_writes_the_owner() {
    let Some(on) = deployment("first", &[1]) else {
        return;
    };
    let mut sink = on.sink();
    assert_eq!(sink.take_over().unwrap(), None);
    let metadata = format!(
        "v2;epoch=0;as_of=0;nonce=0000000000000000;owner={}",
        sink.owner()
    );
    assert_eq!(committed_metadata(&on), (Offset::Offset(0), metadata));
    sink.commit(&sealed(1, 0xfe, 4, "a")).unwrap();
    assert_eq!(on.taken_over(), found(1, 0xfe, 4));
    let (offset, metadata) = committed_metadata(&on);
    assert!(
        metadata.starts_with("v2;epoch=1;as_of=1000;nonce=00000000000000fe;owner="),
        "{metadata}"
    );
    assert!(
        !metadata.ends_with(sink.owner()),
        "another process has taken over"
    );
    assert_eq!(offset, Offset::Offset(4));
}

#[test]
fn a_deployment_of_version_1_is_taken_over() {
    let Some(on) = deployment("version1", &[1]) else {
        return;
    };
    let consumer: BaseConsumer = client(&on).create().unwrap();
    let mut list = TopicPartitionList::new();
    let mut element = list.add_partition(&on.inputs[0].topic, 0);
    element.set_metadata("v1;epoch=1;as_of=1000");
    element.set_offset(Offset::Offset(7)).unwrap();
    consumer.commit(&list, CommitMode::Sync).unwrap();
    let mut sink = on.sink();
    let version1 = committed(1, &[7]).map(|epoch| CommittedEpoch {
        nonce: None,
        ..epoch
    });
    assert_eq!(sink.take_over().unwrap(), version1);
    sink.commit(&sealed(2, 2, 8, "a")).unwrap();
    assert_eq!(on.taken_over(), found(2, 2, 8));
}

/// The owner is paused at each point of its second epoch. A successor takes over meanwhile, commits
/// an epoch of the same number with other positions, and lives on.
#[test]
fn a_paused_owner_stops_and_its_successor_lives_on() {
    use CommitPoint::{
        AfterCommit, AfterInit, BeforeCommit, BeforeInit, BeforeOffsets, BeforeRecords,
    };
    let cases = [
        (None, BeforeRecords),
        (None, BeforeOffsets),
        (None, BeforeCommit),
        (None, AfterCommit),
        (Some(BeforeRecords), BeforeRecords),
        (Some(BeforeCommit), BeforeCommit),
        // Paused while it settles: before it fences the successor, and after.
        (Some(BeforeCommit), BeforeInit),
        (Some(BeforeCommit), AfterInit),
    ];
    for case @ (in_doubt, pause) in cases {
        let Some(on) = deployment("paused", &[1]) else {
            return;
        };
        let (mut owner, pause_of_owner) =
            interrupted(on.sink(), in_doubt.map(|point| (point, 2)), (pause, 2));
        owner.take_over().unwrap();
        owner.commit(&sealed(1, 0xa1, 100, "before")).unwrap();
        let mut successor = on.sink();
        let outcome = std::thread::scope(|scope| {
            let paused = scope.spawn(|| owner.commit(&sealed(2, 0xa2, 150, "paused")));
            pause_of_owner.reached();
            let is_committed = pause == AfterCommit;
            let expected = if is_committed {
                found(2, 0xa2, 150)
            } else {
                found(1, 0xa1, 100)
            };
            assert_eq!(successor.take_over().unwrap(), expected, "{case:?}");
            let next = if is_committed { 3 } else { 2 };
            successor
                .commit(&sealed(next, 0xb2, 120, "successor"))
                .unwrap();
            pause_of_owner.release();
            paused.join().unwrap()
        });
        if pause == AfterCommit {
            outcome.unwrap();
        } else {
            assert!(
                matches!(outcome, Err(PortError::Fenced(_))),
                "{case:?}: {outcome:?}"
            );
        }
        let number = if pause == AfterCommit { 4 } else { 3 };
        let again = owner.commit(&sealed(number - 1, 0xa3, 200, "paused again"));
        assert!(
            matches!(again, Err(PortError::Fenced(_))),
            "{case:?}: {again:?}"
        );
        successor
            .commit(&sealed(number, 0xb3, 160, "successor again"))
            .unwrap();
        assert_eq!(on.taken_over(), found(number, 0xb3, 160), "{case:?}");
        let expected = if pause == AfterCommit {
            ["before", "paused", "successor", "successor again"].as_slice()
        } else {
            &["before", "successor", "successor again"]
        };
        assert_eq!(on.visible(Output::Scores), expected, "{case:?}");
    }
}

/// A new process is paused at each point of its take-over. The owner before it goes on meanwhile,
/// unless the new token stands already.
#[test]
fn a_paused_take_over_is_tried_again() {
    use CommitPoint::{AfterCommit, AfterInit, BeforeCommit, BeforeOffsets, BeforeRecords};
    for (point, epoch) in [
        (AfterInit, 0),
        (BeforeRecords, 1),
        (BeforeOffsets, 1),
        (BeforeCommit, 1),
        (AfterCommit, 1),
    ] {
        let Some(on) = deployment("starting", &[1]) else {
            return;
        };
        let mut owner = on.sink();
        owner.take_over().unwrap();
        owner.commit(&sealed(1, 0xa1, 100, "before")).unwrap();
        let (mut starting, pause) = interrupted(on.sink(), None, (point, epoch));
        let (while_paused, taken_over) = std::thread::scope(|scope| {
            let paused = scope.spawn(|| starting.take_over());
            pause.reached();
            let while_paused = owner.commit(&sealed(2, 0xa2, 150, "owner"));
            pause.release();
            (while_paused, paused.join().unwrap().unwrap())
        });
        let stands = point == AfterCommit;
        assert_eq!(
            matches!(while_paused, Err(PortError::Fenced(_))),
            stands,
            "{point:?}: {while_paused:?}"
        );
        assert_eq!(while_paused.is_ok(), !stands, "{point:?}: {while_paused:?}");
        assert_eq!(
            taken_over,
            if stands {
                found(1, 0xa1, 100)
            } else {
                found(2, 0xa2, 150)
            },
            "{point:?}"
        );
        assert!(
            matches!(
                owner.commit(&sealed(if stands { 2 } else { 3 }, 0xa3, 200, "no")),
                Err(PortError::Fenced(_))
            ),
            "{point:?}"
        );
        let next = if stands { 2 } else { 3 };
        starting.commit(&sealed(next, 0xb1, 180, "new")).unwrap();
        assert_eq!(on.taken_over(), found(next, 0xb1, 180), "{point:?}");
        let expected: &[&str] = if stands {
            &["before", "new"]
        } else {
            &["before", "owner", "new"]
        };
        assert_eq!(on.visible(Output::Scores), expected, "{point:?}");
    }
}

#[test]
fn an_idle_owner_notices_its_successor() {
    let Some(on) = deployment("idle", &[1]) else {
        return;
    };
    let (mut owner, mut successor) = (on.sink(), on.sink());
    owner.take_over().unwrap();
    owner.commit(&sealed(1, 1, 1, "a")).unwrap();
    owner.check().unwrap();
    successor.take_over().unwrap();
    wait_until("the owner notices its successor", || {
        matches!(owner.check(), Err(PortError::Fenced(_)))
    });
    successor.check().unwrap();
    successor.commit(&sealed(2, 2, 2, "b")).unwrap();
    assert_eq!(on.taken_over(), found(2, 2, 2));
}

#[test]
fn an_owner_that_is_fenced_while_its_token_stands_goes_on() {
    let Some(on) = deployment("fenced", &[1]) else {
        return;
    };
    let mut sink = on.sink();
    sink.take_over().unwrap();
    sink.commit(&sealed(1, 1, 1, "a")).unwrap();
    // A process that dies in the middle of its take-over: it has fenced the owner, and wrote no
    // token.
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &on.options.brokers)
        .set("transactional.id", &on.options.transactional_id);
    let dying: BaseProducer = config.create().unwrap();
    dying.init_transactions(PATIENCE).unwrap();
    sink.commit(&sealed(2, 2, 2, "b")).unwrap();
    sink.commit(&sealed(3, 3, 3, "c")).unwrap();
    assert_eq!(
        (
            on.metrics.replacements("fenced"),
            on.metrics.transactions("fenced")
        ),
        (1, 1)
    );
    assert_eq!(on.taken_over(), found(3, 3, 3));
    assert_eq!(on.visible(Output::Scores), ["a", "b", "c"]);
}

/// Ends of a partition of the scores: for readers of committed transactions, and for readers of
/// all.
fn ends(on: &Deployment, partition: i32) -> (i64, i64) {
    let end = |isolation: &str| {
        let consumer: BaseConsumer = client(on)
            .set("isolation.level", isolation)
            .create()
            .unwrap();
        consumer
            .fetch_watermarks(&on.options.outputs.scores, partition, PATIENCE)
            .unwrap()
            .1
    };
    (end("read_committed"), end("read_uncommitted"))
}

#[test]
fn a_transaction_that_the_broker_timed_out_is_settled() {
    let Some(mut on) = deployment("timed-out", &[1]) else {
        return;
    };
    // The broker ends the transaction long before the sink would lose its patience.
    (
        on.options.transaction_timeout_ms,
        on.options.commit_timeout_ms,
    ) = (2_000, 60_000);
    let (mut sink, pause) = interrupted(on.sink(), None, (CommitPoint::BeforeCommit, 2));
    sink.take_over().unwrap();
    sink.commit(&sealed(1, 1, 1, "a")).unwrap();
    let outcome = std::thread::scope(|scope| {
        let commit = scope.spawn(|| sink.commit(&sealed(2, 2, 2, "b")));
        pause.reached();
        let partitions = 0..on.options.output_partitions;
        assert!(
            partitions
                .clone()
                .any(|partition| ends(&on, partition).0 < ends(&on, partition).1),
            "the transaction is open"
        );
        wait_until("the broker ends the transaction", || {
            partitions
                .clone()
                .all(|partition| ends(&on, partition).0 == ends(&on, partition).1)
        });
        pause.release();
        commit.join().unwrap()
    });
    outcome.unwrap();
    sink.commit(&sealed(3, 3, 3, "c")).unwrap();
    assert_eq!(on.metrics.replacements("fenced"), 1);
    assert_eq!(on.taken_over(), found(3, 3, 3));
    assert_eq!(on.visible(Output::Scores), ["a", "b", "c"]);
}

#[test]
fn a_call_that_does_not_return_is_left_behind() {
    let Some(mut on) = deployment("hanging", &[1]) else {
        return;
    };
    (
        on.options.transaction_timeout_ms,
        on.options.commit_timeout_ms,
    ) = (30_000, 1_000);
    for point in [CommitPoint::BeforeOffsets, CommitPoint::BeforeCommit] {
        let before = on.metrics.transactions("committed");
        let (mut sink, pause) = interrupted(on.sink(), None, (point, before + 1));
        sink.take_over().unwrap();
        let (number, value) = (before + 1, format!("{point:?}"));
        sink.commit(&sealed(number, number, number as i64, &value))
            .unwrap();
        pause.reached();
        assert_eq!(on.metrics.abandoned(), 1, "the thread that hangs");
        // The call that hung goes on, and must not commit.
        pause.release();
        wait_until("the producer that was left behind closes", || {
            on.metrics.abandoned() == 0
        });
        sink.check().unwrap();
    }
    assert_eq!(on.metrics.replacements("in_doubt"), 2);
    assert_eq!(on.taken_over(), found(2, 2, 2));
    assert_eq!(
        on.visible(Output::Scores),
        ["BeforeOffsets", "BeforeCommit"]
    );
}

/// While the group has a member, Kafka refuses the offsets of a transaction or accepts them. Either
/// way the epoch is committed once. The member commits positions of its own over ours, without
/// metadata: those of the other partition still name epoch and owner.
#[test]
fn a_foreign_member_of_the_group_loses_nothing() {
    let Some(on) = deployment("member", &[2]) else {
        return;
    };
    let hearing = Arc::new(RecordingAttendant::default());
    let sealed = |number: u64, value: &str| {
        let position = number as i64;
        Arc::new(SealedEpoch {
            nonce: Nonce(number),
            ..SealedEpoch::clone(&epoch(number, &[position, position], &[value]))
        })
    };
    let (sink, pause) = interrupted(
        on.sink(),
        Some((CommitPoint::BeforeCommit, 2)),
        (CommitPoint::BeforeCommit, 2),
    );
    let mut sink = sink.with_attendant(Arc::clone(&hearing) as Arc<dyn Attendant>);
    sink.take_over().unwrap();
    sink.commit(&sealed(1, "a")).unwrap();
    let console: BaseConsumer = client(&on).create().unwrap();
    console.subscribe(&[&on.inputs[0].topic]).unwrap();
    wait_until("the consumer joins", || {
        let _ = console.poll(Duration::from_millis(20));
        console.assignment().unwrap().count() == 2
    });
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&on.inputs[0].topic, 0, Offset::Offset(77))
        .unwrap();
    std::thread::scope(|scope| {
        let commit = scope.spawn(|| sink.commit(&sealed(2, "b")));
        pause.reached();
        console.commit(&list, CommitMode::Sync).unwrap();
        pause.release();
        commit.join().unwrap().unwrap();
    });
    drop(console);
    sink.commit(&sealed(3, "c")).unwrap();
    assert_eq!(
        hearing.reports.lock().unwrap().last(),
        Some(&None),
        "the report is taken back"
    );
    assert_eq!(on.metrics.transactions("indefinite"), 1);
    assert_eq!(on.taken_over(), committed(3, &[3, 3]));
    assert_eq!(on.visible(Output::Scores), ["a", "b", "c"]);
}

#[test]
fn a_take_over_without_brokers_waits_until_it_is_stopped() {
    let name = unique("nowhere");
    let options = KafkaOptions {
        brokers: "127.0.0.1:1".into(),
        group_id: name.clone(),
        transactional_id: name.clone(),
        commit_timeout_ms: 300,
        ..KafkaOptions::default()
    };
    let metrics = KafkaMetrics::register(&prometheus::Registry::new()).unwrap();
    let hearing = Arc::new(RecordingAttendant::default());
    let partition = leadpulse_engine::ports::InputPartition {
        topic: name,
        partition: 0,
        tables: vec![leadpulse_schema::TableId(0)],
    };
    let sink = KafkaSink::new(&options, &[partition], &metrics).unwrap();
    let mut sink = sink.with_attendant(Arc::clone(&hearing) as Arc<dyn Attendant>);
    std::thread::scope(|scope| {
        let taking_over = scope.spawn(|| sink.take_over());
        wait_until("the sink reports twice", || {
            hearing.reports.lock().unwrap().len() >= 2
        });
        hearing.stopped.store(true, Ordering::SeqCst);
        assert!(matches!(
            taking_over.join().unwrap(),
            Err(PortError::Interrupted(_))
        ));
    });
}
