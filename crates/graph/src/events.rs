//! The temporal state of one entity for one event table. Every update commutes: the order of arrival does not matter.

use serde::Serialize;
use smallvec::SmallVec;

use crate::days::day_number;
use crate::decay::{Bank, Landmark, NO_LANDMARK};
use crate::layout::Phi;
use crate::options::GraphOptions;

/// An event on the way to a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Staged {
    /// When it happened, milliseconds.
    pub time_ms: i64,
    /// Breaks ties of time.
    pub fingerprint: u64,
    /// Its stage, from 1.
    pub stage: u8,
}

/// The newest event: its time, fingerprint and what it added.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Newest {
    /// When it happened, milliseconds.
    pub time_ms: i64,
    /// Breaks ties of time.
    pub fingerprint: u64,
    /// What it added.
    pub phi: SmallVec<[(u16, f32); 8]>,
}

/// Decayed sums, registers, rhythm and order of one event table on one entity.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventState {
    landmark: Landmark,
    /// Slots that were ever touched, ascending.
    slots: Vec<u16>,
    /// `[slots, half-lives]`, relative to the landmark.
    sums: Vec<f64>,
    /// Per touched slot the newest event time, milliseconds.
    slot_newest_ms: Vec<i64>,
    /// Events ever.
    pub total: u64,
    /// The oldest event's time, milliseconds.
    pub oldest_ms: i64,
    /// The newest event.
    pub newest: Option<Newest>,
    /// The newest active days (UTC day numbers), ascending.
    pub days: Vec<i32>,
    /// The newest staged events, ascending.
    pub staged: Vec<Staged>,
}

impl Default for EventState {
    fn default() -> Self {
        Self {
            landmark: NO_LANDMARK,
            slots: Vec::new(),
            sums: Vec::new(),
            slot_newest_ms: Vec::new(),
            total: 0,
            oldest_ms: i64::MAX,
            newest: None,
            days: Vec::new(),
            staged: Vec::new(),
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

impl EventState {
    /// Adds an event.
    pub fn add(&mut self, bank: &Bank, options: &GraphOptions, phi: &Phi, stage: Option<u8>, time_ms: i64, fingerprint: u64) {
        let halves = bank.len();
        let landmark = bank.landmark(time_ms);
        if self.landmark == NO_LANDMARK {
            self.landmark = landmark;
        } else if landmark > self.landmark {
            let factors: SmallVec<[f64; 6]> = (0..halves).map(|h| bank.rebase(h, self.landmark, landmark)).collect();
            for (i, sum) in self.sums.iter_mut().enumerate() {
                *sum *= factors[i % halves];
            }
            self.landmark = landmark;
        }
        let weights: SmallVec<[f64; 6]> = (0..halves).map(|h| bank.weight(h, time_ms, self.landmark)).collect();
        for (slot, amount) in phi {
            let at = match self.slots.binary_search(slot) {
                Ok(at) => at,
                Err(at) => {
                    self.slots.insert(at, *slot);
                    self.slot_newest_ms.insert(at, i64::MIN);
                    let from = at * halves;
                    self.sums.splice(from..from, std::iter::repeat_n(0.0, halves));
                    at
                }
            };
            for (sum, weight) in self.sums[at * halves..].iter_mut().zip(&weights) {
                *sum += amount * weight;
            }
            self.slot_newest_ms[at] = self.slot_newest_ms[at].max(time_ms);
        }
        self.total += 1;
        self.oldest_ms = self.oldest_ms.min(time_ms);
        if self.newest.as_ref().is_none_or(|n| (n.time_ms, n.fingerprint) < (time_ms, fingerprint)) {
            let phi = phi.iter().map(|(slot, amount)| (*slot, *amount as f32)).collect();
            self.newest = Some(Newest { time_ms, fingerprint, phi });
        }
        keep_greatest(&mut self.days, day_number(time_ms), options.rhythm_days);
        if let Some(stage) = stage {
            keep_greatest(&mut self.staged, Staged { time_ms, fingerprint, stage }, options.staged_events);
        }
    }

    /// Whether there was never an event.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }
    /// The newest event's time, milliseconds.
    pub fn newest_ms(&self) -> Option<i64> {
        self.newest.as_ref().map(|n| n.time_ms)
    }
    /// The landmark its sums are relative to.
    pub fn landmark(&self) -> Landmark {
        self.landmark
    }
    /// Touched slots with their sums per half-life (relative to the landmark) and newest event time, ascending by slot.
    pub fn slots<'a>(&'a self, bank: &Bank) -> impl Iterator<Item = (u16, &'a [f64], i64)> {
        self.slots
            .iter()
            .zip(self.sums.chunks_exact(bank.len()))
            .zip(&self.slot_newest_ms)
            .map(|((slot, sums), newest)| (*slot, sums, *newest))
    }
    /// Bytes on the heap, roughly.
    pub fn heap_bytes(&self) -> usize {
        self.slots.capacity() * 2
            + self.sums.capacity() * 8
            + self.slot_newest_ms.capacity() * 8
            + self.days.capacity() * 4
            + self.staged.capacity() * size_of::<Staged>()
    }
}

/// How far the entity has come: `reached[j]` is the newest time at which stage `j + 1` followed stage `j` within the window
/// (stage 1 follows anything), or `None`.
pub fn order_reached(staged: &[Staged], top_stage: u8, window_ms: i64) -> SmallVec<[Option<i64>; 8]> {
    let mut reached: SmallVec<[Option<i64>; 8]> = smallvec::smallvec![None; usize::from(top_stage)];
    for event in staged {
        let j = usize::from(event.stage) - 1;
        let follows = j == 0 || reached[j - 1].is_some_and(|before| (0..=window_ms).contains(&event.time_ms.saturating_sub(before)));
        if follows {
            reached[j] = Some(reached[j].map_or(event.time_ms, |t| t.max(event.time_ms)));
        }
    }
    reached
}
