//! JSON Lines: one object a line, which may be an envelope.

use std::io::{BufRead, BufReader, Read};

use super::{FileContext, FileError, MAX_ROW_BYTES};
use crate::row::RowBatch;
use crate::shape::connect::unwrap_payload;
use crate::shape::data_node::DataNode;

pub(super) struct JsonRows {
    reader: BufReader<Box<dyn Read + Send>>,
    line: Vec<u8>,
    number: u64,
}

impl JsonRows {
    pub(super) fn open(bytes: Box<dyn Read + Send>) -> JsonRows {
        JsonRows {
            reader: BufReader::new(bytes),
            line: Vec::new(),
            number: 0,
        }
    }

    /// Appends the rows of the next line that has any; `false` at the end. Empty lines are no rows.
    pub(super) fn next(
        &mut self,
        context: &mut FileContext,
        batch: &mut RowBatch,
    ) -> Result<bool, FileError> {
        let before = batch.len();
        while batch.len() == before {
            self.line.clear();
            self.number += 1;
            let limited = (&mut self.reader)
                .take(MAX_ROW_BYTES)
                .read_until(b'\n', &mut self.line);
            let count = limited.map_err(|e| context.damaged(self.number, e))?;
            if count == 0 {
                return Ok(false);
            }
            if count as u64 == MAX_ROW_BYTES && self.line.last() != Some(&b'\n') {
                return Err(context.damaged(
                    self.number,
                    format!("a line is longer than {MAX_ROW_BYTES} bytes"),
                ));
            }
            if self.line.trim_ascii().is_empty() {
                continue;
            }
            let line = self.number;
            if std::str::from_utf8(&self.line).is_err() {
                context.next_offset += 1;
                return Err(context.not_utf8(line, "", &String::from_utf8_lossy(&self.line)));
            }
            let node = DataNode::json(&self.line).map_err(|e| {
                context.next_offset += 1;
                context.bad_row(
                    line,
                    "",
                    &String::from_utf8_lossy(&self.line),
                    format!("a JSON object ({e})"),
                )
            })?;
            context.rows(&unwrap_payload(node), None, line, batch)?;
        }
        Ok(true)
    }
}
