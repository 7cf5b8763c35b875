//! Records of files that may have an envelope: JSON Lines, and containers that are not plain.

use std::sync::Arc;

use super::{FileContext, FileError};
use crate::row::RowBatch;
use crate::shape::changes::ChangeNames;
use crate::shape::data_node::DataNode;
use crate::shape::fill::{FieldFault, RowPlaces, commit_ms, shown};
use crate::shape::moment::TimeFault;
use crate::shape::rows::{MeantRows, RecordMeaning, fill_row, meaning};

/// The schema of a record: its name, and the names of changed fields.
pub(super) type RecordSchema<'s> = Option<(&'s str, &'s ChangeNames)>;

/// A fault of a row before its file and line are known.
enum RowFault {
    Field(FieldFault),
    File(FileError),
}

impl From<FieldFault> for RowFault {
    fn from(fault: FieldFault) -> Self {
        RowFault::Field(fault)
    }
}

impl FileContext {
    /// Appends the rows of one record, or of each record of an array.
    ///
    /// # Errors
    /// A row of the record is bad; none of its rows is in the batch then.
    pub(super) fn rows(
        &mut self,
        node: &DataNode<'_>,
        schema: RecordSchema<'_>,
        line: u64,
        batch: &mut RowBatch,
    ) -> Result<(), FileError> {
        let offset = self.next_offset;
        self.next_offset += 1;
        let plan = Arc::clone(&self.plan);
        let catalog = Arc::clone(&self.catalog);
        let before = batch.len();
        let records = match node {
            DataNode::List(items) => items.iter().collect(),
            one => vec![one],
        };
        for record in records {
            let meant = meaning(&plan, &catalog, record, schema.map(|(name, _)| name));
            let appended = match meant.map_err(RowFault::Field) {
                Ok(RecordMeaning::Rows(rows)) => self.append(&rows, schema, offset, line, batch),
                Ok(RecordMeaning::Foreign | RecordMeaning::NoRow(_)) => {
                    self.passed_over += 1;
                    Ok(())
                }
                Ok(RecordMeaning::EndsByKey) => Err(FieldFault::without_key().into()),
                Err(fault) => Err(fault),
            };
            if let Err(fault) = appended {
                batch.truncate(before);
                return Err(self.file_error(fault, line));
            }
        }
        Ok(())
    }

    fn append(
        &mut self,
        rows: &MeantRows<'_, '_>,
        schema: RecordSchema<'_>,
        offset: i64,
        line: u64,
        batch: &mut RowBatch,
    ) -> Result<(), RowFault> {
        let plan = Arc::clone(&self.plan);
        let catalog = Arc::clone(&self.catalog);
        rows.try_for_each(|places| {
            let names = schema.map_or(&self.names, |(_, names)| names);
            let mut row = batch.start(
                &catalog,
                self.table,
                rows.operation,
                self.position(offset),
                0,
            );
            let fit = &mut self.fit;
            fill_row(
                &plan,
                names,
                &catalog,
                places,
                rows.operation,
                fit,
                &mut row,
            )?;
            let known_ms = self.known_ms(places, line).map_err(RowFault::File)?;
            let at_ms = commit_ms(places.envelope, places.record);
            self.finish(row, known_ms, at_ms, line)
                .map_err(RowFault::File)
        })
    }

    fn file_error(&self, fault: RowFault, line: u64) -> FileError {
        match fault {
            RowFault::File(error) => error,
            RowFault::Field(FieldFault {
                field,
                value,
                expected,
                is_incomplete,
            }) => {
                let expected = match is_incomplete && !field.is_empty() {
                    true => format!("a value: {expected}"),
                    false => expected,
                };
                self.bad_row(line, &field, &value, expected)
            }
        }
    }

    /// The time of the known-time column, in the row or in its envelope.
    fn known_ms(&self, places: &RowPlaces<'_, '_>, line: u64) -> Result<Option<i64>, FileError> {
        let Some(path) = &self.known_path else {
            return Ok(None);
        };
        let found = path.find(places.row).or_else(|| path.find(places.record));
        let node = match found {
            None | Some(DataNode::Null) => return Ok(None),
            Some(DataNode::Text(text)) if self.plan.text.is_null(text) => return Ok(None),
            Some(node) => node,
        };
        let known = match node {
            DataNode::Moment(ms) => self.known_time.moment(*ms),
            DataNode::Int(number) => self.known_time.number(*number),
            DataNode::Double(number) => self.known_time.fraction(*number),
            DataNode::Text(text) => self.known_time.text(text),
            _ => Err("the time the row was known".to_owned().into()),
        };
        let refused =
            |fault: TimeFault| self.bad_row(line, path.as_str(), &shown(node), fault.words());
        known.map(Some).map_err(refused)
    }
}
