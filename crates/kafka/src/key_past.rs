//! [`KeyPast`]: older records of one key in an output topic, read backwards in bounded steps.
//!
//! A key has one partition, and `as_of` never goes back in it. So the place of a moment is found by
//! halving, and reading goes on from there towards the beginning. Kafka's own index by time is of no
//! use: the timestamps of scores are those of the append, and a history is appended in one go.
//!
//! Decision: docs/decisions/0087-analysts-ask-a-past.md

use std::sync::Arc;
use std::time::{Duration, Instant};

use leadpulse_engine::ports::{PortCause, PortError};

use crate::metrics::KafkaMetrics;
use crate::offsets::{Isolation, OffsetRange, OffsetReader};
use crate::options::KafkaOptions;
use crate::reader::OwnedRecord;

/// Offsets of the first step back, and of the largest: each step is twice the one before.
const STEPS: (i64, i64) = (1000, 16_000);
/// The longest wait for one answer of a broker.
const LONGEST_ANSWER: Duration = Duration::from_secs(5);

/// The place from which records are read backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PastPlace {
    /// Records of an earlier moment, milliseconds.
    Moment(i64),
    /// Records before this offset of the key's partition.
    Offset(i64),
}

/// Bounds of one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastBounds {
    /// Records of the key that are wanted.
    pub wanted: usize,
    /// Offsets to look at, at most; the last step may be cut short by them.
    pub offsets: i64,
    /// No further step begins after this time.
    pub time: Duration,
}

/// Records of a key, and the place to go on at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PastPage {
    /// The newest ones before the place, oldest first; at most as many as were wanted.
    pub records: Vec<OwnedRecord>,
    /// The offset before which older ones may lie; `None` at the beginning of the partition.
    pub next: Option<i64>,
    /// Offsets that were looked at.
    pub looked_at: i64,
}

/// The past of single keys in one topic. Connects for each read.
pub struct KeyPast {
    options: KafkaOptions,
    metrics: Arc<KafkaMetrics>,
    topic: String,
}

impl KeyPast {
    /// The past in a topic.
    pub fn new(options: &KafkaOptions, topic: &str, metrics: &Arc<KafkaMetrics>) -> Self {
        let mut options = options.clone();
        let longest_ms = LONGEST_ANSWER.as_millis() as u64;
        options.request_timeout_ms = options.request_timeout_ms.min(longest_ms);
        Self {
            options,
            metrics: Arc::clone(metrics),
            topic: topic.to_owned(),
        }
    }

    /// The newest committed records of a key before a place. `moment_of` reads the moment of any
    /// record of the topic, which never goes back in a partition; `None` for one that has none.
    ///
    /// # Errors
    /// A topic that does not exist, or brokers that do not answer.
    pub fn before(
        &self,
        key: &[u8],
        place: PastPlace,
        bounds: PastBounds,
        moment_of: &dyn Fn(&OwnedRecord) -> Option<i64>,
    ) -> Result<PastPage, PortError> {
        let began = Instant::now();
        let offsets = OffsetReader::connect(&self.options, Isolation::Committed, &self.metrics)?;
        let Some(partitions) = offsets.partition_count(&self.topic)? else {
            return Err(PortError::fatal(
                PortCause::TopicMissing,
                format!("kafka: there is no topic '{}'", self.topic),
            ));
        };
        let partition = partition_of(key, partitions);
        let at = (self.topic.clone(), partition);
        let start = offsets.starts(std::slice::from_ref(&at))?[0].0;
        let end = match place {
            PastPlace::Moment(at_ms) => {
                let range = OffsetRange {
                    partition,
                    from: start,
                    end: offsets.stable_ends(std::slice::from_ref(&at))?[0],
                };
                let is_before =
                    |record: &OwnedRecord| moment_of(record).is_none_or(|ms| ms < at_ms);
                self.place_of(&offsets, range, &is_before)?
            }
            PastPlace::Offset(offset) => offset,
        };
        let mut page = PastPage {
            next: Some(end).filter(|end| *end > start),
            ..PastPage::default()
        };
        let mut step = STEPS.0;
        while let Some(end) = page.next
            && page.records.len() < bounds.wanted
            && page.looked_at < bounds.offsets
            && began.elapsed() < bounds.time
        {
            let from = end.saturating_sub(step.min(bounds.offsets - page.looked_at));
            let range = OffsetRange {
                partition,
                from: from.max(start),
                end,
            };
            self.prepend(&offsets, range, key, &mut page)?;
            page.next = Some(range.from).filter(|from| *from > start);
            page.looked_at += end - range.from;
            step = (2 * step).min(STEPS.1);
        }
        let surplus = page.records.len().saturating_sub(bounds.wanted);
        if surplus > 0 {
            page.records.drain(..surplus);
            page.next = page.records.first().map(|oldest| oldest.offset);
        }
        Ok(page)
    }

    /// The offset behind all records that lie before a moment, by halving: some twenty looks at a
    /// million records.
    fn place_of(
        &self,
        offsets: &OffsetReader,
        mut range: OffsetRange,
        is_before: &dyn Fn(&OwnedRecord) -> bool,
    ) -> Result<i64, PortError> {
        while range.from < range.end {
            let middle = range.from + (range.end - range.from) / 2;
            let later = OffsetRange {
                from: middle,
                ..range
            };
            match offsets.first_record(&self.topic, later)? {
                Some(record) if is_before(&record) => range.from = record.offset + 1,
                _ => range.end = middle,
            }
        }
        Ok(range.from)
    }

    /// Puts the records of a key in a range before those of a page.
    fn prepend(
        &self,
        offsets: &OffsetReader,
        range: OffsetRange,
        key: &[u8],
        page: &mut PastPage,
    ) -> Result<(), PortError> {
        let mut found = Vec::new();
        offsets.read(&self.topic, &[range], &mut |message| {
            let record = OwnedRecord::copy_of(message);
            if record.key.as_deref() == Some(key) {
                found.push(record);
            }
            Ok(())
        })?;
        found.append(&mut page.records);
        page.records = found;
        Ok(())
    }
}

/// The partition of a key by Kafka's default partitioner, which all producers of this program use.
fn partition_of(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key) & 0x7fff_ffff) as i32 % partitions.max(1)
}

/// Murmur 2 as Kafka's Java client computes it
/// ([`Utils.murmur2`](https://github.com/apache/kafka/blob/3.9.0/clients/src/main/java/org/apache/kafka/common/utils/Utils.java)).
fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const FACTOR: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ bytes.len() as u32;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        let mixed = word.wrapping_mul(FACTOR);
        let mixed = (mixed ^ (mixed >> 24)).wrapping_mul(FACTOR);
        hash = hash.wrapping_mul(FACTOR) ^ mixed;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(FACTOR);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(FACTOR);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_partition_that_every_producer_gives_it() {
        // Values of Kafka's own test, UtilsTest.testMurmur2.
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
        assert_eq!(partition_of(b"21", 1), 0);
        for partitions in [2, 3, 12] {
            let expected = (-973_932_308_i32 & 0x7fff_ffff) % partitions;
            assert_eq!(partition_of(b"21", partitions), expected);
        }
    }
}
