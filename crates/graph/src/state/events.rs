//! The temporal state of one entity for one event table. Every update commutes: the order of
//! arrival does not matter.
//!
//! An event can be taken back: its amounts are subtracted, and a sum of no events is exactly zero.
//! Forgotten values cannot come back: the newest event's amounts, the newest time of a slot,
//! entries that a full list had dropped. Such a retraction is reported as [`Undo::Inexact`].

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::options::{DAY_MS, GraphOptions};
use crate::state::cell::StateRules;
use crate::state::days::day_number;
use crate::state::decay::{Bank, Landmark, NO_LANDMARK};
use crate::state::layout::Phi;
use crate::state::revisable::Accumulated;

/// An event of a stage on the way to a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StagedEvent {
    /// Event time, milliseconds.
    pub time_ms: i64,
    /// Fingerprint of the event: breaks ties of time.
    pub fingerprint: u64,
    /// Number of the stage, from 1.
    pub stage: u8,
}

/// The newest event: time, fingerprint and amounts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Newest {
    /// Event time, milliseconds.
    pub time_ms: i64,
    /// Fingerprint of the event: breaks ties of time.
    pub fingerprint: u64,
    /// Amounts by slot; empty after a retraction of the newest event, which leaves nothing to
    /// restore them from.
    pub phi: SmallVec<[(u16, f32); 8]>,
}

/// An event as the state of its table takes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Occurrence {
    /// Amounts by slot.
    pub phi: Phi,
    /// Number of the stage, from 1.
    pub stage: Option<u8>,
    /// Event time, milliseconds.
    pub time_ms: i64,
    pub fingerprint: u64,
}

/// The completeness of a retraction. Later ones are worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Undo {
    /// State is as if the event had never been added.
    Exact,
    /// State lacks values that were forgotten in between.
    Inexact,
    /// The event was not there: nothing changed.
    Unmatched,
}

/// Decayed sums, registers, rhythm and order of one event table on one entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventState {
    landmark: Landmark,
    /// Slots with an amount, ascending.
    slots: Vec<u16>,
    /// Number of amounts in the sums, per slot.
    counts: Vec<u32>,
    /// `[slots, half-lives]`, relative to the landmark.
    sums: Vec<f64>,
    /// Newest event time per slot, milliseconds.
    slot_newest_ms: Vec<i64>,
    /// Number of events ever.
    pub total: u64,
    /// The oldest event's time, milliseconds; `i64::MAX` without events.
    pub oldest_ms: i64,
    /// The newest event; `None` without events.
    pub newest: Option<Newest>,
    /// The newest active days (UTC day numbers) and their events, ascending.
    days: Vec<(i32, u32)>,
    /// The newest staged events, ascending.
    pub staged: Vec<StagedEvent>,
    /// Number of staged events ever.
    staged_total: u32,
}

impl Default for EventState {
    fn default() -> Self {
        Self {
            landmark: NO_LANDMARK,
            slots: Vec::new(),
            counts: Vec::new(),
            sums: Vec::new(),
            slot_newest_ms: Vec::new(),
            total: 0,
            oldest_ms: i64::MAX,
            newest: None,
            days: Vec::new(),
            staged: Vec::new(),
            staged_total: 0,
        }
    }
}

/// Inserts into an ascending list of distinct values that keeps only the `cap` greatest.
fn keep_greatest<T: Ord>(list: &mut Vec<T>, value: T, cap: usize) {
    match list.binary_search(&value) {
        Ok(_) => {}
        Err(0) if list.len() >= cap => {}
        Err(at) => {
            list.insert(at, value);
            if list.len() > cap {
                list.remove(0);
            }
        }
    }
}

impl Accumulated for EventState {
    type Event = Occurrence;
    fn include(&mut self, rules: &StateRules, event: &Occurrence) {
        self.add(&rules.bank, &rules.options, event);
    }
    fn retract(&mut self, rules: &StateRules, event: &Occurrence) -> Undo {
        Self::retract(self, &rules.bank, event, true)
    }
    fn unite(&mut self, rules: &StateRules, other: Self) {
        self.merge(&rules.bank, &rules.options, other);
    }
}

impl EventState {
    /// Moves the sums to a landmark.
    fn rebase(&mut self, bank: &Bank, landmark: Landmark) {
        if self.landmark != NO_LANDMARK && landmark != self.landmark {
            let halves = bank.len();
            let factors: SmallVec<[f64; 6]> = (0..halves)
                .map(|h| bank.rebase(h, self.landmark, landmark))
                .collect();
            self.sums
                .iter_mut()
                .enumerate()
                .for_each(|(i, sum)| *sum *= factors[i % halves]);
        }
        self.landmark = landmark;
    }

    /// The index of a slot, new if it had no amount.
    fn slot(&mut self, slot: u16, halves: usize) -> usize {
        match self.slots.binary_search(&slot) {
            Ok(at) => at,
            Err(at) => {
                self.slots.insert(at, slot);
                self.counts.insert(at, 0);
                self.slot_newest_ms.insert(at, i64::MIN);
                self.sums
                    .splice(at * halves..at * halves, std::iter::repeat_n(0.0, halves));
                at
            }
        }
    }

    fn add_day(&mut self, day: i32, events: u32, cap: usize) {
        match self.days.binary_search_by_key(&day, |(d, _)| *d) {
            Ok(at) => self.days[at].1 += events,
            Err(0) if self.days.len() >= cap => {}
            Err(at) => {
                self.days.insert(at, (day, events));
                if self.days.len() > cap {
                    self.days.remove(0);
                }
            }
        }
    }

    /// Adds an event. The order of additions changes nothing.
    pub(crate) fn add(&mut self, bank: &Bank, options: &GraphOptions, event: &Occurrence) {
        let Occurrence {
            phi,
            stage,
            time_ms,
            fingerprint,
        } = event;
        let (stage, time_ms, fingerprint) = (*stage, *time_ms, *fingerprint);
        let halves = bank.len();
        self.rebase(bank, bank.landmark(time_ms).max(self.landmark));
        let weights: SmallVec<[f64; 6]> = (0..halves)
            .map(|h| bank.weight(h, time_ms, self.landmark))
            .collect();
        for (slot, amount) in phi {
            let at = self.slot(*slot, halves);
            for (sum, weight) in self.sums[at * halves..].iter_mut().zip(&weights) {
                *sum += amount * weight;
            }
            self.counts[at] += 1;
            self.slot_newest_ms[at] = self.slot_newest_ms[at].max(time_ms);
        }
        self.total += 1;
        self.oldest_ms = self.oldest_ms.min(time_ms);
        if self
            .newest
            .as_ref()
            .is_none_or(|n| (n.time_ms, n.fingerprint) < (time_ms, fingerprint))
        {
            let phi = phi
                .iter()
                .map(|(slot, amount)| (*slot, *amount as f32))
                .collect();
            self.newest = Some(Newest {
                time_ms,
                fingerprint,
                phi,
            });
        }
        self.add_day(day_number(time_ms), 1, options.rhythm_days);
        if let Some(stage) = stage {
            keep_greatest(
                &mut self.staged,
                StagedEvent {
                    time_ms,
                    fingerprint,
                    stage,
                },
                options.staged_events,
            );
            self.staged_total += 1;
        }
    }

    /// Adds all events of another state, as if each had been added here.
    pub(crate) fn merge(&mut self, bank: &Bank, options: &GraphOptions, mut other: EventState) {
        if other.is_empty() {
            return;
        }
        if self.is_empty() {
            *self = other;
            return;
        }
        let halves = bank.len();
        let landmark = self.landmark.max(other.landmark);
        self.rebase(bank, landmark);
        other.rebase(bank, landmark);
        for (from, slot) in other.slots.iter().enumerate() {
            let at = self.slot(*slot, halves);
            for (sum, more) in self.sums[at * halves..]
                .iter_mut()
                .zip(&other.sums[from * halves..(from + 1) * halves])
            {
                *sum += more;
            }
            self.counts[at] += other.counts[from];
            self.slot_newest_ms[at] = self.slot_newest_ms[at].max(other.slot_newest_ms[from]);
        }
        self.total += other.total;
        self.oldest_ms = self.oldest_ms.min(other.oldest_ms);
        let moment = |newest: &Option<Newest>| newest.as_ref().map(|n| (n.time_ms, n.fingerprint));
        if moment(&self.newest) < moment(&other.newest) {
            self.newest = other.newest;
        }
        other
            .days
            .iter()
            .for_each(|(day, events)| self.add_day(*day, *events, options.rhythm_days));
        other
            .staged
            .into_iter()
            .for_each(|staged| keep_greatest(&mut self.staged, staged, options.staged_events));
        self.staged_total += other.staged_total;
    }

    /// Whether the state may contain an event: every trace of it is there, or may be forgotten.
    fn may_hold(&self, bank: &Bank, event: &Occurrence) -> bool {
        let day = day_number(event.time_ms);
        let kept_days: u64 = self.days.iter().map(|(_, events)| u64::from(*events)).sum();
        let may_be_forgotten =
            kept_days < self.total && self.days.first().is_none_or(|(first, _)| day < *first);
        bank.landmark(event.time_ms) <= self.landmark
            && event.time_ms >= self.oldest_ms
            && event
                .phi
                .iter()
                .all(|(slot, _)| self.slots.binary_search(slot).is_ok())
            && (may_be_forgotten || self.days.binary_search_by_key(&day, |(d, _)| *d).is_ok())
    }

    /// Takes an event back that the state contains for certain, or perhaps.
    ///
    /// The times left are estimated from this state alone. The list of newest events for evidence
    /// would often know better, but events of all tables compete for its places, so the estimate
    /// would depend on which of two topics was read first.
    pub(crate) fn retract(&mut self, bank: &Bank, event: &Occurrence, is_certain: bool) -> Undo {
        if self.is_empty() || !(is_certain || self.may_hold(bank, event)) {
            return Undo::Unmatched;
        }
        if self.total == 1 {
            *self = Self::default();
            return Undo::Exact;
        }
        let kept_days: u64 = self.days.iter().map(|(_, events)| u64::from(*events)).sum();
        let forgot_days = kept_days < self.total;
        self.total -= 1;
        self.subtract(bank, event);
        let mut undo = self.retract_day(event.time_ms, forgot_days);
        undo = undo.max(self.retract_stage(event));
        if event.time_ms == self.oldest_ms {
            self.estimate_oldest(event.time_ms, forgot_days);
            undo = Undo::Inexact;
        }
        if self.slot_newest_ms.contains(&event.time_ms) {
            self.estimate_newest(event);
            undo = Undo::Inexact;
        }
        undo
    }

    /// Subtracts the amounts of an event from the sums. A slot without amounts is dropped, so that
    /// rounding leaves nothing behind.
    fn subtract(&mut self, bank: &Bank, event: &Occurrence) {
        let halves = bank.len();
        let weights: SmallVec<[f64; 6]> = (0..halves)
            .map(|h| bank.weight(h, event.time_ms, self.landmark))
            .collect();
        for (slot, amount) in &event.phi {
            let Ok(at) = self.slots.binary_search(slot) else {
                continue;
            };
            for (sum, weight) in self.sums[at * halves..].iter_mut().zip(&weights) {
                *sum -= amount * weight;
            }
            self.counts[at] -= 1;
            if self.counts[at] == 0 {
                self.slots.remove(at);
                self.counts.remove(at);
                self.slot_newest_ms.remove(at);
                self.sums.drain(at * halves..(at + 1) * halves);
            }
        }
    }

    /// Takes an event back from the active days.
    fn retract_day(&mut self, time_ms: i64, forgot_days: bool) -> Undo {
        let day = day_number(time_ms);
        let Ok(at) = self.days.binary_search_by_key(&day, |(d, _)| *d) else {
            return Undo::Exact;
        };
        self.days[at].1 -= 1;
        if self.days[at].1 > 0 {
            return Undo::Exact;
        }
        self.days.remove(at);
        // An older day that had been dropped belongs here now.
        match forgot_days {
            true => Undo::Inexact,
            false => Undo::Exact,
        }
    }

    /// Takes an event back from the staged events.
    fn retract_stage(&mut self, event: &Occurrence) -> Undo {
        let Some(stage) = event.stage else {
            return Undo::Exact;
        };
        let forgot = self.staged_total as usize > self.staged.len();
        self.staged_total = self.staged_total.saturating_sub(1);
        let staged = StagedEvent {
            time_ms: event.time_ms,
            fingerprint: event.fingerprint,
            stage,
        };
        let Ok(at) = self.staged.binary_search(&staged) else {
            return Undo::Exact;
        };
        self.staged.remove(at);
        match forgot {
            true => Undo::Inexact,
            false => Undo::Exact,
        }
    }

    /// Estimates the oldest time after the event of that time was taken back: the next oldest lies
    /// on the first active day, if none was dropped.
    fn estimate_oldest(&mut self, time_ms: i64, forgot_days: bool) {
        let first = self.days.first().filter(|_| !forgot_days);
        let first_ms = first.map(|(day, _)| i64::from(*day) * DAY_MS);
        self.oldest_ms = first_ms.map_or(time_ms, |first| first.max(time_ms));
    }

    /// Estimates newest times after an event of such a time was taken back: the latest time that
    /// is still known and not later.
    fn estimate_newest(&mut self, event: &Occurrence) {
        let time_ms = event.time_ms;
        let staged_ms = self.staged.last().map(|s| s.time_ms);
        // An event of the newest active day happened after that day began.
        let last_day = self
            .days
            .iter()
            .map(|(day, _)| *day)
            .rfind(|day| *day <= day_number(time_ms));
        let day_ms = last_day.map(|day| i64::from(day) * DAY_MS);
        let slots = self.slot_newest_ms.iter().copied();
        let others = slots.filter(|t| *t != time_ms).max();
        let left = [staged_ms, others, day_ms, Some(self.oldest_ms)];
        let left = left.into_iter().flatten().filter(|t| *t <= time_ms);
        let newest_ms = left.max().unwrap_or(self.oldest_ms);
        for slot_ms in self.slot_newest_ms.iter_mut().filter(|t| **t == time_ms) {
            *slot_ms = newest_ms;
        }
        // An estimate has no amounts; it stands for whichever event happened then.
        let is_it = |n: &Newest| {
            n.time_ms == time_ms && (n.fingerprint == event.fingerprint || n.phi.is_empty())
        };
        if self.newest.as_ref().is_some_and(is_it) {
            self.newest = Some(Newest {
                time_ms: newest_ms,
                fingerprint: 0,
                phi: SmallVec::new(),
            });
        }
    }

    /// Whether the state contains no event.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }
    /// The newest event's time, milliseconds.
    pub fn newest_ms(&self) -> Option<i64> {
        self.newest.as_ref().map(|n| n.time_ms)
    }
    /// The newest active days (UTC day numbers), ascending.
    pub fn active_days(&self) -> impl DoubleEndedIterator<Item = i32> + ExactSizeIterator {
        self.days.iter().map(|(day, _)| *day)
    }
    /// The landmark that sums are relative to.
    pub fn landmark(&self) -> Landmark {
        self.landmark
    }
    /// Slots with an amount, ascending: their sums per half-life, relative to the landmark, and
    /// newest event time, milliseconds.
    pub fn slots<'a>(&'a self, bank: &Bank) -> impl Iterator<Item = (u16, &'a [f64], i64)> {
        self.slots
            .iter()
            .zip(self.sums.chunks_exact(bank.len()))
            .zip(&self.slot_newest_ms)
            .map(|((slot, sums), newest)| (*slot, sums, *newest))
    }
    /// This state with sums relative to another landmark: two states of the same events are then
    /// alike.
    pub(crate) fn relative_to(&self, bank: &Bank, landmark: Landmark) -> EventState {
        let mut state = self.clone();
        if !state.is_empty() {
            state.rebase(bank, landmark);
        }
        state
    }
    /// Bytes on the heap, roughly.
    pub fn heap_bytes(&self) -> usize {
        self.slots.capacity() * 2
            + self.counts.capacity() * 4
            + self.sums.capacity() * 8
            + self.slot_newest_ms.capacity() * 8
            + self.days.capacity() * 8
            + self.staged.capacity() * size_of::<StagedEvent>()
    }
}
