//! One value of a text file becomes a field's value.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::Value as Json;
use smallvec::SmallVec;

use crate::avro::decode::set_constant;
use crate::avro::program::{FieldTarget, uuid_text};
use crate::avro::write::uuid_bytes;
use crate::catalog::shape::{Item, Shape, Symbols};
use crate::row::{RowBuilder, Value};

/// The value that was expected instead, for people.
pub(super) type Expected = String;

const TIME: &str =
    "a time: milliseconds since 1970, YYYY-MM-DD, YYYY-MM-DD HH:MM[:SS[.fff]] (UTC) or RFC 3339";

/// Sets a field that the file does not have: its default, else null.
pub(super) fn set_absent(
    target: &FieldTarget,
    builder: &mut RowBuilder<'_>,
) -> Result<(), Expected> {
    let constant = target
        .absent()
        .map_err(|_| "a value: the field may not be null".to_owned())?;
    set_constant(&constant, target.field, builder);
    Ok(())
}

/// Sets a field from an empty cell or a JSON null: null where it may be, an empty list, else its default.
pub(super) fn set_null(target: &FieldTarget, builder: &mut RowBuilder<'_>) -> Result<(), Expected> {
    match &target.shape {
        _ if target.nullable => builder.set(target.field, Value::Null),
        Shape::List(_) => builder.set_list(target.field, []),
        _ => return set_absent(target, builder),
    }
    Ok(())
}

/// Sets a field from a CSV cell, or from a string in JSON.
pub(super) fn set_text(
    target: &FieldTarget,
    text: &str,
    builder: &mut RowBuilder<'_>,
) -> Result<(), Expected> {
    let trimmed = text.trim();
    let value = match &target.shape {
        Shape::Bool => Value::Bool(parse_bool(trimmed).ok_or("true, false, 1 or 0")?),
        Shape::Int | Shape::Long if target.integer_as_text => {
            let whole = parse_whole(trimmed, &target.shape).ok_or("a whole number")?;
            builder.set(target.field, Value::Text(&whole.to_string()));
            return Ok(());
        }
        Shape::Int | Shape::Long => {
            Value::Long(parse_whole(trimmed, &target.shape).ok_or("a whole number")?)
        }
        Shape::Float | Shape::Double | Shape::Decimal { .. } => {
            Value::Double(trimmed.parse().map_err(|_| "a number")?)
        }
        Shape::Time(_) => Value::Time(parse_time(trimmed).ok_or(TIME)?),
        Shape::Text | Shape::UuidText => Value::Text(text),
        Shape::UuidBytes { .. } => {
            let canonical = uuid_bytes(trimmed)
                .and_then(|bytes| uuid_text(&bytes))
                .ok_or("a uuid")?;
            builder.set(target.field, Value::Text(&canonical));
            return Ok(());
        }
        Shape::Symbol(symbols) => Value::Text(resolve(symbols, text)?),
        Shape::List(item) => {
            let parts = text
                .split([';', '|'])
                .map(str::trim)
                .filter(|part| !part.is_empty());
            return set_list(target, item, parts, builder);
        }
    };
    builder.set(target.field, value);
    Ok(())
}

/// Sets a field from a JSON value that is not null.
pub(super) fn set_json(
    target: &FieldTarget,
    json: &Json,
    builder: &mut RowBuilder<'_>,
) -> Result<(), Expected> {
    let value = match (&target.shape, json) {
        (_, Json::String(text)) => return set_text(target, text, builder),
        (Shape::Bool, Json::Bool(b)) => Value::Bool(*b),
        // An id that is a number in JSON and a string in the schema, or a flag or time that is a number.
        (Shape::Float | Shape::Double | Shape::Decimal { .. }, Json::Number(number)) => {
            Value::Double(number.as_f64().ok_or("a number")?)
        }
        (
            Shape::Bool | Shape::Int | Shape::Long | Shape::Time(_) | Shape::Text,
            Json::Number(number),
        ) => {
            return set_text(target, &number.to_string(), builder);
        }
        (Shape::List(item), Json::Array(items)) => {
            let texts: Option<SmallVec<[&str; 16]>> = items.iter().map(Json::as_str).collect();
            return set_list(
                target,
                item,
                texts.ok_or("an array of strings")?.into_iter(),
                builder,
            );
        }
        (shape, _) => return Err(format!("of the type {}", shape.describe())),
    };
    builder.set(target.field, value);
    Ok(())
}

fn set_list<'t>(
    target: &FieldTarget,
    item: &Item,
    parts: impl Iterator<Item = &'t str>,
    builder: &mut RowBuilder<'_>,
) -> Result<(), Expected> {
    match item {
        Item::Text => builder.set_list(target.field, parts),
        Item::Symbol(symbols) => {
            let resolved: SmallVec<[&str; 16]> = parts
                .map(|part| resolve(symbols, part))
                .collect::<Result<_, _>>()?;
            builder.set_list(target.field, resolved);
        }
    }
    Ok(())
}

fn resolve<'s>(symbols: &'s Symbols, text: &str) -> Result<&'s str, Expected> {
    symbols
        .resolve(text)
        .ok_or_else(|| format!("one of {}", symbols.symbols.join(", ")))
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" => Some(true),
        "0" => Some(false),
        other if other.eq_ignore_ascii_case("true") => Some(true),
        other if other.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// A whole number within its type; `6.0` is one too, since tools that know only floats write it.
fn parse_whole(text: &str, shape: &Shape) -> Option<i64> {
    let whole = text.parse::<i64>().ok().or_else(|| {
        let exact = text
            .parse::<f64>()
            .ok()
            .filter(|x| x.fract() == 0.0 && x.abs() <= 9_007_199_254_740_992.0)?;
        Some(exact as i64)
    })?;
    let fits = !matches!(shape, Shape::Int) || i32::try_from(whole).is_ok();
    fits.then_some(whole)
}

/// A time in milliseconds since 1970; parts of a millisecond are cut towards the past.
pub fn parse_time(text: &str) -> Option<i64> {
    if let Ok(ms) = text.parse::<i64>() {
        return Some(ms);
    }
    // Only after the date can a sign or a Z be an offset.
    let has_offset = text
        .get(10..)
        .is_some_and(|rest| rest.contains(['Z', 'z', '+', '-']));
    let timestamp: Timestamp = if has_offset {
        text.parse().ok()?
    } else {
        TimeZone::UTC
            .to_timestamp(text.parse::<DateTime>().ok()?)
            .ok()?
    };
    Some(timestamp.as_microsecond().div_euclid(1_000))
}

#[cfg(test)]
mod tests {
    use super::parse_time;

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
            ("1969-12-31 23:59:59.9999", Some(-1)),
            ("2010-02-30", None),
            ("01/02/2010", None),
            ("soon", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_time(text), expected, "{text}");
        }
    }
}
