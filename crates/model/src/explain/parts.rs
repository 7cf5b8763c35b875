//! Coalitions as some players tell them apart: what they share is computed once.

use crate::explain::coalitions::Coalition;
use crate::explain::differences::Differences;
use crate::explain::presence::Presence;

/// Coalitions as some players tell them apart.
pub(super) struct Parts {
    /// Each combination of those players that occurs, ascending.
    pub distinct: Vec<Coalition>,
    /// Per coalition its index in `distinct`.
    pub of: Vec<usize>,
}

impl Parts {
    /// `seen` are the players that tell coalitions apart.
    pub fn new(coalitions: &[Coalition], seen: Coalition) -> Self {
        let mut distinct: Vec<Coalition> = coalitions.iter().map(|c| c & seen).collect();
        distinct.sort_unstable();
        distinct.dedup();
        let of = coalitions.iter().map(|c| {
            let at = distinct.binary_search(&(c & seen));
            at.expect("it was collected from these")
        });
        Self {
            of: of.collect(),
            distinct,
        }
    }
}

/// The rows of one member table in some coalitions. A row has as many states as its own players
/// tell coalitions apart; states are numbered row after row.
pub(super) struct TableParts {
    /// The coalitions as the table tells them apart.
    pub parts: Parts,
    /// Per row its states.
    pub rows: Vec<Parts>,
    /// Per part the states of the rows that the cell is pooled over.
    pub pooled: Vec<Vec<usize>>,
    /// Per part the state of the asked row; empty if the table is not asked about.
    pub asked: Vec<usize>,
}

impl TableParts {
    /// `rows` are those of table `table`, `asked` is the one that a member task asks about.
    pub fn new(
        coalitions: &[Coalition],
        rows: &[Differences],
        presence: &Presence,
        table: usize,
        asked: Option<usize>,
    ) -> Self {
        let changed = rows.iter().fold(0, |all, row| all | row.changed());
        let parts = Parts::new(coalitions, changed | presence.players(table));
        let states = |row: &Differences| Parts::new(&parts.distinct, row.changed());
        let rows: Vec<Parts> = rows.iter().map(states).collect();
        let mut starts = Vec::with_capacity(rows.len());
        let mut start = 0;
        for row in &rows {
            starts.push(start);
            start += row.distinct.len();
        }
        let state = |row: usize, part: usize| starts[row] + rows[row].of[part];
        let distinct = parts.distinct.iter().enumerate();
        let pooled = distinct.map(|(part, coalition)| {
            let there = presence.rows(table, *coalition);
            there.map(|row| state(row, part)).collect()
        });
        let pooled = pooled.collect();
        let asked = asked.map_or_else(Vec::new, |row| {
            let parts = 0..parts.distinct.len();
            parts.map(|part| state(row, part)).collect()
        });
        Self {
            parts,
            rows,
            pooled,
            asked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coalitions_that_a_row_cannot_tell_apart_are_one() {
        let parts = Parts::new(&[0b000, 0b100, 0b001, 0b101, 0b111], 0b011);
        assert_eq!(parts.distinct, [0b00, 0b01, 0b11]);
        assert_eq!(parts.of, [0, 0, 1, 1, 2]);
    }
}
