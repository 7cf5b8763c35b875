//! Dates as text and calendar months, in UTC.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use leadpulse_schema::units::DAY_MS;

/// The length of the date (and time of day, when one follows) that `text` starts with, in bytes; 0
/// when it starts with none. `2025-01-31`, `2025-01-31 08:30:00`, `2025-01-31T08:30:00.250Z`.
pub(crate) fn date_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    if !matches_shape(bytes, b"0000-00-00") {
        return 0;
    }
    let time = &bytes[10..];
    if !(time.first().is_some_and(|b| *b == b' ' || *b == b'T')
        && matches_shape(&time[1..], b"00:00:00"))
    {
        return 10;
    }
    let mut length = 19;
    if bytes.get(length) == Some(&b'.') {
        let digits = bytes[length + 1..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count();
        if digits > 0 {
            length += 1 + digits;
        }
    }
    if bytes.get(length) == Some(&b'Z') {
        length += 1;
    }
    length
}

fn matches_shape(bytes: &[u8], shape: &[u8]) -> bool {
    bytes.len() >= shape.len()
        && shape.iter().zip(bytes).all(|(s, b)| {
            if *s == b'0' {
                b.is_ascii_digit()
            } else {
                s == b
            }
        })
}

/// Milliseconds since 1970 UTC of a text that is a date and nothing else; `None` when it is none or
/// no such day exists. Fractions finer than a millisecond are cut.
pub(crate) fn parse_date(text: &str) -> Option<i64> {
    if text.is_empty() || date_length(text) != text.len() {
        return None;
    }
    let plain = text.strip_suffix('Z').unwrap_or(text);
    let moment: DateTime = if plain.len() == 10 {
        plain.parse::<Date>().ok()?.at(0, 0, 0, 0)
    } else {
        plain.parse().ok()?
    };
    Some(
        moment
            .to_zoned(TimeZone::UTC)
            .ok()?
            .timestamp()
            .as_millisecond(),
    )
}

/// The date as a query has it: the day alone when it is midnight, milliseconds only when there are
/// any.
pub(crate) fn format_date(ms: i64) -> String {
    let Ok(moment) = Timestamp::from_millisecond(ms) else {
        return ms.to_string();
    };
    let moment = TimeZone::UTC.to_datetime(moment);
    let day = moment.date();
    let time = moment.time();
    match (
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond(),
    ) {
        (0, 0, 0, 0) => day.to_string(),
        (hour, minute, second, 0) => format!("{day} {hour:02}:{minute:02}:{second:02}"),
        (hour, minute, second, millisecond) => {
            format!("{day} {hour:02}:{minute:02}:{second:02}.{millisecond:03}")
        }
    }
}

/// The same time of day `months` calendar months later (earlier, when negative); a day the month
/// does not have becomes its last. Outside the calendar (years -9999 to 9999) months count 31 days.
pub(crate) fn add_months(ms: i64, months: i64) -> i64 {
    let shifted = Timestamp::from_millisecond(ms)
        .ok()
        .and_then(|moment| {
            moment
                .to_zoned(TimeZone::UTC)
                .checked_add(Span::new().try_months(months).ok()?)
                .ok()
        })
        .map(|moment| moment.timestamp().as_millisecond());
    // Beyond the calendar a date is a mistake in the data; the query still needs an answer, not a
    // panic.
    shifted.unwrap_or_else(|| ms.saturating_add(months.saturating_mul(31 * DAY_MS)))
}

/// The longest time that so many calendar months last, milliseconds: 31 days for one, 62 for two,
/// 366 for twelve. `months` is at most 1,200.
pub(crate) fn longest_months_ms(months: i64) -> i64 {
    // Four years from 1996 hold every length: nothing up to 1,200 months on meets the year 2100,
    // which has no 29 February.
    const FROM_MONTHS: i64 = (1996 - 1970) * 12;
    (FROM_MONTHS..FROM_MONTHS + 48)
        .map(|month| add_months(0, month + months) - add_months(0, month))
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        parse_date(text).unwrap()
    }

    #[test]
    fn dates_are_read_and_written_back() {
        assert_eq!(at("1970-01-01"), 0);
        assert_eq!(at("1970-01-02 00:00:01.5"), 86_401_500);
        assert_eq!(at("2025-01-01T10:20:30Z"), at("2025-01-01 10:20:30"));
        for text in [
            "2025-01-01",
            "2024-02-29 23:59:59",
            "0001-01-01 00:00:00.001",
        ] {
            assert_eq!(format_date(at(text)), text);
        }
        for text in [
            "2025-02-29",
            "2025-13-01",
            "2025-1-1",
            "",
            "2025-01-01x",
            "2025-01-01 25:00:00",
        ] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }

    #[test]
    fn months_follow_the_calendar() {
        assert_eq!(
            add_months(at("2024-01-31 10:00:00"), 1),
            at("2024-02-29 10:00:00")
        );
        assert_eq!(add_months(at("2025-11-30"), 3), at("2026-02-28"));
        assert_eq!(add_months(at("2025-03-31"), -1), at("2025-02-28"));
    }

    #[test]
    fn months_last_as_long_as_the_calendar_says() {
        for (months, days) in [
            (0, 0),
            (1, 31),
            (2, 62),
            (3, 92),
            (6, 184),
            (12, 366),
            (24, 731),
            (1_200, 36_525),
        ] {
            assert_eq!(longest_months_ms(months), days * DAY_MS, "{months} months");
        }
    }
}
