//! Rows on disk for a while: the sorted runs of one file that is not in order of known time, and
//! their merge.
//!
//! The temporary file has no name: the system frees it when the last handle is gone, however the
//! process ends. It lies in the system's temporary folder (`TMPDIR`).
//!
//! A row is written as: length of the rest (`u32`), known time and offset (`i64`), operation
//! (`u8`, its highest bit set where the record carries its own known time), then each field of its table as a tag and its value. All numbers are little-endian.
//! Nothing else reads it, so there is no version.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use leadpulse_schema::{Catalog, Operation, Position, Row, RowBatch, TableId, Value};

/// All runs of a merge share this much read-ahead, bytes.
const READ_AHEAD_BYTES: usize = 16 << 20;
/// But each run reads at least this much at a time.
const MIN_READ_BYTES: usize = 8 << 10;
/// And at most this.
const MAX_READ_BYTES: usize = 1 << 20;

/// Sorted runs of the rows of one file.
#[derive(Debug)]
pub(crate) struct Spill {
    catalog: Arc<Catalog>,
    table: TableId,
    partition: u32,
    file: File,
    /// From byte, to byte.
    runs: Vec<(u64, u64)>,
}

impl Spill {
    /// An empty temporary file for rows of one table and partition.
    pub fn new(catalog: Arc<Catalog>, table: TableId, partition: u32) -> io::Result<Self> {
        Ok(Self {
            catalog,
            table,
            partition,
            file: tempfile::tempfile()?,
            runs: Vec::new(),
        })
    }

    /// Writes the rows of a batch as one run: by known time, rows of the same moment in their
    /// order.
    pub fn push_run(&mut self, rows: &RowBatch) -> io::Result<()> {
        let order = by_known_time(rows);
        let from = self.runs.last().map_or(0, |(_, to)| *to);
        let mut to = from;
        let mut out = BufWriter::with_capacity(MAX_READ_BYTES, &self.file);
        let mut record = Vec::new();
        let fields = self.catalog.table_at(self.table).fields.len();
        for index in order {
            record.clear();
            encode(rows.row(index as usize), fields, &mut record);
            out.write_all(&record)?;
            to += record.len() as u64;
        }
        out.flush()?;
        drop(out);
        self.runs.push((from, to));
        Ok(())
    }

    /// The rows of all runs in order of known time, rows of the same moment in the order they were
    /// pushed in.
    pub fn merge(self: &Arc<Self>) -> io::Result<RunMerge> {
        let read_bytes =
            (READ_AHEAD_BYTES / self.runs.len().max(1)).clamp(MIN_READ_BYTES, MAX_READ_BYTES);
        let mut merge = RunMerge {
            spill: self.clone(),
            cursors: Vec::new(),
            next: BinaryHeap::new(),
        };
        for (run, &(from, to)) in self.runs.iter().enumerate() {
            let mut cursor = RunCursor {
                at: from,
                to,
                read_bytes,
                buffer: Vec::new(),
                used: 0,
            };
            if let Some(known_ms) = cursor.peek(&self.file)? {
                merge.next.push(Reverse((known_ms, run)));
            }
            merge.cursors.push(cursor);
        }
        Ok(merge)
    }
}

/// Indices of the rows in order of known time, rows of the same moment in their order.
pub(crate) fn by_known_time(rows: &RowBatch) -> Vec<u32> {
    let mut order: Vec<u32> = (0..rows.len() as u32).collect();
    order.sort_by_key(|index| rows.row(*index as usize).known_ms());
    order
}

/// The progress of reading one run.
#[derive(Debug)]
struct RunCursor {
    /// The first byte of the file behind the buffer.
    at: u64,
    to: u64,
    read_bytes: usize,
    buffer: Vec<u8>,
    /// The number of leading bytes of the buffer that are used up.
    used: usize,
}

impl RunCursor {
    /// Makes sure that `wanted` unused bytes are in the buffer; `false` at the end of the run.
    fn fill(&mut self, file: &File, wanted: usize) -> io::Result<bool> {
        let held = self.buffer.len() - self.used;
        if held >= wanted {
            return Ok(true);
        }
        self.buffer.drain(..self.used);
        self.used = 0;
        let left = (self.to - self.at) as usize;
        let take = left.min((wanted - held).max(self.read_bytes));
        self.buffer.resize(held + take, 0);
        file.read_exact_at(&mut self.buffer[held..], self.at)?;
        self.at += take as u64;
        Ok(self.buffer.len() >= wanted)
    }

    /// Known time of the next row; `None` at the end of the run.
    fn peek(&mut self, file: &File) -> io::Result<Option<i64>> {
        if !self.fill(file, 12)? {
            return Ok(None);
        }
        let known: [u8; 8] = self.buffer[self.used + 4..self.used + 12]
            .try_into()
            .expect("a slice of 8 bytes");
        Ok(Some(i64::from_le_bytes(known)))
    }

    /// The bytes of the next row behind its length. [`Self::peek`] must have found one.
    fn take(&mut self, file: &File) -> io::Result<&[u8]> {
        let length: [u8; 4] = self.buffer[self.used..self.used + 4]
            .try_into()
            .expect("a slice of 4 bytes");
        let length = u32::from_le_bytes(length) as usize;
        self.fill(file, 4 + length)?;
        let start = self.used + 4;
        self.used = start + length;
        Ok(&self.buffer[start..start + length])
    }
}

/// The runs of a spill, merged.
#[derive(Debug)]
pub(crate) struct RunMerge {
    spill: Arc<Spill>,
    cursors: Vec<RunCursor>,
    /// The known time of the next row of each run, with the run's number.
    next: BinaryHeap<Reverse<(i64, usize)>>,
}

impl RunMerge {
    /// Appends up to `max_rows` rows; 0 is the end.
    pub fn read(&mut self, batch: &mut RowBatch, max_rows: usize) -> io::Result<usize> {
        let mut taken = 0;
        while taken < max_rows
            && let Some(Reverse((_, run))) = self.next.pop()
        {
            let cursor = &mut self.cursors[run];
            decode(&self.spill, cursor.take(&self.spill.file)?, batch);
            if let Some(known_ms) = cursor.peek(&self.spill.file)? {
                self.next.push(Reverse((known_ms, run)));
            }
            taken += 1;
        }
        Ok(taken)
    }
}

/// The mark of a field whose value the row does not carry.
const UNCHANGED: u8 = 8;

/// The bit of the operation for a row that carries its own known time.
const OWN_TIME: u8 = 0x80;

fn encode(row: Row<'_>, fields: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&row.known_ms().to_le_bytes());
    out.extend_from_slice(&row.position().offset.to_le_bytes());
    let operation = match row.operation() {
        Operation::Upsert => 0,
        Operation::Delete => 1,
        Operation::Retract => 2,
        Operation::Gap => 3,
    };
    out.push(
        operation
            | if row.has_own_known_time() {
                OWN_TIME
            } else {
                0
            },
    );
    let text = |text: &str, out: &mut Vec<u8>| {
        out.extend_from_slice(&(text.len() as u32).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    };
    for field in 0..fields {
        let field = leadpulse_schema::FieldId(field as u16);
        if row.is_unchanged(field) {
            out.push(UNCHANGED);
            continue;
        }
        match row.get(field) {
            Value::Null => out.push(0),
            Value::Bool(b) => out.push(1 + u8::from(b)),
            Value::Long(n) => {
                out.push(3);
                out.extend_from_slice(&n.to_le_bytes());
            }
            Value::Double(x) => {
                out.push(4);
                out.extend_from_slice(&x.to_le_bytes());
            }
            Value::Time(t) => {
                out.push(5);
                out.extend_from_slice(&t.to_le_bytes());
            }
            Value::Text(value) => {
                out.push(6);
                text(value, out);
            }
            Value::List(list) => {
                out.push(7);
                out.extend_from_slice(&(list.iter().count() as u32).to_le_bytes());
                list.iter().for_each(|item| text(item, out));
            }
        }
    }
    let length = (out.len() - 4) as u32;
    out[..4].copy_from_slice(&length.to_le_bytes());
}

/// The unread rest of a record.
struct RecordBytes<'a>(&'a [u8]);

impl<'a> RecordBytes<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(length);
        self.0 = rest;
        head
    }
    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N)
            .try_into()
            .expect("take returns as many bytes as asked for")
    }
    fn text(&mut self) -> &'a str {
        let length = u32::from_le_bytes(self.array()) as usize;
        std::str::from_utf8(self.take(length)).expect("encode writes text from &str")
    }
}

fn decode(spill: &Spill, record: &[u8], batch: &mut RowBatch) {
    let mut bytes = RecordBytes(record);
    let known_ms = i64::from_le_bytes(bytes.array());
    let position = Position {
        partition: spill.partition,
        offset: i64::from_le_bytes(bytes.array()),
    };
    let [head] = bytes.array();
    let operation = match head & !OWN_TIME {
        0 => Operation::Upsert,
        1 => Operation::Delete,
        2 => Operation::Retract,
        _ => Operation::Gap,
    };
    let mut row = batch.start(&spill.catalog, spill.table, operation, position, known_ms);
    if head & OWN_TIME != 0 {
        row.set_own_known_ms(known_ms);
    }
    for field in &spill.catalog.table_at(spill.table).fields {
        match bytes.array() {
            [0] => {}
            [UNCHANGED] => row.set_unchanged(field.id),
            [1] => row.set(field.id, Value::Bool(false)),
            [2] => row.set(field.id, Value::Bool(true)),
            [3] => row.set(field.id, Value::Long(i64::from_le_bytes(bytes.array()))),
            [4] => row.set(field.id, Value::Double(f64::from_le_bytes(bytes.array()))),
            [5] => row.set(field.id, Value::Time(i64::from_le_bytes(bytes.array()))),
            [6] => row.set(field.id, Value::Text(bytes.text())),
            _ => {
                let items = u32::from_le_bytes(bytes.array());
                row.set_list(field.id, (0..items).map(|_| bytes.text()));
            }
        }
    }
    row.finish();
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNTS: &str = r#"{"type":"record","name":"Account","leadpulse":{"table":"accounts","role":"root"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"at","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null,"leadpulse":{"time":true}},
      {"name":"big","type":["null","boolean"],"default":null},
      {"name":"staff","type":["null","long"],"default":null},
      {"name":"revenue","type":["null","double"],"default":null},
      {"name":"tags","type":{"type":"array","items":"string"},"default":[]}]}"#;
    const VISITS: &str = r#"{"type":"record","name":"Visit","leadpulse":{"table":"visits","role":"event"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"account","type":"string","leadpulse":{"ref":"accounts","owner":true}},
      {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}}]}"#;

    fn show(row: Row<'_>) -> String {
        let fields: Vec<String> = (0..6)
            .map(|f| match row.get(leadpulse_schema::FieldId(f)) {
                Value::List(list) => format!("{:?}", list.iter().collect::<Vec<_>>()),
                value => format!("{value:?}"),
            })
            .collect();
        format!(
            "{:?} {:?} {} {} {}",
            row.operation(),
            row.position(),
            row.known_ms(),
            row.has_own_known_time(),
            fields.join(" ")
        )
    }

    #[test]
    fn runs_come_back_whole_and_in_stable_order() {
        let catalog = Arc::new(
            Catalog::from_json(&[("accounts.avsc", ACCOUNTS), ("visits.avsc", VISITS)]).unwrap(),
        );
        let table = catalog.table("accounts").unwrap();
        let field = |name: &str| table.field(name).unwrap().id;
        let mut all = RowBatch::new();
        for i in 0..1000_i64 {
            // Many rows of the same moment, out of order; values of every kind and length, a row
            // larger than the read-ahead.
            let known_ms = (i * 7919) % 13 - 5;
            let operation =
                [Operation::Upsert, Operation::Delete, Operation::Retract][i as usize % 3];
            let mut row = all.start(
                &catalog,
                table.id,
                operation,
                Position {
                    partition: 3,
                    offset: i,
                },
                known_ms,
            );
            let text = if i == 500 {
                "x".repeat(3 << 20)
            } else {
                format!("é{i}")
            };
            row.set(field("id"), Value::Text(&text));
            if i % 2 == 0 {
                row.set(field("at"), Value::Time(i - 500));
                row.set(field("big"), Value::Bool(i % 4 == 0));
                row.set(field("staff"), Value::Long(-i));
                row.set(field("revenue"), Value::Double(i as f64 / 3.0));
                row.set_list(
                    field("tags"),
                    ["a", "", &text].into_iter().take(i as usize % 4),
                );
            }
            if i % 3 == 0 {
                row.set_own_known_ms(known_ms);
            }
            row.finish();
        }
        let mut spill = Spill::new(catalog.clone(), table.id, 3).unwrap();
        for start in (0..1000).step_by(64) {
            let mut run = RowBatch::new();
            (start..(start + 64).min(1000)).for_each(|i| run.push_copy(&catalog, all.row(i)));
            spill.push_run(&run).unwrap();
        }
        let expected: Vec<String> = by_known_time(&all)
            .into_iter()
            .map(|i| show(all.row(i as usize)))
            .collect();
        let spill = Arc::new(spill);
        // Each merge reads for itself.
        let mut merges = [spill.merge().unwrap(), spill.merge().unwrap()];
        let mut read = [RowBatch::new(), RowBatch::new()];
        while merges
            .iter_mut()
            .zip(&mut read)
            .map(|(merge, batch)| merge.read(batch, 77).unwrap())
            .sum::<usize>()
            > 0
        {}
        for batch in &read {
            assert!(batch.iter().map(show).eq(expected.iter().cloned()));
        }
    }
}
