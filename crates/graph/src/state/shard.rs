//! A shard: cells that one thread changes at a time.

use serde::{Deserialize, Serialize};

use crate::ids::EntityId;
use crate::state::cell::{Cell, StateRules};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Shard {
    pub cells: Vec<Cell>,
    /// Indices of cells without nodes, to be given to new anchors.
    pub free: Vec<u32>,
    /// Cells that changed since the last board, with repeats.
    pub changed: Vec<u32>,
    /// Retractions that could not restore everything.
    pub inexact: u64,
    /// Retractions that found nothing to undo.
    pub unmatched: u64,
}

impl Shard {
    /// Keeps the cell's contribution to the hubs before its first change since the board.
    pub fn freeze(&mut self, index: u32, shared: &StateRules) {
        if shared.layout.catalog().hubs.is_empty() {
            return;
        }
        let cell = &mut self.cells[index as usize];
        if cell.frozen.is_none() {
            cell.frozen = Some(Box::new(cell.contribution(shared)));
            self.changed.push(index);
        }
    }

    /// Opens a cell without nodes for an anchor. Returns its index, a freed one if there is any.
    pub fn open(&mut self, anchor: EntityId) -> u32 {
        match self.free.pop() {
            Some(index) => {
                self.cells[index as usize] = Cell::new(anchor);
                index
            }
            None => {
                self.cells.push(Cell::new(anchor));
                self.cells.len() as u32 - 1
            }
        }
    }
}
