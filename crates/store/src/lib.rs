//! The state of a worker in a folder of this machine.
//!
//! [`FolderStore`] keeps the pieces of a [`WorkerState`](leadpulse_engine::WorkerState) in an LSM
//! tree ([fjall](https://docs.rs/fjall)). A start reads them and applies the rows of the epochs
//! after them, so it takes as long as the state is large, not as long as its history.
//!
//! - **Behind the log.** An epoch's pieces come after its commit and are written with its head in
//!   one batch. The folder is always at one committed epoch.
//! - **Never in the way.** A thread writes. The engine waits only once more bytes wait than the
//!   budget allows.
//! - **Durable by the second.** A killed process loses nothing that was written. A killed machine
//!   loses what was not synced, a second or two: the log has it.
//! - **Snapshots** in a folder or an object store, from which another machine starts.
//! - **Erased is gone.** After an erasure the thread writes the database anew, because old values stay
//!   in its journal and files for a while.
//! - **A failing disk** is reported and tried again: the database is opened anew, and all changes
//!   that were not synced are written again.
//!
//! Decision: docs/decisions/0068-state-in-pieces.md

mod database;
mod folder;
mod memory;
mod metrics;
mod nodes;
mod objects;
mod rewrite;
mod snapshot;
mod writer;

pub use folder::{FolderStore, SnapshotOptions, StoreOptions};
pub use metrics::{STORE_METRICS, StoreMetrics};
pub use snapshot::{ChunkRef, Manifest, SnapshotOutcome, SnapshotPlace};
