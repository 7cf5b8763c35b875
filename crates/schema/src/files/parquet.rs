//! Parquet: typed columns in row groups, read row by row.
//!
//! Pages are decompressed one at a time and column, so memory does not grow with the file. Of rows
//! without an envelope only the wanted columns are read.

use std::borrow::Cow;
use std::fs::File;
use std::sync::Arc;

use parquet::basic::{ConvertedType, LogicalType, TimeUnit};
use parquet::data_type::Decimal;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;

use super::{FileContext, FileError};
use crate::avro::program::{decimal, uuid_text};
use crate::row::RowBatch;
use crate::shape::data_node::DataNode;

const DAY_MS: i64 = 86_400_000;

/// The records of a Parquet file, whatever they are read for.
pub(crate) struct ParquetRecords {
    rows: RowIter<'static>,
    readings: Vec<TypeReading>,
    /// For each row group the number of rows up to its end.
    ends: Vec<u64>,
    taken: u64,
    /// Names of columns, and of their parts with dots between.
    names: Vec<String>,
}

/// The meaning of a column's type beyond its stored value.
#[derive(Clone, Debug)]
enum TypeReading {
    Plain,
    Moment(TimeUnit),
    TimeOfDay(TimeUnit),
    Uuid,
    Members(Vec<TypeReading>),
}

impl ParquetRecords {
    /// Opens a file. `wants` chooses columns by name; those of a type that has no value here (an
    /// interval) are left out.
    ///
    /// # Errors
    /// The words for a person.
    pub(crate) fn open(file: File, wants: impl Fn(&str) -> bool) -> Result<Self, String> {
        let reader = SerializedFileReader::new(file).map_err(|error| error.to_string())?;
        let metadata = reader.metadata();
        let mut ends = Vec::new();
        for group in metadata.row_groups() {
            let before = ends.last().copied().unwrap_or(0);
            ends.push(before + u64::try_from(group.num_rows()).unwrap_or(0));
        }
        let root = metadata.file_metadata().schema().clone();
        let mut names = Vec::new();
        root.get_fields()
            .iter()
            .for_each(|part| add_names(part, "", &mut names));
        let readable = root.get_fields().iter().filter(|part| is_readable(part));
        let mut kept: Vec<Arc<Type>> = readable
            .clone()
            .filter(|p| wants(p.name()))
            .cloned()
            .collect();
        if kept.is_empty() {
            // A row needs a column to be counted by.
            kept = readable.take(1).cloned().collect();
        }
        if kept.is_empty() {
            return Err("it has no column that can be read".into());
        }
        let readings = kept.iter().map(|part| TypeReading::of(part)).collect();
        let projection = Type::group_type_builder(root.name())
            .with_fields(kept)
            .build();
        let projection = projection.map_err(|error| error.to_string())?;
        let rows = RowIter::from_file_into(Box::new(reader)).project(Some(projection));
        Ok(ParquetRecords {
            rows: rows.map_err(|error| error.to_string())?,
            readings,
            ends,
            taken: 0,
            names,
        })
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// The words for a person; nothing can be read after it.
    pub(crate) fn next(&mut self) -> Option<Result<DataNode<'static>, String>> {
        // The iterator of the library goes on to the next row group only within `next`, and a group
        // without rows would end it.
        if self.taken >= self.ends.last().copied().unwrap_or(0) {
            return None;
        }
        let row = self.rows.next()?;
        self.taken += 1;
        Some(match row {
            Ok(row) => Ok(members(&row, &self.readings)),
            Err(error) => Err(error.to_string()),
        })
    }

    /// The row group of the record that was read last, from 1.
    pub(crate) fn row_group(&self) -> usize {
        self.ends.partition_point(|end| *end < self.taken) + 1
    }

    /// Names of all columns, and of parts of nested ones with dots between.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }
}

fn add_names(part: &Type, before: &str, names: &mut Vec<String>) {
    let name = format!("{before}{}", part.name());
    if part.is_group() {
        let before = format!("{name}.");
        part.get_fields()
            .iter()
            .for_each(|inner| add_names(inner, &before, names));
    }
    names.push(name);
}

/// Intervals are months, days and milliseconds: no single value.
fn is_readable(part: &Type) -> bool {
    if part.is_group() {
        return part.get_fields().iter().all(|inner| is_readable(inner));
    }
    part.get_basic_info().converted_type() != ConvertedType::INTERVAL
}

impl TypeReading {
    fn of(part: &Type) -> Self {
        let info = part.get_basic_info();
        let is_struct = part.is_group()
            && info.converted_type() == ConvertedType::NONE
            && info.logical_type_ref().is_none();
        if is_struct {
            return TypeReading::Members(
                part.get_fields()
                    .iter()
                    .map(|inner| TypeReading::of(inner))
                    .collect(),
            );
        }
        match info.logical_type_ref() {
            Some(LogicalType::Timestamp(time)) => TypeReading::Moment(time.unit),
            Some(LogicalType::Time(time)) => TypeReading::TimeOfDay(time.unit),
            Some(LogicalType::Uuid) => TypeReading::Uuid,
            _ => TypeReading::Plain,
        }
    }

    fn inner(&self) -> &[TypeReading] {
        match self {
            TypeReading::Members(inner) => inner,
            _ => &[],
        }
    }
}

fn members(row: &Row, readings: &[TypeReading]) -> DataNode<'static> {
    let mut found = Vec::with_capacity(row.len());
    for (place, (name, value)) in row.get_column_iter().enumerate() {
        let reading = readings.get(place).unwrap_or(&TypeReading::Plain);
        found.push((Cow::Owned(name.clone()), node(value, reading)));
    }
    DataNode::Members(found)
}

fn node(value: &Field, reading: &TypeReading) -> DataNode<'static> {
    match value {
        Field::Null => DataNode::Null,
        Field::Bool(value) => DataNode::Bool(*value),
        Field::Byte(number) => DataNode::Int((*number).into()),
        Field::Short(number) => DataNode::Int((*number).into()),
        Field::Int(number) => match reading {
            TypeReading::TimeOfDay(unit) => time_of_day((*number).into(), unit),
            _ => DataNode::Int((*number).into()),
        },
        Field::Long(number) => match reading {
            TypeReading::Moment(unit) => DataNode::Moment(in_millis(*number, unit)),
            TypeReading::TimeOfDay(unit) => time_of_day(*number, unit),
            _ => DataNode::Int((*number).into()),
        },
        Field::UByte(number) => DataNode::Int((*number).into()),
        Field::UShort(number) => DataNode::Int((*number).into()),
        Field::UInt(number) => DataNode::Int((*number).into()),
        Field::ULong(number) => DataNode::Int((*number).into()),
        Field::Float16(number) => real(number.to_f32().into()),
        // The shortest digits of a float: 0.1 stays 0.1 as a double.
        Field::Float(number) => real(number.to_string().parse().unwrap_or(f64::from(*number))),
        Field::Double(number) => real(*number),
        Field::Decimal(value) => exact(value),
        Field::Str(text) => DataNode::Text(Cow::Owned(text.clone())),
        Field::Bytes(bytes) => text_or_bytes(bytes.data(), reading),
        Field::Date(days) => DataNode::Moment(i64::from(*days) * DAY_MS),
        Field::TimeMillis(time) => time_of_day((*time).into(), &TimeUnit::MILLIS),
        Field::TimeMicros(time) => time_of_day(*time, &TimeUnit::MICROS),
        Field::TimestampMillis(at) => DataNode::Moment(*at),
        Field::TimestampMicros(at) => DataNode::Moment(in_millis(*at, &TimeUnit::MICROS)),
        Field::Group(row) => members(row, reading.inner()),
        Field::ListInternal(list) => {
            let items = list.elements().iter();
            DataNode::List(items.map(|item| node(item, &TypeReading::Plain)).collect())
        }
        Field::MapInternal(map) => {
            let mut found = Vec::with_capacity(map.entries().len());
            for (key, value) in map.entries() {
                let key = node(key, &TypeReading::Plain);
                let name = key.scalar().map(Cow::into_owned).unwrap_or_default();
                found.push((Cow::Owned(name), node(value, &TypeReading::Plain)));
            }
            DataNode::Members(found)
        }
    }
}

fn in_millis(count: i64, unit: &TimeUnit) -> i64 {
    match unit {
        TimeUnit::MILLIS => count,
        TimeUnit::MICROS => count.div_euclid(1_000),
        TimeUnit::NANOS => count.div_euclid(1_000_000),
    }
}

/// A number; `NaN` and infinities as the words that a source may declare as null.
fn real(number: f64) -> DataNode<'static> {
    match number.is_finite() {
        true => DataNode::Double(number),
        false => DataNode::Text(Cow::Owned(number.to_string())),
    }
}

/// The number that is nearest to a decimal, or the whole number itself.
fn exact(value: &Decimal) -> DataNode<'static> {
    let (bytes, scale) = (value.data(), value.scale());
    if bytes.len() > 16 {
        return DataNode::Double(decimal(bytes, scale));
    }
    let is_negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let start = if is_negative { -1_i128 } else { 0 };
    let unscaled = bytes
        .iter()
        .fold(start, |number, byte| (number << 8) | i128::from(*byte));
    if scale == 0 {
        return DataNode::Int(unscaled);
    }
    // Parsing rounds once; a division would round the digits and the quotient.
    let text = format!("{unscaled}e{}", -i64::from(scale));
    DataNode::Double(text.parse().unwrap_or_else(|_| decimal(bytes, scale)))
}

fn text_or_bytes(bytes: &[u8], reading: &TypeReading) -> DataNode<'static> {
    if let (TypeReading::Uuid, Some(text)) = (reading, uuid_text(bytes)) {
        return DataNode::Text(Cow::Owned(text));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => DataNode::Text(Cow::Owned(text.to_owned())),
        Err(_) => DataNode::Bytes(Cow::Owned(bytes.to_vec())),
    }
}

/// A time of day as text: no field is one, but it may be shown or be part of a key.
fn time_of_day(count: i64, unit: &TimeUnit) -> DataNode<'static> {
    let ms = in_millis(count, unit);
    let (seconds, rest) = (ms.div_euclid(1000), ms.rem_euclid(1000));
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let mut text = format!("{hours:02}:{minutes:02}:{:02}", seconds % 60);
    if rest > 0 {
        text.push_str(&format!(".{rest:03}"));
    }
    DataNode::Text(Cow::Owned(text))
}

/// The rows of a Parquet file.
pub(super) struct ParquetRows {
    records: ParquetRecords,
    number: u64,
}

impl ParquetRows {
    pub(super) fn open(file: File, context: &FileContext) -> Result<Self, FileError> {
        let plan = &context.plan;
        let records = ParquetRecords::open(file, |name| plan.wants_column(name));
        let records = records.map_err(|why| context.damaged(0, why))?;
        if plan.envelope.is_none() {
            let found: Vec<&str> = records.names().iter().map(String::as_str).collect();
            let columns = context.columns(&found)?;
            context.key_columns(&found, &columns)?;
            context.deleted_column(&found)?;
        }
        Ok(ParquetRows { records, number: 0 })
    }

    /// Names of the columns, and of parts of nested ones with dots between.
    pub(super) fn names(&self) -> &[String] {
        self.records.names()
    }

    /// Appends the rows of the next record that has any; `false` at the end.
    pub(super) fn next(
        &mut self,
        context: &mut FileContext,
        batch: &mut RowBatch,
    ) -> Result<bool, FileError> {
        let before = batch.len();
        while batch.len() == before {
            let Some(record) = self.records.next() else {
                return Ok(false);
            };
            self.number += 1;
            context.row_group = u32::try_from(self.records.row_group()).unwrap_or(u32::MAX);
            let node = record.map_err(|why| context.damaged(self.number, why))?;
            context.rows(&node, None, self.number, batch)?;
        }
        Ok(true)
    }
}
