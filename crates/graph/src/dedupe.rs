//! Late, duplicate, future, taken back: which event rows are let in.
//!
//! Late is measured against the row's own input partition, so that one far-ahead partition makes nobody else late. Fingerprints
//! live as long as an event could still be let in, so a duplicate is either recognised or late.

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;
use xxhash_rust::xxh3::Xxh3;

use leadpulse_schema::{Row, TableId};

use crate::options::{DAY_MS, GraphOptions};

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is in the graph; a retraction is carried out, or holds its event off.
    Accepted,
    /// Its event was there already, or was taken back before it came; or it takes back what was taken back already.
    Duplicate,
    /// It is older than its partition's newest event by more than the horizon.
    Late,
    /// It lies further in the future of its known time than tolerated.
    Future,
}

/// What has been read from an input partition.
#[derive(Debug)]
struct Newest {
    /// Its newest event time, milliseconds.
    time_ms: i64,
    /// The event tables it carries; mostly one.
    tables: SmallVec<[TableId; 2]>,
}

/// Fingerprints, held for as long as their day is not late everywhere.
#[derive(Debug, Default)]
struct Held {
    known: FxHashSet<u64>,
    by_day: BTreeMap<i64, Vec<(TableId, u64)>>,
}

impl Held {
    /// Holds a fingerprint; `false` if it was held already.
    fn insert(&mut self, table: TableId, fingerprint: u64, time_ms: i64) -> bool {
        let is_new = self.known.insert(fingerprint);
        if is_new {
            self.by_day.entry(time_ms.div_euclid(DAY_MS)).or_default().push((table, fingerprint));
        }
        is_new
    }
    /// Drops those of days that end before their table's bound.
    fn forget(&mut self, bounds: &FxHashMap<TableId, i64>, last_day: i64) {
        let days: Vec<i64> = self.by_day.range(..last_day).map(|(day, _)| *day).collect();
        for day in days {
            let Some(entries) = self.by_day.get_mut(&day) else { continue };
            let known = &mut self.known;
            entries.retain(|(table, fingerprint)| {
                let keep = bounds.get(table).is_none_or(|bound| is_held(day, *bound));
                if !keep {
                    known.remove(fingerprint);
                }
                keep
            });
            if entries.is_empty() {
                self.by_day.remove(&day);
            }
        }
    }
}

/// Whether fingerprints of a day are held under a bound.
fn is_held(day: i64, bound_ms: i64) -> bool {
    (day + 1).saturating_mul(DAY_MS) > bound_ms
}

/// What to do with a retraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Subtract the event: it was let in.
    Back,
    /// Subtract the event if it is there: it is so old that nobody remembers.
    BackIfThere,
    /// Nothing yet: should its event still come, it is not let in.
    Ahead,
    /// Nothing: it was taken back before.
    Again,
    /// Nothing: it is refused.
    Refused,
}

/// The gate in front of the graph.
#[derive(Debug, Default)]
pub struct Gate {
    newest: FxHashMap<u32, Newest>,
    events: Held,
    retractions: Held,
    /// Per table, the latest bound that fingerprints were forgotten under.
    forgotten: FxHashMap<TableId, i64>,
    cancelled: u64,
}

/// Identifies an event of an owner.
pub fn fingerprint(row: Row<'_>, owner: &str) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&row.table().0.to_le_bytes());
    hash.update(&(owner.len() as u32).to_le_bytes());
    hash.update(owner.as_bytes());
    hash.update(row.key().as_bytes());
    hash.digest()
}

impl Gate {
    /// Lets an event row in or says why not. An event that was taken back before it came is a duplicate: it is not let in.
    pub(crate) fn admit(&mut self, options: &GraphOptions, row: Row<'_>, fingerprint: u64) -> Outcome {
        let time_ms = row.event_ms();
        if is_future(options, row) {
            return Outcome::Future;
        }
        let newest = self.newest(row);
        if time_ms < newest.time_ms.saturating_sub(options.late_horizon_ms) {
            return Outcome::Late;
        }
        newest.time_ms = newest.time_ms.max(time_ms);
        if !self.events.insert(row.table(), fingerprint, time_ms) {
            return Outcome::Duplicate;
        }
        if self.retractions.known.contains(&fingerprint) {
            self.cancelled += 1;
            return Outcome::Duplicate;
        }
        Outcome::Accepted
    }

    /// Lets a retraction in or says why not. It is never late: it carries the whole row. It is held against repeats for a horizon
    /// from its event's time or from its partition's newest, whichever is later.
    pub(crate) fn admit_retraction(&mut self, options: &GraphOptions, row: Row<'_>, fingerprint: u64) -> Takes {
        let (table, time_ms) = (row.table(), row.event_ms());
        if is_future(options, row) {
            return Takes::Refused;
        }
        let newest = self.newest(row);
        newest.time_ms = newest.time_ms.max(time_ms);
        let held_from_ms = newest.time_ms;
        if !self.retractions.insert(table, fingerprint, held_from_ms) {
            return Takes::Again;
        }
        let remembers = self.forgotten.get(&table).is_none_or(|bound| is_held(time_ms.div_euclid(DAY_MS), *bound));
        match (self.events.known.contains(&fingerprint), remembers) {
            (true, _) => Takes::Back,
            (false, true) => Takes::Ahead,
            (false, false) => Takes::BackIfThere,
        }
    }

    fn newest(&mut self, row: Row<'_>) -> &mut Newest {
        let time_ms = row.event_ms();
        let newest = self.newest.entry(row.position().partition).or_insert_with(|| Newest { time_ms, tables: SmallVec::new() });
        if !newest.tables.contains(&row.table()) {
            newest.tables.push(row.table());
        }
        newest
    }

    /// Forgets fingerprints of events that would now be late in every partition their table has been read from.
    pub(crate) fn forget(&mut self, options: &GraphOptions) {
        let mut bounds: FxHashMap<TableId, i64> = FxHashMap::default();
        for newest in self.newest.values() {
            for table in &newest.tables {
                let bound = bounds.entry(*table).or_insert(i64::MAX);
                *bound = (*bound).min(newest.time_ms.saturating_sub(options.late_horizon_ms));
            }
        }
        let Some(oldest_bound) = bounds.values().max().copied() else { return };
        let last_day = oldest_bound.div_euclid(DAY_MS);
        self.events.forget(&bounds, last_day);
        self.retractions.forget(&bounds, last_day);
        for (table, bound) in bounds {
            let forgotten = self.forgotten.entry(table).or_insert(bound);
            *forgotten = (*forgotten).max(bound);
        }
    }

    /// Fingerprints held.
    pub(crate) fn len(&self) -> usize {
        self.events.known.len() + self.retractions.known.len()
    }
    /// Events that were not let in because their retraction had come before them.
    pub(crate) fn cancelled(&self) -> u64 {
        self.cancelled
    }
}

fn is_future(options: &GraphOptions, row: Row<'_>) -> bool {
    row.event_ms() > row.known_ms().saturating_add(options.future_tolerance_ms)
}
