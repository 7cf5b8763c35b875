//! JSON Lines: one object a line.

use std::io::{BufRead, BufReader, Read};

use serde_json::{Map, Value as Json};

use super::cell::{parse_time, set_absent, set_json, set_null};
use super::{FileContext, FileError, MAX_ROW_BYTES};
use crate::avro::program::sources;
use crate::row::RowBatch;

pub(super) struct JsonRows {
    reader: BufReader<Box<dyn Read + Send>>,
    line: Vec<u8>,
    number: u64,
    /// The members of the last line, and for each field which of them means it.
    members: Vec<String>,
    columns: Vec<Option<usize>>,
}

impl JsonRows {
    pub(super) fn open(bytes: Box<dyn Read + Send>) -> JsonRows {
        JsonRows {
            reader: BufReader::new(bytes),
            line: Vec::new(),
            number: 0,
            members: Vec::new(),
            columns: Vec::new(),
        }
    }

    /// Appends the next row; `false` at the end. Empty lines are no rows.
    pub(super) fn next(
        &mut self,
        context: &mut FileContext,
        batch: &mut RowBatch,
    ) -> Result<bool, FileError> {
        loop {
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
            if !self.line.trim_ascii().is_empty() {
                break;
            }
        }
        let line = self.number;
        let mut builder = context.start(batch);
        let object: Map<String, Json> = serde_json::from_slice(&self.line).map_err(|e| {
            context.bad_row(
                line,
                "",
                &String::from_utf8_lossy(&self.line),
                format!("a JSON object ({e})"),
            )
        })?;
        let table = context.catalog.table_at(context.table);
        // Lines need not have the same members, though most have.
        if self.columns.is_empty() || !object.keys().eq(&self.members) {
            self.members = object.keys().cloned().collect();
            let names: Vec<&str> = self.members.iter().map(String::as_str).collect();
            self.columns = sources(&context.targets, table, &names, &context.options.columns);
        }
        for (target, column) in context.targets.iter().zip(&self.columns) {
            let json = column.and_then(|index| object.get(&self.members[index]));
            let set = match json {
                None => set_absent(target, &mut builder),
                Some(Json::Null) => set_null(target, &mut builder),
                Some(json) => set_json(target, json, &mut builder),
            };
            let name = &table.field_at(target.field).name;
            set.map_err(|expected| {
                context.bad_row(line, name, &json.map_or(String::new(), shown), expected)
            })?;
        }
        let known_ms = match context
            .options
            .known_time
            .as_ref()
            .and_then(|column| Some((column, object.get(column)?)))
        {
            None | Some((_, Json::Null)) => None,
            Some((column, json)) => {
                let known = json.as_i64().or_else(|| parse_time(json.as_str()?.trim()));
                Some(known.ok_or_else(|| {
                    context.bad_row(line, column, &shown(json), "the time the row was known")
                })?)
            }
        };
        context.finish(builder, known_ms, line)?;
        Ok(true)
    }
}

fn shown(json: &Json) -> String {
    json.as_str()
        .map_or_else(|| json.to_string(), str::to_owned)
}
