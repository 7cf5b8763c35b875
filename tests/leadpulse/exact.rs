//! A judge of the committed records of a deployment, which reads like any consumer.
//!
//! Records are decoded generically, by the schema that each names, so outputs of other versions of
//! the program are judged too. No code of the program is used, except for its folder of schemas.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apache_avro::reader::datum::GenericDatumReader;
use leadpulse_engine::ports::Output;
use leadpulse_schema::{FolderRegistry, Frame, SchemaRef};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::Value as Json;

use super::process::{PATIENCE, Process};
use super::scenario::Scenario;
use crate::harness::repository;

/// Limit of a request to the cluster, while brokers may be failing.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// A consumer that reads committed records only and survives failing brokers.
pub fn consumer(servers: &str, group: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", servers)
        .set("group.id", group)
        .set("isolation.level", "read_committed");
    config
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "true");
    config
        .set("topic.metadata.refresh.interval.ms", "2000")
        .set("reconnect.backoff.max.ms", "500")
        .set("log_level", "0");
    // A frozen broker keeps its connections open. With the default of a minute the test would
    // measure the reader, not the deployment.
    config.set("socket.timeout.ms", "4000");
    config.create().unwrap()
}

/// Retries a request until the cluster answers.
fn answered<T>(mut ask: impl FnMut() -> Result<T, KafkaError>) -> T {
    let started = Instant::now();
    loop {
        match ask() {
            Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
            Ok(answer) => return answer,
        }
    }
}

/// A counter of the committed epochs of a deployment as they come.
pub struct Commits {
    consumer: BaseConsumer,
    count: usize,
}

impl Commits {
    /// Counts from the first epoch on. The topic must exist.
    pub fn follow(scenario: &Scenario) -> Self {
        let consumer = consumer(&scenario.options.brokers, "counting");
        let mut assigned = TopicPartitionList::new();
        assigned
            .add_partition_offset(
                scenario.options.outputs.name(Output::Epochs),
                0,
                Offset::Beginning,
            )
            .unwrap();
        consumer.assign(&assigned).unwrap();
        Self { consumer, count: 0 }
    }

    /// Number of epochs so far.
    pub fn count(&mut self) -> usize {
        // Errors are those of failing brokers, the end of the partition among them.
        while let Some(polled) = self.consumer.poll(Duration::from_millis(20)) {
            self.count += usize::from(polled.is_ok());
        }
        self.count
    }

    /// Waits until `more` epochs have been committed. False when every process has ended.
    pub fn more(&mut self, more: usize, processes: &mut [&mut Process]) -> bool {
        let (wanted, started) = (self.count() + more, Instant::now());
        while self.count() < wanted {
            if !processes.iter_mut().any(|process| process.runs_on()) {
                return false;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{} of {wanted} epochs after {PATIENCE:?}",
                self.count
            );
        }
        true
    }
}

/// Every committed record of a topic, decoded: by partition in order. Tombstones are left out.
fn read(scenario: &Scenario, output: Output) -> Vec<Json> {
    let topic = scenario.options.outputs.name(output);
    let consumer = consumer(&scenario.options.brokers, "judging");
    let metadata = answered(|| consumer.fetch_metadata(Some(topic), REQUEST_LIMIT));
    let partitions: Vec<i32> = metadata.topics()[0]
        .partitions()
        .iter()
        .map(|partition| partition.id())
        .collect();
    let mut assigned = TopicPartitionList::new();
    for partition in &partitions {
        assigned
            .add_partition_offset(topic, *partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&assigned).unwrap();
    let (mut records, mut at_end, started) = (Vec::new(), BTreeSet::new(), Instant::now());
    let mut decoder = Decoder::new(&repository().join("schemas"));
    while at_end.len() < partitions.len() {
        assert!(
            started.elapsed() < PATIENCE,
            "{topic} has no end after {PATIENCE:?}"
        );
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => records.extend(record.payload().map(|value| decoder.decode(value))),
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(at_end.insert(partition)),
            Some(Err(_)) | None => {}
        }
    }
    records
}

struct Decoder {
    registry: FolderRegistry,
    schemas: BTreeMap<u32, Arc<apache_avro::Schema>>,
}

impl Decoder {
    fn new(schemas: &Path) -> Self {
        Self {
            registry: FolderRegistry::load(schemas).unwrap(),
            schemas: BTreeMap::new(),
        }
    }

    fn decode(&mut self, value: &[u8]) -> Json {
        let frame = Frame::parse(value, std::iter::empty()).unwrap();
        let SchemaRef::Id(id) = frame.schema else {
            panic!("outputs name their schemas by id")
        };
        let schema = self.schemas.entry(id).or_insert_with(|| {
            let json = self
                .registry
                .get(SchemaRef::Id(id))
                .unwrap_or_else(|| panic!("no schema {id} in the folder"));
            Arc::new(apache_avro::Schema::parse_str(&json).unwrap())
        });
        let reader = GenericDatumReader::builder(schema).build().unwrap();
        let mut body = frame.body;
        let mut record = Json::try_from(reader.read_value(&mut body).unwrap()).unwrap();
        // An epoch record that introduces a layout contains it, framed, in a section.
        if let Some(bytes) = record["sections"]["layout"].as_array() {
            let bytes: Vec<u8> = bytes
                .iter()
                .map(|byte| byte.as_u64().unwrap() as u8)
                .collect();
            record["introduced"] = self.decode(&bytes);
        }
        record
    }
}

/// Committed records that were found exact.
pub struct Exact {
    pub epochs: i64,
    pub scores: usize,
    pub alerts: usize,
    /// Names of the alerts, which follow from task, entity, type and moment.
    pub alert_ids: BTreeSet<String>,
    /// Probability by entity of the closing tick, if the newest epoch is one.
    pub closing: BTreeMap<String, f64>,
}

/// Requires every epoch once and in order, with intervals that begin at the ends of the epoch
/// before, and committed positions at the ends of the last one. Scores of an epoch are numbered
/// without gaps, and no alert comes twice.
pub fn exact(scenario: &Scenario) -> Exact {
    let script = read(scenario, Output::Epochs);
    let numbers: Vec<i64> = script
        .iter()
        .filter_map(|record| record.get("epoch")?.as_i64())
        .collect();
    let epochs = numbers.len() as i64;
    let expected: Vec<i64> = (1..=epochs).collect();
    let differing = numbers
        .iter()
        .zip(&expected)
        .find(|(found, expected)| found != expected);
    assert!(
        differing.is_none(),
        "epochs are not numbered 1 to {epochs}: (found, expected) = {differing:?}"
    );
    time_goes_on_and_records_have_outcomes(&script);
    let ends = tiling_ends(&script);
    assert_eq!(
        ends,
        committed_positions(scenario, ends.keys()),
        "the last epoch's ends and the group's positions"
    );

    let scores = read(scenario, Output::Scores);
    let mut places: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for score in &scores {
        places
            .entry(score["epoch"].as_i64().unwrap())
            .or_default()
            .push(score["sequence"].as_i64().unwrap());
    }
    for (epoch, mut sequence) in places {
        sequence.sort_unstable();
        let expected: Vec<i64> = (0..sequence.len() as i64).collect();
        assert_eq!(
            sequence, expected,
            "the scores of epoch {epoch} are numbered from 0, each once"
        );
        assert!(
            (1..=epochs).contains(&epoch),
            "scores of epoch {epoch}, but {epochs} are committed"
        );
    }
    let alerts = read(scenario, Output::Alerts);
    let mut ids = BTreeSet::new();
    for alert in &alerts {
        assert!(
            ids.insert(alert["alert_id"].to_string()),
            "alert {} twice",
            alert["alert_id"]
        );
    }
    // A closing tick may take several epochs, at one moment.
    let last = script.last().filter(|last| last["closing"] == true);
    let of_closing = |score: &&Json| {
        score["cause"] == "closing" && last.is_some_and(|last| score["as_of"] == last["as_of"])
    };
    let probability = |score: &Json| {
        Some((
            score["entity_id"].as_str()?.to_owned(),
            score["probability"].as_f64()?,
        ))
    };
    let closing = scores
        .iter()
        .filter(of_closing)
        .filter_map(probability)
        .collect();
    Exact {
        epochs,
        scores: scores.len(),
        alerts: alerts.len(),
        alert_ids: ids,
        closing,
    }
}

/// Requires `as_of` that never goes back, and one outcome for each record of an epoch.
fn time_goes_on_and_records_have_outcomes(script: &[Json]) {
    let count = |value: &Json| value.as_i64().unwrap_or_default();
    let sum = |counts: &Json| -> i64 {
        let counts = counts.as_array().into_iter().flatten();
        counts.map(|it| count(&it["count"])).sum()
    };
    let mut as_of_ms = i64::MIN;
    for record in script.iter().filter(|record| record.get("epoch").is_some()) {
        let epoch = &record["epoch"];
        assert!(
            count(&record["as_of"]) >= as_of_ms,
            "as_of goes back in epoch {epoch}"
        );
        as_of_ms = count(&record["as_of"]);
        // Earlier versions of the program counted less.
        let Some(unchanged) = record.get("unchanged") else {
            continue;
        };
        let partitions = record["partitions"].as_array().unwrap();
        let read: i64 = partitions.iter().map(|it| count(&it["read"])).sum();
        let outcomes = count(&record["accepted"])
            + count(&record["duplicate"])
            + sum(&record["dead_lettered"])
            + sum(unchanged);
        assert_eq!(read, outcomes, "records and outcomes of epoch {epoch}");
    }
}

/// A value by topic and partition.
type Positions = BTreeMap<(String, i64), i64>;

/// The ends of the last epoch, after intervals that meet. A partition is named by its interval, or
/// by the layout that the epoch refers to.
fn tiling_ends(script: &[Json]) -> Positions {
    let place = |named: &Json| {
        Some((
            named.get("topic")?.as_str()?.to_owned(),
            named.get("partition")?.as_i64()?,
        ))
    };
    let (mut ends, mut layouts) = (Positions::new(), BTreeMap::new());
    for record in script {
        let partitions = record["partitions"].as_array().unwrap();
        if let Some(introduced) = record.get("introduced") {
            layouts.insert(
                introduced["layout"].as_i64().unwrap(),
                introduced["partitions"].as_array().unwrap(),
            );
        }
        for (index, interval) in partitions.iter().enumerate() {
            let place =
                place(interval).or_else(|| place(layouts[&record["layout"].as_i64()?].get(index)?));
            let place = place.unwrap_or_else(|| {
                panic!(
                    "interval {index} of epoch {} is of no known partition",
                    record["epoch"]
                )
            });
            let (start, end) = (
                interval["start"].as_i64().unwrap(),
                interval["end"].as_i64().unwrap(),
            );
            let before = ends.insert(place, end).unwrap_or(start);
            assert_eq!(
                before, start,
                "the intervals of epochs {} and before do not meet: {interval}",
                record["epoch"]
            );
        }
    }
    ends
}

fn committed_positions<'a>(
    scenario: &Scenario,
    places: impl Iterator<Item = &'a (String, i64)>,
) -> Positions {
    let mut asked = TopicPartitionList::new();
    for (topic, partition) in places {
        asked.add_partition(topic, *partition as i32);
    }
    let consumer = consumer(&scenario.options.brokers, &scenario.options.group_id);
    let answer = answered(|| consumer.committed_offsets(asked.clone(), REQUEST_LIMIT));
    let position = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
        match element.offset() {
            Offset::Offset(offset) => offset,
            other => panic!(
                "{}/{}: {other:?} is committed",
                element.topic(),
                element.partition()
            ),
        }
    };
    answer
        .elements()
        .iter()
        .map(|element| {
            (
                (element.topic().to_owned(), element.partition().into()),
                position(element),
            )
        })
        .collect()
}
