//! The member rows that exist in a coalition.
//!
//! A row exists once its table's existence group is present, or any group that changes one of its
//! columns. So the empty coalition has no members, and its value is the same for every row of a
//! task: the number of people and deals is attributed. A single request still counts without the
//! existence group. The row that a member task asks about always has its output, and is pooled over
//! like every other row.

use crate::explain::coalitions::Coalition;

/// Per member table and row that the cell is pooled over the players that bring it.
pub(super) struct Presence {
    pub brought_by: Vec<Vec<Coalition>>,
}

impl Presence {
    /// The rows of a table that exist in a coalition, ascending.
    pub fn rows(&self, table: usize, coalition: Coalition) -> impl Iterator<Item = usize> {
        let rows = self.brought_by[table].iter().enumerate();
        rows.filter(move |(_, brought_by)| **brought_by & coalition != 0)
            .map(|(row, _)| row)
    }

    /// The players that bring a row of a table.
    pub fn players(&self, table: usize) -> Coalition {
        self.brought_by[table].iter().fold(0, |all, by| all | by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_with_their_groups() {
        let presence = Presence {
            brought_by: vec![vec![0b101, 0b110, 0b111, 0b100], vec![]],
        };
        let rows = |table, coalition| presence.rows(table, coalition).collect::<Vec<_>>();
        for (coalition, expected) in [
            (0b000, vec![]),
            (0b001, vec![0, 2]),
            (0b010, vec![1, 2]),
            (0b011, vec![0, 1, 2]),
            (0b100, vec![0, 1, 2, 3]),
        ] {
            assert_eq!(rows(0, coalition), expected, "{coalition:b}");
        }
        assert_eq!(rows(1, 0b111), [0; 0]);
        assert_eq!((presence.players(0), presence.players(1)), (0b111, 0));
    }
}
