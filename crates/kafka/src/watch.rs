//! A watch over the input topics: added partitions, ends of the logs, and partitions that cannot be
//! read.
//!
//! The watch has a thread and clients of its own, so that no broker keeps the engine waiting. The
//! engine only reads the newest observations.
//!
//! librdkafka reports a batch that cannot be read without its partition, and fetches the batch
//! again for ever (`rd_kafka_msgset_reader_decompress` in
//! [2.12](https://github.com/confluentinc/librdkafka/blob/v2.12.1/src/rdkafka_msgset_reader.c)). So
//! the consumer's thread suspects the partitions that stand still, and the watch reads each
//! suspected place alone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustc_hash::{FxHashMap, FxHashSet};

use leadpulse_engine::ports::{InputPartition, LogEnd, NextOffset, PortCause, PortError, Stuck};

use crate::metrics::KafkaMetrics;
use crate::offsets::{Isolation, OffsetReader, Readability, TopicPartition, log_ends};
use crate::options::KafkaOptions;
use crate::source::InputTopic;

/// Time between two looks at the ends.
const ENDS_EVERY: Duration = Duration::from_secs(2);
/// Time between two looks at the topics' partitions. Producers use an added partition within
/// `metadata.max.age.ms`, five minutes by default.
const TOPICS_EVERY: Duration = Duration::from_secs(10);
/// Age after which ends are no longer given out: the brokers do not answer.
const ENDS_VALID: Duration = Duration::from_secs(10);
/// Most suspected places looked at in one round. A look takes up to three seconds.
const PROBES: usize = 8;

/// A partition that does not move while batches cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Suspect {
    pub(crate) input: u32,
    pub(crate) offset: NextOffset,
    pub(crate) reason: String,
}

/// Places that the consumer's thread suspects, for the watch to look at.
#[derive(Default)]
pub(crate) struct Suspects(Mutex<Vec<Suspect>>);

impl Suspects {
    pub(crate) fn set(&self, suspects: Vec<Suspect>) {
        *self.lock() = suspects;
    }
    fn lock(&self) -> MutexGuard<'_, Vec<Suspect>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The input partitions in the engine's order.
#[derive(Debug, Default)]
pub(crate) struct Arrangement {
    pub(crate) partitions: Vec<InputPartition>,
    pub(crate) places: Arc<[TopicPartition]>,
}

impl Arrangement {
    pub(crate) fn new(partitions: Vec<InputPartition>) -> Self {
        let places = partitions
            .iter()
            .map(|partition| (partition.topic.clone(), partition.partition))
            .collect();
        Self { partitions, places }
    }
}

#[derive(Default)]
struct Noticed {
    arrangement: Arc<Arrangement>,
    /// Partitions by topic, as last listed.
    counts: FxHashMap<String, i32>,
    added: Vec<InputPartition>,
    ends: Option<(Instant, Vec<LogEnd>)>,
    stuck: Vec<Stuck>,
}

/// The engine's side of the thread. The thread ends when this handle is dropped.
pub(crate) struct InputWatch {
    inputs: Vec<InputTopic>,
    noticed: Arc<Mutex<Noticed>>,
    metrics: Arc<KafkaMetrics>,
    _running: Sender<()>,
}

impl InputWatch {
    /// Starts the thread for the partitions of `arrangement`.
    pub(crate) fn start(
        options: &KafkaOptions,
        inputs: &[InputTopic],
        arrangement: Arc<Arrangement>,
        suspects: &Arc<Suspects>,
        metrics: &Arc<KafkaMetrics>,
    ) -> Result<Self, PortError> {
        let (running, until_dropped) = bounded(0);
        let noticed = Arc::new(Mutex::new(Noticed {
            arrangement,
            ..Noticed::default()
        }));
        let watcher = InputWatcher {
            inputs: inputs.to_vec(),
            committed: OffsetReader::to_ask(options, Isolation::Committed, metrics)?,
            all: OffsetReader::to_ask(options, Isolation::Uncommitted, metrics)?,
            noticed: Arc::clone(&noticed),
            suspects: Arc::clone(suspects),
            metrics: Arc::clone(metrics),
        };
        let spawned = std::thread::Builder::new()
            .name("kafka-watch".into())
            .spawn(move || watcher.run(&until_dropped));
        spawned.map_err(|error| {
            PortError::fatal(
                PortCause::Local,
                format!(
                    "kafka: the thread that watches the input topics cannot be started: {error}"
                ),
            )
        })?;
        Ok(Self {
            inputs: inputs.to_vec(),
            noticed,
            metrics: Arc::clone(metrics),
            _running: running,
        })
    }

    /// Replaces the partitions that are read, and forgets observations about the old ones.
    pub(crate) fn arrange(&self, arrangement: Arc<Arrangement>) {
        let mut noticed = lock(&self.noticed);
        noticed.added = added(&self.inputs, &noticed.counts, &arrangement.partitions);
        self.metrics.set_added_partitions(noticed.added.len());
        (noticed.arrangement, noticed.ends, noticed.stuck) = (arrangement, None, Vec::new());
    }

    pub(crate) fn added(&self) -> Vec<InputPartition> {
        lock(&self.noticed).added.clone()
    }

    pub(crate) fn last_ends(&self) -> Option<Vec<LogEnd>> {
        let noticed = lock(&self.noticed);
        let (_, ends) = noticed
            .ends
            .as_ref()
            .filter(|(at, _)| at.elapsed() < ENDS_VALID)?;
        Some(ends.clone())
    }

    pub(crate) fn stuck(&self) -> Vec<Stuck> {
        lock(&self.noticed).stuck.clone()
    }

    /// Forgets the stuck place of a partition that was skipped on.
    pub(crate) fn skipped(&self, partition: u32) {
        lock(&self.noticed)
            .stuck
            .retain(|stuck| stuck.partition != partition);
    }
}

fn lock(noticed: &Mutex<Noticed>) -> MutexGuard<'_, Noticed> {
    noticed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Partitions of the topics that are not read, by topic as configured, then by number.
fn added(
    inputs: &[InputTopic],
    counts: &FxHashMap<String, i32>,
    read: &[InputPartition],
) -> Vec<InputPartition> {
    let read: FxHashSet<(&str, i32)> = read
        .iter()
        .map(|partition| (partition.topic.as_str(), partition.partition))
        .collect();
    let mut added = Vec::new();
    for InputTopic { topic, tables } in inputs {
        let count = counts.get(topic).copied().unwrap_or(0);
        for partition in
            (0..count).filter(|partition| !read.contains(&(topic.as_str(), *partition)))
        {
            added.push(InputPartition {
                topic: topic.clone(),
                partition,
                tables: tables.clone(),
            });
        }
    }
    added
}

struct InputWatcher {
    inputs: Vec<InputTopic>,
    committed: OffsetReader,
    all: OffsetReader,
    noticed: Arc<Mutex<Noticed>>,
    suspects: Arc<Suspects>,
    metrics: Arc<KafkaMetrics>,
}

impl InputWatcher {
    /// Runs until the source is dropped.
    fn run(self, until_dropped: &Receiver<()>) {
        let mut listed: Option<Instant> = None;
        loop {
            if listed.is_none_or(|at| at.elapsed() >= TOPICS_EVERY) {
                self.list_topics();
                listed = Some(Instant::now());
            }
            let arrangement = Arc::clone(&lock(&self.noticed).arrangement);
            if let Some(ends) = self.list_ends(&arrangement) {
                self.look_at_suspects(&arrangement, &ends);
            }
            if until_dropped.recv_timeout(ENDS_EVERY) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    fn list_topics(&self) {
        for InputTopic { topic, .. } in &self.inputs {
            match self.all.partition_count(topic) {
                Ok(Some(count)) => drop(lock(&self.noticed).counts.insert(topic.clone(), count)),
                // The reader reports a topic that is gone.
                Ok(None) => {}
                Err(error) => tracing::debug!("{error}"),
            }
        }
        let mut noticed = lock(&self.noticed);
        let now = added(
            &self.inputs,
            &noticed.counts,
            &noticed.arrangement.partitions,
        );
        for InputPartition {
            topic, partition, ..
        } in now
            .iter()
            .filter(|partition| !noticed.added.contains(partition))
        {
            tracing::warn!(
                topic,
                partition,
                "an input topic has a partition that is not read yet"
            );
        }
        self.metrics.set_added_partitions(now.len());
        noticed.added = now;
    }

    fn list_ends(&self, arrangement: &Arc<Arrangement>) -> Option<Vec<LogEnd>> {
        match log_ends(&self.committed, &self.all, &arrangement.places) {
            Ok(ends) => {
                let mut noticed = lock(&self.noticed);
                if Arc::ptr_eq(&noticed.arrangement, arrangement) {
                    noticed.ends = Some((Instant::now(), ends.clone()));
                }
                Some(ends)
            }
            Err(error) => {
                tracing::debug!("{error}");
                None
            }
        }
    }

    /// Reads each suspected place alone. Only that tells a damaged batch from a partition that is
    /// read to the end or has no leader.
    fn look_at_suspects(&self, arrangement: &Arc<Arrangement>, ends: &[LogEnd]) {
        let before = |suspect: &Suspect| {
            ends.get(suspect.input as usize)
                .is_some_and(|end| suspect.offset < end.stable)
        };
        let suspects: Vec<Suspect> = self
            .suspects
            .lock()
            .iter()
            .filter(|suspect| before(suspect))
            .take(PROBES)
            .cloned()
            .collect();
        for suspect in suspects {
            let Some(place) = arrangement.places.get(suspect.input as usize) else {
                continue;
            };
            let Ok(probe) = self
                .committed
                .probe(place, suspect.offset)
                .inspect_err(|error| tracing::debug!("{error}"))
            else {
                continue;
            };
            let mut noticed = lock(&self.noticed);
            if !Arc::ptr_eq(&noticed.arrangement, arrangement) {
                return; // the indices belong to another arrangement now
            }
            let known = noticed.stuck.iter().position(|stuck| {
                (stuck.partition, stuck.offset) == (suspect.input, suspect.offset)
            });
            match (probe, known) {
                (Readability::Damaged(reason), None) => {
                    let (topic, partition) = place;
                    tracing::error!(
                        topic,
                        partition,
                        offset = suspect.offset.0,
                        "this place cannot be read, and its partition stands still: {reason}"
                    );
                    noticed
                        .stuck
                        .retain(|stuck| stuck.partition != suspect.input);
                    noticed.stuck.push(Stuck {
                        partition: suspect.input,
                        offset: suspect.offset,
                        reason,
                    });
                }
                (Readability::Readable, known) => {
                    if let Some(index) = known {
                        noticed.stuck.remove(index);
                    }
                    self.suspects.lock().retain(|other| *other != suspect);
                }
                (Readability::Damaged(_), Some(_)) | (Readability::Unknown, _) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use leadpulse_schema::TableId;

    use super::*;

    #[test]
    fn partitions_that_are_not_read_are_added_in_the_configured_order() {
        let topic = |name: &str, table| InputTopic {
            topic: name.into(),
            tables: vec![TableId(table)],
        };
        let at = |name: &str, partition, table| InputPartition {
            topic: name.into(),
            partition,
            tables: vec![TableId(table)],
        };
        let inputs = [topic("b", 0), topic("a", 1), topic("gone", 2)];
        let counts = FxHashMap::from_iter([("a".to_owned(), 3), ("b".to_owned(), 2)]);
        // In any order, with gaps.
        let read = [at("a", 2, 1), at("b", 0, 0), at("a", 0, 1)];
        assert_eq!(
            added(&inputs, &counts, &read),
            [at("b", 1, 0), at("a", 1, 1)]
        );
        let all = [
            at("a", 2, 1),
            at("b", 0, 0),
            at("a", 0, 1),
            at("b", 1, 0),
            at("a", 1, 1),
        ];
        assert_eq!(added(&inputs, &counts, &all), []);
    }
}
