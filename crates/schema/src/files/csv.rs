//! CSV with a header line.

use std::borrow::Cow;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder};

use super::{FileContext, FileError, MAX_ROW_BYTES};
use crate::admit::admit;
use crate::row::{RowBatch, RowBuilder};
use crate::shape::data_node::DataNode;
use crate::shape::value::{set_absent, set_null, set_text};

pub(super) struct CsvRows {
    reader: Reader<Bounded>,
    record: ByteRecord,
    /// For each field its column's number and name.
    columns: Vec<Option<usize>>,
    names: Vec<String>,
    known_time: Option<usize>,
    row_bytes: Arc<AtomicU64>,
}

impl CsvRows {
    pub(super) fn open(
        bytes: Box<dyn Read + Send>,
        context: &FileContext,
    ) -> Result<CsvRows, FileError> {
        let row_bytes = Arc::new(AtomicU64::new(0));
        let mut reader = ReaderBuilder::new().from_reader(Bounded {
            bytes,
            row_bytes: row_bytes.clone(),
        });
        let header = reader.headers().map_err(|e| context.damaged(1, e))?;
        let names: Vec<String> = header
            .iter()
            .map(|name| name.trim_start_matches('\u{feff}').trim().to_owned())
            .collect();
        let found: Vec<&str> = names.iter().map(String::as_str).collect();
        let columns = context.columns(&found)?;
        let known_time = context
            .options
            .known_time
            .as_ref()
            .and_then(|known| found.iter().position(|name| name == known));
        Ok(CsvRows {
            reader,
            record: ByteRecord::new(),
            columns,
            names,
            known_time,
            row_bytes,
        })
    }

    /// Appends the next row; `false` at the end.
    pub(super) fn next(
        &mut self,
        context: &mut FileContext,
        batch: &mut RowBatch,
    ) -> Result<bool, FileError> {
        let line = loop {
            let Some(line) = self.read_line(context)? else {
                return Ok(false);
            };
            if !context.plan.is_filtered() || context.plan.wants(&self.as_node(), None) {
                break line;
            }
            context.next_offset += 1;
            context.passed_over += 1;
        };
        let mut builder = context.start(batch);
        for (index, column) in self.columns.iter().enumerate() {
            let target = &context.plan.targets[index];
            let Some(column) = column else {
                set_absent(target, &mut builder).expect(
                    "checked on open: a field without a column has a default or may be null",
                );
                continue;
            };
            let cell = self.cell(*column, context, line)?;
            let set = if cell.is_empty() {
                set_null(target, &mut builder)
            } else {
                set_text(target, cell, &mut builder)
            };
            set.map_err(|expected| context.bad_row(line, &self.names[*column], cell, expected))?;
            context.fit.feed(index);
        }
        self.admit(context, &mut builder, line)?;
        let known_ms =
            match self
                .known_time
                .map(|index| Ok((index, self.cell(index, context, line)?.trim())))
                .transpose()?
            {
                None | Some((_, "")) => None,
                Some((index, cell)) => Some(context.known_time.text(cell).map_err(|fault| {
                    context.bad_row(line, &self.names[index], cell, fault.words())
                })?),
            };
        context.finish(builder, known_ms, None, line)?;
        Ok(true)
    }

    /// Reads the next line. Returns its number; `None` at the end.
    fn read_line(&mut self, context: &mut FileContext) -> Result<Option<u64>, FileError> {
        self.row_bytes.store(0, Ordering::Relaxed);
        let outcome = self.reader.read_byte_record(&mut self.record);
        let line = self.record.position().map_or(0, csv::Position::line);
        let error = match outcome {
            Ok(true) => return Ok(Some(line)),
            Ok(false) => return Ok(None),
            Err(error) => error,
        };
        Err(match error.kind() {
            ErrorKind::UnequalLengths {
                expected_len, len, ..
            } => {
                context.next_offset += 1;
                context.bad_row(
                    line,
                    "",
                    &format!("{len} cells"),
                    format!("a row of {expected_len} cells, as in the header"),
                )
            }
            _ => context.damaged(line, error),
        })
    }

    /// Gives a list of changed fields the table's names, and checks the row.
    fn admit(
        &self,
        context: &mut FileContext,
        builder: &mut RowBuilder<'_>,
        line: u64,
    ) -> Result<(), FileError> {
        context.fit.row();
        let catalog = context.catalog.clone();
        let table = catalog.table_at(context.table);
        if let Some(list) = table.changed_fields {
            let is_column = |name: &str| self.names.iter().any(|known| known == name);
            let settled = context.names.settle(table, list, builder, is_column);
            let unknown = settled.map_err(|why| {
                let name = &table.field_at(list).name;
                context.bad_row(line, name, "", format!("understood: {why}"))
            })?;
            context.fit.unexplained(unknown);
        }
        admit(table, builder)
            .map_err(|refusal| context.bad_row(line, &refusal.field, "", refusal.why))
    }

    /// The row as a filter looks at it.
    fn as_node(&self) -> DataNode<'_> {
        let cells = self.names.iter().zip(self.record.iter());
        let member = |(name, cell): (&'_ String, &'_ [u8])| {
            let text = String::from_utf8_lossy(cell).into_owned();
            (Cow::Owned(name.clone()), DataNode::Text(Cow::Owned(text)))
        };
        DataNode::Members(cells.map(member).collect())
    }

    fn cell(&self, index: usize, context: &FileContext, line: u64) -> Result<&str, FileError> {
        std::str::from_utf8(&self.record[index]).map_err(|_| {
            context.bad_row(
                line,
                &self.names[index],
                &String::from_utf8_lossy(&self.record[index]),
                "UTF-8",
            )
        })
    }
}

/// Refuses to read on when a row does not end: an open quote would take the whole file for one
/// cell.
struct Bounded {
    bytes: Box<dyn Read + Send>,
    row_bytes: Arc<AtomicU64>,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        let row_bytes = self.row_bytes.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
        if row_bytes > MAX_ROW_BYTES {
            return Err(std::io::Error::other(format!(
                "a row is longer than {MAX_ROW_BYTES} bytes; perhaps a quote is not closed"
            )));
        }
        Ok(count)
    }
}
