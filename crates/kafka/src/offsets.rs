//! What a topic holds: its partitions, their first offsets and ends, the records between two offsets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use rustc_hash::FxHashMap;

use leadpulse_engine::ports::{NextOffset, PortError};

use crate::client::{Closing, Context, consumer, is_permanent, port_error};
use crate::metrics::KafkaMetrics;
use crate::options::{KafkaOptions, Role};

/// Which records a reader sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Those of committed transactions, and those produced without one.
    Committed,
    /// Those of open and aborted transactions too.
    Uncommitted,
}

/// A topic and a partition number.
pub(crate) type Place = (String, i32);

const POLL_WAIT: Duration = Duration::from_millis(5);

/// The offsets `from..end` of a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OffsetRange {
    pub(crate) partition: i32,
    pub(crate) from: i64,
    pub(crate) end: i64,
}

/// A client that looks at topics without consuming them.
pub(crate) struct OffsetReader {
    client: Closing<BaseConsumer<Context>>,
    options: KafkaOptions,
}

impl OffsetReader {
    /// A client that sees committed records only, or all.
    pub(crate) fn connect(options: &KafkaOptions, isolation: Isolation, metrics: &Arc<KafkaMetrics>) -> Result<Self, PortError> {
        let role = Role::Reader { committed: isolation == Isolation::Committed };
        let client = Closing::new(consumer(options, role, "reader", metrics)?, "reader", options.close_timeout());
        Ok(Self { client, options: options.clone() })
    }

    /// The client, for questions about the group.
    pub(crate) fn client(&self) -> &BaseConsumer<Context> {
        &self.client
    }

    /// How many partitions the topic has; `None` if there is no such topic.
    pub(crate) fn partition_count(&self, topic: &str) -> Result<Option<i32>, PortError> {
        let doing = || format!("asking {} for topic '{topic}'", self.options.brokers);
        let metadata =
            self.client.fetch_metadata(Some(topic), self.options.request_timeout()).map_err(|error| port_error(&doing(), &error))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
        match found.error().map(RDKafkaErrorCode::from) {
            None => Ok(Some(found.partitions().len() as i32)),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
            Some(code) if is_permanent(code) => Err(PortError::Fatal(format!("kafka: {}: {code}", doing()))),
            Some(code) => Err(PortError::Retriable(format!("kafka: {}: {code}", doing()))),
        }
    }

    /// The first offset of each partition.
    pub(crate) fn starts(&self, places: &[Place]) -> Result<Vec<NextOffset>, PortError> {
        Ok(self.list(places, Offset::Beginning)?.into_iter().map(NextOffset).collect())
    }

    /// One past the last offset of each partition that this client may reach, control records included.
    pub(crate) fn stable_ends(&self, places: &[Place]) -> Result<Vec<i64>, PortError> {
        self.list(places, Offset::End)
    }

    fn list(&self, places: &[Place], at: Offset) -> Result<Vec<i64>, PortError> {
        let doing = "listing offsets of the partitions";
        let mut request = TopicPartitionList::with_capacity(places.len());
        for (topic, partition) in places {
            request.add_partition_offset(topic, *partition, at).map_err(|error| port_error(doing, &error))?;
        }
        let answer = self.client.offsets_for_times(request, self.options.request_timeout()).map_err(|error| port_error(doing, &error))?;
        let offset_of = |(topic, partition): &Place| {
            let doing = || format!("listing the offset of {topic}/{partition}");
            let element = answer.find_partition(topic, *partition);
            let element = element.ok_or_else(|| PortError::Fatal(format!("kafka: {}: not in the answer", doing())))?;
            element.error().map_err(|error| port_error(&doing(), &error))?;
            match element.offset() {
                Offset::Offset(offset) => Ok(offset),
                other => Err(PortError::Retriable(format!("kafka: {}: the broker answered {other:?}", doing()))),
            }
        };
        places.iter().map(offset_of).collect()
    }

    /// Hands every visible record of the ranges of one topic to `each`; partitions are interleaved, a partition's records are in order.
    /// Gives up when nothing arrives within the request limit.
    pub(crate) fn read(
        &self,
        topic: &str,
        ranges: &[OffsetRange],
        each: &mut dyn FnMut(&BorrowedMessage<'_>) -> Result<(), PortError>,
    ) -> Result<(), PortError> {
        let failed = |error| port_error(&format!("reading topic '{topic}'"), &error);
        let mut unread: FxHashMap<i32, i64> =
            ranges.iter().filter(|range| range.from < range.end).map(|range| (range.partition, range.end)).collect();
        if unread.is_empty() {
            return Ok(());
        }
        let mut assignment = TopicPartitionList::with_capacity(ranges.len());
        for range in ranges.iter().filter(|range| range.from < range.end) {
            assignment.add_partition_offset(topic, range.partition, Offset::Offset(range.from)).map_err(failed)?;
        }
        self.client.assign(&assignment).map_err(failed)?;
        let mut deadline = Instant::now() + self.options.request_timeout();
        while !unread.is_empty() {
            match self.client.poll(POLL_WAIT) {
                Some(Ok(message)) => {
                    deadline = Instant::now() + self.options.request_timeout();
                    if let Some(&end) = unread.get(&message.partition()) {
                        if message.offset() < end {
                            each(&message)?;
                        }
                        if message.offset() + 1 >= end {
                            unread.remove(&message.partition());
                        }
                    }
                }
                // One topic is assigned at a time: librdkafka's notice does not name it.
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(unread.remove(&partition)),
                Some(Err(error)) if error.rdkafka_error_code().is_some_and(is_permanent) => return Err(failed(error)),
                Some(Err(_)) | None => {
                    // Only the position tells that the rest of a partition was markers and aborted records.
                    let positions = self.client.position().map_err(failed)?;
                    unread.retain(|partition, end| {
                        let element = positions.find_partition(topic, *partition);
                        !element.is_some_and(|element| matches!(element.offset(), Offset::Offset(offset) if offset >= *end))
                    });
                    if Instant::now() >= deadline {
                        let waited_ms = self.options.request_timeout_ms;
                        return Err(PortError::Retriable(format!("kafka: reading topic '{topic}': nothing arrived for {waited_ms} ms")));
                    }
                }
            }
        }
        self.client.unassign().map_err(failed)
    }
}
