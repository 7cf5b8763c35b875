//! The database in the folder: pieces and a head, written together.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use fjall::{Database, Error, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use xxhash_rust::xxh3::xxh3_64;

use leadpulse_engine::ports::{EachPiece, StoreError, StoreHead};
use leadpulse_engine::{EachNode, NODE_AREA, Pieces};

use crate::rewrite;

/// Number of the layout of the folder: names of keyspaces, form of the head.
const LAYOUT: u8 = 1;
/// Key of the head.
const HEAD: &[u8] = b"head";
/// Key that is there while the database has to be written anew, because something was erased.
const REWRITE: &[u8] = b"rewrite";
/// The database's cache of blocks, bytes. What is read often is in memory as nodes.
const CACHE_BYTES: u64 = 32 << 20;
/// Bytes of written pieces in memory before they become a file.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// Bytes of journals before memory is written out.
const JOURNAL_BYTES: u64 = 64 << 20;

/// An open database: a handle, of which there may be several.
#[derive(Clone)]
pub(crate) struct StateDatabase {
    database: Database,
    pieces: Keyspace,
    meta: Keyspace,
    place: String,
}

impl StateDatabase {
    /// Opens the database of a folder, and creates it if there is none. A rewriting that was begun
    /// is ended first.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        if dir.exists() {
            rewrite::go_on(dir)?;
        }
        Self::open_new(dir)
    }

    /// As [`Self::open`], whatever was begun.
    pub fn open_new(dir: &Path) -> Result<Self, StoreError> {
        let place = dir.display().to_string();
        let failed = |error: Error| fault(&place, error);
        std::fs::create_dir_all(dir).map_err(|error| failed(error.into()))?;
        let database = Database::builder(PathBuf::from(dir))
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1)
            .open()
            .map_err(failed)?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let pieces = database.keyspace("pieces", options).map_err(failed)?;
        let meta = database.keyspace("meta", options).map_err(failed)?;
        Ok(Self {
            database,
            pieces,
            meta,
            place,
        })
    }

    /// The head of the state; `None` without a whole state.
    pub fn head(&self) -> Result<Option<StoreHead>, StoreError> {
        let found = self.meta.get(HEAD).map_err(|error| self.failed(error))?;
        found.map(|bytes| head_of(&self.place, &bytes)).transpose()
    }

    /// Calls `each` with every piece but those of nodes, in the order of keys.
    pub fn read(&self, each: &mut EachPiece<'_>) -> Result<(), StoreError> {
        let before = self.pieces.range(..[NODE_AREA]);
        let after = self.pieces.range([NODE_AREA + 1]..);
        for guard in before.chain(after) {
            let (key, value) = guard.into_inner().map_err(|error| self.failed(error))?;
            each(&key, &value).map_err(|fault| StoreError::State {
                place: self.place.clone(),
                fault,
            })?;
        }
        Ok(())
    }

    /// Calls `each` with every piece whose key begins with `prefix`, in the order of keys.
    pub fn read_prefix(&self, prefix: &[u8], each: &mut EachNode<'_>) -> Result<(), String> {
        for guard in self.pieces.prefix(prefix) {
            let (key, value) = guard
                .into_inner()
                .map_err(|error| self.failed(error).to_string())?;
            each(&key, &value).map_err(|fault| format!("{}: {fault}", self.place))?;
        }
        Ok(())
    }

    /// Removes head and pieces.
    pub fn clear(&self) -> Result<(), StoreError> {
        let cleared = self
            .meta
            .remove(HEAD)
            .and_then(|()| self.database.persist(PersistMode::SyncAll))
            .and_then(|()| self.pieces.clear());
        cleared.map_err(|error| self.failed(error))
    }

    /// Writes pieces and, with them, a head.
    pub fn write(&self, pieces: &Pieces, head: Option<&StoreHead>) -> Result<(), StoreError> {
        let mut batch = self.database.batch();
        for (key, value) in pieces.iter() {
            match value {
                Some(value) => batch.insert(&self.pieces, key, value),
                None => batch.remove(&self.pieces, key),
            }
        }
        if let Some(head) = head {
            batch.insert(&self.meta, HEAD, head_bytes(head));
        }
        let written = batch.durability(Some(PersistMode::Buffer)).commit();
        written.map_err(|error| self.failed(error))
    }

    /// Notes that the database has to be written anew: what it removes must not stay on the disk.
    pub fn note_erasure(&self) -> Result<(), StoreError> {
        let noted = self.meta.insert(REWRITE, [1_u8]);
        noted.map_err(|error| self.failed(error))
    }

    /// Whether the database has to be written anew.
    pub fn has_erased(&self) -> Result<bool, StoreError> {
        let found = self.meta.contains_key(REWRITE);
        found.map_err(|error| self.failed(error))
    }

    /// Removes the files of a database, whatever their condition. Other files stay.
    pub fn remove_files(dir: &Path) -> Result<(), StoreError> {
        let failed = |error: std::io::Error| fault(&dir.display().to_string(), error.into());
        for entry in std::fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            match name {
                Some("keyspaces") => std::fs::remove_dir_all(&path).map_err(failed)?,
                Some("version" | "lock") => std::fs::remove_file(&path).map_err(failed)?,
                Some(name) if name.ends_with(".jnl") => {
                    std::fs::remove_file(&path).map_err(failed)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes pieces that were read from a snapshot.
    pub fn write_raw(&self, pieces: &[(&[u8], &[u8])]) -> Result<(), StoreError> {
        let mut batch = self.database.batch();
        for (key, value) in pieces {
            batch.insert(&self.pieces, *key, *value);
        }
        batch.commit().map_err(|error| self.failed(error))
    }

    /// The state as it is now, to be read while it is written on.
    pub fn view(&self) -> StateView {
        StateView {
            view: self.database.snapshot(),
            pieces: self.pieces.clone(),
            meta: self.meta.clone(),
            place: self.place.clone(),
        }
    }

    /// Waits until what was written is on the disk.
    pub fn sync(&self) -> Result<(), StoreError> {
        let synced = self.database.persist(PersistMode::SyncData);
        synced.map_err(|error| self.failed(error))
    }

    /// As [`Self::sync`], with the files' own data.
    pub fn sync_all(&self) -> Result<(), StoreError> {
        let synced = self.database.persist(PersistMode::SyncAll);
        synced.map_err(|error| self.failed(error))
    }

    /// Bytes of the folder, as the database counts them.
    pub fn disk_bytes(&self) -> u64 {
        self.database.disk_space().unwrap_or(0)
    }

    fn failed(&self, error: Error) -> StoreError {
        fault(&self.place, error)
    }
}

/// Callback for a piece of a view.
type EachStored<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError> + 'a;

/// A state as of one moment.
pub(crate) struct StateView {
    view: fjall::Snapshot,
    pieces: Keyspace,
    meta: Keyspace,
    place: String,
}

impl StateView {
    /// The head of the state; `None` without a whole state.
    pub fn head(&self) -> Result<Option<StoreHead>, StoreError> {
        let found = self.view.get(&self.meta, HEAD);
        let found = found.map_err(|error| fault(&self.place, error))?;
        found.map(|bytes| head_of(&self.place, &bytes)).transpose()
    }

    /// Calls `each` with every piece, in the order of keys.
    pub fn read(&self, each: &mut EachStored<'_>) -> Result<(), StoreError> {
        for guard in self.view.iter(&self.pieces) {
            let (key, value) = guard
                .into_inner()
                .map_err(|error| fault(&self.place, error))?;
            each(&key, &value)?;
        }
        Ok(())
    }
}

fn head_of(place: &str, bytes: &[u8]) -> Result<StoreHead, StoreError> {
    let damaged = |fault: &str| StoreError::Damaged {
        place: place.to_owned(),
        fault: fault.to_owned(),
    };
    let (layout, rest) = bytes.split_first().ok_or_else(|| damaged("no head"))?;
    if *layout != LAYOUT {
        return Err(damaged(&format!("it has layout {layout}, not {LAYOUT}")));
    }
    let (sum, body) = rest
        .split_first_chunk()
        .ok_or_else(|| damaged("a cut head"))?;
    if xxh3_64(body) != u64::from_le_bytes(*sum) {
        return Err(damaged("the head is not as it was written"));
    }
    postcard::from_bytes(body).map_err(|error| damaged(&format!("its head: {error}")))
}

fn head_bytes(head: &StoreHead) -> Vec<u8> {
    let body = postcard::to_stdvec(head).expect("a head consists of values of known lengths");
    let mut bytes = vec![LAYOUT];
    bytes.extend(xxh3_64(&body).to_le_bytes());
    bytes.extend(body);
    bytes
}

/// Tells a disk that fails from content that is damaged: a file that ends too early, or that is not
/// there, is damage.
fn fault(place: &str, error: Error) -> StoreError {
    let place = place.to_owned();
    match error {
        Error::Locked => return StoreError::InUse { place },
        Error::Poisoned => {
            let fault = "an earlier write or sync failed".to_owned();
            return StoreError::Io { place, fault };
        }
        _ => {}
    }
    match of_the_system(&error) {
        Some(fault) => StoreError::Io { place, fault },
        None => StoreError::Damaged {
            place,
            fault: error.to_string(),
        },
    }
}

/// The words of the system, if it refused to read or write.
fn of_the_system(error: &Error) -> Option<String> {
    let mut below: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = below {
        if let Some(found) = error.downcast_ref::<std::io::Error>() {
            let is_damage = matches!(
                found.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::NotFound
            );
            return (!is_damage).then(|| found.to_string());
        }
        below = error.source();
    }
    None
}
