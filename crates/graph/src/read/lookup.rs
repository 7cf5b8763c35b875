//! Cells and nodes by place and by key.

use leadpulse_schema::TableId;

use crate::graph::Graph;
use crate::ids::CellRef;
use crate::state::cell::Cell;
use crate::state::node::Node;

impl Graph {
    /// # Panics
    /// For a place that was never given out.
    pub fn cell(&self, at: CellRef) -> &Cell {
        self.cells.get(at)
    }

    /// Whether there is a cell, occupied or free.
    pub fn has_cell(&self, at: CellRef) -> bool {
        let shard = self.cells.shards.get(usize::from(at.shard));
        shard.is_some_and(|shard| (at.index as usize) < shard.cells().len())
    }

    /// All cells, by shard and index.
    pub fn cells(&self) -> impl Iterator<Item = (CellRef, &Cell)> {
        self.cells.occupied()
    }

    /// The node of the root that a cell is of; `None` for a cell without one.
    pub fn root_node<'a>(&self, cell: &'a Cell) -> Option<&'a Node> {
        let root = self.catalog().root().id;
        cell.anchor_node().filter(|node| node.table == root)
    }

    /// The cell and node of an entity, if a row ever named the entity.
    pub fn find(&self, table: TableId, key: &str) -> Option<(CellRef, &Node)> {
        let directory = self.directory();
        let entity = directory.find(directory.of_table(table), key)?;
        let place = directory.place(entity)?;
        Some((place.cell, self.cells.node(place)))
    }
}
