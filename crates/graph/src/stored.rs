//! The whole state of a graph as one value that can be written and read.
//!
//! Stored is what rows and time made: keys, links, cells with their rows and sums, hubs,
//! fingerprints, marks and timers. Not stored is what is given (catalog, options, windows) and what
//! follows from the rest (the places of nodes, the index of keys). A graph that is read back goes
//! on as the written one would have, byte for byte: lists keep their order wherever later steps
//! follow it.
//!
//! Decision: docs/decisions/0030-state-as-bytes.md

use std::borrow::Cow;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use leadpulse_schema::{Catalog, DayWindow};

use crate::apply::bursts::Bursts;
use crate::apply::gate::Gate;
use crate::apply::newest::NewestVersions;
use crate::apply::staff::Staff;
use crate::change::sharing::{DUE_BY_DEFAULT, Sharing};
use crate::change::{StoredTracker, Tracker, Tracking};
use crate::encoding::{StoredGraphError, sorted};
use crate::graph::Graph;
use crate::ids::{CellRef, EntityId};
use crate::options::GraphOptions;
use crate::state::cell::Cell;
use crate::state::hubs::Hubs;
use crate::state::shard::Shard;
use crate::state::sources::SourceTimes;
use crate::who::directory::{Directory, DirectoryEntry, NodePlace};
use crate::who::edges::Incoming;
use crate::who::identity::Identity;
use crate::who::matching::Matching;

/// The state of a graph, borrowed from it or read from bytes. The order of the fields is the
/// format: whoever stores it keeps the number of the format, and raises it when a field of any
/// stored type changes.
#[derive(Serialize, Deserialize)]
pub struct StoredGraph<'a> {
    entities: Cow<'a, [DirectoryEntry]>,
    identity: Cow<'a, Identity>,
    matching: Cow<'a, Matching>,
    incoming: Cow<'a, Incoming>,
    shards: Cow<'a, [Shard]>,
    #[serde(serialize_with = "sorted_provisional")]
    provisional: Cow<'a, FxHashMap<EntityId, CellRef>>,
    hubs: Cow<'a, Hubs>,
    sources: Cow<'a, SourceTimes>,
    gate: Cow<'a, Gate>,
    newest: Cow<'a, NewestVersions>,
    bursts: Cow<'a, Bursts>,
    staff: Cow<'a, Staff>,
    tracker: StoredTracker<'a>,
    due: StoredTracker<'a>,
    as_of_ms: i64,
    fired_ms: i64,
    board: i64,
    is_behind_board: bool,
}

fn sorted_provisional<S: serde::Serializer>(
    provisional: &FxHashMap<EntityId, CellRef>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    sorted(provisional, serializer)
}

impl Graph {
    /// The state of the graph, to be written.
    pub fn stored(&self) -> StoredGraph<'_> {
        StoredGraph {
            entities: Cow::Borrowed(self.entities.directory.entries()),
            identity: Cow::Borrowed(&self.entities.identity),
            matching: Cow::Borrowed(&self.entities.matching),
            incoming: Cow::Borrowed(&self.entities.incoming),
            shards: Cow::Borrowed(&self.cells.shards),
            provisional: Cow::Borrowed(&self.cells.provisional),
            hubs: Cow::Borrowed(&self.hubs),
            sources: Cow::Borrowed(&self.sources),
            gate: Cow::Borrowed(&self.gate),
            newest: Cow::Borrowed(&self.newest),
            bursts: Cow::Borrowed(&self.bursts),
            staff: Cow::Borrowed(&self.staff),
            tracker: self.tracker.stored(),
            due: self.due.stored(),
            as_of_ms: self.as_of_ms,
            fired_ms: self.fired_ms,
            board: self.board,
            is_behind_board: self.is_behind_board,
        }
    }

    /// A graph that goes on from stored state. Catalog, options and windows must be those of the
    /// written graph: they give its numbers their meaning.
    ///
    /// # Errors
    /// [`StoredGraphError`] if the state refers to an entity, namespace or cell that it does not
    /// contain. Bytes that were damaged in other ways are for the caller to notice.
    pub fn restored(
        stored: StoredGraph<'_>,
        catalog: Arc<Catalog>,
        options: GraphOptions,
        windows: Vec<DayWindow>,
        tracking: Tracking,
    ) -> Result<Self, StoredGraphError> {
        let mut graph = Graph::new(catalog, options, Vec::new(), tracking);
        if stored.shards.len() != graph.cells.shards.len() {
            return Err(StoredGraphError::OtherShards);
        }
        let entities = &mut graph.entities;
        entities.directory = Directory::restored(&entities.catalog, stored.entities.into_owned())?;
        entities.identity = stored.identity.into_owned();
        entities.identity.index();
        entities.matching = stored.matching.into_owned();
        entities.incoming = stored.incoming.into_owned();
        graph.cells.shards = stored.shards.into_owned();
        graph.cells.provisional = stored.provisional.into_owned();
        graph.hubs = stored.hubs.into_owned();
        graph.sources = stored.sources.into_owned();
        graph.gate = stored.gate.into_owned();
        graph.newest = stored.newest.into_owned();
        graph.bursts = stored.bursts.into_owned();
        graph.bursts.index();
        graph.staff = stored.staff.into_owned();
        graph.tracker =
            Tracker::restored(tracking, windows.clone(), Sharing::Budget, stored.tracker);
        graph.due = Tracker::restored(tracking, windows, DUE_BY_DEFAULT, stored.due);
        graph.as_of_ms = stored.as_of_ms;
        graph.fired_ms = stored.fired_ms;
        graph.board = stored.board;
        graph.is_behind_board = stored.is_behind_board;
        graph.place_nodes()?;
        let sizes = graph.cells.shards.iter().map(|shard| shard.cells.len());
        match graph.tracker.tracks(sizes.clone()) && graph.due.tracks(sizes) {
            true => Ok(graph),
            false => Err(StoredGraphError::OtherShards),
        }
    }

    /// Notes the place of each node in the directory.
    fn place_nodes(&mut self) -> Result<(), StoredGraphError> {
        let directory = &mut self.entities.directory;
        let known = directory.len();
        let check = |entity: EntityId| match (entity.0 as usize) < known {
            true => Ok(()),
            false => Err(StoredGraphError::OutOfRange("entity")),
        };
        for (number, shard) in self.cells.shards.iter().enumerate() {
            for (index, cell) in shard.cells.iter().enumerate() {
                let Cell { anchor, nodes, .. } = cell;
                check(*anchor)?;
                for (node, at) in nodes.iter().zip(0..) {
                    check(node.entity)?;
                    let cell = CellRef::at(number, index);
                    directory.set_place(node.entity, NodePlace { cell, node: at });
                }
            }
        }
        Ok(())
    }
}
