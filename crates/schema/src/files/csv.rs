//! Delimited files with a header line.

use std::borrow::Cow;
use std::io::Read;

use csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder};

use super::lines::CountedLines;
use super::{FileContext, FileError};
use crate::admit::{admit, normalise};
use crate::money::UnknownCurrency;
use crate::row::{Operation, RowBatch, RowBuilder, Value};
use crate::shape::data_node::DataNode;
use crate::shape::made_key::{MadeKey, PART_NEEDED, key_of_parts, part_text, row_hash};
use crate::shape::path::FieldPath;
use crate::shape::value::{set_absent, set_null, set_text};

pub(super) struct CsvRows {
    reader: Reader<CountedLines>,
    record: ByteRecord,
    /// For each field its column's number and name.
    columns: Vec<Option<usize>>,
    names: Vec<String>,
    known_time: Option<usize>,
    /// Columns that are parts of the key and feed no field.
    key_columns: Vec<(FieldPath, usize)>,
    /// The column of a truth value that deletes the row's entity.
    deleted: Option<usize>,
}

impl CsvRows {
    pub(super) fn open(
        bytes: Box<dyn Read + Send>,
        separator: u8,
        context: &FileContext,
    ) -> Result<CsvRows, FileError> {
        let text = &context.plan.text;
        let mut reader = ReaderBuilder::new()
            .delimiter(text.separator.unwrap_or(separator))
            .quoting(text.quote.is_some())
            .quote(text.quote.unwrap_or(b'"'))
            .from_reader(CountedLines::new(bytes));
        let names = header(&mut reader, context)?;
        let found: Vec<&str> = names.iter().map(String::as_str).collect();
        if let ([header], None) = (&found[..], text.separator) {
            context.check_separated(header)?;
        }
        context.check_doubled(&found)?;
        let columns = context.columns(&found)?;
        let key_columns = context.key_columns(&found, &columns)?;
        let deleted = context.deleted_column(&found)?;
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
            key_columns,
            deleted,
        })
    }

    /// Names of the columns.
    pub(super) fn names(&self) -> &[String] {
        &self.names
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
            let table = context.catalog.table_at(context.table);
            if context.plan.key.is_some() && target.field == table.key {
                context.fit.feed(index);
                continue;
            }
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
            if let Err(expected) = set {
                if !target.may_drop() {
                    return Err(context.bad_row(line, &self.names[*column], cell, expected));
                }
                context.fit.drop_value(index, cell);
                builder.set(target.field, Value::Null);
            }
            context.fit.feed(index);
        }
        self.make_key(context, &mut builder, line)?;
        self.admit(context, &mut builder, line)?;
        if self.is_deleted(context, line)? {
            builder.set_operation(Operation::Delete);
        }
        let known_ms =
            match self
                .known_time
                .map(|index| Ok((index, self.cell(index, context, line)?.trim())))
                .transpose()?
            {
                None | Some((_, "")) => None,
                Some((_, cell)) if context.plan.text.is_null(cell) => None,
                Some((index, cell)) => Some(context.known_time.text(cell).map_err(|fault| {
                    context.bad_row(line, &self.names[index], cell, fault.words())
                })?),
            };
        context.finish(builder, known_ms, None, line)?;
        Ok(true)
    }

    /// Reads the next line. Returns its number; `None` at the end.
    fn read_line(&mut self, context: &mut FileContext) -> Result<Option<u64>, FileError> {
        self.reader.get_mut().start_row();
        let outcome = self.reader.read_byte_record(&mut self.record);
        let offset = self.record.position().map_or(0, csv::Position::byte);
        let line = self.reader.get_mut().line_at(offset);
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

    /// Sets the key that the source makes from several columns, once the fields are set.
    fn make_key(
        &self,
        context: &FileContext,
        builder: &mut RowBuilder<'_>,
        line: u64,
    ) -> Result<(), FileError> {
        let plan = &context.plan;
        let key = match &plan.key {
            None => return Ok(()),
            Some(MadeKey::WholeRow) => {
                let left_out: Vec<&str> = plan.deleted.iter().map(FieldPath::as_str).collect();
                row_hash(&self.as_node(), &left_out)
            }
            Some(MadeKey::Parts(parts)) => {
                normalise(context.catalog.table_at(context.table), builder);
                let raw = |path: &FieldPath| {
                    let mut columns = self.key_columns.iter();
                    let (_, column) = columns.find(|(known, _)| known == path)?;
                    let cell = self.cell(*column, context, line).ok()?;
                    part_text(&DataNode::Text(Cow::Borrowed(cell)), &plan.text)
                };
                let made = key_of_parts(parts, builder, raw);
                made.map_err(|part| {
                    context.bad_row(line, part, "", format!("a value: {PART_NEEDED}"))
                })?
            }
        };
        let key_field = context.catalog.table_at(context.table).key;
        builder.set(key_field, Value::Text(&key));
        Ok(())
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
        let (targets, fit) = (&context.plan.targets, &mut context.fit);
        let may_drop = |unknown: &UnknownCurrency| {
            let index = unknown.amount.index();
            let may_drop = targets[index].may_drop();
            if may_drop {
                fit.drop_value(index, &unknown.currency);
            }
            may_drop
        };
        admit(table, builder, may_drop).map_err(|refusal| {
            context.bad_row(
                line,
                refusal.field(),
                refusal.value(),
                refusal.expected_cell(),
            )
        })
    }

    /// The truth value that deletes the row's entity; false where the cell is empty.
    fn is_deleted(&self, context: &FileContext, line: u64) -> Result<bool, FileError> {
        let Some(column) = self.deleted else {
            return Ok(false);
        };
        let cell = self.cell(column, context, line)?.trim();
        let text = &context.plan.text;
        if cell.is_empty() || text.is_null(cell) {
            return Ok(false);
        }
        text.truth(cell)
            .map_err(|expected| context.bad_row(line, &self.names[column], cell, expected))
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
        let bytes = &self.record[index];
        std::str::from_utf8(bytes).map_err(|_| {
            context.not_utf8(line, &self.names[index], &String::from_utf8_lossy(bytes))
        })
    }
}

/// The names of the columns, trimmed.
fn header(
    reader: &mut Reader<CountedLines>,
    context: &FileContext,
) -> Result<Vec<String>, FileError> {
    let header = reader.byte_headers().map_err(|e| context.damaged(1, e))?;
    let mut names = Vec::with_capacity(header.len());
    for name in header {
        let name = std::str::from_utf8(name)
            .map_err(|_| context.not_utf8(1, "", &String::from_utf8_lossy(name)))?;
        names.push(name.trim().to_owned());
    }
    Ok(names)
}
