//! The replay of dead letters: original records go back to their partitions, each at most once.
//!
//! A record and the mark of its letter are written in one transaction, so either both are there or
//! none. Before each transaction the producer takes the id of replays over, which ends the
//! transactions of every other replay. Then the marks are read again. So two replays at once, or
//! one after a crash, send no letter twice.
//!
//! Decision: docs/decisions/0066-a-replay-marks-its-letter.md

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use leadpulse_engine::ports::PortError;
use leadpulse_engine::{LetterPlace, WholeLetter};
use leadpulse_kafka::{AddressedRecord, Resender, TopicReader};

use super::{Entry, LetterBox, LetterFilter, entry};
use crate::error::DeployError;

/// Most letters of one transaction.
const BATCH_LETTERS: usize = 500;
/// Bytes of records from which a transaction takes no more letters.
const BATCH_BYTES: usize = 8 << 20;

/// The letters of a filter, by what a replay does with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayPlan {
    /// Letters to send again.
    pub letters: BTreeSet<LetterPlace>,
    /// Letters of the filter that were sent again before.
    pub replayed: u64,
    /// Letters of the filter whose record had been sent again before it was refused again.
    pub refused_again: u64,
    /// Letters of the filter that lack bytes of their record.
    pub incomplete: u64,
    /// Letters of the filter whose topic no source reads.
    pub without_source: u64,
}

/// Records a second that a replay sends at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    records_per_second: f64,
}

/// Counts of a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplaySummary {
    /// Records that this replay sent.
    pub sent: u64,
    /// Letters of the plan that another replay sent in the meantime.
    pub sent_by_others: u64,
}

impl Pace {
    /// A pace; `None` unless it is above 0.
    pub fn of(records_per_second: f64) -> Option<Self> {
        let is_pace = records_per_second.is_finite() && records_per_second > 0.0;
        is_pace.then_some(Self { records_per_second })
    }

    /// Letters of one transaction: those of about a second.
    fn batch(self) -> usize {
        (self.records_per_second as usize).clamp(1, BATCH_LETTERS)
    }

    /// Time after the start at which the record behind `sent` others is due.
    fn due(self, sent: u64) -> Duration {
        Duration::try_from_secs_f64(sent as f64 / self.records_per_second).unwrap_or(Duration::MAX)
    }
}

impl LetterBox {
    /// Sorts the letters of a filter. `sources` are the topics that are read. `again` sends records
    /// that were sent again and refused again, too.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn plan(
        &self,
        filter: &LetterFilter,
        sources: &BTreeSet<String>,
        again: bool,
    ) -> Result<ReplayPlan, DeployError> {
        let mut plan = ReplayPlan::default();
        let replayed = self.read(&mut |letter| {
            if filter.passes(&letter) {
                if !letter.is_complete() {
                    plan.incomplete += 1;
                } else if !sources.contains(&letter.about.topic) {
                    plan.without_source += 1;
                } else if letter.first().is_some() && !again {
                    plan.refused_again += 1;
                } else {
                    plan.letters.insert(letter.place);
                }
            }
            Ok(())
        })?;
        let matching = plan.letters.len();
        plan.letters.retain(|place| !replayed.contains(place));
        plan.replayed = (matching - plan.letters.len()) as u64;
        Ok(plan)
    }

    /// Sends the letters of a plan again, at most at a pace. `each` hears the number sent so far
    /// after every transaction.
    ///
    /// # Errors
    /// As [`Self::read`], another replay that takes over, or a record that the brokers refuse. What
    /// was sent before stays sent; another replay goes on.
    pub fn replay(
        &self,
        plan: &ReplayPlan,
        pace: Pace,
        each: &mut dyn FnMut(u64),
    ) -> Result<ReplaySummary, DeployError> {
        let mut sender = Sender {
            letters: self,
            marks: Marks {
                reader: self.reader()?,
                read: BTreeSet::new(),
            },
            batch: Vec::new(),
            bytes: 0,
            summary: ReplaySummary::default(),
            pace,
            started: Instant::now(),
            each,
        };
        self.read(&mut |letter| {
            if plan.letters.contains(&letter.place) {
                sender.add(letter)?;
            }
            Ok(())
        })?;
        sender.send()?;
        Ok(sender.summary)
    }

    /// The original record of a letter at its own place.
    fn original(letter: &WholeLetter) -> AddressedRecord {
        AddressedRecord {
            topic: letter.about.topic.clone(),
            partition: letter.about.partition,
            timestamp_ms: letter.about.timestamp_ms,
            key: letter.key().map(<[u8]>::to_vec),
            value: letter.value().map(<[u8]>::to_vec),
            headers: letter.replay_headers(),
        }
    }

    /// The mark of a letter in the letter's partition.
    fn mark(&self, letter: &WholeLetter) -> AddressedRecord {
        let mark = letter.mark();
        AddressedRecord {
            topic: self.topic.clone(),
            partition: letter.place.partition,
            timestamp_ms: mark.timestamp_ms,
            key: mark.key,
            value: mark.value,
            headers: mark.headers,
        }
    }
}

/// The marks that were read so far.
struct Marks {
    reader: TopicReader,
    read: BTreeSet<LetterPlace>,
}

impl Marks {
    /// Reads on to the end, once every transaction before has ended.
    fn catch_up(&mut self) -> Result<(), PortError> {
        let read = &mut self.read;
        self.reader.for_each_settled(&mut |record| {
            if let Some(Entry::Mark(place)) = entry(record) {
                read.insert(place);
            }
            Ok(())
        })
    }
}

/// Letters on their way: collected until they fill a transaction.
struct Sender<'a> {
    letters: &'a LetterBox,
    marks: Marks,
    batch: Vec<WholeLetter>,
    bytes: usize,
    summary: ReplaySummary,
    pace: Pace,
    started: Instant,
    each: &'a mut dyn FnMut(u64),
}

impl Sender<'_> {
    fn add(&mut self, letter: WholeLetter) -> Result<(), PortError> {
        self.bytes += LetterBox::original(&letter).bytes();
        self.batch.push(letter);
        if self.batch.len() >= self.pace.batch() || self.bytes >= BATCH_BYTES {
            self.send()?;
        }
        Ok(())
    }

    /// Sends what was collected, in one transaction, once it is due.
    fn send(&mut self) -> Result<(), PortError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let due = self.pace.due(self.summary.sent);
        std::thread::sleep(due.saturating_sub(self.started.elapsed()));
        let letters = self.letters;
        let producer = Resender::take_over(&letters.options, &letters.metrics)?;
        self.marks.catch_up()?;
        let collected = self.batch.len();
        self.batch
            .retain(|letter| !self.marks.read.contains(&letter.place));
        self.summary.sent_by_others += (collected - self.batch.len()) as u64;
        let mut records = Vec::with_capacity(2 * self.batch.len());
        for letter in self.batch.drain(..) {
            records.push(LetterBox::original(&letter));
            records.push(letters.mark(&letter));
        }
        self.bytes = 0;
        if !records.is_empty() {
            producer.commit(&records)?;
        }
        self.summary.sent += records.len() as u64 / 2;
        (self.each)(self.summary.sent);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_spreads_records_over_time() {
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Pace::of(wrong), None, "{wrong}");
        }
        let slow = Pace::of(0.5).unwrap();
        assert_eq!((slow.batch(), slow.due(3)), (1, Duration::from_secs(6)));
        let fast = Pace::of(100_000.0).unwrap();
        assert_eq!(fast.batch(), BATCH_LETTERS);
        assert_eq!(fast.due(50_000), Duration::from_millis(500));
    }
}
