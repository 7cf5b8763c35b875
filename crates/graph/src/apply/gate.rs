//! The gate for event rows: late, duplicate, future, and retracted ones are refused.
//!
//! Late is measured against the newest accepted event of the row's own input partition, so that
//! one far-ahead partition makes no other late. Fingerprints are kept as long as an event could
//! still be admitted. An event of a forgotten day is late in every partition, also in one that was
//! added later, so a duplicate is either recognised or late. Refused rows move nothing: neither a
//! wrong clock nor a repeat makes a partition's later rows late.
//!
//! An event is identified by its table and id alone, for a retry may name another owner. Rows of
//! outcome tables are never late, and rows that carry their own known time neither. The
//! fingerprints of such tables are kept for good.
//!
//! Decisions: docs/decisions/0010-late-and-future-per-partition.md,
//! docs/decisions/0032-events-that-count-and-for-whom.md

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use xxhash_rust::xxh3::Xxh3;

use leadpulse_schema::{Catalog, Role, Row, TableId};

use crate::apply::outcome::RowOutcome;
use crate::encoding::sorted;
use crate::ids::EntityId;
use crate::options::{DAY_MS, GraphOptions};
use crate::pieces::{Kept, KeptMap};

/// The accepted event rows of an input partition.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Partition {
    /// The newest event time among them, milliseconds; `None` while rows are only expected.
    newest_ms: Option<i64>,
    /// Tables of the accepted rows, and expected ones; mostly one.
    tables: SmallVec<[TableId; 2]>,
}

impl Partition {
    /// Events below this time are late, milliseconds.
    fn bound_ms(&self, options: &GraphOptions) -> i64 {
        self.newest_ms.map_or(i64::MIN, |newest| {
            newest.saturating_sub(options.late_horizon_ms)
        })
    }
    fn add_table(&mut self, table: TableId) {
        if !self.tables.contains(&table) {
            self.tables.push(table);
        }
    }
}

/// The day of fingerprints that are kept for good.
const FOR_GOOD: i32 = i32::MAX;

/// An admitted event.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct HeldEvent {
    /// The entity that the event was added to; `None` where nothing was added.
    owner: Option<EntityId>,
    /// The day that the fingerprint is kept for, since 1970, or [`FOR_GOOD`].
    day: i32,
    table: TableId,
}

/// Fingerprints: kept until their day is late everywhere, or for good.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    pub known: KeptMap<u64, HeldEvent>,
    /// Fingerprints by day: those to be forgotten. Not stored: they name their days.
    by_day: BTreeMap<i32, Vec<u64>>,
}

/// The number of a day since 1970; one beyond the range of a calendar counts as its end.
fn day_of(time_ms: i64) -> i32 {
    let day = time_ms.div_euclid(DAY_MS);
    day.clamp(i64::from(i32::MIN), i64::from(FOR_GOOD) - 1) as i32
}

impl Held {
    /// The fingerprints of a trial. It forgets none.
    pub fn above(known: KeptMap<u64, HeldEvent>) -> Self {
        Self {
            known,
            by_day: BTreeMap::new(),
        }
    }
    /// Lists fingerprints by day again, after they were read from stored state.
    pub fn index(&mut self) {
        for (fingerprint, event) in self.known.iter().filter(|(_, event)| event.day != FOR_GOOD) {
            self.by_day.entry(event.day).or_default().push(*fingerprint);
        }
    }
    /// Keeps a fingerprint, for good without a time. Returns `false` for one that was kept
    /// already.
    fn insert(&mut self, table: TableId, fingerprint: u64, until_ms: Option<i64>) -> bool {
        if self.known.contains_key(&fingerprint) {
            return false;
        }
        let day = until_ms.map_or(FOR_GOOD, day_of);
        let event = HeldEvent {
            owner: None,
            day,
            table,
        };
        self.known.insert(fingerprint, event);
        if day != FOR_GOOD {
            self.by_day.entry(day).or_default().push(fingerprint);
        }
        true
    }
    /// Keeps the fingerprints of a table for good from now on.
    fn keep_for_good(&mut self, table: TableId) {
        let known = &mut self.known;
        for entries in self.by_day.values_mut() {
            entries.retain(|fingerprint| {
                let is_other = known.get(fingerprint).is_some_and(|e| e.table != table);
                if !is_other && let Some(event) = known.get_mut(fingerprint) {
                    event.day = FOR_GOOD;
                }
                is_other
            });
        }
        self.by_day.retain(|_, entries| !entries.is_empty());
    }
    /// The number of fingerprints that are never forgotten.
    fn for_good(&self) -> usize {
        self.known.len() - self.by_day.values().map(Vec::len).sum::<usize>()
    }
    /// Forgets the owners of events that were added to one of some entities; the events stay known.
    /// Returns their number.
    pub fn forget_owners(&mut self, is_gone: impl Fn(EntityId) -> bool) -> u64 {
        let known = self.known.iter();
        let of_them = known.filter(|(_, event)| event.owner.is_some_and(&is_gone));
        let of_them: Vec<u64> = of_them.map(|(fingerprint, _)| *fingerprint).collect();
        for fingerprint in &of_them {
            if let Some(event) = self.known.get_mut(fingerprint) {
                event.owner = None;
            }
        }
        of_them.len() as u64
    }
    /// Drops the fingerprints of days that end before their table's bound.
    fn forget(&mut self, bounds: &FxHashMap<TableId, i64>, last_day: i64) {
        let last_day = day_of(last_day.saturating_mul(DAY_MS));
        let days: Vec<i32> = self.by_day.range(..last_day).map(|(day, _)| *day).collect();
        for day in days {
            let Some(entries) = self.by_day.get_mut(&day) else {
                continue;
            };
            let known = &mut self.known;
            entries.retain(|fingerprint| {
                let bound = known.get(fingerprint).and_then(|e| bounds.get(&e.table));
                let keep = bound.is_none_or(|bound| is_held(i64::from(day), *bound));
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

/// Whether some event of a day would not be late under a bound.
pub(crate) fn is_held(day: i64, bound_ms: i64) -> bool {
    (day + 1).saturating_mul(DAY_MS) > bound_ms
}

/// The way to treat a retraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Subtract the event from the entity that it was added to.
    Back(EntityId),
    /// Subtract the event if its state may contain it: no fingerprint is that old.
    BackIfThere,
    /// Nothing yet: an event that still comes will be refused.
    Ahead,
    /// Nothing: the event was taken back before.
    Again,
    /// Nothing: the retraction is refused.
    Refused,
}

/// What accepted rows say about time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SeenTimes {
    #[serde(serialize_with = "sorted")]
    partitions: FxHashMap<u32, Partition>,
    /// Tables whose fingerprints are kept for good: outcome tables, and those of rows that carry
    /// their own known time.
    for_good: BTreeSet<TableId>,
    /// Time of the newest accepted row of each event table, milliseconds.
    #[serde(serialize_with = "sorted")]
    newest_ms: FxHashMap<TableId, i64>,
    /// Per table, the latest bound that fingerprints were forgotten under.
    #[serde(serialize_with = "sorted")]
    forgotten: FxHashMap<TableId, i64>,
    cancelled: u64,
}

/// The gate in front of the graph.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    pub(crate) seen: Kept<SeenTimes>,
    pub(crate) events: Held,
    pub(crate) retractions: Held,
}

/// The hash that identifies an event: of its table and id.
// Not of its owner: a retry may name the contact that a lead has become since.
pub fn fingerprint(row: Row<'_>) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&row.table().0.to_le_bytes());
    hash.update(row.key().as_bytes());
    hash.digest()
}

impl Gate {
    /// A gate that has seen no row.
    pub(crate) fn new(catalog: &Catalog) -> Self {
        let outcomes = catalog
            .tables
            .iter()
            .filter(|table| table.role == Role::Event && table.outcome.is_some());
        let seen = SeenTimes {
            for_good: outcomes.map(|table| table.id).collect(),
            ..SeenTimes::default()
        };
        Self {
            seen: Kept::new(seen),
            ..Self::default()
        }
    }
    /// Admits an event row or refuses it. An event whose retraction came first is a duplicate.
    pub(crate) fn admit(
        &mut self,
        options: &GraphOptions,
        clock_ms: Option<i64>,
        row: Row<'_>,
        fingerprint: u64,
    ) -> RowOutcome {
        if is_future(options, clock_ms, row) {
            return RowOutcome::Future;
        }
        if self.is_late(options, row) {
            return RowOutcome::Late;
        }
        self.note_known_time(row);
        let until_ms = self.held_from(row.table(), row.event_ms());
        if !self.events.insert(row.table(), fingerprint, until_ms) {
            return RowOutcome::Duplicate;
        }
        if self.retractions.known.contains_key(&fingerprint) {
            self.seen.change().cancelled += 1;
            return RowOutcome::Duplicate;
        }
        self.advance(row);
        RowOutcome::Accepted
    }

    /// Notes the entity that an admitted event is added to: a retraction takes it back there.
    pub(crate) fn assign(&mut self, fingerprint: u64, owner: EntityId) {
        if let Some(known) = self.events.known.get_mut(&fingerprint) {
            known.owner = Some(owner);
        }
    }

    /// Admits a retraction or refuses it. A retraction is never late, for it carries the whole
    /// row. Its fingerprint is kept against repeats for a horizon from the event's time or from
    /// the partition's newest, whichever is later.
    pub(crate) fn admit_retraction(
        &mut self,
        options: &GraphOptions,
        clock_ms: Option<i64>,
        row: Row<'_>,
        fingerprint: u64,
    ) -> Takes {
        if is_future(options, clock_ms, row) {
            return Takes::Refused;
        }
        let newest_ms = self
            .seen
            .partitions
            .get(&row.position().partition)
            .and_then(|partition| partition.newest_ms);
        let held_from_ms = newest_ms.map_or(row.event_ms(), |newest| newest.max(row.event_ms()));
        let until_ms = self.held_from(row.table(), held_from_ms);
        if !self.retractions.insert(row.table(), fingerprint, until_ms) {
            return Takes::Again;
        }
        self.advance(row);
        match self.events.known.get(&fingerprint) {
            Some(HeldEvent {
                owner: Some(owner), ..
            }) => Takes::Back(*owner),
            _ if self.remembers(row) => Takes::Ahead,
            _ => Takes::BackIfThere,
        }
    }

    /// Whether an event row is too old to be admitted. Where fingerprints are kept for good, age
    /// is no reason; where some were forgotten before, a repeat would not be recognised.
    fn is_late(&self, options: &GraphOptions, row: Row<'_>) -> bool {
        if !self.remembers(row) {
            return true;
        }
        if row.has_own_known_time() || self.seen.for_good.contains(&row.table()) {
            return false;
        }
        let partition = self.seen.partitions.get(&row.position().partition);
        partition.is_some_and(|partition| row.event_ms() < partition.bound_ms(options))
    }

    /// Keeps the fingerprints of a table for good once a row of the table carries its own known
    /// time: such rows may be of any age.
    fn note_known_time(&mut self, row: Row<'_>) {
        if row.has_own_known_time() && !self.keeps_for_good(row.table()) {
            self.seen.change().for_good.insert(row.table());
            self.events.keep_for_good(row.table());
            self.retractions.keep_for_good(row.table());
        }
    }

    /// The time that a fingerprint's age counts from; `None` for one that is kept for good.
    fn held_from(&self, table: TableId, time_ms: i64) -> Option<i64> {
        (!self.seen.for_good.contains(&table)).then_some(time_ms)
    }

    /// Whether all fingerprints of the row's day are still kept: a repeat would be recognised.
    // Otherwise a partition that is added later could bring a forgotten event a second time.
    fn remembers(&self, row: Row<'_>) -> bool {
        self.seen
            .forgotten
            .get(&row.table())
            .is_none_or(|bound| is_held(row.event_ms().div_euclid(DAY_MS), *bound))
    }

    /// Whether the fingerprints of a table are kept for good, so that a retraction of any age finds
    /// its event.
    pub(crate) fn keeps_for_good(&self, table: TableId) -> bool {
        self.seen.for_good.contains(&table)
    }

    /// Notes an accepted row of a partition.
    // Refused rows do not advance it: an id used twice with a later time would make the rest late.
    fn advance(&mut self, row: Row<'_>) {
        let seen = self.seen.change();
        let partition = seen.partitions.entry(row.position().partition).or_default();
        partition.newest_ms = partition.newest_ms.max(Some(row.event_ms()));
        partition.add_table(row.table());
        let newest_ms = seen.newest_ms.entry(row.table()).or_insert(i64::MIN);
        *newest_ms = (*newest_ms).max(row.event_ms());
    }

    /// Time of the newest accepted row of an event table, milliseconds; `None` before the first.
    pub(crate) fn newest_ms(&self, table: TableId) -> Option<i64> {
        self.seen.newest_ms.get(&table).copied()
    }

    /// Keeps the table's fingerprints until the partition has had an accepted row, or until
    /// [`Self::caught_up`].
    pub(crate) fn expect(&mut self, partition: u32, table: TableId) {
        self.seen
            .change()
            .partitions
            .entry(partition)
            .or_default()
            .add_table(table);
    }
    /// Ends the wait for partitions without an accepted row.
    pub(crate) fn caught_up(&mut self) {
        self.seen
            .change()
            .partitions
            .retain(|_, partition| partition.newest_ms.is_some());
    }

    /// Per table, the time before which events would be late in every partition that the table has
    /// been read from or is expected in.
    pub(crate) fn bounds(&self, options: &GraphOptions) -> FxHashMap<TableId, i64> {
        let mut bounds: FxHashMap<TableId, i64> = FxHashMap::default();
        for partition in self.seen.partitions.values() {
            for table in &partition.tables {
                let bound = bounds.entry(*table).or_insert(i64::MAX);
                *bound = (*bound).min(partition.bound_ms(options));
            }
        }
        bounds
    }

    /// Forgets fingerprints of events that would now be late in every partition.
    pub(crate) fn forget(&mut self, options: &GraphOptions) {
        let mut bounds = self.bounds(options);
        bounds.retain(|table, _| !self.seen.for_good.contains(table));
        let Some(oldest_bound) = bounds.values().max().copied() else {
            return;
        };
        let last_day = oldest_bound.div_euclid(DAY_MS);
        self.events.forget(&bounds, last_day);
        self.retractions.forget(&bounds, last_day);
        for (table, bound) in bounds {
            let forgotten = self.seen.change().forgotten.entry(table).or_insert(bound);
            *forgotten = (*forgotten).max(bound);
        }
    }

    /// The number of fingerprints kept.
    pub(crate) fn len(&self) -> usize {
        self.events.known.len() + self.retractions.known.len()
    }
    /// The number of fingerprints that are kept for good.
    pub(crate) fn kept_for_good(&self) -> usize {
        self.events.for_good() + self.retractions.for_good()
    }
    /// The number of events refused because their retraction had come first.
    pub(crate) fn cancelled(&self) -> u64 {
        self.seen.cancelled
    }
}

/// Whether an event row lies too far ahead of its known time, or of our clock.
// Known times are producers' timestamps and may be as wrong as their events: the clock decides
// too.
fn is_future(options: &GraphOptions, clock_ms: Option<i64>, row: Row<'_>) -> bool {
    let now_ms = clock_ms.map_or(row.known_ms(), |clock| clock.min(row.known_ms()));
    row.event_ms() > now_ms.saturating_add(options.future_tolerance_ms)
}

/// Whether a row of any table would move the moment beyond the clock: both the event time and the
/// known time lie ahead of it.
// One record with a wrong producer clock, whose Kafka timestamp came from the same clock, moved
// the moment by ten years and made its partition late for ever.
pub(crate) fn is_ahead(options: &GraphOptions, clock_ms: Option<i64>, row: Row<'_>) -> bool {
    clock_ms.is_some_and(|clock| {
        row.event_ms().min(row.known_ms()) > clock.saturating_add(options.future_tolerance_ms)
    })
}
