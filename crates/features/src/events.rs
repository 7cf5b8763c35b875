//! The columns of one event table: decayed sums and shares, last values, rhythm, acceleration.
//!
//! The same code writes the row of one member and that of a cell, where the states of the root and
//! of all members are added up when they are read: state knows no such sum.

use smallvec::SmallVec;

use leadpulse_graph::{
    Bank, EventLayout, EventSlot, EventState, Landmark, Newest, Node, SlotKind, signed_log1p,
};
use leadpulse_schema::units::{AsOf, DAY_MS};
use leadpulse_schema::{Table, TableId};

use crate::batch::{Absent, GroupKind};
use crate::columns::{UnplacedColumn, days, recency};
use crate::groups;
use crate::spec::PlanSource;

/// Rate added to both rates before their ratio is taken, events a day: less than one event in seven
/// weeks is no habit.
const QUIET_RATE: f64 = 0.02;

/// The rows that an event block is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    /// The root, where no member carries the events.
    Root,
    /// A whole cell: the events of the root and of all members.
    Cell,
    /// One member.
    Member,
}

/// One column of an event table, besides those of its rhythm.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// The decayed sum of a slot by a half-life, on a log scale.
    Sum(u16, usize),
    /// The decayed sum of a slot by a half-life, per event.
    Share(u16, usize),
    /// The time since the newest event with an amount in a slot.
    Recency(u16),
    /// The amount of the newest event in a slot.
    Last(u16),
}

/// The columns of one event table, over the entities of a cell or over one of them.
#[derive(Clone, Debug)]
pub(crate) struct EventBlock {
    /// Entity tables that carry the events, with the position of the table's state among theirs.
    carriers: Vec<(TableId, usize)>,
    parts: Vec<Part>,
    /// Positions in [`RHYTHM`] of the columns that the block has.
    rhythm: Vec<usize>,
    /// True with a column for the recent rate over the habitual one.
    has_acceleration: bool,
    slots: usize,
    rhythm_days: usize,
    half_lives_days: Vec<f64>,
}

/// Names the columns of one event table.
struct ColumnNames<'a> {
    events: &'a Table,
    group: String,
    half_lives_days: &'a [f64],
    columns: &'a mut Vec<UnplacedColumn>,
}

impl ColumnNames<'_> {
    /// Names a column; `is_age` for one that reads how long ago, or how regularly, events were.
    fn push(&mut self, group: String, name: String, is_age: bool) {
        let kind = if is_age || self.events.outcome.is_some() {
            GroupKind::Timing
        } else {
            GroupKind::Behaviour
        };
        self.columns.push(UnplacedColumn {
            name,
            group,
            kind,
            absent: Absent::Zero,
        });
    }

    /// Names the column of a part of a slot.
    fn part(&mut self, slot: &EventSlot, part: Part) {
        let table = &self.events.name;
        let field = slot.field.map(|f| self.events.field_at(f));
        let (path, group) = match (field, &slot.kind) {
            (None, _) => (table.clone(), self.group.clone()),
            (Some(field), SlotKind::Value(value)) => (
                format!("{table}.{}={value}", field.name),
                groups::of_event_value(self.events, field, value),
            ),
            (Some(field), SlotKind::Bucket(bucket)) => (
                format!("{table}.{}#{bucket}", field.name),
                groups::of_event_field(self.events, field),
            ),
            (Some(field), _) => (
                format!("{table}.{}", field.name),
                groups::of_event_field(self.events, field),
            ),
        };
        let half = |h: usize| self.half_lives_days[h];
        let what = match part {
            Part::Sum(_, h) => format!("{}d/sum", half(h)),
            Part::Share(_, h) if slot.kind == SlotKind::Log => format!("{}d/mean", half(h)),
            Part::Share(_, h) => format!("{}d/share", half(h)),
            Part::Recency(_) => "recency".into(),
            Part::Last(_) => "last".into(),
        };
        let is_age = matches!(part, Part::Recency(_));
        self.push(group, format!("{path}/{what}"), is_age);
    }
}

/// The columns of a slot. `is_process` for events that are steps of deals.
// Decision: docs/decisions/0043-the-cell-has-the-events-of-its-members.md
fn parts_of(
    slot: u16,
    kind: &SlotKind,
    detail: Detail,
    halves: usize,
    is_process: bool,
) -> Vec<Part> {
    let longest = halves - 1;
    let sums = |from: usize| (from..halves).map(move |h| Part::Sum(slot, h));
    let shares = |from: usize| (from..halves).map(move |h| Part::Share(slot, h));
    let last = Some(Part::Last(slot));
    let recency = [Part::Recency(slot)];
    match (kind, detail) {
        (SlotKind::Count, _) => sums(0).collect(),
        (SlotKind::Value(_), Detail::Root) => sums(0)
            .chain(shares(0))
            .chain(recency)
            .chain(last)
            .collect(),
        // How recently a value came stands beside its sums, so the shortest half-life adds little.
        (SlotKind::Value(_), Detail::Cell) => sums(halves.min(3) / 3)
            .chain(recency)
            .chain(last.filter(|_| is_process))
            .collect(),
        (SlotKind::Value(_), Detail::Member) => sums(longest).chain(recency).collect(),
        (SlotKind::Bucket(_) | SlotKind::Raw, Detail::Root) => sums(0).collect(),
        (SlotKind::Raw, Detail::Cell) => sums(halves.min(3) / 3).collect(),
        (SlotKind::Bucket(_), _) | (SlotKind::Raw, Detail::Member) => sums(longest).collect(),
        // Means beside sums: on a task of ratings they added a point of AUROC to sums alone;
        // elsewhere they changed nothing (prototype, retail and rating data).
        (SlotKind::Log, Detail::Root) => shares(0).chain(last).collect(),
        (SlotKind::Log, Detail::Cell) => shares(longest).chain(last).collect(),
        (SlotKind::Log, Detail::Member) => shares(longest).collect(),
        (SlotKind::Flag, Detail::Root) => sums(0).chain(shares(0)).chain(last).collect(),
        (SlotKind::Flag, Detail::Cell) => sums(0).chain(shares(longest)).chain(last).collect(),
        (SlotKind::Flag, Detail::Member) => sums(longest).chain(shares(longest)).collect(),
    }
}

impl EventBlock {
    /// The block of an event table over entities of the tables that carry it; `None` if training
    /// saw no such event. Appends the columns.
    pub(crate) fn new(
        source: &PlanSource<'_>,
        layout: &EventLayout,
        tables: &[TableId],
        columns: &mut Vec<UnplacedColumn>,
    ) -> Option<Self> {
        let events = source.catalog.table_at(layout.table);
        let is_seen = |slot: u16| source.is_seen(&events.name, slot);
        let carriers = source.carriers(layout.table, tables);
        if carriers.is_empty() || !is_seen(0) {
            return None;
        }
        let is_member = |table: &TableId| *table != source.catalog.root().id;
        let detail = match tables {
            [table] if is_member(table) => Detail::Member,
            _ if carriers.iter().any(|(table, _)| is_member(table)) => Detail::Cell,
            _ => Detail::Root,
        };
        let halves = &source.options.half_lives_days;
        let mut names = ColumnNames {
            events,
            group: groups::of_events(events),
            half_lives_days: halves,
            columns,
        };
        let mut parts = Vec::new();
        for (at, slot) in layout.slots.iter().enumerate() {
            let number = at as u16;
            if is_seen(number) {
                let is_process = events.outcome.is_some();
                let of_slot = parts_of(number, &slot.kind, detail, halves.len(), is_process);
                of_slot.iter().for_each(|part| names.part(slot, *part));
                parts.extend(of_slot);
            }
        }
        let rhythm: Vec<usize> = match detail {
            Detail::Root => (0..RHYTHM.len()).collect(),
            Detail::Cell => CELL_RHYTHM.to_vec(),
            Detail::Member => MEMBER_RHYTHM.to_vec(),
        };
        let group = names.group.clone();
        let beside = rhythm.iter().map(|at| RHYTHM[*at]);
        // Elsewhere the counts by all half-lives stand for it.
        let has_acceleration = detail == Detail::Root && halves.len() > 1;
        let acceleration = has_acceleration.then_some("acceleration");
        for what in beside.chain(acceleration) {
            let is_age = !matches!(what, "total" | "active_days" | "acceleration");
            names.push(group.clone(), format!("{}/{what}", events.name), is_age);
        }
        Some(Self {
            carriers,
            parts,
            rhythm,
            has_acceleration,
            slots: layout.slots.len(),
            rhythm_days: source.options.rhythm_days,
            half_lives_days: halves.clone(),
        })
    }

    /// Appends the block's numbers over some entities, as if one of them had all of their events.
    /// The order of the entities decides the last bits of sums.
    pub(crate) fn write(
        &self,
        nodes: &[&Node],
        bank: &Bank,
        as_of: AsOf,
        room: &mut EventRoom,
        out: &mut Vec<f32>,
    ) {
        let halves = self.half_lives_days.len();
        let mut total: Option<EventTotal<'_>> = None;
        for state in nodes.iter().filter_map(|node| self.state_of(node)) {
            let reads = room.reads.at(bank, state.landmark(), as_of);
            total
                .get_or_insert_with(|| EventTotal::new(self.slots, halves, as_of, room))
                .add(state, bank, &reads);
        }
        match total {
            Some(total) => self.write_total(total, room, out),
            // Every number of no event is 0.
            None => out.resize(out.len() + self.width(), 0.0),
        }
    }

    /// The events of the table on an entity, if there are any.
    fn state_of<'s>(&self, node: &'s Node) -> Option<&'s EventState> {
        let mut carriers = self.carriers.iter();
        let (_, position) = carriers.find(|(table, _)| *table == node.table)?;
        let state = &node.events[*position];
        (!state.is_empty()).then_some(state)
    }

    /// Number of columns.
    fn width(&self) -> usize {
        self.parts.len() + self.rhythm.len() + usize::from(self.has_acceleration)
    }

    fn write_total(&self, mut total: EventTotal<'_>, room: &mut EventRoom, out: &mut Vec<f32>) {
        total.days.sort_unstable();
        total.days.dedup();
        let forgotten = total.days.len().saturating_sub(self.rhythm_days);
        total.days.drain(..forgotten);
        out.extend(self.parts.iter().map(|part| total.part(*part)));
        let rhythm = rhythm(&total, &mut room.gaps);
        out.extend(self.rhythm.iter().map(|at| rhythm[*at]));
        if self.has_acceleration {
            let rate =
                |h: usize| rate_per_day(total.sum(0, h), self.half_lives_days[h]) + QUIET_RATE;
            let longest = self.half_lives_days.len() - 1;
            out.push((rate(0) / rate(longest)).ln() as f32);
        }
        room.take_back(total);
    }
}

/// The factors by which sums are read, one per half-life.
type ReadFactors = SmallVec<[f64; 4]>;

/// The newest factors, with their landmark and moment: most states have the landmark of the one
/// before.
#[derive(Debug, Default)]
struct LastFactors(Option<(Landmark, AsOf, ReadFactors)>);

impl LastFactors {
    fn at(&mut self, bank: &Bank, landmark: Landmark, as_of: AsOf) -> ReadFactors {
        let known = self.0.as_ref();
        if let Some((.., reads)) = known.filter(|known| (known.0, known.1) == (landmark, as_of)) {
            return reads.clone();
        }
        let halves = 0..bank.len();
        let reads: ReadFactors = halves.map(|h| bank.read(h, landmark, as_of.ms())).collect();
        self.0 = Some((landmark, as_of, reads.clone()));
        reads
    }
}

/// Memory that sums of one block after the other are made in.
#[derive(Debug, Default)]
pub(crate) struct EventRoom {
    reads: LastFactors,
    sums: Vec<f64>,
    newest_ms: Vec<i64>,
    days: Vec<i32>,
    gaps: Vec<f64>,
}

impl EventRoom {
    fn take_back(&mut self, total: EventTotal<'_>) {
        self.sums = total.sums;
        self.newest_ms = total.newest_ms;
        self.days = total.days;
    }
}

/// The states of one event table on some entities, added up at a moment.
struct EventTotal<'s> {
    as_of: AsOf,
    halves: usize,
    /// `[slots, half-lives]`, decayed to the moment.
    sums: Vec<f64>,
    /// Newest event time per slot, milliseconds; `i64::MIN` without events.
    newest_ms: Vec<i64>,
    newest: Option<&'s Newest>,
    total: u64,
    /// `i64::MAX` without events.
    oldest_ms: i64,
    /// Active days (UTC day numbers).
    days: Vec<i32>,
}

impl<'s> EventTotal<'s> {
    /// No events, in memory that was used before.
    fn new(slots: usize, halves: usize, as_of: AsOf, room: &mut EventRoom) -> Self {
        let mut sums = std::mem::take(&mut room.sums);
        sums.clear();
        sums.resize(slots * halves, 0.0);
        let mut newest_ms = std::mem::take(&mut room.newest_ms);
        newest_ms.clear();
        newest_ms.resize(slots, i64::MIN);
        let mut days = std::mem::take(&mut room.days);
        days.clear();
        Self {
            as_of,
            halves,
            sums,
            newest_ms,
            newest: None,
            total: 0,
            oldest_ms: i64::MAX,
            days,
        }
    }

    /// Adds a state; `reads` are the factors of its landmark at the moment.
    fn add(&mut self, state: &'s EventState, bank: &Bank, reads: &[f64]) {
        for (slot, sums, newest_ms) in state.slots(bank) {
            let slot = usize::from(slot);
            let all = &mut self.sums[slot * self.halves..][..self.halves];
            for ((all, sum), read) in all.iter_mut().zip(sums).zip(reads) {
                *all += sum * read;
            }
            let known_ms = &mut self.newest_ms[slot];
            *known_ms = newest_ms.max(*known_ms);
        }
        let moment = |newest: Option<&Newest>| newest.map(|n| (n.time_ms, n.fingerprint));
        if moment(self.newest) < moment(state.newest.as_ref()) {
            self.newest = state.newest.as_ref();
        }
        self.total += state.total;
        self.oldest_ms = self.oldest_ms.min(state.oldest_ms);
        self.days.extend(state.active_days());
    }

    fn sum(&self, slot: u16, half: usize) -> f64 {
        self.sums[usize::from(slot) * self.halves + half]
    }

    fn part(&self, part: Part) -> f32 {
        match part {
            Part::Sum(slot, half) => signed_log1p(self.sum(slot, half)) as f32,
            // A count that has decayed this far is the rounding of its sums: their ratio would be
            // noise.
            Part::Share(slot, half) if self.sum(0, half) > 1e-9 => {
                (self.sum(slot, half) / self.sum(0, half)) as f32
            }
            Part::Share(..) => 0.0,
            Part::Recency(slot) => {
                let newest_ms = Some(self.newest_ms[usize::from(slot)]);
                let newest_ms = newest_ms.filter(|newest_ms| *newest_ms > i64::MIN);
                recency(newest_ms, self.as_of)
            }
            Part::Last(slot) => {
                let amounts = self.newest.iter().flat_map(|newest| &newest.phi);
                let mut of_slot = amounts.filter(|(s, _)| *s == slot);
                of_slot.next().map_or(0.0, |(_, amount)| *amount)
            }
        }
    }
}

/// Events a day that a decayed count stands for, if the events were regular: count · ln 2 /
/// half-life.
pub(crate) fn rate_per_day(count: f64, half_life_days: f64) -> f64 {
    count.max(0.0) * std::f64::consts::LN_2 / half_life_days
}

/// Names of the numbers of [`rhythm`].
// Gaps between active days are worth about a point of AUROC on the retail example
// (docs/decisions/0009-state-that-commutes.md).
const RHYTHM: [&str; 12] = [
    "total",
    "recency",
    "age",
    "active_days",
    "gap_mean",
    "gap_deviation",
    "gap_last",
    "gap_median",
    "second_last",
    "third_last",
    "fourth_last",
    "overdue",
];

/// Positions in [`RHYTHM`] of the columns of a cell with members: total, recency, age, active days,
/// mean and last gap, the second last active day, overdue.
const CELL_RHYTHM: [usize; 8] = [0, 1, 2, 3, 4, 6, 8, 11];
/// Positions in [`RHYTHM`] of a member's columns: total, recency, active days, mean gap, overdue.
const MEMBER_RHYTHM: [usize; 5] = [0, 1, 3, 4, 11];

/// Total, recency, age, active days, gaps between them, the k-th last active days, and the time
/// since the newest event relative to the mean gap, in the order of [`RHYTHM`].
fn rhythm(events: &EventTotal<'_>, gaps: &mut Vec<f64>) -> [f32; RHYTHM.len()] {
    let as_of = events.as_of;
    let since = |t: i64| days(t, as_of).max(0.0);
    let newest_ms = events.newest.map(|newest| newest.time_ms);
    let active = &events.days;
    gaps.clear();
    gaps.extend(active.windows(2).map(|w| f64::from(w[1]) - f64::from(w[0])));
    let last_gap = gaps.last().copied();
    let n = gaps.len() as f64;
    let mean = (!gaps.is_empty()).then(|| gaps.iter().sum::<f64>() / n);
    let deviation = mean.map(|m| (gaps.iter().map(|g| (g - m).powi(2)).sum::<f64>() / n).sqrt());
    gaps.sort_unstable_by(f64::total_cmp);
    let median = (!gaps.is_empty()).then(|| gaps[gaps.len() / 2]);
    let gap = |gap: Option<f64>| gap.map_or(0.0, |gap| gap.ln_1p() as f32);
    let active_day = |k: usize| {
        let day = active.len().checked_sub(k).map(|i| active[i]);
        recency(day.map(|day| i64::from(day) * DAY_MS), as_of)
    };
    let age = if events.total == 0 {
        0.0
    } else {
        since(events.oldest_ms).ln_1p()
    };
    // On a log scale and bounded: a year of silence after a daily habit is no outlier of 365.
    let overdue = match (newest_ms, mean) {
        (Some(t), Some(mean)) => (since(t) / mean.max(0.5)).min(100.0).ln_1p(),
        _ => 0.0,
    };
    [
        (events.total as f64).ln_1p() as f32,
        recency(newest_ms, as_of),
        age as f32,
        (active.len() as f64).ln_1p() as f32,
        gap(mean),
        gap(deviation),
        gap(last_gap),
        gap(median),
        active_day(2),
        active_day(3),
        active_day(4),
        overdue as f32,
    ]
}
