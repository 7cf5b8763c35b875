//! One value of a record or of a text file becomes a field's value.

use smallvec::SmallVec;

use super::data_node::{DataNode, base64};
use super::moment::time_value;
use super::text::TextRead;
use crate::avro::decode::set_constant;
use crate::avro::program::{FieldTarget, decimal, uuid_text};
use crate::avro::write::uuid_bytes;
use crate::catalog::shape::{Item, Shape, Symbols};
use crate::row::{RowBuilder, Value};

/// The value that was expected instead, for people.
pub(crate) type Expected = String;

/// The largest whole number up to which every other one is a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Sets a field that the file does not have: its default, else null.
pub(crate) fn set_absent(
    target: &FieldTarget,
    builder: &mut RowBuilder<'_>,
) -> Result<(), Expected> {
    let constant = target
        .absent()
        .map_err(|_| "a value: the field may not be null".to_owned())?;
    set_constant(&constant, target.field, builder);
    Ok(())
}

/// Sets a field from an empty cell or a JSON null: null where it may be, an empty list, else its
/// default.
pub(crate) fn set_null(target: &FieldTarget, builder: &mut RowBuilder<'_>) -> Result<(), Expected> {
    match &target.shape {
        _ if target.nullable => builder.set(target.field, Value::Null),
        Shape::List(_) => builder.set_list(target.field, []),
        _ => return set_absent(target, builder),
    }
    Ok(())
}

/// Sets a field from a CSV cell, or from a string in JSON, as the source writes text.
pub(crate) fn set_text(
    target: &FieldTarget,
    text: &str,
    builder: &mut RowBuilder<'_>,
) -> Result<(), Expected> {
    if target.text.is_null(text) {
        return set_null(target, builder)
            .map_err(|why| format!("{why}; the word is one of text.nulls of the source"));
    }
    set_words(target, &target.text, text, builder)
}

/// Sets a field from the digits of a number that was none of the source's text.
fn set_digits(
    target: &FieldTarget,
    digits: &str,
    builder: &mut RowBuilder<'_>,
) -> Result<(), Expected> {
    set_words(target, &TextRead::default(), digits, builder)
}

fn set_words(
    target: &FieldTarget,
    read: &TextRead,
    text: &str,
    builder: &mut RowBuilder<'_>,
) -> Result<(), Expected> {
    let trimmed = text.trim();
    let value = match &target.shape {
        Shape::Bool => Value::Bool(read.truth(trimmed)?),
        Shape::Int | Shape::Long if target.integer_as_text => {
            let whole = whole(read, trimmed, &target.shape)?;
            builder.set(target.field, Value::Text(&whole.to_string()));
            return Ok(());
        }
        Shape::Int | Shape::Long => Value::Long(whole(read, trimmed, &target.shape)?),
        Shape::Float | Shape::Double | Shape::Decimal { .. } => {
            Value::Double(double(read, trimmed)?)
        }
        Shape::Time(_) => time_value(target.time.text(trimmed))?,
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

/// Sets a field from a value of a record.
pub(crate) fn set_node(
    target: &FieldTarget,
    node: &DataNode<'_>,
    builder: &mut RowBuilder<'_>,
) -> Result<(), Expected> {
    let value = match (&target.shape, node) {
        (_, DataNode::Null) => return set_null(target, builder),
        (_, DataNode::Text(text)) => return set_text(target, text, builder),
        (Shape::Time(_), DataNode::Moment(ms)) => time_value(target.time.moment(*ms))?,
        (Shape::Time(_), DataNode::Int(number)) => time_value(target.time.number(*number))?,
        (Shape::Time(_), DataNode::Double(number)) => time_value(target.time.fraction(*number))?,
        (Shape::Bool, DataNode::Bool(value)) => Value::Bool(*value),
        (Shape::Float | Shape::Double | Shape::Decimal { .. }, number) => {
            Value::Double(real(number).ok_or("a number")?)
        }
        (Shape::Bool | Shape::Int | Shape::Long | Shape::Text, DataNode::Int(number)) => {
            return set_digits(target, &number.to_string(), builder);
        }
        (Shape::Bool | Shape::Int | Shape::Long, DataNode::Double(number)) => {
            return set_digits(target, &number.to_string(), builder);
        }
        (Shape::Text, DataNode::Double(number)) => {
            let text = id_text(*number).ok_or("an exact number: write large ids as text")?;
            builder.set(target.field, Value::Text(&text));
            return Ok(());
        }
        (Shape::UuidBytes { .. } | Shape::UuidText, DataNode::Bytes(bytes)) => {
            let text = uuid_text(bytes).ok_or("a uuid of 16 bytes")?;
            builder.set(target.field, Value::Text(&text));
            return Ok(());
        }
        (Shape::List(item), DataNode::List(items)) => {
            let texts: Option<SmallVec<[&str; 16]>> = items.iter().map(DataNode::text).collect();
            let texts = texts.ok_or("an array of strings")?;
            return set_list(target, item, texts.into_iter(), builder);
        }
        (shape, _) => return Err(format!("of the type {}", shape.describe())),
    };
    builder.set(target.field, value);
    Ok(())
}

/// The words for text in a number's place.
fn not_a_number(read: &TextRead, text: &str) -> Expected {
    // Kafka Connect's JsonConverter writes decimals as the base64 of their bytes.
    if text.ends_with('=') && base64(text).is_some() {
        return "a number: it looks like the bytes of a decimal; have the converter write numbers \
                (decimal.format=NUMERIC), or its schemas (schemas.enable=true)"
            .into();
    }
    match read.number_hint(text) {
        Some(hint) => format!("a number; {hint}"),
        None => "a number".into(),
    }
}

/// A number with a fraction. The words `NaN` and `inf` are none.
fn double(read: &TextRead, text: &str) -> Result<f64, Expected> {
    let number: Option<f64> = read.number(text).and_then(|number| number.parse().ok());
    number
        .filter(|number| number.is_finite())
        .ok_or_else(|| not_a_number(read, text))
}

/// A whole number, as the source writes numbers.
fn whole(read: &TextRead, text: &str, shape: &Shape) -> Result<i64, Expected> {
    let number = read.number(text);
    let number = number.and_then(|number| parse_whole(&number, shape));
    number.ok_or_else(|| match read.number_hint(text) {
        Some(hint) => format!("a whole number; {hint}"),
        None => "a whole number".into(),
    })
}

/// A number's text as an id; `None` where a double may stand for several whole numbers.
fn id_text(number: f64) -> Option<String> {
    if number.abs() > EXACT {
        return None;
    }
    serde_json::Number::from_f64(number).map(|number| number.to_string())
}

/// The value of a number, or of a decimal that carries its own scale: a record of `scale` and
/// `value`.
fn real(node: &DataNode<'_>) -> Option<f64> {
    match node {
        DataNode::Int(number) => Some(*number as f64),
        DataNode::Double(number) => Some(*number),
        DataNode::Members(_) => {
            let scale = match node.member("scale")? {
                DataNode::Int(scale) => i32::try_from(*scale).ok()?,
                _ => return None,
            };
            match node.member("value")? {
                DataNode::Bytes(bytes) => Some(decimal(bytes, scale)),
                DataNode::Text(text) => Some(decimal(&base64(text)?, scale)),
                DataNode::Double(number) => Some(*number),
                _ => None,
            }
        }
        _ => None,
    }
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

/// A whole number within its type; `6.0` is one too, since tools that know only floats write it.
fn parse_whole(text: &str, shape: &Shape) -> Option<i64> {
    let whole = text.parse::<i64>().ok().or_else(|| {
        let exact = text
            .parse::<f64>()
            .ok()
            .filter(|x| x.fract() == 0.0 && x.abs() <= EXACT)?;
        Some(exact as i64)
    })?;
    let fits = !matches!(shape, Shape::Int) || i32::try_from(whole).is_ok();
    fits.then_some(whole)
}
