//! Snapshots: copies of the stored state in a folder or an object store, for another machine.
//!
//! | object | content |
//! |---|---|
//! | `chunks/HH/HASH` | pieces, compressed with zstd; named by the SHA-256 of their bytes |
//! | `snapshots/EPOCH-NONCE.json` | the [manifest](Manifest): the epoch, and its chunks in the order of keys |
//!
//! Chunks end at keys that a hash chooses, so a piece that changed changes one chunk, and only
//! chunks that are not there yet are written. The manifest comes last: a snapshot is whole or it is
//! not there. A chunk is removed once no manifest that is kept names it.
//!
//! Decision: docs/decisions/0069-snapshots-of-chunks.md

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64;

use leadpulse_engine::ports::{StoreError, StoreHead};
use leadpulse_schema::hex;

use crate::database::{StateDatabase, StateView};
use crate::objects::{Folder, Objects};

/// Number of the form of manifests and chunks.
const FORMAT: u32 = 1;
/// About so many pieces are in one chunk.
const PIECES_OF_A_CHUNK: u64 = 8_192;
/// A chunk ends here at the latest, bytes.
const LONGEST_CHUNK: usize = 8 << 20;

/// What a snapshot consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Form of the manifest and of its chunks.
    pub format: u32,
    /// The epoch of the state.
    pub head: StoreHead,
    /// When it was begun, milliseconds since 1970 UTC.
    pub made_at: i64,
    /// Chunks in the order of their keys.
    pub chunks: Vec<ChunkRef>,
}

/// A chunk of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRef {
    /// SHA-256 of the uncompressed bytes, hexadecimal.
    pub hash: String,
    /// Number of pieces.
    pub pieces: u64,
    /// Uncompressed bytes.
    pub bytes: u64,
}

/// The outcome of one snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotOutcome {
    /// The epoch of its state.
    pub epoch: u64,
    /// Chunks that it consists of.
    pub chunks: usize,
    /// Chunks that were not there before.
    pub written: usize,
    /// Compressed bytes of those.
    pub bytes: u64,
}

/// The place of snapshots.
pub struct SnapshotPlace {
    objects: Box<dyn Objects>,
    address: String,
    keep: usize,
}

impl SnapshotPlace {
    /// Snapshots in a folder, which is made if it is not there; the newest `keep` stay.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn in_folder(dir: &Path, keep: usize) -> Result<Self, StoreError> {
        Ok(Self {
            objects: Box::new(Folder::new(dir)?),
            address: dir.display().to_string(),
            keep: keep.max(1),
        })
    }

    /// Snapshots under a path of an object store; the newest `keep` stay. `address` names the place
    /// for people.
    ///
    /// # Errors
    /// The system gives no runtime for requests.
    #[cfg(feature = "object-stores")]
    pub fn in_store(
        target: std::sync::Arc<dyn object_store::ObjectStore>,
        path: &str,
        address: &str,
        keep: usize,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            objects: Box::new(crate::objects::Remote::new(target, path, address)?),
            address: address.to_owned(),
            keep: keep.max(1),
        })
    }

    /// Name of the place, for people.
    pub(crate) fn name(&self) -> String {
        self.address.clone()
    }

    /// The number of snapshots that stay.
    pub(crate) fn kept(&self) -> usize {
        self.keep
    }

    /// Copies a view of a state, unless it is there already or is of no whole state.
    ///
    /// # Errors
    /// The view cannot be read, or the place cannot be written.
    pub(crate) fn take(
        &self,
        view: &StateView,
        now_ms: i64,
    ) -> Result<Option<SnapshotOutcome>, StoreError> {
        let Some(head) = view.head()? else {
            return Ok(None);
        };
        let known = self.chunks_there()?;
        let mut outcome = SnapshotOutcome {
            epoch: head.epoch,
            ..SnapshotOutcome::default()
        };
        let mut chunks: Vec<ChunkRef> = Vec::new();
        let mut chunk = Chunk::default();
        let mut end = |chunk: &mut Chunk| -> Result<(), StoreError> {
            let Chunk { bytes, pieces } = std::mem::take(chunk);
            let hash = hex(&Sha256::digest(&bytes));
            if !known.contains(&hash) {
                outcome.bytes += self.write_chunk(&hash, &bytes)?;
                outcome.written += 1;
            }
            chunks.push(ChunkRef {
                hash,
                pieces,
                bytes: bytes.len() as u64,
            });
            Ok(())
        };
        view.read(&mut |key, value| {
            chunk.push(key, value);
            let is_chosen = xxh3_64(key).is_multiple_of(PIECES_OF_A_CHUNK);
            match is_chosen || chunk.bytes.len() >= LONGEST_CHUNK {
                true => end(&mut chunk),
                false => Ok(()),
            }
        })?;
        if !chunk.bytes.is_empty() {
            end(&mut chunk)?;
        }
        outcome.chunks = chunks.len();
        self.write_manifest(&Manifest {
            format: FORMAT,
            head,
            made_at: now_ms,
            chunks,
        })?;
        self.remove_old()?;
        Ok(Some(outcome))
    }

    /// Fills an empty database with the newest snapshot that is whole. Those that are not are
    /// passed over, with a line in the log. Returns its manifest.
    ///
    /// # Errors
    /// The place cannot be read, or the database cannot be written.
    pub(crate) fn restore(&self, database: &StateDatabase) -> Result<Option<Manifest>, StoreError> {
        for name in self.manifests()?.into_iter().rev() {
            match self.read_manifest(&name).and_then(|manifest| {
                self.restore_one(&manifest, database)?;
                Ok(manifest)
            }) {
                Ok(manifest) => return Ok(Some(manifest)),
                Err(error @ StoreError::InUse { .. }) => return Err(error),
                Err(error) => {
                    tracing::warn!(snapshot = %name, %error, "this snapshot is passed over");
                    database.clear()?;
                }
            }
        }
        Ok(None)
    }

    fn restore_one(&self, manifest: &Manifest, database: &StateDatabase) -> Result<(), StoreError> {
        for chunk in &manifest.chunks {
            let compressed = self.objects.get(&chunk_path(&chunk.hash))?;
            let bytes = zstd::decode_all(&compressed[..]);
            let bytes = bytes.map_err(|error| self.damaged(&chunk.hash, &error.to_string()))?;
            if hex(&Sha256::digest(&bytes)) != chunk.hash {
                return Err(self.damaged(&chunk.hash, "its bytes have another hash"));
            }
            let pieces = pieces_of(&bytes);
            let pieces = pieces.ok_or_else(|| self.damaged(&chunk.hash, "it is no chunk"))?;
            database.write_raw(&pieces)?;
        }
        database.write(&leadpulse_engine::Pieces::default(), Some(&manifest.head))?;
        database.sync()
    }

    /// Manifests of all snapshots, the oldest first.
    ///
    /// # Errors
    /// The place cannot be read, or a manifest in it is none.
    pub fn list(&self) -> Result<Vec<Manifest>, StoreError> {
        let names = self.manifests()?;
        names.iter().map(|name| self.read_manifest(name)).collect()
    }

    fn manifests(&self) -> Result<Vec<String>, StoreError> {
        let mut names = self.objects.list("snapshots")?;
        names.sort_unstable();
        Ok(names)
    }

    fn chunks_there(&self) -> Result<BTreeSet<String>, StoreError> {
        let names = self.objects.list("chunks")?;
        let hash = |name: &String| name.rsplit('/').next().map(str::to_owned);
        Ok(names.iter().filter_map(hash).collect())
    }

    /// Removes snapshots beyond those to be kept, and chunks that none of these has.
    fn remove_old(&self) -> Result<(), StoreError> {
        let mut names = self.manifests()?;
        let old: Vec<String> = names
            .drain(..names.len().saturating_sub(self.keep))
            .collect();
        if old.is_empty() {
            return Ok(());
        }
        for name in &old {
            self.objects.delete(name)?;
        }
        let mut kept = BTreeSet::new();
        for name in &names {
            let chunks = self.read_manifest(name)?.chunks;
            kept.extend(chunks.into_iter().map(|chunk| chunk.hash));
        }
        for hash in self.chunks_there()? {
            if !kept.contains(&hash) {
                self.objects.delete(&chunk_path(&hash))?;
            }
        }
        Ok(())
    }

    fn write_chunk(&self, hash: &str, bytes: &[u8]) -> Result<u64, StoreError> {
        let compressed = zstd::encode_all(bytes, 3);
        let compressed = compressed.map_err(|error| self.failed(&error.to_string()))?;
        let length = compressed.len() as u64;
        self.objects.put(&chunk_path(hash), compressed)?;
        Ok(length)
    }

    fn write_manifest(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let StoreHead { epoch, nonce, .. } = manifest.head;
        let name = format!("snapshots/{epoch:020}-{nonce:016x}.json");
        let json = serde_json::to_vec(manifest).map_err(|error| self.failed(&error.to_string()))?;
        self.objects.put(&name, json)
    }

    fn read_manifest(&self, name: &str) -> Result<Manifest, StoreError> {
        let json = self.objects.get(name)?;
        let manifest: Manifest = serde_json::from_slice(&json)
            .map_err(|error| self.damaged(name, &error.to_string()))?;
        match manifest.format {
            FORMAT => Ok(manifest),
            other => Err(self.damaged(name, &format!("it has format {other}, not {FORMAT}"))),
        }
    }

    fn failed(&self, fault: &str) -> StoreError {
        StoreError::Io {
            place: self.address.clone(),
            fault: fault.to_owned(),
        }
    }

    fn damaged(&self, name: &str, fault: &str) -> StoreError {
        StoreError::Damaged {
            place: format!("{}/{name}", self.address),
            fault: fault.to_owned(),
        }
    }
}

fn chunk_path(hash: &str) -> String {
    let first = hash.get(..2).unwrap_or("00");
    format!("chunks/{first}/{hash}")
}

/// Pieces one behind the other: length of the key, length of the value, key, value.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    pieces: u64,
}

impl Chunk {
    fn push(&mut self, key: &[u8], value: &[u8]) {
        for length in [key.len(), value.len()] {
            self.bytes.extend((length as u32).to_le_bytes());
        }
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.pieces += 1;
    }
}

/// Keys and values of a chunk; `None` for other bytes.
fn pieces_of(mut bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (key, rest) = bytes.split_first_chunk()?;
        let (value, rest) = rest.split_first_chunk()?;
        let (key, value) = (u32::from_le_bytes(*key), u32::from_le_bytes(*value));
        let (key, rest) = rest.split_at_checked(key as usize)?;
        let (value, rest) = rest.split_at_checked(value as usize)?;
        pieces.push((key, value));
        bytes = rest;
    }
    Some(pieces)
}
