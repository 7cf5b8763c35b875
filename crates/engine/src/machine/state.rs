//! Everything that a worker knows: graph, policy memory, standings, positions. It moves between
//! machines, never into outputs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use leadpulse_graph::{EntityId, Graph};
use leadpulse_policy::{AlertState, CapState, EntityState};
use leadpulse_records::{Explained, WorkList};
use leadpulse_schema::units::AsOf;

use super::deployed::{Deployed, StateShape, WorkerStart};
use super::rescoring::Rescoring;
use super::said::Said;
use super::ticks::TickState;
use super::worklists::ListKey;
use crate::epoch::PartitionLayout;
use crate::ports::{InputPartition, NextOffset};
use crate::standings::Standings;

/// Memory of one entity under one task. All of it can be read back from the compacted outputs.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Tracked {
    pub policy: EntityState,
    pub alerts: AlertState,
    /// Boxed, because most entities are never explained.
    pub explained: Option<Box<Explained>>,
    /// Logit that work lists rank by, of a tick: see [`Self::note_listed`]. `None` without a score,
    /// and without lists.
    pub listed: Option<f64>,
}

impl Tracked {
    /// The logit that the entity is ranked by: the one that consumers have. `None` while
    /// ineligible.
    pub fn ranked_by(&self) -> Option<f64> {
        self.policy.standing_logit()
    }
}

/// Everything a worker knows after an epoch. The same state under an equal
/// [`Deployed`](super::Deployed) goes on alike.
///
/// The graph still holds its catalog, options and windows: they shape the memory of every node,
/// so a deployed version with others needs another graph. [`Self::encode`] writes a state without
/// them.
pub struct WorkerState {
    pub(super) graph: Graph,
    /// Ranks of the eligible entities, by task.
    pub(super) standings: Vec<Standings>,
    /// The change of model under way.
    pub(super) rescoring: Option<Rescoring>,
    /// The first epoch that scored each task; 0 for tasks that no swap added.
    pub(super) tasks_since: Vec<u64>,
    /// By task index and entity.
    pub(super) tracked: FxHashMap<(usize, EntityId), Tracked>,
    /// Moments at which time alone decides about an alert, milliseconds, with task and entity, which
    /// is looked at then: each one's newest only.
    pub(super) revisits: BTreeSet<(i64, usize, EntityId)>,
    /// Tasks and entities at the top whose explanation is missing or old.
    pub(super) unexplained: BTreeSet<(usize, EntityId)>,
    /// The board at which they were listed.
    pub(super) listed_board: Option<i64>,
    /// Alerts that owners got today.
    pub(super) caps: CapState,
    /// The last written work lists, by task and person.
    pub(super) lists: BTreeMap<ListKey, Arc<WorkList>>,
    /// Decisions and answers of people.
    pub(super) said: Said,
    pub(super) partitions: Vec<InputPartition>,
    pub(super) layout: PartitionLayout,
    /// True until an epoch carries the layout's record to the epochs topic.
    pub(super) layout_is_new: bool,
    pub(super) positions: Vec<NextOffset>,
    /// Token of the process start.
    pub(super) owner: String,
    pub(super) number: u64,
    /// [`AsOf::BEGINNING`] before the first accepted row.
    pub(super) as_of: AsOf,
    pub(super) newest_event_ms: Option<i64>,
    pub(super) ticks: TickState,
    /// Digest of the deployed version that the last epoch was decided under.
    pub(super) deployed: String,
    pub(super) shape: StateShape,
}

impl WorkerState {
    /// The state before the first epoch.
    pub(super) fn before_first(start: WorkerStart, given: &Deployed) -> Self {
        let WorkerStart {
            mut graph,
            partitions,
            positions,
            owner,
        } = start;
        expect(&mut graph, &partitions);
        graph.set_tick_ms(given.tick_ms);
        Self {
            graph,
            standings: given.tasks.iter().map(|_| Standings::default()).collect(),
            rescoring: None,
            tasks_since: vec![0; given.tasks.len()],
            tracked: FxHashMap::default(),
            revisits: BTreeSet::new(),
            unexplained: BTreeSet::new(),
            listed_board: None,
            caps: CapState::default(),
            lists: BTreeMap::new(),
            said: Said::default(),
            layout: PartitionLayout::of(1, &partitions),
            layout_is_new: true,
            partitions,
            positions,
            owner,
            number: 0,
            as_of: AsOf::BEGINNING,
            newest_event_ms: None,
            ticks: TickState::default(),
            deployed: given.digest().to_owned(),
            shape: given.shape(),
        }
    }

    /// Number of the last epoch stepped; 0 before the first.
    pub fn number(&self) -> u64 {
        self.number
    }
    /// `as_of` of the last epoch; `None` before the first accepted row.
    pub fn as_of(&self) -> Option<AsOf> {
        (self.as_of != AsOf::BEGINNING).then_some(self.as_of)
    }
    /// The next offset to take from each partition.
    pub fn positions(&self) -> &[NextOffset] {
        &self.positions
    }
}

/// Tells the graph that the history of these partitions is still to be read.
pub(super) fn expect(graph: &mut Graph, partitions: &[InputPartition]) {
    for (partition, number) in partitions.iter().zip(0..) {
        for table in &partition.tables {
            graph.expect(number, *table);
        }
    }
}
