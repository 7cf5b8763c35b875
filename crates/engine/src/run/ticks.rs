//! The ticks of records: which records belong to which tick, and when a tick is over.
//!
//! A record's tick is the first one at or after the newest Kafka timestamp of its partition so
//! far, the clock here being the latest that counts. A tick is over once every partition that is
//! read either has a later record, or is read to its end after the tick's time has passed. A
//! record that comes after that belongs to the next tick; whatever was decided is recorded.

use leadpulse_schema::units::at_or_after;

use super::inbox::Inbox;
use crate::epoch::TickClosing;
use crate::ports::{NextOffset, Record, RecordBatch, Source};

/// The ticks of the partitions that are read.
#[derive(Debug, Default)]
pub(super) struct Ticks {
    /// Distance of two ticks, milliseconds.
    step_ms: i64,
    /// The first tick that is looked at, milliseconds: records before it belong to it. `None`
    /// until it is decided from when on alerts fire; until then there are no ticks.
    first_ms: Option<i64>,
    /// By partition: the newest timestamp taken, milliseconds.
    newest_ms: Vec<i64>,
    /// The newest tick that is over, milliseconds.
    over_ms: i64,
    /// The tick of the records that were taken and are not closed, milliseconds.
    open_ms: Option<i64>,
    /// Ends of the partitions, with the newest tick whose time had passed when they were asked
    /// for.
    ends: Option<(i64, Vec<NextOffset>)>,
}

/// The knowledge that a decision about ticks needs besides the records.
pub(super) struct Outside<'a> {
    /// Partitions that go no further for now: no tick waits for them.
    pub blocked: &'a [Option<String>],
    /// Offsets up to which is read, where the run ends there.
    pub ends: Option<&'a [NextOffset]>,
    /// Reading of the clock, milliseconds; `None` where only events count.
    pub clock_ms: Option<i64>,
}

impl Outside<'_> {
    /// The partitions that go on, by index.
    fn going(&self) -> impl Iterator<Item = usize> {
        let all = self.blocked.iter().enumerate();
        all.filter(|(_, blocked)| blocked.is_none())
            .map(|(partition, _)| partition)
    }
}

/// The records of an epoch with the ticks that divide them.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub records: RecordBatch,
    pub closings: Vec<TickClosing>,
    /// The next offset of each partition behind the taken records.
    pub positions: Vec<NextOffset>,
    /// Records that came after their tick was closed.
    pub late: i64,
    /// Those among them up to each closing.
    pub late_by: Vec<i64>,
}

/// A place among the ticks, before the records of an epoch are taken.
pub(super) struct TickPlace {
    newest_ms: Vec<i64>,
    over_ms: i64,
}

impl Taken {
    pub fn from(positions: &[NextOffset]) -> Self {
        Self {
            positions: positions.to_vec(),
            ..Self::default()
        }
    }
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.closings.is_empty()
    }
}

impl Ticks {
    pub fn new(step_ms: i64) -> Self {
        Self {
            step_ms,
            ..Self::default()
        }
    }

    /// Goes on after `over_ms` with records of `open_ms`; `first_ms` is the first tick of all.
    pub fn begin(&mut self, first_ms: i64, over_ms: Option<i64>, open_ms: Option<i64>) {
        self.first_ms = Some(first_ms);
        let before_ms = first_ms - self.step_ms;
        self.over_ms = over_ms.map_or(before_ms, |over_ms| over_ms.max(before_ms));
        self.open_ms = open_ms;
        self.ends = None;
    }

    pub fn have_begun(&self) -> bool {
        self.first_ms.is_some()
    }

    /// Forgets the ends of partitions, since others are read from now on.
    pub fn arrange(&mut self, partitions: usize) {
        self.newest_ms.resize(partitions, i64::MIN);
        self.ends = None;
    }

    /// The place before the records of an epoch are taken.
    pub fn place(&self) -> TickPlace {
        TickPlace {
            newest_ms: self.newest_ms.clone(),
            over_ms: self.over_ms,
        }
    }

    /// Goes back to a place from which only `taken` was taken. Ticks up to `looked_ms` are over.
    pub fn go_back<'a>(
        &mut self,
        place: TickPlace,
        taken: impl Iterator<Item = Record<'a>>,
        clock_ms: Option<i64>,
        looked_ms: Option<i64>,
    ) {
        self.newest_ms = place.newest_ms;
        for record in taken {
            self.note(record.partition(), record.timestamp_ms(), clock_ms);
        }
        self.over_ms = looked_ms.map_or(place.over_ms, |ms| ms.max(place.over_ms));
        self.open_ms = None;
        self.ends = None;
    }

    /// By partition, the newest timestamp taken, milliseconds.
    pub fn all_newest_ms(&self) -> &[i64] {
        &self.newest_ms
    }

    /// Goes on from a stored state with these newest timestamps.
    pub fn go_on(&mut self, newest_ms: &[i64], partitions: usize) {
        self.newest_ms = newest_ms.to_vec();
        self.arrange(partitions);
    }

    /// The tick of taken records that is not closed, milliseconds.
    pub fn open_ms(&self) -> Option<i64> {
        self.open_ms
    }

    /// The first tick that is not over, milliseconds; no end of time before there are ticks.
    pub fn next_ms(&self) -> i64 {
        match self.first_ms {
            Some(_) => self.open_ms.unwrap_or(self.over_ms + self.step_ms),
            None => i64::MAX,
        }
    }

    /// The tick after a moment, or at it.
    pub fn at_or_after(&self, ms: i64) -> i64 {
        at_or_after(ms, self.step_ms)
    }

    /// The last tick before a moment.
    pub fn before(&self, ms: i64) -> i64 {
        self.at_or_after(ms) - self.step_ms
    }

    /// The newest timestamp of any partition, milliseconds.
    pub fn newest_ms(&self) -> Option<i64> {
        let newest = self.newest_ms.iter().max().copied();
        newest.filter(|ms| *ms > i64::MIN)
    }

    /// Notes the timestamp of a record that was taken.
    pub fn note(&mut self, partition: u32, timestamp_ms: i64, clock_ms: Option<i64>) {
        let newest_ms = self.raised(partition, timestamp_ms, clock_ms);
        if let Some(known) = self.newest_ms.get_mut(partition as usize) {
            *known = newest_ms;
        }
    }

    fn raised(&self, partition: u32, timestamp_ms: i64, clock_ms: Option<i64>) -> i64 {
        let known = self.newest_ms.get(partition as usize).copied();
        let believed_ms = clock_ms.map_or(timestamp_ms, |clock_ms| timestamp_ms.min(clock_ms));
        known.unwrap_or(i64::MIN).max(believed_ms)
    }

    /// The tick of a record, were it taken now, milliseconds.
    fn tick_of(&self, record: Record<'_>, clock_ms: Option<i64>) -> i64 {
        let at_ms = self.raised(record.partition(), record.timestamp_ms(), clock_ms);
        self.at_or_after(at_ms.max(self.over_ms + 1))
    }

    /// Takes what may be applied now from the records that wait, and closes the ticks that are
    /// over. `next_due_ms` is the first moment at which something is due without records.
    pub fn take(
        &mut self,
        inbox: &mut Inbox,
        taken: &mut Taken,
        limit: (usize, usize),
        next_due_ms: i64,
        outside: &Outside<'_>,
        source: &mut dyn Source,
    ) {
        loop {
            let Some(tick_ms) = self
                .open_ms
                .or_else(|| self.opened(inbox, taken, next_due_ms, outside, source))
            else {
                return;
            };
            self.take_up_to(tick_ms, inbox, taken, limit, outside);
            let is_full = taken.records.len() >= limit.0 || taken.records.bytes() >= limit.1;
            if self.first_ms.is_none() || is_full || !self.is_over(tick_ms, inbox, outside, source)
            {
                return;
            }
            self.close(tick_ms, taken);
        }
    }

    fn close(&mut self, tick_ms: i64, taken: &mut Taken) {
        taken.closings.push(TickClosing {
            tick: tick_ms,
            positions: taken.positions.iter().map(|at| at.0).collect(),
        });
        taken.late_by.push(taken.late);
        self.over_ms = tick_ms;
        self.open_ms = None;
    }

    /// The tick of the records to take next, once all ticks before it are over. Closes the newest
    /// of these, if something is due by then.
    fn opened(
        &mut self,
        inbox: &Inbox,
        taken: &mut Taken,
        next_due_ms: i64,
        outside: &Outside<'_>,
        source: &mut dyn Source,
    ) -> Option<i64> {
        if self.first_ms.is_none() {
            return Some(i64::MAX);
        }
        let next = self.fronts(inbox, outside).min();
        let passed_ms = outside.clock_ms.map(|ms| self.before(ms));
        let before_ms = next.map(|tick_ms| tick_ms - self.step_ms).or(passed_ms)?;
        if before_ms > self.over_ms {
            if !self.is_over(before_ms, inbox, outside, source) {
                return None;
            }
            // Before records of a later tick, the machine looks at what is due by itself. What is due
            // behind ticks that this epoch closes is not known yet.
            let is_due = next_due_ms <= before_ms || !taken.closings.is_empty();
            if next.is_none() && is_due {
                self.close(before_ms, taken);
            }
            self.over_ms = before_ms;
        }
        self.open_ms = next;
        next
    }

    /// The ticks of the first records that wait, of partitions that go on.
    fn fronts<'a>(
        &'a self,
        inbox: &'a Inbox,
        outside: &'a Outside<'_>,
    ) -> impl Iterator<Item = i64> + 'a {
        let fronts = outside
            .going()
            .filter_map(|partition| inbox.front(partition));
        fronts.map(|record| self.tick_of(record, outside.clock_ms))
    }

    fn take_up_to(
        &mut self,
        tick_ms: i64,
        inbox: &mut Inbox,
        taken: &mut Taken,
        limit: (usize, usize),
        outside: &Outside<'_>,
    ) {
        for partition in outside.going() {
            while taken.records.len() < limit.0 && taken.records.bytes() < limit.1 {
                let Some(record) = inbox.front(partition) else {
                    break;
                };
                if self.first_ms.is_some() {
                    if self.tick_of(record, outside.clock_ms) > tick_ms {
                        break;
                    }
                    taken.late += i64::from(self.is_late(record, outside.clock_ms));
                }
                self.note(record.partition(), record.timestamp_ms(), outside.clock_ms);
                taken.positions[partition] = NextOffset(record.offset() + 1);
                inbox.pop(partition, &mut taken.records);
            }
        }
    }

    /// True for a record whose own tick is over already.
    fn is_late(&self, record: Record<'_>, clock_ms: Option<i64>) -> bool {
        let at_ms = self.raised(record.partition(), record.timestamp_ms(), clock_ms);
        self.first_ms
            .is_some_and(|first_ms| self.over_ms >= first_ms)
            && self.at_or_after(at_ms) <= self.over_ms
    }

    /// True once no partition can give a record of a tick or of one before it.
    fn is_over(
        &mut self,
        tick_ms: i64,
        inbox: &Inbox,
        outside: &Outside<'_>,
        source: &mut dyn Source,
    ) -> bool {
        if self
            .fronts(inbox, outside)
            .any(|front_ms| front_ms <= tick_ms)
        {
            return false;
        }
        let mut quiet: Vec<usize> = outside
            .going()
            .filter(|partition| inbox.front(*partition).is_none())
            .collect();
        if !quiet.is_empty() {
            // What cannot be read holds nothing up, until an operator decides about it.
            let stuck = source.stuck();
            let is_stuck = |partition: &usize| {
                stuck
                    .iter()
                    .any(|stuck| stuck.partition as usize == *partition)
            };
            quiet.retain(|partition| !is_stuck(partition));
        }
        if quiet.is_empty() {
            // Records of later ticks wait everywhere, or no partition goes on.
            let has_passed = outside
                .clock_ms
                .is_some_and(|ms| self.before(ms) >= tick_ms);
            return has_passed || self.fronts(inbox, outside).next().is_some();
        }
        let are_read = |ends: &[NextOffset], read_to: &[NextOffset]| {
            quiet.iter().all(|p| read_to[*p] >= ends[*p])
        };
        if let Some(ends) = outside.ends {
            // The end of the log ends no tick that lies ahead of all that it holds.
            let taken_ms = self.newest_ms().map(|ms| self.at_or_after(ms));
            let last_ms = self.fronts(inbox, outside).chain(taken_ms).max();
            if last_ms.is_none_or(|last_ms| last_ms < tick_ms) {
                return false;
            }
            return source
                .read_to()
                .is_ok_and(|read_to| are_read(ends, &read_to));
        }
        // Time has passed by the clock, or by the records of other partitions.
        let passed_ms = match outside.clock_ms {
            Some(clock_ms) => Some(self.before(clock_ms)),
            None => self
                .fronts(inbox, outside)
                .min()
                .map(|ms| ms - self.step_ms),
        };
        let Some(passed_ms) = passed_ms.filter(|passed_ms| *passed_ms >= tick_ms) else {
            return false;
        };
        if self
            .ends
            .as_ref()
            .is_none_or(|(asked_ms, _)| *asked_ms < tick_ms)
        {
            // Without an answer the tick is not over yet; the gauges report brokers that are away.
            let ends = source.ends().ok();
            self.ends = ends.map(|ends| (passed_ms, ends.iter().map(|end| end.stable).collect()));
        }
        let Some((_, ends)) = &self.ends else {
            return false;
        };
        source
            .read_to()
            .is_ok_and(|read_to| are_read(ends, &read_to))
    }
}

#[cfg(test)]
mod tests;
