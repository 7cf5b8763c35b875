//! The moments at which training examples are taken.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use leadpulse_schema::units::{DAY_MS, Span};

/// A rule for anchors, e.g. `every 10d`, `entity + 24h`, `entity + 24h floor 1d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Anchors {
    /// The whole population every so often; each anchor is moved on by up to half the stride, so
    /// that no weekday is preferred.
    Every {
        /// The distance between anchors, milliseconds.
        stride_ms: i64,
    },
    /// Each entity once, this long after it first existed: its first version, or for a root its
    /// first mention by another row.
    Entity {
        /// The distance from the first version, milliseconds.
        after_ms: i64,
        /// Rounded down to a multiple of this, milliseconds; 1 for not at all.
        floor_ms: i64,
    },
}

/// A text that is no rule for anchors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a rule for anchors; write e.g. \"every 10d\", \"entity + 24h\" or \"entity + \
     24h floor 1d\" (units: m, h, d, w)"
)]
pub struct AnchorsError(String);

impl Default for Anchors {
    fn default() -> Self {
        Anchors::Every {
            stride_ms: 10 * DAY_MS,
        }
    }
}

/// Milliseconds of a duration such as `24h`.
fn parse_duration_ms(text: &str) -> Option<i64> {
    text.parse().ok().map(Span::ms)
}

impl Anchors {
    /// The time between two anchors of an entity, milliseconds; none where each has one of its own.
    pub fn stride_ms(self) -> Option<i64> {
        match self {
            Anchors::Every { stride_ms } => Some(stride_ms),
            Anchors::Entity { .. } => None,
        }
    }
}

impl FromStr for Anchors {
    type Err = AnchorsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let text = text.trim();
            if let Some(stride) = text.strip_prefix("every") {
                return parse_duration_ms(stride)
                    .filter(|ms| *ms > 0)
                    .map(|stride_ms| Anchors::Every { stride_ms });
            }
            let rest = text.strip_prefix("entity")?.trim().strip_prefix('+')?;
            let (after, floor) = rest
                .split_once("floor")
                .map_or((rest, None), |(after, floor)| (after, Some(floor)));
            let floor_ms = match floor {
                Some(floor) => parse_duration_ms(floor).filter(|ms| *ms > 0)?,
                None => 1,
            };
            parse_duration_ms(after).map(|after_ms| Anchors::Entity { after_ms, floor_ms })
        };
        parse().ok_or_else(|| AnchorsError(text.to_owned()))
    }
}

impl TryFrom<String> for Anchors {
    type Error = AnchorsError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Anchors> for String {
    fn from(anchors: Anchors) -> Self {
        let show = Span::from_ms;
        match anchors {
            Anchors::Every { stride_ms } => format!("every {}", show(stride_ms)),
            Anchors::Entity {
                after_ms,
                floor_ms: 1,
            } => format!("entity + {}", show(after_ms)),
            Anchors::Entity { after_ms, floor_ms } => {
                format!("entity + {} floor {}", show(after_ms), show(floor_ms))
            }
        }
    }
}

impl Anchors {
    /// Whether each entity has an anchor of its own.
    pub fn is_of_entities(self) -> bool {
        matches!(self, Anchors::Entity { .. })
    }
    /// The anchor of an entity first known at `since_ms`; `None` for rules about the whole
    /// population.
    pub fn of_entity(self, since_ms: i64) -> Option<i64> {
        match self {
            Anchors::Every { .. } => None,
            Anchors::Entity { after_ms, floor_ms } => {
                Some(((since_ms + after_ms).div_euclid(floor_ms) * floor_ms).max(since_ms))
            }
        }
    }
    /// Anchors of the whole population between two moments, ascending; none for rules about single
    /// entities.
    pub fn between(self, first_ms: i64, last_ms: i64) -> Vec<i64> {
        let Anchors::Every { stride_ms } = self else {
            return Vec::new();
        };
        // An integer hash of the number: spread evenly, the same every time, on whole hours.
        let jitter = |i: i64| {
            let mut x = (i as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x ^= x >> 27;
            let half_hours = (stride_ms / 2 / 3_600_000).max(1) as u64;
            (x % half_hours) as i64 * 3_600_000
        };
        (0..)
            .map(|i| (i, first_ms + i * stride_ms))
            .take_while(|(_, t)| *t <= last_ms)
            .map(|(i, t)| (t + jitter(i)).min(last_ms))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_and_written_back() {
        for (text, expected) in [
            (
                "every 10d",
                Anchors::Every {
                    stride_ms: 10 * DAY_MS,
                },
            ),
            (
                "entity + 24h",
                Anchors::Entity {
                    after_ms: DAY_MS,
                    floor_ms: 1,
                },
            ),
            (
                "entity + 24h floor 1d",
                Anchors::Entity {
                    after_ms: DAY_MS,
                    floor_ms: DAY_MS,
                },
            ),
        ] {
            let anchors: Anchors = text.parse().unwrap();
            assert_eq!(anchors, expected);
            assert_eq!(String::from(anchors).parse::<Anchors>().unwrap(), anchors);
        }
        for text in ["", "every", "every 0d", "entity", "entity + x", "sometimes"] {
            assert!(text.parse::<Anchors>().is_err(), "{text}");
        }
    }

    #[test]
    fn anchors_do_not_favour_a_weekday() {
        let anchors = Anchors::Every {
            stride_ms: 7 * DAY_MS,
        }
        .between(0, 700 * DAY_MS);
        let weekdays: std::collections::BTreeSet<i64> =
            anchors.iter().map(|t| t / DAY_MS % 7).collect();
        assert!(weekdays.len() >= 3, "{weekdays:?}");
        assert!(anchors.windows(2).all(|w| w[0] < w[1]));
    }
}
