//! Reads of a whole topic, from the beginning to the end: for tools, tests and the demo's printing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::message::{BorrowedMessage, Message};

use leadpulse_engine::ports::{NextOffset, PortCause, PortError};

use crate::metrics::KafkaMetrics;
use crate::offsets::{Isolation, OffsetRange, OffsetReader, TopicPartition};
use crate::options::KafkaOptions;
use crate::record::{for_each_header, timestamp_ms};

/// Pause before the ends of a topic are looked at again.
const SETTLE_PAUSE: Duration = Duration::from_millis(20);

/// A record with bytes of its own, copied out of librdkafka's buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    /// Partition number.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// Kafka timestamp, milliseconds.
    pub timestamp_ms: i64,
    /// Key bytes; `None` for a record without key.
    pub key: Option<Vec<u8>>,
    /// Value bytes; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in order; a value of `None` is null.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl OwnedRecord {
    pub(crate) fn copy_of(message: &BorrowedMessage<'_>) -> Self {
        let mut headers = Vec::new();
        for_each_header(message, |name, value| {
            headers.push((name.to_owned(), value.map(<[u8]>::to_vec)))
        });
        Self {
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: timestamp_ms(message),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers,
        }
    }

    /// The value of the last header with that name; `None` if there is no such header, or the value
    /// is null.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .rfind(|(found, _)| found == name)
            .and_then(|(_, value)| value.as_deref())
    }
}

/// A reader of one topic. Each read goes on where the one before ended.
pub struct TopicReader {
    offsets: OffsetReader,
    options: KafkaOptions,
    topic: String,
    places: Vec<TopicPartition>,
    next: Vec<NextOffset>,
}

impl TopicReader {
    /// A reader at the beginning of the topic.
    ///
    /// # Errors
    /// A topic that does not exist, or brokers that do not answer.
    pub fn open(
        options: &KafkaOptions,
        topic: &str,
        isolation: Isolation,
        metrics: &Arc<KafkaMetrics>,
    ) -> Result<Self, PortError> {
        let offsets = OffsetReader::connect(options, isolation, metrics)?;
        let Some(partitions) = offsets.partition_count(topic)? else {
            return Err(PortError::fatal(
                PortCause::TopicMissing,
                format!(
                    "kafka: there is no topic '{topic}' on {}: create it, or correct its name",
                    options.brokers
                ),
            ));
        };
        let places: Vec<TopicPartition> = (0..partitions)
            .map(|partition| (topic.to_owned(), partition))
            .collect();
        let next = offsets.starts(&places)?;
        Ok(Self {
            offsets,
            options: options.clone(),
            topic: topic.to_owned(),
            places,
            next,
        })
    }

    /// The records up to the ends of the partitions at the time of the call, ordered by partition
    /// and offset.
    pub fn read_to_end(&mut self) -> Result<Vec<OwnedRecord>, PortError> {
        let mut records = Vec::new();
        self.read_each(&mut |message| {
            records.push(OwnedRecord::copy_of(message));
            Ok(())
        })?;
        records.sort_by_key(|record| (record.partition, record.offset));
        Ok(records)
    }

    /// As [`Self::read_to_end`], one record after the other: of one partition in order of offsets.
    /// The topic may be larger than memory.
    ///
    /// # Errors
    /// The first error of `each`, or brokers that do not answer.
    pub fn for_each(
        &mut self,
        each: &mut dyn FnMut(OwnedRecord) -> Result<(), PortError>,
    ) -> Result<(), PortError> {
        self.read_each(&mut |message| each(OwnedRecord::copy_of(message)))
    }

    /// As [`Self::for_each`], once no transaction is open that had written to the topic by the time
    /// of the call. So every transaction that was committed by then is read.
    ///
    /// # Errors
    /// As [`Self::for_each`]; a transaction that stays open for longer than `kafka.request_timeout`.
    pub fn for_each_settled(
        &mut self,
        each: &mut dyn FnMut(OwnedRecord) -> Result<(), PortError>,
    ) -> Result<(), PortError> {
        // The client of a moment reads uncommitted records, so its ends are those of the log.
        let written = OffsetReader::for_a_moment(&self.options)?.stable_ends(&self.places)?;
        let deadline = Instant::now() + self.options.request_timeout();
        loop {
            let stable = self.offsets.stable_ends(&self.places)?;
            if stable
                .iter()
                .zip(&written)
                .all(|(stable, end)| stable >= end)
            {
                return self.for_each(each);
            }
            if Instant::now() >= deadline {
                return Err(PortError::retriable(
                    PortCause::NoAnswer,
                    format!(
                        "kafka: a transaction on '{}' stays open; try again once it has ended",
                        self.topic
                    ),
                ));
            }
            std::thread::sleep(SETTLE_PAUSE);
        }
    }

    fn read_each(
        &mut self,
        each: &mut dyn FnMut(&BorrowedMessage<'_>) -> Result<(), PortError>,
    ) -> Result<(), PortError> {
        let ends = self.offsets.stable_ends(&self.places)?;
        let ranges = self.places.iter().zip(&self.next).zip(&ends);
        let ranges: Vec<OffsetRange> = ranges
            .map(|(((_, partition), next), end)| OffsetRange {
                partition: *partition,
                from: next.0,
                end: *end,
            })
            .collect();
        self.offsets.read(&self.topic, &ranges, each)?;
        for (next, end) in self.next.iter_mut().zip(ends) {
            next.0 = next.0.max(end);
        }
        Ok(())
    }
}

/// Every record of the topic, ordered by partition and offset.
pub fn read_all(
    options: &KafkaOptions,
    topic: &str,
    isolation: Isolation,
    metrics: &Arc<KafkaMetrics>,
) -> Result<Vec<OwnedRecord>, PortError> {
    TopicReader::open(options, topic, isolation, metrics)?.read_to_end()
}
