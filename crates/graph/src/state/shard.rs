//! A shard: cells that one thread changes at a time.

use std::fmt;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::encoding::StoredGraphError;
use crate::ids::{CellRef, EntityId};
use crate::pieces::{Kept, Lend, Noted, Part, PieceError, Pieces, Which, read_value};
use crate::state::cell::{Cell, HubContribution, StateRules};
use crate::state::node::Node;
use crate::state::nodes::{NodeSource, Nodes, PutOut};

/// Area of what shards know besides their cells.
pub(crate) const BOOKS: u8 = 11;
/// Area of cells without their nodes.
pub(crate) const CELLS: u8 = 12;
/// Area of the hubs of cells.
pub(crate) const CELL_HUBS: u8 = 28;
/// Area of nodes. What is read at a start comes before it.
pub(crate) const NODES: u8 = 31;

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
    /// Where cells are that may be cold, and the number of the shard.
    cold: Option<(Arc<NodeSource>, u16)>,
    /// Pieces of cells that changed: index of the cell, and [`HEAD`] or 1 + the place of the node.
    noted: Noted<(u32, u32)>,
    trial: Option<Box<TrialCells>>,
}

/// The cells of a trial's shard: those of the shard beneath, but for copies that the trial changed, and
/// new ones, numbered from the length of the shard beneath.
#[derive(Clone)]
struct TrialCells {
    beneath: Arc<dyn Lend<Shard>>,
    own: FxHashMap<u32, Cell>,
    len: u32,
    /// True once the trial published a board: no contribution beneath is kept any more.
    is_published: bool,
}

impl fmt::Debug for TrialCells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.own.keys()).finish()
    }
}

impl TrialCells {
    /// The trial's own copy of a cell.
    fn lifted(&mut self, index: u32) -> &mut Cell {
        let (beneath, is_published) = (&self.beneath, self.is_published);
        self.own.entry(index).or_insert_with(|| {
            let mut cell = beneath.lend().cell(index).clone();
            if is_published {
                cell.frozen = None;
            }
            cell
        })
    }
}

/// A cell without its nodes, as it is stored.
#[derive(Serialize, Deserialize)]
struct CellHead<H> {
    anchor: EntityId,
    nodes: u32,
    frozen: H,
}

impl Shard {
    /// The shard of a trial, above this one.
    pub fn above(beneath: Arc<dyn Lend<Shard>>) -> Self {
        let trial = TrialCells {
            len: beneath.lend().cells.len() as u32,
            beneath,
            own: FxHashMap::default(),
            is_published: false,
        };
        Self {
            trial: Some(Box::new(trial)),
            ..Self::default()
        }
    }

    /// All cells, by index; some have no nodes. None of a trial's: see [`Self::cell`].
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The cell at an index.
    pub fn cell(&self, index: u32) -> &Cell {
        match &self.trial {
            None => &self.cells[index as usize],
            Some(trial) => match trial.own.get(&index) {
                Some(cell) => cell,
                None => trial.beneath.lend().cell(index),
            },
        }
    }

    /// A cell about to change.
    fn cell_mut(&mut self, index: u32) -> &mut Cell {
        match &mut self.trial {
            None => &mut self.cells[index as usize],
            Some(trial) => trial.lifted(index),
        }
    }

    /// Copies a cell from beneath a trial's shard, as it is since the trial's last board.
    pub fn lift(&mut self, index: u32) {
        self.cell_mut(index);
    }

    /// Cells of a trial's shard whose contribution to hubs is not what the last board had, each with
    /// the contribution that the board had. None is kept any more afterwards.
    pub fn publish_trial(&mut self) -> Vec<(u32, Box<HubContribution>)> {
        let own = std::mem::take(&mut self.changed);
        let Some(trial) = &mut self.trial else {
            return Vec::new();
        };
        let beneath = trial.beneath.lend();
        let mut changed = match trial.is_published {
            true => own,
            false => [own.as_slice(), beneath.changed.as_slice()].concat(),
        };
        changed.sort_unstable();
        changed.dedup();
        let mut kept = Vec::new();
        for index in changed {
            let frozen = match trial.own.get_mut(&index) {
                Some(cell) => cell.frozen.take(),
                None => beneath.cell(index).frozen.clone(),
            };
            kept.extend(frozen.map(|frozen| (index, frozen)));
        }
        trial.is_published = true;
        kept
    }

    /// Keeps the cell's contribution to the hubs before its first change since the board.
    pub fn freeze(&mut self, index: u32, shared: &StateRules) {
        if shared.layout.catalog().hubs.is_empty() {
            return;
        }
        let cell = self.cell_mut(index);
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
        if let Some(trial) = &mut self.trial {
            let index = trial.len;
            trial.own.insert(index, Cell::new(anchor));
            trial.len += 1;
            return index;
        }
        let freed = match self.book.free.is_empty() {
            true => None,
            false => self.book.change().free.pop(),
        };
        let index = match freed {
            Some(index) => {
                // Nodes of the place stay what they are: none, and perhaps listed.
                let cell = &mut self.cells[index as usize];
                cell.anchor = anchor;
                cell.frozen = None;
                index
            }
            None => {
                let index = self.cells.len() as u32;
                let mut cell = Cell::new(anchor);
                if let Some((source, number)) = &self.cold {
                    cell.nodes.become_of(at(*number, index), source);
                }
                self.cells.push(cell);
                index
            }
        };
        self.noted.add((index, HEAD));
        index
    }

    /// Lets cells be cold from now on. Those of a state that is read next are; those that are here
    /// are as an epoch left them.
    pub fn keep_cold(&mut self, source: &Arc<NodeSource>, number: u16, epoch: u64) {
        for (cell, index) in self.cells.iter_mut().zip(0..) {
            cell.nodes.become_of(at(number, index), source);
            cell.nodes.note_epoch(epoch);
            cell.nodes.list();
        }
        self.cold = Some((source.clone(), number));
    }

    /// Notes that an epoch made all changes that are noted. They are forgotten next.
    pub fn note_epoch(&mut self, epoch: u64) {
        if self.cold.is_none() {
            return;
        }
        let mut last = None;
        for (index, place) in self.noted.sorted() {
            if place != HEAD && last.replace(index) != Some(index) {
                self.cells[index as usize].nodes.note_epoch(epoch);
            }
        }
    }

    /// Whether every change has been noted and forgotten: what is stored, or will be, is all there
    /// is.
    pub fn is_written(&self) -> bool {
        self.noted.is_forgotten()
    }

    /// Puts the nodes of a cell out, if that is possible now. Its hubs stay known.
    pub fn put_out(&mut self, index: u32, stored: u64) -> PutOut {
        let cell = &mut self.cells[index as usize];
        if !cell.nodes.is_resident() || cell.nodes.is_empty() {
            cell.nodes.unlist();
            return PutOut::Gone;
        }
        if !cell.nodes.may_leave(stored) {
            return PutOut::Stays;
        }
        cell.known_hubs = cell.hubs().into();
        cell.nodes.put_out();
        PutOut::Done
    }

    /// A node about to change.
    pub fn node_mut(&mut self, cell: u32, node: u32) -> &mut Node {
        self.noted.add((cell, 1 + node));
        &mut self.cell_mut(cell).nodes.change()[node as usize]
    }

    /// Appends a node to a cell.
    pub fn put(&mut self, cell: u32, node: Node) {
        let nodes = &mut self.cell_mut(cell).nodes;
        let place = 1 + nodes.push(node);
        nodes.list();
        self.noted.add((cell, HEAD));
        self.noted.add((cell, place));
    }

    /// Takes a node out of a cell; the last one gets its place.
    pub fn take(&mut self, cell: u32, node: u32) -> Node {
        let nodes = &mut self.cell_mut(cell).nodes;
        let last = nodes.len() as u32;
        let taken = nodes.swap_remove(node);
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
        let (mut heads, mut nodes) = (Vec::new(), Vec::new());
        match which {
            Which::All => {
                for (at, cell) in (0..).zip(&self.cells) {
                    heads.push(at);
                    nodes.extend((0..cell.nodes.len() as u32).map(|place| (at, place)));
                }
            }
            Which::Changed => {
                for (at, place) in self.noted.sorted() {
                    match place.checked_sub(1) {
                        Some(place) => nodes.push((at, place)),
                        None => heads.push(at),
                    }
                }
            }
        }
        let key = |at: u32| {
            move |out: &mut Vec<u8>| {
                out.extend(shard.to_be_bytes());
                out.extend(at.to_be_bytes());
            }
        };
        for at in heads {
            let cell = &self.cells[at as usize];
            let head = CellHead {
                anchor: cell.anchor,
                nodes: cell.nodes.len() as u32,
                frozen: &cell.frozen,
            };
            pieces.put(CELLS, key(at), &head);
        }
        let mut with_nodes: Vec<u32> = nodes.iter().map(|(at, _)| *at).collect();
        with_nodes.dedup();
        for at in with_nodes {
            match &self.cells[at as usize].hubs()[..] {
                [] if which == Which::All => {}
                [] => pieces.remove(CELL_HUBS, key(at)),
                hubs => pieces.put(CELL_HUBS, key(at), hubs),
            }
        }
        for (at, place) in nodes {
            let node_key = |out: &mut Vec<u8>| {
                key(at)(out);
                out.extend(place.to_be_bytes());
            };
            match self.cells[at as usize].nodes.get(place as usize) {
                Some(node) => pieces.put(NODES, node_key, node),
                None => pieces.remove(NODES, node_key),
            }
        }
    }

    /// Takes a stored piece of a cell. Pieces come in the order of their keys.
    fn read_cell(&mut self, area: u8, key: &[u8], value: &[u8]) -> Result<(), PieceError> {
        let (index, rest) = key.split_first_chunk().ok_or(PieceError::Key)?;
        let index = u32::from_be_bytes(*index);
        match area {
            CELLS if rest.is_empty() && index as usize == self.cells.len() => {
                self.read_head(index, read_value(CELLS, value)?);
                Ok(())
            }
            CELL_HUBS if rest.is_empty() => {
                let cell = self.cells.get_mut(index as usize);
                cell.ok_or(PieceError::Key)?.known_hubs = read_value(CELL_HUBS, value)?;
                Ok(())
            }
            NODES => {
                let place = u32::from_be_bytes(rest.try_into().map_err(|_| PieceError::Key)?);
                let cell = self.cells.get_mut(index as usize).ok_or(PieceError::Key)?;
                if self.cold.is_some() || place as usize != cell.nodes.len() {
                    return Err(PieceError::Key);
                }
                cell.nodes.push(read_value(NODES, value)?);
                Ok(())
            }
            _ => Err(PieceError::Key),
        }
    }

    fn read_head(&mut self, index: u32, head: CellHead<Option<Box<HubContribution>>>) {
        let mut cell = Cell::new(head.anchor);
        if head.frozen.is_some() {
            self.changed.push(index);
        }
        cell.frozen = head.frozen;
        match &self.cold {
            Some((source, number)) => {
                cell.nodes = Nodes::stored(head.nodes, at(*number, index), source);
            }
            None => self.expected.push(head.nodes),
        }
        self.cells.push(cell);
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
            _ => shard.read_cell(area, key, value),
        }
    }
}

fn at(shard: u16, index: u32) -> CellRef {
    CellRef { shard, index }
}
