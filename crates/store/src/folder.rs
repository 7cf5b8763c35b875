//! [`FolderStore`]: the engine's port on a folder.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SendError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use leadpulse_engine::ports::{
    Clock, EachPiece, StateStore, StoreError, StoreHead, StoreStatus, StoredChange,
};
use leadpulse_engine::{Pieces, StoredNodes};
use leadpulse_schema::units::as_span;

use crate::database::StateDatabase;
use crate::memory::MemoryBudget;
use crate::metrics::StoreMetrics;
use crate::nodes::OpenDatabase;
use crate::snapshot::SnapshotPlace;
use crate::writer::{Shared, Snapshots, ToStore, Writer};

/// Settings of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreOptions {
    /// The folder, relative to the configuration; `None` keeps no state: a start applies all rows.
    pub dir: Option<PathBuf>,
    /// Bytes of committed epochs that may wait to be on the disk. Beyond it epochs wait. At most a
    /// sixteenth of `memory_budget`.
    pub queue_bytes: usize,
    /// Bytes of memory that the process may use: cells that were not used for longest stay on the
    /// disk beyond it. `None` keeps all in memory that was ever used.
    pub memory_budget: Option<usize>,
    /// Snapshots of the folder for another machine.
    pub snapshots: SnapshotOptions,
}

/// Settings of snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SnapshotOptions {
    /// A folder, relative to the configuration, or the address of an object store; `None` makes
    /// none.
    pub to: Option<String>,
    /// Time between two, milliseconds.
    #[serde(rename = "every", with = "as_span::ms")]
    pub every_ms: u64,
    /// So many of the newest stay.
    pub keep: usize,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        Self {
            to: None,
            every_ms: 600_000,
            keep: 3,
        }
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            dir: None,
            queue_bytes: 256 << 20,
            memory_budget: None,
            snapshots: SnapshotOptions::default(),
        }
    }
}

/// The thread that writes, while it runs.
struct Running {
    inbox: Sender<ToStore>,
    thread: JoinHandle<Option<StateDatabase>>,
}

/// A worker's state in a folder.
pub struct FolderStore {
    dir: PathBuf,
    place: String,
    queue_bytes: usize,
    metrics: Arc<StoreMetrics>,
    shared: Arc<Shared>,
    snapshots: Option<Snapshots>,
    /// Open while the thread does not have it.
    database: Option<StateDatabase>,
    /// The same database, for readers.
    open: Arc<OpenDatabase>,
    memory: MemoryBudget,
    running: Option<Running>,
}

impl FolderStore {
    /// A store in a folder, which is opened when it is first used. `queue_bytes` may wait to be
    /// written.
    pub fn new(dir: &Path, queue_bytes: usize, metrics: &Arc<StoreMetrics>) -> Self {
        Self {
            place: dir.display().to_string(),
            dir: dir.to_owned(),
            queue_bytes,
            metrics: metrics.clone(),
            shared: Arc::default(),
            snapshots: None,
            database: None,
            open: Arc::default(),
            memory: MemoryBudget::new(None),
            running: None,
        }
    }

    /// Limits the memory of the process, bytes; `None` leaves it without a limit. Changes that wait
    /// for the disk have a sixteenth of it at most.
    #[must_use]
    pub fn with_memory(mut self, budget: Option<usize>) -> Self {
        self.memory = MemoryBudget::new(budget);
        self.queue_bytes = self.queue_bytes.min(budget.unwrap_or(usize::MAX) / 16);
        self
    }

    /// Makes snapshots every so often, and starts from the newest where the folder has no state.
    #[must_use]
    pub fn with_snapshots(
        mut self,
        place: SnapshotPlace,
        every: Duration,
        clock: Arc<dyn Clock>,
    ) -> Self {
        self.snapshots = Some(Snapshots {
            place: Arc::new(place),
            every,
            clock,
        });
        self
    }

    /// Fills an empty folder from the newest snapshot.
    fn start_from_snapshot(&mut self) -> Result<Option<StoreHead>, StoreError> {
        let Some(Snapshots { place, .. }) = self.snapshots.clone() else {
            return Ok(None);
        };
        let database = self.database()?;
        database.clear()?;
        let Some(manifest) = place.restore(database)? else {
            return Ok(None);
        };
        let (epoch, made_at) = (manifest.head.epoch, manifest.made_at);
        tracing::info!(epoch, made_at, "the state is that of a snapshot");
        Ok(Some(manifest.head))
    }

    /// Removes what the folder has, and opens it anew.
    fn remove_all(&mut self) -> Result<(), StoreError> {
        if let Err(error @ StoreError::InUse { .. }) = self.database() {
            return Err(error);
        }
        // A database that is emptied keeps old values in its journal for a while, and a damaged one
        // cannot be emptied: its files are removed. Of the folder only they are, because a wrong
        // path may lead anywhere.
        self.open.set(None);
        self.database = None;
        StateDatabase::remove_files(&self.dir)?;
        self.database().map(|_| ())
    }

    /// Counts a failure on the engine's thread, and shows it.
    fn told<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &outcome {
            self.metrics.failures.inc();
            let failure = error.to_string();
            self.shared.change(|status| status.failure = Some(failure));
        }
        outcome
    }

    fn database(&mut self) -> Result<&StateDatabase, StoreError> {
        if self.database.is_none() {
            let database = StateDatabase::open(&self.dir)?;
            self.open.set(Some(database.clone()));
            self.database = Some(database);
        }
        self.database.as_ref().ok_or_else(|| StoreError::Io {
            place: self.place.clone(),
            fault: "it is being written".to_owned(),
        })
    }

    /// The running thread, started if it is not.
    fn running(&mut self) -> Option<&Running> {
        if self.running.is_none() {
            let (inbox, received) = channel();
            let marked = self.database.as_ref().map(StateDatabase::has_erased);
            let writer = Writer {
                dir: self.dir.clone(),
                database: self.database.take(),
                open: self.open.clone(),
                shared: self.shared.clone(),
                metrics: self.metrics.clone(),
                unsynced: VecDeque::new(),
                written: 0,
                since: None,
                sync_bytes: (self.queue_bytes / 2).max(1),
                sync_asked: false,
                snapshots: self.snapshots.clone(),
                last_snapshot: Instant::now(),
                // A mark of the process before; what cannot be read is written anew.
                has_erased: marked.is_some_and(|marked| marked.unwrap_or(true)),
                taking: None,
            };
            let spawned = std::thread::Builder::new()
                .name("store".into())
                .spawn(move || writer.run(&received));
            match spawned {
                Ok(thread) => self.running = Some(Running { inbox, thread }),
                Err(error) => {
                    let told = format!("the thread that stores the state cannot start: {error}");
                    self.shared.change(|status| status.failure = Some(told));
                }
            }
        }
        self.running.as_ref()
    }
}

impl StateStore for FolderStore {
    fn place(&self) -> &str {
        &self.place
    }

    fn head(&mut self) -> Result<Option<StoreHead>, StoreError> {
        let mut head = self.database()?.head()?;
        if head.is_none() {
            head = self.start_from_snapshot()?;
        }
        let epoch = head.as_ref().map_or(0, |head| head.epoch);
        self.shared.change(|status| {
            status.epoch = epoch;
            status.synced = epoch;
        });
        self.metrics.epoch.set(epoch as i64);
        Ok(head)
    }

    fn read(&mut self, each: &mut EachPiece<'_>) -> Result<(), StoreError> {
        self.database()?.read(each)
    }

    fn nodes(&mut self) -> Option<Arc<dyn StoredNodes>> {
        Some(self.open.clone())
    }

    fn node_budget(&mut self, nodes: usize, entities: usize) -> usize {
        self.memory.of_nodes(nodes, entities)
    }

    fn sync_soon(&mut self) {
        if let Some(running) = &self.running {
            let _ = running.inbox.send(ToStore::Sync); // a thread that ended has nothing to sync
        }
    }

    fn check_memory(&mut self, entities: usize) -> Result<(), StoreError> {
        self.memory.check(entities)
    }

    fn fall_back(&mut self) -> Result<Option<StoreHead>, StoreError> {
        let has_snapshot = match &self.snapshots {
            Some(Snapshots { place, .. }) => !place.list()?.is_empty(),
            None => false,
        };
        if !has_snapshot {
            return Ok(None);
        }
        self.replace()?;
        self.head()
    }

    fn replace(&mut self) -> Result<(), StoreError> {
        let replaced = self.remove_all();
        self.told(replaced)
    }

    fn put(&mut self, pieces: &Pieces) -> Result<(), StoreError> {
        self.metrics.written.inc_by(pieces.bytes() as u64);
        let written = self
            .database()
            .and_then(|database| database.write(pieces, None));
        self.told(written)
    }

    fn finish(&mut self, head: &StoreHead) -> Result<(), StoreError> {
        let finished = self.database().and_then(|database| {
            database.write(&Pieces::default(), Some(head))?;
            database.sync()
        });
        self.told(finished)?;
        let epoch = head.epoch;
        self.shared.change(|status| {
            status.epoch = epoch;
            status.synced = epoch;
            status.failure = None;
        });
        self.metrics.epoch.set(epoch as i64);
        Ok(())
    }

    fn write(&mut self, change: StoredChange) -> Option<StoredChange> {
        let kept = self.shared.get().kept_bytes;
        if kept > 0 && kept + change.pieces.bytes() > self.queue_bytes {
            return Some(change);
        }
        let bytes = change.pieces.bytes();
        let shared = self.shared.clone();
        let Some(running) = self.running() else {
            return Some(change);
        };
        shared.change(|status| {
            status.queued_bytes += bytes;
            status.kept_bytes += bytes;
        });
        match running.inbox.send(ToStore::Change(change)) {
            Err(SendError(ToStore::Change(refused))) => Some(refused),
            _ => None,
        }
    }

    fn status(&self) -> StoreStatus {
        self.shared.get()
    }

    fn snapshots(&self) -> Option<(String, i64)> {
        let snapshots = self.snapshots.as_ref()?;
        let every_ms = i64::try_from(snapshots.every.as_millis()).ok()?;
        let kept = i64::try_from(snapshots.place.kept()).ok()?;
        Some((snapshots.place.name(), every_ms.saturating_mul(kept)))
    }

    fn close(&mut self) -> StoreStatus {
        if let Some(Running { inbox, thread }) = self.running.take() {
            drop(inbox);
            self.database = thread.join().ok().flatten();
        }
        self.open.set(None);
        self.database = None;
        self.shared.get()
    }
}

impl Drop for FolderStore {
    fn drop(&mut self) {
        self.close();
    }
}
