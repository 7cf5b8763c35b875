//! The promises of the Kafka ports, each on a real broker: one copy of every epoch, whatever
//! happens to the transaction.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use leadpulse_engine::ports::{
    Clock, CommittedEpoch, InputPartition, LogEnd, LogStep, NextOffset, Nonce, Output, OutputLog,
    OutputPositions, OutputRecord, PollLimit, PortCause, PortError, RecordBatch, SealedEpoch, Sink,
    Source,
};
use leadpulse_engine::{
    Alert, EventHeaders, HEADER_REASON, HEADER_VALUE_BYTES, Reason, dead_letter,
};
use leadpulse_kafka::{
    CommitPoint, Failpoint, Holdings, InputTopic, Isolation, KafkaMetrics, KafkaOptions,
    KafkaOutputLog, KafkaSink, KafkaSource, KeyPast, MockBroker, MockSink, OutputTopics,
    OwnedRecord, PastBounds, PastPlace, Producer, TopicSpec, TopicWatch, describe, ensure_topics,
    output_topics, read_all,
};
use leadpulse_schema::TableId;
use leadpulse_schema::units::AsOf;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::harness::{kafka, unique};

/// More than any test needs; a test that reaches it has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);
const ANY: PollLimit = PollLimit {
    records: usize::MAX,
    bytes: usize::MAX,
};

/// A deployment of its own: input topics, output topics, group, transactional id.
#[derive(Clone)]
pub struct Deployment {
    pub options: KafkaOptions,
    pub inputs: Vec<InputTopic>,
    pub metrics: Arc<KafkaMetrics>,
    pub registry: prometheus::Registry,
}

/// `None` where there is no Kafka.
pub fn deployment(name: &str, partitions: &[i32]) -> Option<Deployment> {
    let cluster = kafka()?;
    let deployment = Deployment::named(&unique(name), &cluster.servers, partitions.len());
    let inputs = deployment
        .inputs
        .iter()
        .zip(partitions)
        .map(|(input, partitions)| TopicSpec::log(&input.topic, *partitions));
    let wanted: Vec<TopicSpec> = inputs.chain(output_topics(&deployment.options)).collect();
    assert_eq!(
        ensure_topics(&deployment.options, &wanted).unwrap().len(),
        wanted.len()
    );
    assert_eq!(
        ensure_topics(&deployment.options, &wanted).unwrap(),
        Vec::<String>::new()
    );
    Some(deployment)
}

impl Deployment {
    pub fn named(name: &str, servers: &str, inputs: usize) -> Self {
        let outputs = OutputTopics {
            scores: format!("{name}.scores"),
            current_scores: format!("{name}.current-scores"),
            alerts: format!("{name}.alerts"),
            dead_letters: format!("{name}.dlq"),
            epochs: format!("{name}.epochs"),
            policy_state: format!("{name}.policy"),
            worklist: format!("{name}.worklist"),
            exposures: format!("{name}.exposures"),
            erasure_proofs: format!("{name}.erasure-proofs"),
        };
        let options = KafkaOptions {
            brokers: servers.into(),
            group_id: name.into(),
            transactional_id: name.into(),
            outputs,
            replication_factor: 1,
            ..KafkaOptions::default()
        };
        options.validate().unwrap();
        let inputs = (0..inputs)
            .map(|n| InputTopic {
                topic: format!("{name}.in{n}"),
                tables: vec![TableId(n as u16)],
            })
            .collect();
        let registry = prometheus::Registry::new();
        Self {
            options,
            inputs,
            metrics: KafkaMetrics::register(&registry).unwrap(),
            registry,
        }
    }

    pub fn source(&self) -> KafkaSource {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match KafkaSource::open(&self.options, &self.inputs, &self.metrics) {
                Ok(source) => return source,
                Err(PortError::Retriable(_)) if Instant::now() < deadline => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    pub fn sink(&self) -> KafkaSink {
        KafkaSink::new(&self.options, self.source().partitions(), &self.metrics).unwrap()
    }
    /// A sink whose first attempt at epoch 1 ends in doubt at `point`.
    fn sink_in_doubt(&self, point: CommitPoint) -> KafkaSink {
        let armed = AtomicBool::new(true);
        let failpoint: Failpoint = Arc::new(move |at, epoch| {
            at == point && epoch == 1 && armed.swap(false, Ordering::SeqCst)
        });
        self.sink().with_failpoint(failpoint)
    }
    /// The epoch that a take-over finds. A take-over waits until every earlier transaction has
    /// ended, so a read afterwards is complete: a commit is acknowledged a moment before its
    /// records can be read.
    pub fn taken_over(&self) -> Option<CommittedEpoch> {
        self.sink().take_over().unwrap()
    }
    pub fn visible(&self, output: Output) -> Vec<String> {
        self.records(output, Isolation::Committed)
            .iter()
            .map(text)
            .collect()
    }
    pub fn records(&self, output: Output, isolation: Isolation) -> Vec<OwnedRecord> {
        read_all(
            &self.options,
            self.options.outputs.name(output),
            isolation,
            &self.metrics,
        )
        .unwrap()
    }
    /// The value of a metric without labels.
    fn gauge(&self, name: &str) -> f64 {
        self.metric(name, &[])
    }
    fn client_errors(&self, client: &str, code: &str) -> f64 {
        self.metric("leadpulse_kafka_client_errors_total", &[client, code])
    }
    fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let families = self.registry.gather();
        let family = families
            .iter()
            .find(|family| family.name() == name)
            .unwrap_or_else(|| panic!("no metric {name}"));
        let with = |metric: &&prometheus::proto::Metric| {
            labels
                .iter()
                .all(|label| metric.get_label().iter().any(|l| l.value() == *label))
        };
        let values = family.get_metric().iter().filter(with);
        values
            .map(|metric| metric.get_gauge().get_value() + metric.get_counter().get_value())
            .sum()
    }
    pub fn produce(&self, topic: &str, values: impl IntoIterator<Item = String>) {
        let mut producer = Producer::connect(&self.options, &self.metrics).unwrap();
        for value in values {
            let key = value.clone();
            producer
                .send(
                    topic,
                    Some(key.as_bytes()),
                    Some(value.as_bytes()),
                    1_700_000_000_000,
                )
                .unwrap();
        }
        producer.flush(PATIENCE).unwrap();
    }
}

pub fn text(record: &OwnedRecord) -> String {
    String::from_utf8(record.value.clone().unwrap()).unwrap()
}

fn output(output: Output, value: &str) -> OutputRecord {
    OutputRecord {
        output,
        key: Some(b"A001".to_vec()),
        value: Some(value.as_bytes().to_vec()),
        headers: vec![],
        timestamp_ms: 1_292_000_000_000,
    }
}

pub fn epoch(number: u64, positions: &[i64], values: &[&str]) -> Arc<SealedEpoch> {
    let mut outputs: Vec<OutputRecord> = values
        .iter()
        .map(|value| output(Output::Scores, value))
        .collect();
    if !values.is_empty() {
        outputs.push(output(Output::Epochs, &format!("epoch {number}")));
    }
    let positions = positions.iter().copied().map(NextOffset).collect();
    Arc::new(SealedEpoch {
        number,
        nonce: Nonce(number),
        as_of_ms: number as i64 * 1000,
        positions,
        outputs,
    })
}

pub fn committed(number: u64, positions: &[i64]) -> Option<CommittedEpoch> {
    let positions = positions
        .iter()
        .copied()
        .map(NextOffset)
        .map(Some)
        .collect();
    Some(CommittedEpoch {
        number,
        as_of_ms: number as i64 * 1000,
        nonce: Some(Nonce(number)),
        positions,
    })
}

fn stable_ends(source: &mut impl Source) -> Vec<NextOffset> {
    source
        .ends()
        .unwrap()
        .into_iter()
        .map(|end| end.stable)
        .collect()
}

/// Polls until the batch has `enough` records.
fn poll_until(source: &mut impl Source, limit: PollLimit, enough: usize) -> RecordBatch {
    let (mut batch, deadline) = (RecordBatch::default(), Instant::now() + PATIENCE);
    while batch.len() < enough {
        assert!(
            Instant::now() < deadline,
            "{} of {enough} records came",
            batch.len()
        );
        source
            .poll(&mut batch, limit, Duration::from_millis(100))
            .unwrap();
    }
    batch
}

/// Asks again until the answer is `enough`.
fn until<T: std::fmt::Debug>(mut ask: impl FnMut() -> T, enough: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask();
        if enough(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Offset and value by input partition.
fn by_partition(batch: &RecordBatch) -> BTreeMap<u32, Vec<(i64, String)>> {
    let mut read: BTreeMap<u32, Vec<(i64, String)>> = BTreeMap::new();
    for record in batch.iter() {
        read.entry(record.partition()).or_default().push((
            record.offset(),
            String::from_utf8(record.value().unwrap().to_vec()).unwrap(),
        ));
    }
    read
}

#[test]
fn a_commit_is_visible_once_and_taken_over() {
    let Some(on) = deployment("commit", &[2, 1]) else {
        return;
    };
    let mut sink = on.sink();
    assert_eq!(sink.take_over().unwrap(), None);
    let mut first = SealedEpoch::clone(&epoch(1, &[0, 5, 7], &["a", "b"]));
    first.outputs[0].headers = vec![
        ("x-dlq-reason".into(), Some(b"validation".to_vec())),
        ("empty".into(), Some(vec![])),
        ("none".into(), None),
    ];
    first.outputs.push(OutputRecord {
        value: None,
        ..output(Output::PolicyState, "")
    });
    let alert = Alert {
        alert_id: "f00d".into(),
        entity_id: "Zoë & co".into(),
        owner_id: Some("ann".into()),
        ..Alert::default()
    };
    let of_alert = EventHeaders::of_worker("worker", true).alert(&alert);
    first.outputs.push(OutputRecord {
        headers: of_alert.clone(),
        ..output(Output::Alerts, "an alert")
    });
    sink.commit(&Arc::new(first)).unwrap();
    sink.commit(&epoch(2, &[3, 5, 9], &["c"])).unwrap();
    assert_eq!(on.taken_over(), committed(2, &[3, 5, 9]));
    assert_eq!(on.visible(Output::Scores), ["a", "b", "c"]);
    assert_eq!(on.visible(Output::Epochs), ["epoch 1", "epoch 2"]);
    let scores = on.records(Output::Scores, Isolation::Committed);
    assert_eq!(
        scores[0].header("x-dlq-reason"),
        Some(b"validation".as_slice())
    );
    // Retention of scores counts from the append; compacted topics have the time of events.
    assert!(scores[0].timestamp_ms > 1_292_000_000_000);
    assert_eq!(
        scores[0].headers[1..],
        [("empty".into(), Some(vec![])), ("none".into(), None)]
    );
    let alerts = on.records(Output::Alerts, Isolation::Committed);
    assert_eq!(alerts[0].header("ce_id"), Some(b"f00d".as_slice()));
    assert_eq!(alerts[0].headers, of_alert, "as composed, in order");
    let policy = on.records(Output::PolicyState, Isolation::Committed);
    assert_eq!(
        (policy[0].key.as_deref(), policy[0].value.as_deref()),
        (Some(b"A001".as_slice()), None)
    );
    assert_eq!(policy[0].timestamp_ms, 1_292_000_000_000);
    assert_eq!(on.metrics.transactions("committed"), 2);
    assert_eq!(
        on.metrics.replacements("unanswered"),
        0,
        "every request is seen to be answered"
    );
}

#[test]
fn the_epoch_log_is_read_in_order() {
    let Some(on) = deployment("log", &[1]) else {
        return;
    };
    let (mut sink, mut log) = (on.sink(), KafkaOutputLog::new(&on.options, &on.metrics));
    let mut read = |expected: usize| {
        let (mut values, deadline) = (Vec::new(), Instant::now() + PATIENCE);
        log.rewind(0).unwrap();
        loop {
            match log.next(Duration::from_millis(100)).unwrap() {
                LogStep::Record(value) => values.push(String::from_utf8(value).unwrap()),
                LogStep::Waiting => assert!(
                    Instant::now() < deadline,
                    "{} of {expected} records came",
                    values.len()
                ),
                LogStep::End => break,
            }
        }
        assert_eq!(
            values,
            (1..=expected)
                .map(|n| format!("epoch {n}"))
                .collect::<Vec<_>>()
        );
    };
    sink.take_over().unwrap();
    read(0);
    for number in 1..=20 {
        sink.commit(&epoch(number, &[number as i64], &["s"]))
            .unwrap();
    }
    assert_eq!(on.taken_over(), committed(20, &[20]));
    read(20);
    let mut newest = Vec::new();
    log.newest(Output::Scores, 3, &mut |key, value| {
        assert_eq!(key, b"A001");
        newest.push(String::from_utf8(value.unwrap().to_vec()).unwrap());
        Ok(())
    })
    .unwrap();
    assert!(
        newest.len() >= 3 && newest.iter().all(|value| value == "s"),
        "{newest:?}"
    );
    let refused = OutputRecord {
        headers: vec![
            ("reason".to_owned(), Some(b"late".to_vec())),
            ("none".to_owned(), None),
        ],
        ..output(Output::DeadLetters, "a letter")
    };
    // The look at the group's positions above was another owner.
    sink = on.sink();
    sink.take_over().unwrap();
    let letters = SealedEpoch {
        outputs: vec![refused.clone(), output(Output::Epochs, "epoch 21")],
        ..(*epoch(21, &[21], &[])).clone()
    };
    sink.commit(&Arc::new(letters)).unwrap();
    let mut read_back = Vec::new();
    log.newest_whole(Output::DeadLetters, 5, &mut |letter| {
        read_back.push(letter);
        Ok(())
    })
    .unwrap();
    for letter in &mut read_back {
        assert!(letter.timestamp_ms > refused.timestamp_ms, "of the append");
        letter.timestamp_ms = refused.timestamp_ms;
    }
    assert_eq!(read_back, [refused], "with key and headers");
    let stop = log
        .latest(Output::Scores, &OutputPositions::default(), &mut |_, _| {
            Err(PortError::fatal(PortCause::Stopped, "enough"))
        })
        .unwrap_err();
    assert_eq!(stop.to_string(), "enough");
}

#[test]
fn an_unknown_outcome_is_settled_to_exactly_one_copy() {
    for (point, promoted) in [
        (CommitPoint::BeforeRecords, 0),
        (CommitPoint::BeforeOffsets, 0),
        (CommitPoint::BeforeCommit, 0),
        (CommitPoint::AfterCommit, 1),
    ] {
        let Some(on) = deployment("doubt", &[1]) else {
            return;
        };
        let mut sink = on.sink_in_doubt(point);
        sink.take_over().unwrap();
        sink.commit(&epoch(1, &[4], &["a", "b"])).unwrap();
        sink.commit(&epoch(2, &[6], &["c"])).unwrap();
        assert_eq!(on.taken_over(), committed(2, &[6]), "{point:?}");
        assert_eq!(on.visible(Output::Scores), ["a", "b", "c"], "{point:?}");
        assert_eq!(
            on.visible(Output::Epochs),
            ["epoch 1", "epoch 2"],
            "{point:?}"
        );
        assert_eq!(
            (
                on.metrics.transactions("indefinite"),
                on.metrics.transactions("promoted")
            ),
            (1, promoted),
            "{point:?}"
        );
    }
}

/// A sink that stops before the commit of epoch 1 until the sender of the second pair is dropped.
fn sink_that_waits(on: &Deployment) -> (KafkaSink, Receiver<()>, Sender<()>) {
    let ((to_test, reached), (release, released)) = (bounded(1), bounded::<()>(1));
    let failpoint: Failpoint = Arc::new(move |point, epoch| {
        if (point, epoch) == (CommitPoint::BeforeCommit, 1) {
            let _ = to_test.try_send(());
            let _ = released.recv(); // an error once the test goes on
        }
        false
    });
    (on.sink().with_failpoint(failpoint), reached, release)
}

#[test]
fn an_epoch_is_committed_while_its_caller_goes_on() {
    let Some(on) = deployment("under-way", &[1]) else {
        return;
    };
    let (mut sink, reached, release) = sink_that_waits(&on);
    sink.take_over().unwrap();
    sink.begin(&epoch(1, &[4], &["a"])).unwrap();
    reached.recv_timeout(PATIENCE).unwrap();
    assert_eq!(sink.end(Duration::ZERO).unwrap(), None);
    let early = sink.begin(&epoch(2, &[5], &["b"])).unwrap_err();
    assert_eq!(early.cause(), PortCause::Misuse, "{early}");
    assert_eq!(sink.end(Duration::from_millis(20)).unwrap(), None);
    assert!(on.visible(Output::Scores).is_empty());
    drop(release);
    let deadline = Instant::now() + PATIENCE;
    while sink.end(Duration::from_millis(20)).unwrap().is_none() {
        assert!(Instant::now() < deadline);
    }
    sink.commit(&epoch(2, &[5], &["b"])).unwrap();
    assert_eq!(on.taken_over(), committed(2, &[5]));
    assert_eq!(on.visible(Output::Scores), ["a", "b"]);
}

#[test]
fn an_epoch_under_way_in_doubt_is_settled_at_its_end() {
    for (point, promoted) in [
        (CommitPoint::BeforeCommit, 0),
        (CommitPoint::AfterCommit, 1),
    ] {
        let Some(on) = deployment("doubt-under-way", &[1]) else {
            return;
        };
        let mut sink = on.sink_in_doubt(point);
        sink.take_over().unwrap();
        sink.begin(&epoch(1, &[4], &["a"])).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while sink.end(Duration::ZERO).unwrap().is_none() {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(1));
        }
        sink.commit(&epoch(2, &[6], &["b"])).unwrap();
        assert_eq!(on.taken_over(), committed(2, &[6]), "{point:?}");
        assert_eq!(on.visible(Output::Scores), ["a", "b"], "{point:?}");
        assert_eq!(on.metrics.transactions("promoted"), promoted, "{point:?}");
    }
}

#[test]
fn a_process_that_leaves_an_epoch_under_way_commits_it_no_more() {
    let Some(on) = deployment("left-under-way", &[1]) else {
        return;
    };
    let (mut sink, reached, release) = sink_that_waits(&on);
    sink.take_over().unwrap();
    sink.begin(&epoch(1, &[4], &["a"])).unwrap();
    reached.recv_timeout(PATIENCE).unwrap();
    drop(sink);
    drop(release);
    let mut next = on.sink();
    assert_eq!(next.take_over().unwrap(), None);
    next.commit(&epoch(1, &[3], &["b"])).unwrap();
    assert_eq!(on.taken_over(), committed(1, &[3]));
    assert_eq!(on.visible(Output::Scores), ["b"]);
}

#[test]
fn aborted_records_are_invisible() {
    let Some(on) = deployment("abort", &[1]) else {
        return;
    };
    let mut sink = on.sink_in_doubt(CommitPoint::BeforeCommit);
    sink.take_over().unwrap();
    sink.commit(&epoch(1, &[1], &["once"])).unwrap();
    assert_eq!(on.taken_over(), committed(1, &[1]));
    // The records of the attempt that was given up are in the log, and aborted. Without them this
    // test would prove nothing.
    let everything: Vec<String> = on
        .records(Output::Scores, Isolation::Uncommitted)
        .iter()
        .map(text)
        .collect();
    assert_eq!(everything, ["once", "once"]);
    assert_eq!(on.visible(Output::Scores), ["once"]);
}

#[test]
fn a_zombie_makes_nothing_visible() {
    // Once with records, and once with an epoch that only timers caused: its positions do not move.
    for (values, positions) in [(["zombie"].as_slice(), 9), (&[], 1)] {
        let Some(on) = deployment("zombie", &[1]) else {
            return;
        };
        let (mut zombie, mut owner) = (on.sink(), on.sink());
        zombie.take_over().unwrap();
        zombie.commit(&epoch(1, &[1], &["before"])).unwrap();
        assert_eq!(owner.take_over().unwrap(), committed(1, &[1]));
        let error = zombie.commit(&epoch(2, &[positions], values)).unwrap_err();
        assert!(matches!(error, PortError::Fenced(_)), "{error:?}");
        assert!(matches!(
            zombie.commit(&epoch(2, &[positions], values)).unwrap_err(),
            PortError::Fenced(_)
        ));
        owner.commit(&epoch(2, &[2], &["after"])).unwrap();
        assert_eq!(on.taken_over(), committed(2, &[2]));
        assert_eq!(on.visible(Output::Scores), ["before", "after"]);
    }
}

#[test]
fn a_zombie_in_doubt_stops_after_a_successor_committed() {
    let Some(on) = deployment("overtaken", &[1]) else {
        return;
    };
    let (mut zombie, mut owner) = (on.sink_in_doubt(CommitPoint::BeforeRecords), on.sink());
    zombie.take_over().unwrap();
    owner.take_over().unwrap();
    owner.commit(&epoch(1, &[1], &["a"])).unwrap();
    owner.commit(&epoch(2, &[2], &["b"])).unwrap();
    let error = zombie.commit(&epoch(1, &[9], &["zombie"])).unwrap_err();
    assert!(!matches!(error, PortError::Retriable(_)), "{error:?}");
    assert_eq!(on.taken_over(), committed(2, &[2]));
    assert_eq!(on.visible(Output::Scores), ["a", "b"]);
}

#[test]
fn an_epoch_without_outputs_or_progress_is_committed() {
    let Some(on) = deployment("timer", &[2]) else {
        return;
    };
    let mut sink = on.sink();
    sink.take_over().unwrap();
    sink.commit(&epoch(1, &[3, 4], &["a"])).unwrap();
    sink.commit(&epoch(2, &[3, 4], &[])).unwrap();
    assert_eq!(on.taken_over(), committed(2, &[3, 4]));
}

#[test]
fn an_epoch_out_of_order_is_refused() {
    let Some(on) = deployment("order", &[1]) else {
        return;
    };
    let mut sink = on.sink();
    assert!(
        matches!(
            sink.commit(&epoch(1, &[1], &["a"])),
            Err(PortError::Fatal(_))
        ),
        "commit before take_over"
    );
    sink.take_over().unwrap();
    assert!(
        matches!(
            sink.commit(&epoch(2, &[1], &["a"])),
            Err(PortError::Fatal(_))
        ),
        "a gap"
    );
    assert!(
        matches!(
            sink.commit(&epoch(1, &[1, 2], &["a"])),
            Err(PortError::Fatal(_))
        ),
        "too many positions"
    );
    sink.commit(&epoch(1, &[1], &["a"])).unwrap();
    assert!(
        matches!(
            sink.commit(&epoch(1, &[1], &["a"])),
            Err(PortError::Fatal(_))
        ),
        "twice"
    );
    assert_eq!(on.taken_over(), committed(1, &[1]));
    assert_eq!(on.visible(Output::Scores), ["a"]);
}

#[test]
fn a_group_without_positions_beside_epochs_is_refused() {
    let Some(on) = deployment("lost", &[1]) else {
        return;
    };
    let mut sink = on.sink();
    sink.take_over().unwrap();
    sink.commit(&epoch(1, &[1], &["a"])).unwrap();
    let changed = KafkaOptions {
        group_id: unique("other-group"),
        ..on.options.clone()
    };
    let mut other = KafkaSink::new(&changed, on.source().partitions(), &on.metrics).unwrap();
    let error = other.take_over().unwrap_err().to_string();
    assert!(error.contains("holds committed epochs"), "{error}");
}

/// Bytes that no codec makes smaller.
fn incompressible(bytes: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut drawn: Vec<u8> = std::iter::repeat_with(next)
        .take(bytes.div_ceil(8))
        .flatten()
        .collect();
    drawn.truncate(bytes);
    drawn
}

#[test]
fn a_score_that_is_too_large_is_refused_with_its_topic() {
    let Some(on) = deployment("large", &[1]) else {
        return;
    };
    let mut sink = on.sink();
    sink.take_over().unwrap();
    let mut large = SealedEpoch::clone(&epoch(1, &[1], &["a"]));
    large.outputs[0].value = Some(incompressible(9_000_000));
    let error = sink.commit(&Arc::new(large)).unwrap_err();
    assert!(
        error.cause() == PortCause::RecordTooLarge
            && error.to_string().contains("message.max.bytes"),
        "{error:?}"
    );
    assert_eq!(on.taken_over(), None);
    assert_eq!(on.visible(Output::Scores), Vec::<String>::new());
}

#[test]
fn dead_letters_of_any_size_are_committed() {
    // A topic that was created by hand, with the brokers' default room of a megabyte.
    let Some(cluster) = kafka() else { return };
    let on = Deployment::named(&unique("junk"), &cluster.servers, 1);
    let mut wanted = output_topics(&on.options);
    wanted
        .iter_mut()
        .filter(|spec| spec.name == on.options.outputs.dead_letters)
        .for_each(|spec| *spec = TopicSpec::log(&spec.name, 1));
    wanted.push(TopicSpec::log(&on.inputs[0].topic, 1));
    ensure_topics(&on.options, &wanted).unwrap();
    let mut sink = on.sink();
    sink.take_over().unwrap();
    let input = InputPartition {
        topic: on.inputs[0].topic.clone(),
        partition: 0,
        tables: vec![TableId(0)],
    };
    let letter = |number: i64, key: &[u8], value: &[u8], header: &[u8]| {
        let mut batch = RecordBatch::default();
        batch.push(
            0,
            0,
            number,
            Some(key),
            Some(value),
            [("original", Some(header))],
        );
        dead_letter(
            batch.record(0),
            &input,
            Reason::WireFormat,
            "junk",
            AsOf::from_ms(1),
        )
    };
    // The second fits once it is compressed. The others do not: value, headers or key alone are
    // more than the topic allows.
    let junk = [
        letter(1, b"a", &incompressible(1_000_011), b"h"),
        letter(2, b"b", &vec![b'x'; 10_000_000], b"h"),
        letter(3, b"c", &incompressible(2_000_000), b"h"),
        letter(4, b"d", b"v", &incompressible(2_000_000)),
        letter(5, &incompressible(2_000_000), b"v", b"h"),
    ];
    for (number, letter) in (1..).zip(&junk) {
        let mut with_junk = SealedEpoch::clone(&epoch(number, &[number as i64], &["score"]));
        with_junk.outputs.push(letter.clone());
        sink.commit(&Arc::new(with_junk)).unwrap();
    }
    assert_eq!(on.taken_over(), committed(5, &[5]));
    let (mut read, mut kept) = (
        on.records(Output::DeadLetters, Isolation::Committed),
        Vec::new(),
    );
    read.sort_by_key(|letter| letter.timestamp_ms);
    for (letter, read) in junk.iter().zip(&read) {
        let value = letter.value.as_ref().unwrap();
        if read.value.is_none() {
            assert_eq!(
                read.header(HEADER_VALUE_BYTES),
                Some(value.len().to_string().as_bytes())
            );
        } else {
            assert!(read.value.as_ref() == Some(value));
        }
        assert_eq!(read.header(HEADER_REASON), Some(b"wire_format".as_slice()));
        kept.push([
            read.key.is_some(),
            read.value.is_some(),
            read.header("original").is_some(),
        ]);
    }
    let expected = [
        [true, true, true],
        [true, true, true],
        [true, false, true],
        [true, false, false],
        [false, false, false],
    ];
    assert_eq!(kept, expected, "key, value, original headers");
    assert_eq!(on.visible(Output::Scores).len(), junk.len());
    assert_eq!(
        on.metrics.replacements("aborted"),
        1,
        "the size that was refused is remembered"
    );
}

#[test]
fn a_source_seeks_and_keeps_the_order_of_each_partition() {
    let Some(on) = deployment("seek", &[3, 1]) else {
        return;
    };
    on.produce(&on.inputs[0].topic, (0..900).map(|n| format!("a{n}")));
    on.produce(&on.inputs[1].topic, (0..300).map(|n| format!("b{n}")));
    let mut source = on.source();
    let places: Vec<_> = source
        .partitions()
        .iter()
        .map(|p| (p.topic.clone(), p.partition, p.tables.clone()))
        .collect();
    let (first, second) = (&on.inputs[0], &on.inputs[1]);
    let expected = [(first, 0), (first, 1), (first, 2), (second, 0)]
        .map(|(input, partition)| (input.topic.clone(), partition, input.tables.clone()));
    assert_eq!(places, expected);
    let (starts, ends) = (source.starts().unwrap(), stable_ends(&mut source));
    assert_eq!(starts, vec![NextOffset(0); 4]);
    assert_eq!(
        (ends[..3].iter().map(|end| end.0).sum::<i64>(), ends[3].0),
        (900, 300)
    );

    source.seek(&starts).unwrap();
    let all = by_partition(&poll_until(&mut source, ANY, 1200));
    for (partition, records) in &all {
        let offsets: Vec<i64> = records.iter().map(|(offset, _)| *offset).collect();
        assert_eq!(
            offsets,
            (0..ends[*partition as usize].0).collect::<Vec<_>>(),
            "partition {partition}"
        );
    }
    assert_eq!(source.read_to().unwrap(), ends);

    // Repeated seeks back: records fetched before a seek never come after it.
    for round in 0..5 {
        let from: Vec<NextOffset> = ends
            .iter()
            .map(|end| NextOffset(end.0 * round / 6))
            .collect();
        source.seek(&from).unwrap();
        let enough = if round == 4 {
            ends.iter()
                .zip(&from)
                .map(|(end, from)| (end.0 - from.0) as usize)
                .sum()
        } else {
            50
        };
        for (partition, records) in by_partition(&poll_until(&mut source, ANY, enough)) {
            let start = from[partition as usize].0 as usize;
            assert_eq!(
                records,
                all[&partition][start..start + records.len()],
                "round {round}, partition {partition}"
            );
        }
    }
    let too_far: Vec<NextOffset> = ends.iter().map(|end| NextOffset(end.0 + 1)).collect();
    assert!(matches!(source.seek(&too_far), Err(PortError::Fatal(_))));
}

#[test]
fn a_poll_keeps_to_its_limits() {
    let Some(on) = deployment("limits", &[1]) else {
        return;
    };
    on.produce(&on.inputs[0].topic, (0..500).map(|n| format!("{n:010}"))); // key and value: 20 bytes
    let mut source = on.source();
    source.seek(&[NextOffset(0)]).unwrap();
    let mut next = 0;
    let deadline = Instant::now() + PATIENCE;
    while next < 500 {
        assert!(Instant::now() < deadline);
        // The batch already holds a record of the caller's: limits are about what a poll adds.
        for limit in [
            PollLimit {
                records: 7,
                bytes: usize::MAX,
            },
            PollLimit {
                records: usize::MAX,
                bytes: 100,
            },
            PollLimit {
                records: 9,
                bytes: 1,
            },
        ] {
            let mut batch = RecordBatch::default();
            batch.push(0, -1, 0, None, Some(b"mine"), []);
            source
                .poll(&mut batch, limit, Duration::from_millis(50))
                .unwrap();
            let added = batch.len() - 1;
            assert!(
                added <= limit.records.min(limit.bytes.div_ceil(20)),
                "{added} records with {limit:?}"
            );
            for record in batch.iter().skip(1) {
                assert_eq!(record.offset(), next);
                next += 1;
            }
            assert_eq!(source.read_to().unwrap(), [NextOffset(next)]);
        }
    }
}

#[test]
fn a_source_passes_over_markers_and_aborted_records() {
    let Some(on) = deployment("markers", &[1]) else {
        return;
    };
    let mut sink = on.sink_in_doubt(CommitPoint::BeforeCommit);
    sink.take_over().unwrap();
    sink.commit(&epoch(1, &[0], &["a"])).unwrap();
    assert_eq!(on.taken_over(), committed(1, &[0]));
    // The epochs of one deployment are the input of the next; their partition ends with aborted
    // records and a commit marker.
    let input = InputTopic {
        topic: on.options.outputs.epochs.clone(),
        tables: vec![TableId(0)],
    };
    let mut source = KafkaSource::open(&on.options, &[input], &on.metrics).unwrap();
    let ends = stable_ends(&mut source);
    assert!(
        ends[0].0 > 2,
        "the aborted record, its marker, the record, its marker: {ends:?}"
    );
    source.seek(&[NextOffset(0)]).unwrap();
    let mut batch = RecordBatch::default();
    let deadline = Instant::now() + PATIENCE;
    while source.read_to().unwrap() != ends {
        assert!(
            Instant::now() < deadline,
            "stopped at {:?} of {ends:?}",
            source.read_to()
        );
        source
            .poll(&mut batch, ANY, Duration::from_millis(50))
            .unwrap();
    }
    let values: Vec<_> = batch.iter().map(|record| record.value().unwrap()).collect();
    assert_eq!(values, [b"epoch 1"]);
}

/// Input partitions in another order, with gaps.
fn chosen(source: &KafkaSource, indices: &[usize]) -> Vec<InputPartition> {
    indices
        .iter()
        .map(|index| source.partitions()[*index].clone())
        .collect()
}

#[test]
fn a_source_reads_what_was_arranged_and_nothing_else() {
    let Some(on) = deployment("arrange", &[4, 2]) else {
        return;
    };
    on.produce(&on.inputs[0].topic, (0..400).map(|n| format!("a{n}")));
    on.produce(&on.inputs[1].topic, (0..200).map(|n| format!("b{n}")));
    let mut source = on.source();
    let (all, ends) = (source.starts().unwrap(), stable_ends(&mut source));
    source.seek(&all).unwrap();
    poll_until(&mut source, ANY, 600);

    let order = [5, 2, 0];
    let arranged = chosen(&source, &order);
    source.arrange(arranged.clone()).unwrap();
    assert_eq!(source.partitions(), arranged);
    let unread = source
        .poll(&mut RecordBatch::default(), ANY, Duration::ZERO)
        .unwrap_err();
    assert!(unread.to_string().contains("next seek"), "{unread}");
    assert_eq!(stable_ends(&mut source), order.map(|index| ends[index]));
    source
        .seek(&[NextOffset(1), NextOffset(0), NextOffset(2)])
        .unwrap();
    let expected: usize = order
        .iter()
        .map(|index| ends[*index].0 as usize)
        .sum::<usize>()
        - 3;
    let records = by_partition(&poll_until(&mut source, ANY, expected));
    for ((index, from), input) in order.into_iter().zip([1, 0, 2]).zip(0..) {
        let offsets: Vec<i64> = records[&input].iter().map(|(offset, _)| *offset).collect();
        assert_eq!(
            offsets,
            (from..ends[index].0).collect::<Vec<_>>(),
            "{:?}",
            arranged[input as usize]
        );
    }
    assert_eq!(source.read_to().unwrap(), order.map(|index| ends[index]));

    let missing = InputPartition {
        partition: 4,
        ..arranged[1].clone()
    };
    let error = source.arrange(vec![missing]).unwrap_err().to_string();
    assert!(
        error.contains(&format!("{}/4", on.inputs[0].topic)),
        "{error}"
    );
    assert_eq!(
        source.partitions(),
        arranged,
        "a refused arrangement changes nothing"
    );
}

#[test]
fn a_paused_partition_comes_to_rest_and_goes_on_without_a_gap() {
    let Some(on) = deployment("pause", &[2]) else {
        return;
    };
    let topic = &on.inputs[0].topic;
    on.produce(topic, (0..2_000).map(|n| format!("{n}")));
    let mut source = on.source();
    source.seek(&[NextOffset(0), NextOffset(0)]).unwrap();
    let mut read: BTreeMap<u32, Vec<i64>> = BTreeMap::new();
    let mut keep = |batch: &RecordBatch| {
        for record in batch.iter() {
            read.entry(record.partition())
                .or_default()
                .push(record.offset());
        }
        [0, 1].map(|partition| read.get(&partition).map_or(0, Vec::len))
    };
    keep(&poll_until(
        &mut source,
        PollLimit {
            records: 10,
            bytes: usize::MAX,
        },
        10,
    ));
    let ends = stable_ends(&mut source);
    // Records fetched before the pause are still delivered. Then the partition rests while the
    // other is read to its end.
    let mut extra = 0;
    for round in 0..4 {
        source.pause(&[1]).unwrap();
        on.produce(topic, (0..500).map(|n| format!("round {round} {n}")));
        extra += 500;
        let ends = stable_ends(&mut source);
        let deadline = Instant::now() + PATIENCE;
        while source.read_to().unwrap()[0] < ends[0] {
            assert!(Instant::now() < deadline);
            let mut batch = RecordBatch::default();
            source
                .poll(&mut batch, ANY, Duration::from_millis(50))
                .unwrap();
            keep(&batch);
        }
        assert!(
            source.read_to().unwrap()[1] < ends[1],
            "round {round}: a paused partition was read on"
        );
        source.resume(&[1]).unwrap();
        if round % 2 == 0 {
            let mut batch = RecordBatch::default();
            source
                .poll(
                    &mut batch,
                    PollLimit {
                        records: 1,
                        bytes: usize::MAX,
                    },
                    PATIENCE,
                )
                .unwrap();
            keep(&batch);
        }
    }
    let mut count = keep(&RecordBatch::default());
    let deadline = Instant::now() + PATIENCE;
    while count.iter().sum::<usize>() < 2_000 + extra {
        assert!(Instant::now() < deadline, "{count:?}");
        let mut batch = RecordBatch::default();
        source
            .poll(&mut batch, ANY, Duration::from_millis(50))
            .unwrap();
        count = keep(&batch);
    }
    for (partition, offsets) in &read {
        assert_eq!(
            *offsets,
            (0..offsets.len() as i64).collect::<Vec<_>>(),
            "partition {partition}"
        );
    }

    // A seek resumes all.
    source.pause(&[0, 1]).unwrap();
    source.seek(&[NextOffset(0), NextOffset(0)]).unwrap();
    poll_until(&mut source, ANY, (ends[0].0 + ends[1].0) as usize);
}

#[test]
fn a_skipped_stretch_is_not_read_and_never_read_back() {
    let Some(on) = deployment("skip", &[1, 1]) else {
        return;
    };
    on.produce(&on.inputs[0].topic, (0..100).map(|n| format!("{n}")));
    let mut source = on.source();
    source.seek(&[NextOffset(0), NextOffset(0)]).unwrap();
    source.skip_to(0, NextOffset(60)).unwrap();
    let batch = poll_until(&mut source, ANY, 40);
    let offsets: Vec<i64> = batch.iter().map(|record| record.offset()).collect();
    // Records that were fetched before the skip still come.
    assert!(
        offsets.ends_with(&(60..100).collect::<Vec<_>>()),
        "{offsets:?}"
    );
    assert_eq!(source.read_to().unwrap(), [NextOffset(100), NextOffset(0)]);
    // A skip to the end of the log: no record comes, but the engine learns that the stretch was
    // passed.
    on.produce(&on.inputs[1].topic, (0..10).map(|n| format!("{n}")));
    source.pause(&[1]).unwrap();
    source.skip_to(1, NextOffset(10)).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut late = RecordBatch::default();
    while source.read_to().unwrap()[1] != NextOffset(10) {
        assert!(Instant::now() < deadline, "{:?}", source.read_to());
        source
            .poll(&mut late, ANY, Duration::from_millis(50))
            .unwrap();
    }
    assert!(
        matches!(source.skip_to(0, NextOffset(99)), Err(PortError::Fatal(_))),
        "back"
    );
    assert!(
        matches!(source.skip_to(2, NextOffset(0)), Err(PortError::Fatal(_))),
        "no such partition"
    );
}

#[test]
fn added_partitions_are_noticed_and_can_be_read() {
    let Some(on) = deployment("added", &[1, 1]) else {
        return;
    };
    let topic = &on.inputs[0].topic;
    let mut source = on.source();
    source.seek(&[NextOffset(0), NextOffset(0)]).unwrap();
    assert_eq!(source.added(), []);
    let admin: AdminClient<_> = ClientConfig::new()
        .set("bootstrap.servers", &on.options.brokers)
        .create()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let more = NewPartitions::new(topic, 3);
    runtime
        .block_on(admin.create_partitions(&[more], &AdminOptions::new()))
        .unwrap()
        .remove(0)
        .unwrap();
    let added = until(|| source.added(), |added| added.len() == 2);
    let expected: Vec<_> = (1..3)
        .map(|partition| InputPartition {
            partition,
            ..source.partitions()[0].clone()
        })
        .collect();
    assert_eq!(added, expected);
    assert_eq!(on.gauge("leadpulse_source_partitions_added"), 2.0);
    on.produce(topic, (0..300).map(|n| format!("{n}")));
    let all = source.partitions().iter().cloned().chain(added).collect();
    source.arrange(all).unwrap();
    assert_eq!(
        (
            source.added(),
            on.gauge("leadpulse_source_partitions_added")
        ),
        (vec![], 0.0)
    );
    source.seek(&[NextOffset(0); 4]).unwrap();
    let records = by_partition(&poll_until(&mut source, ANY, 300));
    assert_eq!(records.keys().copied().collect::<Vec<_>>(), [0, 2, 3]);
}

#[test]
fn the_last_ends_are_those_of_the_log() {
    let Some(on) = deployment("ends", &[1]) else {
        return;
    };
    let mut source = on.source();
    let empty = until(|| source.last_ends(), Option::is_some).unwrap();
    assert_eq!(empty, source.ends().unwrap());
    on.produce(&on.inputs[0].topic, (0..7).map(|n| format!("{n}")));
    let ends = source.ends().unwrap();
    assert_eq!(
        ends,
        [LogEnd {
            stable: NextOffset(7),
            high: NextOffset(7)
        }]
    );
    until(|| source.last_ends(), |last| *last == Some(ends.clone()));
    // An open transaction holds the stable end back.
    let open = ClientConfig::new()
        .set("bootstrap.servers", &on.options.brokers)
        .set("transactional.id", unique("open"))
        .create::<BaseProducer>()
        .unwrap();
    open.init_transactions(PATIENCE).unwrap();
    open.begin_transaction().unwrap();
    open.send(BaseRecord::<[u8], [u8]>::to(&on.inputs[0].topic).payload(b"open"))
        .map_err(|(error, _)| error)
        .unwrap();
    open.flush(PATIENCE).unwrap();
    let held = until(
        || source.last_ends(),
        |last| {
            last.as_ref()
                .is_some_and(|last| last[0].high == NextOffset(8))
        },
    );
    assert_eq!(
        held,
        Some(vec![LogEnd {
            stable: NextOffset(7),
            high: NextOffset(8)
        }])
    );
}

/// A clock that stands at 2023-11-14, an hour after the records of [`Deployment::produce`].
struct AnHourLater;

impl Clock for AnHourLater {
    fn wall_ms(&self) -> i64 {
        1_700_000_000_000 + 3_600_000
    }
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
    fn wait(&self, _: Duration) {}
}

#[test]
fn topics_that_will_delete_needed_records_are_found() {
    let Some(cluster) = kafka() else { return };
    let mut on = Deployment::named(&unique("forget"), &cluster.servers, 3);
    let topic = |n: usize| on.inputs[n].topic.clone();
    let with = |name: &str, settings: &[(&'static str, &'static str)]| TopicSpec {
        name: name.into(),
        partitions: 2,
        settings: settings
            .iter()
            .map(|(key, value)| (*key, (*value).to_owned()))
            .collect(),
    };
    let epochs = on.options.outputs.epochs.clone();
    let wanted = [
        TopicSpec::log(&topic(0), 2),
        with(
            &topic(1),
            &[("retention.ms", "10800000"), ("retention.bytes", "1000000")],
        ),
        with(&topic(2), &[("cleanup.policy", "compact")]),
        with(&epochs, &[("retention.ms", "86400000")]),
    ];
    ensure_topics(&on.options, &wanted).unwrap();
    on.produce(&topic(1), (0..20).map(|n| format!("{n}")));
    let findings = TopicWatch::start(&on.options, &on.inputs, Arc::new(AnHourLater), &on.metrics)
        .unwrap()
        .findings();
    let found: Vec<_> = findings
        .iter()
        .map(|f| (f.topic.clone(), f.setting, f.value.as_str(), f.hours_left))
        .collect();
    // The other outputs do not exist yet.
    let expected = [
        (topic(1), "retention.ms", "10800000", Some(2.0)),
        (topic(1), "retention.bytes", "1000000", None),
        (topic(2), "cleanup.policy", "compact", None),
        (epochs.clone(), "retention.ms", "86400000", None),
    ];
    assert_eq!(found, expected);
    assert_eq!(
        on.metric("leadpulse_topic_retention_seconds", &[&topic(1)]),
        7200.0
    );
    assert_eq!(
        on.metric("leadpulse_topic_findings", &[&topic(2), "cleanup.policy"]),
        1.0
    );
    assert_eq!(on.metric("leadpulse_topic_findings", &[&topic(0)]), 0.0);

    // Topics that this program creates give no finding.
    on.inputs.truncate(1);
    on.options.outputs = OutputTopics::beside(&unique("kept.epochs"));
    ensure_topics(&on.options, &output_topics(&on.options)).unwrap();
    assert_eq!(
        describe(
            &on.options,
            &on.inputs,
            AnHourLater.wall_ms(),
            &on.metrics,
            &Holdings::default(),
        )
        .unwrap(),
        []
    );
}

#[test]
fn a_topic_that_was_created_again_is_named() {
    let Some(on) = deployment("again", &[1, 2]) else {
        return;
    };
    on.produce(&on.inputs[1].topic, (0..5).map(|n| format!("old {n}")));
    let mut sink = on.sink();
    sink.take_over().unwrap();
    sink.commit(&epoch(1, &[0, 2, 3], &["a"])).unwrap();
    let admin: AdminClient<_> = ClientConfig::new()
        .set("bootstrap.servers", &on.options.brokers)
        .create()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let topic = on.inputs[1].topic.as_str();
    runtime
        .block_on(admin.delete_topics(&[topic], &AdminOptions::new()))
        .unwrap()
        .remove(0)
        .unwrap();
    let again = [TopicSpec::log(topic, 2)];
    until(
        || ensure_topics(&on.options, &again),
        |created| created.as_ref().is_ok_and(|created| !created.is_empty()),
    )
    .unwrap();
    on.produce(topic, (0..50).map(|n| format!("new {n}")));
    // The broker drops the offsets of a deleted topic, and keeps the others.
    let found = until(
        || on.taken_over().unwrap(),
        |found| found.positions.contains(&None),
    );
    assert_eq!(
        (found.number, found.positions),
        (1, vec![Some(NextOffset(0)), None, None])
    );
    let mut source = on.source();
    // Offsets that still stand, but beyond the new end, give the same error at the seek.
    let error = source
        .seek(&[NextOffset(0), NextOffset(90), NextOffset(0)])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(topic) && error.contains("created again"),
        "{error}"
    );
}

/// The file of a partition's first segment, where the broker runs on this machine.
fn segment(topic: &str, partition: i32) -> PathBuf {
    let home = match std::env::var_os("LEADPULSE_KAFKA_HOME") {
        Some(home) => home.into(),
        None => {
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("kafka-{}", std::process::id()))
        }
    };
    home.join("1/data")
        .join(format!("{topic}-{partition}"))
        .join("00000000000000000000.log")
}

/// Destroys the compressed records of the nth batch of a partition, as a broken disk would.
fn damage(topic: &str, partition: i32, nth: usize) {
    let mut file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(segment(topic, partition))
        .unwrap();
    let mut start = 0;
    for _ in 0..nth {
        let mut length = [0; 4];
        file.seek(SeekFrom::Start(start + 8)).unwrap();
        file.read_exact(&mut length).unwrap();
        start += 12 + u64::from(u32::from_be_bytes(length));
    }
    // The header of a batch has 61 bytes; then comes an lz4 frame, which begins with its magic
    // number.
    file.seek(SeekFrom::Start(start + 61)).unwrap();
    let mut magic = [0; 4];
    file.read_exact(&mut magic).unwrap();
    assert_eq!(magic, [0x04, 0x22, 0x4d, 0x18], "an lz4 frame");
    file.seek(SeekFrom::Start(start + 61)).unwrap();
    file.write_all(&[0; 4]).unwrap();
}

#[test]
fn a_damaged_batch_is_reported_with_its_offset_and_can_be_skipped() {
    let Some(on) = deployment("damage", &[1, 1, 1]) else {
        return;
    };
    let damaged = &on.inputs[1].topic;
    for batch in 0..3 {
        on.produce(
            damaged,
            (0..20).map(|n| format!("{batch} {n} {}", "x".repeat(200))),
        );
    }
    on.produce(&on.inputs[0].topic, (0..10).map(|n| format!("{n}")));
    damage(damaged, 0, 1);
    let mut source = on.source();
    source.seek(&[NextOffset(0); 3]).unwrap();
    // A healthy partition that is paused is no suspect, however long it stands still.
    on.produce(&on.inputs[2].topic, (0..10).map(|n| format!("{n}")));
    source.pause(&[2]).unwrap();
    let mut batch = RecordBatch::default();
    let mut poll = |source: &mut KafkaSource| {
        source
            .poll(&mut batch, ANY, Duration::from_millis(50))
            .unwrap()
    };
    let stuck = until(
        || {
            poll(&mut source);
            source.stuck()
        },
        |stuck| !stuck.is_empty(),
    );
    assert_eq!(
        (stuck.len(), stuck[0].partition, stuck[0].offset),
        (1, 1, NextOffset(20)),
        "{stuck:?}"
    );
    assert!(on.client_errors("source", "BadCompression") >= 3.0);
    assert_eq!(
        source.read_to().unwrap()[..2],
        [NextOffset(10), NextOffset(20)],
        "the other partition is read"
    );
    assert_eq!(
        source.readable_after(1, NextOffset(20)).unwrap(),
        NextOffset(40)
    );
    source.skip_to(1, NextOffset(40)).unwrap();
    assert_eq!(source.stuck(), []);
    until(
        || {
            poll(&mut source);
            source.read_to().unwrap()[1]
        },
        |read_to| *read_to == NextOffset(60),
    );
    let records = by_partition(&batch);
    let offsets: Vec<i64> = records[&1].iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, (0..20).chain(40..60).collect::<Vec<_>>());
    assert_eq!(source.stuck(), []);
}

#[test]
fn header_values_are_read_as_they_were_written() {
    let Some(on) = deployment("headers", &[1]) else {
        return;
    };
    let headers = [
        ("a", Some(b"1".as_slice())),
        ("empty", Some(b"".as_slice())),
        ("none", None),
        ("a", Some(b"2".as_slice())),
    ];
    let mut producer = Producer::connect(&on.options, &on.metrics).unwrap();
    producer
        .send_with_headers(&on.inputs[0].topic, None, Some(b"v"), &headers, 5)
        .unwrap();
    producer.flush(PATIENCE).unwrap();
    let mut source = on.source();
    source.seek(&[NextOffset(0)]).unwrap();
    let batch = poll_until(&mut source, ANY, 1);
    assert_eq!(batch.record(0).headers().collect::<Vec<_>>(), headers);
}

#[test]
fn missing_topics_are_named() {
    let Some(cluster) = kafka() else { return };
    let on = Deployment::named(&unique("missing"), &cluster.servers, 1);
    for error in [
        KafkaSource::open(&on.options, &on.inputs, &on.metrics)
            .map(drop)
            .unwrap_err(),
        read_all(
            &on.options,
            &on.inputs[0].topic,
            Isolation::Committed,
            &on.metrics,
        )
        .map(drop)
        .unwrap_err(),
    ] {
        assert!(
            error.cause() == PortCause::TopicMissing
                && error.to_string().contains(&on.inputs[0].topic),
            "{error:?}"
        );
    }
}

/// Values are the moments of their records, and two of three records are of other keys.
#[test]
fn older_records_of_a_key_are_found_by_moment_and_read_backwards() {
    let Some(on) = deployment("past", &[1]) else {
        return;
    };
    let mut sink = on.sink();
    assert_eq!(sink.take_over().unwrap(), None);
    for number in 1..=40_u64 {
        let mut sealed = SealedEpoch::clone(&epoch(number, &[number as i64], &[]));
        for key in ["A001", "B002", "C003"] {
            sealed.outputs.push(OutputRecord {
                key: Some(key.into()),
                ..output(Output::Scores, &(10 * number).to_string())
            });
        }
        sink.commit(&Arc::new(sealed)).unwrap();
    }
    assert_eq!(on.taken_over(), committed(40, &[40]));
    let topic = on.options.outputs.name(Output::Scores);
    let past = KeyPast::new(&on.options, topic, &on.metrics);
    let moment_of = |record: &OwnedRecord| text(record).parse::<i64>().ok();
    let bounds = PastBounds {
        wanted: 7,
        offsets: 1_000_000,
        time: PATIENCE,
    };
    let (mut place, mut found, mut pages) = (PastPlace::Moment(305), Vec::new(), 0);
    loop {
        let page = past.before(b"B002", place, bounds, &moment_of).unwrap();
        assert!(page.records.len() <= 7);
        let keys = page.records.iter().map(|record| record.key.as_deref());
        assert!(keys.into_iter().all(|key| key == Some(b"B002".as_slice())));
        let moments = page.records.iter().filter_map(moment_of);
        found.splice(0..0, moments);
        pages += 1;
        let Some(next) = page.next else { break };
        place = PastPlace::Offset(next);
    }
    let expected: Vec<i64> = (1..=30).map(|number| 10 * number).collect();
    assert_eq!(found, expected);
    assert!(pages >= 5, "{pages} pages of seven");

    // A bound of offsets ends a read before its records are there, and says where to go on.
    let narrow = PastBounds {
        offsets: 4,
        ..bounds
    };
    let page = past.before(b"A001", PastPlace::Moment(i64::MAX), narrow, &moment_of);
    let page = page.unwrap();
    assert_eq!(page.looked_at, 4);
    assert!(page.records.len() <= 2 && page.next.is_some(), "{page:?}");
    // Nothing is older than the first, and nothing is of a key that was never written.
    for (key, place) in [
        ("A001", PastPlace::Moment(10)),
        ("nobody", PastPlace::Moment(305)),
    ] {
        let page = past.before(key.as_bytes(), place, bounds, &moment_of);
        let page = page.unwrap();
        assert_eq!((page.records.len(), page.next), (0, None), "{key}");
    }
}

#[test]
fn the_mock_broker_serves_the_demo() {
    let mut on = Deployment::named("mock", "not known yet", 1);
    let input = on.inputs[0].topic.clone();
    let wanted: Vec<TopicSpec> = [TopicSpec::log(&input, 2)]
        .into_iter()
        .chain(output_topics(&on.options))
        .collect();
    let broker = MockBroker::start(&wanted).unwrap();
    on.options.brokers = broker.bootstrap_servers().into();
    on.produce(&input, (0..40).map(|n| format!("{n}")));
    let mut source = on.source();
    let starts = source.starts().unwrap();
    source.seek(&starts).unwrap();
    let batch = poll_until(&mut source, ANY, 40);
    assert_eq!(batch.len(), 40);
    let ends: Vec<i64> = stable_ends(&mut source).iter().map(|end| end.0).collect();
    assert_eq!(ends.iter().sum::<i64>(), 40);
    let mut sink = MockSink::new(&on.options, source.partitions(), &on.metrics).unwrap();
    assert_eq!(sink.take_over().unwrap(), None);
    sink.commit(&epoch(1, &ends, &["a"])).unwrap();
    assert_eq!(on.visible(Output::Scores), ["a"]);
    assert_eq!(sink.take_over().unwrap(), committed(1, &ends));
}
