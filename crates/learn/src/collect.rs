//! Replay becomes examples: features as of each anchor, outcomes from what came after. One pass
//! serves all tasks.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use leadpulse_features::FeaturePlan;
use leadpulse_graph::{CellRef, EntityId, Graph};
use leadpulse_model::{CellRow, CellStore, Example, ExampleSet};
use leadpulse_schema::TableId;

use crate::data_report::DataReport;
use crate::labels::{Chronicle, Seen, Tally, TaskOutcomes, TieShares, Ties};
use crate::lateness::Lateness;
use crate::report::notes::Notes;
use crate::sampling::{Sampling, is_sampled};
use crate::survey::Extent;
use crate::walk::{Due, Graphs, Schedule, Walk};
use crate::{LearnError, Progress};
use leadpulse_history::Files;
use leadpulse_project::{Project, TaskPlan};
use leadpulse_schema::units::AsOf;

/// Cells encoded at a time.
const CHUNK_CELLS: usize = 256;
/// The share of (cell, anchor) pairs that are taken once more with a source that stopped.
// Decision: docs/decisions/0056-a-source-that-stopped.md
const STOPPED_RATIO: f64 = 0.25;

/// The split of a history. Everything between one part's newest anchor and the next part is at
/// least a horizon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Training sees nothing known after this moment, milliseconds. Validation anchors start here.
    pub val_from_ms: i64,
    /// Validation outcomes are known by this moment.
    pub test_from_ms: i64,
}

/// The entities of a task's population as of a moment, with their cells: by cell, then as the cell
/// holds them.
pub(crate) fn eligible(graph: &Graph, task: &TaskPlan, as_of: AsOf) -> Vec<(CellRef, EntityId)> {
    let mut found = Vec::new();
    for (at, cell) in graph.cells() {
        for node in &cell.nodes {
            if node.table == task.plan.entity
                && graph
                    .view(cell, node, as_of, &task.population)
                    .is_eligible()
            {
                found.push((at, node.entity));
            }
        }
    }
    found
}

/// The entities of `due` that are in the task's population.
pub(crate) fn asked(
    graph: &Graph,
    task: &TaskPlan,
    due: &Due,
    as_of: AsOf,
) -> Vec<(CellRef, EntityId)> {
    let Some(only) = &due.only else {
        return eligible(graph, task, as_of);
    };
    // A few entities: no need to look at all.
    let place = |entity: &EntityId| {
        let place = graph.directory().place(*entity)?;
        let cell = graph.cell(place.cell);
        let node = &cell.nodes[place.node as usize];
        graph
            .view(cell, node, as_of, &task.population)
            .is_eligible()
            .then_some((place.cell, *entity))
    };
    only.iter().filter_map(place).collect()
}

/// The job of collecting: the examples to take, and their moments.
#[derive(Clone, Copy, Debug)]
pub struct Harvest<'a> {
    pub project: &'a Project,
    pub tasks: &'a [&'a TaskPlan],
    pub files: &'a Files,
    /// The plan by which cells are encoded.
    pub plan: &'a FeaturePlan,
    pub extent: Extent,
    /// The lateness of rows, as the split may know it.
    pub lateness: &'a Lateness,
    pub split: Split,
    /// No anchors of whole populations this soon after the first event, and none of single entities
    /// that became known this soon, milliseconds.
    pub warmup_ms: i64,
    /// The training rows that examples are taken of. Validation has all of its rows.
    pub sampling: Sampling,
}

/// Examples of one task.
#[derive(Clone, Debug)]
pub struct Collected {
    /// Anchors before the split, outcomes as far as they were known at it.
    pub training: ExampleSet,
    /// Anchors from the split on, outcomes known by the test's start.
    pub validation: ExampleSet,
    /// All anchors, outcomes as far as they were known at the test's start.
    pub refit: ExampleSet,
    /// The counts of training anchors' rows by outcome.
    pub training_tally: Tally,
    /// The counts of validation anchors' rows by outcome.
    pub validation_tally: Tally,
    /// Events that name a root before the tie, by the labels known at the end; for tasks about
    /// roots.
    pub ties: TieShares,
    /// Training examples that repeat others as a source that stopped leaves them. They are in no
    /// tally, and never in validation.
    pub stopped: usize,
    /// The training rows that examples were taken of.
    pub sampling: Sampling,
    /// Rows before the split that the sample leaves out. They are in the tally of training.
    pub left_out: usize,
    /// Keys of the entities of all examples.
    pub keys: FxHashMap<EntityId, Arc<str>>,
}

impl Collected {
    /// No examples yet, over the cells of a store.
    pub(crate) fn empty(store: &Arc<CellStore>) -> Self {
        let empty = || ExampleSet::new(store.clone());
        Self {
            training: empty(),
            validation: empty(),
            refit: empty(),
            training_tally: Tally::default(),
            validation_tally: Tally::default(),
            ties: TieShares::default(),
            stopped: 0,
            sampling: Sampling::ALL,
            left_out: 0,
            keys: FxHashMap::default(),
        }
    }

    /// Notes the keys of the entities.
    pub(crate) fn with_keys(mut self, graph: &Graph) -> Self {
        for set in [&self.training, &self.validation, &self.refit] {
            for example in set.examples() {
                let key = || graph.directory().key(example.entity).clone();
                self.keys.entry(example.entity).or_insert_with(key);
            }
        }
        self
    }
}

/// An example waiting for its outcome.
#[derive(Clone, Copy, Debug)]
struct Pending {
    row: CellRow,
    slot: u32,
    entity: EntityId,
    anchor_ms: i64,
    /// The weight of the example: the rows that it stands for.
    weight: f32,
    /// True if the cell is that of a history in which a source stopped.
    is_stopped: bool,
}

/// The rows of a task that wait for their outcomes.
#[derive(Clone, Debug, Default)]
struct Waiting {
    taken: Vec<Pending>,
    /// Rows that the sample leaves out: they are counted, and not encoded.
    left_out: Vec<(EntityId, i64)>,
}

/// Replays the files once, up to the test's start, and takes the examples of all tasks. A cell that
/// several tasks ask about at the same moment is stored once.
pub fn collect(
    harvest: Harvest<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Vec<Collected>, DataReport), LearnError> {
    collect_with(harvest, &mut [], progress)
}

/// [`collect`], with what simple rules know of the rows of validation; `notes` is by task, or
/// empty.
pub(crate) fn collect_with(
    harvest: Harvest<'_>,
    notes: &mut [Notes],
    progress: &mut dyn FnMut(Progress),
) -> Result<(Vec<Collected>, DataReport), LearnError> {
    let Harvest {
        project,
        tasks,
        files,
        plan,
        extent,
        split,
        sampling,
        ..
    } = harvest;
    let newest_ms = split.test_from_ms.min(extent.last_ms);
    let mut chronicles: Vec<Chronicle<'_>> = tasks
        .iter()
        .map(|task| Chronicle::new(project, task, files, harvest.lateness))
        .collect();
    let schedule = schedule(&harvest, &chronicles, newest_ms);
    let mut store = CellStore::new(plan.layout());
    let mut waiting: Vec<Waiting> = vec![Waiting::default(); tasks.len()];
    let mut walk = Walk::new(project, files, newest_ms)?.with_stopped_sources(project);
    walk.pass(
        schedule,
        &mut chronicles,
        (newest_ms, extent.rows),
        progress,
        |graphs, anchor_ms, due| {
            let graph = graphs.whole;
            let is_training = anchor_ms < split.val_from_ms;
            let sampling = if is_training { sampling } else { Sampling::ALL };
            let moment = (anchor_ms, sampling);
            take(graph, (tasks, plan), &due, moment, &mut store, &mut waiting);
            if !is_training {
                for (notes, waiting) in notes.iter_mut().zip(&waiting) {
                    let new = waiting.taken.iter().rev();
                    let new = new.take_while(|row| row.anchor_ms == anchor_ms);
                    new.for_each(|row| notes.note(graph, row.entity, anchor_ms));
                }
            }
            take_stopped(graphs, (tasks, plan), anchor_ms, &mut store, &mut waiting);
        },
    )?;
    let report = walk.report(files);
    let store = Arc::new(store);
    let ties = walk.ties();
    let waiting = chronicles.iter_mut().zip(waiting);
    let collected = waiting.map(|(chronicle, waiting)| {
        // An outcome that became known after the split would tell training of the validation
        // period. Decision: docs/decisions/0014-labels-as-known-at-a-moment.md
        let known_by = |at_ms| chronicle.known_by(walk.graph(), walk.belonging(), at_ms);
        let outcomes = [split.val_from_ms, newest_ms].map(known_by);
        let mut collected = labelled(&store, outcomes, &ties, waiting, split);
        collected.sampling = sampling;
        collected.with_keys(walk.graph())
    });
    Ok((collected.collect(), report))
}

/// The anchors of all tasks, from the warm-up to the last one whose outcome is known at
/// `newest_ms`.
fn schedule(harvest: &Harvest<'_>, chronicles: &[Chronicle<'_>], newest_ms: i64) -> Schedule {
    let last_ms = |chronicle: &Chronicle<'_>| newest_ms - chronicle.closes_after_ms();
    let tasks = harvest.tasks.iter().zip(chronicles);
    let mut schedule = Schedule::new(tasks.map(|(task, chronicle)| {
        // Entities first seen while the history warms up look new, and most are old: their past is
        // cut off where the files begin.
        // Decision: docs/decisions/0046-a-warm-up-for-entities.md
        let first_ms = harvest.extent.first_ms + harvest.warmup_ms;
        (*task, first_ms, last_ms(chronicle))
    }));
    // Validation starts with a whole anchor of its own, and ends with one, wherever the stride
    // falls.
    let val_from_ms = harvest.split.val_from_ms;
    for (index, chronicle) in chronicles.iter().enumerate() {
        if val_from_ms <= last_ms(chronicle) {
            schedule.also(index, val_from_ms);
            schedule.also(index, last_ms(chronicle));
        }
    }
    schedule
}

/// The examples of a task with the outcomes that each set may know: those known at the split and
/// those known at the end.
fn labelled(
    store: &Arc<CellStore>,
    [at_split, at_end]: [TaskOutcomes<'_>; 2],
    ties: &Ties,
    waiting: Waiting,
    split: Split,
) -> Collected {
    let mut collected = Collected {
        training_tally: at_split.tally(),
        validation_tally: at_end.tally(),
        ..Collected::empty(store)
    };
    for (entity, anchor_ms) in waiting.left_out {
        collected.left_out += 1;
        let seen = at_split.seen(entity, anchor_ms);
        collected.training_tally.add(entity, &seen);
        if let Seen::Known {
            label: Some(label), ..
        } = at_end.seen(entity, anchor_ms)
        {
            ties.add(&mut collected.ties, entity, anchor_ms, label);
        }
    }
    for Pending {
        row,
        slot,
        entity,
        anchor_ms,
        weight,
        is_stopped,
    } in waiting.taken
    {
        let example = |outcome| Example {
            row,
            slot: slot as usize,
            entity,
            anchor_ms,
            outcome,
            weight,
        };
        let last = at_end.seen(entity, anchor_ms);
        if is_stopped {
            if let Seen::Known { outcome, .. } = at_split.seen(entity, anchor_ms)
                && anchor_ms < split.val_from_ms
            {
                collected.training.push(example(outcome));
                collected.stopped += 1;
            }
            if let Seen::Known { outcome, .. } = last {
                collected.refit.push(example(outcome));
            }
            continue;
        }
        let (set, tally, seen) = match anchor_ms < split.val_from_ms {
            true => (
                &mut collected.training,
                &mut collected.training_tally,
                at_split.seen(entity, anchor_ms),
            ),
            false => (
                &mut collected.validation,
                &mut collected.validation_tally,
                last,
            ),
        };
        tally.add(entity, &seen);
        if let Seen::Known { outcome, .. } = seen {
            set.push(example(outcome));
        }
        if let Seen::Known {
            label: Some(label), ..
        } = last
        {
            ties.add(&mut collected.ties, entity, anchor_ms, label);
        }
        if let Seen::Known { outcome, .. } = last {
            collected.refit.push(example(outcome));
        }
    }
    collected
}

/// An entity whose cell is to be stored, with a number of the caller's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WantedCell {
    pub at: CellRef,
    pub entity: EntityId,
    /// The entity's table.
    pub table: TableId,
    pub id: usize,
}

/// The place of an entity in a stored cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored {
    pub row: CellRow,
    pub slot: usize,
    pub entity: EntityId,
}

/// Encodes the cells of the wanted entities as of a moment at which the graph stands, each once.
/// `each` gets the caller's number; those of one cell follow in the order in which they came.
pub(crate) fn store_cells(
    (graph, plan, as_of): (&Graph, &FeaturePlan, AsOf),
    mut wanted: Vec<WantedCell>,
    store: &mut CellStore,
    mut each: impl FnMut(usize, Stored),
) {
    // Stable: each task's entities stay in their order.
    wanted.sort_by_key(|wanted| wanted.at);
    let mut cells: Vec<CellRef> = wanted.iter().map(|wanted| wanted.at).collect();
    cells.dedup();
    let mut asked: Vec<TableId> = wanted.iter().map(|wanted| wanted.table).collect();
    asked.sort_unstable();
    asked.dedup();
    let mut wanted = wanted.into_iter().peekable();
    for chunk in cells.chunks(CHUNK_CELLS) {
        let batch = plan.encode(graph, chunk, as_of, &asked);
        for (cell, at) in chunk.iter().enumerate() {
            let mut row = None;
            while let Some(next) = wanted.next_if(|wanted| wanted.at == *at) {
                let Some((_, slot)) = plan.row_of(&batch, next.table, cell, next.entity) else {
                    continue;
                };
                let stored = Stored {
                    row: *row.get_or_insert_with(|| store.push(&batch, cell)),
                    slot,
                    entity: next.entity,
                };
                each(next.id, stored);
            }
        }
    }
}

/// Encodes the cells of the due entities that the sample takes, each once, and keeps the entities.
fn take(
    graph: &Graph,
    (tasks, plan): (&[&TaskPlan], &FeaturePlan),
    due: &[Due],
    (anchor_ms, sampling): (i64, Sampling),
    store: &mut CellStore,
    waiting: &mut [Waiting],
) {
    let as_of = AsOf::from_ms(anchor_ms);
    let (mut wanted, mut origins) = (Vec::new(), Vec::new());
    for due in due {
        let task = tasks[due.task];
        for (at, entity) in asked(graph, task, due, as_of) {
            let Some(weight) = sampling.weight(graph.cell(at), anchor_ms) else {
                waiting[due.task].left_out.push((entity, anchor_ms));
                continue;
            };
            wanted.push(WantedCell {
                at,
                entity,
                table: task.plan.entity,
                id: origins.len(),
            });
            origins.push((due.task, weight));
        }
    }
    store_cells((graph, plan, as_of), wanted, store, |id, stored| {
        let (task, weight) = origins[id];
        waiting[task].taken.push(Pending {
            row: stored.row,
            slot: stored.slot as u32,
            entity: stored.entity,
            anchor_ms,
            weight,
            is_stopped: false,
        });
    });
}

/// Encodes a share of the entities that were just taken once more, as a source that stopped leaves
/// them; nothing where no source stops.
fn take_stopped(
    graphs: Graphs<'_>,
    (tasks, plan): (&[&TaskPlan], &FeaturePlan),
    anchor_ms: i64,
    store: &mut CellStore,
    waiting: &mut [Waiting],
) {
    let Some(stopped) = graphs.stopped else {
        return;
    };
    let directory = graphs.whole.directory();
    let (mut wanted, mut origins) = (Vec::new(), Vec::new());
    for (index, (task, waiting)) in tasks.iter().zip(&*waiting).enumerate() {
        let taken = waiting.taken.iter().rev();
        for row in taken.take_while(|row| row.anchor_ms == anchor_ms) {
            let place = directory.place(row.entity);
            let is_chosen = place.is_some_and(|place| {
                let root = graphs.whole.cell(place.cell).anchor;
                is_sampled(root, !anchor_ms, STOPPED_RATIO)
            });
            // Entities have numbers of their own in each graph. One that only the source named
            // is unknown without it.
            let key = directory.key(row.entity);
            let found = stopped.find(task.plan.entity, key);
            let found = found.filter(|(_, node)| is_chosen && stopped.exists(node));
            if let Some((at, node)) = found {
                wanted.push(WantedCell {
                    at,
                    entity: node.entity,
                    table: task.plan.entity,
                    id: origins.len(),
                });
                origins.push((index, row.entity, row.weight));
            }
        }
    }
    let as_of = AsOf::from_ms(anchor_ms);
    store_cells((stopped, plan, as_of), wanted, store, |id, stored| {
        let (task, entity, weight) = origins[id];
        waiting[task].taken.push(Pending {
            row: stored.row,
            slot: stored.slot as u32,
            entity,
            anchor_ms,
            weight,
            is_stopped: true,
        });
    });
}
