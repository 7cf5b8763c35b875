//! The rows of prepared files, merged into one stream.
//!
//! The order: known time; at the same moment hubs, roots, members, events; then the files as
//! listed; then the rows as written.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use leadpulse_schema::{Catalog, FileReader, Role, RowBatch};

use crate::HistoryError;
use crate::files::{CHUNK_ROWS_OF_ONE, FileSource, Files, Supply, go_on, read};
use crate::report::FileReport;
use crate::spill::RunMerge;

/// Rows read at a time, over all files.
const CHUNK_ROWS: usize = 65_536;

impl Files {
    /// All rows from the start, in order.
    pub fn replay(&self) -> Result<Replay, HistoryError> {
        self.replay_of(|_| true)
    }

    /// The rows of all tables that are [learned from](Role::is_learned), from the start, in order.
    pub fn replay_learned(&self) -> Result<Replay, HistoryError> {
        let catalog = self.catalog.clone();
        self.replay_of(|source| catalog.table_at(source.table).role.is_learned())
    }

    /// The rows of the chosen files from the start, in order.
    pub fn replay_of(
        &self,
        is_wanted: impl Fn(&FileSource) -> bool,
    ) -> Result<Replay, HistoryError> {
        let chunk_rows = (CHUNK_ROWS / self.sources.len().max(1))
            .clamp(CHUNK_ROWS_OF_ONE.0, CHUNK_ROWS_OF_ONE.1);
        let mut replay = Replay {
            catalog: self.catalog.clone(),
            streams: Vec::new(),
            heap: BinaryHeap::new(),
            end: self.end.clone(),
        };
        let wanted = self.sources.iter().filter(|(source, _)| is_wanted(source));
        for (source, supply) in wanted {
            replay
                .streams
                .push(FileStream::open(&self.catalog, source, supply, chunk_rows)?);
        }
        for stream in 0..replay.streams.len() {
            replay.requeue(stream)?;
        }
        Ok(replay)
    }
}

/// Rows of one file, in order of known time.
struct FileStream {
    source: FileSource,
    origin: Origin,
    chunk_rows: usize,
    /// Next row of the origin's batch, or of its order.
    next: usize,
}

enum Origin {
    Resident(Arc<RowBatch>, Arc<[u32]>),
    File(Box<FileReader>, RowBatch),
    Merge(RunMerge, RowBatch),
}

impl FileStream {
    fn open(
        catalog: &Arc<Catalog>,
        source: &FileSource,
        supply: &Supply,
        chunk_rows: usize,
    ) -> Result<Self, HistoryError> {
        let origin = match supply {
            Supply::Resident(rows, order) => Origin::Resident(rows.clone(), order.clone()),
            Supply::InOrder => Origin::File(Box::new(source.open(catalog)?), RowBatch::new()),
            Supply::Sorted(spill) => {
                Origin::Merge(source.spilling(spill.merge())?, RowBatch::new())
            }
        };
        Ok(Self {
            source: source.clone(),
            origin,
            chunk_rows,
            next: 0,
        })
    }

    /// The next row's batch and index; `None` at the end.
    fn peek(&mut self) -> Result<Option<(&RowBatch, usize)>, HistoryError> {
        match &mut self.origin {
            Origin::Resident(rows, order) => {
                Ok(order.get(self.next).map(|index| (&**rows, *index as usize)))
            }
            Origin::File(reader, rows) => {
                if self.next >= rows.len() {
                    rows.clear();
                    self.next = 0;
                    // Counted when the file was prepared.
                    let mut again = FileReport::new(self.source.table, self.source.path.clone());
                    read(reader, rows, self.chunk_rows, &mut again)?;
                }
                Ok((self.next < rows.len()).then_some((&*rows, self.next)))
            }
            Origin::Merge(merge, rows) => {
                if self.next >= rows.len() {
                    rows.clear();
                    self.next = 0;
                    self.source.spilling(merge.read(rows, self.chunk_rows))?;
                }
                Ok((self.next < rows.len()).then_some((&*rows, self.next)))
            }
        }
    }
}

/// The rows of all files, merged in order of known time.
pub struct Replay {
    catalog: Arc<Catalog>,
    streams: Vec<FileStream>,
    /// (known time, rank of the table's role, stream): what comes next.
    heap: BinaryHeap<Reverse<(i64, u8, usize)>>,
    /// True once nobody wants the rest.
    end: Arc<AtomicBool>,
}

/// At the same moment hubs, staff and roots are known before members, members before events, and all
/// before what people say about alerts.
fn rank(role: Role) -> u8 {
    match role {
        Role::Hub | Role::Staff => 0,
        Role::Root => 1,
        Role::Member => 2,
        Role::Event => 3,
        Role::Override | Role::Feedback | Role::Erasure => 4,
    }
}

impl Replay {
    /// Prepares the files and replays them; [`Files`] serve several passes.
    pub fn open(catalog: Arc<Catalog>, sources: &[FileSource]) -> Result<Self, HistoryError> {
        Files::prepare(catalog, sources)?.replay()
    }

    fn requeue(&mut self, index: usize) -> Result<(), HistoryError> {
        let stream = &mut self.streams[index];
        if let Some((rows, row)) = stream.peek()? {
            let known_ms = rows.row(row).known_ms();
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
    ///
    /// # Errors
    /// A file that cannot be read on; [`HistoryError::Ended`].
    pub fn read(
        &mut self,
        until_ms: i64,
        max_rows: usize,
        batch: &mut RowBatch,
    ) -> Result<usize, HistoryError> {
        go_on(&self.end)?;
        let mut taken = 0;
        while taken < max_rows {
            let Some(Reverse((known_ms, _, index))) = self.heap.peek().copied() else {
                break;
            };
            if known_ms > until_ms {
                break;
            }
            self.heap.pop();
            let stream = &mut self.streams[index];
            let (rows, row) = stream.peek()?.expect("a queued stream has a next row");
            batch.push_copy(&self.catalog, rows.row(row));
            stream.next += 1;
            taken += 1;
            self.requeue(index)?;
        }
        Ok(taken)
    }
}
