//! A store of worker state in memory, whose writes are as late as a test wants, and which forgets what
//! was not written when a process dies.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use leadpulse_engine::Pieces;
use leadpulse_engine::ports::{
    EachPiece, StateStore, StoreError, StoreHead, StoreStatus, StoredChange,
};

/// The content of a store.
#[derive(Default)]
pub struct StoreContent {
    pub pieces: BTreeMap<Vec<u8>, Vec<u8>>,
    pub head: Option<StoreHead>,
    /// Changes that are not written yet.
    pub queue: Vec<StoredChange>,
    /// So many changes wait before the first is written.
    pub lag: usize,
    /// Fails to be read.
    pub is_damaged: bool,
    /// Changes that removed something for good.
    pub erasures: u32,
    /// States that were read whole.
    pub reads: u32,
}

/// A store that the processes of a test share, one after the other.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Mutex<StoreContent>>);

impl MemoryStore {
    pub fn lock(&self) -> MutexGuard<'_, StoreContent> {
        self.0.lock().unwrap()
    }

    /// The process dies: what was not written is gone.
    pub fn die(&self, lag: usize) {
        let mut content = self.lock();
        content.queue.clear();
        content.lag = lag;
    }
}

impl StoreContent {
    fn put(&mut self, pieces: &Pieces) {
        for (key, value) in pieces.iter() {
            match value {
                Some(value) => self.pieces.insert(key.to_vec(), value.to_vec()),
                None => self.pieces.remove(key),
            };
        }
    }

    fn damaged() -> StoreError {
        StoreError::Damaged {
            place: "memory".into(),
            fault: "as told".into(),
        }
    }
}

impl StateStore for MemoryStore {
    fn place(&self) -> &str {
        "memory"
    }
    fn head(&mut self) -> Result<Option<StoreHead>, StoreError> {
        let content = self.lock();
        match content.is_damaged {
            true => Err(StoreContent::damaged()),
            false => Ok(content.head.clone()),
        }
    }
    fn read(&mut self, each: &mut EachPiece<'_>) -> Result<(), StoreError> {
        let mut content = self.lock();
        content.reads += 1;
        for (key, value) in &content.pieces {
            each(key, value).map_err(|fault| StoreError::State {
                place: "memory".into(),
                fault,
            })?;
        }
        Ok(())
    }
    fn replace(&mut self) -> Result<(), StoreError> {
        let mut content = self.lock();
        content.head = None;
        content.is_damaged = false;
        content.pieces.clear();
        content.queue.clear();
        Ok(())
    }
    fn put(&mut self, pieces: &Pieces) -> Result<(), StoreError> {
        self.lock().put(pieces);
        Ok(())
    }
    fn finish(&mut self, head: &StoreHead) -> Result<(), StoreError> {
        self.lock().head = Some(head.clone());
        Ok(())
    }
    fn write(&mut self, change: StoredChange) -> Option<StoredChange> {
        let mut content = self.lock();
        let last = content.queue.last().map(|change| change.head.epoch);
        let last = last.or(content.head.as_ref().map(|head| head.epoch));
        assert!(
            last == Some(change.after),
            "epoch {} is a change of {}, not of {last:?}",
            change.head.epoch,
            change.after
        );
        content.queue.push(change);
        while content.queue.len() > content.lag {
            let change = content.queue.remove(0);
            content.erasures += u32::from(change.is_erasure);
            content.put(&change.pieces);
            content.head = Some(change.head);
        }
        None
    }
    fn status(&self) -> StoreStatus {
        StoreStatus::default()
    }
    fn close(&mut self) -> StoreStatus {
        StoreStatus::default()
    }
}
