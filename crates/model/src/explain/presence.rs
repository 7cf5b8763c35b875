//! The member rows that exist in a coalition.
//!
//! A row exists once a group is present that changes one of its columns. So the empty coalition has
//! no members, and its value is the same for every cell: the number of people and deals is
//! attributed to the groups that bring them. The row that a member task asks about always exists,
//! and so does a row that is nothing but absence, which no group could bring.

use crate::explain::coalitions::Coalition;

/// Per member table and row the players that change one of its columns.
pub(super) struct Presence {
    pub changed: Vec<Vec<Coalition>>,
    /// Table and row that the task asks about, for a task on a member table.
    pub asked: Option<(usize, usize)>,
}

impl Presence {
    /// True if a row exists in a coalition.
    pub fn exists(&self, table: usize, row: usize, coalition: Coalition) -> bool {
        let changed = self.changed[table][row];
        self.asked == Some((table, row)) || changed == 0 || changed & coalition != 0
    }

    /// The rows of a table that exist in a coalition, ascending.
    pub fn rows(&self, table: usize, coalition: Coalition) -> impl Iterator<Item = usize> {
        let rows = 0..self.changed[table].len();
        rows.filter(move |row| self.exists(table, *row, coalition))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_with_their_groups() {
        let presence = Presence {
            changed: vec![vec![0b01, 0b10, 0b11, 0], vec![0b01]],
            asked: Some((1, 0)),
        };
        let rows = |table, coalition| presence.rows(table, coalition).collect::<Vec<_>>();
        for (coalition, expected) in [
            (0b00, vec![3]),
            (0b01, vec![0, 2, 3]),
            (0b10, vec![1, 2, 3]),
            (0b11, vec![0, 1, 2, 3]),
        ] {
            assert_eq!(rows(0, coalition), expected, "{coalition:b}");
        }
        assert_eq!(rows(1, 0), [0]);
    }
}
