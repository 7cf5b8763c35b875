//! Everything that a worker knows: graph, policy memory, standings, positions. It moves between
//! machines, never into outputs.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use leadpulse_graph::pieces::{KeptMap, KeptTree};
use leadpulse_graph::{EntityId, Graph, TriedGraph};
use leadpulse_policy::{AlertState, CapState, EntityState};
use leadpulse_records::{Explained, WorkList};
use leadpulse_schema::units::AsOf;

use super::deployed::{Deployed, StateShape, WorkerStart};
use super::erased::{ErasedNames, ErasureList};
use super::half::HalfTick;
use super::rescoring::Rescoring;
use super::said::Said;
use super::stored::StoredHashes;
use super::ticks::TickState;
use super::worklists::ListKey;
use crate::epoch::PartitionLayout;
use crate::ports::{Holding, InputPartition, NextOffset};
use crate::standings::Standings;

/// A closing tick while not every cell is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Closing {
    /// Its moment, milliseconds.
    pub at_ms: i64,
    /// True once every cell was marked.
    pub is_marked: bool,
}

/// Memory of one entity under one task. All of it can be read back from the compacted outputs.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Tracked {
    pub policy: EntityState,
    pub alerts: AlertState,
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
    pub(super) graph: TriedGraph,
    /// Ranks of the eligible entities, by task.
    pub(super) standings: Vec<Standings>,
    /// The change of model under way.
    pub(super) rescoring: Option<Rescoring>,
    /// The first epoch that scored each task; 0 for tasks that no swap added.
    pub(super) tasks_since: Vec<u64>,
    /// By task index and entity.
    pub(super) tracked: KeptMap<(usize, EntityId), Tracked>,
    /// The last explanation of an entity under a task, where there is one.
    pub(super) explained: KeptMap<(usize, EntityId), Box<Explained>>,
    /// Moments at which time alone decides about an alert, milliseconds, with task and entity, which
    /// is looked at then: each one's newest only.
    pub(super) revisits: BTreeSet<(i64, usize, EntityId)>,
    /// Tasks and entities at the top whose explanation is missing or old.
    pub(super) unexplained: KeptTree<(usize, EntityId), ()>,
    /// The board at which they were listed.
    pub(super) listed_board: Option<i64>,
    /// Alerts that owners got today.
    pub(super) caps: CapState,
    /// The last written work lists, by task and person.
    pub(super) lists: KeptTree<ListKey, Arc<WorkList>>,
    /// Decisions and answers of people.
    pub(super) said: Said,
    /// Keyed hashes of everybody who was erased.
    pub(super) erasures: ErasureList,
    /// Names of persons that were erased since pages and the stored past of scores forgot any.
    pub(super) erased: Vec<ErasedNames>,
    /// The places that hold copies of records.
    pub(super) holdings: Vec<Holding>,
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
    /// The tick that is half-closed.
    pub(super) half: Option<HalfTick>,
    /// The closing tick that is not complete.
    pub(super) closing: Option<Closing>,
    /// Digest of the deployed version that the last epoch was decided under.
    pub(super) deployed: String,
    pub(super) shape: StateShape,
    /// True until an epoch says that this process went on from the stored state.
    pub(super) is_resumed: bool,
    /// True from a restart to the next epoch: the state is not what the last epoch left.
    pub(super) is_restarted: bool,
    /// Hashes of small parts as they were last stored.
    pub(super) stored: StoredHashes,
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
            layout: PartitionLayout::of(1, &partitions),
            layout_is_new: true,
            partitions,
            positions,
            owner,
            deployed: given.digest().to_owned(),
            ..Self::empty(graph, given)
        }
    }

    /// A state of nothing but a graph.
    pub(super) fn empty(graph: Graph, given: &Deployed) -> Self {
        Self {
            graph: TriedGraph::new(graph),
            standings: given.tasks.iter().map(|_| Standings::default()).collect(),
            rescoring: None,
            tasks_since: vec![0; given.tasks.len()],
            tracked: KeptMap::default(),
            explained: KeptMap::default(),
            revisits: BTreeSet::new(),
            unexplained: KeptTree::default(),
            listed_board: None,
            caps: CapState::default(),
            lists: KeptTree::default(),
            said: Said::default(),
            erasures: ErasureList::default(),
            erased: Vec::new(),
            holdings: Vec::new(),
            layout: PartitionLayout::default(),
            layout_is_new: false,
            partitions: Vec::new(),
            positions: Vec::new(),
            owner: String::new(),
            number: 0,
            as_of: AsOf::BEGINNING,
            newest_event_ms: None,
            ticks: TickState::default(),
            half: None,
            closing: None,
            deployed: String::new(),
            shape: given.shape(),
            is_resumed: false,
            is_restarted: false,
            stored: StoredHashes::default(),
        }
    }

    /// Lists again when time alone decides about each entity's alerts.
    pub(super) fn list_revisits(&mut self, given: &Deployed) {
        self.revisits.clear();
        for ((task, entity), tracked) in self.tracked.iter() {
            let revisit_ms = given.revisit_ms(tracked.alerts.revisit_at_ms);
            let revisit_ms = revisit_ms.filter(|at_ms| self.ticks.folded_ms < Some(*at_ms));
            let revisit = revisit_ms.map(|at_ms| (at_ms, *task, *entity));
            self.revisits.extend(revisit);
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
