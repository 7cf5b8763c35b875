//! Avro bytes become rows: a [`RowDecoder`] is compiled once per writer schema and reads straight
//! into a [`RowBatch`].
//!
//! Promises: nothing is read past the end, nothing is allocated on the word of a length, recursion
//! is bounded, a refused record leaves the batch as it was.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::admit::{RowRefusal, admit};
use crate::avro::cursor::{AvroCursor, Snag};
use crate::avro::program::{
    AbsentValue, CompileError, FieldTarget, Program, Read, StepAction, ValueSkip, Width, decimal,
    targets, uuid_text,
};
use crate::catalog::shape::TimeUnit;
use crate::catalog::{Catalog, FieldId, Table, TableId};
use crate::money::UnknownCurrency;
use crate::row::{Operation, Position, RowBatch, RowBuilder, Value};
use crate::shape::changes::ChangeNames;
use crate::shape::moment::{TimeBounds, TimeFault, TimeRead, is_no_date, time_value};
use crate::shape::plan::RowPlan;
use crate::shape::writer::field_order;

/// The depth to which records may nest in skipped values.
pub(crate) const MAX_DEPTH: usize = 64;

/// A record whose bytes are not a row. The record is at fault, or its schema; trying again gives
/// the same answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error(
        "table {table}, field {field}: the bytes end inside it; the record is cut off, or was written under another schema"
    )]
    Truncated { table: String, field: String },
    /// Bytes are left after the last field.
    #[error(
        "table {table}: {bytes} bytes are left after the last field; the record was written under another schema"
    )]
    Trailing {
        table: String,
        /// Bytes left after the last field.
        bytes: usize,
    },
    /// A length is negative, or larger than the bytes left.
    #[error(
        "table {table}, field {field}: a length of {length} bytes does not fit; the record is damaged, or was written under another schema"
    )]
    BadLength {
        table: String,
        field: String,
        /// The length as it was read; negative or longer than the record.
        length: i64,
    },
    /// A number is longer than its type, or a boolean neither 0 nor 1.
    #[error(
        "table {table}, field {field}: its bytes are no number of its type; the record is damaged, or was written under another schema"
    )]
    BadNumber { table: String, field: String },
    /// Text is not UTF-8.
    #[error("table {table}, field {field}: its text is not UTF-8; the producer must send UTF-8")]
    InvalidUtf8 { table: String, field: String },
    /// A union's branch does not exist.
    #[error(
        "table {table}, field {field}: the union has no branch {index}; the record was written under another schema"
    )]
    BadUnionBranch {
        table: String,
        field: String,
        /// The branch number as it was read.
        index: i64,
    },
    /// An enum's symbol does not exist.
    #[error(
        "table {table}, field {field}: the enum has no symbol number {index}; the record was written under another schema"
    )]
    BadEnumIndex {
        table: String,
        field: String,
        /// The symbol number as it was read.
        index: i64,
    },
    /// Records nest too deep.
    #[error(
        "table {table}, field {field}: records nest deeper than {MAX_DEPTH}; take the field out, or flatten it"
    )]
    TooDeep { table: String, field: String },
    /// The value is well written but is none of the table's type.
    #[error(
        "table {table}, field {field}: {why}; allow it in the table's schema, or correct the producer"
    )]
    Unreadable {
        table: String,
        field: String,
        /// The reason, for people.
        why: String,
    },
    /// The record reads well but says too little: no key, no event time, no owner.
    #[error("table {table}, field {field}: {why}; the producer must fill it")]
    Invalid {
        table: String,
        /// The table's field (several for an owner).
        field: String,
        /// The missing part, for people.
        why: &'static str,
    },
    /// An amount cannot be converted to the currency of the configuration. The currency is not
    /// repeated: messages go into dead letters, which carry no values.
    #[error("table {table}, field {field}: its currency is not {expected}")]
    NoRate {
        table: String,
        field: String,
        /// The expected currency, with the remedy.
        expected: &'static str,
    },
    /// A field with fixed words has another one, which is not repeated: see [`Self::NoRate`].
    #[error("table {table}, field {field}: its word is not {expected}; correct the producer")]
    UnknownWord {
        table: String,
        field: String,
        /// The words that exist.
        expected: &'static str,
    },
}

/// The place and the known time of the rows of a record.
#[derive(Clone, Copy)]
pub(crate) struct RowPosition {
    pub(crate) position: Position,
    pub(crate) known_ms: i64,
}

/// Reads the records of one writer schema into one table's rows.
#[derive(Clone, Debug)]
pub struct RowDecoder {
    table: TableId,
    program: Program,
    /// Names in lists of changed fields, for tables that have such a list.
    names: Option<Box<ChangeNames>>,
    /// By field: whether the source lets a value that is not the field's become null.
    may_drop: Box<[bool]>,
}

impl RowDecoder {
    /// Resolves a writer's schema against the table's own: by field name and the table's aliases,
    /// with defaults for fields the writer lacks (null for nullable ones without), promotions,
    /// unions on either side; other fields are skipped.
    ///
    /// # Errors
    /// When no record of this writer could ever be a row of the table.
    pub fn compile(
        writer: &apache_avro::Schema,
        catalog: &Catalog,
        table: TableId,
    ) -> Result<RowDecoder, CompileError> {
        let definition = catalog.table_at(table);
        let renamed = BTreeMap::new();
        let names = || ChangeNames::of_table(definition);
        let targets = targets(definition);
        Self::of_targets(writer, &[], catalog, table, &targets, &renamed, names)
    }

    /// As [`Self::compile`] for a source's plan: its names come before the table's, its times are
    /// read as it declares, and implausible ones are refused. `others` are schemas that the
    /// writer's refers to.
    ///
    /// # Errors
    /// As [`Self::compile`].
    pub(crate) fn compile_planned(
        writer: &apache_avro::Schema,
        others: &[apache_avro::Schema],
        catalog: &Catalog,
        plan: &RowPlan,
    ) -> Result<RowDecoder, CompileError> {
        let names = || ChangeNames::of(plan).with_order(field_order(writer, 8));
        let (targets, renamed) = (&plan.targets, &plan.renamed);
        Self::of_targets(writer, others, catalog, plan.table, targets, renamed, names)
    }

    fn of_targets(
        writer: &apache_avro::Schema,
        others: &[apache_avro::Schema],
        catalog: &Catalog,
        table: TableId,
        targets: &[FieldTarget],
        renamed: &BTreeMap<String, Vec<String>>,
        names: impl Fn() -> ChangeNames,
    ) -> Result<RowDecoder, CompileError> {
        let has_list = catalog.table_at(table).changed_fields.is_some();
        Ok(RowDecoder {
            table,
            program: Program::compile(writer, others, catalog, table, targets, renamed)?,
            names: has_list.then(|| Box::new(names())),
            may_drop: targets.iter().map(FieldTarget::may_drop).collect(),
        })
    }

    /// The table its rows belong to.
    pub fn table(&self) -> TableId {
        self.table
    }

    /// Appends one record (the whole of `bytes`) as a row. `catalog` is the one it was compiled
    /// with.
    ///
    /// # Errors
    /// The record is not a row; the batch is as before.
    pub fn decode(
        &self,
        bytes: &[u8],
        catalog: &Catalog,
        batch: &mut RowBatch,
        position: Position,
        known_ms: i64,
    ) -> Result<(), DecodeError> {
        let at = RowPosition { position, known_ms };
        self.decode_counting(bytes, catalog, batch, at, |_| {})
    }

    /// As [`Self::decode`]; `dropped` is called for each amount that
    /// became null.
    pub(crate) fn decode_counting(
        &self,
        bytes: &[u8],
        catalog: &Catalog,
        batch: &mut RowBatch,
        at: RowPosition,
        dropped: impl FnMut(&UnknownCurrency),
    ) -> Result<(), DecodeError> {
        let table = catalog.table_at(self.table);
        let mut cursor = AvroCursor::new(bytes);
        let mut builder = batch.start(
            catalog,
            self.table,
            Operation::Upsert,
            at.position,
            at.known_ms,
        );
        self.fill(&mut cursor, table, &mut builder)?;
        if cursor.remaining() > 0 {
            return Err(DecodeError::Trailing {
                table: table.name.clone(),
                bytes: cursor.remaining(),
            });
        }
        self.check(table, &mut builder, dropped)?;
        builder.finish();
        Ok(())
    }

    /// The fields that this writer's records feed.
    pub(crate) fn fed(&self) -> impl Iterator<Item = FieldId> {
        self.program
            .steps
            .iter()
            .filter_map(|step| match step.action {
                StepAction::Read(field, _) => Some(field),
                StepAction::Skip(_) => None,
            })
    }

    /// Reads one record from the front of `cursor` into `builder`, without [`check`].
    pub(crate) fn fill(
        &self,
        cursor: &mut AvroCursor<'_>,
        table: &Table,
        builder: &mut RowBuilder<'_>,
    ) -> Result<(), DecodeError> {
        for step in &self.program.steps {
            let outcome = match &step.action {
                StepAction::Read(field, read) => read_into(read, *field, cursor, builder),
                StepAction::Skip(part) => skip(&self.program.named, part, cursor, 0),
            };
            outcome.map_err(|snag| named(snag, table, &step.writer_field))?;
        }
        for (field, constant) in &self.program.constants {
            set_constant(constant, *field, builder);
        }
        Ok(())
    }

    /// Skips one record at the front of `cursor`, readable as a row or not.
    pub(crate) fn pass_over(
        &self,
        cursor: &mut AvroCursor<'_>,
        table: &Table,
    ) -> Result<(), DecodeError> {
        skip(&self.program.named, &self.program.record, cursor, 0)
            .map_err(|snag| named(snag, table, "the record"))
    }

    /// Checks the conditions that [`RowDecoder::decode`] has for a row beyond being readable. Lists
    /// of changed fields get the table's names. `dropped` is called for each amount that became null.
    pub(crate) fn check(
        &self,
        table: &Table,
        builder: &mut RowBuilder<'_>,
        mut dropped: impl FnMut(&UnknownCurrency),
    ) -> Result<(), DecodeError> {
        if let (Some(names), Some(list)) = (&self.names, table.changed_fields) {
            let settled = names.settle(table, list, builder, |_| false);
            settled.map_err(|why| DecodeError::Unreadable {
                table: table.name.clone(),
                field: table.field_at(list).name.clone(),
                why,
            })?;
        }
        let may_drop = |unknown: &UnknownCurrency| {
            let may_drop = self.may_drop[unknown.amount.index()];
            if may_drop {
                dropped(unknown);
            }
            may_drop
        };
        let table_name = || table.name.clone();
        admit(table, builder, may_drop).map_err(|refusal| match refusal {
            RowRefusal::Incomplete { field, why } => DecodeError::Invalid {
                table: table_name(),
                field,
                why,
            },
            RowRefusal::NoRate { field, unknown } => DecodeError::NoRate {
                table: table_name(),
                field,
                expected: unknown.expected(),
            },
            RowRefusal::UnknownWord {
                field, expected, ..
            } => DecodeError::UnknownWord {
                table: table_name(),
                field,
                expected,
            },
        })
    }
}

/// Passes over a value; `named` are the records that [`ValueSkip::Named`] refers to.
pub(crate) fn skip(
    named: &[ValueSkip],
    part: &ValueSkip,
    cursor: &mut AvroCursor<'_>,
    depth: usize,
) -> Result<(), Snag> {
    match part {
        ValueSkip::Nothing => Ok(()),
        ValueSkip::Number => cursor.long().map(drop),
        ValueSkip::Bytes(count) => cursor.take(*count).map(drop),
        ValueSkip::Prefixed => cursor.prefixed().map(drop),
        ValueSkip::Union(branches) => skip(named, branch(branches, cursor)?, cursor, depth),
        ValueSkip::Sequence(parts) => parts
            .iter()
            .try_for_each(|part| skip(named, part, cursor, depth)),
        ValueSkip::Blocks(item) => {
            while let Some(block) = cursor.block()? {
                match block.bytes {
                    Some(bytes) => cursor.take(bytes).map(drop)?,
                    // However many there are, they have no bytes.
                    None if **item == ValueSkip::Nothing => {}
                    None => {
                        for _ in 0..block.items {
                            skip(named, item, cursor, depth)?;
                        }
                    }
                }
            }
            Ok(())
        }
        ValueSkip::Named(slot) if depth < MAX_DEPTH => {
            skip(named, &named[*slot], cursor, depth + 1)
        }
        ValueSkip::Named(_) => Err(Snag::TooDeep),
    }
}

pub(crate) fn set_constant(constant: &AbsentValue, field: FieldId, builder: &mut RowBuilder<'_>) {
    match constant {
        AbsentValue::Null => builder.set(field, Value::Null),
        AbsentValue::Bool(b) => builder.set(field, Value::Bool(*b)),
        AbsentValue::Long(n) => builder.set(field, Value::Long(*n)),
        AbsentValue::Double(x) => builder.set(field, Value::Double(*x)),
        AbsentValue::Time(t) => builder.set(field, Value::Time(*t)),
        AbsentValue::Text(text) => builder.set(field, Value::Text(text)),
        AbsentValue::List(items) => builder.set_list(field, items.iter().map(|i| &**i)),
    }
}

fn named(snag: Snag, table: &Table, writer_field: &str) -> DecodeError {
    let (table, field) = (table.name.clone(), writer_field.to_owned());
    match snag {
        Snag::Truncated => DecodeError::Truncated { table, field },
        Snag::Length(length) => DecodeError::BadLength {
            table,
            field,
            length,
        },
        Snag::Number => DecodeError::BadNumber { table, field },
        Snag::Utf8 => DecodeError::InvalidUtf8 { table, field },
        Snag::Branch(index) => DecodeError::BadUnionBranch {
            table,
            field,
            index,
        },
        Snag::Symbol(index) => DecodeError::BadEnumIndex {
            table,
            field,
            index,
        },
        Snag::TooDeep => DecodeError::TooDeep { table, field },
        Snag::Unreadable(why) => DecodeError::Unreadable { table, field, why },
    }
}

fn branch<'p, T>(branches: &'p [T], cursor: &mut AvroCursor<'_>) -> Result<&'p T, Snag> {
    let index = cursor.long()?;
    usize::try_from(index)
        .ok()
        .and_then(|i| branches.get(i))
        .ok_or(Snag::Branch(index))
}

fn number(width: Width, cursor: &mut AvroCursor<'_>) -> Result<i64, Snag> {
    match width {
        Width::Int => cursor.int(),
        Width::Long => cursor.long(),
    }
}

fn read_into(
    read: &Read,
    field: FieldId,
    cursor: &mut AvroCursor<'_>,
    builder: &mut RowBuilder<'_>,
) -> Result<(), Snag> {
    let value = match read {
        Read::Null => Value::Null,
        Read::Bool => Value::Bool(cursor.boolean()?),
        Read::Long(width) => Value::Long(number(*width, cursor)?),
        Read::LongAsText(width) => {
            let mut digits = [0; 20];
            builder.set(
                field,
                Value::Text(decimal_digits(number(*width, cursor)?, &mut digits)),
            );
            return Ok(());
        }
        Read::LongAsDouble(width) => Value::Double(number(*width, cursor)? as f64),
        Read::Time(width, unit, bounds) => {
            let raw = number(*width, cursor)?;
            match unit.to_ms(raw) {
                Some(ms) if bounds.admit_number(ms) => Value::Time(ms),
                Some(ms) if bounds.no_date_is_null && is_no_date(ms) => Value::Null,
                _ => return Err(implausible(raw, *unit, *bounds)),
            }
        }
        Read::TimeText(time) => expected(time_value(time.text(cursor.text()?)))?,
        Read::TimeDouble(time) => expected(time_value(time.fraction(cursor.double()?)))?,
        Read::TimeNumber(width, time) => {
            expected(time_value(time.number(number(*width, cursor)?.into())))?
        }
        Read::ScaledDecimal => {
            let scale = cursor.int()?;
            let scale = i32::try_from(scale).map_err(|_| Snag::Number)?;
            Value::Double(decimal(cursor.prefixed()?, scale))
        }
        Read::DoubleText => {
            let number = cursor.text()?.trim().parse();
            Value::Double(number.map_err(|_| Snag::Unreadable("its text is not a number".into()))?)
        }
        Read::Float => Value::Double(f64::from(cursor.float()?)),
        Read::Double => Value::Double(cursor.double()?),
        Read::Decimal { scale, fixed_bytes } => {
            let bytes = match fixed_bytes {
                Some(count) => cursor.take(*count)?,
                None => cursor.prefixed()?,
            };
            Value::Double(decimal(bytes, *scale))
        }
        Read::Uuid { fixed } => {
            let bytes = if *fixed {
                cursor.take(16)?
            } else {
                cursor.prefixed()?
            };
            let text = uuid_text(bytes)
                .ok_or_else(|| Snag::Unreadable(format!("a uuid of {} bytes", bytes.len())))?;
            builder.set(field, Value::Text(&text));
            return Ok(());
        }
        Read::Text | Read::Enum(_) | Read::TextAsSymbol(_) => Value::Text(read_text(read, cursor)?),
        Read::List(item) => {
            let mut items: SmallVec<[&str; 16]> = SmallVec::new();
            while let Some(block) = cursor.block()? {
                for _ in 0..block.items {
                    items.push(read_text(item, cursor)?);
                }
            }
            builder.set_list(field, items);
            return Ok(());
        }
        Read::Union(branches) => {
            return read_into(readable(branch(branches, cursor)?)?, field, cursor, builder);
        }
    };
    builder.set(field, value);
    Ok(())
}

/// The words for a time outside its bounds.
fn implausible(raw: i64, unit: TimeUnit, bounds: TimeBounds) -> Snag {
    let time = TimeRead::in_unit(unit, bounds);
    let why = time.number(raw.into()).err().map(TimeFault::words);
    Snag::Unreadable(why.map_or_else(
        || format!("the time {raw} is out of range"),
        |expected| format!("its value is not {expected}"),
    ))
}

fn expected<T>(read: Result<T, String>) -> Result<T, Snag> {
    read.map_err(|expected| Snag::Unreadable(format!("its value is not {expected}")))
}

fn readable(branch: &Result<Read, Box<str>>) -> Result<&Read, Snag> {
    branch
        .as_ref()
        .map_err(|why| Snag::Unreadable(why.to_string()))
}

/// The reads that give borrowed text: of the record's bytes, or of the program's symbols. Each
/// takes at least one byte.
fn read_text<'t, 'c: 't>(read: &'t Read, cursor: &mut AvroCursor<'c>) -> Result<&'t str, Snag> {
    match read {
        Read::Text => cursor.text(),
        Read::Enum(symbols) => {
            let index = cursor.long()?;
            let symbol = usize::try_from(index)
                .ok()
                .and_then(|i| symbols.get(i))
                .ok_or(Snag::Symbol(index))?;
            symbol.as_deref().map_err(|theirs| unknown_symbol(theirs))
        }
        Read::TextAsSymbol(symbols) => {
            let text = cursor.text()?;
            symbols.resolve(text).ok_or_else(|| unknown_symbol(text))
        }
        Read::Union(branches) => read_text(readable(branch(branches, cursor)?)?, cursor),
        other => unreachable!("a list's items compile to text, not {other:?}"),
    }
}

fn unknown_symbol(symbol: &str) -> Snag {
    let shown: String = symbol.chars().take(80).collect();
    Snag::Unreadable(format!(
        "'{shown}' is not a symbol of the table's enum, which has no default"
    ))
}

/// A number's decimal digits, without allocating.
fn decimal_digits(value: i64, buffer: &mut [u8; 20]) -> &str {
    let mut start = buffer.len();
    let mut rest = value.unsigned_abs();
    loop {
        start -= 1;
        buffer[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        start -= 1;
        buffer[start] = b'-';
    }
    std::str::from_utf8(&buffer[start..]).expect("digits are ASCII")
}
