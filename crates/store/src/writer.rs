//! The thread that writes: one epoch after the other, synced once a second, tried again on failure.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use leadpulse_engine::ports::{Clock, StoreError, StoreStatus, StoredChange};

use crate::database::StateDatabase;
use crate::metrics::StoreMetrics;
use crate::nodes::OpenDatabase;
use crate::rewrite;
use crate::snapshot::{SnapshotOutcome, SnapshotPlace};

/// Written changes are synced at least this often.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Pause before a failed write is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Tries after the store was asked to end.
const LAST_TRIES: usize = 4;

/// What the engine's thread sees of the writer.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    status: Mutex<StoreStatus>,
}

impl Shared {
    pub fn get(&self) -> StoreStatus {
        self.status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn change(&self, change: impl FnOnce(&mut StoreStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Snapshots that are made while epochs are written.
#[derive(Clone)]
pub(crate) struct Snapshots {
    pub place: Arc<SnapshotPlace>,
    pub every: Duration,
    pub clock: Arc<dyn Clock>,
}

/// A message to the thread that writes.
pub(crate) enum ToStore {
    /// The changes of an epoch.
    Change(StoredChange),
    /// Somebody waits for a sync.
    Sync,
}

/// Writes what it receives.
pub(crate) struct Writer {
    pub dir: PathBuf,
    /// `None` while a failed database is to be opened anew.
    pub database: Option<StateDatabase>,
    /// The same database, for readers.
    pub open: Arc<OpenDatabase>,
    pub shared: Arc<Shared>,
    pub metrics: Arc<StoreMetrics>,
    /// Changes that are not synced, in order; the first `written` of them are written.
    pub unsynced: VecDeque<StoredChange>,
    pub written: usize,
    /// The time of the first write since the last sync.
    pub since: Option<Instant>,
    /// So many written bytes are synced before their time.
    pub sync_bytes: usize,
    /// Somebody waits for a sync.
    pub sync_asked: bool,
    pub snapshots: Option<Snapshots>,
    /// The time at which the last snapshot was begun.
    pub last_snapshot: Instant,
    /// True while the database contains bytes of something that was erased.
    pub has_erased: bool,
    /// The thread of a snapshot that is being made.
    pub taking: Option<JoinHandle<()>>,
}

impl Writer {
    /// Writes until the sender is gone, then once more what waits.
    pub fn run(mut self, inbox: &Receiver<ToStore>) -> Option<StateDatabase> {
        loop {
            let received = match self.wait() {
                Some(wait) => inbox.recv_timeout(wait),
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match received {
                Ok(first) => {
                    for message in std::iter::once(first).chain(inbox.try_iter()) {
                        match message {
                            ToStore::Change(change) => self.unsynced.push_back(change),
                            ToStore::Sync => self.sync_asked = true,
                        }
                    }
                    let _ = self.attempt(false);
                }
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.attempt(false);
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        for _ in 0..LAST_TRIES {
            if self.unsynced.is_empty() {
                break;
            }
            if !self.attempt(true) {
                std::thread::sleep(RETRY_AFTER);
            }
        }
        if let Some(taking) = self.taking.take() {
            let _ = taking.join(); // a panic in it is in the log already
        }
        self.database
    }

    /// The longest wait for a change; `None` if nothing is to be done without one.
    fn wait(&self) -> Option<Duration> {
        if self.database.is_none() || self.written < self.unsynced.len() {
            return Some(RETRY_AFTER);
        }
        let left = |since: Instant, every: Duration| every.saturating_sub(since.elapsed());
        let sync = self.since.map(|since| left(since, SYNC_EVERY));
        let snapshots = self.snapshots.as_ref();
        // While one is made, it is looked at again later.
        let snapshot = snapshots.map(|s| left(self.last_snapshot, s.every).max(SYNC_EVERY));
        sync.into_iter().chain(snapshot).min()
    }

    /// Writes what waits, and syncs it when it is time or `now`. Returns whether that went well.
    fn attempt(&mut self, now: bool) -> bool {
        let outcome = self.write_all(now);
        let is_well = outcome.is_ok();
        if is_well && !now {
            self.begin_snapshot();
        }
        if let Err(error) = outcome {
            self.metrics.failures.inc();
            let told = error.to_string();
            if self.shared.get().failure.as_ref() != Some(&told) {
                tracing::error!(%error, "the state is not stored; epochs go on, and it is tried again");
            }
            self.shared.change(|status| status.failure = Some(told));
            // A database whose write or sync failed takes no more: it is opened anew.
            self.open.set(None);
            self.database = None;
            self.written = 0;
            self.since = None;
        } else if self.shared.get().failure.is_some() {
            tracing::info!("the state is stored again");
            self.shared.change(|status| status.failure = None);
        }
        is_well
    }

    fn write_all(&mut self, now: bool) -> Result<(), StoreError> {
        loop {
            self.write()?;
            let is_all = self.written == self.unsynced.len();
            self.sync(now || !is_all || self.has_erased)?;
            if is_all {
                return self.rewrite();
            }
        }
    }

    /// Whether so much is written that it is to be synced before its time.
    fn is_much_written(&self) -> bool {
        let written = self.unsynced.iter().take(self.written);
        let bytes: usize = written.map(|change| change.pieces.bytes()).sum();
        bytes >= self.sync_bytes
    }

    /// Writes what waits, up to so much that it is to be synced.
    fn write(&mut self) -> Result<(), StoreError> {
        let database = match &self.database {
            Some(database) => database,
            None => {
                let database = StateDatabase::open(&self.dir)?;
                let stored = database.head()?.map_or(0, |head| head.epoch);
                self.check_no_gap(stored)?;
                self.written = self.position_after(stored);
                if self.written > 0 {
                    // Written before the failure, and not known to be synced.
                    self.since = Some(Instant::now());
                }
                self.has_erased = database.has_erased()?;
                self.open.set(Some(database.clone()));
                self.database.insert(database)
            }
        };
        let mut written = 0;
        while let Some(change) = self
            .unsynced
            .get(self.written)
            .filter(|_| written < self.sync_bytes)
        {
            if change.is_erasure {
                // Before the change: a process that ends between the two rewrites for nothing.
                database.note_erasure()?;
                self.has_erased = true;
            }
            written += change.pieces.bytes();
            database.write(&change.pieces, Some(&change.head))?;
            self.written += 1;
            self.since.get_or_insert_with(Instant::now);
            self.metrics.written.inc_by(change.pieces.bytes() as u64);
            self.metrics.epoch.set(change.head.epoch as i64);
            let (epoch, bytes) = (change.head.epoch, change.pieces.bytes());
            self.shared.change(|status| {
                status.epoch = epoch;
                status.queued_bytes = status.queued_bytes.saturating_sub(bytes);
            });
        }
        self.metrics
            .queued
            .set(self.shared.get().queued_bytes as i64);
        Ok(())
    }

    /// Writes the database anew after something was erased. What was written is synced.
    fn rewrite(&mut self) -> Result<(), StoreError> {
        self.metrics.erasing.set(i64::from(self.has_erased));
        if !self.has_erased || self.written > 0 {
            return Ok(());
        }
        if let Some(taking) = self.taking.take() {
            // Its view holds the files that go.
            let _ = taking.join();
        }
        let Some(database) = &self.database else {
            return Ok(());
        };
        let started = Instant::now();
        rewrite::copy(&self.dir, database)?;
        // Readers wait from here on, until the second database is in its place.
        self.open.set(None);
        self.database = None;
        let database = StateDatabase::open(&self.dir)?;
        self.open.set(Some(database.clone()));
        self.metrics.disk.set(database.disk_bytes() as i64);
        self.database = Some(database);
        self.has_erased = false;
        self.metrics.erasing.set(0);
        self.metrics.rewrites.inc();
        let seconds = started.elapsed().as_secs_f64();
        tracing::info!(
            seconds,
            "the stored state is written anew without what was erased"
        );
        Ok(())
    }

    /// Begins a snapshot when it is time. It reads a view, on a thread of its own.
    fn begin_snapshot(&mut self) {
        let (Some(snapshots), Some(database)) = (&self.snapshots, &self.database) else {
            return;
        };
        let Snapshots {
            place,
            every,
            clock,
        } = snapshots;
        let is_taking = self.taking.as_ref().is_some_and(|t| !t.is_finished());
        if is_taking || self.last_snapshot.elapsed() < *every {
            return;
        }
        self.last_snapshot = Instant::now();
        let (view, place, metrics) = (database.view(), place.clone(), self.metrics.clone());
        let now_ms = clock.wall_ms();
        let take = move || match place.take(&view, now_ms) {
            Ok(None) => {}
            Ok(Some(outcome)) => {
                metrics.snapshot_epoch.set(outcome.epoch as i64);
                metrics.snapshot_at.set(now_ms / 1_000);
                metrics.snapshot_bytes.inc_by(outcome.bytes);
                let SnapshotOutcome {
                    epoch,
                    chunks,
                    written,
                    bytes,
                } = outcome;
                tracing::info!(epoch, chunks, written, bytes, "snapshot made");
            }
            Err(error) => {
                metrics.snapshot_failures.inc();
                tracing::error!(%error, "no snapshot was made; the next try comes in its time");
            }
        };
        let spawned = std::thread::Builder::new()
            .name("snapshot".into())
            .spawn(take);
        match spawned {
            Ok(thread) => self.taking = Some(thread),
            Err(error) => tracing::error!(%error, "no snapshot was made"),
        }
    }

    /// The number of unsynced changes that the database has.
    fn position_after(&self, stored: u64) -> usize {
        self.unsynced
            .iter()
            .filter(|change| change.head.epoch <= stored)
            .count()
    }

    /// All that the database may have lost is still here, unless more than the changes since the
    /// last sync is gone.
    fn check_no_gap(&self, stored: u64) -> Result<(), StoreError> {
        match self.unsynced.front() {
            Some(first) if stored < first.after => Err(StoreError::Damaged {
                place: self.dir.display().to_string(),
                fault: format!(
                    "it is at epoch {stored}, and the changes of epoch {} are gone; stop the process, delete the folder, and start again",
                    stored + 1
                ),
            }),
            _ => Ok(()),
        }
    }

    fn sync(&mut self, now: bool) -> Result<(), StoreError> {
        let is_due = self.since.is_some_and(|since| {
            let is_asked = std::mem::take(&mut self.sync_asked);
            now || is_asked || self.is_much_written() || since.elapsed() >= SYNC_EVERY
        });
        let Some(database) = self.database.as_ref().filter(|_| is_due) else {
            return Ok(());
        };
        database.sync()?;
        self.metrics.disk.set(database.disk_bytes() as i64);
        for change in self.unsynced.drain(..self.written) {
            let bytes = change.pieces.bytes();
            self.shared.change(|status| {
                status.synced = change.head.epoch;
                status.kept_bytes = status.kept_bytes.saturating_sub(bytes);
            });
        }
        self.written = 0;
        self.since = None;
        Ok(())
    }
}
