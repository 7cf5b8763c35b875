//! Accumulated state: cells of nodes, decayed sums of their events, and the hubs that cells share.
//!
//! Every update by an event commutes, so state is a function of the set of accepted rows. Nothing
//! in this room knows when a cell is scored, nor by which model.

use std::collections::VecDeque;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::ids::{CellRef, EntityId};
use crate::pieces::KeptMap;
use crate::who::directory::NodePlace;

pub(crate) mod cell;
pub(crate) mod days;
pub(crate) mod deals;
pub(crate) mod decay;
pub(crate) mod events;
pub(crate) mod hubs;
pub(crate) mod layout;
pub(crate) mod node;
pub(crate) mod nodes;
pub(crate) mod revisable;
pub(crate) mod shard;
pub(crate) mod sources;
pub(crate) mod tally;

use cell::{Cell, StateRules};
use node::Node;
use nodes::{NodeSource, PutOut, Residence, StoredNodes};
use shard::Shard;

/// All cells, by shard and index.
#[derive(Debug)]
pub(crate) struct Cells {
    pub shared: Arc<StateRules>,
    pub shards: Vec<Shard>,
    /// The cells of domains that lead to no root.
    pub provisional: KeptMap<EntityId, CellRef>,
    cold: Option<ColdCells>,
}

/// The cells that may be cold.
#[derive(Debug)]
struct ColdCells {
    source: Arc<NodeSource>,
    /// Cells with nodes in memory: the next to be looked at comes first.
    listed: VecDeque<CellRef>,
    /// Cells that were put out since the start.
    put_out: u64,
}

/// So many cells are looked at at a time, whether they may be put out, and four times as many as
/// came into memory: a bulk load must not outrun it.
const LOOKS: usize = 8_192;

impl Cells {
    /// No cells, in as many shards as the options name.
    pub fn new(shared: Arc<StateRules>) -> Self {
        let shards = (0..shared.options.shards).map(|_| Shard::default());
        Self {
            shards: shards.collect(),
            provisional: KeptMap::default(),
            cold: None,
            shared,
        }
    }

    /// The cells of a trial, in shards above others.
    pub fn above(
        shared: Arc<StateRules>,
        shards: impl Iterator<Item = Shard>,
        provisional: KeptMap<EntityId, CellRef>,
    ) -> Self {
        Self {
            shared,
            shards: shards.collect(),
            provisional,
            cold: None,
        }
    }

    pub fn get(&self, at: CellRef) -> &Cell {
        self.shards[at.shard as usize].cell(at.index)
    }

    /// Cells that contain a node, by shard and index.
    pub fn occupied(&self) -> impl Iterator<Item = (CellRef, &Cell)> {
        self.shards.iter().enumerate().flat_map(|(shard, s)| {
            let cells = s.cells().iter().enumerate();
            cells
                .filter(|(_, cell)| !cell.nodes.is_empty())
                .map(move |(index, cell)| (CellRef::at(shard, index), cell))
        })
    }

    pub fn node(&self, place: NodePlace) -> &Node {
        &self.get(place.cell).nodes[place.node as usize]
    }

    /// A node about to change: the contribution of its cell to hubs is kept first.
    pub fn node_mut(&mut self, place: NodePlace) -> &mut Node {
        self.freeze(place.cell);
        self.node_unseen(place)
    }

    /// A node about to change in nothing that can be read.
    pub fn node_unseen(&mut self, place: NodePlace) -> &mut Node {
        self.shards[place.cell.shard as usize].node_mut(place.cell.index, place.node)
    }

    /// Puts a node into a cell. Returns its place.
    pub fn put(&mut self, cell: CellRef, node: Node) -> NodePlace {
        self.freeze(cell);
        let place = NodePlace {
            cell,
            node: self.get(cell).nodes.len() as u32,
        };
        self.shards[cell.shard as usize].put(cell.index, node);
        place
    }

    /// Takes a node out of its cell; the last one gets its place.
    pub fn take(&mut self, place: NodePlace) -> Node {
        self.freeze(place.cell);
        self.shards[place.cell.shard as usize].take(place.cell.index, place.node)
    }

    /// Keeps the contribution of a cell to hubs: the cell is about to change.
    fn freeze(&mut self, at: CellRef) {
        self.shards[at.shard as usize].freeze(at.index, &self.shared);
    }

    /// Lets nodes be put out of memory from now on: see [`crate::Graph::keep_cold`].
    pub fn keep_cold(&mut self, stored: Arc<dyn StoredNodes>, epoch: u64) {
        let source = Arc::new(NodeSource::new(stored));
        for (shard, number) in self.shards.iter_mut().zip(0..) {
            shard.keep_cold(&source, number, epoch);
        }
        self.cold = Some(ColdCells {
            source,
            listed: VecDeque::new(),
            put_out: 0,
        });
    }

    /// Notes that an epoch made the noted changes.
    pub fn note_epoch(&mut self, epoch: u64) {
        let shards = self.shards.iter_mut();
        shards.for_each(|shard| shard.note_epoch(epoch));
    }

    /// Puts nodes out: see [`crate::Graph::put_out`].
    pub fn put_out(&mut self, stored: u64, most_bytes: usize) {
        let Some(cold) = &mut self.cold else {
            return;
        };
        if !self.shards.iter().all(Shard::is_written) {
            return;
        }
        let arrived = cold.source.take_arrivals();
        let most_looks = LOOKS + 4 * arrived.len();
        cold.listed.extend(arrived);
        // Twice: a cell that was used stays at the first look.
        let mut looks = most_looks.min(2 * cold.listed.len());
        while cold.source.bytes() > most_bytes && looks > 0 {
            looks -= 1;
            let Some(at) = cold.listed.pop_front() else {
                return;
            };
            match self.shards[at.shard as usize].put_out(at.index, stored) {
                PutOut::Done => cold.put_out += 1,
                PutOut::Stays => cold.listed.push_back(at),
                PutOut::Gone => {}
            }
        }
    }

    /// Sizes of what is in memory; `None` where nothing is ever cold.
    pub fn residence(&self) -> Option<Residence> {
        self.cold.as_ref().map(|cold| Residence {
            cells: cold.listed.len() + cold.source.arrivals(),
            bytes: cold.source.bytes(),
            reads: cold.source.reads(),
            put_out: cold.put_out,
        })
    }

    /// Opens an empty cell for an anchor, in the shard of the hash of its key.
    pub fn open(&mut self, anchor: EntityId, key: &str) -> CellRef {
        let shard = (xxh3_64(key.as_bytes()) % self.shards.len() as u64) as usize;
        CellRef {
            shard: shard as u16,
            index: self.shards[shard].open(anchor),
        }
    }
}
