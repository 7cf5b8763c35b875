//! Rows become Avro bytes again, under their table's own schema: what a producer of these records would send.

use apache_avro::Schema;

use crate::avro::cursor::{put_bytes, put_long};
use crate::avro::program::{FieldTarget, targets};
use crate::catalog::shape::{Item, Shape, Symbols};
use crate::catalog::{Catalog, FieldId};
use crate::row::{Operation, Row, Value};

/// A row without an Avro form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A value does not fit its field.
    #[error(
        "table {table}, field {field}, key '{key}': {why}; correct the row, or the field's type in the schema"
    )]
    Field {
        table: String,
        field: String,
        key: String,
        /// The misfit, for people.
        why: String,
    },
    /// A tombstone is a record without a value; there is nothing to encode.
    #[error("table {table}, key '{key}': a deletion has no Avro form; send the key with no value")]
    Delete { table: String, key: String },
}

/// Encodes rows of any table of a catalog.
#[derive(Clone, Debug)]
pub struct RowEncoder {
    tables: Vec<Vec<WrittenField>>,
    names: Vec<String>,
}

#[derive(Clone, Debug)]
struct WrittenField {
    name: String,
    target: FieldTarget,
    union: Option<UnionBranches>,
}

/// The branch numbers of a union.
#[derive(Clone, Copy, Debug)]
struct UnionBranches {
    null: Option<i64>,
    value: i64,
}

impl RowEncoder {
    /// Prepares the tables of a catalog.
    pub fn new(catalog: &Catalog) -> RowEncoder {
        let columns = |table: &crate::catalog::Table| {
            let Schema::Record(record) = &*table.avro else {
                unreachable!("checked on load: a table's schema is a record")
            };
            let column =
                |(target, field): (FieldTarget, &apache_avro::schema::RecordField)| WrittenField {
                    name: field.name.clone(),
                    target,
                    union: union_branches(&field.schema),
                };
            targets(table)
                .into_iter()
                .zip(&record.fields)
                .map(column)
                .collect()
        };
        RowEncoder {
            tables: catalog.tables.iter().map(columns).collect(),
            names: catalog.tables.iter().map(|t| t.name.clone()).collect(),
        }
    }

    /// Appends the row's Avro binary form to `out`.
    ///
    /// # Errors
    /// The row does not fit its schema, or is a deletion; `out` is as before.
    pub fn encode(&self, row: Row<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let table = || self.names[row.table().index()].clone();
        if row.operation() == Operation::Delete {
            return Err(EncodeError::Delete {
                table: table(),
                key: row.key().to_owned(),
            });
        }
        let start = out.len();
        for (i, column) in self.tables[row.table().index()].iter().enumerate() {
            if let Err(why) = put_field(column, row.get(FieldId(i as u16)), out) {
                out.truncate(start);
                return Err(EncodeError::Field {
                    table: table(),
                    field: column.name.clone(),
                    key: row.key().to_owned(),
                    why,
                });
            }
        }
        Ok(())
    }
}

fn union_branches(schema: &Schema) -> Option<UnionBranches> {
    let Schema::Union(union) = schema else {
        return None;
    };
    let branch = |is_null: bool| {
        union
            .variants()
            .iter()
            .position(|v| matches!(v, Schema::Null) == is_null)
            .map(|i| i as i64)
    };
    Some(UnionBranches {
        null: branch(true),
        value: branch(false).expect("checked on load: a union has a type beside null"),
    })
}

fn put_field(column: &WrittenField, value: Value<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    match (value, column.union) {
        (
            Value::Null,
            Some(UnionBranches {
                null: Some(null), ..
            }),
        ) => {
            put_long(null, out);
            return Ok(());
        }
        (Value::Null, _) => return Err("null, but it may not be null".into()),
        (_, Some(branches)) => put_long(branches.value, out),
        (_, None) => {}
    }
    put_value(&column.target.shape, value, out)
}

fn put_value(shape: &Shape, value: Value<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    let misfit = || format!("{value:?} is no {}", shape.describe());
    match (shape, value) {
        (Shape::Bool, Value::Bool(b)) => out.push(u8::from(b)),
        (Shape::Int, _) => put_long(
            i64::from(i32::try_from(whole(value).ok_or_else(misfit)?).map_err(|_| misfit())?),
            out,
        ),
        (Shape::Long, _) => put_long(whole(value).ok_or_else(misfit)?, out),
        (Shape::Float, _) => {
            out.extend_from_slice(&(real(value).ok_or_else(misfit)? as f32).to_le_bytes())
        }
        (Shape::Double, _) => out.extend_from_slice(&real(value).ok_or_else(misfit)?.to_le_bytes()),
        (Shape::Decimal { scale, fixed_bytes }, _) => {
            put_decimal(real(value).ok_or_else(misfit)?, *scale, *fixed_bytes, out)
                .ok_or_else(misfit)?;
        }
        (Shape::Time(unit), Value::Time(ms)) => put_long(unit.of_ms(ms).ok_or_else(misfit)?, out),
        (Shape::Text | Shape::UuidText, Value::Text(text)) => put_bytes(text.as_bytes(), out),
        (Shape::UuidBytes { fixed }, Value::Text(text)) => {
            let bytes = uuid_bytes(text).ok_or_else(misfit)?;
            if *fixed {
                out.extend_from_slice(&bytes)
            } else {
                put_bytes(&bytes, out)
            }
        }
        (Shape::Symbol(symbols), Value::Text(text)) => put_symbol(symbols, text, out)?,
        (Shape::List(item), Value::List(list)) => {
            let count = list.iter().count();
            if count > 0 {
                put_long(count as i64, out);
                for text in list.iter() {
                    match item {
                        Item::Text => put_bytes(text.as_bytes(), out),
                        Item::Symbol(symbols) => put_symbol(symbols, text, out)?,
                    }
                }
            }
            put_long(0, out);
        }
        _ => return Err(misfit()),
    }
    Ok(())
}

/// A whole number, also from a key's digits.
fn whole(value: Value<'_>) -> Option<i64> {
    match value {
        Value::Long(n) => Some(n),
        Value::Text(digits) => digits.parse().ok(),
        _ => None,
    }
}

fn real(value: Value<'_>) -> Option<f64> {
    match value {
        Value::Double(x) => Some(x),
        Value::Long(n) => Some(n as f64),
        _ => None,
    }
}

fn put_symbol(symbols: &Symbols, text: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let index = symbols
        .index_of(text)
        .ok_or_else(|| format!("'{text}' is not a symbol of its enum"))?;
    put_long(index as i64, out);
    Ok(())
}

/// The shortest two's complement form of the unscaled number, or the fixed size filled with its sign.
fn put_decimal(
    value: f64,
    scale: u32,
    fixed_bytes: Option<usize>,
    out: &mut Vec<u8>,
) -> Option<()> {
    let unscaled = (value * 10f64.powi(i32::try_from(scale).ok()?)).round();
    if unscaled.is_nan() || unscaled.abs() >= 1e38 {
        return None;
    }
    let bytes = (unscaled as i128).to_be_bytes();
    let sign = if unscaled < 0.0 { 0xff } else { 0 };
    // A leading byte is only a sign when the byte after it has the same sign.
    let redundant = bytes
        .windows(2)
        .take_while(|pair| pair[0] == sign && (pair[1] ^ sign) & 0x80 == 0)
        .count();
    let short = &bytes[redundant..];
    match fixed_bytes {
        None => put_bytes(short, out),
        Some(size) => {
            out.resize(out.len() + size.checked_sub(short.len())?, sign);
            out.extend_from_slice(short);
        }
    }
    Some(())
}

/// A UUID's text as its 16 bytes.
pub(crate) fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|b| *b != b'-')
        .map(|b| (b as char).to_digit(16).map(|d| d as u8))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect();
    (digits.len() == 32).then_some(bytes)?.try_into().ok()
}
