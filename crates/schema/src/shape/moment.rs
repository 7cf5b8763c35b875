//! Times as sources write them: the declared unit or format, the zone, and the range that is
//! believed.
//!
//! A number without a declared unit is never guessed: 1.7e9 is a day of 1970 in milliseconds and a
//! day of 2023 in seconds, and both look right from afar.
//!
//! Decision: docs/decisions/0028-a-shape-before-the-table.md

use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{
    Timestamp,
    fmt::strtime::{self, BrokenDownTime},
};
use serde::{Deserialize, Serialize};

use crate::catalog::shape::TimeUnit;
use crate::row::Value;
use crate::units::DAY_MS;

/// 1900-01-02 UTC, milliseconds. The first of January 1900 stands for "no date" in many programs.
const FROM_MS: i64 = -2_208_902_400_000;
/// 2200-01-01 UTC, milliseconds.
const TO_MS: i64 = 7_258_118_400_000;
/// Half the window around 1970 in which a number is a count or has another unit: seconds of this
/// century, read as milliseconds, end in February 1970.
const NEAR_ZERO_MS: i64 = 57 * DAY_MS;
/// The least bare number of a text file that is read as milliseconds: 1973. Smaller ones may be
/// seconds.
const LEAST_BARE_MS: i128 = 100_000_000_000;

/// The way in which a field's times are written: the value of an entry of `times`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TimeOption {
    /// `seconds`, `millis`, `micros`, `nanos`, `days`, `iso`, or a format such as `%d.%m.%Y %H:%M`.
    Form(String),
    /// The form with its zone and range.
    Full(TimeDetails),
}

/// An entry of `times` with all that may be said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeDetails {
    /// `seconds`, `millis`, `micros`, `nanos` or `days`, since 1970.
    pub unit: Option<String>,
    /// `iso`, or a strftime format.
    pub format: Option<String>,
    /// An IANA zone for text without an offset, such as `Europe/Berlin`; UTC by default.
    pub zone: Option<String>,
    /// The earliest believed date, YYYY-MM-DD; 1900-01-02 by default.
    pub from: Option<String>,
    /// The first date that is not believed any more, YYYY-MM-DD; 2200-01-01 by default.
    pub to: Option<String>,
}

/// The treatment of numbers whose unit nobody declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum BareNumbers {
    #[default]
    Refused,
    /// Text files: milliseconds, where the digits cannot be another unit.
    Millis,
}

#[derive(Clone, Debug, PartialEq)]
enum TimeForm {
    /// Only text with a date, or what the writer's schema declares.
    Undeclared(BareNumbers),
    Unit(TimeUnit),
    Pattern(Box<str>),
}

/// The bounds of believed times, milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeBounds {
    from_ms: i64,
    to_ms: i64,
    near_zero_ms: i64,
    /// True where the field may be null and is not the row's own time: values that stand for "no
    /// date" become null. An own time that is none is a fault.
    pub(crate) no_date_is_null: bool,
}

/// A time that cannot be a field's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TimeFault {
    /// A value that stands for "no date", in a field that may be null.
    NoDate,
    /// The value that was expected instead, for people.
    Expected(String),
}

impl TimeFault {
    /// The words for people.
    pub(crate) fn words(self) -> String {
        match self {
            TimeFault::NoDate => "a date".to_owned(),
            TimeFault::Expected(words) => words,
        }
    }
}

impl From<String> for TimeFault {
    fn from(words: String) -> Self {
        TimeFault::Expected(words)
    }
}

/// The value of a field from a reading of its time.
///
/// # Errors
/// The words for people.
pub(crate) fn time_value(read: Result<i64, TimeFault>) -> Result<Value<'static>, String> {
    match read {
        Ok(ms) => Ok(Value::Time(ms)),
        Err(TimeFault::NoDate) => Ok(Value::Null),
        Err(TimeFault::Expected(words)) => Err(words),
    }
}

/// True for moments that programs write for "never" and "unknown": the first day of the year 1, of
/// 1900 and of 1970, and all of the year 9999.
pub(crate) fn is_no_date(ms: i64) -> bool {
    const DAY_ONE_MS: i64 = -62_135_596_800_000;
    const DAY_1900_MS: i64 = FROM_MS - DAY_MS;
    const YEAR_9999_MS: i64 = 253_370_764_800_000;
    const YEAR_10000_MS: i64 = YEAR_9999_MS + 365 * DAY_MS;
    matches!(ms, DAY_ONE_MS | DAY_1900_MS | 0) || (YEAR_9999_MS..YEAR_10000_MS).contains(&ms)
}

impl TimeBounds {
    /// No bounds.
    pub(crate) const ALL: TimeBounds = TimeBounds {
        from_ms: i64::MIN,
        to_ms: i64::MAX,
        near_zero_ms: 0,
        no_date_is_null: false,
    };
    const PLAUSIBLE: TimeBounds = TimeBounds {
        from_ms: FROM_MS,
        to_ms: TO_MS,
        near_zero_ms: NEAR_ZERO_MS,
        no_date_is_null: false,
    };

    /// True for a time that a number may stand for.
    pub(crate) fn admit_number(self, ms: i64) -> bool {
        self.admit_text(ms) && ms.unsigned_abs() >= self.near_zero_ms as u64
    }
    fn admit_text(self, ms: i64) -> bool {
        (self.from_ms..=self.to_ms).contains(&ms)
    }
    /// The same bounds for a unit that is a whole day: dates near 1970 are dates.
    pub(crate) fn of_unit(self, unit: TimeUnit) -> Self {
        match unit {
            TimeUnit::Days => TimeBounds {
                near_zero_ms: self.near_zero_ms.min(1),
                ..self
            },
            _ => self,
        }
    }
}

/// Reads the times of one field.
#[derive(Clone, Debug)]
pub(crate) struct TimeRead {
    form: TimeForm,
    zone: TimeZone,
    pub(crate) bounds: TimeBounds,
}

impl Default for TimeRead {
    /// Text with a date, any year; numbers only with a unit of the writer's.
    fn default() -> Self {
        TimeRead {
            form: TimeForm::Undeclared(BareNumbers::Refused),
            zone: TimeZone::UTC,
            bounds: TimeBounds::ALL,
        }
    }
}

fn unit_of(name: &str) -> Option<TimeUnit> {
    Some(match name {
        "seconds" | "s" => TimeUnit::Seconds,
        "millis" | "milliseconds" | "ms" => TimeUnit::Millis,
        "micros" | "microseconds" | "us" => TimeUnit::Micros,
        "nanos" | "nanoseconds" | "ns" => TimeUnit::Nanos,
        "days" | "d" => TimeUnit::Days,
        _ => return None,
    })
}

/// The unit's name, as an entry of `times` writes it.
fn name_of(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Seconds => "seconds",
        TimeUnit::Millis => "millis",
        TimeUnit::Micros => "micros",
        TimeUnit::Nanos => "nanos",
        TimeUnit::Days => "days",
    }
}

impl TimeRead {
    /// Believed times only, without a declared unit.
    pub(crate) fn plausible(bare: BareNumbers) -> Self {
        TimeRead {
            form: TimeForm::Undeclared(bare),
            zone: TimeZone::UTC,
            bounds: TimeBounds::PLAUSIBLE,
        }
    }

    /// An entry of `times`.
    ///
    /// # Errors
    /// The words for a person: an unknown unit, format, zone or date.
    pub(crate) fn of(option: &TimeOption) -> Result<Self, String> {
        let details = match option {
            TimeOption::Full(details) => details.clone(),
            TimeOption::Form(form) if unit_of(form).is_some() => TimeDetails {
                unit: Some(form.clone()),
                ..TimeDetails::default()
            },
            TimeOption::Form(form) => TimeDetails {
                format: Some(form.clone()),
                ..TimeDetails::default()
            },
        };
        let form = match (&details.unit, &details.format) {
            (Some(_), Some(_)) => {
                return Err("has a unit and a format; leave one of them out".into());
            }
            (Some(name), None) => TimeForm::Unit(unit_of(name).ok_or_else(|| {
                format!("'{name}' is not a unit; write seconds, millis, micros, nanos or days")
            })?),
            (None, None) => TimeForm::Undeclared(BareNumbers::Refused),
            (None, Some(format)) if format == "iso" => TimeForm::Undeclared(BareNumbers::Refused),
            (None, Some(format)) => pattern(format)?,
        };
        let zone = match &details.zone {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(name)
                .map_err(|_| format!("'{name}' is not a zone; write one such as Europe/Berlin"))?,
        };
        let date = |text: &Option<String>, default_ms: i64| match text {
            None => Ok(default_ms),
            Some(text) => {
                parse_time(text).ok_or_else(|| format!("'{text}' is not a date; write YYYY-MM-DD"))
            }
        };
        Ok(TimeRead {
            form,
            zone,
            bounds: TimeBounds {
                from_ms: date(&details.from, FROM_MS)?,
                to_ms: date(&details.to, TO_MS)?,
                near_zero_ms: if details.from.is_some() {
                    0
                } else {
                    NEAR_ZERO_MS
                },
                no_date_is_null: false,
            },
        })
    }

    /// An entry of `times` that declares a unit by its name alone, as presets do.
    pub(crate) fn of_unit(name: &str) -> Option<Self> {
        let unit = unit_of(name)?;
        Some(TimeRead {
            form: TimeForm::Unit(unit),
            ..Self::plausible(BareNumbers::Refused)
        })
    }

    /// Numbers of a unit within bounds.
    pub(crate) fn in_unit(unit: TimeUnit, bounds: TimeBounds) -> Self {
        TimeRead {
            form: TimeForm::Unit(unit),
            zone: TimeZone::UTC,
            bounds,
        }
    }

    /// The declared unit of numbers.
    pub(crate) fn unit(&self) -> Option<TimeUnit> {
        match self.form {
            TimeForm::Unit(unit) => Some(unit),
            _ => None,
        }
    }

    /// True if numbers are digits of a declared format.
    pub(crate) fn has_format(&self) -> bool {
        matches!(self.form, TimeForm::Pattern(_))
    }

    /// A time whose unit the writer declared.
    pub(crate) fn moment(&self, ms: i64) -> Result<i64, TimeFault> {
        // A writer's date is a moment too, so days near 1970 are believed.
        if self.bounds.admit_text(ms) && ms != 0 || self.bounds == TimeBounds::ALL {
            return Ok(ms);
        }
        Err(self.implausible(ms, None))
    }

    /// A number: of the declared unit, or written by the declared format.
    pub(crate) fn number(&self, number: i128) -> Result<i64, TimeFault> {
        let unit = match &self.form {
            TimeForm::Unit(unit) => *unit,
            TimeForm::Pattern(_) => return self.text(&number.to_string()),
            TimeForm::Undeclared(bare) => {
                let is_millis = *bare == BareNumbers::Millis
                    && (self.bounds == TimeBounds::ALL || number.abs() >= LEAST_BARE_MS);
                if !is_millis {
                    return Err(undeclared(number).into());
                }
                TimeUnit::Millis
            }
        };
        let ms = i64::try_from(number).ok().and_then(|n| unit.to_ms(n));
        match ms {
            Some(ms) if self.bounds.of_unit(unit).admit_number(ms) => Ok(ms),
            Some(ms) => Err(self.implausible(ms, Some((number, unit)))),
            None => Err(format!(
                "a time in {}: the number is beyond all calendars",
                name_of(unit)
            )
            .into()),
        }
    }

    /// A number with a fraction: parts of the declared unit are kept to the millisecond.
    pub(crate) fn fraction(&self, number: f64) -> Result<i64, TimeFault> {
        if number.fract() == 0.0 && number.abs() < 9e15 {
            return self.number(number as i128);
        }
        let Some(unit) = self.unit() else {
            return Err(undeclared(number as i128).into());
        };
        let ms = number * unit.ms_of_one();
        if !ms.is_finite() || ms.abs() >= 9e15 {
            let words = format!("a time in {}: the number is too large", name_of(unit));
            return Err(words.into());
        }
        let ms = ms.floor() as i64;
        match self.bounds.of_unit(unit).admit_number(ms) {
            true => Ok(ms),
            false => Err(self.implausible(ms, Some((number as i128, unit)))),
        }
    }

    /// Text: by the declared format, a number of the declared unit, or a date.
    pub(crate) fn text(&self, text: &str) -> Result<i64, TimeFault> {
        let text = text.trim();
        if let TimeForm::Pattern(pattern) = &self.form {
            let ms = self.by_pattern(pattern, text).ok_or_else(|| {
                let words =
                    format!("a time written as {pattern}, which its entry in times declares");
                TimeFault::from(words)
            })?;
            return self.in_range(ms);
        }
        if self.unit().is_none()
            && let Some(ms) = compact_digits(text, &self.zone)
        {
            return self.in_range(ms);
        }
        if let Ok(number) = text.parse::<i128>() {
            return self.number(number);
        }
        if self.unit().is_some()
            && let Ok(number) = text.parse::<f64>()
        {
            return self.fraction(number);
        }
        let ms =
            date_or_time(text, &self.zone).ok_or_else(|| TimeFault::from(expected_for(text)))?;
        self.in_range(ms)
    }

    fn in_range(&self, ms: i64) -> Result<i64, TimeFault> {
        match self.bounds.admit_text(ms) {
            true => Ok(ms),
            false => Err(self.implausible(ms, None)),
        }
    }

    fn by_pattern(&self, pattern: &str, text: &str) -> Option<i64> {
        let mut parsed = strtime::parse(pattern, text).ok()?;
        let timestamp = match parsed.to_timestamp() {
            Ok(timestamp) => timestamp,
            Err(_) => {
                begin_period(&mut parsed)?;
                let civil = parsed
                    .to_datetime()
                    .or_else(|_| parsed.to_date().map(|date| date.at(0, 0, 0, 0)));
                self.zone.to_timestamp(civil.ok()?).ok()?
            }
        };
        Some(timestamp.as_microsecond().div_euclid(1_000))
    }

    fn implausible(&self, ms: i64, number: Option<(i128, TimeUnit)>) -> TimeFault {
        if self.bounds.no_date_is_null && is_no_date(ms) {
            return TimeFault::NoDate;
        }
        let shown = Timestamp::from_millisecond(ms).map_or_else(
            |_| format!("the year {}", 1970 + ms / (365 * DAY_MS + DAY_MS / 4)),
            |at| at.strftime("%Y-%m-%d").to_string(),
        );
        let hint = match number.and_then(|(number, unit)| Some((likely(number)?, unit))) {
            Some((likely, unit)) if likely != name_of(unit) => format!(
                "the number looks like {likely}: declare it in times = {{ … = \"{likely}\" }}"
            ),
            _ => "a value that stands for no date must be null; a range of one's own is \
                  times = { … = { from = \"…\", to = \"…\" } }"
                .to_owned(),
        };
        format!(
            "a plausible time ({} to {}): it would be {shown}; {hint}",
            day(self.bounds.from_ms),
            day(self.bounds.to_ms)
        )
        .into()
    }
}

fn day(ms: i64) -> String {
    Timestamp::from_millisecond(ms)
        .map_or_else(|_| "any".into(), |at| at.strftime("%Y-%m-%d").to_string())
}

/// The beginning of 1970.
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

const EXPECTED: &str = "a time: milliseconds since 1970, YYYY-MM-DD, YYYY-MM-DD HH:MM[:SS[.fff]] (UTC) or RFC \
                        3339; declare another form in times";

fn pattern(format: &str) -> Result<TimeForm, String> {
    let fault = || {
        format!(
            "'{format}' is neither a unit nor a format; write seconds, millis, micros, nanos, days, iso, \
             or a format such as %d.%m.%Y %H:%M"
        )
    };
    if !format.contains('%') || strtime::format(format, &example()).is_err() {
        return Err(fault());
    }
    Ok(TimeForm::Pattern(format.into()))
}

/// Completes a year, a month or a week (ISO 8601) to its first day. A day that a format writes is
/// left alone, and so is one that it writes by another calendar, such as the day of the year.
fn begin_period(parsed: &mut BrokenDownTime) -> Option<()> {
    let has_day = parsed.day().is_some() || parsed.day_of_year().is_some();
    let has_week = parsed.sunday_based_week().is_some() || parsed.monday_based_week().is_some();
    if has_day || has_week {
        return Some(());
    }
    if parsed.iso_week().is_some() {
        if parsed.weekday().is_none() {
            parsed.set_weekday(Some(Weekday::Monday));
        }
        return Some(());
    }
    if parsed.month().is_none() {
        parsed.set_month(Some(1)).ok()?;
    }
    parsed.set_day(Some(1)).ok()
}

/// Any moment, to try a format with.
fn example() -> jiff::Zoned {
    Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC)
}

/// The words for a number whose unit nobody declared.
pub(crate) fn undeclared(number: i128) -> String {
    let likely = likely(number).unwrap_or("millis");
    format!(
        "a time with a declared unit: a bare number may be of any; it looks like {likely}: declare it in \
         times = {{ … = \"{likely}\" }}"
    )
}

/// The form that a number of today's times most likely has.
fn likely(number: i128) -> Option<&'static str> {
    let size = number.unsigned_abs();
    Some(match size {
        1_500..2_500 => "%Y",
        150_001..250_000 if (1..=12).contains(&(size % 100)) => "%Y%m",
        10_000..100_000 => "days",
        19_000_101..22_000_101 => "%Y%m%d",
        100_000_000..100_000_000_000 => "seconds",
        100_000_000_000..100_000_000_000_000 => "millis",
        100_000_000_000_000..100_000_000_000_000_000 => "micros",
        100_000_000_000_000_000.. => "nanos",
        _ => return None,
    })
}

/// The words for text that is no time. Of a date with slashes or points nobody knows whether its day
/// or its month comes first.
fn expected_for(text: &str) -> String {
    let date = text.split([' ', 'T']).next().unwrap_or(text);
    for sign in ['/', '.', '-'] {
        let parts: Vec<&str> = date.split(sign).collect();
        let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if parts.len() == 3 && parts.iter().all(is_number) && parts[0].len() <= 2 {
            return format!(
                "a time whose day and month can be told apart: declare its form in times, such as \
                 times = {{ … = \"%d{sign}%m{sign}%Y\" }} or \"%m{sign}%d{sign}%Y\""
            );
        }
    }
    let form = match text.len() {
        7 if text.get(4..5) == Some("-") => "%Y-%m",
        8 if text.get(4..6) == Some("-W") => "%G-W%V",
        _ => return EXPECTED.to_owned(),
    };
    format!(
        "a time with a day: declare the form of such periods in times, as in times = {{ … = \"{form}\" }}, \
         which means their first day"
    )
}

/// A date of 8 digits, or of 14 with the time of day, in milliseconds since 1970. As a number of
/// any unit it would be no believed time.
fn compact_digits(text: &str, zone: &TimeZone) -> Option<i64> {
    let is_compact = matches!(text.len(), 8 | 14) && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_near = is_compact && (1900..2200).contains(&text.get(..4)?.parse::<u16>().ok()?);
    is_near.then(|| iso_time(&canonical(text)?, zone)).flatten()
}

/// A date, or a date with a time of day and perhaps an offset; milliseconds since 1970. Without an
/// offset the zone decides. Parts of a millisecond are cut towards the past.
fn date_or_time(text: &str, zone: &TimeZone) -> Option<i64> {
    iso_time(text, zone).or_else(|| iso_time(&canonical(text)?, zone))
}

/// ISO text for times as warehouses and spreadsheets write them: `2024/02/01`, `20240201T081500Z`,
/// `2024-02-01 8:15:00.000 +0000`, `2024-02-01 08:15:00 UTC`. `None` for all others.
fn canonical(text: &str) -> Option<String> {
    if !text.is_ascii() {
        return None;
    }
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (year, month, day, rest) = match text.get(..8) {
        Some(compact) if is_digits(compact) => (&text[..4], &text[4..6], &text[6..8], &text[8..]),
        _ => {
            let date = text.get(..10)?;
            let sign = date.as_bytes()[4];
            if !b"-/".contains(&sign) || date.as_bytes()[7] != sign {
                return None;
            }
            (&date[..4], &date[5..7], &date[8..], &text[10..])
        }
    };
    let rest = rest.trim_start_matches(['T', 't', ' ']);
    let end = rest.find(|c: char| !c.is_ascii_digit() && !":.".contains(c));
    let (time, offset) = rest.split_at(end.unwrap_or(rest.len()));
    let offset = canonical_offset(offset.trim())?;
    if time.is_empty() {
        return offset.is_empty().then(|| format!("{year}-{month}-{day}"));
    }
    let (clock, fraction) = match time.find('.') {
        Some(at) => time.split_at(at),
        None => (time, ""),
    };
    let clock = match clock.split_once(':') {
        Some((hour, rest)) => format!("{hour:0>2}:{rest}"),
        None if clock.len() == 6 => format!("{}:{}:{}", &clock[..2], &clock[2..4], &clock[4..]),
        None if clock.len() == 4 => format!("{}:{}", &clock[..2], &clock[2..]),
        None => return None,
    };
    Some(format!("{year}-{month}-{day}T{clock}{fraction}{offset}"))
}

/// An offset as RFC 3339 has it; empty where there is none.
fn canonical_offset(text: &str) -> Option<String> {
    if matches!(text, "Z" | "z" | "UTC" | "GMT") {
        return Some("Z".into());
    }
    let digits = match text.strip_prefix(['+', '-']) {
        None => return text.is_empty().then(String::new),
        Some(digits) => digits,
    };
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (hours, minutes) = match digits.split_once(':') {
        Some(parts) => parts,
        None if digits.len() == 2 => (digits, "00"),
        None if digits.len() == 4 => digits.split_at(2),
        None => return None,
    };
    let is_offset =
        hours.len() == 2 && minutes.len() == 2 && is_digits(hours) && is_digits(minutes);
    is_offset.then(|| format!("{}{hours}:{minutes}", &text[..1]))
}

/// A time in the forms of ISO 8601 with separators, or with an offset without a colon.
fn iso_time(text: &str, zone: &TimeZone) -> Option<i64> {
    // Only after the date can a sign or a Z be an offset.
    let has_offset = text
        .get(10..)
        .is_some_and(|rest| rest.contains(['Z', 'z', '+', '-']));
    let timestamp: Timestamp = if has_offset {
        let parsed = text.parse().ok().or_else(|| compact_offset(text));
        match parsed {
            Some(timestamp) => timestamp,
            None => {
                let civil = text.get(..19)?.parse::<DateTime>().ok()?;
                return (civil.year() == 9999).then(|| civil_ms(civil))?;
            }
        }
    } else {
        let civil = text.parse::<DateTime>().ok();
        let civil = civil.or_else(|| Some(text.parse::<Date>().ok()?.at(0, 0, 0, 0)));
        let civil = civil?;
        match zone.to_timestamp(civil) {
            Ok(timestamp) => timestamp,
            Err(_) => return civil_ms(civil),
        }
    };
    Some(timestamp.as_microsecond().div_euclid(1_000))
}

/// Milliseconds from 1970 to a civil time. The last day of 9999 is one and no timestamp: somewhere it
/// is 10000 already.
fn civil_ms(civil: DateTime) -> Option<i64> {
    i64::try_from(civil.duration_since(EPOCH).as_millis()).ok()
}

/// An offset without a colon after a space or at once, as `+0000`.
fn compact_offset(text: &str) -> Option<Timestamp> {
    for pattern in [
        "%Y-%m-%dT%H:%M:%S%.f%z",
        "%Y-%m-%d %H:%M:%S%.f%z",
        "%Y-%m-%d %H:%M:%S%.f %z",
    ] {
        if let Ok(found) = Timestamp::strptime(pattern, text) {
            return Some(found);
        }
    }
    None
}

/// A time in milliseconds since 1970, or a date in UTC.
pub fn parse_time(text: &str) -> Option<i64> {
    if let Ok(ms) = text.parse::<i64>() {
        return Some(ms);
    }
    date_or_time(text, &TimeZone::UTC)
}

/// A time in milliseconds since 1970 as ISO 8601 in UTC, which [`parse_time`] reads back: seconds,
/// or milliseconds where there are any. Outside the calendar the number itself.
pub fn utc(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_they_are_read() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_735_689_600_250, "2025-01-01T00:00:00.25Z"),
            (-86_400_000, "1969-12-31T00:00:00Z"),
        ] {
            assert_eq!(utc(ms), text);
            assert_eq!(parse_time(text), Some(ms));
        }
        assert_eq!(parse_time(&utc(i64::MAX)), Some(i64::MAX));
    }

    #[test]
    fn times_are_read_as_utc_unless_they_say_otherwise() {
        let cases = [
            ("1262336100000", Some(1_262_336_100_000)),
            ("-1", Some(-1)),
            ("2010-01-01", Some(1_262_304_000_000)),
            ("2010-01-01 08:55", Some(1_262_336_100_000)),
            ("2010-01-01 08:55:00", Some(1_262_336_100_000)),
            ("2010-01-01T08:55:00.25", Some(1_262_336_100_250)),
            ("2010-01-01 08:55:00.0019", Some(1_262_336_100_001)),
            ("2010-01-01T08:55:00Z", Some(1_262_336_100_000)),
            ("2010-01-01T10:55:00+02:00", Some(1_262_336_100_000)),
            ("2010-01-01 03:55:00-05:00", Some(1_262_336_100_000)),
            ("2010-01-01T08:55:00.000+0000", Some(1_262_336_100_000)),
            ("1969-12-31 23:59:59.9999", Some(-1)),
            ("2010-01-01 08:55:00.000 +0000", Some(1_262_336_100_000)),
            ("2010-01-01 10:55:00 +02", Some(1_262_336_100_000)),
            ("2010-01-01 03:55:00 -05:00", Some(1_262_336_100_000)),
            ("2010-01-01 08:55:00.250 UTC", Some(1_262_336_100_250)),
            ("2010-01-01 08:55 Z", Some(1_262_336_100_000)),
            ("2010-01-01T08:55:00+00", Some(1_262_336_100_000)),
            ("2010-01-01 8:55:00", Some(1_262_336_100_000)),
            ("2010-01-01 8:55", Some(1_262_336_100_000)),
            ("2010/01/01", Some(1_262_304_000_000)),
            ("2010/01/01 08:55:00", Some(1_262_336_100_000)),
            ("20100101T085500Z", Some(1_262_336_100_000)),
            ("20100101T0855", Some(1_262_336_100_000)),
            ("20100101 085500.25", Some(1_262_336_100_250)),
            ("2010-01-01 8:55:00 PM", None),
            ("2010-01-01 08:55:00 CET", None),
            ("2010-01-01 25:00:00", None),
            ("2010-01/01", None),
            ("2010-01-01 085", None),
            ("2010-02-30", None),
            ("01/02/2010", None),
            ("soon", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_time(text), expected, "{text}");
        }
    }

    fn read(option: &str) -> TimeRead {
        let option: TimeOption = serde_json::from_str(option).unwrap();
        TimeRead::of(&option).unwrap()
    }

    #[test]
    fn a_declared_unit_or_format_decides() {
        let at = 1_700_000_000_000;
        for (option, number) in [
            ("\"seconds\"", 1_700_000_000_i128),
            ("\"millis\"", 1_700_000_000_000),
            ("\"micros\"", 1_700_000_000_000_999),
            ("\"nanos\"", 1_700_000_000_000_999_999),
        ] {
            assert_eq!(read(option).number(number), Ok(at), "{option}");
            assert_eq!(read(option).text(&number.to_string()), Ok(at), "{option}");
        }
        assert_eq!(read("\"days\"").number(1), Ok(DAY_MS));
        assert_eq!(read("\"seconds\"").fraction(1_700_000_000.25), Ok(at + 250));
        assert_eq!(read("\"%Y%m%d\"").number(20_240_201), Ok(1_706_745_600_000));
        let berlin = r#"{"format": "%d.%m.%Y %H:%M", "zone": "Europe/Berlin"}"#;
        assert_eq!(read(berlin).text("01.02.2024 01:00"), Ok(1_706_745_600_000));
        let iso = r#"{"format": "iso", "zone": "Europe/Berlin"}"#;
        assert_eq!(read(iso).text("2024-02-01T01:00"), Ok(1_706_745_600_000));
        assert_eq!(read(iso).text("2024-02-01T00:00Z"), Ok(1_706_745_600_000));
    }

    #[test]
    fn a_bare_number_is_refused_and_its_likely_unit_named() {
        let strict = TimeRead::plausible(BareNumbers::Refused);
        let files = TimeRead::plausible(BareNumbers::Millis);
        for (number, likely) in [
            (19_700, "days"),
            (20_240_201, "%Y%m%d"),
            (1_700_000_000, "seconds"),
            (1_700_000_000_000, "millis"),
            (1_700_000_000_000_000, "micros"),
            (1_700_000_000_000_000_000, "nanos"),
        ] {
            let why = strict.number(number).unwrap_err().words();
            assert!(
                why.contains(&format!("\"{likely}\"")) && why.contains("times"),
                "{why}"
            );
            if likely == "%Y%m%d" {
                assert_eq!(strict.text(&number.to_string()), Ok(1_706_745_600_000));
            } else {
                assert_eq!(strict.text(&number.to_string()), Err(why.into()));
            }
            if likely == "millis" {
                assert_eq!(files.number(number), Ok(number as i64));
            } else {
                let why = files.number(number).unwrap_err().words();
                assert!(why.contains(likely), "{why}");
            }
        }
    }

    #[test]
    fn digits_of_a_date_are_read_and_the_order_of_day_and_month_is_never_guessed() {
        let files = TimeRead::plausible(BareNumbers::Millis);
        assert_eq!(files.text("20240201"), Ok(1_706_745_600_000));
        assert_eq!(files.text("20240201081500"), Ok(1_706_775_300_000));
        assert!(files.text("20241301").is_err() && files.text("20240201250000").is_err());
        assert_eq!(
            read("\"seconds\"").text("1706745600"),
            Ok(1_706_745_600_000)
        );
        for (text, form) in [
            ("02/01/2024", "%d/%m/%Y"),
            ("1.2.2024 08:15", "%d.%m.%Y"),
            ("02-01-2024", "%m-%d-%Y"),
        ] {
            let why = files.text(text).unwrap_err().words();
            assert!(why.contains(form) && why.contains("times"), "{text}: {why}");
        }
    }

    #[test]
    fn times_outside_the_plausible_range_are_refused() {
        let millis = read("\"millis\"");
        for (number, shown) in [
            (1_700_000_000_000_000, "the year 55"),
            (1_700_000_000, "1970-01-20"),
            (0, "1970-01-01"),
            (253_402_214_400_000, "9999"),
        ] {
            let why = millis.number(number).unwrap_err().words();
            assert!(why.contains(shown), "{why}");
        }
        assert!(
            millis
                .number(1_700_000_000_000_000)
                .unwrap_err()
                .words()
                .contains("micros")
        );
        for text in ["0001-01-01", "1900-01-01", "9999-12-31 23:59:59"] {
            assert!(
                millis.text(text).unwrap_err().words().contains("plausible"),
                "{text}"
            );
        }
        assert_eq!(millis.text("1926-05-01"), Ok(-1_378_166_400_000));
        let wide = read(r#"{"unit": "millis", "from": "1500-01-01", "to": "3000-01-01"}"#);
        assert_eq!(wide.number(0), Ok(0));
    }

    #[test]
    fn a_period_is_its_first_day() {
        let read = |option: &str| TimeRead::of(&serde_json::from_str(option).unwrap()).unwrap();
        for (option, text, day) in [
            ("\"%Y\"", "1999", "1999-01-01"),
            ("\"%Y-%m\"", "2024-02", "2024-02-01"),
            ("\"%b %Y\"", "Mar 2021", "2021-03-01"),
            ("\"%Y%m\"", "202112", "2021-12-01"),
            ("\"%G-W%V\"", "2024-W01", "2024-01-01"),
            ("\"%G-W%V\"", "2020-W53", "2020-12-28"),
            ("\"%G-W%V-%u\"", "2024-W01-3", "2024-01-03"),
            ("\"%Y-%j\"", "2024-060", "2024-02-29"),
            ("\"%Y-%m-%d\"", "2024-02-29", "2024-02-29"),
        ] {
            let found = read(option)
                .text(text)
                .unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
            assert_eq!(Some(found), parse_time(day), "{option} {text}");
        }
        assert_eq!(read("\"%Y\"").number(1999).ok(), parse_time("1999-01-01"));
        assert_eq!(
            read("\"%Y\"").fraction(1999.0).ok(),
            parse_time("1999-01-01")
        );
        let berlin = r#"{"format": "%Y-%m", "zone": "Europe/Berlin"}"#;
        assert_eq!(
            read(berlin).text("2024-02").ok(),
            parse_time("2024-01-31T23:00:00Z")
        );
        for (option, text) in [
            ("\"%Y-%m\"", "2024-13"),
            ("\"%Y\"", "24"),
            ("\"%m\"", "02"),
            ("\"%H:%M\"", "08:15"),
        ] {
            assert!(read(option).text(text).is_err(), "{option} {text}");
        }
    }

    #[test]
    fn a_period_without_a_form_is_refused_with_its_form() {
        let undeclared = TimeRead::plausible(BareNumbers::Millis);
        for (text, form) in [
            ("1999", "%Y"),
            ("202402", "%Y%m"),
            ("2024-02", "%Y-%m"),
            ("2024-W07", "%G-W%V"),
        ] {
            let fault = undeclared.text(text).unwrap_err().words();
            assert!(fault.contains(&format!("\"{form}\"")), "{text}: {fault}");
        }
    }

    #[test]
    fn an_entry_that_means_nothing_is_refused() {
        for option in [
            "\"fortnights\"",
            r#"{"unit": "months"}"#,
            r#"{"unit": "millis", "format": "iso"}"#,
            r#"{"zone": "Europe/Nowhere"}"#,
            r#"{"from": "tomorrow"}"#,
            "\"%&\"",
        ] {
            let option: TimeOption = serde_json::from_str(option).unwrap();
            assert!(TimeRead::of(&option).is_err(), "{option:?}");
        }
    }
}
