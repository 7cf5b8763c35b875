//! Versions: values of a field that orders the rows of one key, whatever order they arrive in.

use std::cmp::Ordering;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::row::Value;

/// A value of a table's version field, owned. Versions of one field have a total order.
///
/// Numbers and times are compared as such. Texts are read first: digits are a whole number of any
/// length (a sequence number, an SCN), a date with a time of day is a moment, to the nanosecond and
/// in UTC unless an offset is given. Other texts are compared byte by byte. Where one field mixes
/// them, other texts come before moments, and moments before numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Version(Stamp);

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Stamp {
    Text(Box<str>),
    /// Seconds since 1970, and nanoseconds with the sign of the seconds.
    Moment(i64, i32),
    /// Digits without leading zeros.
    Digits(Box<str>),
    Long(i64),
    Double(f64),
}

impl Version {
    /// The version that a value stands for; `None` for null, for an empty text, and for values
    /// that have no order: truth values, lists, NaN.
    pub fn of(value: Value<'_>) -> Option<Self> {
        let stamp = match value {
            Value::Long(number) | Value::Time(number) => Stamp::Long(number),
            Value::Double(number) if !number.is_nan() => Stamp::Double(number),
            Value::Text(text) if !text.trim().is_empty() => Stamp::of_text(text.trim()),
            _ => return None,
        };
        Some(Self(stamp))
    }
}

impl Stamp {
    fn of_text(text: &str) -> Self {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Self::Digits(text.trim_start_matches('0').into());
        }
        moment(text).map_or_else(
            || Self::Text(text.into()),
            |at| Self::Moment(at.as_second(), at.subsec_nanosecond()),
        )
    }

    /// The place of a kind where one field mixes several.
    fn rank(&self) -> u8 {
        match self {
            Self::Text(_) => 0,
            Self::Moment(..) => 1,
            Self::Digits(_) => 2,
            Self::Long(_) => 3,
            Self::Double(_) => 4,
        }
    }
}

/// A date with a time of day. Moments as text are not in byte order: `…:00Z` follows `…:00.5Z`
/// there, and offsets do not count.
fn moment(text: &str) -> Option<Timestamp> {
    let is_dated = text.as_bytes().get(4) == Some(&b'-');
    let rest = text.get(10..).filter(|rest| is_dated && !rest.is_empty())?;
    // Only after the date can a sign or a Z be an offset.
    if rest.contains(['Z', 'z', '+', '-']) {
        return text.parse().ok();
    }
    let local: DateTime = text.parse().ok()?;
    TimeZone::UTC.to_timestamp(local).ok()
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Stamp::Text(a), Stamp::Text(b)) => a.cmp(b),
            (Stamp::Moment(a, a_ns), Stamp::Moment(b, b_ns)) => (a, a_ns).cmp(&(b, b_ns)),
            (Stamp::Digits(a), Stamp::Digits(b)) => a.len().cmp(&b.len()).then(a.cmp(b)),
            (Stamp::Long(a), Stamp::Long(b)) => a.cmp(b),
            // Adding 0 makes one value of −0 and 0.
            (Stamp::Double(a), Stamp::Double(b)) => (a + 0.0).total_cmp(&(b + 0.0)),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_numbers_moments_or_bytes() {
        let text = Value::Text;
        let ascending = [
            (Value::Long(-1), Value::Long(3)),
            (Value::Long(i64::MAX - 1), Value::Long(i64::MAX)),
            (Value::Time(5), Value::Time(6)),
            (Value::Double(-0.5), Value::Double(1e300)),
            (text("9"), text("10")),
            (text("0099"), text("100")),
            (text("18446744073709551616"), text("18446744073709551617")),
            (text("2026-01-01T00:00:00Z"), text("2026-01-01T00:00:00.5Z")),
            (
                text("2026-01-01T00:00:00.000001Z"),
                text("2026-01-01T00:00:00.000002Z"),
            ),
            (
                text("2026-01-01T02:00:00+02:00"),
                text("2026-01-01T00:00:01Z"),
            ),
            (text("2026-01-01"), text("2026-01-02")),
            (text("00000a27:0003"), text("00000b00:0001")),
            (text("v1"), text("v2")),
            (text("soon"), text("2026-01-01T00:00:00Z")),
            (text("2026-01-01T00:00:00Z"), text("1")),
        ];
        for (older, newer) in ascending {
            let (a, b) = (Version::of(older).unwrap(), Version::of(newer).unwrap());
            assert!(a < b, "{older:?} < {newer:?}");
        }
    }

    #[test]
    fn equal_versions_may_be_written_differently() {
        for (one, other) in [
            (Value::Text("007"), Value::Text("7")),
            (Value::Double(0.0), Value::Double(-0.0)),
            (
                Value::Text("2026-01-01T00:00:00Z"),
                Value::Text("2026-01-01 02:00:00.000+02:00"),
            ),
        ] {
            assert_eq!(Version::of(one), Version::of(other));
        }
    }

    #[test]
    fn values_without_an_order_are_no_versions() {
        for value in [
            Value::Null,
            Value::Text(""),
            Value::Text(" "),
            Value::Bool(true),
            Value::Double(f64::NAN),
        ] {
            assert_eq!(Version::of(value), None, "{value:?}");
        }
    }
}
