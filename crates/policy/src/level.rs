//! Thresholds with hysteresis and dwell: how many of them an entity is over.
//!
//! All thresholds of a task, named bands and plain probabilities alike, are one list of [`Line`]s,
//! ascending in both `enter` and `exit`. So the lines an entity is over are always the lowest ones,
//! and a single number, the *level*, is the whole state.

use serde::{Deserialize, Serialize};

/// A probability that is entered at `enter` and left below `exit < enter`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Line {
    pub enter: f64,
    pub exit: f64,
}

/// The least duration of a crossing that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MinDwell {
    pub epochs: u32,
    pub ms: i64,
}

/// Crossings under way: one entry for each line between the level and where the score is, nearest
/// line first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Dwell {
    upwards: bool,
    lines: Vec<DwellLine>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct DwellLine {
    since_ms: i64,
    epochs: u32,
}

/// The level of a probability without any past: every line at or below it.
pub(crate) fn placed(lines: &[Line], probability: f64) -> u8 {
    count(lines.partition_point(|line| line.enter <= probability))
}

/// The level after `probability` was seen at `as_of_ms`. A line between `exit` and `enter` keeps
/// its side.
pub(crate) fn settled(
    lines: &[Line],
    min: MinDwell,
    level: u8,
    dwell: &mut Dwell,
    probability: f64,
    as_of_ms: i64,
) -> u8 {
    let entered = placed(lines, probability);
    let not_left = count(lines.partition_point(|line| line.exit <= probability));
    let wanted = level.clamp(entered, not_left);
    let upwards = wanted > level;
    let distance = usize::from(wanted.abs_diff(level));

    // A turn starts anew: time spent on the way up says nothing about the way down.
    if dwell.upwards != upwards {
        dwell.lines.clear();
    }
    // Lines that the score is no longer beyond start anew too, should it come back.
    dwell.lines.truncate(distance);
    for line in &mut dwell.lines {
        line.epochs = (line.epochs + 1).min(min.epochs);
    }
    dwell.lines.resize(
        distance,
        DwellLine {
            since_ms: as_of_ms,
            epochs: 1.min(min.epochs),
        },
    );
    let done = |line: &&DwellLine| {
        line.epochs >= min.epochs && as_of_ms.saturating_sub(line.since_ms) >= min.ms
    };
    let crossed = dwell.lines.iter().take_while(done).count();
    dwell.lines.drain(..crossed);
    dwell.upwards = upwards && !dwell.lines.is_empty();
    if upwards {
        level + count(crossed)
    } else {
        level - count(crossed)
    }
}

impl Dwell {
    /// Forgets every crossing under way.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
    /// The moment at which the nearest crossing will have lasted `min`, if only time is missing.
    pub fn ends_at_ms(&self, min: MinDwell) -> Option<i64> {
        self.lines
            .first()
            .filter(|line| line.epochs >= min.epochs)
            .map(|line| line.since_ms.saturating_add(min.ms))
    }
}

fn count(lines: usize) -> u8 {
    u8::try_from(lines).expect("a policy has fewer than 256 lines, checked by validation")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [Line; 2] = [
        Line {
            enter: 0.2,
            exit: 0.15,
        },
        Line {
            enter: 0.5,
            exit: 0.4,
        },
    ];

    fn check(min: MinDwell, steps: &[(f64, i64, u8)]) {
        let (mut level, mut dwell) = (0, Dwell::default());
        for (index, (probability, as_of_ms, expected)) in steps.iter().enumerate() {
            level = settled(&LINES, min, level, &mut dwell, *probability, *as_of_ms);
            assert_eq!(
                level, *expected,
                "step {index}: {probability} at {as_of_ms}"
            );
        }
    }

    #[test]
    fn a_line_is_entered_and_left_at_different_points() {
        let at_once = MinDwell { epochs: 0, ms: 0 };
        check(
            at_once,
            &[
                (0.19, 0, 0),
                (0.2, 1, 1),
                (0.16, 2, 1),
                (0.14, 3, 0),
                (0.9, 4, 2),
                (0.41, 5, 2),
                (0.39, 6, 1),
                (0.0, 7, 0),
            ],
        );
    }

    #[test]
    fn a_crossing_counts_after_so_many_epochs_in_a_row() {
        let three = MinDwell { epochs: 3, ms: 0 };
        check(
            three,
            &[
                (0.3, 0, 0),
                (0.3, 1, 0),
                (0.1, 2, 0),
                (0.3, 3, 0),
                (0.6, 4, 0),
                (0.6, 5, 1),
                (0.6, 6, 2),
                (0.1, 7, 2),
                (0.5, 8, 2),
            ],
        );
    }

    #[test]
    fn a_crossing_counts_after_so_long() {
        let hour = MinDwell { epochs: 0, ms: 60 };
        check(
            hour,
            &[
                (0.3, 0, 0),
                (0.3, 59, 0),
                (0.3, 60, 1),
                (0.6, 100, 1),
                (0.45, 130, 1),
                (0.6, 160, 1),
                (0.6, 220, 2),
                (0.0, 230, 2),
                (0.0, 290, 0),
            ],
        );
    }

    #[test]
    fn a_dwell_says_when_it_ends() {
        let (min, mut dwell) = (MinDwell { epochs: 2, ms: 60 }, Dwell::default());
        assert_eq!(settled(&LINES, min, 0, &mut dwell, 0.3, 10), 0);
        assert_eq!(
            dwell.ends_at_ms(min),
            None,
            "an epoch is missing, no time can be told"
        );
        assert_eq!(settled(&LINES, min, 0, &mut dwell, 0.3, 20), 0);
        assert_eq!(dwell.ends_at_ms(min), Some(70));
        assert_eq!(settled(&LINES, min, 0, &mut dwell, 0.3, 70), 1);
        assert_eq!(dwell, Dwell::default());
    }
}
