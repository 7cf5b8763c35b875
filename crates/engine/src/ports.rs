//! The engine's ports to the outside: a source of records, a transaction, a log of epochs,
//! schemas, a clock.
//!
//! `kafka` implements them on a cluster; tests implement them in memory. Nothing here is
//! asynchronous: each call is made from the
//! engine's own thread.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use leadpulse_schema::{SchemaRef, TableId, WriterSchema};

mod failure;
mod heartbeat;
mod holding;
mod releases;
mod store;

pub use failure::{PortCause, PortError, PortFailure, ScriptFault};
pub use heartbeat::{CommitMark, Heartbeats, OwnerSight, SignOfLife};
pub use holding::{Holding, HoldingKind};
pub use leadpulse_records::{Output, OutputRecord};
pub use releases::{OfferedRelease, ReleaseRefusal, Releases};
pub use store::{
    EachPiece, OutputPositions, StateStore, StoreError, StoreHead, StoreStatus, StoredChange,
};

/// A partition of the engine's input; its index in [`Source::partitions`] is the `partition` of
/// every record and position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputPartition {
    pub topic: String,
    /// Partition number within the topic.
    pub partition: i32,
    /// Tables that the records may be rows of, in the order of their sources.
    pub tables: Vec<TableId>,
}

/// The offset of the next record to read: last processed + 1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct NextOffset(pub i64);

/// Start and end of bytes in the arena.
type ByteSpan = (usize, usize);

/// Position of a record, and the spans of its bytes.
#[derive(Clone, Debug)]
struct RecordHead {
    partition: u32,
    offset: i64,
    timestamp_ms: i64,
    key: Option<ByteSpan>,
    value: Option<ByteSpan>,
    headers: Vec<(ByteSpan, Option<ByteSpan>)>,
}

/// Input records, bytes in one arena. Reused between epochs.
#[derive(Clone, Debug, Default)]
pub struct RecordBatch {
    heads: Vec<RecordHead>,
    arena: Vec<u8>,
}

/// One record of a [`RecordBatch`].
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    batch: &'a RecordBatch,
    head: &'a RecordHead,
}

impl RecordBatch {
    /// Appends a record. The value of a header may be `None`, which Kafka distinguishes from empty.
    pub fn push<'h>(
        &mut self,
        partition: u32,
        offset: i64,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) {
        let key = key.map(|bytes| self.span(bytes));
        let value = value.map(|bytes| self.span(bytes));
        let headers = headers
            .into_iter()
            .map(|(name, value)| {
                (
                    self.span(name.as_bytes()),
                    value.map(|bytes| self.span(bytes)),
                )
            })
            .collect();
        self.heads.push(RecordHead {
            partition,
            offset,
            timestamp_ms,
            key,
            value,
            headers,
        });
    }
    fn span(&mut self, bytes: &[u8]) -> ByteSpan {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        (start, self.arena.len())
    }
    /// Appends a copy of another batch's record.
    pub fn push_copy(&mut self, record: Record<'_>) {
        self.push(
            record.partition(),
            record.offset(),
            record.timestamp_ms(),
            record.key(),
            record.value(),
            record.headers(),
        );
    }
    /// Keeps the records that `keep` holds for; the bytes of the others stay until [`Self::clear`].
    pub fn retain(&mut self, keep: impl Fn(Record<'_>) -> bool) {
        if self.iter().all(&keep) {
            return;
        }
        let kept: Vec<bool> = self.iter().map(keep).collect();
        let mut kept = kept.into_iter();
        self.heads.retain(|_| kept.next().unwrap_or(true));
    }
    /// Removes all records. The memory is kept for the next epoch.
    pub fn clear(&mut self) {
        self.heads.clear();
        self.arena.clear();
    }
    pub fn len(&self) -> usize {
        self.heads.len()
    }
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }
    /// Bytes of keys, values and headers, those of removed records included.
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }
    /// The record at `index`.
    pub fn record(&self, index: usize) -> Record<'_> {
        Record {
            batch: self,
            head: &self.heads[index],
        }
    }
    /// All records, in order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        self.heads.iter().map(|head| Record { batch: self, head })
    }
}

impl<'a> Record<'a> {
    /// Index of the record's [`InputPartition`].
    pub fn partition(self) -> u32 {
        self.head.partition
    }
    /// Offset within the partition.
    pub fn offset(self) -> i64 {
        self.head.offset
    }
    /// Kafka timestamp, milliseconds: the known time of the row.
    pub fn timestamp_ms(self) -> i64 {
        self.head.timestamp_ms
    }
    /// Kafka key of the input record.
    pub fn key(self) -> Option<&'a [u8]> {
        self.head
            .key
            .map(|(start, end)| &self.batch.arena[start..end])
    }
    /// Kafka value; `None` is a tombstone.
    pub fn value(self) -> Option<&'a [u8]> {
        self.head
            .value
            .map(|(start, end)| &self.batch.arena[start..end])
    }
    /// Headers of the record, in order; `None` is a null value, which Kafka distinguishes from
    /// empty. Names are UTF-8:
    /// librdkafka gives C strings, checked on the way in.
    pub fn headers(self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> {
        let arena = &self.batch.arena;
        self.head.headers.iter().map(move |((start, end), value)| {
            let name = std::str::from_utf8(&arena[*start..*end]).unwrap_or("?");
            (name, value.map(|(start, end)| &arena[start..end]))
        })
    }
}

/// Upper limits of one poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollLimit {
    pub records: usize,
    /// Bytes of keys, values and headers.
    pub bytes: usize,
}

/// End of a partition's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogEnd {
    /// One past the last offset that a read-committed reader can see now: records of open
    /// transactions, and all behind them, lie beyond.
    pub stable: NextOffset,
    /// One past the last offset of the log.
    pub high: NextOffset,
}

/// A place in a partition that reading cannot pass: its bytes are damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Index of the [`InputPartition`].
    pub partition: u32,
    /// The first offset that cannot be read.
    pub offset: NextOffset,
    /// The client's description of the damage.
    pub reason: String,
}

/// The input topics. Delivers each partition's records in offset order.
pub trait Source: Send {
    /// The partitions read, in a fixed order: by topic as configured, then by number; from
    /// [`Self::arrange`] on as given there.
    fn partitions(&self) -> &[InputPartition];
    /// Reads exactly these partitions, in this order, from the next [`Self::seek`] on.
    ///
    /// # Errors
    /// A partition that does not exist.
    fn arrange(&mut self, partitions: Vec<InputPartition>) -> Result<(), PortError>;
    /// Partitions that the topics have and that are not read, as last noticed. Never waits.
    fn added(&mut self) -> Vec<InputPartition> {
        Vec::new()
    }
    /// Fetches no more of these partitions until they are resumed; what was fetched is still
    /// delivered. A seek resumes all.
    fn pause(&mut self, partitions: &[u32]) -> Result<(), PortError>;
    /// Fetches these partitions again, where they were left.
    fn resume(&mut self, partitions: &[u32]) -> Result<(), PortError>;
    /// Goes on with one partition at another offset, behind a place that cannot be read.
    fn skip_to(&mut self, partition: u32, offset: NextOffset) -> Result<(), PortError>;
    /// Places where reading stands still, as last noticed. Never waits.
    fn stuck(&mut self) -> Vec<Stuck> {
        Vec::new()
    }
    /// Starts reading at these offsets, one per partition; drops what was fetched before.
    fn seek(&mut self, positions: &[NextOffset]) -> Result<(), PortError>;
    /// Appends available records to `batch`. Waits up to `wait` for the first record, never for
    /// more.
    fn poll(
        &mut self,
        batch: &mut RecordBatch,
        limit: PollLimit,
        wait: Duration,
    ) -> Result<(), PortError>;
    /// One past the last offset that was delivered or passed over (transaction markers, aborted
    /// records), one per partition.
    fn read_to(&mut self) -> Result<Vec<NextOffset>, PortError>;
    /// First offset that retention has left, one per partition.
    fn starts(&mut self) -> Result<Vec<NextOffset>, PortError>;
    /// The end of each partition's log now.
    fn ends(&mut self) -> Result<Vec<LogEnd>, PortError>;
    /// The end of each partition's log a moment ago; `None` while unknown. Never waits: for gauges.
    fn last_ends(&mut self) -> Option<Vec<LogEnd>> {
        None
    }
    /// The first offset behind a [`Stuck`] place that can be read: where [`Self::skip_to`] may go.
    /// Waits for brokers.
    fn readable_after(
        &mut self,
        partition: u32,
        offset: NextOffset,
    ) -> Result<NextOffset, PortError> {
        let _ = partition;
        Ok(NextOffset(offset.0 + 1))
    }
}

/// Identity of a sealed epoch among all that any process ever sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nonce(pub u64);

impl std::fmt::Display for Nonce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::str::FromStr for Nonce {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// An epoch whose outputs are final and whose fate is not yet known: all of it becomes visible, or
/// nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedEpoch {
    /// Epoch number, from 1, without gaps.
    pub number: u64,
    /// Identity among epochs of the same number.
    pub nonce: Nonce,
    /// The moment at which the scores are valid, milliseconds.
    pub as_of_ms: i64,
    /// The next offset of every input partition, changed or not, in [`Source::partitions`] order.
    pub positions: Vec<NextOffset>,
    /// Output records, in order.
    pub outputs: Vec<OutputRecord>,
}

/// The newest epoch a committed transaction holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedEpoch {
    /// Epoch number, from 1.
    pub number: u64,
    /// `as_of` of the epoch, milliseconds.
    pub as_of_ms: i64,
    /// Nonce of the epoch; `None` in commit metadata of version 1.
    pub nonce: Option<Nonce>,
    /// Positions in [`Source::partitions`] order; `None` for a partition that no transaction has
    /// named yet.
    pub positions: Vec<Option<NextOffset>>,
}

/// Makes sealed epochs visible, exactly once.
pub trait Sink: Send {
    /// The token of this process start. Commit metadata and epoch records name the committing
    /// process by it.
    fn owner(&self) -> &str;
    /// Fences every earlier owner and writes this owner's token. Returns the newest committed
    /// epoch.
    /// Waits for transactions in doubt.
    fn take_over(&mut self) -> Result<Option<CommittedEpoch>, PortError>;
    /// As [`Self::take_over`], after that was refused with [`PortCause::PositionsLost`]: where the
    /// group still has no positions, those of `tail`, the newest epoch in the epochs topic, stand
    /// in their place. A sink that cannot lose positions needs none.
    ///
    /// # Errors
    /// As [`Self::take_over`].
    fn take_over_at(&mut self, tail: &CommittedEpoch) -> Result<Option<CommittedEpoch>, PortError> {
        let _ = tail;
        self.take_over()
    }
    /// The partitions whose positions the next epochs carry, in order: after [`Source::arrange`].
    fn arrange(&mut self, partitions: &[InputPartition]);
    /// Checks that this process still owns the outputs, as last noticed. Never waits.
    ///
    /// # Errors
    /// [`PortError::Fenced`] once another owner's token stands.
    fn check(&mut self) -> Result<(), PortError> {
        Ok(())
    }
    /// Commits outputs and positions in one transaction. When the outcome of an attempt is in
    /// doubt, the sink settles it:
    /// a new producer with the same id, the committed epoch read back, then promoted or sent
    /// again, byte for byte.
    /// `Ok` means: committed, once. An error means that this process must stop and restore: it was
    /// fenced, or the
    /// committed epoch is neither this one nor the one before.
    fn commit(&mut self, epoch: &Arc<SealedEpoch>) -> Result<(), PortError>;
    /// Begins to commit, and may return before the end; [`Self::end`] gives the outcome. One epoch
    /// is under way at a time. By default it is committed before this returns.
    ///
    /// # Errors
    /// As [`Self::commit`].
    fn begin(&mut self, epoch: &Arc<SealedEpoch>) -> Result<(), PortError> {
        self.commit(epoch)
    }
    /// Waits up to `wait` until the epoch that was begun is committed. Returns the time since then,
    /// `None` while it is under way.
    ///
    /// # Errors
    /// As [`Self::commit`].
    fn end(&mut self, wait: Duration) -> Result<Option<Duration>, PortError> {
        let _ = wait;
        Ok(Some(Duration::ZERO))
    }
    /// Positions at which the outputs of epochs after the last committed one begin, as far as is
    /// known.
    fn written(&self) -> OutputPositions {
        OutputPositions::default()
    }
    /// The topics and how long they keep a record, as far as is known. Never waits.
    fn holdings(&self) -> Vec<Holding> {
        Vec::new()
    }
}

/// One step of reading the epochs topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogStep {
    /// The value of the next committed record.
    Record(Vec<u8>),
    /// Nothing came within the wait; there is more to come.
    Waiting,
    /// Everything that was there at the time of the rewind, or of going on, was read.
    End,
}

/// The place in an output's topic at which reading on begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// The oldest record.
    Start,
    /// About so many of the newest records.
    Newest(usize),
    /// The end: only what comes from now on.
    End,
}

/// Callback for a whole record, headers included.
pub type EachWhole<'a> = dyn FnMut(OutputRecord) -> Result<(), PortError> + 'a;

/// Callback for key and value of a record. A value of `None` is a tombstone.
pub type EachRecord<'a> = dyn FnMut(&[u8], Option<&[u8]>) -> Result<(), PortError> + 'a;

/// The committed outputs, read back at a start and read on by a follower. Nothing here holds more
/// than a bounded part of a topic in memory.
pub trait OutputLog: Send {
    /// Goes back to the oldest record of the epochs topic from an offset on, and notes where the
    /// topic ends now.
    fn rewind(&mut self, from: i64) -> Result<(), PortError>;
    /// The offset behind the last record that [`Self::next`] gave.
    fn position(&self) -> i64;
    /// Goes on in the epochs topic after [`LogStep::End`], and notes where it ends now.
    ///
    /// # Errors
    /// A log that can only be read once.
    fn go_on(&mut self) -> Result<(), PortError> {
        Err(cannot_follow())
    }
    /// Calls `each` with the committed records of an output that came since the call before, in
    /// the order of their partitions. The first call begins at `from`; later ones ignore it. An
    /// error loses nothing: the next call goes on after the last record that `each` took.
    ///
    /// # Errors
    /// That of `each`; a log that can only be read once.
    fn read_on(
        &mut self,
        output: Output,
        from: ReadFrom,
        each: &mut EachWhole<'_>,
    ) -> Result<(), PortError> {
        let _ = (output, from, each);
        Err(cannot_follow())
    }
    /// The next record of the epochs topic, in order, waiting up to `wait`.
    fn next(&mut self, wait: Duration) -> Result<LogStep, PortError>;
    /// Calls `each` with every committed record of a compacted output from these positions on; of
    /// one key, the newest comes last.
    fn latest(
        &mut self,
        output: Output,
        from: &OutputPositions,
        each: &mut EachRecord<'_>,
    ) -> Result<(), PortError>;
    /// Calls `each` with about the `count` newest committed records of an output, or all if there
    /// are fewer.
    fn newest(
        &mut self,
        output: Output,
        count: usize,
        each: &mut EachRecord<'_>,
    ) -> Result<(), PortError>;
    /// As [`Self::newest`], with headers and timestamps: what a dead letter consists of.
    fn newest_whole(
        &mut self,
        output: Output,
        count: usize,
        each: &mut EachWhole<'_>,
    ) -> Result<(), PortError>;
}

fn cannot_follow() -> PortError {
    PortError::fatal(
        PortCause::Misuse,
        "this log of outputs is read once; it cannot be followed",
    )
}

/// Failure of a schema lookup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaLookupError {
    /// The registry answered that there is no such schema: the record is a dead letter.
    #[error("no schema {0} is registered")]
    Unknown(String),
    /// The registry did not answer: the record waits.
    #[error("the schema registry cannot be reached: {0}")]
    Unavailable(String),
    /// The registry denies access: the record waits, and a start fails.
    #[error("the schema registry denies access: {0}")]
    Denied(String),
}

/// Writer schemas by id or GUID.
pub trait SchemaStore: Send + Sync {
    /// The schema. Known ids are answered from memory for ever. May wait for a registry.
    fn lookup(&self, schema: &SchemaRef) -> Result<WriterSchema, SchemaLookupError>;
    /// As [`Self::lookup`], without waiting. An unknown schema is asked for in the background, and
    /// `Unavailable` until the answer comes.
    fn find(&self, schema: &SchemaRef) -> Result<WriterSchema, SchemaLookupError> {
        self.lookup(schema)
    }
    /// Asks for these schemas in the background, together, so that each of many unknown ids does
    /// not cost a wait of its own. Returns at once.
    fn prefetch(&self, schemas: &[SchemaRef]) {
        let _ = schemas;
    }
    /// The id under which one of our own schemas is written.
    fn id_of(&self, subject: &str, schema_json: &str) -> Result<u32, SchemaLookupError>;
}

/// Time: the wall clock, a monotonic clock, and waiting. With all three behind a port, a test
/// drives the whole loop without waiting.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970 UTC. May jump.
    fn wall_ms(&self) -> i64;
    /// Time since some fixed moment of the process. Never jumps, never goes back; stands still
    /// while the machine sleeps.
    fn elapsed(&self) -> Duration;
    /// Returns once about this much time has elapsed.
    fn wait(&self, duration: Duration);
}

/// Observer of long waits inside a port: hears that a wait goes on, and may end it.
pub trait Attendant: Send + Sync {
    /// Notes that the wait goes on.
    fn beat(&self);
    /// True if the wait should end with [`PortError::Interrupted`].
    fn is_stopped(&self) -> bool;
    /// Sets or clears the condition that keeps the process from being ready, by name of the matter.
    /// Shown at `/readyz`.
    fn report(&self, matter: &'static str, condition: Option<String>);
}

/// An attendant that ignores reports and never ends a wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unattended;

impl Attendant for Unattended {
    fn beat(&self) {}
    fn is_stopped(&self) -> bool {
        false
    }
    fn report(&self, _: &'static str, _: Option<String>) {}
}
