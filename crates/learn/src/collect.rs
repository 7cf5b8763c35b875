//! Replay becomes examples: features as of each anchor, outcomes from what came after. One pass
//! serves all tasks.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use leadpulse_features::{FeaturePlan, FeatureSpec, VocabularyBuilder};
use leadpulse_graph::{CellRef, EntityId, Graph, StateLayout};
use leadpulse_model::{CellRow, CellStore, Example, ExampleSet};
use leadpulse_schema::{Role, RowBatch, TableId};

use crate::data_report::DataReport;
use crate::labels::{Chronicle, Seen, Tally, TaskOutcomes, TieShares, Ties};
use crate::report::notes::Notes;
use crate::walk::{BATCH_ROWS, Due, Graphs, Schedule, Walk};
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

/// Start, end and number of rows of a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Known time of the first event, milliseconds; without events, of the first version with a
    /// time.
    pub first_ms: i64,
    /// Known time of the last row, milliseconds.
    pub last_ms: i64,
    /// The number of rows of all tables.
    pub rows: u64,
}

/// The findings of one pass over the files.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Vocabularies of the rows known by the given moment.
    pub spec: FeatureSpec,
    /// The extent of the whole.
    pub extent: Extent,
    /// Per table, whether any key has versions that became known at different moments.
    pub changing: Vec<bool>,
}

/// One pass over the files.
pub fn survey(
    project: &Project,
    files: &Files,
    until_ms: Option<i64>,
) -> Result<Survey, LearnError> {
    let state = StateLayout::new(project.catalog.clone(), &project.graph_options);
    let mut vocabulary = VocabularyBuilder::default();
    let mut replay = files.replay_learned()?;
    let mut batch = RowBatch::new();
    let mut extent = Extent {
        first_ms: i64::MAX,
        last_ms: i64::MIN,
        rows: 0,
    };
    let mut first_version_ms = i64::MAX;
    let mut changing = vec![false; project.catalog.tables.len()];
    // Keys of tables that have not changed so far, and when they were known.
    let mut known: FxHashMap<(TableId, Box<str>), i64> = FxHashMap::default();
    while replay.read(i64::MAX, BATCH_ROWS, &mut batch)? > 0 {
        for row in batch.iter() {
            if until_ms.is_none_or(|until| row.known_ms() <= until) {
                vocabulary.observe(&state, row);
            }
            let table = project.catalog.table_at(row.table());
            if table.role == Role::Event {
                extent.first_ms = extent.first_ms.min(row.known_ms());
            } else if table.time.is_some() || row.has_own_known_time() {
                first_version_ms = first_version_ms.min(row.known_ms());
            }
            if table.role != Role::Event && !changing[row.table().index()] {
                let first_ms = *known
                    .entry((row.table(), row.key().into()))
                    .or_insert(row.known_ms());
                changing[row.table().index()] = row.known_ms() > first_ms;
            }
            extent.last_ms = extent.last_ms.max(row.known_ms());
            extent.rows += 1;
        }
        batch.clear();
    }
    if extent.first_ms == i64::MAX {
        extent.first_ms = first_version_ms;
    }
    if extent.rows == 0 || extent.first_ms == i64::MAX {
        return Err(LearnError::NoTimes);
    }
    Ok(Survey {
        spec: vocabulary.finish(&state),
        extent,
        changing,
    })
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
    pub split: Split,
    /// No anchors of whole populations this soon after the first event, and none of single entities
    /// that became known this soon, milliseconds.
    pub warmup_ms: i64,
    /// The share of (cell, anchor) pairs that examples are taken of, chosen by a hash: base rates
    /// stay what they are.
    pub sample_ratio: f64,
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
    /// True if the cell is that of a history in which a source stopped.
    is_stopped: bool,
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
        sample_ratio,
        ..
    } = harvest;
    let newest_ms = split.test_from_ms.min(extent.last_ms);
    let mut chronicles: Vec<Chronicle<'_>> = tasks
        .iter()
        .map(|task| Chronicle::new(project, task, files))
        .collect();
    let schedule = schedule(&harvest, &chronicles, newest_ms);
    let mut store = CellStore::new(plan.layout());
    let mut pending: Vec<Vec<Pending>> = vec![Vec::new(); tasks.len()];
    let mut walk = Walk::new(project, files, newest_ms)?.with_stopped_sources(project);
    walk.pass(
        schedule,
        &mut chronicles,
        (newest_ms, extent.rows),
        progress,
        |graphs, anchor_ms, due| {
            let graph = graphs.whole;
            take(
                graph,
                tasks,
                plan,
                &due,
                (anchor_ms, sample_ratio),
                &mut store,
                &mut pending,
            );
            if anchor_ms >= split.val_from_ms {
                for (notes, pending) in notes.iter_mut().zip(&pending) {
                    let new = pending.iter().rev();
                    let new = new.take_while(|row| row.anchor_ms == anchor_ms);
                    new.for_each(|row| notes.note(graph, row.entity, anchor_ms));
                }
            }
            take_stopped(graphs, (tasks, plan), anchor_ms, &mut store, &mut pending);
        },
    )?;
    let report = walk.report(files);
    let store = Arc::new(store);
    let ties = walk.ties();
    let waiting = chronicles.iter_mut().zip(pending);
    let collected = waiting.map(|(chronicle, pending)| {
        // An outcome that became known after the split would tell training of the validation
        // period. Decision: docs/decisions/0014-labels-as-known-at-a-moment.md
        let known_by = |at_ms| chronicle.known_by(walk.graph(), walk.belonging(), at_ms);
        let outcomes = [split.val_from_ms, newest_ms].map(known_by);
        labelled(&store, outcomes, &ties, pending, split).with_keys(walk.graph())
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
    pending: Vec<Pending>,
    split: Split,
) -> Collected {
    let mut collected = Collected {
        training_tally: at_split.tally(),
        validation_tally: at_end.tally(),
        ..Collected::empty(store)
    };
    for Pending {
        row,
        slot,
        entity,
        anchor_ms,
        is_stopped,
    } in pending
    {
        let example = |outcome| Example {
            row,
            slot: slot as usize,
            entity,
            anchor_ms,
            outcome,
            weight: 1.0,
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

/// Encodes the cells of the due entities, each once, and keeps the entities.
fn take(
    graph: &Graph,
    tasks: &[&TaskPlan],
    plan: &FeaturePlan,
    due: &[Due],
    (anchor_ms, sample_ratio): (i64, f64),
    store: &mut CellStore,
    pending: &mut [Vec<Pending>],
) {
    let as_of = AsOf::from_ms(anchor_ms);
    let mut wanted: Vec<WantedCell> = Vec::new();
    for due in due {
        let task = tasks[due.task];
        let found = asked(graph, task, due, as_of).into_iter();
        wanted.extend(found.map(|(at, entity)| WantedCell {
            at,
            entity,
            table: task.plan.entity,
            id: due.task,
        }));
    }
    if sample_ratio < 1.0 {
        wanted.retain(|w| is_sampled(graph.cell(w.at).anchor, anchor_ms, sample_ratio));
    }
    store_cells((graph, plan, as_of), wanted, store, |task, stored| {
        pending[task].push(Pending {
            row: stored.row,
            slot: stored.slot as u32,
            entity: stored.entity,
            anchor_ms,
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
    pending: &mut [Vec<Pending>],
) {
    let Some(stopped) = graphs.stopped else {
        return;
    };
    let directory = graphs.whole.directory();
    let (mut wanted, mut origins) = (Vec::new(), Vec::new());
    for (index, (task, pending)) in tasks.iter().zip(&*pending).enumerate() {
        let taken = pending.iter().rev();
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
                origins.push((index, row.entity));
            }
        }
    }
    let as_of = AsOf::from_ms(anchor_ms);
    store_cells((stopped, plan, as_of), wanted, store, |id, stored| {
        let (task, entity) = origins[id];
        pending[task].push(Pending {
            row: stored.row,
            slot: stored.slot as u32,
            entity,
            anchor_ms,
            is_stopped: true,
        });
    });
}

/// Whether a cell is looked at at an anchor: the same every time, and independent of what happens.
pub(crate) fn is_sampled(cell: EntityId, anchor_ms: i64, ratio: f64) -> bool {
    let mut x = (u64::from(cell.0) << 32) ^ (anchor_ms as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64 <= ratio
}

#[cfg(test)]
mod tests {
    use leadpulse_schema::units::DAY_MS;

    use super::*;

    #[test]
    fn a_sample_has_its_ratio_in_cells_and_in_anchors() {
        for ratio in [0.1, 0.5] {
            let share = |cells: std::ops::Range<u32>, anchors: std::ops::Range<i64>| {
                let all = (cells.len() * anchors.clone().count()) as f64;
                let pairs =
                    cells.flat_map(|c| anchors.clone().map(move |a| (EntityId(c), a * DAY_MS)));
                pairs.filter(|(c, a)| is_sampled(*c, *a, ratio)).count() as f64 / all
            };
            for (cells, anchors) in [(0..2000, 0..1), (7..8, 0..2000), (0..50, 0..50)] {
                let share = share(cells, anchors);
                assert!((share - ratio).abs() < 0.04, "{share} {ratio}");
            }
        }
    }
}
