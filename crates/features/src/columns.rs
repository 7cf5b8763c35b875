//! Columns before they are laid out, and the scales that several of them share.

use leadpulse_schema::units::{AsOf, DAY_MS_F64, EventTime};

use crate::batch::{Absent, GroupKind};

/// End of the log scale of ages, days.
// Beyond a decade more silence says nothing new; the bound itself was not measured.
const OLDEST_DAYS: f64 = 3650.0;

/// A column before groups have numbers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UnplacedColumn {
    pub name: String,
    pub group: String,
    pub kind: GroupKind,
    pub absent: Absent,
}

/// Days from an event to `as_of`; negative for an event that lies ahead.
pub(crate) fn days(event_ms: i64, as_of: AsOf) -> f64 {
    as_of.since(EventTime::from_ms(event_ms)) as f64 / DAY_MS_F64
}

/// 1 for now, 0 for never or ten years ago, on a log scale.
pub(crate) fn recency(newest_ms: Option<i64>, as_of: AsOf) -> f32 {
    newest_ms.map_or(0.0, |t| {
        (1.0 - days(t, as_of).clamp(0.0, OLDEST_DAYS).ln_1p() / OLDEST_DAYS.ln_1p()) as f32
    })
}

/// A count on a log scale: `ln(1 + n)`.
pub(crate) fn log_count(n: usize) -> f32 {
    (n as f32).ln_1p()
}

/// Appends sine and cosine of a phase in turns.
pub(crate) fn cycle(turns: f64, out: &mut Vec<f32>) {
    let angle = turns * std::f64::consts::TAU;
    out.extend([angle.sin() as f32, angle.cos() as f32]);
}

/// Appends the season of the year as two harmonics, so that December is next to January.
// It helped windows of 90 days and hurt those of 30 on a year of history, unless the network was
// regularised: validation decides (docs/decisions/0020-averaged-ensembles-chosen-by-validation.md).
pub(crate) fn season(as_of: AsOf, out: &mut Vec<f32>) {
    let year = days(0, as_of) / 365.2425;
    cycle(year, out);
    cycle(2.0 * year, out);
}

/// Appends the hour of the day and the day of the week of a moment (UTC).
pub(crate) fn clock(as_of: AsOf, out: &mut Vec<f32>) {
    let day = days(0, as_of);
    cycle(day, out);
    cycle(day.floor() / 7.0, out);
}

/// Names of [`clock`]'s columns.
pub(crate) const CLOCK: [&str; 4] = [
    "moment/hour_sin",
    "moment/hour_cos",
    "moment/weekday_sin",
    "moment/weekday_cos",
];

/// Names of [`season`]'s columns.
pub(crate) const SEASON: [&str; 4] = ["season/sin", "season/cos", "season/sin2", "season/cos2"];
