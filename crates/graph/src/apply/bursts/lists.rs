//! Lists of fingerprints by key, and those of a trial above them.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Bursts;
use crate::pieces::Lend;

/// Fingerprints by key. Those of a trial are above others, and copied before they change.
#[derive(Clone)]
pub(super) struct Lists<K> {
    own: FxHashMap<K, Vec<u64>>,
    pub beneath: Option<Arc<dyn Lend<Bursts>>>,
    /// The same lists of what lies beneath.
    of: fn(&Bursts) -> &Lists<K>,
}

impl<K> fmt::Debug for Lists<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lists", self.own.len())
    }
}

impl<K: Hash + Eq + Copy> Lists<K> {
    pub fn new(of: fn(&Bursts) -> &Lists<K>) -> Self {
        Self {
            own: FxHashMap::default(),
            beneath: None,
            of,
        }
    }
    /// The list of a key; `None` for an empty one.
    pub fn get(&self, key: &K) -> Option<&Vec<u64>> {
        let beneath = || (self.of)(self.beneath.as_ref()?.lend()).get(key);
        let list = self.own.get(key).or_else(beneath);
        list.filter(|list| !list.is_empty())
    }
    /// Appends a value to the list of a key.
    pub fn push(&mut self, key: K, value: u64) {
        self.lift(&key);
        self.own.entry(key).or_default().push(value);
    }
    /// Removes one value from the list of a key, and the list with its last value.
    pub fn drop_from(&mut self, key: &K, value: u64) {
        self.lift(key);
        if let Some(list) = self.own.get_mut(key) {
            list.retain(|v| *v != value);
            if list.is_empty() && self.beneath.is_none() {
                self.own.remove(key);
            }
        }
    }
    fn lift(&mut self, key: &K) {
        if self.beneath.is_some()
            && !self.own.contains_key(key)
            && let Some(list) = self.get(key).cloned()
        {
            self.own.insert(*key, list);
        }
    }
}
