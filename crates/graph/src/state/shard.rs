//! A shard: cells that one thread changes at a time.

use std::ops::Deref;

use serde::{Deserialize, Serialize};

use crate::encoding::StoredGraphError;
use crate::ids::EntityId;
use crate::pieces::{Kept, Noted, Part, PieceError, Pieces, Which, read_value};
use crate::state::cell::{Cell, HubContribution, StateRules};
use crate::state::node::Node;

/// Area of what shards know besides their cells.
pub(crate) const BOOKS: u8 = 11;
/// Area of cells and their nodes.
pub(crate) const CELLS: u8 = 12;

/// The place of a cell's head among the pieces of the cell: before its nodes.
const HEAD: u32 = 0;

/// Cells without nodes, and counts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ShardBook {
    /// Indices of cells without nodes, to be given to new anchors.
    pub free: Vec<u32>,
    /// Retractions that could not restore everything.
    pub inexact: u64,
    /// Retractions that found nothing to undo.
    pub unmatched: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Shard {
    cells: Vec<Cell>,
    pub book: Kept<ShardBook>,
    /// Cells that changed since the last board, with repeats: those with a kept contribution.
    changed: Vec<u32>,
    /// The number of nodes of each cell, while pieces are read.
    expected: Vec<u32>,
    /// Pieces of cells that changed: index of the cell, and [`HEAD`] or 1 + the place of the node.
    noted: Noted<(u32, u32)>,
}

/// A cell without its nodes, as it is stored.
#[derive(Serialize, Deserialize)]
struct CellHead<H> {
    anchor: EntityId,
    nodes: u32,
    frozen: H,
}

impl Shard {
    /// All cells, by index; some have no nodes.
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// Keeps the cell's contribution to the hubs before its first change since the board.
    pub fn freeze(&mut self, index: u32, shared: &StateRules) {
        if shared.layout.catalog().hubs.is_empty() {
            return;
        }
        let cell = &mut self.cells[index as usize];
        if cell.frozen.is_none() {
            cell.frozen = Some(Box::new(cell.contribution(shared)));
            self.changed.push(index);
            self.noted.add((index, HEAD));
        }
    }

    /// The cells that changed since the last board, ascending: the kept contribution of each is
    /// forgotten next.
    pub fn take_changed(&mut self) -> Vec<u32> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    /// The kept contribution of a cell, which forgets it.
    pub fn thaw(&mut self, index: u32) -> Option<Box<HubContribution>> {
        let frozen = self.cells[index as usize].frozen.take();
        if frozen.is_some() {
            self.noted.add((index, HEAD));
        }
        frozen
    }

    /// Opens a cell without nodes for an anchor. Returns its index, a freed one if there is any.
    pub fn open(&mut self, anchor: EntityId) -> u32 {
        let freed = match self.book.free.is_empty() {
            true => None,
            false => self.book.change().free.pop(),
        };
        let index = match freed {
            Some(index) => {
                self.cells[index as usize] = Cell::new(anchor);
                index
            }
            None => {
                self.cells.push(Cell::new(anchor));
                self.cells.len() as u32 - 1
            }
        };
        self.noted.add((index, HEAD));
        index
    }

    /// A node about to change.
    pub fn node_mut(&mut self, cell: u32, node: u32) -> &mut Node {
        self.noted.add((cell, 1 + node));
        &mut self.cells[cell as usize].nodes.0[node as usize]
    }

    /// Appends a node to a cell.
    pub fn put(&mut self, cell: u32, node: Node) {
        let nodes = &mut self.cells[cell as usize].nodes.0;
        nodes.push(node);
        let place = nodes.len() as u32;
        self.noted.add((cell, HEAD));
        self.noted.add((cell, place));
    }

    /// Takes a node out of a cell; the last one gets its place.
    pub fn take(&mut self, cell: u32, node: u32) -> Node {
        let nodes = &mut self.cells[cell as usize].nodes.0;
        let last = nodes.len() as u32;
        let taken = nodes.swap_remove(node as usize);
        for place in [HEAD, 1 + node, last] {
            self.noted.add((cell, place));
        }
        taken
    }

    /// Writes pieces of the shard with this number.
    pub fn write(&self, which: Which, shard: u16, pieces: &mut Pieces) {
        if which == Which::All || self.book.is_changed() {
            let key = |out: &mut Vec<u8>| out.extend(shard.to_be_bytes());
            pieces.put(BOOKS, key, &*self.book);
        }
        self.write_cells(which, shard, pieces);
    }

    /// Writes pieces of cells, under the number of the shard.
    fn write_cells(&self, which: Which, shard: u16, pieces: &mut Pieces) {
        let all = || {
            let cells = (0..).zip(&self.cells);
            let places = cells
                .flat_map(|(at, cell)| (0..=cell.nodes.len() as u32).map(move |place| (at, place)));
            places.collect()
        };
        let places: Vec<(u32, u32)> = match which {
            Which::All => all(),
            Which::Changed => self.noted.sorted(),
        };
        for (at, place) in places {
            let key = |out: &mut Vec<u8>| {
                out.extend(shard.to_be_bytes());
                out.extend(at.to_be_bytes());
                out.extend(place.to_be_bytes());
            };
            let cell = &self.cells[at as usize];
            if place == HEAD {
                let head = CellHead {
                    anchor: cell.anchor,
                    nodes: cell.nodes.len() as u32,
                    frozen: &cell.frozen,
                };
                pieces.put(CELLS, key, &head);
            } else {
                match cell.nodes.get(place as usize - 1) {
                    Some(node) => pieces.put(CELLS, key, node),
                    None => pieces.remove(CELLS, key),
                }
            }
        }
    }

    /// Takes a stored piece of a cell. Pieces come in the order of their keys.
    fn read_cell(&mut self, key: &[u8], value: &[u8]) -> Result<(), PieceError> {
        let (at, place) = key.split_first_chunk().ok_or(PieceError::Key)?;
        let at = u32::from_be_bytes(*at) as usize;
        let place = u32::from_be_bytes(place.try_into().map_err(|_| PieceError::Key)?);
        if place != HEAD {
            let cell = self.cells.last_mut().ok_or(PieceError::Key)?;
            let nodes = &mut cell.nodes.0;
            nodes.push(read_value(CELLS, value)?);
            let is_next = nodes.len() == place as usize;
            return match is_next && self.cells.len() == at + 1 {
                true => Ok(()),
                false => Err(PieceError::Key),
            };
        }
        if at != self.cells.len() {
            return Err(PieceError::Key);
        }
        let head: CellHead<Option<Box<HubContribution>>> = read_value(CELLS, value)?;
        let mut cell = Cell::new(head.anchor);
        if head.frozen.is_some() {
            self.changed.push(at as u32);
        }
        cell.frozen = head.frozen;
        self.expected.push(head.nodes);
        self.cells.push(cell);
        Ok(())
    }

    /// Checks that every cell has the nodes that its head names, after all pieces were read.
    pub fn check_nodes(&mut self) -> Result<(), StoredGraphError> {
        let expected = std::mem::take(&mut self.expected);
        let mut cells = self.cells.iter().zip(expected);
        match cells.all(|(cell, nodes)| cell.nodes.len() == nodes as usize) {
            true => Ok(()),
            false => Err(StoredGraphError::OutOfRange("node")),
        }
    }
}

/// The pieces of a shard start with its number.
impl Part for Vec<Shard> {
    fn note(&mut self) {
        for shard in self {
            shard.noted.start();
            shard.book.note();
        }
    }
    fn write(&self, which: Which, _: u8, pieces: &mut Pieces) {
        for (number, shard) in (0_u16..).zip(self) {
            shard.write(which, number, pieces);
        }
    }
    fn forget(&mut self) {
        for shard in self {
            shard.noted.forget();
            shard.book.forget();
        }
    }
    fn read(&mut self, area: u8, key: &[u8], value: &[u8]) -> Result<(), PieceError> {
        let (number, key) = key.split_first_chunk().ok_or(PieceError::Key)?;
        let shard = self.get_mut(usize::from(u16::from_be_bytes(*number)));
        let shard = shard.ok_or(PieceError::Key)?;
        match area {
            BOOKS => shard.book.read(area, key, value),
            _ => shard.read_cell(key, value),
        }
    }
}

/// The nodes of a cell. They change through their shard only, which notes what is to be stored.
#[derive(Clone, Debug, Default)]
pub struct Nodes(Vec<Node>);

impl Deref for Nodes {
    type Target = [Node];
    fn deref(&self) -> &[Node] {
        &self.0
    }
}

impl<'a> IntoIterator for &'a Nodes {
    type Item = &'a Node;
    type IntoIter = std::slice::Iter<'a, Node>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
