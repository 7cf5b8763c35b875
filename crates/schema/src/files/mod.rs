//! Files of history become rows: delimited text and JSON Lines (also compressed), Avro containers,
//! Parquet.
//!
//! Promises: a file is streamed, memory is bounded by one row or block and the caller's batch; a
//! bad row is an error of its own that the caller may count and pass over; every error names file,
//! line, column, value and what was expected.

mod container;
mod csv;
mod header;
mod jsonl;
mod lines;
pub(crate) mod parquet;
mod records;
mod text_bytes;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

pub use crate::shape::moment::{parse_time as parse_time_ms, utc};

use crate::avro::program::CompileError;
use crate::catalog::{Catalog, TableId};
use crate::row::{Operation, Position, RowBatch, RowBuilder, Value};
use crate::shape::changes::ChangeNames;
use crate::shape::fit::{FitRemark, FitReport};
use crate::shape::moment::{BareNumbers, TimeRead};
use crate::shape::path::FieldPath;
use crate::shape::plan::RowPlan;
use crate::shape::{ShapeError, SourceFormat, SourceShape};

/// The longest row of a text file, and the largest block of a container file before it is
/// decompressed.
const MAX_ROW_BYTES: u64 = 16 << 20;

/// The meaning of a file's rows: positions, known times, column names.
#[derive(Clone, Debug, Default)]
pub struct FileOptions {
    /// The partition of the rows' positions; the offset is the record's number in the file, from 0.
    pub partition: u32,
    /// The column that says when a row became known. Where a file or row has none: event time plus
    /// `lag_ms`; in a table without a time, 0: known before everything else.
    pub known_time: Option<String>,
    /// Time from a row's time field until the row became known, milliseconds.
    pub lag_ms: i64,
    /// Envelope, filter, columns and times. The format is the file's.
    pub shape: SourceShape,
    /// The newest believable time, milliseconds since 1970 UTC: our clock and a tolerance. Rows whose
    /// event time and known time are both later are counted and left out; `None` believes all.
    pub latest_ms: Option<i64>,
    /// The place that the file was copied from, if it is a copy.
    pub origin: Option<FileOrigin>,
}

/// The place that a local copy of a file came from.
#[derive(Clone, Debug)]
pub struct FileOrigin {
    /// The file's name in messages.
    pub name: String,
    /// The copy lives as long as this does.
    pub copy: Arc<dyn std::any::Any + Send + Sync>,
}

/// A fault of a file. After [`FileError::Row`] reading may go on with the next row; after all
/// others it is over.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// One row cannot be used.
    #[error(
        "{file}, {}, column '{column}': '{value}' is not {expected}; correct the row, or leave it out",
        row_place(*row_group, *line)
    )]
    Row {
        file: String,
        /// In Parquet: the row group, from 1; 0 in other files.
        row_group: u32,
        /// The line; in a container file or Parquet the record's number, from 1.
        line: u64,
        column: String,
        /// The value found, cut to a readable length.
        value: String,
        /// The expected value, for people.
        expected: String,
    },
    /// The file cannot be read, or not to its end.
    #[error("{file}, line {line}: {why}; the file is damaged or not what its name says")]
    Damaged {
        file: String,
        /// The line, or the record's number; 0 for the file as a whole.
        line: u64,
        /// The reason, for people.
        why: String,
    },
    /// The file cannot be opened.
    #[error("{file}: cannot be opened: {source}")]
    Unreadable {
        file: String,
        source: std::io::Error,
    },
    /// The name does not say what the file holds.
    #[error(
        "{file}: its kind is not known; name it .csv, .tsv, .jsonl, .ndjson, \
         each also with .gz or .zst behind, .avro or .parquet, or declare it in the source: format = \"csv\""
    )]
    UnknownKind { file: String },
    /// The text is not in the encoding it should be in.
    #[error(
        "{file}, line {line}: {why}; declare its encoding in the source: text = {{ encoding = \"{label}\" }}"
    )]
    Encoding {
        file: String,
        line: u64,
        /// What was found, for people.
        why: String,
        /// A label that the file may have.
        label: String,
    },
    /// A header of one column that contains a separator.
    #[error(
        "{file}, line 1: the header is one column, '{header}'; if {sign} stands between its columns, \
         declare the separator in the source: text = {{ separator = \"{sign}\" }}"
    )]
    Separator {
        file: String,
        header: String,
        /// The likely separator, as the setting has it.
        sign: &'static str,
    },
    /// Two columns of which one would be taken.
    #[error(
        "{file}, line 1: columns {first} ('{first_name}') and {second} ('{second_name}') {why}; rename one \
         of them, or leave it out"
    )]
    Doubled {
        file: String,
        /// Places in the header, from 1.
        first: usize,
        first_name: String,
        second: usize,
        second_name: String,
        /// What the two have in common, for people.
        why: String,
    },
    /// Columns that the table cannot do without are not there.
    #[error(
        "{file}: no column for {missing}; it has {found}; rename a column, map one to the field, or give the field a default"
    )]
    MissingColumns {
        file: String,
        /// Fields without a column.
        missing: String,
        /// The columns there are.
        found: String,
    },
    /// The shape does not fit the table.
    #[error("{file}: {source}")]
    Shape { file: String, source: ShapeError },
    /// A container file was written under a schema that is not the table's.
    #[error("{file}: {source}")]
    Schema { file: String, source: CompileError },
}

fn row_place(row_group: u32, line: u64) -> String {
    match row_group {
        0 => format!("line {line}"),
        group => format!("row group {group}, row {line}"),
    }
}

impl FileError {
    /// Whether only one row is lost, and reading may go on.
    pub fn is_row(&self) -> bool {
        matches!(self, FileError::Row { .. })
    }
}

/// Reads one file of one table.
pub struct FileReader {
    context: FileContext,
    source: FileRows,
}

enum FileRows {
    Csv(Box<csv::CsvRows>),
    JsonLines(jsonl::JsonRows),
    Container(Box<container::ContainerRows>),
    Parquet(Box<parquet::ParquetRows>),
}

/// The compression that a file's name declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstandard,
}

impl Compression {
    /// The name without the ending of its compression.
    fn of(name: &str) -> (&str, Compression) {
        if let Some(kind) = name.strip_suffix(".gz") {
            return (kind, Compression::Gzip);
        }
        match name.strip_suffix(".zst") {
            Some(kind) => (kind, Compression::Zstandard),
            None => (name, Compression::None),
        }
    }

    fn unpacked(self, file: File) -> std::io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Compression::None => Box::new(file),
            Compression::Gzip => Box::new(MultiGzDecoder::new(BufReader::new(file))),
            Compression::Zstandard => Box::new(zstd::stream::read::Decoder::new(file)?),
        })
    }
}

/// The contents of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Csv,
    Tsv,
    JsonLines,
    Container,
    Parquet,
}

impl FileKind {
    /// The kind that a source declares, else the one that a name ends with, without the ending of a
    /// compression.
    pub(crate) fn of(format: SourceFormat, name: &str) -> Option<FileKind> {
        match format {
            SourceFormat::Csv => return Some(FileKind::Csv),
            SourceFormat::Tsv => return Some(FileKind::Tsv),
            SourceFormat::Jsonl => return Some(FileKind::JsonLines),
            SourceFormat::Parquet => return Some(FileKind::Parquet),
            _ => {}
        }
        let extension = Path::new(name).extension().and_then(|e| e.to_str());
        match extension.map(str::to_lowercase).as_deref() {
            Some("csv") => Some(FileKind::Csv),
            Some("tsv") => Some(FileKind::Tsv),
            Some("jsonl" | "ndjson") => Some(FileKind::JsonLines),
            Some("avro") => Some(FileKind::Container),
            Some("parquet" | "parq" | "pq") => Some(FileKind::Parquet),
            _ => None,
        }
    }

    /// The kind that a file's first bytes name: those of Avro containers and of Parquet.
    fn of_magic(path: &Path) -> Option<FileKind> {
        let mut magic = [0; 4];
        File::open(path).ok()?.read_exact(&mut magic).ok()?;
        match &magic {
            b"Obj\x01" => Some(FileKind::Container),
            b"PAR1" => Some(FileKind::Parquet),
            _ => None,
        }
    }

    fn is_text(self) -> bool {
        !matches!(self, FileKind::Container | FileKind::Parquet)
    }
}

impl FileReader {
    /// Opens a file; the kind follows from the source's format, else from the name.
    ///
    /// # Errors
    /// The file cannot be opened, or the columns or the schema are not the table's.
    pub fn open(
        path: &Path,
        catalog: Arc<Catalog>,
        table: TableId,
        options: FileOptions,
    ) -> Result<FileReader, FileError> {
        let context = FileContext::new(path, catalog, table, options)?;
        let name = path.display().to_string().to_lowercase();
        let (name, compression) = Compression::of(&name);
        let open = || {
            File::open(path).map_err(|source| FileError::Unreadable {
                file: context.file.clone(),
                source,
            })
        };
        let kind = FileKind::of(context.options.shape.format, name);
        let kind = match kind {
            // A missing file is said to be missing, whatever its name.
            None if open().is_ok() => FileKind::of_magic(path),
            None => return open().map(|_| unreachable!("the file could not be opened")),
            known => known,
        };
        let kind = kind.filter(|kind| kind.is_text() || compression == Compression::None);
        let kind = kind.ok_or_else(|| FileError::UnknownKind {
            file: context.file.clone(),
        })?;
        let file = open()?;
        if kind == FileKind::Parquet {
            let rows = parquet::ParquetRows::open(file, &context)?;
            let source = FileRows::Parquet(Box::new(rows));
            return Ok(FileReader { context, source });
        }
        let bytes = compression
            .unpacked(file)
            .map_err(|error| context.damaged(0, error))?;
        let text = |bytes| text_bytes::utf8(bytes, &context);
        let delimited = |bytes, separator| {
            let rows = csv::CsvRows::open(text(bytes)?, separator, &context)?;
            Ok::<_, FileError>(FileRows::Csv(Box::new(rows)))
        };
        let source = match kind {
            FileKind::Csv => delimited(bytes, b',')?,
            FileKind::Tsv => delimited(bytes, b'\t')?,
            FileKind::Container => {
                FileRows::Container(Box::new(container::ContainerRows::open(bytes, &context)?))
            }
            _ => FileRows::JsonLines(jsonl::JsonRows::open(text(bytes)?)),
        };
        Ok(FileReader { context, source })
    }

    /// Appends up to `max_rows` rows to `batch`; 0 is the end of the file.
    ///
    /// # Errors
    /// A row or the file is bad. Rows read before it are in the batch.
    pub fn read(&mut self, batch: &mut RowBatch, max_rows: usize) -> Result<usize, FileError> {
        let before = batch.len();
        while batch.len() - before < max_rows {
            let more = match &mut self.source {
                FileRows::Csv(rows) => rows.next(&mut self.context, batch)?,
                FileRows::JsonLines(rows) => rows.next(&mut self.context, batch)?,
                FileRows::Container(rows) => rows.next(&mut self.context, batch)?,
                FileRows::Parquet(rows) => rows.next(&mut self.context, batch)?,
            };
            if !more {
                break;
            }
        }
        Ok(batch.len() - before)
    }

    /// Sentences about configured paths and fields of the table that nothing in the file fitted. To
    /// be asked at the end of the file.
    pub fn remarks(&self) -> Vec<FitRemark> {
        let context = &self.context;
        let table = context.catalog.table_at(context.table);
        match context.fit.is_over() {
            true => Vec::new(),
            false => context.fit.remarks(&context.plan, table),
        }
    }

    /// The number of records read so far that the source's filter or envelope leaves out.
    pub fn passed_over(&self) -> u64 {
        self.context.passed_over
    }

    /// The number of rows read so far that lie ahead of [`FileOptions::latest_ms`].
    pub fn future_rows(&self) -> u64 {
        self.context.future_rows
    }

    /// The number of rows read so far that had a known time of their own.
    pub fn known_rows(&self) -> u64 {
        self.context.known_rows
    }
}

/// The part that all kinds of files share: the table, and the known time of its rows.
struct FileContext {
    file: String,
    catalog: Arc<Catalog>,
    table: TableId,
    plan: Arc<RowPlan>,
    /// The place of the known-time column.
    known_path: Option<FieldPath>,
    names: ChangeNames,
    /// The reading of the column with the known time.
    known_time: TimeRead,
    fit: FitReport,
    options: FileOptions,
    /// In Parquet: the row group of the current row, from 1; else 0.
    row_group: u32,
    next_offset: i64,
    known_rows: u64,
    passed_over: u64,
    future_rows: u64,
}

impl FileContext {
    fn new(
        path: &Path,
        catalog: Arc<Catalog>,
        table: TableId,
        options: FileOptions,
    ) -> Result<FileContext, FileError> {
        let file = match &options.origin {
            Some(origin) => origin.name.clone(),
            None => path.display().to_string(),
        };
        let known_column = options.known_time.as_deref();
        let bare = BareNumbers::Millis;
        let plan = RowPlan::new(&options.shape, &catalog, table, bare, known_column);
        let plan = plan.map_err(|source| FileError::Shape {
            file: file.clone(),
            source,
        })?;
        Ok(FileContext {
            known_time: plan.known_time(&options.shape, catalog.table_at(table), known_column),
            names: ChangeNames::of(&plan),
            fit: FitReport::of(&plan),
            known_path: known_column.map(FieldPath::new),
            plan: Arc::new(plan),
            file,
            catalog,
            table,
            options,
            row_group: 0,
            next_offset: 0,
            known_rows: 0,
            passed_over: 0,
            future_rows: 0,
        })
    }

    /// Starts the next row. Bad rows count too, so that a position always means the same record.
    fn start<'b>(&mut self, batch: &'b mut RowBatch) -> RowBuilder<'b> {
        let position = self.position(self.next_offset);
        self.next_offset += 1;
        batch.start(&self.catalog, self.table, Operation::Upsert, position, 0)
    }

    fn position(&self, offset: i64) -> Position {
        Position {
            partition: self.options.partition,
            offset,
        }
    }

    /// Completes an admitted row with its known time. `known_ms` is what the known-time column
    /// says, if anything; `at_ms` the time of a row that has no time field of its own.
    fn finish(
        &mut self,
        mut builder: RowBuilder<'_>,
        known_ms: Option<i64>,
        at_ms: Option<i64>,
        line: u64,
    ) -> Result<(), FileError> {
        let table = self.catalog.table_at(self.table);
        let time_ms = |time| match builder.get(time) {
            Value::Time(at) => Some(at),
            _ => at_ms,
        };
        let known_ms = match (known_ms, table.time) {
            (Some(known_ms), _) => {
                self.known_rows += 1;
                if self.is_ahead(table.time.and_then(time_ms), known_ms) {
                    self.future_rows += 1;
                    return Ok(());
                }
                builder.set_own_known_ms(known_ms);
                builder.finish();
                return Ok(());
            }
            (None, None) => 0,
            (None, Some(time)) => match time_ms(time) {
                Some(at) => at.saturating_add(self.options.lag_ms),
                None => {
                    return Err(self.bad_row(
                        line,
                        &table.field_at(time).name,
                        "",
                        "a time, which says when the row was known",
                    ));
                }
            },
        };
        if self.is_ahead(table.time.and_then(time_ms), known_ms) {
            self.future_rows += 1;
            return Ok(());
        }
        builder.set_known_ms(known_ms);
        builder.finish();
        Ok(())
    }

    /// Whether a row lies ahead of the clock: the rule by which a running worker refuses rows of any
    /// table. An event that is only later than its own known time is refused by the graph.
    fn is_ahead(&self, event_ms: Option<i64>, known_ms: i64) -> bool {
        let newest_ms = event_ms.unwrap_or(known_ms).min(known_ms);
        self.options
            .latest_ms
            .is_some_and(|latest| newest_ms > latest)
    }

    /// For each field its column, if the file has one.
    ///
    /// # Errors
    /// A field without a column can neither be null nor has a default.
    fn columns(&self, found: &[&str]) -> Result<Vec<Option<usize>>, FileError> {
        let table = self.catalog.table_at(self.table);
        let plan = &self.plan;
        let mut columns = Vec::with_capacity(plan.targets.len());
        for index in 0..plan.targets.len() {
            let is_made = plan.key.is_some() && index == table.key.index();
            columns.push(if is_made {
                None
            } else {
                self.column_of(index, found)
            });
        }
        let lacking = self
            .plan
            .targets
            .iter()
            .zip(&columns)
            .filter(|(target, column)| {
                let is_made = plan.key.is_some() && target.field == table.key;
                column.is_none() && target.absent().is_err() && !is_made
            });
        let missing: Vec<&str> = lacking
            .map(|(target, _)| table.field_at(target.field).name.as_str())
            .collect();
        if missing.is_empty() {
            Ok(columns)
        } else {
            Err(FileError::MissingColumns {
                file: self.file.clone(),
                missing: missing.join(", "),
                found: found.join(", "),
            })
        }
    }

    /// The place of a field's column: a configured one, else its own name, else an alias.
    fn column_of(&self, index: usize, found: &[&str]) -> Option<usize> {
        let place = |path: &FieldPath| found.iter().position(|name| *name == path.as_str());
        let configured = self.plan.mapped[index].iter().find_map(place);
        if configured.is_some() {
            return configured;
        }
        let mut best: Option<(u8, usize)> = None;
        for (column, name) in found.iter().enumerate() {
            for (field, rank) in self.plan.by_name.get(*name).into_iter().flatten() {
                let is_better = best.is_none_or(|(known, _)| *rank < known);
                if usize::from(*field) == index && is_better {
                    best = Some((*rank, column));
                }
            }
        }
        best.map(|(_, column)| column)
    }

    fn bad_row(
        &self,
        line: u64,
        column: &str,
        value: &str,
        expected: impl Into<String>,
    ) -> FileError {
        let shown: String = value.chars().take(80).collect();
        FileError::Row {
            file: self.file.clone(),
            row_group: self.row_group,
            line,
            column: column.to_owned(),
            value: shown,
            expected: expected.into(),
        }
    }

    /// Bytes that are not UTF-8: a fault of the file, since its encoding is another one; of the row
    /// alone where the source declares UTF-8.
    fn not_utf8(&self, line: u64, column: &str, shown: &str) -> FileError {
        if self.plan.text.encoding.is_some() {
            return self.bad_row(line, column, shown, "UTF-8, the encoding of its source");
        }
        let place = match column {
            "" => String::new(),
            column => format!(" in column '{column}'"),
        };
        let shown: String = shown.chars().take(80).collect();
        let why = format!("bytes that are not UTF-8{place}: '{shown}'");
        self.misencoded(line, why, "windows-1252".into())
    }

    fn misencoded(&self, line: u64, why: String, label: String) -> FileError {
        FileError::Encoding {
            file: self.file.clone(),
            line,
            why,
            label,
        }
    }

    fn damaged(&self, line: u64, why: impl ToString) -> FileError {
        FileError::Damaged {
            file: self.file.clone(),
            line,
            why: why.to_string(),
        }
    }
}

impl std::fmt::Debug for FileReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileReader")
            .field("file", &self.context.file)
            .field("next_offset", &self.context.next_offset)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod key_tests;
#[cfg(test)]
mod parquet_tests;
#[cfg(test)]
mod tests;
