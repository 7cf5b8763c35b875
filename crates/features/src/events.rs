//! The columns of one event table on one entity: decayed sums and shares, last values, rhythm,
//! acceleration.

use leadpulse_graph::{
    Bank, EventLayout, EventState, GraphOptions, Revisable, SlotKind, signed_log1p,
};
use leadpulse_schema::Table;
use leadpulse_schema::units::{AsOf, DAY_MS};

use crate::batch::Absent;
use crate::columns::{UnplacedColumn, days, recency};
use crate::groups;

/// Rate added to both rates before their ratio is taken, events a day: less than one event in seven
/// weeks is no habit.
const QUIET_RATE: f64 = 0.02;

/// The columns of one event table on one entity table.
#[derive(Clone, Debug)]
pub(crate) struct EventBlock {
    /// Position of the table's state among the event states of the entity.
    position: usize,
    layout: EventLayout,
    half_lives_days: Vec<f64>,
}

impl EventBlock {
    /// The block of an event table on its owner. Appends the columns.
    pub(crate) fn new(
        events: &Table,
        position: usize,
        layout: &EventLayout,
        options: &GraphOptions,
        columns: &mut Vec<UnplacedColumn>,
    ) -> Self {
        let halves = &options.half_lives_days;
        let mut name = |group: &str, name: String| {
            columns.push(UnplacedColumn {
                name,
                group: group.to_owned(),
                absent: Absent::Zero,
            })
        };
        let t = &events.name;
        let group = groups::of_events(events);
        for slot in &layout.slots {
            let field = slot.field.map(|f| events.field_at(f));
            let (path, group) = match (field, &slot.kind) {
                (None, _) => (t.clone(), group.clone()),
                (Some(field), SlotKind::Value(value)) => (
                    format!("{t}.{}={value}", field.name),
                    groups::of_event_value(events, field, value),
                ),
                (Some(field), SlotKind::Bucket(bucket)) => (
                    format!("{t}.{}#{bucket}", field.name),
                    groups::of_event_field(events, field),
                ),
                (Some(field), _) => (
                    format!("{t}.{}", field.name),
                    groups::of_event_field(events, field),
                ),
            };
            let what: &[&str] = match slot.kind {
                SlotKind::Count | SlotKind::Raw | SlotKind::Bucket(_) => &["sum"],
                SlotKind::Log => &["mean"],
                SlotKind::Value(_) | SlotKind::Flag => &["sum", "share"],
            };
            for what in what {
                for half in halves {
                    name(&group, format!("{path}/{half}d/{what}"));
                }
            }
            if matches!(slot.kind, SlotKind::Value(_)) {
                name(&group, format!("{path}/recency"));
            }
            if matches!(
                slot.kind,
                SlotKind::Value(_) | SlotKind::Log | SlotKind::Flag
            ) {
                name(&group, format!("{path}/last"));
            }
        }
        for what in RHYTHM {
            name(&group, format!("{t}/{what}"));
        }
        if halves.len() > 1 {
            name(&group, format!("{t}/acceleration"));
        }
        Self {
            position,
            layout: layout.clone(),
            half_lives_days: halves.clone(),
        }
    }

    /// Appends the block's numbers.
    pub(crate) fn write(
        &self,
        states: &[Revisable<EventState>],
        bank: &Bank,
        as_of: AsOf,
        out: &mut Vec<f32>,
    ) {
        let state = &states[self.position];
        let halves = self.half_lives_days.len();
        let reads: Vec<f64> = (0..halves)
            .map(|h| bank.read(h, state.landmark(), as_of.ms()))
            .collect();
        let mut touched = state.slots(bank).peekable();
        let mut counts = vec![0.0; halves];
        let last = state.newest.as_ref();
        for (slot, definition) in self.layout.slots.iter().enumerate() {
            let slot = slot as u16;
            let found = touched.next_if(|(s, ..)| *s == slot);
            let sums = |h: usize| found.map_or(0.0, |(_, sums, _)| sums[h] * reads[h]);
            if slot == 0 {
                (0..halves).for_each(|h| counts[h] = sums(h));
            }
            // A count that has decayed this far is the rounding of its sums: their ratio would be
            // noise.
            let share = |h: usize| {
                if counts[h] > 1e-9 {
                    (sums(h) / counts[h]) as f32
                } else {
                    0.0
                }
            };
            let last_value = || {
                last.and_then(|n| n.phi.iter().find(|(s, _)| *s == slot))
                    .map_or(0.0, |(_, x)| *x)
            };
            // Sums on a log scale and means beside them: on a task of ratings, means added a point
            // of AUROC to sums alone; elsewhere they changed nothing (prototype, retail and rating
            // data).
            match definition.kind {
                SlotKind::Count | SlotKind::Raw | SlotKind::Bucket(_) => {
                    out.extend((0..halves).map(|h| signed_log1p(sums(h)) as f32))
                }
                SlotKind::Log => {
                    out.extend((0..halves).map(share));
                    out.push(last_value());
                }
                SlotKind::Flag => {
                    out.extend((0..halves).map(|h| signed_log1p(sums(h)) as f32));
                    out.extend((0..halves).map(share));
                    out.push(last_value());
                }
                SlotKind::Value(_) => {
                    out.extend((0..halves).map(|h| signed_log1p(sums(h)) as f32));
                    out.extend((0..halves).map(share));
                    out.push(recency(found.map(|(_, _, newest)| newest), as_of));
                    out.push(last_value());
                }
            }
        }
        rhythm(state, as_of, out);
        if halves > 1 {
            let rate = |h: usize| rate_per_day(counts[h], self.half_lives_days[h]) + QUIET_RATE;
            out.push((rate(0) / rate(halves - 1)).ln() as f32);
        }
    }
}

/// Events a day that a decayed count stands for, if the events were regular: count · ln 2 /
/// half-life.
pub(crate) fn rate_per_day(count: f64, half_life_days: f64) -> f64 {
    count.max(0.0) * std::f64::consts::LN_2 / half_life_days
}

/// Names of [`rhythm`]'s columns.
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

/// Appends total, recency, age, active days, gaps between them, the k-th last active days, and the
/// time since the newest event relative to the mean gap.
fn rhythm(state: &EventState, as_of: AsOf, out: &mut Vec<f32>) {
    let since = |t: i64| days(t, as_of).max(0.0);
    out.push((state.total as f64).ln_1p() as f32);
    out.push(recency(state.newest_ms(), as_of));
    out.push(if state.is_empty() {
        0.0
    } else {
        since(state.oldest_ms).ln_1p() as f32
    });
    let active: Vec<i32> = state.active_days().collect();
    out.push((active.len() as f64).ln_1p() as f32);
    let mut gaps: Vec<f64> = active
        .windows(2)
        .map(|w| f64::from(w[1]) - f64::from(w[0]))
        .collect();
    let last_gap = gaps.last().copied();
    let n = gaps.len() as f64;
    let mean = if gaps.is_empty() {
        None
    } else {
        Some(gaps.iter().sum::<f64>() / n)
    };
    let deviation = mean.map(|m| (gaps.iter().map(|g| (g - m).powi(2)).sum::<f64>() / n).sqrt());
    gaps.sort_unstable_by(f64::total_cmp);
    let median = (!gaps.is_empty()).then(|| gaps[gaps.len() / 2]);
    for value in [mean, deviation, last_gap, median] {
        out.push(value.map_or(0.0, |v| v.ln_1p() as f32));
    }
    for k in 2..=4 {
        let day = active
            .len()
            .checked_sub(k)
            .map(|i| i64::from(active[i]) * DAY_MS);
        out.push(recency(day, as_of));
    }
    // On a log scale and bounded: a year of silence after a daily habit is no outlier of 365.
    let overdue = match (state.newest_ms(), mean) {
        (Some(t), Some(mean)) => (since(t) / mean.max(0.5)).min(100.0).ln_1p(),
        _ => 0.0,
    };
    out.push(overdue as f32);
}
