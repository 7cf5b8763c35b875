//! The Avro types a table's field may have, and what values they become in a row.

use apache_avro::Schema;
use apache_avro::schema::{EnumSchema, InnerDecimalSchema, UuidSchema};

use crate::catalog::DataType;
use crate::units::DAY_MS;

/// A field's Avro type without its union with null: what decoding, files and writing work from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    Bool,
    Int,
    Long,
    Float,
    Double,
    Decimal {
        scale: u32,
        fixed_bytes: Option<usize>,
    },
    Time(TimeUnit),
    Text,
    UuidText,
    UuidBytes {
        fixed: bool,
    },
    Symbol(Symbols),
    List(Item),
}

/// The type of a list's items.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    Text,
    Symbol(Symbols),
}

/// An enum's symbols, and the one that stands for symbols the reader does not know.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Symbols {
    pub(crate) symbols: Vec<String>,
    pub(crate) default: Option<String>,
}

impl Symbols {
    fn of(schema: &EnumSchema) -> Self {
        Symbols {
            symbols: schema.symbols.clone(),
            default: schema.default.clone(),
        }
    }
    /// The symbol this text means to us: itself, else the enum's default, if it has one.
    pub(crate) fn resolve(&self, text: &str) -> Option<&str> {
        self.symbols
            .iter()
            .find(|s| *s == text)
            .or(self.default.as_ref())
            .map(String::as_str)
    }
    /// The symbol's number in the schema.
    pub(crate) fn index_of(&self, text: &str) -> Option<usize> {
        self.symbols.iter().position(|s| s == text)
    }
}

/// The unit of an Avro time: rows hold milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeUnit {
    /// Of a source's declaration; no Avro type has seconds.
    Seconds,
    Millis,
    Micros,
    Nanos,
    /// `date`: an `int` of days.
    Days,
}

impl TimeUnit {
    /// Milliseconds since 1970; parts of a millisecond are cut towards the past. `None` when the
    /// year is beyond all calendars.
    pub(crate) fn to_ms(self, value: i64) -> Option<i64> {
        match self {
            TimeUnit::Seconds => value.checked_mul(1_000),
            TimeUnit::Millis => Some(value),
            TimeUnit::Micros => Some(value.div_euclid(1_000)),
            TimeUnit::Nanos => Some(value.div_euclid(1_000_000)),
            TimeUnit::Days => value.checked_mul(DAY_MS),
        }
    }
    /// Milliseconds of one unit.
    pub(crate) fn ms_of_one(self) -> f64 {
        match self {
            TimeUnit::Seconds => 1e3,
            TimeUnit::Millis => 1.0,
            TimeUnit::Micros => 1e-3,
            TimeUnit::Nanos => 1e-6,
            TimeUnit::Days => DAY_MS as f64,
        }
    }
    /// The Avro value for milliseconds since 1970; a date loses the time of day.
    pub(crate) fn of_ms(self, ms: i64) -> Option<i64> {
        match self {
            TimeUnit::Seconds => Some(ms.div_euclid(1_000)),
            TimeUnit::Millis => Some(ms),
            TimeUnit::Micros => ms.checked_mul(1_000),
            TimeUnit::Nanos => ms.checked_mul(1_000_000),
            TimeUnit::Days => i32::try_from(ms.div_euclid(DAY_MS)).ok().map(i64::from),
        }
    }
}

/// The unit of a logical time type, if the schema is one.
pub(crate) fn time_unit(schema: &Schema) -> Option<TimeUnit> {
    match schema {
        Schema::TimestampMillis | Schema::LocalTimestampMillis => Some(TimeUnit::Millis),
        Schema::TimestampMicros | Schema::LocalTimestampMicros => Some(TimeUnit::Micros),
        Schema::TimestampNanos | Schema::LocalTimestampNanos => Some(TimeUnit::Nanos),
        Schema::Date => Some(TimeUnit::Days),
        _ => None,
    }
}

/// A type that cannot be a field of a table.
#[derive(Debug)]
pub(crate) struct Unsupported {
    pub(crate) what: String,
    pub(crate) hint: &'static str,
}

impl Shape {
    /// The shape of a reader field's type, and whether it allows null.
    /// `named` looks up a named type defined earlier in the same file.
    pub(crate) fn of<'s>(
        schema: &'s Schema,
        named: &impl Fn(&Schema) -> Option<&'s Schema>,
    ) -> Result<(Shape, bool), Unsupported> {
        let Schema::Union(union) = schema else {
            return Ok((Self::of_plain(schema, named)?, false));
        };
        let nullable = union.variants().iter().any(|v| matches!(v, Schema::Null));
        let others: Vec<&Schema> = union
            .variants()
            .iter()
            .filter(|v| !matches!(v, Schema::Null))
            .collect();
        match others[..] {
            [one] => Ok((Self::of_plain(one, named)?, nullable)),
            [] => Err(Unsupported {
                what: "the type null holds nothing".into(),
                hint: "give it a type, as in [\"null\", \"string\"]",
            }),
            _ => Err(Unsupported {
                what: format!("a union of {} types", others.len()),
                hint: "use one type, or null and one type; split the field into one per type",
            }),
        }
    }

    fn of_plain<'s>(
        schema: &'s Schema,
        named: &impl Fn(&Schema) -> Option<&'s Schema>,
    ) -> Result<Shape, Unsupported> {
        let refuse = |what: &str, hint: &'static str| {
            Err(Unsupported {
                what: what.to_owned(),
                hint,
            })
        };
        if let Some(unit) = time_unit(schema) {
            return Ok(Shape::Time(unit));
        }
        Ok(match schema {
            Schema::Boolean => Shape::Bool,
            Schema::Int => Shape::Int,
            Schema::Long => Shape::Long,
            Schema::Float => Shape::Float,
            Schema::Double => Shape::Double,
            Schema::String => Shape::Text,
            Schema::Uuid(UuidSchema::String) => Shape::UuidText,
            Schema::Uuid(UuidSchema::Bytes) => Shape::UuidBytes { fixed: false },
            Schema::Uuid(UuidSchema::Fixed(_)) => Shape::UuidBytes { fixed: true },
            Schema::Decimal(decimal) => Shape::Decimal {
                scale: u32::try_from(decimal.scale).unwrap_or(u32::MAX),
                fixed_bytes: match &decimal.inner {
                    InnerDecimalSchema::Bytes => None,
                    InnerDecimalSchema::Fixed(fixed) => Some(fixed.size),
                },
            },
            Schema::Enum(symbols) => Shape::Symbol(Symbols::of(symbols)),
            Schema::Array(array) => match named(&array.items).unwrap_or(&array.items) {
                Schema::String => Shape::List(Item::Text),
                Schema::Enum(symbols) => Shape::List(Item::Symbol(Symbols::of(symbols))),
                _ => {
                    return refuse(
                        "an array of something else than strings or enums",
                        "make its items strings, or send its items as an event table",
                    );
                }
            },
            Schema::Ref { .. } => match named(schema) {
                Some(found) if !matches!(found, Schema::Ref { .. }) => {
                    return Self::of_plain(found, named);
                }
                _ => {
                    return refuse(
                        "a type named but not defined in this file",
                        "define it in this file: each file stands alone",
                    );
                }
            },
            Schema::Null => {
                return refuse(
                    "the type null",
                    "give it a type, as in [\"null\", \"string\"]",
                );
            }
            Schema::Map(_) => {
                return refuse(
                    "a map",
                    "make each entry a field, or send entries as an event table; writers may keep the map, it is skipped",
                );
            }
            Schema::Record(_) => {
                return refuse(
                    "a nested record",
                    "make its fields fields of this record; writers may keep the record, it is skipped",
                );
            }
            Schema::Bytes | Schema::Fixed(_) => {
                return refuse(
                    "bytes",
                    "use string, or the logical type decimal; writers may keep the bytes, they are skipped",
                );
            }
            Schema::BigDecimal => {
                return refuse(
                    "the logical type big-decimal",
                    "use decimal with precision and scale, or double",
                );
            }
            Schema::TimeMillis | Schema::TimeMicros => {
                return refuse(
                    "a time of day",
                    "use a timestamp, or long for the time of day as a number",
                );
            }
            Schema::Duration(_) => return refuse("a duration", "use a number in the field's unit"),
            other => {
                return refuse(
                    &format!("the type {other}"),
                    "use boolean, int, long, float, double, decimal, string, enum, a timestamp, date, or an array of strings",
                );
            }
        })
    }

    /// The logical type of the values in a row.
    pub(crate) fn data_type(&self) -> DataType {
        match self {
            Shape::Bool => DataType::Bool,
            Shape::Int | Shape::Long => DataType::Long,
            Shape::Float | Shape::Double | Shape::Decimal { .. } => DataType::Double,
            Shape::Time(_) => DataType::Time,
            Shape::Text | Shape::UuidText | Shape::UuidBytes { .. } => DataType::Text,
            Shape::Symbol(symbols) => DataType::Symbol(symbols.symbols.clone()),
            Shape::List(_) => DataType::TextList,
        }
    }

    /// The type's name, for people.
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Shape::Bool => "boolean",
            Shape::Int => "int",
            Shape::Long => "long",
            Shape::Float => "float",
            Shape::Double => "double",
            Shape::Decimal { .. } => "decimal",
            Shape::Time(TimeUnit::Days) => "date",
            Shape::Time(_) => "timestamp",
            Shape::Text => "string",
            Shape::UuidText | Shape::UuidBytes { .. } => "uuid",
            Shape::Symbol(_) => "enum",
            Shape::List(_) => "array of strings",
        }
    }

    /// An enum's symbols, or those of a list's items.
    pub(crate) fn symbols(&self) -> Option<&Symbols> {
        match self {
            Shape::Symbol(symbols) | Shape::List(Item::Symbol(symbols)) => Some(symbols),
            _ => None,
        }
    }
}
