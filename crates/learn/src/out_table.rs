//! Tables that commands write: delimited text or Parquet, by the ending of the file's name.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use leadpulse_schema::utc;
use parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, TimeUnit, Type};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, FloatType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type as SchemaType;

/// A table that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum OutError {
    #[error("{file} cannot be made: {source}; check the folder, or name another file")]
    Create {
        file: String,
        source: std::io::Error,
    },
    #[error("the rows cannot be written: {0}; check the room on the disk")]
    Csv(#[from] csv::Error),
    #[error("the rows cannot be written: {0}; check the room on the disk")]
    Io(#[from] std::io::Error),
    #[error("the rows cannot be written as Parquet: {0}; check the room on the disk")]
    Parquet(#[from] ParquetError),
}

/// The type of a column, which may be empty in any row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CellKind {
    Text,
    Number,
    /// A number of single precision.
    Float,
    /// A moment; ISO 8601 in text.
    Moment,
}

/// The values of one column of some rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum OutCells {
    Text(Vec<Option<String>>),
    Number(Vec<Option<f64>>),
    Float(Vec<f32>),
    /// Milliseconds.
    Moment(Vec<i64>),
}

/// A place for a table, before its columns are known.
#[derive(Debug)]
pub struct OutTable<W: Write + Send> {
    out: W,
    is_parquet: bool,
}

impl OutTable<BufWriter<File>> {
    /// Makes a file: Parquet if its name ends with `.parquet`, else comma-separated text.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path) -> Result<Self, OutError> {
        let file = File::create(path).map_err(|source| OutError::Create {
            file: path.display().to_string(),
            source,
        })?;
        let ending = path.extension().unwrap_or_default();
        Ok(Self {
            out: BufWriter::new(file),
            is_parquet: ending.eq_ignore_ascii_case("parquet"),
        })
    }
}

impl<W: Write + Send> OutTable<W> {
    /// Comma-separated text.
    pub fn csv(out: W) -> Self {
        Self {
            out,
            is_parquet: false,
        }
    }

    /// Writes the header, or the schema.
    pub(crate) fn with_columns(
        self,
        columns: &[(String, CellKind)],
    ) -> Result<OutRows<W>, OutError> {
        if self.is_parquet {
            let properties = WriterProperties::builder().set_compression(Compression::SNAPPY);
            let schema = Arc::new(parquet_schema(columns)?);
            let properties = Arc::new(properties.build());
            let writer = SerializedFileWriter::new(self.out, schema, properties)?;
            return Ok(OutRows::Parquet(Box::new(writer)));
        }
        let mut writer = csv::Writer::from_writer(self.out);
        writer.write_record(columns.iter().map(|(name, _)| name))?;
        Ok(OutRows::Csv(Box::new(writer)))
    }
}

/// Rows under way to a table.
pub(crate) enum OutRows<W: Write + Send> {
    Csv(Box<csv::Writer<W>>),
    Parquet(Box<SerializedFileWriter<W>>),
}

impl<W: Write + Send> OutRows<W> {
    /// Writes rows: a row group of Parquet, so thousands of rows are better than a few.
    ///
    /// # Panics
    /// If columns differ in number of rows.
    pub fn write(&mut self, columns: &[OutCells]) -> Result<(), OutError> {
        let rows = columns.first().map_or(0, OutCells::len);
        assert!(
            columns.iter().all(|column| column.len() == rows),
            "columns of one table have the same rows"
        );
        match self {
            Self::Csv(writer) => {
                for row in 0..rows {
                    let cells = columns.iter().map(|column| column.text(row));
                    writer.write_record(cells)?;
                }
            }
            Self::Parquet(writer) => {
                let mut group = writer.next_row_group()?;
                for column in columns {
                    column.write(&mut group)?;
                }
                group.close()?;
            }
        }
        Ok(())
    }

    /// Ends the table.
    pub fn finish(self) -> Result<(), OutError> {
        match self {
            Self::Csv(mut writer) => Ok(writer.flush()?),
            Self::Parquet(writer) => {
                writer.close()?;
                Ok(())
            }
        }
    }
}

impl OutCells {
    fn len(&self) -> usize {
        match self {
            Self::Text(cells) => cells.len(),
            Self::Number(cells) => cells.len(),
            Self::Float(cells) => cells.len(),
            Self::Moment(cells) => cells.len(),
        }
    }

    fn text(&self, row: usize) -> String {
        match self {
            Self::Text(cells) => cells[row].clone().unwrap_or_default(),
            Self::Number(cells) => cells[row].map_or_else(String::new, |x| x.to_string()),
            Self::Float(cells) => cells[row].to_string(),
            Self::Moment(cells) => utc(cells[row]),
        }
    }

    fn write<W: Write + Send>(
        &self,
        group: &mut SerializedRowGroupWriter<'_, W>,
    ) -> Result<(), ParquetError> {
        let column = group.next_column()?;
        let mut column = column.expect("there is a column of the schema for each of the cells");
        match self {
            Self::Text(cells) => {
                let values = cells.iter().flatten();
                let values: Vec<ByteArray> =
                    values.map(|text| ByteArray::from(text.as_str())).collect();
                let levels = levels(cells);
                let typed = column.typed::<ByteArrayType>();
                typed.write_batch(&values, Some(&levels), None)?;
            }
            Self::Number(cells) => {
                let values: Vec<f64> = cells.iter().flatten().copied().collect();
                let levels = levels(cells);
                let typed = column.typed::<DoubleType>();
                typed.write_batch(&values, Some(&levels), None)?;
            }
            Self::Float(cells) => {
                let typed = column.typed::<FloatType>();
                typed.write_batch(cells, None, None)?;
            }
            Self::Moment(cells) => {
                let typed = column.typed::<Int64Type>();
                typed.write_batch(cells, None, None)?;
            }
        }
        column.close()
    }
}

/// 1 for a value, 0 for none.
fn levels<T>(cells: &[Option<T>]) -> Vec<i16> {
    cells.iter().map(|cell| i16::from(cell.is_some())).collect()
}

fn parquet_schema(columns: &[(String, CellKind)]) -> Result<SchemaType, ParquetError> {
    let fields = columns.iter().map(|(name, kind)| {
        let (physical, repetition) = match kind {
            CellKind::Text => (Type::BYTE_ARRAY, Repetition::OPTIONAL),
            CellKind::Number => (Type::DOUBLE, Repetition::OPTIONAL),
            CellKind::Float => (Type::FLOAT, Repetition::REQUIRED),
            CellKind::Moment => (Type::INT64, Repetition::REQUIRED),
        };
        let builder = SchemaType::primitive_type_builder(name, physical);
        let builder = builder.with_repetition(repetition);
        let builder = match kind {
            CellKind::Text => builder
                .with_converted_type(ConvertedType::UTF8)
                .with_logical_type(Some(LogicalType::String)),
            CellKind::Moment => {
                builder.with_logical_type(Some(LogicalType::timestamp(true, TimeUnit::MILLIS)))
            }
            CellKind::Number | CellKind::Float => builder,
        };
        builder.build().map(Arc::new)
    });
    let fields = fields.collect::<Result<Vec<_>, _>>()?;
    SchemaType::group_type_builder("rows")
        .with_fields(fields)
        .build()
}

#[cfg(test)]
mod tests {
    use leadpulse_schema::TextTable;

    use super::*;

    #[test]
    fn a_table_reads_back_from_text_and_parquet_alike() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str| {
            let path = folder.path().join(name);
            let columns = [
                ("key", CellKind::Text),
                ("as_of", CellKind::Moment),
                ("probability", CellKind::Number),
                ("deals.stage=won/14d", CellKind::Float),
            ];
            let columns = columns.map(|(name, kind)| (name.to_owned(), kind));
            let table = OutTable::create(&path).unwrap();
            let mut rows = table.with_columns(&columns).unwrap();
            for number in [0.25, 0.5] {
                rows.write(&[
                    OutCells::Text(vec![Some("a,1".into()), None]),
                    OutCells::Moment(vec![0, 1_700_000_000_000]),
                    OutCells::Number(vec![None, Some(number)]),
                    OutCells::Float(vec![1.5, -2.0]),
                ])
                .unwrap();
            }
            rows.finish().unwrap();
            let table = TextTable::read(&path).unwrap();
            let cells = table.rows.into_iter().map(|row| row.cells);
            (table.columns, cells.collect::<Vec<_>>())
        };
        let (columns, cells) = read("t.csv");
        assert_eq!(columns[3], "deals.stage=won/14d");
        assert_eq!(cells.len(), 4);
        let some = |text: &str| Some(text.to_owned());
        let (start, later) = ("1970-01-01T00:00:00Z", "2023-11-14T22:13:20Z");
        assert_eq!(cells[0], [some("a,1"), some(start), None, some("1.5")]);
        assert_eq!(cells[3], [None, some(later), some("0.5"), some("-2")]);
        let (parquet_columns, parquet_cells) = read("t.parquet");
        assert_eq!((columns, cells), (parquet_columns, parquet_cells));
    }
}
