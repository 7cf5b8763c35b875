//! The map of a state in pieces, and the map of a trial above it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Noted, Part, PieceError, PieceKey, Pieces, Which, read_value, sorted_keys};

/// A part of a state that others read while it lies beneath them.
pub trait Lend<P: ?Sized>: Send + Sync {
    /// The part.
    fn lend(&self) -> &P;
}

/// The map that a trial's map began with, and the keys that the trial removed.
struct Beneath<K, V> {
    map: Arc<dyn Lend<KeptMap<K, V>>>,
    removed: FxHashSet<K>,
    copy: fn(&V) -> V,
}

impl<K: Clone, V> Clone for Beneath<K, V> {
    fn clone(&self) -> Self {
        Self {
            map: self.map.clone(),
            removed: self.removed.clone(),
            copy: self.copy,
        }
    }
}

impl<K, V> fmt::Debug for Beneath<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Beneath")
    }
}

/// A map that notes the keys of changed entries.
///
/// The map of a trial has a map beneath, which [`Self::get`] and [`Self::contains_key`] read where the
/// trial has no entry of its own. An entry about to change is copied first. Length and iteration are of the
/// trial's own entries alone.
#[derive(Clone, Debug)]
pub struct KeptMap<K, V> {
    map: FxHashMap<K, V>,
    noted: Noted<K>,
    beneath: Option<Box<Beneath<K, V>>>,
}

impl<K, V> Default for KeptMap<K, V> {
    fn default() -> Self {
        Self {
            map: FxHashMap::default(),
            noted: Noted::Off,
            beneath: None,
        }
    }
}

impl<K, V> Deref for KeptMap<K, V> {
    type Target = FxHashMap<K, V>;
    fn deref(&self) -> &FxHashMap<K, V> {
        &self.map
    }
}

impl<K: PieceKey, V> KeptMap<K, V> {
    /// The map of a trial, above this one.
    pub fn above(map: Arc<dyn Lend<Self>>) -> Self
    where
        V: Clone,
    {
        let beneath = Beneath {
            map,
            removed: FxHashSet::default(),
            copy: V::clone,
        };
        Self {
            beneath: Some(Box::new(beneath)),
            ..Self::default()
        }
    }
    /// As in a map.
    pub fn get(&self, key: &K) -> Option<&V> {
        match self.map.get(key) {
            Some(value) => Some(value),
            None => self.get_beneath(key),
        }
    }
    fn get_beneath(&self, key: &K) -> Option<&V> {
        let beneath = self.beneath.as_ref()?;
        match beneath.removed.contains(key) {
            true => None,
            false => beneath.map.lend().get(key),
        }
    }
    /// As in a map.
    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }
    /// Copies an entry that is about to change from the map beneath, where it is there alone.
    fn lift(&mut self, key: K) {
        if self.beneath.is_none() || self.map.contains_key(&key) {
            return;
        }
        let copy = self.beneath.as_ref().map(|beneath| beneath.copy);
        let value = self.get_beneath(&key).zip(copy);
        if let Some(value) = value.map(|(value, copy)| copy(value)) {
            self.map.insert(key, value);
        }
    }
    /// As in a map.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.lift(key);
        self.noted.add(key);
        self.map.insert(key, value)
    }
    /// As in a map.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.lift(*key);
        let removed = self.map.remove(key);
        if removed.is_some() {
            self.noted.add(*key);
            if let Some(beneath) = &mut self.beneath {
                beneath.removed.insert(*key);
            }
        }
        removed
    }
    /// A value about to change.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.lift(*key);
        let value = self.map.get_mut(key);
        if value.is_some() {
            self.noted.add(*key);
        }
        value
    }
    /// Takes all entries out.
    pub fn clear(&mut self) {
        self.noted.extend(self.map.keys().copied());
        self.map.clear();
    }
    /// Gives entries other keys; those without one are dropped.
    pub fn rekey(&mut self, key_of: impl Fn(K) -> Option<K>) {
        self.noted.extend(self.map.keys().copied());
        let entries = std::mem::take(&mut self.map).into_iter();
        self.map = entries
            .filter_map(|(key, value)| Some((key_of(key)?, value)))
            .collect();
        self.noted.extend(self.map.keys().copied());
    }
    /// The entry of a key, about to change; a new one if there is none.
    pub fn entry_or(&mut self, key: K, value: impl FnOnce() -> V) -> &mut V {
        self.lift(key);
        self.noted.add(key);
        self.map.entry(key).or_insert_with(value)
    }
    /// All values, each about to change.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.noted.extend(self.map.keys().copied());
        self.map.values_mut()
    }
}

impl<K: PieceKey, V: Serialize + DeserializeOwned> Part for KeptMap<K, V> {
    fn note(&mut self) {
        self.noted.start();
    }
    fn write(&self, which: Which, area: u8, pieces: &mut Pieces) {
        let keys = match which {
            Which::All => sorted_keys(&self.map),
            Which::Changed => self.noted.sorted(),
        };
        for key in keys {
            match self.map.get(&key) {
                Some(value) => pieces.put(area, |out| key.write(out), value),
                None => pieces.remove(area, |out| key.write(out)),
            }
        }
    }
    fn forget(&mut self) {
        self.noted.forget();
    }
    fn read(&mut self, area: u8, key: &[u8], value: &[u8]) -> Result<(), PieceError> {
        let key = K::read(key).ok_or(PieceError::Key)?;
        self.map.insert(key, read_value(area, value)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A map that others lie above.
    struct Whole(KeptMap<u64, u32>);

    impl Lend<KeptMap<u64, u32>> for Whole {
        fn lend(&self) -> &KeptMap<u64, u32> {
            &self.0
        }
    }

    proptest! {
        /// Whatever is done to a map above another reads as if it were done to a copy, and the one beneath stays.
        #[test]
        fn a_map_above_another_reads_as_a_changed_copy(
            before in prop::collection::vec((0..8_u64, 0..100_u32), 0..8),
            steps in prop::collection::vec((0..4_u8, 0..8_u64, 0..100_u32), 0..24),
        ) {
            let mut beneath = KeptMap::default();
            for (key, value) in &before {
                beneath.insert(*key, *value);
            }
            let mut copy = (*beneath).clone();
            let whole = Arc::new(Whole(beneath));
            let untouched = copy.clone();
            let mut above = KeptMap::above(whole.clone());
            for (step, key, value) in steps {
                match step {
                    0 => prop_assert_eq!(above.insert(key, value), copy.insert(key, value)),
                    1 => prop_assert_eq!(above.remove(&key), copy.remove(&key)),
                    2 => {
                        let (ours, theirs) = (above.get_mut(&key), copy.get_mut(&key));
                        prop_assert_eq!(&ours, &theirs);
                        ours.into_iter().chain(theirs).for_each(|entry| *entry += 1);
                    }
                    _ => {
                        *above.entry_or(key, || value) += 1;
                        *copy.entry(key).or_insert(value) += 1;
                    }
                }
                for key in 0..8 {
                    prop_assert_eq!(above.get(&key), copy.get(&key));
                    prop_assert_eq!(above.contains_key(&key), copy.contains_key(&key));
                }
            }
            prop_assert_eq!(&**whole.lend(), &untouched);
        }
    }
}
