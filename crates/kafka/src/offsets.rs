//! Questions about a topic: partitions, first offsets and ends, the records between two offsets.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use rustc_hash::FxHashMap;

use leadpulse_engine::ports::{LogEnd, NextOffset, PortCause, PortError};

use crate::client::{
    ClientCallbacks, Closing, consumer, is_permanent, port_error_of, serve, serve_all,
};
use crate::client_settings::ClientRole;
use crate::metrics::KafkaMetrics;
use crate::options::KafkaOptions;
use crate::reader::OwnedRecord;

/// The records that a reader sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Records of committed transactions, and records produced without one.
    Committed,
    /// All records, those of open and aborted transactions included.
    Uncommitted,
}

/// A topic and a partition number.
pub(crate) type TopicPartition = (String, i32);

const POLL_WAIT: Duration = Duration::from_millis(5);
/// Pause before a question is asked again, doubled up to the second.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Limit of a client's first question. Doubled for each one after, until a broker answers: a denied
/// login is seen between two questions.
const FIRST_QUESTION: Duration = Duration::from_secs(1);
/// Limit of one look at whether a place can be read. librdkafka waits half a second before another
/// fetch of a batch that it could not read.
const PROBE_LIMIT: Duration = Duration::from_secs(3);

/// A list of the partitions, without offsets.
pub(crate) fn place_list<'p>(
    places: impl IntoIterator<Item = &'p TopicPartition>,
) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in places {
        list.add_partition(topic, *partition);
    }
    list
}

/// True for errors of log bytes that no further fetch can read: damage, or a format that this
/// client does not have.
///
/// librdkafka reports such an error without the partition, and fetches the same batch again
/// (`rd_kafka_msgset_reader_decompress` in
/// [2.12](https://github.com/confluentinc/librdkafka/blob/v2.12.1/src/rdkafka_msgset_reader.c)).
pub(crate) fn is_damage(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::BadCompression
            | RDKafkaErrorCode::BadMessage
            | RDKafkaErrorCode::NotImplemented
            | RDKafkaErrorCode::Underflow
            | RDKafkaErrorCode::InvalidMessage
            | RDKafkaErrorCode::InvalidMessageSize
            | RDKafkaErrorCode::InvalidRecord
            | RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::UnsupportedCompressionType
    )
}

/// The result of a look at one place of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Readability {
    /// A record came, or reading passed the place.
    Readable,
    /// The client cannot make records of the bytes there.
    Damaged(String),
    /// Nothing came within the limit: the partition may have no leader now.
    Unknown,
}

/// The offsets `from..end` of a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OffsetRange {
    pub(crate) partition: i32,
    pub(crate) from: i64,
    pub(crate) end: i64,
}

/// Names of a cluster's topics.
#[derive(Clone, Debug, Default)]
pub(crate) struct TopicNames {
    /// Topics that the brokers know, and let this client see.
    pub(crate) existing: BTreeSet<String>,
    /// Those of which every partition has a leader.
    pub(crate) usable: BTreeSet<String>,
}

/// A client that looks at topics, and commits nothing.
pub(crate) struct OffsetReader {
    client: Closing<BaseConsumer<ClientCallbacks>>,
    options: KafkaOptions,
}

impl OffsetReader {
    /// A client that reads logs: a slow answer is waited for.
    pub(crate) fn connect(
        options: &KafkaOptions,
        isolation: Isolation,
        metrics: &Arc<KafkaMetrics>,
    ) -> Result<Self, PortError> {
        let role = ClientRole::Reader {
            committed: isolation == Isolation::Committed,
        };
        let client = Closing::new(
            consumer(options, role, "reader", Some(metrics))?,
            "reader",
            options.close_timeout(),
        );
        Ok(Self {
            client,
            options: options.clone(),
        })
    }

    /// A client for small questions: a broker that does not answer is given up within seconds, and
    /// another one asked.
    pub(crate) fn to_ask(
        options: &KafkaOptions,
        isolation: Isolation,
        metrics: &Arc<KafkaMetrics>,
    ) -> Result<Self, PortError> {
        let role = ClientRole::Asker {
            committed: isolation == Isolation::Committed,
        };
        let client = Closing::new(
            consumer(options, role, "asker", Some(metrics))?,
            "asker",
            options.close_timeout(),
        );
        Ok(Self {
            client,
            options: options.clone(),
        })
    }

    /// A client for a few questions, outside the metrics.
    pub(crate) fn for_a_moment(options: &KafkaOptions) -> Result<Self, PortError> {
        let role = ClientRole::Asker { committed: false };
        let client = Closing::new(
            consumer(options, role, "asker", None)?,
            "asker",
            options.close_timeout(),
        );
        Ok(Self {
            client,
            options: options.clone(),
        })
    }

    /// Names of the topics that exist, and of those that can be used: every partition has a leader.
    pub(crate) fn topics(&self) -> Result<TopicNames, PortError> {
        let doing = format!("listing the topics of {}", self.options.brokers);
        let metadata = self.patiently(|limit| {
            let listed = self.client.fetch_metadata(None, limit);
            listed.map_err(|error| self.failed(&doing, "", &error))
        })?;
        let mut names = TopicNames::default();
        for topic in metadata.topics() {
            let has_leaders = topic.partitions().iter().all(|it| it.leader() >= 0);
            if topic.error().is_none() && has_leaders {
                names.usable.insert(topic.name().to_owned());
            }
            names.existing.insert(topic.name().to_owned());
        }
        Ok(names)
    }

    fn failed(&self, doing: &str, subject: &str, error: &KafkaError) -> PortError {
        port_error_of(self.client.context().access(), doing, subject, error)
    }

    /// The client, for questions about the group.
    pub(crate) fn client(&self) -> &BaseConsumer<ClientCallbacks> {
        &self.client
    }

    /// Number of partitions of the topic; `None` if there is no such topic.
    pub(crate) fn partition_count(&self, topic: &str) -> Result<Option<i32>, PortError> {
        self.patiently(|limit| self.partition_count_within(topic, limit))
    }

    fn partition_count_within(
        &self,
        topic: &str,
        limit: Duration,
    ) -> Result<Option<i32>, PortError> {
        let doing = || format!("asking {} for topic '{topic}'", self.options.brokers);
        let metadata = self
            .client
            .fetch_metadata(Some(topic), limit)
            .map_err(|error| self.failed(&doing(), &format!("topic '{topic}'"), &error))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(None);
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None => Ok(Some(found.partitions().len() as i32)),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                Ok(None)
            }
            Some(code) if is_permanent(code) => {
                let error = KafkaError::MetadataFetch(code);
                Err(self.failed(&doing(), &format!("topic '{topic}'"), &error))
            }
            Some(code) => Err(PortError::retriable(
                PortCause::NoAnswer,
                format!("kafka: {}: {code}", doing()),
            )),
        }
    }

    /// The first offset of each partition.
    pub(crate) fn starts(&self, places: &[TopicPartition]) -> Result<Vec<NextOffset>, PortError> {
        Ok(self
            .list(places, Offset::Beginning)?
            .into_iter()
            .map(NextOffset)
            .collect())
    }

    /// One past the last offset of each partition that this client may reach. Control records
    /// count.
    pub(crate) fn stable_ends(&self, places: &[TopicPartition]) -> Result<Vec<i64>, PortError> {
        self.list(places, Offset::End)
    }

    /// Offsets at the beginning or end of each partition.
    fn list(&self, places: &[TopicPartition], at: Offset) -> Result<Vec<i64>, PortError> {
        self.patiently(|limit| self.list_within(places, at, limit))
    }

    fn patiently<T>(&self, ask: impl Fn(Duration) -> Result<T, PortError>) -> Result<T, PortError> {
        let access = self.client.context().access();
        let mut question = FIRST_QUESTION;
        patiently(self.options.request_timeout(), |left| {
            serve(&self.client);
            let limit = if access.is_admitted() {
                left
            } else {
                left.min(question)
            };
            question *= 2;
            match ask(limit) {
                Ok(answer) => {
                    access.admit();
                    Ok(answer)
                }
                Err(error) => {
                    serve_all(&self.client);
                    Err(access.explain(error))
                }
            }
        })
    }

    fn list_within(
        &self,
        places: &[TopicPartition],
        at: Offset,
        limit: Duration,
    ) -> Result<Vec<i64>, PortError> {
        let doing = "listing offsets of the partitions";
        let mut request = TopicPartitionList::with_capacity(places.len());
        for (topic, partition) in places {
            request
                .add_partition_offset(topic, *partition, at)
                .map_err(|error| self.failed(doing, "", &error))?;
        }
        let answer = self
            .client
            .offsets_for_times(request, limit)
            .map_err(|error| self.failed(doing, "", &error))?;
        let offset_of = |(topic, partition): &TopicPartition| {
            let doing = || format!("listing the offset of {topic}/{partition}");
            let element = answer.find_partition(topic, *partition);
            let element = element.ok_or_else(|| {
                PortError::fatal(
                    PortCause::NoAnswer,
                    format!("kafka: {}: not in the answer", doing()),
                )
            })?;
            element
                .error()
                .map_err(|error| self.failed(&doing(), &format!("topic '{topic}'"), &error))?;
            match element.offset() {
                Offset::Offset(offset) => Ok(offset),
                other => Err(PortError::retriable(
                    PortCause::NoAnswer,
                    format!("kafka: {}: the broker answered {other:?}", doing()),
                )),
            }
        };
        places.iter().map(offset_of).collect()
    }

    /// Looks whether reading can begin at `offset`, which must lie before the partition's stable
    /// end. Only this partition is assigned, so an error belongs to it.
    pub(crate) fn probe(
        &self,
        place: &TopicPartition,
        offset: NextOffset,
    ) -> Result<Readability, PortError> {
        let (topic, partition) = place;
        let failed = |error| {
            self.failed(
                &format!("looking at offset {} of {topic}/{partition}", offset.0),
                &format!("topic '{topic}'"),
                &error,
            )
        };
        let mut assignment = TopicPartitionList::with_capacity(1);
        assignment
            .add_partition_offset(topic, *partition, Offset::Offset(offset.0))
            .map_err(failed)?;
        self.client.assign(&assignment).map_err(failed)?;
        let probe = self.probe_assigned(place, offset).map_err(failed);
        self.client.unassign().map_err(failed)?;
        probe
    }

    fn probe_assigned(
        &self,
        (topic, partition): &TopicPartition,
        offset: NextOffset,
    ) -> Result<Readability, KafkaError> {
        let deadline = Instant::now() + PROBE_LIMIT;
        while Instant::now() < deadline {
            match self.client.poll(POLL_WAIT) {
                Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => return Ok(Readability::Readable),
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(code) if is_damage(code) => {
                        return Ok(Readability::Damaged(code.to_string()));
                    }
                    Some(code) if is_permanent(code) => return Err(error),
                    _ => {}
                },
                None => {
                    let positions = self.client.position()?;
                    let element = positions.find_partition(topic, *partition);
                    if element.is_some_and(
                        |element| matches!(element.offset(), Offset::Offset(at) if at > offset.0),
                    ) {
                        return Ok(Readability::Readable);
                    }
                }
            }
        }
        Ok(Readability::Unknown)
    }

    /// The error of the first topic that this client may not read, with its name. Looks at one
    /// partition of each topic.
    pub(crate) fn denied_topic(&self, places: &[TopicPartition]) -> Option<PortError> {
        let mut looked_at: Vec<&str> = Vec::new();
        for place in places {
            if looked_at.contains(&place.0.as_str()) {
                continue;
            }
            looked_at.push(&place.0);
            let Ok(starts) = self.starts(std::slice::from_ref(place)) else {
                continue;
            };
            if let Err(named @ PortError::Fatal(_)) = self.probe(place, starts[0]) {
                return Some(named);
            }
        }
        None
    }

    /// The first readable offset behind damage, at most `end`. Looks at ever later offsets, then
    /// halves the stretch. Good batches between two damaged ones may be passed over with them.
    pub(crate) fn readable_after(
        &self,
        place: &TopicPartition,
        damaged: NextOffset,
        end: NextOffset,
    ) -> Result<NextOffset, PortError> {
        let (mut bad, mut step) = (damaged.0, 1);
        let mut good = loop {
            let at = damaged.0.saturating_add(step);
            if at >= end.0 {
                break end.0;
            }
            if self.can_read(place, at)? {
                break at;
            }
            (bad, step) = (at, step.saturating_mul(2));
        };
        while good - bad > 1 {
            let middle = bad + (good - bad) / 2;
            if self.can_read(place, middle)? {
                good = middle;
            } else {
                bad = middle;
            }
        }
        Ok(NextOffset(good))
    }

    fn can_read(&self, place: &TopicPartition, offset: i64) -> Result<bool, PortError> {
        match self.probe(place, NextOffset(offset))? {
            Readability::Readable => Ok(true),
            Readability::Damaged(_) => Ok(false),
            Readability::Unknown => {
                let (topic, partition) = place;
                Err(PortError::retriable(
                    PortCause::NoAnswer,
                    format!(
                        "kafka: looking for the end of the damage in {topic}/{partition}: no answer at offset {offset}"
                    ),
                ))
            }
        }
    }

    /// The first visible record of a range; `None` where it has only markers and aborted records.
    ///
    /// # Errors
    /// Retriable when nothing arrives within the request limit.
    pub(crate) fn first_record(
        &self,
        topic: &str,
        range: OffsetRange,
    ) -> Result<Option<OwnedRecord>, PortError> {
        let mut first = None;
        // An error ends the read, so the rest of the range is not fetched.
        let found = PortError::retriable(PortCause::Local, "the first record was found");
        let read = self.read(topic, &[range], &mut |message| {
            first = Some(OwnedRecord::copy_of(message));
            Err(found.clone())
        });
        match first {
            Some(record) => Ok(Some(record)),
            None => read.map(|()| None),
        }
    }

    /// Hands every visible record of the ranges of one topic to `each`. Partitions are interleaved,
    /// and the records of a partition are in order.
    ///
    /// # Errors
    /// Retriable when nothing arrives within the request limit; the error of `each`.
    pub(crate) fn read(
        &self,
        topic: &str,
        ranges: &[OffsetRange],
        each: &mut dyn FnMut(&BorrowedMessage<'_>) -> Result<(), PortError>,
    ) -> Result<(), PortError> {
        let subject = format!("topic '{topic}'");
        let failed = |error| self.failed(&format!("reading {subject}"), &subject, &error);
        let mut unread: FxHashMap<i32, i64> = ranges
            .iter()
            .filter(|range| range.from < range.end)
            .map(|range| (range.partition, range.end))
            .collect();
        if unread.is_empty() {
            return Ok(());
        }
        let mut assignment = TopicPartitionList::with_capacity(ranges.len());
        for range in ranges.iter().filter(|range| range.from < range.end) {
            assignment
                .add_partition_offset(topic, range.partition, Offset::Offset(range.from))
                .map_err(failed)?;
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
                // One topic is assigned at a time, because librdkafka's event does not name the
                // topic.
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(unread.remove(&partition)),
                Some(Err(error)) if error.rdkafka_error_code().is_some_and(is_permanent) => {
                    return Err(failed(error));
                }
                Some(Err(_)) | None => {
                    self.drop_passed(topic, &mut unread).map_err(failed)?;
                    if Instant::now() >= deadline {
                        let waited_ms = self.options.request_timeout_ms;
                        return Err(PortError::retriable(
                            PortCause::NoAnswer,
                            format!(
                                "kafka: reading topic '{topic}': nothing arrived for {waited_ms} ms"
                            ),
                        ));
                    }
                }
            }
        }
        self.client.unassign().map_err(failed)
    }

    /// Drops the partitions whose position is past the end to read to. The rest of such a partition
    /// was markers and aborted records, and only the position says so.
    fn drop_passed(&self, topic: &str, unread: &mut FxHashMap<i32, i64>) -> Result<(), KafkaError> {
        let positions = self.client.position()?;
        unread.retain(|partition, end| {
            let position = positions
                .find_partition(topic, *partition)
                .map(|element| element.offset());
            !matches!(position, Some(Offset::Offset(offset)) if offset >= *end)
        });
        Ok(())
    }
}

/// Asks until the answer is final, within the limit. Each call gets the time that is left.
///
/// After a change of leaders a broker refuses for a moment: it is not the leader, the client's
/// leader epoch is fenced or not known yet
/// ([KIP-320](https://cwiki.apache.org/confluence/display/KAFKA/KIP-320%3A+Allow+fetchers+to+detect+and+handle+log+truncation)),
/// or the end is not known yet
/// ([KIP-207](https://cwiki.apache.org/confluence/display/KAFKA/KIP-207%3A+Offsets+returned+by+ListOffsetsResponse+should+be+monotonically+increasing+even+during+a+partition+leader+change)).
/// librdkafka's `offsets_for_times` leaves it to the caller to ask again.
fn patiently<T>(
    limit: Duration,
    mut ask: impl FnMut(Duration) -> Result<T, PortError>,
) -> Result<T, PortError> {
    let deadline = Instant::now() + limit;
    let mut pause = FIRST_PAUSE;
    loop {
        match ask(deadline
            .saturating_duration_since(Instant::now())
            .max(FIRST_PAUSE))
        {
            Err(PortError::Retriable(why)) if Instant::now() + pause < deadline => {
                tracing::debug!("{why}; asking again");
                std::thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            answer => return answer,
        }
    }
}

/// The ends of the partitions: the stable ends from `committed`, the high watermarks from `all`.
pub(crate) fn log_ends(
    committed: &OffsetReader,
    all: &OffsetReader,
    places: &[TopicPartition],
) -> Result<Vec<LogEnd>, PortError> {
    let (stable, high) = (committed.stable_ends(places)?, all.stable_ends(places)?);
    let end = |(stable, high): (i64, i64)| LogEnd {
        stable: NextOffset(stable),
        high: NextOffset(high.max(stable)),
    };
    Ok(stable.into_iter().zip(high).map(end).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer after `failures` errors of `code`, and the number of questions.
    fn asked(
        code: RDKafkaErrorCode,
        failures: usize,
        limit: Duration,
    ) -> (Result<(), PortError>, usize) {
        let mut count = 0;
        let answer = patiently(limit, |_| {
            count += 1;
            if count > failures {
                Ok(())
            } else {
                Err(crate::client::port_error(
                    "listing offsets",
                    &KafkaError::OffsetFetch(code),
                ))
            }
        });
        (answer, count)
    }

    #[test]
    fn answers_of_a_moment_are_asked_again_and_final_ones_are_not() {
        let long = Duration::from_secs(600);
        for code in [
            RDKafkaErrorCode::FencedLeaderEpoch,
            RDKafkaErrorCode::UnknownLeaderEpoch,
            RDKafkaErrorCode::OffsetNotAvailable,
            RDKafkaErrorCode::LeaderNotAvailable,
            RDKafkaErrorCode::NotLeaderForPartition,
            RDKafkaErrorCode::KafkaStorageError,
            RDKafkaErrorCode::OperationTimedOut,
        ] {
            assert!(matches!(asked(code, 2, long), (Ok(()), 3)), "{code:?}");
        }
        let (denied, count) = asked(RDKafkaErrorCode::TopicAuthorizationFailed, 2, long);
        assert!(
            matches!((&denied, count), (Err(PortError::Fatal(_)), 1)),
            "{denied:?}, {count}"
        );
        let (late, _) = asked(
            RDKafkaErrorCode::FencedLeaderEpoch,
            usize::MAX,
            Duration::from_millis(200),
        );
        assert!(
            matches!(&late, Err(PortError::Retriable(why)) if why.message().contains("listing offsets")),
            "{late:?}"
        );
    }
}
