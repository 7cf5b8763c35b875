//! Files of many tables, read as one stream in order of known time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::PathBuf;
use std::sync::Arc;

use leadpulse_schema::{Catalog, FileError, FileOptions, FileReader, Role, RowBatch, TableId};

/// Rows read from a file at a time.
const CHUNK_ROWS: usize = 8192;
/// A file of up to this many rows is held in memory and sorted; a longer one is streamed if its rows are in order of known time.
const SORTED_IN_MEMORY_ROWS: usize = 200_000;

/// One file of one table.
#[derive(Clone, Debug)]
pub struct FileSource {
    /// Its table.
    pub table: TableId,
    /// Where it is.
    pub path: PathBuf,
    /// How its rows are to be understood; the partition is set by [`Replay::open`].
    pub options: FileOptions,
}

/// Rows of one file, in order of known time.
struct Stream {
    source: FileSource,
    /// `None` once everything is in memory.
    reader: Option<FileReader>,
    rows: RowBatch,
    order: Vec<u32>,
    next: usize,
}

/// All files, merged.
pub struct Replay {
    catalog: Arc<Catalog>,
    streams: Vec<Stream>,
    /// (known time, rank of the table's role, stream): what comes next.
    heap: BinaryHeap<Reverse<(i64, u8, usize)>>,
    rejected: u64,
}

/// At the same moment hubs and roots are known before members, and members before events.
fn rank(role: Role) -> u8 {
    match role {
        Role::Hub => 0,
        Role::Root => 1,
        Role::Member => 2,
        Role::Event => 3,
    }
}

/// Reads on; a row that cannot be used is told, counted and passed over.
fn read(reader: &mut FileReader, batch: &mut RowBatch, rejected: &mut u64) -> Result<usize, FileError> {
    let before = batch.len();
    while batch.len() - before < CHUNK_ROWS {
        match reader.read(batch, CHUNK_ROWS - (batch.len() - before)) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.is_row() => {
                *rejected += 1;
                if *rejected <= 10 {
                    tracing::warn!(%error, "row passed over");
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(batch.len() - before)
}

impl Stream {
    fn open(catalog: &Arc<Catalog>, source: FileSource, rejected: &mut u64) -> Result<Self, FileError> {
        let mut first_pass = 0;
        let open = || FileReader::open(&source.path, catalog.clone(), source.table, source.options.clone());
        let mut reader = open()?;
        let mut rows = RowBatch::new();
        let (mut sorted, mut last, mut total, mut checked) = (true, i64::MIN, 0, 0);
        loop {
            let read = read(&mut reader, &mut rows, &mut first_pass)?;
            for row in (checked..rows.len()).map(|i| rows.row(i)) {
                sorted &= row.known_ms() >= last;
                last = row.known_ms();
            }
            total += read;
            checked = rows.len();
            if read == 0 {
                break;
            }
            if total > SORTED_IN_MEMORY_ROWS && sorted {
                rows.clear();
                checked = 0;
            }
        }
        if total <= SORTED_IN_MEMORY_ROWS || !sorted {
            if total > SORTED_IN_MEMORY_ROWS {
                // Part of it may have been let go before disorder was seen.
                tracing::warn!(file = %source.path.display(), rows = total, "not in order of known time: sorted in memory");
                reader = open()?;
                rows.clear();
                while read(&mut reader, &mut rows, &mut 0)? > 0 {}
            }
            *rejected += first_pass;
            let mut order: Vec<u32> = (0..rows.len() as u32).collect();
            order.sort_by_key(|i| rows.row(*i as usize).known_ms());
            return Ok(Self { source, reader: None, rows, order, next: 0 });
        }
        rows.clear();
        let reader = Some(open()?);
        Ok(Self { source, reader, rows, order: Vec::new(), next: 0 })
    }

    /// Known time of the next row.
    fn peek(&mut self, rejected: &mut u64) -> Result<Option<i64>, FileError> {
        if self.next >= self.order.len() {
            let Some(reader) = &mut self.reader else { return Ok(None) };
            self.rows.clear();
            read(reader, &mut self.rows, rejected)?;
            self.order = (0..self.rows.len() as u32).collect();
            self.next = 0;
        }
        Ok(self.order.get(self.next).map(|i| self.rows.row(*i as usize).known_ms()))
    }
}

impl Replay {
    /// Opens all files. A file's partition number is its place in the list.
    pub fn open(catalog: Arc<Catalog>, sources: &[FileSource]) -> Result<Self, FileError> {
        let mut replay = Self { catalog: catalog.clone(), streams: Vec::new(), heap: BinaryHeap::new(), rejected: 0 };
        for (partition, source) in sources.iter().enumerate() {
            let mut source = source.clone();
            source.options.partition = partition as u32;
            replay.streams.push(Stream::open(&catalog, source, &mut replay.rejected)?);
        }
        for stream in 0..replay.streams.len() {
            replay.requeue(stream)?;
        }
        Ok(replay)
    }

    fn requeue(&mut self, index: usize) -> Result<(), FileError> {
        let stream = &mut self.streams[index];
        if let Some(known_ms) = stream.peek(&mut self.rejected)? {
            let role = self.catalog.table_at(stream.source.table).role;
            self.heap.push(Reverse((known_ms, rank(role), index)));
        }
        Ok(())
    }

    /// Known time of the next row; `None` at the end.
    pub fn peek_ms(&self) -> Option<i64> {
        self.heap.peek().map(|Reverse((known_ms, ..))| *known_ms)
    }

    /// Appends the next rows known at or before `until_ms`, at most `max_rows`. 0: there are none.
    pub fn read(&mut self, until_ms: i64, max_rows: usize, batch: &mut RowBatch) -> Result<usize, FileError> {
        let mut taken = 0;
        while taken < max_rows {
            let Some(Reverse((known_ms, _, index))) = self.heap.peek().copied() else { break };
            if known_ms > until_ms {
                break;
            }
            self.heap.pop();
            let stream = &mut self.streams[index];
            batch.push_copy(&self.catalog, stream.rows.row(stream.order[stream.next] as usize));
            stream.next += 1;
            taken += 1;
            self.requeue(index)?;
        }
        Ok(taken)
    }

    /// Rows that could not be used so far.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }
}
