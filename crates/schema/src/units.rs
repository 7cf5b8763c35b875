//! Time and probability as types: a moment says which clock it belongs to, a duration is written with its unit.
//!
//! Three clocks meet in one row and must not be mixed up: the event's own time, the time at which the row became known, and the
//! moment that an answer is valid at. A feature that looks at an event time where the known time belongs has read the future.

pub mod as_moment;
pub mod as_span;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Milliseconds of a day.
pub const DAY_MS: i64 = 86_400_000;
/// [`DAY_MS`] for arithmetic on fractions of a day.
pub const DAY_MS_F64: f64 = DAY_MS as f64;

/// The first multiple of a step at or after a moment, milliseconds. `step_ms` is positive.
pub fn at_or_after(ms: i64, step_ms: i64) -> i64 {
    ms.saturating_add(step_ms - 1)
        .div_euclid(step_ms)
        .saturating_mul(step_ms)
}

macro_rules! moment {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(i64);

        impl $name {
            /// The moment `ms` milliseconds after 1970 UTC.
            pub const fn from_ms(ms: i64) -> Self {
                Self(ms)
            }
            /// Milliseconds since 1970 UTC.
            pub const fn ms(self) -> i64 {
                self.0
            }
        }
    };
}

moment! {
    /// The time at which an event happened, as its producer states it.
    EventTime
}
moment! {
    /// The time at which a row could first be read: its Kafka timestamp, or a column or lag of a file.
    KnownTime
}
moment! {
    /// The moment that scores, features and labels are valid at. Only rows known by then may take part.
    AsOf
}

impl AsOf {
    /// Before any row.
    pub const BEGINNING: AsOf = AsOf(i64::MIN);

    /// The time from `event` to this moment, milliseconds; negative for an event that lies ahead.
    pub const fn since(self, event: EventTime) -> i64 {
        self.0.saturating_sub(event.0)
    }
}

/// A duration with millisecond precision, written as `250ms`, `20s`, `5m`, `24h`, `2d` or `1w`; decimals and spelt-out units are read
/// too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(i64);

/// The units that are written, by suffix, longest first, with the other spellings that are read.
const UNITS: [(&str, &[&str], i64); 5] = [
    ("d", &["day", "days"], DAY_MS),
    ("h", &["hr", "hour", "hours"], 3_600_000),
    ("m", &["min", "mins", "minute", "minutes"], 60_000),
    ("s", &["sec", "secs", "second", "seconds"], 1_000),
    ("ms", &["millis", "millisecond", "milliseconds"], 1),
];

/// Milliseconds of a unit; weeks are read and never written.
fn unit_ms(unit: &str) -> Option<i64> {
    if matches!(unit, "w" | "week" | "weeks") {
        return Some(7 * DAY_MS);
    }
    let found = UNITS
        .iter()
        .find(|(suffix, spellings, _)| *suffix == unit || spellings.contains(&unit));
    found.map(|(_, _, ms)| *ms)
}

/// A text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a duration; write a number and a unit, such as 250ms, 20s, 5m, 24h, 2d or 1w"
)]
pub struct SpanError(String);

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);

    /// `ms` milliseconds.
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }
    /// `seconds` seconds.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds * 1_000)
    }
    /// `days` days of 24 hours.
    pub const fn from_days(days: i64) -> Self {
        Self(days * DAY_MS)
    }
    /// Milliseconds.
    pub const fn ms(self) -> i64 {
        self.0
    }
    /// Days of 24 hours, with their fraction.
    pub fn days(self) -> f64 {
        self.0 as f64 / DAY_MS_F64
    }
    /// The standard library's type; a negative duration becomes zero.
    pub fn duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(u64::try_from(self.0).unwrap_or(0))
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let fault = || SpanError(text.to_owned());
        let trimmed = text.trim();
        let split = trimmed
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(fault)?;
        let (number, unit) = trimmed.split_at(split);
        let unit_ms = unit_ms(unit.trim()).ok_or_else(fault)?;
        if let Ok(number) = number.parse::<i64>() {
            return number.checked_mul(unit_ms).map(Span).ok_or_else(fault);
        }
        let number: f64 = number.parse().map_err(|_| fault())?;
        let ms = (number * unit_ms as f64).round();
        // Above 2^53 a double no longer holds every millisecond.
        if ms > 9_007_199_254_740_992.0 {
            return Err(fault());
        }
        Ok(Span(ms as i64))
    }
}

impl fmt::Display for Span {
    /// The largest unit that leaves no fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let whole = UNITS.iter().find(|(_, _, unit_ms)| self.0 % unit_ms == 0);
        let (suffix, _, unit_ms) = whole.expect("a millisecond divides every duration");
        write!(f, "{}{suffix}", self.0 / unit_ms)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    /// Text with a unit, or a whole number of milliseconds, as bundles of the first format hold it.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpanVisitor;
        impl de::Visitor<'_> for SpanVisitor {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"250ms\", \"24h\" or \"2d\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, ms: i64) -> Result<Span, E> {
                Ok(Span(ms))
            }
            fn visit_u64<E: de::Error>(self, ms: u64) -> Result<Span, E> {
                i64::try_from(ms).map(Span).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(SpanVisitor)
    }
}

/// The log odds of a probability: 0 for 0.5, infinite at 0 and 1.
pub fn logit(probability: f64) -> f64 {
    (probability / (1.0 - probability)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_with_their_unit() {
        let cases = [
            ("250ms", 250, "250ms"),
            ("20 s", 20_000, "20s"),
            ("90s", 90_000, "90s"),
            ("60m", 3_600_000, "1h"),
            ("24h", DAY_MS, "1d"),
            ("36h", 36 * 3_600_000, "36h"),
            ("2w", 14 * DAY_MS, "14d"),
            ("0d", 0, "0s"),
            ("1.5 days", 36 * 3_600_000, "36h"),
            ("10 minutes", 600_000, "10m"),
            ("0.25s", 250, "250ms"),
        ];
        for (text, ms, written) in cases {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.ms(), span.to_string()), (ms, written.to_owned()));
            assert_eq!(written.parse(), Ok(span));
        }
    }

    #[test]
    fn a_text_without_a_unit_is_no_duration() {
        for text in [
            "",
            "5",
            "d",
            "5 fortnights",
            "-1d",
            "1.2.3d",
            ".d",
            "9999999999999999999d",
        ] {
            let message = text.parse::<Span>().unwrap_err().to_string();
            assert!(message.contains("250ms"), "{message}");
        }
        assert!("999999999999999w".parse::<Span>().is_err());
    }

    #[test]
    fn a_number_in_an_old_bundle_is_milliseconds() {
        assert_eq!(serde_json::from_str::<Span>("1500").unwrap(), Span(1_500));
        assert_eq!(
            serde_json::from_str::<Span>("\"2d\"").unwrap(),
            Span(2 * DAY_MS)
        );
        assert!(serde_json::from_str::<Span>("1.5").is_err());
        assert_eq!(serde_json::to_string(&Span(1_500)).unwrap(), "\"1500ms\"");
    }
}
