//! Invariants: named predicates over the parts of a graph, each with the promise that it belongs
//! to.
//!
//! The property tests check all of them with [`crate::Graph::check`]. Builds with debug assertions
//! check those of a few touched cells after each batch, and those of time after each advance.
//!
//! Promises: *C2* state is a function of the accepted rows; *C5* memory and work are bounded; *C8*
//! no changed cell is missed.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::apply::bursts::Bursts;
use crate::change::Tracker;
use crate::ids::{CellRef, EntityId};
use crate::options::GraphOptions;
use crate::state::Cells;
use crate::state::hubs::Hubs;
use crate::state::node::{Node, RECENT_EVENTS};
use crate::who::Entities;
use crate::who::directory::Standing;
use crate::who::edges::FORMER_ROOTS;

/// An invariant that does not hold, with the place where it does not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{invariant} ({promise}) does not hold, in cell {cell:?}")]
pub struct BrokenInvariant {
    /// Name of the predicate.
    pub invariant: &'static str,
    /// Number of the promise, "C2" for example.
    pub promise: &'static str,
    /// The cell in which it is broken; `None` for one of the whole graph.
    pub cell: Option<CellRef>,
}

/// The parts of a graph that predicates look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GraphParts<'g> {
    pub entities: &'g Entities,
    pub cells: &'g Cells,
    pub hubs: &'g Hubs,
    /// Of scores, and of ticks.
    pub trackers: [&'g Tracker; 2],
    pub bursts: &'g Bursts,
    /// The moment up to which timers have fired, milliseconds.
    pub fired_ms: i64,
}

/// A predicate by name and promise, over a subject `S`.
type Invariant<S> = (
    &'static str,
    &'static str,
    for<'g> fn(&GraphParts<'g>, S) -> bool,
);

/// Of one cell that contains a node; costs grow with the cell alone.
const OF_A_CELL: [Invariant<CellRef>; 6] = [
    (
        "nodes_lie_where_the_directory_says",
        "C2",
        nodes_lie_where_the_directory_says,
    ),
    (
        "parents_of_nodes_lead_to_the_anchor",
        "C2",
        parents_of_nodes_lead_to_the_anchor,
    ),
    (
        "absorbed_nodes_lie_with_their_survivor",
        "C2",
        absorbed_nodes_lie_with_their_survivor,
    ),
    (
        "absorbed_nodes_have_no_traces",
        "C2",
        absorbed_nodes_have_no_traces,
    ),
    (
        "edges_are_listed_at_their_targets",
        "C8",
        edges_are_listed_at_their_targets,
    ),
    (
        "lists_of_nodes_are_bounded",
        "C5",
        lists_of_nodes_are_bounded,
    ),
];

/// Of the moment; cheap at any size.
const OF_TIME: [Invariant<()>; 1] = [("no_timer_is_overdue", "C8", no_timer_is_overdue)];

/// Of the whole graph; these walk all cells.
const OF_THE_GRAPH: [Invariant<()>; 6] = [
    (
        "each_node_lies_in_one_cell",
        "C2",
        each_node_lies_in_one_cell,
    ),
    (
        "provisional_cells_belong_to_domains",
        "C2",
        provisional_cells_belong_to_domains,
    ),
    ("hubs_count_their_cells", "C2", hubs_count_their_cells),
    (
        "free_cells_are_empty_and_listed_once",
        "C5",
        free_cells_are_empty_and_listed_once,
    ),
    (
        "dirty_cells_are_listed_once",
        "C8",
        dirty_cells_are_listed_once,
    ),
    (
        "open_events_lie_at_their_person_and_state",
        "C2",
        open_events_lie_at_their_person_and_state,
    ),
];

/// The first broken one of some invariants.
fn first_broken<S: Copy>(
    parts: &GraphParts<'_>,
    invariants: &[Invariant<S>],
    subject: S,
    cell: Option<CellRef>,
) -> Result<(), BrokenInvariant> {
    for (invariant, promise, holds) in invariants {
        if !holds(parts, subject) {
            return Err(BrokenInvariant {
                invariant,
                promise,
                cell,
            });
        }
    }
    Ok(())
}

impl GraphParts<'_> {
    /// Checks all invariants of the whole graph.
    pub fn check(&self) -> Result<(), BrokenInvariant> {
        for (at, _) in self.cells.occupied() {
            first_broken(self, &OF_A_CELL, at, Some(at))?;
        }
        first_broken(self, &OF_THE_GRAPH, (), None)?;
        self.check_time()
    }

    /// Checks the invariants of one cell; an empty cell has none.
    pub fn check_cell(&self, at: CellRef) -> Result<(), BrokenInvariant> {
        first_broken(self, &OF_A_CELL, at, Some(at))
    }

    /// Checks the invariants of the moment.
    pub fn check_time(&self) -> Result<(), BrokenInvariant> {
        first_broken(self, &OF_TIME, (), None)
    }
}

/// Every node lies where the directory says, and is counted as what it is.
fn nodes_lie_where_the_directory_says(parts: &GraphParts<'_>, at: CellRef) -> bool {
    let nodes = parts.cells.get(at).nodes.iter().enumerate();
    nodes.into_iter().all(|(index, node)| {
        let directory = &parts.entities.directory;
        let place = directory.place(node.entity);
        place.is_some_and(|place| place.cell == at && place.node as usize == index)
            && directory.standing(node.entity) == Standing::of(node)
    })
}

/// Following parents from any node leads to the anchor of its cell.
fn parents_of_nodes_lead_to_the_anchor(parts: &GraphParts<'_>, at: CellRef) -> bool {
    let cell = parts.cells.get(at);
    let identity = &parts.entities.identity;
    cell.nodes.iter().all(|node| {
        let directory = &parts.entities.directory;
        directory.top(node.entity, |e| identity.survivor(e) != e) == cell.anchor
    })
}

/// A node is absorbed if and only if another entity is its survivor, and both lie in one cell.
fn absorbed_nodes_lie_with_their_survivor(parts: &GraphParts<'_>, at: CellRef) -> bool {
    parts.cells.get(at).nodes.iter().all(|node| {
        let survivor = parts.entities.identity.survivor(node.entity);
        let place = parts.entities.directory.place(survivor);
        node.survivor == survivor
            && node.absorbed == (survivor != node.entity)
            && place.is_some_and(|place| place.cell == at)
    })
}

/// Traces of events lie at the survivor alone, so that nothing is counted twice.
fn absorbed_nodes_have_no_traces(parts: &GraphParts<'_>, at: CellRef) -> bool {
    let mut absorbed = parts.cells.get(at).nodes.iter().filter(|n| n.absorbed);
    absorbed.all(|node| {
        node.touches().is_empty()
            && node.mentions().is_empty()
            && node.recent().is_empty()
            && node.counters().next().is_none()
            && !node.has_deals()
    })
}

/// Every edge of a node is found from the entity that it leads to: without that, a change there
/// would not mark the node's cell.
fn edges_are_listed_at_their_targets(parts: &GraphParts<'_>, at: CellRef) -> bool {
    let Entities {
        identity, incoming, ..
    } = parts.entities;
    parts.cells.get(at).nodes.iter().all(|node| {
        node.edges.iter().all(|edge| {
            let listed = incoming.of(identity.survivor(edge.to));
            listed.binary_search(&(edge.relation, node.entity)).is_ok()
        })
    })
}

/// The lists of a node are ascending, and no longer than options and constants allow.
fn lists_of_nodes_are_bounded(parts: &GraphParts<'_>, at: CellRef) -> bool {
    let shared = &parts.cells.shared;
    parts.cells.get(at).nodes.iter().all(|node| {
        let previous = shared.layout.entity(node.table).previous;
        let is_former = |relation| previous.is_some_and(|previous| previous == relation);
        let former = node.edges.iter().filter(|e| is_former(e.relation));
        former.count() <= FORMER_ROOTS
            && node.edges.is_sorted()
            && node.touches().is_sorted_by_key(|touch| touch.hub)
            && node
                .mentions()
                .is_sorted_by_key(|mention| (mention.relation, mention.owner))
            && node.recent().is_sorted()
            && node.recent().len() <= RECENT_EVENTS
            && event_lists_are_bounded(node, &shared.options)
    })
}

fn event_lists_are_bounded(node: &Node, options: &GraphOptions) -> bool {
    node.events.iter().all(|state| {
        state.staged.is_sorted()
            && state.staged.len() <= options.staged_events
            && state.active_days().is_sorted()
            && state.active_days().len() <= options.rhythm_days
    })
}

/// No timer lies before the moment: it would never fire.
fn no_timer_is_overdue(parts: &GraphParts<'_>, (): ()) -> bool {
    let mut firsts = parts.trackers.iter().filter_map(|t| t.next_timer_ms());
    firsts.all(|first| first > parts.fired_ms)
}

/// Every entity with a place has its node there: none is lost, and none lies in two cells.
fn each_node_lies_in_one_cell(parts: &GraphParts<'_>, (): ()) -> bool {
    let directory = &parts.entities.directory;
    let ids = (0..directory.len() as u32).map(EntityId);
    let placed = ids.filter(|e| directory.place(*e).is_some()).count();
    let mut seen = FxHashSet::default();
    let mut nodes = parts.cells.occupied().flat_map(|(_, cell)| &cell.nodes);
    nodes.all(|node| seen.insert(node.entity)) && seen.len() == placed
}

/// Every provisional cell is occupied, and anchored at the domain that it is found by.
fn provisional_cells_belong_to_domains(parts: &GraphParts<'_>, (): ()) -> bool {
    parts.cells.provisional.iter().all(|(domain, at)| {
        let cell = parts.cells.get(*at);
        parts.entities.directory.is_domain(*domain)
            && cell.anchor == *domain
            && !cell.nodes.is_empty()
    })
}

/// Every hub counts the cells whose published contribution names it.
fn hubs_count_their_cells(parts: &GraphParts<'_>, (): ()) -> bool {
    let mut counts: FxHashMap<EntityId, u32> = FxHashMap::default();
    for cell in parts.cells.shards.iter().flat_map(|shard| shard.cells()) {
        let hubs = cell
            .frozen()
            .map_or_else(|| cell.hubs(), |c| c.hubs.clone());
        for hub in hubs {
            *counts.entry(hub).or_default() += 1;
        }
    }
    let published = parts.hubs.iter().filter(|(_, sums)| sums.cells > 0);
    let found: FxHashMap<EntityId, u32> = published.map(|(hub, sums)| (hub, sums.cells)).collect();
    counts == found
}

/// Free cells contain no node, wait for nothing, and are listed once: a place is given out once.
fn free_cells_are_empty_and_listed_once(parts: &GraphParts<'_>, (): ()) -> bool {
    let shards = parts.cells.shards.iter().enumerate();
    shards.into_iter().all(|(number, shard)| {
        let mut seen = FxHashSet::default();
        shard.book.free.iter().all(|index| {
            let at = CellRef::at(number, *index as usize);
            seen.insert(*index)
                && parts.cells.get(at).nodes.is_empty()
                && !parts.trackers.iter().any(|tracker| tracker.is_dirty(at))
        })
    })
}

/// The dirty cells are those with a reason, each listed once.
fn dirty_cells_are_listed_once(parts: &GraphParts<'_>, (): ()) -> bool {
    let mut trackers = parts.trackers.iter();
    trackers.all(|tracker| tracker.dirty_are_listed_once())
}

/// Every open event lies in the traces of its person and in one state of an event table, counted or
/// not as its group says, and nowhere else.
fn open_events_lie_at_their_person_and_state(parts: &GraphParts<'_>, (): ()) -> bool {
    let Entities {
        identity,
        directory,
        ..
    } = parts.entities;
    let lie = parts.bursts.iter().all(|(fingerprint, owner, is_counted)| {
        let place = directory.place(identity.survivor(owner));
        place.is_some_and(|place| {
            let mut traces = parts.cells.node(place).open_traces();
            traces.any(|open| open == (fingerprint, is_counted))
        })
    });
    let nodes = || parts.cells.occupied().flat_map(|(_, cell)| &cell.nodes);
    let states = nodes().flat_map(|node| &node.events);
    let mut in_states = states.flat_map(|state| state.open_events());
    let all: FxHashMap<u64, bool> = parts
        .bursts
        .iter()
        .map(|(fingerprint, _, is_counted)| (fingerprint, is_counted))
        .collect();
    let mut seen = FxHashSet::default();
    let is_listed = |(fingerprint, is_counted): (u64, bool)| {
        all.get(&fingerprint) == Some(&is_counted) && seen.insert(fingerprint)
    };
    lie && in_states.all(is_listed)
        && seen.len() == all.len()
        && nodes()
            .map(|node| node.open_traces().count())
            .sum::<usize>()
            == all.len()
}
