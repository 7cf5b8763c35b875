//! The port to a store of worker state: what a start goes on from, instead of the first record.
//!
//! A store holds the state at one committed epoch. It gets the pieces that an epoch changed after
//! the epoch was committed, in order, and writes them on a thread of its own: it is behind the log
//! by a few epochs at most, never ahead of it.

use std::sync::Arc;

use leadpulse_graph::{Pieces, StoredNodes};
use serde::{Deserialize, Serialize};

use super::Nonce;
use crate::machine::StateError;

/// The epoch that a stored state is of, and what ties it to the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreHead {
    /// Number of the last epoch in the state.
    pub epoch: u64,
    /// Nonce of that epoch: the log must have the same.
    pub nonce: u64,
    /// Format of the pieces: [`crate::STATE_FORMAT`].
    pub format: u32,
    /// [Shape](crate::StateShape) that the state is of, as hashes.
    pub shape: [u64; 3],
    /// Positions at which the outputs of later epochs begin.
    pub outputs: OutputPositions,
    /// By input partition, the newest Kafka timestamp that was taken, milliseconds.
    pub newest_ms: Vec<i64>,
    /// Records taken since the first epoch.
    pub taken: u64,
}

impl StoreHead {
    /// The nonce of the epoch.
    pub fn nonce(&self) -> Nonce {
        Nonce(self.nonce)
    }
}

/// Positions in output topics: (output's number, partition, next offset), ascending. A lower bound:
/// no record of a later epoch lies before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputPositions(pub Vec<(u8, i32, i64)>);

impl OutputPositions {
    /// Notes that records up to an offset were written.
    pub fn note(&mut self, output: u8, partition: i32, next: i64) {
        let key = |(output, partition, _): &(u8, i32, i64)| (*output, *partition);
        match self.0.binary_search_by_key(&(output, partition), key) {
            Ok(at) => self.0[at].2 = self.0[at].2.max(next),
            Err(at) => self.0.insert(at, (output, partition, next)),
        }
    }

    /// Notes all of another's.
    pub fn note_all(&mut self, other: &Self) {
        for (output, partition, next) in &other.0 {
            self.note(*output, *partition, *next);
        }
    }

    /// The next offset of a partition of an output; 0 where none was noted.
    pub fn next(&self, output: u8, partition: i32) -> i64 {
        let key = |(output, partition, _): &(u8, i32, i64)| (*output, *partition);
        let at = self.0.binary_search_by_key(&(output, partition), key);
        at.map_or(0, |at| self.0[at].2)
    }
}

/// The changes of one committed epoch.
#[derive(Clone, Debug)]
pub struct StoredChange {
    /// The epoch of the state that changes: the one before, but for the rows of several epochs that
    /// a start applied.
    pub after: u64,
    /// The epoch.
    pub head: StoreHead,
    /// The pieces that it changed.
    pub pieces: Pieces,
    /// True if no byte of what the pieces replace or remove may stay on the disk.
    pub is_erasure: bool,
}

/// Reasons why a store gives no state.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the folder open.
    #[error("the state in {place} is in use by another process; stop it, or give each its folder")]
    InUse {
        /// The folder.
        place: String,
    },
    /// The folder or a file in it cannot be read or written.
    #[error("the state in {place} cannot be used: {fault}")]
    Io {
        /// The folder.
        place: String,
        /// The system's words.
        fault: String,
    },
    /// The content was damaged, or written by another program.
    #[error("the state in {place} is damaged: {fault}")]
    Damaged {
        /// The folder.
        place: String,
        /// The damage.
        fault: String,
    },
    /// The state does not fit into the memory that it may use.
    #[error(
        "store.memory_budget is {} MiB, and {entities} entities take {} MiB without a single node in memory \
         (keys, places, deadlines, hubs, scores and what the process needs besides); set it to {} MiB or more, or remove it",
        .budget >> 20, .needed >> 20, .least >> 20
    )]
    Memory {
        /// Bytes that the process may use.
        budget: usize,
        /// Bytes that it uses without nodes.
        needed: usize,
        /// Bytes with which it can work.
        least: usize,
        /// Entities of the state.
        entities: usize,
    },
    /// The pieces are whole, but no state of this version.
    #[error("the state in {place} is of another version: {fault}")]
    State {
        /// The folder.
        place: String,
        /// The reason why the pieces make no state.
        fault: StateError,
    },
}

/// Callback for a stored piece.
pub type EachPiece<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), StateError> + 'a;

/// The condition of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// The last epoch that is written.
    pub epoch: u64,
    /// The last epoch that is written for good: it is read back whatever fails later.
    pub synced: u64,
    /// Bytes that wait to be written.
    pub queued_bytes: usize,
    /// Bytes that are kept in memory because they are not on the disk for good: those that wait,
    /// and those that were written since the last sync.
    pub kept_bytes: usize,
    /// The last failure, while it lasts.
    pub failure: Option<String>,
}

/// A store of one worker's state.
pub trait StateStore: Send {
    /// Name of the place, for people.
    fn place(&self) -> &str;
    /// The epoch of the state; `None` for a store without a whole state.
    ///
    /// # Errors
    /// [`StoreError`]; the store may be emptied by [`Self::replace`].
    fn head(&mut self) -> Result<Option<StoreHead>, StoreError>;
    /// Calls `each` with every piece, in the order of keys, but those of
    /// [`NODE_AREA`](leadpulse_graph::NODE_AREA) where [`Self::nodes`] gives them.
    ///
    /// # Errors
    /// Those of the store, and of `each`.
    fn read(&mut self, each: &mut EachPiece<'_>) -> Result<(), StoreError>;
    /// Reads pieces of nodes from now on, also while changes are written; `None` for a store that
    /// has them read with all others.
    fn nodes(&mut self) -> Option<Arc<dyn StoredNodes>>;
    /// Most bytes of nodes to be in memory, while there are `nodes` bytes of them and so many
    /// entities are known; all for a store without a limit. Cheap enough to be asked after every
    /// epoch.
    fn node_budget(&mut self, nodes: usize, entities: usize) -> usize;
    /// Asks for a sync before its time: nodes wait for it to leave memory.
    fn sync_soon(&mut self);
    /// Checks, while nearly no nodes are in memory, that all else leaves room for them.
    ///
    /// # Errors
    /// [`StoreError::Memory`], with figures.
    fn check_memory(&mut self, entities: usize) -> Result<(), StoreError>;
    /// Empties the store. Until [`Self::finish`] it has no whole state.
    ///
    /// # Errors
    /// Those of the folder.
    fn replace(&mut self) -> Result<(), StoreError>;
    /// Writes pieces of a whole state.
    ///
    /// # Errors
    /// Those of the folder.
    fn put(&mut self, pieces: &Pieces) -> Result<(), StoreError>;
    /// Ends a whole state.
    ///
    /// # Errors
    /// Those of the folder.
    fn finish(&mut self, head: &StoreHead) -> Result<(), StoreError>;
    /// Puts the newest snapshot in the place of a state that cannot be used. Returns its head; `None`
    /// where there is no snapshot, and then the state stays as it is.
    ///
    /// # Errors
    /// Those of the folder and of the snapshots.
    fn fall_back(&mut self) -> Result<Option<StoreHead>, StoreError> {
        Ok(None)
    }
    /// Hands over the changes of the epoch after the last one. `Some` gives them back, because too
    /// much waits already: to be tried again.
    fn write(&mut self, change: StoredChange) -> Option<StoredChange>;
    /// The condition now. Never waits.
    fn status(&self) -> StoreStatus;
    /// The place of snapshots and the time after which one is replaced, milliseconds; `None` without
    /// snapshots.
    fn snapshots(&self) -> Option<(String, i64)> {
        None
    }
    /// Writes what waits, and ends. Returns the condition at the end.
    fn close(&mut self) -> StoreStatus;
}
