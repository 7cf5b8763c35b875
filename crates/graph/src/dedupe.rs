//! Late, duplicate, future: which event rows are let in.
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
    /// It is in the graph.
    Accepted,
    /// Its event was there already.
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

/// The gate in front of the graph.
#[derive(Debug, Default)]
pub struct Gate {
    newest: FxHashMap<u32, Newest>,
    seen: FxHashSet<u64>,
    by_day: BTreeMap<i64, Vec<(TableId, u64)>>,
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
    /// Lets an event row in or says why not.
    pub fn admit(&mut self, options: &GraphOptions, row: Row<'_>, fingerprint: u64) -> Outcome {
        let time_ms = row.event_ms();
        if time_ms > row.known_ms().saturating_add(options.future_tolerance_ms) {
            return Outcome::Future;
        }
        let newest = self.newest.entry(row.position().partition).or_insert_with(|| Newest { time_ms, tables: SmallVec::new() });
        if !newest.tables.contains(&row.table()) {
            newest.tables.push(row.table());
        }
        if time_ms < newest.time_ms.saturating_sub(options.late_horizon_ms) {
            return Outcome::Late;
        }
        newest.time_ms = newest.time_ms.max(time_ms);
        if !self.seen.insert(fingerprint) {
            return Outcome::Duplicate;
        }
        self.by_day.entry(time_ms.div_euclid(DAY_MS)).or_default().push((row.table(), fingerprint));
        Outcome::Accepted
    }

    /// Forgets fingerprints of events that would now be late in every partition their table has been read from.
    pub fn forget(&mut self, options: &GraphOptions) {
        let mut bounds: FxHashMap<TableId, i64> = FxHashMap::default();
        for newest in self.newest.values() {
            for table in &newest.tables {
                let bound = bounds.entry(*table).or_insert(i64::MAX);
                *bound = (*bound).min(newest.time_ms.saturating_sub(options.late_horizon_ms));
            }
        }
        let Some(oldest_bound) = bounds.values().max().copied() else { return };
        let last_day = oldest_bound.div_euclid(DAY_MS);
        let days: Vec<i64> = self.by_day.range(..last_day).map(|(day, _)| *day).collect();
        for day in days {
            let Some(entries) = self.by_day.get_mut(&day) else { continue };
            let seen = &mut self.seen;
            entries.retain(|(table, fingerprint)| {
                let keep = bounds.get(table).is_none_or(|bound| (day + 1).saturating_mul(DAY_MS) > *bound);
                if !keep {
                    seen.remove(fingerprint);
                }
                keep
            });
            if entries.is_empty() {
                self.by_day.remove(&day);
            }
        }
    }

    /// Fingerprints held.
    pub fn len(&self) -> usize {
        self.seen.len()
    }
}
