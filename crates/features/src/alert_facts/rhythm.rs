//! The pace of an account's events, from decayed sums and active days.

use std::collections::BTreeSet;

use leadpulse_graph::{EventState, Graph};
use leadpulse_policy::Pace;
use leadpulse_schema::units::{AsOf, DAY_MS, DAY_MS_F64};

use crate::facts::ACTIVE_DAYS;

/// The span that a pace is about, days.
const WEEK_DAYS: f64 = 7.0;
/// Known time before which an account has no usual week, days.
const MIN_KNOWN_DAYS: f64 = 28.0;
/// Active days, and the days that they span, before which an account has no usual gap.
const MIN_ACTIVE_DAYS: usize = 5;
const MIN_SPAN_DAYS: i32 = 21;

/// The events of some tables of a cell at a moment.
pub(super) struct Rhythm<'g> {
    graph: &'g Graph,
    as_of: AsOf,
    /// Sum of events per half-life.
    sums: Vec<f64>,
    oldest_ms: i64,
    days: BTreeSet<i32>,
    /// Kinds with an event in the last 14 days: table and slot.
    kinds: BTreeSet<(usize, u16)>,
}

impl<'g> Rhythm<'g> {
    pub(super) fn new(graph: &'g Graph, as_of: AsOf) -> Self {
        Self {
            graph,
            as_of,
            sums: vec![0.0; graph.shared().bank.len()],
            oldest_ms: i64::MAX,
            days: BTreeSet::new(),
            kinds: BTreeSet::new(),
        }
    }

    /// Adds the events of a table on an entity, with the slots that tell kinds apart.
    pub(super) fn add(&mut self, state: &EventState, kinds: &[u16], table: usize) {
        if state.is_empty() {
            return;
        }
        let bank = &self.graph.shared().bank;
        let recent_ms = self.as_of.ms() - ACTIVE_DAYS * DAY_MS;
        for (slot, sums, newest_ms) in state.slots(bank) {
            // The count of events is the first slot of every table.
            if slot == 0 {
                for (half, sum) in sums.iter().enumerate() {
                    self.sums[half] += sum * bank.read(half, state.landmark(), self.as_of.ms());
                }
            }
            if kinds.contains(&slot) && newest_ms >= recent_ms {
                self.kinds.insert((table, slot));
            }
        }
        self.oldest_ms = self.oldest_ms.min(state.oldest_ms);
        self.days.extend(state.active_days());
    }

    pub(super) fn active_kinds(&self) -> u32 {
        u32::try_from(self.kinds.len()).unwrap_or(u32::MAX)
    }

    /// Events of the last week beside those of a usual week; `None` for an account that is known
    /// for less than four weeks, and with a single half-life.
    pub(super) fn pace(&self) -> Option<Pace> {
        if self.oldest_ms == i64::MAX {
            return None;
        }
        let known_days = (self.as_of.ms() - self.oldest_ms) as f64 / DAY_MS_F64;
        let halves = self.graph.shared().bank.half_lives_ms();
        let days: Vec<f64> = halves.iter().map(|ms| ms / DAY_MS_F64).collect();
        let long = days.len() - 1;
        let before = self.sums[long] - self.sums[long.saturating_sub(1)];
        Some(Pace {
            usual_week: usual_week(&days, known_days, before)?,
            week: about(&days, WEEK_DAYS, |half| self.sums[half]),
        })
    }

    /// The upper quartile of the gaps between active days, milliseconds; `None` for an account
    /// without a rhythm: fewer than five active days, or all within three weeks.
    pub(super) fn usual_gap_ms(&self) -> Option<i64> {
        let days: Vec<i32> = self.days.iter().copied().collect();
        let span = days.last()? - days.first()?;
        if days.len() < MIN_ACTIVE_DAYS || span < MIN_SPAN_DAYS {
            return None;
        }
        let mut gaps: Vec<i32> = days.windows(2).map(|pair| pair[1] - pair[0]).collect();
        gaps.sort_unstable();
        Some(i64::from(gaps[gaps.len() * 3 / 4]) * DAY_MS)
    }
}

/// Events of a usual week, from the difference `before` of the sums of the two longest half-lives (in
/// days); `None` below four weeks of known time, and with a single half-life.
pub(crate) fn usual_week(days: &[f64], known_days: f64, before: f64) -> Option<f64> {
    if known_days < MIN_KNOWN_DAYS || days.len() < 2 {
        return None;
    }
    // The difference of two sums weighs events by 2^(−age/long) − 2^(−age/short): none of now,
    // most of some weeks ago. Divided by its mass over the known time it is a rate.
    let mass = |half: f64| half / std::f64::consts::LN_2 * (1.0 - (-known_days / half).exp2());
    let (short, long) = (days[days.len() - 2], days[days.len() - 1]);
    let usual_day = before.max(0.0) / (mass(long) - mass(short)).max(f64::MIN_POSITIVE);
    Some(usual_day * WEEK_DAYS)
}

/// About the number of events within a window, from decayed sums of half-lives in days: two sums are
/// mixed so that a new event weighs one, and all weights have the mass of the window.
pub(crate) fn about(days: &[f64], window_days: f64, sum: impl Fn(usize) -> f64) -> f64 {
    let mass = |half: usize| days[half] / std::f64::consts::LN_2;
    match (0..days.len()).find(|half| mass(*half) >= window_days) {
        Some(above) if above > 0 => {
            let (low, high) = (mass(above - 1), mass(above));
            let share = (window_days - low) / (high - low);
            (1.0 - share) * sum(above - 1) + share * sum(above)
        }
        // All half-lives are longer, or all are shorter: the nearest, by its mass.
        found => {
            let half = found.unwrap_or(days.len() - 1);
            sum(half) * window_days / mass(half)
        }
    }
}

/// The newest event of some slots, milliseconds.
pub(super) fn newest_of(graph: &Graph, state: &EventState, slots: &[u16]) -> Option<i64> {
    let bank = &graph.shared().bank;
    let wanted = state
        .slots(bank)
        .filter(|(slot, ..)| slots.contains(slot))
        .map(|(.., newest_ms)| newest_ms);
    wanted.max()
}
