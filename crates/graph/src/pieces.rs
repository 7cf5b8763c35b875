//! State in pieces: each has a key and bytes, and only those that changed need to be written.
//!
//! The containers here lend their content for reading as usual, and note the key of whatever is
//! changed: there is no other way to change it, so no change can be missed. Until
//! [`Part::note`] nothing is noted, and training pays nothing.
//!
//! A key is the number of its area, then fixed fields in big-endian, so that pieces that belong
//! together lie together in a store. Values are in the format of postcard.
//!
//! Decision: docs/decisions/0068-state-in-pieces.md

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::ops::Deref;

use rustc_hash::FxHashSet;
use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_128;

use crate::ids::EntityId;

mod kept_map;

pub use kept_map::{KeptMap, Lend};

/// Pieces to be written: a value, or `None` for one that is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pieces {
    bytes: Vec<u8>,
    /// Start, end of the key, end of the value.
    spans: Vec<(usize, usize, Option<usize>)>,
}

impl Pieces {
    /// Adds a piece. `key` appends the fields of its key.
    pub fn put<V: Serialize + ?Sized>(
        &mut self,
        area: u8,
        key: impl FnOnce(&mut Vec<u8>),
        value: &V,
    ) {
        let (start, key_end) = self.start(area, key);
        postcard::to_io(value, &mut self.bytes).expect("state consists of values of known lengths");
        self.spans.push((start, key_end, Some(self.bytes.len())));
    }

    /// Adds a piece whose value is in a form of its own.
    pub fn put_bytes(&mut self, area: u8, key: impl FnOnce(&mut Vec<u8>), value: &[u8]) {
        let (start, key_end) = self.start(area, key);
        self.bytes.extend_from_slice(value);
        self.spans.push((start, key_end, Some(self.bytes.len())));
    }

    /// Notes that a piece is gone.
    pub fn remove(&mut self, area: u8, key: impl FnOnce(&mut Vec<u8>)) {
        let (start, key_end) = self.start(area, key);
        self.spans.push((start, key_end, None));
    }

    fn start(&mut self, area: u8, key: impl FnOnce(&mut Vec<u8>)) -> (usize, usize) {
        let start = self.bytes.len();
        self.bytes.push(area);
        key(&mut self.bytes);
        (start, self.bytes.len())
    }

    /// Keys and values, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.spans.iter().map(|(start, key_end, end)| {
            let value = end.map(|end| &self.bytes[*key_end..end]);
            (&self.bytes[*start..*key_end], value)
        })
    }

    /// The number of pieces.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is no piece.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// Reasons why a piece is none of this state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PieceError {
    /// The key is of no known area, or its fields have another length.
    #[error("a stored piece has an unknown key")]
    Key,
    /// The value has other fields.
    #[error("a stored piece of area {area} has other fields: {fault}")]
    Value {
        /// Number of the area.
        area: u8,
        /// What postcard says.
        fault: postcard::Error,
    },
}

/// Reads the value of a piece, all of it.
///
/// # Errors
/// [`PieceError::Value`] for other fields, and for bytes behind them.
pub fn read_value<V: DeserializeOwned>(area: u8, bytes: &[u8]) -> Result<V, PieceError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(PieceError::Value {
            area,
            fault: postcard::Error::DeserializeBadEncoding,
        }),
        Err(fault) => Err(PieceError::Value { area, fault }),
    }
}

/// Which pieces are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// Those that changed since they were last forgotten.
    Changed,
}

/// A part of the state that is stored in pieces.
pub trait Part {
    /// Notes changes from now on.
    fn note(&mut self);
    /// Writes pieces of the part under the number of its area.
    fn write(&self, which: Which, area: u8, pieces: &mut Pieces);
    /// Forgets which pieces have changed so far.
    fn forget(&mut self);
    /// Takes a stored piece; `key` has no area.
    ///
    /// # Errors
    /// [`PieceError`] for a piece of another part.
    fn read(&mut self, area: u8, key: &[u8], value: &[u8]) -> Result<(), PieceError>;
}

/// A key of pieces: fields of fixed length in big-endian.
pub trait PieceKey: Sized + Copy + Eq + Ord + Hash {
    /// Appends the fields.
    fn write(self, out: &mut Vec<u8>);
    /// Reads what [`Self::write`] appended; `None` for another length.
    fn read(bytes: &[u8]) -> Option<Self>;
}

impl PieceKey for u64 {
    fn write(self, out: &mut Vec<u8>) {
        out.extend(self.to_be_bytes());
    }
    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_be_bytes)
    }
}

impl PieceKey for EntityId {
    fn write(self, out: &mut Vec<u8>) {
        out.extend(self.0.to_be_bytes());
    }
    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(u32::from_be_bytes).map(Self)
    }
}

/// Number and entity: of a task, for example.
impl PieceKey for (usize, EntityId) {
    fn write(self, out: &mut Vec<u8>) {
        out.extend((self.0 as u32).to_be_bytes());
        self.1.write(out);
    }
    fn read(bytes: &[u8]) -> Option<Self> {
        let (number, entity) = bytes.split_first_chunk()?;
        let number = u32::from_be_bytes(*number) as usize;
        Some((number, EntityId::read(entity)?))
    }
}

/// The keys of pieces that changed.
#[derive(Clone, Debug, Default)]
pub enum Noted<K> {
    /// Nobody stores them.
    #[default]
    Off,
    /// The keys since they were last forgotten.
    On(FxHashSet<K>),
}

impl<K: Eq + Hash + Ord + Clone> Noted<K> {
    /// Notes keys from now on.
    pub fn start(&mut self) {
        *self = Self::On(FxHashSet::default());
    }
    /// Notes a key.
    pub fn add(&mut self, key: K) {
        if let Self::On(keys) = self {
            keys.insert(key);
        }
    }
    /// Notes keys.
    pub fn extend(&mut self, keys: impl Iterator<Item = K>) {
        if let Self::On(noted) = self {
            noted.extend(keys);
        }
    }
    /// Forgets the keys so far.
    pub fn forget(&mut self) {
        if let Self::On(keys) = self {
            // A large batch must not keep its memory for good.
            keys.clear();
            keys.shrink_to(1_024);
        }
    }
    /// Whether changes are noted, and all so far were forgotten.
    pub fn is_forgotten(&self) -> bool {
        matches!(self, Self::On(keys) if keys.is_empty())
    }
    /// The keys, ascending.
    pub fn sorted(&self) -> Vec<K> {
        let mut keys = match self {
            Self::Off => Vec::new(),
            Self::On(keys) => keys.iter().cloned().collect(),
        };
        keys.sort_unstable();
        keys
    }
}

fn sorted_keys<K: Copy + Ord, V, H>(map: &HashMap<K, V, H>) -> Vec<K> {
    let mut keys: Vec<K> = map.keys().copied().collect();
    keys.sort_unstable();
    keys
}

/// A list that notes the places of changed items. It never shrinks.
#[derive(Clone, Debug)]
pub struct KeptList<T> {
    items: Vec<T>,
    noted: Noted<u32>,
}

impl<T> Default for KeptList<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            noted: Noted::Off,
        }
    }
}

impl<T> Deref for KeptList<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<T> KeptList<T> {
    /// Appends an item.
    pub fn push(&mut self, item: T) {
        self.noted.add(self.items.len() as u32);
        self.items.push(item);
    }
    /// An item about to change.
    pub fn at_mut(&mut self, at: usize) -> &mut T {
        self.noted.add(at as u32);
        &mut self.items[at]
    }
    /// An item about to change in nothing that is stored.
    pub fn at_unstored(&mut self, at: usize) -> &mut T {
        &mut self.items[at]
    }
    /// All items, each about to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.noted.extend(0..self.items.len() as u32);
        self.items.iter_mut()
    }
    /// Notes changes from now on.
    pub fn start(&mut self) {
        self.noted.start();
    }
    /// Forgets which items have changed so far.
    pub fn forget_noted(&mut self) {
        self.noted.forget();
    }
    /// The places of pieces to write, ascending.
    pub fn places(&self, which: Which) -> Vec<u32> {
        match which {
            Which::All => (0..self.items.len() as u32).collect(),
            Which::Changed => self.noted.sorted(),
        }
    }
    /// Puts a stored item at its place; pieces come in the order of their places.
    ///
    /// # Errors
    /// [`PieceError::Key`] for another place than the next.
    pub fn restore(&mut self, at: u32, item: T) -> Result<(), PieceError> {
        if at as usize != self.items.len() {
            return Err(PieceError::Key);
        }
        self.items.push(item);
        Ok(())
    }
}

impl<T: Serialize + DeserializeOwned> Part for KeptList<T> {
    fn note(&mut self) {
        self.start();
    }
    fn write(&self, which: Which, area: u8, pieces: &mut Pieces) {
        for at in self.places(which) {
            let key = |out: &mut Vec<u8>| out.extend(at.to_be_bytes());
            pieces.put(area, key, &self.items[at as usize]);
        }
    }
    fn forget(&mut self) {
        self.forget_noted();
    }
    fn read(&mut self, area: u8, key: &[u8], value: &[u8]) -> Result<(), PieceError> {
        let at = key.try_into().map_err(|_| PieceError::Key)?;
        self.restore(u32::from_be_bytes(at), read_value(area, value)?)
    }
}

/// A small value that is stored whole.
#[derive(Clone, Debug, Default)]
pub struct Kept<T> {
    value: T,
    is_changed: bool,
}

impl<T> Kept<T> {
    /// A value that was not stored yet.
    pub fn new(value: T) -> Self {
        Self {
            value,
            is_changed: true,
        }
    }
    /// Whether the value changed since it was last written.
    pub fn is_changed(&self) -> bool {
        self.is_changed
    }
    /// The value about to change.
    pub fn change(&mut self) -> &mut T {
        self.is_changed = true;
        &mut self.value
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Serialize + DeserializeOwned> Part for Kept<T> {
    fn note(&mut self) {
        self.is_changed = true;
    }
    fn write(&self, which: Which, area: u8, pieces: &mut Pieces) {
        if which == Which::All || self.is_changed {
            pieces.put(area, |_| {}, &self.value);
        }
    }
    fn forget(&mut self) {
        self.is_changed = false;
    }
    fn read(&mut self, area: u8, key: &[u8], value: &[u8]) -> Result<(), PieceError> {
        if !key.is_empty() {
            return Err(PieceError::Key);
        }
        self.value = read_value(area, value)?;
        Ok(())
    }
}

/// A sorted map with keys of any type, which notes the keys of changed entries. The key of a piece
/// is a hash, so that a text of any length may be a key.
#[derive(Clone, Debug)]
pub struct KeptTree<K, V> {
    map: BTreeMap<K, V>,
    noted: Noted<K>,
}

impl<K, V> Default for KeptTree<K, V> {
    fn default() -> Self {
        Self {
            map: BTreeMap::new(),
            noted: Noted::Off,
        }
    }
}

impl<K, V> Deref for KeptTree<K, V> {
    type Target = BTreeMap<K, V>;
    fn deref(&self) -> &BTreeMap<K, V> {
        &self.map
    }
}

impl<K: Clone + Ord + Hash + Serialize, V> KeptTree<K, V> {
    /// As in a map.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.noted.add(key.clone());
        self.map.insert(key, value)
    }
    /// Takes the first entry out.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        let (key, value) = self.map.pop_first()?;
        self.noted.add(key.clone());
        Some((key, value))
    }
    /// As in a map.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let removed = self.map.remove(key);
        if removed.is_some() {
            self.noted.add(key.clone());
        }
        removed
    }
    /// Takes all entries out.
    pub fn clear(&mut self) {
        self.noted.extend(self.map.keys().cloned());
        self.map.clear();
    }
}

impl<K, V> Part for KeptTree<K, V>
where
    K: Clone + Ord + Hash + Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    fn note(&mut self) {
        self.noted.start();
    }
    fn write(&self, which: Which, area: u8, pieces: &mut Pieces) {
        let keys = match which {
            Which::All => self.map.keys().cloned().collect(),
            Which::Changed => self.noted.sorted(),
        };
        for key in keys {
            let bytes = postcard::to_stdvec(&key).expect("keys are values of known lengths");
            let hash = |out: &mut Vec<u8>| out.extend(xxh3_128(&bytes).to_be_bytes());
            match self.map.get(&key) {
                Some(value) => pieces.put(area, hash, &(&key, value)),
                None => pieces.remove(area, hash),
            }
        }
    }
    fn forget(&mut self) {
        self.noted.forget();
    }
    fn read(&mut self, area: u8, _: &[u8], value: &[u8]) -> Result<(), PieceError> {
        let (key, value) = read_value(area, value)?;
        self.map.insert(key, value);
        Ok(())
    }
}
