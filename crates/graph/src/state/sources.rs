//! The age of sources: how long an event table has brought nothing new, as of the last board.
//!
//! A source that stopped looks like customers who fell silent. Its age tells the two apart. Ages
//! are read as of a board, like the sums of hubs, so that the order of rows within a period changes
//! no score.
//!
//! Decision: docs/decisions/0056-a-source-that-stopped.md

use serde::{Deserialize, Serialize};

use leadpulse_schema::TableId;

use crate::options::DAY_MS;

/// The silence of a source that says nothing, milliseconds: a younger one has the age 0.
// Sources loaded once a night are a day old, and every cell would move with each load.
const NORMAL_MS: i64 = DAY_MS;

/// The newest event of each event table, as of a board.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceTimes {
    /// By table; `None` for other tables, and before the first event.
    newest_ms: Vec<Option<i64>>,
}

impl SourceTimes {
    /// The newest event of each table, by its index.
    pub(crate) fn new(newest_ms: Vec<Option<i64>>) -> Self {
        Self { newest_ms }
    }

    /// The time that a table has brought nothing new at a moment, milliseconds, less the day that
    /// is normal; 0 for a table that has not begun.
    pub fn age_ms(&self, table: TableId, as_of_ms: i64) -> i64 {
        let newest_ms = self.newest_ms.get(table.index()).copied().flatten();
        newest_ms.map_or(0, |newest_ms| (as_of_ms - newest_ms - NORMAL_MS).max(0))
    }

    /// True if some table has another age at a moment.
    pub(crate) fn differs(&self, other: &Self, as_of_ms: i64) -> bool {
        let tables = self.newest_ms.len().max(other.newest_ms.len());
        (0..tables).any(|table| {
            let table = TableId(table as u16);
            self.age_ms(table, as_of_ms) != other.age_ms(table, as_of_ms)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_ages_from_the_second_day_and_one_that_has_not_begun_never() {
        let day = |day: i64| Some(day * DAY_MS);
        let times = SourceTimes::new(vec![None, day(10), day(20)]);
        let age = |table: u16, at: i64| times.age_ms(TableId(table), at * DAY_MS) / DAY_MS;
        assert_eq!(
            (age(0, 90), age(1, 10), age(1, 11), age(1, 15)),
            (0, 0, 0, 4)
        );
        assert_eq!((age(2, 15), age(2, 30), age(7, 30)), (0, 9, 0));
        // News of a source that is not old changes nothing that is read.
        let newer = SourceTimes::new(vec![None, day(10), day(22)]);
        assert!(!times.differs(&newer, 20 * DAY_MS) && times.differs(&newer, 22 * DAY_MS));
        assert!(SourceTimes::default().differs(&times, 22 * DAY_MS));
    }
}
