//! Replay becomes examples: features as of each anchor, outcomes from what came after.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::FxHashSet;

use leadpulse_features::{FeatureBatch, FeaturePlan, FeatureSpec, VocabularyBuilder};
use leadpulse_graph::{CellRef, EntityId, Graph, Outcome as RowOutcome, Tracking, owner_of};
use leadpulse_model::{ExampleSet, Outcome};
use leadpulse_pql::{History, Label, Reach, TargetKind};
use leadpulse_schema::{Role, Row, RowBatch};

use crate::anchors::Anchors;
use crate::project::{Project, TaskPlan};
use crate::sources::{FileSource, Replay};
use crate::{LearnError, Progress};

/// Rows applied at a time.
const BATCH_ROWS: usize = 8192;

/// How history is split. Everything between one part's newest anchor and the next part is at least a horizon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Training sees nothing known after this moment, milliseconds. Validation anchors start here.
    pub val_from_ms: i64,
    /// Validation outcomes are known by this moment, milliseconds.
    pub test_from_ms: i64,
}

/// When a history starts and ends, and how much it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Known time of the first event, milliseconds.
    pub first_ms: i64,
    /// Known time of the last row, milliseconds.
    pub last_ms: i64,
    /// Rows.
    pub rows: u64,
}

/// Examples of one task.
pub struct Collected {
    /// Anchors before the split, outcomes as far as they were known at it.
    pub training: ExampleSet,
    /// Anchors from the split on, outcomes known by the test's start.
    pub validation: ExampleSet,
    /// All anchors, outcomes as far as they were known at the test's start.
    pub refit: ExampleSet,
    /// Rows that could not be used.
    pub rejected: u64,
}

/// Applies the next rows known at or before `until_ms`; hands every accepted one to `each`. `false` when there were none.
pub(crate) fn apply_some(
    replay: &mut Replay,
    graph: &mut Graph,
    until_ms: i64,
    batch: &mut RowBatch,
    mut each: impl FnMut(&Graph, Row<'_>),
) -> Result<bool, LearnError> {
    batch.clear();
    if replay.read(until_ms, BATCH_ROWS, batch)? == 0 {
        return Ok(false);
    }
    let outcomes = graph.apply(batch);
    for (row, outcome) in batch.iter().zip(outcomes) {
        if outcome == RowOutcome::Accepted {
            each(graph, row);
        }
    }
    Ok(true)
}

/// What one pass over the files finds.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Vocabularies from what is known by the moment asked for.
    pub spec: FeatureSpec,
    /// The extent of the whole.
    pub extent: Extent,
    /// Per table, whether any key has more than one version.
    pub changing: Vec<bool>,
}

/// One pass over the files.
pub fn survey(project: &Project, sources: &[FileSource], until_ms: Option<i64>) -> Result<Survey, LearnError> {
    let mut vocabulary = VocabularyBuilder::default();
    let mut replay = Replay::open(project.catalog.clone(), sources)?;
    let mut batch = RowBatch::new();
    let mut extent = Extent { first_ms: i64::MAX, last_ms: i64::MIN, rows: 0 };
    let mut changing = vec![false; project.catalog.tables.len()];
    let mut keys: FxHashSet<(leadpulse_schema::TableId, String)> = FxHashSet::default();
    while replay.read(i64::MAX, BATCH_ROWS, &mut batch)? > 0 {
        for row in batch.iter() {
            if until_ms.is_none_or(|until| row.known_ms() <= until) {
                vocabulary.observe(&project.catalog, row);
            }
            if project.catalog.table_at(row.table()).role == Role::Event {
                extent.first_ms = extent.first_ms.min(row.known_ms());
            } else if !changing[row.table().index()] {
                changing[row.table().index()] = !keys.insert((row.table(), row.key().to_owned()));
            }
            extent.last_ms = extent.last_ms.max(row.known_ms());
            extent.rows += 1;
        }
        batch.clear();
    }
    if extent.rows == 0 || extent.first_ms == i64::MAX {
        return Err(LearnError::NoEvents);
    }
    Ok(Survey { spec: vocabulary.finish(), extent, changing })
}

/// For which entity a row counts towards a plan's target.
fn counts_for(graph: &Graph, reach: Reach, entity_table: leadpulse_schema::TableId, row: Row<'_>) -> Option<EntityId> {
    let directory = graph.directory();
    match reach {
        Reach::Itself => directory.find(directory.of_table(row.table()), row.key()),
        Reach::Owner => owner_of(graph.catalog(), row).and_then(|(table, key)| directory.find(directory.of_table(table), key)),
        Reach::Cell => {
            let (table, key) = match graph.catalog().table_at(row.table()).role {
                Role::Event => owner_of(graph.catalog(), row)?,
                _ => (row.table(), row.key()),
            };
            let place = directory.place(directory.find(directory.of_table(table), key)?)?;
            Some(graph.cell(place.cell).anchor)
        }
        Reach::Reference(field) => directory.find(directory.of_table(entity_table), row.get(field).text()?),
    }
}

/// Offers an accepted row to the task's history. If it made an entity of the task known: which one, and when, milliseconds.
pub(crate) fn observe(graph: &Graph, task: &TaskPlan, history: &mut History<'_>, row: Row<'_>) -> Option<(EntityId, i64)> {
    let reach = task.plan.reach(row.table());
    if let Some(entity) = reach.and_then(|reach| counts_for(graph, reach, task.plan.entity, row)) {
        history.offer(entity.0, row);
    }
    if row.table() != task.plan.entity {
        return None;
    }
    let (_, node) = graph.find(row.table(), row.key())?;
    (node.since_ms == Some(row.known_ms())).then_some((node.entity, row.known_ms()))
}

/// The entities of a task's population as of a moment, with their cells: by cell, then key.
pub(crate) fn eligible(graph: &Graph, task: &TaskPlan, as_of_ms: i64) -> Vec<(CellRef, EntityId)> {
    let mut found = Vec::new();
    for (at, cell) in graph.cells() {
        for node in &cell.nodes {
            if node.table == task.plan.entity && graph.view(cell, node, as_of_ms, &task.population).is_eligible() {
                found.push((at, node.entity));
            }
        }
    }
    found
}

/// Features waiting for their outcomes.
struct Pending {
    anchor_ms: i64,
    batch: FeatureBatch,
    /// (cell, slot, entity)
    rows: Vec<(usize, usize, EntityId)>,
}

/// What examples are taken of, and when.
#[derive(Clone, Copy, Debug)]
pub struct Harvest<'a> {
    /// The deployment.
    pub project: &'a Project,
    /// The task.
    pub task: &'a TaskPlan,
    /// The files.
    pub sources: &'a [FileSource],
    /// How cells are encoded.
    pub plan: &'a FeaturePlan,
    /// The history.
    pub extent: Extent,
    /// The split.
    pub split: Split,
    /// No anchors this soon after the first event, milliseconds.
    pub warmup_ms: i64,
}

/// Replays the files once and takes the examples of a task.
pub fn collect(harvest: Harvest<'_>, progress: &mut dyn FnMut(Progress)) -> Result<Collected, LearnError> {
    let Harvest { project, task, sources, plan, extent, split, warmup_ms } = harvest;
    let horizon_ms = task.plan.horizon_ms;
    let period_ms = project.graph_options.board_period_ms;
    let last_anchor_ms = split.test_from_ms.min(extent.last_ms) - horizon_ms;
    let mut replay = Replay::open(project.catalog.clone(), sources)?;
    let mut graph = project.graph(Tracking::Off);
    let mut history = History::new(&task.plan, &project.catalog);
    let dense = task.anchors.between(extent.first_ms + warmup_ms, last_anchor_ms);
    // Validation starts with a whole anchor of its own, wherever the stride falls.
    let mut queue: BinaryHeap<Reverse<(i64, Option<EntityId>)>> = dense.into_iter().map(|t| Reverse((t, None))).collect();
    if matches!(task.anchors, Anchors::Every { .. }) && split.val_from_ms <= last_anchor_ms {
        queue.push(Reverse((split.val_from_ms, None)));
        queue.push(Reverse((last_anchor_ms, None)));
    }
    let mut pending: Vec<Pending> = Vec::new();
    let mut batch = RowBatch::new();
    let mut rows_done = 0_u64;
    loop {
        let next_anchor = queue.peek().map_or(i64::MAX, |Reverse((t, _))| *t);
        // The board of an anchor holds what was known at its place on the grid.
        let board_ms = next_anchor.div_euclid(period_ms) * period_ms;
        let next_stop = if graph.as_of_ms() < board_ms { board_ms } else { next_anchor };
        // An entity first seen in this batch must not have its anchor before the batch's end.
        let until_ms = match task.anchors {
            Anchors::Entity { after_ms, floor_ms } => {
                let step = (after_ms - floor_ms).max(0);
                replay.peek_ms().map_or(next_stop, |t| next_stop.min(t.saturating_add(step)))
            }
            Anchors::Every { .. } => next_stop,
        };
        let mut newly_known: Vec<(EntityId, i64)> = Vec::new();
        let applied = apply_some(&mut replay, &mut graph, until_ms, &mut batch, |graph, row| {
            newly_known.extend(observe(graph, task, &mut history, row));
        })?;
        for (entity, since_ms) in newly_known {
            if let Some(anchor) = task.anchors.of_entity(since_ms).filter(|t| *t <= last_anchor_ms) {
                queue.push(Reverse((anchor, Some(entity))));
            }
        }
        if applied {
            rows_done += batch.len() as u64;
            progress(Progress::Replay { rows: rows_done, of: extent.rows });
            continue;
        }
        if replay.peek_ms().is_some_and(|t| t <= next_stop) {
            continue;
        }
        if next_stop < next_anchor {
            graph.advance(next_stop);
            continue;
        }
        let Some(Reverse((anchor_ms, _))) = queue.peek().copied() else {
            if replay.peek_ms().is_none() {
                break;
            }
            continue;
        };
        let mut only: FxHashSet<EntityId> = FxHashSet::default();
        let mut everyone = false;
        while let Some(Reverse((t, who))) = queue.peek().copied()
            && t == anchor_ms
        {
            queue.pop();
            match who {
                Some(entity) => {
                    only.insert(entity);
                }
                None => everyone = true,
            }
        }
        graph.advance(anchor_ms);
        take(&graph, task, plan, anchor_ms, (!everyone).then_some(&only), &mut pending);
    }
    let labels = history.finish();
    let empty = || ExampleSet::new(plan.layout());
    let (mut training, mut validation, mut refit) = (empty(), empty(), empty());
    let newest_ms = split.test_from_ms.min(extent.last_ms);
    for Pending { anchor_ms, batch, rows } in pending {
        let (set, known_until_ms) =
            if anchor_ms < split.val_from_ms { (&mut training, split.val_from_ms) } else { (&mut validation, newest_ms) };
        for (cell, slot, entity) in rows {
            if let Some(known) = outcome(task, &labels, entity, anchor_ms, known_until_ms) {
                set.push(&batch, cell, slot, entity, anchor_ms, known);
            }
            if let Some(known) = outcome(task, &labels, entity, anchor_ms, newest_ms) {
                refit.push(&batch, cell, slot, entity, anchor_ms, known);
            }
        }
    }
    Ok(Collected { training, validation, refit, rejected: replay.rejected() })
}

fn take(
    graph: &Graph,
    task: &TaskPlan,
    plan: &FeaturePlan,
    anchor_ms: i64,
    only: Option<&FxHashSet<EntityId>>,
    pending: &mut Vec<Pending>,
) {
    let found = match only {
        // A few entities: no need to look at all.
        Some(only) => {
            let mut entities: Vec<EntityId> = only.iter().copied().collect();
            entities.sort_unstable();
            entities
                .into_iter()
                .filter_map(|entity| {
                    let place = graph.directory().place(entity)?;
                    let cell = graph.cell(place.cell);
                    let node = &cell.nodes[place.node as usize];
                    graph.view(cell, node, anchor_ms, &task.population).is_eligible().then_some((place.cell, entity))
                })
                .collect()
        }
        None => eligible(graph, task, anchor_ms),
    };
    let mut cells: Vec<CellRef> = found.iter().map(|(at, _)| *at).collect();
    cells.dedup();
    if cells.is_empty() {
        return;
    }
    let batch = plan.encode(graph, &cells, anchor_ms);
    let mut rows = Vec::with_capacity(found.len());
    let mut cell = 0;
    for (at, entity) in found {
        while cells[cell] != at {
            cell += 1;
        }
        if let Some((_, slot)) = plan.row_of(&batch, task.plan.entity, cell, entity) {
            rows.push((cell, slot, entity));
        }
    }
    pending.push(Pending { anchor_ms, batch, rows });
}

/// What is known of an example's outcome at `known_until_ms`; `None` while there is nothing to learn from.
fn outcome(task: &TaskPlan, labels: &leadpulse_pql::Labels, entity: EntityId, anchor_ms: i64, known_until_ms: i64) -> Option<Outcome> {
    let observed_ms = known_until_ms - anchor_ms;
    match task.plan.target.kind() {
        TargetKind::Monotone => {
            let observed_ms = observed_ms.min(task.plan.horizon_ms);
            let after_ms = labels.first_time_true(entity.0, anchor_ms).map(|t| t - anchor_ms).filter(|after| *after <= observed_ms);
            (observed_ms > 0).then_some(Outcome::Hazard { after_ms, observed_ms })
        }
        TargetKind::Window | TargetKind::Regression if observed_ms < task.plan.horizon_ms => None,
        TargetKind::Window | TargetKind::Regression => match labels.label(entity.0, anchor_ms) {
            Label::Binary(label) => Some(Outcome::Window(label)),
            Label::Value(value) => Some(Outcome::Value(value)),
            Label::Dropped => None,
        },
    }
}
