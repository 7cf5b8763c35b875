//! Thresholds with hysteresis: how many of them an entity is over.
//!
//! All thresholds of a task, named bands and plain probabilities alike, are one list of [`Line`]s,
//! ascending in both `enter` and `exit`. So the lines an entity is over are always the lowest ones,
//! and a single number, the *level*, is the whole state.
//!
//! Decision: docs/decisions/0022-alerts-fire-on-crossings.md

/// A probability that is entered at `enter` and left below `exit < enter`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Line {
    pub enter: f64,
    pub exit: f64,
}

/// The level of a probability without any past: every line at or below it.
pub(crate) fn placed(lines: &[Line], probability: f64) -> u8 {
    count(lines.partition_point(|line| line.enter <= probability))
}

/// The level after `probability` was seen. A line between `exit` and `enter` keeps its side.
pub(crate) fn settled(lines: &[Line], level: u8, probability: f64) -> u8 {
    let entered = placed(lines, probability);
    let not_left = count(lines.partition_point(|line| line.exit <= probability));
    level.clamp(entered, not_left)
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

    #[test]
    fn a_line_is_entered_and_left_at_different_points() {
        let mut level = 0;
        for (step, (probability, expected)) in [
            (0.19, 0),
            (0.2, 1),
            (0.16, 1),
            (0.14, 0),
            (0.9, 2),
            (0.41, 2),
            (0.39, 1),
            (0.0, 0),
        ]
        .into_iter()
        .enumerate()
        {
            level = settled(&LINES, level, probability);
            assert_eq!(level, expected, "step {step}: {probability}");
        }
    }
}
