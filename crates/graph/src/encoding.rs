//! Forms of fields in stored state: maps in the order of their keys, zeros and empty states left
//! out.
//!
//! State of equal content is stored alike, whatever the history of its maps. The forms are those of
//! serde, so that this crate knows no bytes: whoever stores a graph chooses the format.

use std::collections::HashMap;

use serde::{Serialize, Serializer};

/// Reasons why stored state is that of no graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoredGraphError {
    /// A stored number is an index of something that was not stored.
    #[error("stored state refers to a {0} that does not exist; build the state from its records")]
    OutOfRange(&'static str),
    /// The number of stored shards is not that of the options, or their cells are not those that
    /// are tracked.
    #[error("stored shards are not those of the graph; build the state from its records")]
    OtherShards,
}

/// Serializes a map in the order of its keys.
pub(crate) fn sorted<K: Ord + Serialize, V: Serialize, H, S: Serializer>(
    map: &HashMap<K, V, H>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut entries: Vec<(&K, &V)> = map.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    serializer.collect_map(entries)
}

/// Lists of numbers that are mostly zero: their length, and the others with their positions.
pub(crate) mod sparse {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::{Serialize, Serializer};

    /// Lists are as long as the hub slots of a layout times its half-lives. A longer one would
    /// only exhaust memory.
    const LONGEST: usize = 1 << 24;

    pub fn serialize<S: Serializer>(numbers: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        // By bits: a negative zero is stored.
        let others = numbers.iter().enumerate().filter(|(_, x)| x.to_bits() != 0);
        let others: Vec<(usize, f64)> = others.map(|(at, x)| (at, *x)).collect();
        (numbers.len(), others).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        let (length, others) = <(usize, Vec<(usize, f64)>)>::deserialize(deserializer)?;
        if length > LONGEST {
            return Err(D::Error::custom("a stored list is longer than any layout"));
        }
        let mut numbers = vec![0.0; length];
        for (at, x) in others {
            *numbers
                .get_mut(at)
                .ok_or_else(|| D::Error::custom("a stored number lies beyond its list"))? = x;
        }
        Ok(numbers)
    }
}

/// Lists of values that are mostly empty: an entity has few of the events that it may have.
pub(crate) mod mostly_empty {
    use serde::de::{Deserialize, Deserializer};
    use serde::ser::{Serialize, Serializer};

    pub fn serialize<T: Serialize + Default + PartialEq, S: Serializer>(
        values: &[T],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let empty = T::default();
        serializer.collect_seq(
            values
                .iter()
                .map(|value| (*value != empty).then_some(value)),
        )
    }

    pub fn deserialize<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<T>, D::Error> {
        let values = Vec::<Option<T>>::deserialize(deserializer)?;
        Ok(values.into_iter().map(Option::unwrap_or_default).collect())
    }
}
