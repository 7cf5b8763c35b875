//! Requests of one transaction that reach the broker in the middle of the next: nothing is doubled, nothing is lost, positions never go
//! back.
//!
//! A request is delayed in the network, its client repeats it on another connection and goes on; then the first copy arrives. It carries
//! the producer epoch of the transaction that is open by then, so the broker takes it for part of that one
//! ([KIP-890](https://cwiki.apache.org/confluence/display/KAFKA/KIP-890%3A+Transactions+Server-Side+Defense); librdkafka has no defence:
//! [issue 5423](https://github.com/confluentinc/librdkafka/issues/5423)). Only a new producer epoch fences the late copy.
//!
//! Without `LEADPULSE_FAULTS` a selection of the combinations runs; with `full` all of them; with any other words those whose line contains
//! the words, such as `"EndTxn, Reset"`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use leadpulse_engine::ports::{Output, Sink};
use leadpulse_kafka::{KafkaOptions, TopicSpec, ensure_topics, output_topics};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use crate::harness::{kafka, unique};
use crate::ports_on_kafka::{Deployment, epoch};
use crate::proxy::{Api, ClientSees, Fault, Seen, proxy};

/// More than any case needs.
const PATIENCE: Duration = Duration::from_secs(120);
/// Cases at a time: most of their time they wait for a limit to pass.
const PARALLEL: usize = 8;
/// Epochs before the one with the fault, and in all.
const BEFORE: u64 = 2;
const EPOCHS: u64 = 6;

/// The requests that a transaction consists of, in the order in which a sink may send them.
const REQUESTS: [Api; 5] = [Api::ADD_PARTITIONS_TO_TXN, Api::PRODUCE, Api::ADD_OFFSETS_TO_TXN, Api::TXN_OFFSET_COMMIT, Api::END_TXN];

/// Time limits of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limits {
    Default,
    Short,
}

/// One late request.
#[derive(Clone, Copy)]
struct Case {
    late: Api,
    client: ClientSees,
    /// It arrives in front of the next transaction's first request of this kind.
    arrives_before: Api,
    limits: Limits,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { late, client, arrives_before, limits } = self;
        write!(f, "{late:?}, {client:?}, arrives before {arrives_before:?}, {limits:?} limits")
    }
}

/// Every combination.
fn all_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // The slow ones first, so that none of them is alone at the end.
    for limits in [Limits::Default, Limits::Short] {
        for client in [ClientSees::Silence, ClientSees::Reset] {
            for late in REQUESTS {
                cases.extend(REQUESTS.map(|arrives_before| Case { late, client, arrives_before, limits }));
            }
        }
    }
    cases
}

/// The two late requests that do harm, and those of the others that arrive where the first does most.
fn selection(case: &Case) -> bool {
    let harmful = [Api::END_TXN, Api::TXN_OFFSET_COMMIT].contains(&case.late);
    match case.limits {
        Limits::Short => harmful || case.arrives_before == Api::END_TXN,
        Limits::Default => harmful && case.client == ClientSees::Reset && case.arrives_before == Api::END_TXN,
    }
}

/// An independent reader: what any consumer of the outputs sees, and where the group stands.
struct Judge {
    consumer: BaseConsumer,
}

impl Judge {
    fn of(options: &KafkaOptions) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &options.brokers).set("group.id", &options.group_id).set("isolation.level", "read_committed");
        config.set("enable.partition.eof", "true").set("enable.auto.commit", "false").set("auto.offset.reset", "earliest");
        Self { consumer: config.create().unwrap() }
    }

    /// The values of a topic of one partition, up to its end.
    fn values(&self, topic: &str) -> Vec<String> {
        let mut assigned = TopicPartitionList::new();
        assigned.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
        self.consumer.assign(&assigned).unwrap();
        let (mut values, deadline) = (Vec::new(), Instant::now() + PATIENCE);
        loop {
            assert!(Instant::now() < deadline, "{topic} has no end after {PATIENCE:?}");
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(record)) => values.push(String::from_utf8(record.payload().unwrap().to_vec()).unwrap()),
                Some(Err(KafkaError::PartitionEOF(_))) => return values,
                Some(Err(KafkaError::MessageConsumption(code))) if code != RDKafkaErrorCode::UnknownTopicOrPartition => {}
                Some(Err(error)) => panic!("{topic}: {error}"),
                None => {}
            }
        }
    }

    /// The group's committed offset of an input partition, with its metadata; it waits for open transactions.
    fn position(&self, topic: &str) -> (Offset, String) {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(topic, 0);
        let answer = self.consumer.committed_offsets(asked, PATIENCE).unwrap();
        let found = answer.find_partition(topic, 0).unwrap();
        (found.offset(), found.metadata().to_owned())
    }

    /// Requires the committed position to be an epoch's.
    fn stands_at(&self, on: &Deployment, number: u64) -> Result<(), String> {
        let (offset, metadata) = self.position(&on.inputs[0].topic);
        if offset == Offset::Offset(position(number)) && metadata.contains(&format!("epoch={number};")) {
            return Ok(());
        }
        Err(format!("the committed position after epoch {number} is {offset:?} {metadata:?}, not {}", position(number)))
    }

    /// Requires the outputs to be those of epochs 1 to `last`, each once: one record in three topics.
    fn has_read(&self, on: &Deployment, last: u64) -> Result<(), String> {
        for (output, value) in [(Output::Scores, "score of"), (Output::Alerts, "alert of"), (Output::Epochs, "epoch")] {
            let found = self.values(on.options.outputs.name(output));
            let expected: Vec<String> = (1..=last).map(|number| format!("{value} {number}")).collect();
            if found != expected {
                return Err(format!("{output:?} are {found:?}"));
            }
        }
        self.stands_at(on, last)
    }
}

fn position(number: u64) -> i64 {
    number as i64 * 10
}

fn commit(sink: &mut impl Sink, number: u64) -> Result<(), String> {
    let mut sealed = leadpulse_engine::ports::SealedEpoch::clone(&epoch(number, &[position(number)], &["score"]));
    let mut alert = sealed.outputs[0].clone();
    (alert.output, alert.value) = (Output::Alerts, Some(format!("alert of {number}").into_bytes()));
    sealed.outputs[0].value = Some(format!("score of {number}").into_bytes());
    sealed.outputs.push(alert);
    sink.commit(&Arc::new(sealed)).map_err(|error| format!("committing epoch {number}: {error}"))
}

/// Commits epochs with a late request among them. What went by, in words.
fn check(case: Case) -> Result<String, String> {
    let (Some(cluster), Some(proxy)) = (kafka(), proxy()) else { return Ok("skipped".into()) };
    let name = unique("late");
    let direct = {
        let mut direct = Deployment::named(&name, &cluster.servers, 1);
        direct.options.output_partitions = 1;
        direct
    };
    let topics: Vec<TopicSpec> = [TopicSpec::log(&direct.inputs[0].topic, 1)].into_iter().chain(output_topics(&direct.options)).collect();
    ensure_topics(&direct.options, &topics).unwrap();
    let behind = {
        let mut options = KafkaOptions { brokers: proxy.servers(), ..direct.options.clone() };
        options.client.insert("client.id".into(), name.clone());
        if case.limits == Limits::Short {
            options = KafkaOptions { request_timeout_ms: 2_000, commit_timeout_ms: 2_000, transaction_timeout_ms: 8_000, ..options };
        }
        options.validate().unwrap();
        Deployment { options, inputs: direct.inputs.clone(), metrics: direct.metrics.clone() }
    };
    let (client, judge) = (proxy.client(&name), Judge::of(&direct.options));

    let mut sink = behind.sink();
    let found = sink.take_over().map_err(|error| error.to_string())?;
    assert_eq!(found, None);
    for number in 1..=BEFORE {
        commit(&mut sink, number)?;
    }
    client.release_before(case.arrives_before);
    client.fault_after(0, case.late, Fault::Hold(case.client));
    for number in BEFORE + 1..=EPOCHS {
        commit(&mut sink, number)?;
        judge.stands_at(&direct, number)?;
    }
    drop(sink);
    let seen = client.seen();
    if !seen.contains(&Seen::Faulted(case.late, Fault::Hold(case.client))) {
        return Err("nothing was held: this case proves nothing".into());
    }
    let Some(answer) = seen.iter().find_map(|seen| if let Seen::Released(_, answer) = seen { Some(answer) } else { None }) else {
        return Err("nothing was released: this case proves nothing".into());
    };
    // A commit is acknowledged before its records can be read; a take-over waits for that.
    let mut next = direct.sink();
    let found = next.take_over().map_err(|error| format!("the next start: {error}"))?.map(|epoch| epoch.number);
    if found != Some(EPOCHS) {
        return Err(format!("the next start finds epoch {found:?}"));
    }
    judge.has_read(&direct, EPOCHS)?;
    commit(&mut next, EPOCHS + 1)?;
    direct.sink().take_over().map_err(|error| format!("the start after it: {error}"))?;
    judge.has_read(&direct, EPOCHS + 1)?;
    let producers = seen.iter().filter(|seen| **seen == Seen::Answer(Api::INIT_PRODUCER_ID)).count();
    Ok(format!("late copy {}, {producers} producers", told(case.late, answer.as_deref())))
}

/// The broker's answer to a late copy.
fn told(api: Api, answer: Option<&[u8]>) -> String {
    match answer {
        None => "not answered".into(),
        // Throttle time, error code.
        Some([_, _, _, _, high, low]) if [Api::END_TXN, Api::ADD_OFFSETS_TO_TXN].contains(&api) => {
            format!("answered with error code {}", i16::from_be_bytes([*high, *low]))
        }
        Some(answer) => format!("answered with {} bytes", answer.len()),
    }
}

/// Runs cases side by side, prints each, and fails if one did.
fn run(cases: Vec<Case>) {
    if proxy().is_none() {
        return;
    }
    let total = cases.len();
    let queue = Mutex::new(cases.into_iter());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                loop {
                    let Some(case) = queue.lock().unwrap().next() else { return };
                    let started = Instant::now();
                    let outcome = check(case);
                    println!("{case}: {outcome:?} ({:.1} s)", started.elapsed().as_secs_f64());
                    if let Err(why) = outcome {
                        failed.lock().unwrap().push(format!("{case}: {why}"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {total} cases:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn a_late_request_touches_no_later_transaction() {
    let wanted = std::env::var("LEADPULSE_FAULTS").ok();
    let is_wanted = |case: &Case| match wanted.as_deref() {
        None => selection(case),
        Some("full") => true,
        Some(words) => case.to_string().contains(words),
    };
    let cases: Vec<Case> = all_cases().into_iter().filter(is_wanted).collect();
    assert!(!cases.is_empty(), "LEADPULSE_FAULTS={wanted:?} is in no case's line");
    run(cases);
}
