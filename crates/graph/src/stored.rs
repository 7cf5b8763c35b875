//! The state of a graph in pieces: all of them, or those that changed since the last time.
//!
//! Stored is what rows and time made: keys, links, cells with their rows and sums, hubs,
//! fingerprints, marks and deadlines. Not stored is what is given (catalog, options, windows) and
//! what follows from the rest (the index of keys, lists of dirty cells). A
//! graph that is read back goes on as the written one would have: lists keep their order wherever
//! later steps follow it.
//!
//! The pieces of a cell have its shard, its index and the place of the node as their key, so that
//! an event of an account with very many people writes one node. Nodes have an area of their own,
//! the last one: a start can leave them where they are.
//!
//! Decision: docs/decisions/0068-state-in-pieces.md

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::encoding::StoredGraphError;
use crate::graph::Graph;
use crate::ids::EntityId;
use crate::pieces::{Part, PieceError, Pieces, Which, read_value};
use crate::state::nodes::{Residence, StoredNodes};
use crate::state::shard::{BOOKS, CELL_HUBS, CELLS, NODES};
use crate::state::sources::SourceTimes;

/// Areas of a graph are numbered below this one; others are free for who stores the graph beside
/// more.
pub const GRAPH_AREAS: u8 = 64;

/// Area of the nodes of cells, which can be left in the store: see [`Graph::keep_cold`].
pub const NODE_AREA: u8 = NODES;

/// Area of the frame.
const FRAME: u8 = 1;
/// The moment of a graph, and what follows from it.
#[derive(Serialize, Deserialize)]
struct GraphFrame {
    as_of_ms: i64,
    fired_ms: i64,
    board: i64,
    is_behind_board: bool,
    sources: SourceTimes,
    /// Whether rows of the past are applied again.
    is_replaying: bool,
    /// Takes of dirty cells since the last restart.
    round: u32,
}

/// The parts of a graph by the number of their area, which a format never uses for another.
macro_rules! parts {
    ($graph:expr $(, $mutable:tt)?) => {{
        let entities = &$($mutable)? $graph.entities;
        let (matching, bursts) = (&$($mutable)? entities.matching, &$($mutable)? $graph.bursts);
        let parts: [(u8, &$($mutable)? dyn Part); 27] = [
            (2, &$($mutable)? entities.directory.entries),
            (3, &$($mutable)? entities.identity.links),
            (4, &$($mutable)? entities.identity.groups),
            (5, &$($mutable)? matching.named),
            (6, &$($mutable)? matching.claims),
            (7, &$($mutable)? matching.seekers),
            (8, &$($mutable)? matching.parents),
            (9, &$($mutable)? matching.children),
            (10, &$($mutable)? entities.incoming.by_target),
            (13, &$($mutable)? $graph.cells.provisional),
            (14, &$($mutable)? $graph.hubs.sums),
            (15, &$($mutable)? $graph.hubs.landmark),
            (16, &$($mutable)? $graph.gate.seen),
            (17, &$($mutable)? $graph.gate.events.known),
            (18, &$($mutable)? $graph.gate.retractions.known),
            (19, &$($mutable)? $graph.newest.entities),
            (20, &$($mutable)? $graph.newest.hubs),
            (21, &$($mutable)? $graph.staff.tables),
            (22, &$($mutable)? bursts.open),
            (23, &$($mutable)? bursts.domains),
            (24, &$($mutable)? bursts.ignored),
            (25, &$($mutable)? bursts.closed),
            (26, &$($mutable)? $graph.tracker),
            (27, &$($mutable)? $graph.due),
            (29, &$($mutable)? $graph.hubs.rows),
            (30, &$($mutable)? $graph.hubs.described),
            (CELLS, &$($mutable)? $graph.cells.shards),
        ];
        parts
    }};
}

impl Graph {
    /// Notes changes from now on, for [`Self::write_pieces`] of those that changed. To be called
    /// before the first row, or after a whole state was read.
    pub fn note_changes(&mut self) {
        for (_, part) in parts!(self, mut) {
            part.note();
        }
    }

    /// Writes pieces of the state: all, each area by key, or those that changed since
    /// [`Self::forget_changes`].
    pub fn write_pieces(&self, which: Which, pieces: &mut Pieces) {
        pieces.put(FRAME, |_| {}, &self.frame());
        for (area, part) in parts!(self) {
            part.write(which, area, pieces);
        }
    }

    /// As [`Self::write_pieces`] of all, in portions: one for each part, and one for each shard of
    /// cells. The whole state need not be there twice.
    pub fn write_portions<E>(
        &self,
        each: &mut dyn FnMut(Pieces) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut first = Pieces::default();
        first.put(FRAME, |_| {}, &self.frame());
        each(first)?;
        for (area, part) in parts!(self) {
            if area != CELLS {
                let mut pieces = Pieces::default();
                part.write(Which::All, area, &mut pieces);
                each(pieces)?;
            }
        }
        for (number, shard) in (0..).zip(&self.cells.shards) {
            let mut pieces = Pieces::default();
            shard.write(Which::All, number, &mut pieces);
            each(pieces)?;
        }
        Ok(())
    }

    /// Lets cells be cold: their nodes may be put out of memory once they are stored, and are read
    /// from `stored` when somebody looks at them. To be called before the first piece is read, and
    /// then pieces of nodes are not to be given; or for a graph whose changes are noted, all of which
    /// were stored at `epoch` at the latest.
    ///
    /// Whoever reads cells from then on may unwind with
    /// [`UnreadableNodes`](crate::UnreadableNodes).
    pub fn keep_cold(&mut self, stored: Arc<dyn StoredNodes>, epoch: u64) {
        self.cells.keep_cold(stored, epoch);
    }

    /// Puts nodes out of memory until at most `most_bytes` of them are left, roughly: those that
    /// nobody looked at for longest. What an epoch after `stored` changed stays, and so does
    /// everything while a change is not forgotten.
    pub fn put_out(&mut self, stored: u64, most_bytes: usize) {
        self.cells.put_out(stored, most_bytes);
    }

    /// Sizes of what is in memory; `None` where nothing is ever cold.
    pub fn residence(&self) -> Option<Residence> {
        self.cells.residence()
    }

    fn frame(&self) -> GraphFrame {
        GraphFrame {
            as_of_ms: self.as_of_ms,
            fired_ms: self.fired_ms,
            board: self.board,
            is_behind_board: self.is_behind_board,
            sources: self.sources.clone(),
            is_replaying: self.tracker.is_replaying(),
            round: self.tracker.round(),
        }
    }

    /// Forgets which pieces have changed so far: `epoch` made the last of these changes.
    pub fn forget_changes(&mut self, epoch: u64) {
        self.cells.note_epoch(epoch);
        for (_, part) in parts!(self, mut) {
            part.forget();
        }
    }

    /// Takes a stored piece into a graph without rows. Pieces come in the order of their keys;
    /// [`Self::finish_reading`] ends them.
    ///
    /// # Errors
    /// [`PieceError`] for a piece that is none of a graph.
    pub fn read_piece(&mut self, key: &[u8], value: &[u8]) -> Result<(), PieceError> {
        let (area, key) = key.split_first().ok_or(PieceError::Key)?;
        if *area == FRAME {
            let frame: GraphFrame = read_value(FRAME, value)?;
            self.as_of_ms = frame.as_of_ms;
            self.fired_ms = frame.fired_ms;
            self.board = frame.board;
            self.is_behind_board = frame.is_behind_board;
            self.sources = frame.sources;
            self.tracker.set_round(frame.round);
            if frame.is_replaying {
                self.tracker.begin_replay();
            }
            return Ok(());
        }
        let mut parts = parts!(self, mut).into_iter();
        // A shard has several areas.
        let of = match *area {
            BOOKS | CELL_HUBS | NODES => CELLS,
            area => area,
        };
        let (_, part) = parts.find(|(a, _)| *a == of).ok_or(PieceError::Key)?;
        part.read(*area, key, value)
    }

    /// Builds what follows from the pieces. Catalog, options and windows must be those of the
    /// written graph: they give its numbers their meaning.
    ///
    /// # Errors
    /// [`StoredGraphError`] if the state refers to an entity, namespace or cell that it does not
    /// contain. Bytes that were damaged in other ways are for the caller to notice.
    pub fn finish_reading(&mut self) -> Result<(), StoredGraphError> {
        self.entities.directory.index()?;
        self.entities.identity.index();
        self.gate.events.index();
        self.gate.retractions.index();
        self.bursts.index();
        for shard in &mut self.cells.shards {
            shard.check_nodes()?;
        }
        self.check_places()?;
        self.tracker.index(self.fired_ms);
        self.due.index(self.fired_ms);
        let sizes = self.cells.shards.iter().map(|shard| shard.cells().len());
        match self.tracker.tracks(sizes.clone()) && self.due.tracks(sizes) {
            true => Ok(()),
            false => Err(StoredGraphError::OtherShards),
        }
    }

    /// Checks that the directory and the cells agree on the places of nodes.
    fn check_places(&self) -> Result<(), StoredGraphError> {
        let directory = &self.entities.directory;
        let known = directory.len();
        let out_of_range = || StoredGraphError::OutOfRange("entity");
        let mut places: Vec<Vec<u32>> = Vec::new();
        for shard in &self.cells.shards {
            if shard
                .cells()
                .iter()
                .any(|cell| cell.anchor.0 as usize >= known)
            {
                return Err(out_of_range());
            }
            places.push(vec![0; shard.cells().len()]);
        }
        for place in (0..known).filter_map(|at| directory.place(EntityId(at as u32))) {
            let shard = places.get_mut(place.cell.shard as usize);
            let cell = shard.and_then(|shard| shard.get_mut(place.cell.index as usize));
            *cell.ok_or(StoredGraphError::OutOfRange("cell"))? += 1;
            if place.node as usize >= self.cells.get(place.cell).nodes.len() {
                return Err(StoredGraphError::OutOfRange("node"));
            }
        }
        let found = places.iter().flatten();
        let cells = self.cells.shards.iter().flat_map(|shard| shard.cells());
        match cells
            .zip(found)
            .all(|(cell, n)| cell.nodes.len() == *n as usize)
        {
            true => Ok(()),
            false => Err(StoredGraphError::OutOfRange("node")),
        }
    }
}
