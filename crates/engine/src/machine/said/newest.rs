//! The newest row of each key, in whatever order rows come.

use std::hash::Hash;

use leadpulse_graph::RowOutcome;
use leadpulse_graph::pieces::KeptTree;
use leadpulse_schema::Row;
use serde::{Deserialize, Serialize};

/// The place of a row among all that was said: by its own time, then by its place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::machine) struct SaidAt {
    /// Time of the row; of a tombstone its known time. Milliseconds.
    pub at_ms: i64,
    partition: u32,
    offset: i64,
}

impl SaidAt {
    /// The place of a row.
    pub fn of(row: Row<'_>) -> Self {
        Self {
            at_ms: row.event_ms(),
            partition: row.position().partition,
            offset: row.position().offset,
        }
    }
}

/// The newest row of a key; without a value it is a deletion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::machine) struct NewestRow<V> {
    pub said: SaidAt,
    pub value: Option<V>,
}

/// The newest row of each key. Deletions stay, so that an older row does not bring a value back:
/// the content is a function of the set of rows.
#[derive(Clone, Debug)]
pub(in crate::machine) struct NewestRows<K, V> {
    pub rows: KeptTree<K, NewestRow<V>>,
}

impl<K, V> Default for NewestRows<K, V> {
    fn default() -> Self {
        Self {
            rows: KeptTree::default(),
        }
    }
}

/// The effect of a row on its key.
pub(in crate::machine) struct Taken<V> {
    pub outcome: RowOutcome,
    /// The row that is replaced; `None` where nothing changed, or nothing was there.
    pub before: Option<NewestRow<V>>,
}

impl<K: Ord + Clone + Hash + Serialize, V: Clone + PartialEq> NewestRows<K, V> {
    /// Takes a row; `None` is a deletion. What was accepted is in the content, everything else
    /// changed no value.
    pub fn take(&mut self, key: K, said: SaidAt, value: Option<V>) -> Taken<V> {
        let unchanged = |outcome| Taken {
            outcome,
            before: None,
        };
        let row = NewestRow { said, value };
        let Some(known) = self.rows.get(&key) else {
            let outcome = match row.value.is_some() {
                true => RowOutcome::Accepted,
                false => RowOutcome::NothingToDelete,
            };
            self.rows.insert(key, row);
            return unchanged(outcome);
        };
        let is_repeated =
            known.value == row.value && (row.value.is_none() || known.said.at_ms == row.said.at_ms);
        if row.said < known.said {
            return unchanged(match is_repeated {
                true => RowOutcome::Duplicate,
                false => RowOutcome::StaleVersion,
            });
        }
        let before = self.rows.insert(key, row);
        Taken {
            outcome: match is_repeated {
                true => RowOutcome::Duplicate,
                false => RowOutcome::Accepted,
            },
            before,
        }
    }

    /// The newest row of a key.
    pub fn get(&self, key: &K) -> Option<&NewestRow<V>> {
        self.rows.get(key)
    }

    /// All keys with their newest rows, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &NewestRow<V>)> {
        self.rows.iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(at_ms: i64, offset: i64) -> SaidAt {
        SaidAt {
            at_ms,
            partition: 0,
            offset,
        }
    }

    #[test]
    fn every_row_has_the_outcome_of_its_effect() {
        use RowOutcome::{Accepted, Duplicate, NothingToDelete, StaleVersion};
        let mut rows: NewestRows<&str, u8> = NewestRows::default();
        for (key, at_ms, offset, value, expected) in [
            ("a", 5, 0, None, NothingToDelete),
            ("a", 4, 1, Some(1), StaleVersion),
            ("a", 6, 2, Some(1), Accepted),
            ("a", 6, 3, Some(1), Duplicate),
            ("a", 6, 1, Some(1), Duplicate),
            ("a", 6, 4, Some(2), Accepted),
            ("a", 9, 5, Some(2), Accepted),
            ("a", 10, 6, None, Accepted),
            ("a", 11, 7, None, Duplicate),
            ("a", 10, 8, Some(3), StaleVersion),
        ] {
            let outcome = rows.take(key, said(at_ms, offset), value).outcome;
            assert_eq!(outcome, expected, "{key} {at_ms} {offset} {value:?}");
        }
    }

    proptest! {
        #[test]
        fn any_order_of_rows_gives_the_same_content(
            rows in prop::collection::vec((0..4u8, 0..6i64, prop::option::of(0..3u8)), 1..24),
            turn in 0usize..24,
        ) {
            let content = |order: &[usize]| {
                let mut newest = NewestRows::default();
                for index in order {
                    let (key, at_ms, value) = rows[*index];
                    newest.take(key, said(at_ms, *index as i64), value);
                }
                newest.rows.clone()
            };
            let mut order: Vec<usize> = (0..rows.len()).collect();
            let expected = content(&order);
            order.rotate_left(turn % rows.len());
            prop_assert_eq!(&*content(&order), &*expected);
            order.reverse();
            prop_assert_eq!(&*content(&order), &*expected);
        }
    }
}
