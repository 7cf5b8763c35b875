//! A store of worker state in memory, whose writes are as late as a test wants, and which forgets what
//! was not written when a process dies.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use leadpulse_engine::Pieces;
use leadpulse_engine::ports::{
    EachPiece, StateStore, StoreError, StoreHead, StoreStatus, StoredChange,
};
use leadpulse_graph::{EachNode, NODE_AREA, StoredNodes};

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
    /// `Some` leaves nodes in the store, and lets so many bytes of them be in memory.
    pub node_budget: Option<usize>,
    /// Nodes cannot be read.
    pub is_broken: bool,
    /// Cells whose nodes were read.
    pub node_reads: u32,
}

/// A store that the processes of a test share, one after the other.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Mutex<StoreContent>>);

impl MemoryStore {
    /// A store that keeps cold cells, of which so many bytes may be in memory.
    pub fn of_cold_cells(node_budget: usize) -> Self {
        let store = Self::default();
        store.lock().node_budget = Some(node_budget);
        store
    }

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

    /// Writes the oldest changes until `most_waiting` are left.
    fn write_beyond(&mut self, most_waiting: usize) {
        while self.queue.len() > most_waiting {
            let change = self.queue.remove(0);
            self.erasures += u32::from(change.is_erasure);
            self.put(&change.pieces);
            self.head = Some(change.head);
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
        let nodes_stay = content.node_budget.is_some();
        let pieces = content.pieces.iter();
        for (key, value) in pieces.filter(|(key, _)| !nodes_stay || key[0] != NODE_AREA) {
            each(key, value).map_err(|fault| StoreError::State {
                place: "memory".into(),
                fault,
            })?;
        }
        Ok(())
    }
    fn nodes(&mut self) -> Option<Arc<dyn StoredNodes>> {
        let has_budget = self.lock().node_budget.is_some();
        has_budget.then(|| Arc::new(self.clone()) as Arc<dyn StoredNodes>)
    }
    fn node_budget(&mut self, _: usize, _: usize) -> usize {
        self.lock().node_budget.unwrap_or(usize::MAX)
    }
    fn sync_soon(&mut self) {
        self.lock().write_beyond(0);
    }
    fn check_memory(&mut self, _: usize) -> Result<(), StoreError> {
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
        let lag = content.lag;
        content.write_beyond(lag);
        None
    }
    fn status(&self) -> StoreStatus {
        let content = self.lock();
        let epoch = content.head.as_ref().map_or(0, |head| head.epoch);
        StoreStatus {
            epoch,
            synced: epoch,
            ..StoreStatus::default()
        }
    }
    fn close(&mut self) -> StoreStatus {
        StoreStatus::default()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryStore")
    }
}

/// Reads what is written, as a store on a disk does: not what waits.
impl StoredNodes for MemoryStore {
    fn read(&self, prefix: &[u8], each: &mut EachNode<'_>) -> Result<(), String> {
        let mut content = self.lock();
        if content.is_broken {
            return Err("as told".into());
        }
        content.node_reads += 1;
        let from = content.pieces.range(prefix.to_vec()..);
        let mut of_prefix = from.take_while(|(key, _)| key.starts_with(prefix));
        of_prefix
            .try_for_each(|(key, value)| each(key, value))
            .map_err(|fault| fault.to_string())
    }
}
