//! A writer's schema and a table become a list of steps: which bytes to read into which field,
//! which to pass over.
//!
//! Resolution is Avro's, by field name and reader's aliases. Where a row's type is wider than
//! Avro's, so is what is accepted: `long` for `int`, `double` for `float`, an enum for a string, a
//! string for an enum, and a writer's own time unit.
//!
//! Decision: docs/decisions/0024-avro-with-a-registry-or-a-folder.md

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, Name, ResolvedSchema, SchemaKind, UuidSchema};
use serde_json::Value as Json;

use crate::catalog::shape::{Item, Shape, Symbols, TimeUnit, time_unit};
use crate::catalog::{Catalog, DataType, FieldId, Table, TableId};
use crate::shape::BadValue;
use crate::shape::envelope_hint;
use crate::shape::moment::{TimeBounds, TimeRead};
use crate::shape::text::TextRead;

/// A writer's schema whose records can never be read into a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The writer's schema is not a record.
    #[error(
        "table {table}: the writer's schema is not a record; name a topic of this table's records"
    )]
    NotARecord { table: String },
    /// The writer's schema names a type it does not contain.
    #[error(
        "table {table}: the writer's schema is not complete: {why}; register it with its types inside"
    )]
    Incomplete {
        table: String,
        /// The missing type, for people.
        why: String,
    },
    /// The writer lacks a field that the table cannot do without.
    #[error(
        "table {table}: the writer's schema has no field '{field}', which has no default; {hint}"
    )]
    Missing {
        table: String,
        field: String,
        /// The remedy.
        hint: String,
    },
    /// The writer's type of a field cannot become the table's.
    #[error(
        "table {table}, field {field}: {why}; change the table's type, or take the field under another name"
    )]
    Incompatible {
        table: String,
        field: String,
        /// The two types, for people.
        why: String,
    },
    /// A default in the table's schema does not fit its type.
    #[error(
        "table {table}, field {field}: its default does not fit its type; correct the table's schema"
    )]
    Default { table: String, field: String },
}

/// Step that passes over a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ValueSkip {
    /// The value has no bytes.
    Nothing,
    Number,
    Bytes(usize),
    Prefixed,
    Union(Box<[ValueSkip]>),
    Sequence(Box<[ValueSkip]>),
    Blocks(Box<ValueSkip>),
    /// A record of [`Program::named`]: records may contain themselves.
    Named(usize),
}

/// Step that reads a value into a field.
#[derive(Clone, Debug)]
pub(crate) enum Read {
    Null,
    Bool,
    Long(Width),
    LongAsText(Width),
    LongAsDouble(Width),
    Time(Width, TimeUnit, TimeBounds),
    /// A time that is text, or a number with a fraction.
    TimeText(Box<TimeRead>),
    TimeDouble(Box<TimeRead>),
    /// A number whose digits are written by a format.
    TimeNumber(Width, Box<TimeRead>),
    Float,
    Double,
    Decimal {
        scale: i32,
        fixed_bytes: Option<usize>,
    },
    /// A record of a scale and the bytes of a decimal.
    ScaledDecimal,
    /// A number that is written as text.
    DoubleText,
    Text,
    Uuid {
        fixed: bool,
    },
    /// The writer's symbols as ours, in the writer's order; `None` where we have neither the symbol
    /// nor a default.
    Enum(Box<[Result<Box<str>, Box<str>>]>),
    TextAsSymbol(Symbols),
    List(Box<Read>),
    /// Branches that cannot become the field's type fail when they occur.
    Union(Box<[Result<Read, Box<str>>]>),
}

/// Whether the writer promised 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    Int,
    Long,
}

#[derive(Clone, Debug)]
pub(crate) enum StepAction {
    Read(FieldId, Read),
    Skip(ValueSkip),
}

/// One field of the writer's record.
#[derive(Clone, Debug)]
pub(crate) struct ReadStep {
    /// The writer's name, for errors.
    pub(crate) writer_field: Box<str>,
    pub(crate) action: StepAction,
}

/// The value of a field that the writer does not have.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AbsentValue {
    Null,
    Bool(bool),
    Long(i64),
    Double(f64),
    Time(i64),
    Text(Box<str>),
    List(Box<[Box<str>]>),
}

/// Everything needed to read one writer's records into one table.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) steps: Box<[ReadStep]>,
    pub(crate) named: Box<[ValueSkip]>,
    pub(crate) constants: Box<[(FieldId, AbsentValue)]>,
    /// The whole record, to find its end when it cannot be read.
    pub(crate) record: ValueSkip,
}

/// A table's field as the reader's side of resolution.
#[derive(Clone, Debug)]
pub(crate) struct FieldTarget {
    pub(crate) field: FieldId,
    pub(crate) shape: Shape,
    pub(crate) nullable: bool,
    pub(crate) default: Option<Json>,
    /// Integer keys and references are text in rows.
    pub(crate) integer_as_text: bool,
    pub(crate) aliases: Vec<String>,
    /// The reading of times; of a field that is none it means nothing.
    pub(crate) time: TimeRead,
    /// The reading of values that are text.
    pub(crate) text: Arc<TextRead>,
    /// It stands for a list's items, whose text is borrowed from the record: raw uuids, which must
    /// be spelt out, cannot be.
    is_item: bool,
}

/// The fields of a table, parallel to [`Table::fields`].
pub(crate) fn targets(table: &Table) -> Vec<FieldTarget> {
    let Schema::Record(record) = &*table.avro else {
        unreachable!("checked on load: a table's schema is a record")
    };
    let names =
        ResolvedSchema::new(&table.avro).expect("checked on load: a table's schema is complete");
    let named = |schema: &Schema| match schema {
        Schema::Ref { name } => names.get_names().get(name).copied(),
        _ => None,
    };
    let text = Arc::<TextRead>::default();
    let pairs = table.fields.iter().zip(&record.fields);
    pairs
        .map(|(field, avro)| {
            let (shape, nullable) = Shape::of(&avro.schema, &named)
                .expect("checked on load: field types are supported");
            FieldTarget {
                field: field.id,
                nullable,
                default: avro.default.clone(),
                integer_as_text: field.data_type == DataType::Text
                    && matches!(shape, Shape::Int | Shape::Long),
                shape,
                aliases: avro.aliases.clone(),
                time: TimeRead::default(),
                text: text.clone(),
                is_item: false,
            }
        })
        .collect()
}

impl FieldTarget {
    /// True if a value that is not the field's becomes null, by choice of the source. Values that a
    /// row cannot do without, its time and its version, are refused all the same.
    pub(crate) fn may_drop(&self) -> bool {
        self.text.bad_value == BadValue::Null && self.time.bounds.no_date_is_null
    }

    /// The field's value where a record or file lacks the field: the default, else null if the
    /// field is nullable.
    ///
    /// # Errors
    /// `Err(true)`: the default does not fit the type. `Err(false)`: there is none.
    pub(crate) fn absent(&self) -> Result<AbsentValue, bool> {
        match &self.default {
            Some(Json::Null) | None if self.nullable => Ok(AbsentValue::Null),
            Some(json) => constant(json, self).ok_or(true),
            None => Err(false),
        }
    }
}

fn constant(json: &Json, target: &FieldTarget) -> Option<AbsentValue> {
    let symbol = |json: &Json, symbols: &Symbols| symbols.resolve(json.as_str()?).map(Box::from);
    Some(match &target.shape {
        Shape::Bool => AbsentValue::Bool(json.as_bool()?),
        Shape::Int | Shape::Long if target.integer_as_text => {
            AbsentValue::Text(json.as_i64()?.to_string().into())
        }
        Shape::Int | Shape::Long => AbsentValue::Long(json.as_i64()?),
        Shape::Float | Shape::Double => AbsentValue::Double(match json.as_str() {
            Some("NaN") => f64::NAN,
            Some("INF" | "Infinity") => f64::INFINITY,
            Some("-INF" | "-Infinity") => f64::NEG_INFINITY,
            _ => json.as_f64()?,
        }),
        Shape::Decimal { scale, .. } => AbsentValue::Double(decimal(
            &bytes_of_default(json)?,
            i32::try_from(*scale).ok()?,
        )),
        Shape::Time(unit) => AbsentValue::Time(unit.to_ms(json.as_i64()?)?),
        Shape::Text | Shape::UuidText => AbsentValue::Text(json.as_str()?.into()),
        Shape::UuidBytes { .. } => AbsentValue::Text(uuid_text(&bytes_of_default(json)?)?.into()),
        Shape::Symbol(symbols) => AbsentValue::Text(symbol(json, symbols)?),
        Shape::List(item) => {
            let item = |json: &Json| match item {
                Item::Text => json.as_str().map(Box::from),
                Item::Symbol(symbols) => symbol(json, symbols),
            };
            AbsentValue::List(json.as_array()?.iter().map(item).collect::<Option<_>>()?)
        }
    })
}

/// Defaults of bytes are text whose code points are the bytes.
fn bytes_of_default(json: &Json) -> Option<Vec<u8>> {
    json.as_str()?
        .chars()
        .map(|c| u8::try_from(u32::from(c)).ok())
        .collect()
}

/// A decimal's value: big-endian two's complement, divided by 10^scale.
pub(crate) fn decimal(bytes: &[u8], scale: i32) -> f64 {
    let unscaled = if bytes.len() <= 16 {
        let start = if bytes.first().is_some_and(|b| b & 0x80 != 0) {
            -1i128
        } else {
            0
        };
        bytes
            .iter()
            .fold(start, |value, byte| (value << 8) | i128::from(*byte)) as f64
    } else {
        let (first, rest) = bytes.split_first().expect("longer than 16 bytes");
        rest.iter().fold(f64::from(*first as i8), |value, byte| {
            value * 256.0 + f64::from(*byte)
        })
    };
    unscaled / 10f64.powi(scale)
}

/// A UUID's 16 bytes as text.
pub(crate) fn uuid_text(bytes: &[u8]) -> Option<String> {
    if bytes.len() != 16 {
        return None;
    }
    let hex = crate::hex::hex(bytes);
    Some(
        [
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        ]
        .join("-"),
    )
}

impl Program {
    /// `renamed` maps further names of the writer to fields of the table; `targets` are the
    /// table's. `others` are schemas that the writer's refers to.
    pub(crate) fn compile(
        writer: &Schema,
        others: &[Schema],
        catalog: &Catalog,
        table: TableId,
        targets: &[FieldTarget],
        renamed: &BTreeMap<String, Vec<String>>,
    ) -> Result<Program, CompileError> {
        let table = catalog.table_at(table);
        let table_name = || table.name.clone();
        let Schema::Record(record) = writer else {
            return Err(CompileError::NotARecord {
                table: table_name(),
            });
        };
        let all = others.iter().chain([writer]).collect();
        let resolved =
            ResolvedSchema::new_with_schemata(all).map_err(|e| CompileError::Incomplete {
                table: table_name(),
                why: e.to_string(),
            })?;
        let mut compiler = StepCompiler::new(resolved.get_names());
        let writer_names: Vec<&str> = record.fields.iter().map(|f| f.name.as_str()).collect();
        let sources = sources(targets, table, &writer_names, renamed);
        let mut steps = Vec::with_capacity(record.fields.len());
        for (i, writer_field) in record.fields.iter().enumerate() {
            let action = match sources.iter().position(|s| *s == Some(i)) {
                Some(index) => {
                    let target = &targets[index];
                    let read = compiler.read(&writer_field.schema, target).map_err(|why| {
                        CompileError::Incompatible {
                            table: table_name(),
                            field: table.fields[index].name.clone(),
                            why,
                        }
                    })?;
                    StepAction::Read(target.field, read)
                }
                None => StepAction::Skip(compiler.skip(&writer_field.schema).map_err(|why| {
                    CompileError::Incomplete {
                        table: table_name(),
                        why,
                    }
                })?),
            };
            steps.push(ReadStep {
                writer_field: writer_field.name.as_str().into(),
                action,
            });
        }
        let mut constants = Vec::new();
        for (target, _) in targets
            .iter()
            .zip(&sources)
            .filter(|(_, source)| source.is_none())
        {
            let field = || table.field_at(target.field).name.clone();
            match target.absent() {
                Ok(AbsentValue::Null) => {}
                Ok(constant) => constants.push((target.field, constant)),
                Err(true) => {
                    return Err(CompileError::Default {
                        table: table_name(),
                        field: field(),
                    });
                }
                Err(false) => {
                    return Err(CompileError::Missing {
                        table: table_name(),
                        field: field(),
                        hint: envelope_hint(&writer_names).unwrap_or_else(|| {
                            "add the field, or a default or alias to the table's schema".into()
                        }),
                    });
                }
            }
        }
        let skip = compiler
            .skip(writer)
            .map_err(|why| CompileError::Incomplete {
                table: table_name(),
                why,
            })?;
        Ok(Program {
            steps: steps.into(),
            named: compiler.into_named(),
            constants: constants.into(),
            record: skip,
        })
    }
}

/// For each target the index of the name that means it: one given from outside, else its own, else
/// an alias. No name means two targets.
pub(crate) fn sources(
    targets: &[FieldTarget],
    table: &Table,
    names: &[&str],
    renamed: &BTreeMap<String, Vec<String>>,
) -> Vec<Option<usize>> {
    let mut sources: Vec<Option<usize>> = vec![None; targets.len()];
    let mut claimed = vec![false; names.len()];
    let mut claim = |wanted: &dyn Fn(usize, &str) -> bool| {
        for (target, source) in sources.iter_mut().enumerate().filter(|(_, s)| s.is_none()) {
            *source = (0..names.len()).find(|i| !claimed[*i] && wanted(target, names[*i]));
            if let Some(index) = source {
                claimed[*index] = true;
            }
        }
    };
    claim(&|target, name| {
        renamed
            .get(name)
            .is_some_and(|fields| fields.contains(&table.fields[target].name))
    });
    claim(&|target, name| table.fields[target].name == name);
    claim(&|target, name| targets[target].aliases.iter().any(|alias| alias == name));
    sources
}

/// Compiles the steps that read values and that pass over them.
pub(crate) struct StepCompiler<'s> {
    names: &'s HashMap<Name, &'s Schema>,
    slots: HashMap<Name, usize>,
    named: Vec<ValueSkip>,
}

impl<'s> StepCompiler<'s> {
    pub(crate) fn new(names: &'s HashMap<Name, &'s Schema>) -> Self {
        StepCompiler {
            names,
            slots: HashMap::new(),
            named: Vec::new(),
        }
    }

    /// The records that [`ValueSkip::Named`] refers to.
    pub(crate) fn into_named(self) -> Box<[ValueSkip]> {
        self.named.into()
    }

    fn definition(&self, schema: &'s Schema) -> Result<&'s Schema, String> {
        match schema {
            Schema::Ref { name } => self
                .names
                .get(name)
                .copied()
                .ok_or_else(|| format!("it does not define the type {name}")),
            other => Ok(other),
        }
    }

    /// The step that passes over a value of this type.
    ///
    /// # Errors
    /// A type that is not defined.
    pub(crate) fn skip(&mut self, schema: &'s Schema) -> Result<ValueSkip, String> {
        let schema = self.definition(schema)?;
        if time_unit(schema).is_some() {
            return Ok(ValueSkip::Number);
        }
        Ok(match schema {
            Schema::Null => ValueSkip::Nothing,
            Schema::Boolean => ValueSkip::Bytes(1),
            Schema::Int
            | Schema::Long
            | Schema::TimeMillis
            | Schema::TimeMicros
            | Schema::Enum(_) => ValueSkip::Number,
            Schema::Float => ValueSkip::Bytes(4),
            Schema::Double => ValueSkip::Bytes(8),
            Schema::Bytes
            | Schema::String
            | Schema::BigDecimal
            | Schema::Uuid(UuidSchema::String | UuidSchema::Bytes) => ValueSkip::Prefixed,
            Schema::Fixed(fixed)
            | Schema::Duration(fixed)
            | Schema::Uuid(UuidSchema::Fixed(fixed)) => skip_fixed(fixed.size),
            Schema::Decimal(decimal) => match &decimal.inner {
                InnerDecimalSchema::Bytes => ValueSkip::Prefixed,
                InnerDecimalSchema::Fixed(fixed) => skip_fixed(fixed.size),
            },
            Schema::Array(array) => ValueSkip::Blocks(Box::new(self.skip(&array.items)?)),
            Schema::Map(map) => ValueSkip::Blocks(Box::new(ValueSkip::Sequence(
                [ValueSkip::Prefixed, self.skip(&map.types)?].into(),
            ))),
            Schema::Union(union) => ValueSkip::Union(
                union
                    .variants()
                    .iter()
                    .map(|v| self.skip(v))
                    .collect::<Result<_, _>>()?,
            ),
            Schema::Record(record) => {
                if let Some(slot) = self.slots.get(&record.name) {
                    // Finished and empty, or a record within itself.
                    return Ok(if self.named[*slot] == ValueSkip::Nothing {
                        ValueSkip::Nothing
                    } else {
                        ValueSkip::Named(*slot)
                    });
                }
                let slot = self.named.len();
                self.slots.insert(record.name.clone(), slot);
                self.named.push(ValueSkip::Named(slot));
                let parts: Vec<ValueSkip> = record
                    .fields
                    .iter()
                    .map(|f| self.skip(&f.schema))
                    .collect::<Result<_, _>>()?;
                // A record without bytes is skipped at once: a tree of such records would take
                // exponential time.
                let parts: Box<[ValueSkip]> = parts
                    .into_iter()
                    .filter(|p| *p != ValueSkip::Nothing)
                    .collect();
                if parts.is_empty() {
                    self.named[slot] = ValueSkip::Nothing;
                    return Ok(ValueSkip::Nothing);
                }
                self.named[slot] = ValueSkip::Sequence(parts);
                ValueSkip::Named(slot)
            }
            other => return Err(format!("it has the type {other}, which is not known")),
        })
    }

    fn read(&self, writer: &'s Schema, target: &FieldTarget) -> Result<Read, String> {
        let writer = self.definition(writer)?;
        let Schema::Union(union) = writer else {
            return self.read_plain(writer, target);
        };
        let branches: Box<[Result<Read, Box<str>>]> = union
            .variants()
            .iter()
            .map(|v| self.read(v, target).map_err(String::into_boxed_str))
            .collect();
        if branches.iter().all(Result::is_err) {
            let why: Vec<&str> = branches
                .iter()
                .filter_map(|b| b.as_ref().err())
                .map(|b| &**b)
                .collect();
            return Err(why.join(", "));
        }
        Ok(Read::Union(branches))
    }

    fn read_plain(&self, writer: &'s Schema, target: &FieldTarget) -> Result<Read, String> {
        if matches!(writer, Schema::Null) {
            return if target.nullable {
                Ok(Read::Null)
            } else {
                Err("null cannot be read as a value".into())
            };
        }
        let read = match &target.shape {
            Shape::Bool => matches!(writer, Schema::Boolean).then_some(Read::Bool),
            Shape::Int | Shape::Long if target.integer_as_text => {
                width(writer).map(Read::LongAsText)
            }
            Shape::Int | Shape::Long => width(writer).map(Read::Long),
            Shape::Float | Shape::Double => match writer {
                Schema::Float => Some(Read::Float),
                Schema::Double => Some(Read::Double),
                Schema::String => Some(Read::DoubleText),
                Schema::Decimal(_) => decimal_read(writer, 0),
                Schema::Record(_) => is_scaled_decimal(writer).then_some(Read::ScaledDecimal),
                other => width(other).map(Read::LongAsDouble),
            },
            Shape::Decimal { .. } if is_scaled_decimal(writer) => Some(Read::ScaledDecimal),
            Shape::Decimal { scale, .. } => {
                decimal_read(writer, i32::try_from(*scale).unwrap_or(i32::MAX))
            }
            Shape::Time(_) => time_read(writer, &target.time)?,
            Shape::Text | Shape::UuidText | Shape::UuidBytes { .. } => {
                text_read(writer, &target.shape)
                    .filter(|read| !(target.is_item && matches!(read, Read::Uuid { .. })))
            }
            Shape::Symbol(symbols) => symbol_read(writer, symbols),
            Shape::List(item) => match writer {
                Schema::Array(array) => {
                    Some(Read::List(Box::new(self.read_item(&array.items, item)?)))
                }
                _ => None,
            },
        };
        read.ok_or_else(|| {
            format!(
                "the writer's {} cannot be read as {}",
                kind(writer),
                target.shape.describe()
            )
        })
    }

    fn read_item(&self, writer: &'s Schema, item: &Item) -> Result<Read, String> {
        let shape = match item {
            Item::Text => Shape::Text,
            Item::Symbol(symbols) => Shape::Symbol(symbols.clone()),
        };
        let target = FieldTarget {
            field: FieldId(0),
            shape,
            nullable: false,
            default: None,
            integer_as_text: false,
            aliases: Vec::new(),
            time: TimeRead::default(),
            text: Arc::default(),
            is_item: true,
        };
        self.read(writer, &target)
    }
}

fn skip_fixed(bytes: usize) -> ValueSkip {
    if bytes == 0 {
        ValueSkip::Nothing
    } else {
        ValueSkip::Bytes(bytes)
    }
}

/// The width of a type that is an `int` or `long` underneath.
fn width(writer: &Schema) -> Option<Width> {
    match writer {
        Schema::Int | Schema::Date | Schema::TimeMillis => Some(Width::Int),
        Schema::Long | Schema::TimeMicros => Some(Width::Long),
        other => time_unit(other).map(|_| Width::Long),
    }
}

/// The reading of a time. A number has the unit of the writer's logical type, else the one that the
/// source declares.
///
/// # Errors
/// Nobody declares a unit: none is guessed.
fn time_read(writer: &Schema, time: &TimeRead) -> Result<Option<Read>, String> {
    let read = |width: Width, unit: TimeUnit| Read::Time(width, unit, time.bounds.of_unit(unit));
    if let Some(unit) = time_unit(writer) {
        return Ok(width(writer).map(|width| read(width, unit)));
    }
    match writer {
        Schema::String => Ok(Some(Read::TimeText(Box::new(time.clone())))),
        Schema::Float | Schema::Double if time.unit().is_some() => {
            Ok(matches!(writer, Schema::Double).then(|| Read::TimeDouble(Box::new(time.clone()))))
        }
        Schema::Int | Schema::Long => {
            let width = width(writer).unwrap_or(Width::Long);
            match time.unit() {
                Some(unit) => Ok(Some(read(width, unit))),
                None if time.has_format() => {
                    Ok(Some(Read::TimeNumber(width, Box::new(time.clone()))))
                }
                None => Err(format!(
                    "the writer's {} is a time without a declared unit, which is never guessed; declare it \
                     in the source, as times = {{ … = \"millis\" }}, or give the writer's field a logicalType",
                    kind(writer)
                )),
            }
        }
        _ => Ok(None),
    }
}

/// True for a decimal that carries its own scale, as Debezium's `VariableScaleDecimal`.
fn is_scaled_decimal(writer: &Schema) -> bool {
    let Schema::Record(record) = writer else {
        return false;
    };
    let [scale, value] = record.fields.as_slice() else {
        return false;
    };
    (scale.name.as_str(), value.name.as_str()) == ("scale", "value")
        && matches!((&scale.schema, &value.schema), (Schema::Int, Schema::Bytes))
}

fn decimal_read(writer: &Schema, reader_scale: i32) -> Option<Read> {
    let (scale, fixed_bytes) = match writer {
        Schema::Decimal(decimal) => {
            let fixed = match &decimal.inner {
                InnerDecimalSchema::Bytes => None,
                InnerDecimalSchema::Fixed(fixed) => Some(fixed.size),
            };
            (i32::try_from(decimal.scale).unwrap_or(i32::MAX), fixed)
        }
        Schema::Bytes => (reader_scale, None),
        Schema::Fixed(fixed) => (reader_scale, Some(fixed.size)),
        _ => return None,
    };
    Some(Read::Decimal { scale, fixed_bytes })
}

fn text_read(writer: &Schema, reader: &Shape) -> Option<Read> {
    let raw_uuid = matches!(reader, Shape::UuidBytes { .. });
    match writer {
        Schema::Uuid(UuidSchema::Fixed(_)) => Some(Read::Uuid { fixed: true }),
        Schema::Uuid(UuidSchema::Bytes) => Some(Read::Uuid { fixed: false }),
        Schema::Fixed(fixed) if raw_uuid && fixed.size == 16 => Some(Read::Uuid { fixed: true }),
        Schema::Bytes if raw_uuid => Some(Read::Uuid { fixed: false }),
        Schema::String | Schema::Bytes | Schema::Uuid(UuidSchema::String) => Some(Read::Text),
        Schema::Enum(symbols) => Some(Read::Enum(
            symbols
                .symbols
                .iter()
                .map(|s| Ok(s.as_str().into()))
                .collect(),
        )),
        _ => None,
    }
}

fn symbol_read(writer: &Schema, symbols: &Symbols) -> Option<Read> {
    match writer {
        Schema::Enum(theirs) => {
            let ours = |symbol: &String| {
                symbols
                    .resolve(symbol)
                    .map(Box::from)
                    .ok_or_else(|| symbol.as_str().into())
            };
            Some(Read::Enum(theirs.symbols.iter().map(ours).collect()))
        }
        Schema::String => Some(Read::TextAsSymbol(symbols.clone())),
        _ => None,
    }
}

/// A schema's type, for people.
fn kind(schema: &Schema) -> String {
    format!("{:?}", SchemaKind::from(schema)).to_lowercase()
}
