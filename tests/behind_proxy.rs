//! Deployments behind the proxy, and an independent judge of what they commit.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use leadpulse_engine::ports::{Output, PortError, SealedEpoch, Sink};
use leadpulse_kafka::{KafkaOptions, TopicSpec, ensure_topics, output_topics};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use crate::harness::{kafka, unique};
use crate::ports_on_kafka::{Deployment, epoch};
use crate::proxy::{Client, proxy};

/// A limit above the need of any case.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Number of cases at a time. Most of the time a case waits for a limit to pass.
const PARALLEL: usize = 14;
/// One step of a transaction, and one request, under [`Limits::Short`].
pub const SHORT: Duration = Duration::from_secs(2);

/// Time limits of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limits {
    Default,
    Short,
}

/// One deployment, seen from behind the proxy and directly.
pub struct Rig {
    /// Reaches the broker through the proxy, under a client id of its own.
    pub behind: Deployment,
    /// Reaches the broker directly.
    pub direct: Deployment,
    /// The proxy's view of `behind`.
    pub client: Arc<Client>,
    pub judge: Judge,
}

impl Rig {
    /// A deployment with empty topics of one partition each. Requires a [`proxy`].
    pub fn new(name: &str, limits: Limits) -> Self {
        let (cluster, proxy) = (kafka().unwrap(), proxy().unwrap());
        let name = unique(name);
        let mut direct = Deployment::named(&name, &cluster.servers, 1);
        direct.options.output_partitions = 1;
        let topics: Vec<TopicSpec> = [TopicSpec::log(&direct.inputs[0].topic, 1)]
            .into_iter()
            .chain(output_topics(&direct.options))
            .collect();
        ensure_topics(&direct.options, &topics).unwrap();
        let mut options = KafkaOptions {
            brokers: proxy.servers(),
            ..direct.options.clone()
        };
        options.client.insert("client.id".into(), name.clone());
        if limits == Limits::Short {
            let limit_ms = SHORT.as_millis() as u64;
            options = KafkaOptions {
                request_timeout_ms: limit_ms,
                commit_timeout_ms: limit_ms,
                transaction_timeout_ms: 4 * limit_ms,
                ..options
            };
        }
        options.validate().unwrap();
        let behind = Deployment {
            options,
            ..direct.clone()
        };
        Self {
            behind,
            client: proxy.client(&name),
            judge: Judge::of(&direct.options),
            direct,
        }
    }

    /// Requires the epochs 1 to `last` to be committed, each once, and that the deployment starts
    /// again and goes on.
    pub fn is_exact_and_goes_on(&self, last: u64) -> Result<(), String> {
        // A commit is acknowledged before its records can be read. A take-over waits for the
        // markers.
        let mut next = self.direct.sink();
        let found = take_over(&mut next)?;
        if found != Some(last) {
            return Err(format!("the next start finds epoch {found:?}"));
        }
        self.judge.has_read(&self.direct, last)?;
        commit(&mut next, last + 1)?;
        take_over(&mut self.direct.sink())?;
        self.judge.has_read(&self.direct, last + 1)
    }
}

/// An independent reader: the records that any consumer of the outputs sees, and the group's
/// position.
pub struct Judge {
    consumer: BaseConsumer,
}

impl Judge {
    fn of(options: &KafkaOptions) -> Self {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &options.brokers)
            .set("group.id", &options.group_id)
            .set("isolation.level", "read_committed");
        config
            .set("enable.partition.eof", "true")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest");
        Self {
            consumer: config.create().unwrap(),
        }
    }

    /// The values of a topic of one partition, up to its end.
    fn values(&self, topic: &str) -> Vec<String> {
        let mut assigned = TopicPartitionList::new();
        assigned
            .add_partition_offset(topic, 0, Offset::Beginning)
            .unwrap();
        self.consumer.assign(&assigned).unwrap();
        let (mut values, deadline) = (Vec::new(), Instant::now() + PATIENCE);
        loop {
            assert!(
                Instant::now() < deadline,
                "{topic} has no end after {PATIENCE:?}"
            );
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(record)) => {
                    values.push(String::from_utf8(record.payload().unwrap().to_vec()).unwrap())
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return values,
                Some(Err(KafkaError::MessageConsumption(code)))
                    if code != RDKafkaErrorCode::UnknownTopicOrPartition => {}
                Some(Err(error)) => panic!("{topic}: {error}"),
                None => {}
            }
        }
    }

    /// The group's committed offset of an input partition, with its metadata. Waits for open
    /// transactions.
    fn position(&self, topic: &str) -> (Offset, String) {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(topic, 0);
        let answer = self.consumer.committed_offsets(asked, PATIENCE).unwrap();
        let found = answer.find_partition(topic, 0).unwrap();
        (found.offset(), found.metadata().to_owned())
    }

    /// Requires the committed position to be an epoch's.
    pub fn stands_at(&self, on: &Deployment, number: u64) -> Result<(), String> {
        let (offset, metadata) = self.position(&on.inputs[0].topic);
        if offset == Offset::Offset(position(number))
            && metadata.contains(&format!("epoch={number};"))
        {
            return Ok(());
        }
        Err(format!(
            "the committed position after epoch {number} is {offset:?} {metadata:?}, not {}",
            position(number)
        ))
    }

    /// Requires the outputs to be those of epochs 1 to `last`, each once: one record in three
    /// topics.
    fn has_read(&self, on: &Deployment, last: u64) -> Result<(), String> {
        for (output, value) in [
            (Output::Scores, "score of"),
            (Output::Alerts, "alert of"),
            (Output::Epochs, "epoch"),
        ] {
            let found = self.values(on.options.outputs.name(output));
            let expected: Vec<String> = (1..=last)
                .map(|number| format!("{value} {number}"))
                .collect();
            if found != expected {
                return Err(format!("{output:?} are {found:?}"));
            }
        }
        self.stands_at(on, last)
    }
}

/// The position that an epoch commits.
pub fn position(number: u64) -> i64 {
    number as i64 * 10
}

/// Takes over as the engine does, again while brokers do not answer. Returns the number of the
/// newest committed epoch.
pub fn take_over(sink: &mut impl Sink) -> Result<Option<u64>, String> {
    let started = Instant::now();
    loop {
        match sink.take_over() {
            Ok(found) => return Ok(found.map(|epoch| epoch.number)),
            Err(PortError::Retriable(_)) if started.elapsed() < PATIENCE => {}
            Err(error) => return Err(format!("taking over: {error}")),
        }
    }
}

/// Commits an epoch of one record in three topics.
pub fn commit(sink: &mut impl Sink, number: u64) -> Result<(), String> {
    let mut sealed = SealedEpoch::clone(&epoch(number, &[position(number)], &["score"]));
    let mut alert = sealed.outputs[0].clone();
    (alert.output, alert.value) = (
        Output::Alerts,
        Some(format!("alert of {number}").into_bytes()),
    );
    sealed.outputs[0].value = Some(format!("score of {number}").into_bytes());
    sealed.outputs.push(alert);
    sink.commit(&Arc::new(sealed))
        .map_err(|error| format!("committing epoch {number}: {error}"))
}

/// Runs cases side by side, prints each, and fails if one did. Without `LEADPULSE_FAULTS` the
/// selection runs; with `full` every case; with any other words the cases whose line contains them,
/// such as `"EndTxn, Reset"`.
pub fn run<C: fmt::Display + Copy + Send>(
    cases: Vec<C>,
    selection: impl Fn(&C) -> bool,
    check: impl Fn(C) -> Result<String, String> + Sync,
) {
    if proxy().is_none() {
        return;
    }
    let wanted = std::env::var("LEADPULSE_FAULTS").ok();
    let is_wanted = |case: &C| match wanted.as_deref() {
        None => selection(case),
        Some("full") => true,
        Some(words) => case.to_string().contains(words),
    };
    let cases: Vec<C> = cases.into_iter().filter(is_wanted).collect();
    let total = cases.len();
    let queue = Mutex::new(cases.into_iter());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                loop {
                    let Some(case) = queue.lock().unwrap().next() else {
                        return;
                    };
                    let started = Instant::now();
                    let outcome = check(case);
                    println!(
                        "{case}: {outcome:?} ({:.1} s)",
                        started.elapsed().as_secs_f64()
                    );
                    if let Err(why) = outcome {
                        failed.lock().unwrap().push(format!("{case}: {why}"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(
        failed.is_empty(),
        "{} of {total} cases:\n{}",
        failed.len(),
        failed.join("\n")
    );
}
