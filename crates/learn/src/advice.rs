//! Advice on strides and half-lives that do not fit a history.

use leadpulse_schema::units::{DAY_MS, DAY_MS_F64};

/// The settings that advice is about, and the history they are for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting<'a> {
    /// Ascending.
    pub half_lives_days: &'a [f64],
    /// The time between two anchors of an entity, milliseconds; `None` where each has its own.
    pub stride_ms: Option<i64>,
    /// The time that the query looks ahead, milliseconds.
    pub horizon_ms: i64,
    /// The history before validation, milliseconds.
    pub training_ms: i64,
}

/// Anchors closer than this share of the horizon see nearly the same outcomes.
const LEAST_STRIDE: f64 = 0.05;

/// Sentences about settings that do not fit, each with what to write instead; none where all fit.
pub(crate) fn advice(setting: Setting<'_>) -> Vec<String> {
    let Setting {
        half_lives_days,
        stride_ms,
        horizon_ms,
        training_ms,
    } = setting;
    let (horizon_days, training_days) = (
        horizon_ms as f64 / DAY_MS_F64,
        training_ms as f64 / DAY_MS_F64,
    );
    let mut found = Vec::new();
    // On two years of a shop a half-life of a year lost .001 to .010 of AUROC at two origins.
    let longest = half_lives_days.last().copied();
    if let Some(longest) = longest.filter(|longest| *longest > training_days / 2.0) {
        found.push(format!(
            "the longest half-life is {longest:.0} days, and training has {training_days:.0} days \
             of history: such sums mostly say how long ago the files begin; let none in \
             graph.half_lives_days be above {:.0}",
            (training_days / 4.0).max(1.0)
        ));
    }
    let shortest = half_lives_days.first().copied();
    if let Some(shortest) = shortest.filter(|shortest| *shortest > horizon_days) {
        found.push(format!(
            "the shortest half-life is {shortest} days, and the query looks {horizon_days:.1} days \
             ahead: a fresh event and an old one look alike; add one of about {:.1} to \
             graph.half_lives_days",
            horizon_days / 3.0
        ));
    }
    let stride = stride_ms.map(|stride_ms| stride_ms as f64);
    if let Some(stride) = stride.filter(|stride| *stride < LEAST_STRIDE * horizon_ms as f64) {
        let wider_days = (horizon_ms / 9 / DAY_MS).max(1);
        found.push(format!(
            "anchors are {:.1} days apart, and the query looks {horizon_days:.0} days ahead: \
             neighbours share nearly all of their outcomes, and training takes longer for nothing; \
             anchors = \"every {wider_days}d\" would do",
            stride / DAY_MS_F64
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_do_not_fit_are_named_with_what_would() {
        let check =
            |half_lives_days: &[f64], stride: Option<i64>, days: [i64; 2], told: &[&str]| {
                let found = advice(Setting {
                    half_lives_days,
                    stride_ms: stride.map(|days| days * DAY_MS),
                    horizon_ms: days[0] * DAY_MS,
                    training_ms: days[1] * DAY_MS,
                });
                assert_eq!(found.len(), told.len(), "{found:?}");
                for (found, told) in found.iter().zip(told) {
                    assert!(found.contains(told), "{found}: {told}");
                }
            };
        check(&[2.0, 14.0, 90.0], Some(10), [90, 400], &[]);
        check(&[2.0, 14.0, 90.0], None, [90, 400], &[]);
        check(&[14.0, 365.0], Some(10), [90, 400], &["be above 100"]);
        check(&[14.0, 90.0], Some(1), [3, 400], &["about 1.0"]);
        check(&[2.0], Some(1), [90, 400], &["\"every 10d\" would do"]);
        check(&[], Some(10), [90, 400], &[]);
    }
}
