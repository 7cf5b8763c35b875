//! [`CommittedFeed`]: the committed records of one topic for a reader with a group of its own.
//!
//! Partitions are assigned by hand, as everywhere in this program: the group keeps positions only.
//! Two readers of one group read the same records, each at least once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use leadpulse_engine::ports::{InputPartition, PortCause, PortError};

use crate::client::{ClientCallbacks, Closing, consumer, port_error_of};
use crate::client_settings::ClientRole;
use crate::committed::read_offsets;
use crate::metrics::KafkaMetrics;
use crate::offsets::{Isolation, OffsetReader, TopicPartition};
use crate::options::KafkaOptions;
use crate::reader::OwnedRecord;

/// KiB of fetched records in librdkafka's queue, unless the configuration names another limit.
const QUEUED_KIB: &str = "16384";
const QUEUE_SETTING: &str = "consumer.queued.max.messages.kbytes";

/// The place at which a feed without committed positions begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedStart {
    /// Behind the newest committed record. The positions are committed at once.
    End,
    /// The oldest record.
    Beginning,
}

/// A reader of one topic's committed records, with positions of its own.
pub struct CommittedFeed {
    client: Closing<BaseConsumer<ClientCallbacks>>,
    topic: String,
    /// An error that came behind records, for the next call: librdkafka reports it once.
    pending: Option<PortError>,
}

impl CommittedFeed {
    /// Opens the topic at the committed positions of `group`, or at `start` where there are none.
    ///
    /// # Errors
    /// A topic that does not exist, or brokers that do not answer.
    pub fn open(
        options: &KafkaOptions,
        topic: &str,
        group: &str,
        start: FeedStart,
        metrics: &Arc<KafkaMetrics>,
    ) -> Result<Self, PortError> {
        let mut options = options.clone();
        group.clone_into(&mut options.group_id);
        let queue = options.client.entry(QUEUE_SETTING.to_owned());
        queue.or_insert_with(|| QUEUED_KIB.to_owned());
        let feed = Self {
            client: Closing::new(
                consumer(&options, ClientRole::Source, "feed", Some(metrics))?,
                "feed",
                options.close_timeout(),
            ),
            topic: topic.to_owned(),
            pending: None,
        };
        let asker = OffsetReader::to_ask(&options, Isolation::Committed, metrics)?;
        let Some(partitions) = asker.partition_count(topic)? else {
            return Err(PortError::retriable(
                PortCause::TopicMissing,
                format!(
                    "kafka: there is no topic '{topic}' on {} yet: start the worker once, or \
                     correct its name",
                    options.brokers
                ),
            ));
        };
        let places: Vec<TopicPartition> = (0..partitions)
            .map(|partition| (topic.to_owned(), partition))
            .collect();
        let beginnings = match start {
            FeedStart::Beginning => asker.starts(&places)?.iter().map(|start| start.0).collect(),
            FeedStart::End => asker.stable_ends(&places)?,
        };
        let committed = feed.committed(&options, partitions)?;
        let next: BTreeMap<i32, i64> = (0..partitions)
            .zip(committed.iter().zip(beginnings))
            .map(|(partition, (committed, begin))| (partition, committed.unwrap_or(begin)))
            .collect();
        feed.assign(&next)?;
        if committed.contains(&None) {
            // Records that come before the first commit must not be behind the end of the next start.
            feed.commit(&next)?;
        }
        Ok(feed)
    }

    fn committed(
        &self,
        options: &KafkaOptions,
        partitions: i32,
    ) -> Result<Vec<Option<i64>>, PortError> {
        let partitions: Vec<InputPartition> = (0..partitions)
            .map(|partition| InputPartition {
                topic: self.topic.clone(),
                partition,
                tables: Vec::new(),
            })
            .collect();
        let found = read_offsets(
            &self.client,
            &options.group_id,
            &partitions,
            options.request_timeout(),
        )?;
        Ok(found.places())
    }

    fn failed(&self, doing: &str, error: &rdkafka::error::KafkaError) -> PortError {
        let subject = format!("topic '{}'", self.topic);
        port_error_of(self.client.context().access(), doing, &subject, error)
    }

    fn list(&self, next: &BTreeMap<i32, i64>) -> Result<TopicPartitionList, PortError> {
        let mut list = TopicPartitionList::with_capacity(next.len());
        for (partition, offset) in next {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset))
                .map_err(|error| self.failed("naming positions", &error))?;
        }
        Ok(list)
    }

    fn assign(&self, next: &BTreeMap<i32, i64>) -> Result<(), PortError> {
        let list = self.list(next)?;
        let assigned = self.client.assign(&list);
        assigned.map_err(|error| self.failed("assigning partitions", &error))
    }

    /// The next records, of each partition in order of offsets: at most `most_records`, and no more
    /// once they have `most_bytes`. Waits up to `wait` for the first record, never for more.
    ///
    /// # Errors
    /// Retriable while brokers do not answer. Fatal for a position that the log does not hold, and
    /// for a denied permission.
    pub fn take(
        &mut self,
        most_records: usize,
        most_bytes: usize,
        wait: Duration,
    ) -> Result<Vec<OwnedRecord>, PortError> {
        if let Some(error) = self.pending.take() {
            return Err(error);
        }
        let until = Instant::now() + wait;
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < most_records && bytes < most_bytes {
            let left = if taken.is_empty() {
                until.saturating_duration_since(Instant::now())
            } else {
                Duration::ZERO
            };
            match self.client.poll(left) {
                None => break,
                Some(Ok(message)) => {
                    let record = OwnedRecord::copy_of(&message);
                    bytes += record.value.as_ref().map_or(0, Vec::len);
                    taken.push(record);
                }
                Some(Err(error)) => {
                    let error = self.failed(&format!("reading '{}'", self.topic), &error);
                    if taken.is_empty() {
                        return Err(error);
                    }
                    self.pending = Some(error);
                    break;
                }
            }
        }
        Ok(taken)
    }

    /// Commits next offsets by partition; returns once the coordinator has them.
    ///
    /// # Errors
    /// Retriable while brokers do not answer.
    pub fn commit(&self, next: &BTreeMap<i32, i64>) -> Result<(), PortError> {
        let list = self.list(next)?;
        let committed = self.client.commit(&list, CommitMode::Sync);
        committed.map_err(|error| self.failed("committing positions", &error))
    }
}
