//! The third stage: dirty cells become logits, in a fixed order whatever the threads do.

use std::time::Duration;

use rayon::prelude::*;

use leadpulse_features::FeatureBatch;
use leadpulse_graph::{CellRef, EntityId, Node, Reasons};
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Absence, TableId};

use super::Machine;
use crate::epoch::EpochTally;

/// Cells that are encoded and scored together. The scorer forms its own batches of cells of like
/// shape within a chunk.
const SCORE_CHUNK: usize = 128;

/// One entity of a cell under one task: its logit, or the reason why it has none.
pub(super) struct Assessed {
    pub cell: CellRef,
    pub reasons: Reasons,
    pub entity: EntityId,
    pub task: usize,
    /// Place of the entity among those of its table in the cell's encoding; 0 without a logit.
    pub slot: usize,
    pub logit: Result<f64, Absence>,
}

/// The cells that were scored at a tick, and their entities, both in order of cells.
pub(super) struct TickScores {
    pub as_of: AsOf,
    pub cells: Vec<CellRef>,
    pub assessed: Vec<Assessed>,
}

/// An entity under a task, with its place in the encoding of its cell.
#[derive(Clone, Copy)]
pub(super) struct Subject {
    pub cell: CellRef,
    pub entity: EntityId,
    pub task: usize,
    pub slot: usize,
}

impl Assessed {
    pub fn subject(&self) -> Subject {
        Subject {
            cell: self.cell,
            entity: self.entity,
            task: self.task,
            slot: self.slot,
        }
    }
}

/// An entity to assess; `cell` is an index in the chunk.
struct Candidate {
    cell: usize,
    entity: EntityId,
    eligible: Result<(), Absence>,
}

impl Machine {
    /// In: dirty cells, in order.
    /// Out: an entry per entity and task that is in the population or was ever observed, by cell,
    /// task and entity key.
    pub(super) fn score(&self, dirty: &[(CellRef, Reasons)]) -> Vec<Assessed> {
        // Collected in order of chunks: which thread scores a chunk decides nothing.
        let chunks: Vec<Vec<Assessed>> = dirty
            .par_chunks(SCORE_CHUNK)
            .map(|chunk| self.score_chunk(chunk))
            .collect();
        chunks.into_iter().flatten().collect()
    }

    /// As [`Self::score_further`], with its work in the tally.
    pub(super) fn score_measured(
        &self,
        dirty: &[(CellRef, Reasons)],
        known: Option<TickScores>,
        elapsed: &dyn Fn() -> Duration,
        tally: &mut EpochTally,
    ) -> Vec<Assessed> {
        let is_known = |at: CellRef| {
            let known = known.as_ref().filter(|one| one.as_of == self.state.as_of);
            known.is_some_and(|known| known.cells.binary_search(&at).is_ok())
        };
        let new = dirty.iter().filter(|(at, _)| !is_known(*at));
        let nodes: u64 = new.map(|(at, _)| self.state.graph.work(*at)).sum();
        let started = elapsed();
        let assessed = self.score_further(dirty, known);
        let seconds = elapsed().saturating_sub(started).as_secs_f64();
        tally.scored.add(nodes, seconds);
        assessed
    }

    /// As [`Self::score`]. Cells that were scored at a tick at this very moment, with nothing
    /// applied since, are not scored again.
    fn score_further(
        &self,
        dirty: &[(CellRef, Reasons)],
        known: Option<TickScores>,
    ) -> Vec<Assessed> {
        let Some(known) = known.filter(|known| known.as_of == self.state.as_of) else {
            return self.score(dirty);
        };
        let is_known = |(at, _): &(CellRef, Reasons)| known.cells.binary_search(at).is_ok();
        let new: Vec<(CellRef, Reasons)> =
            dirty.iter().copied().filter(|one| !is_known(one)).collect();
        let again = |one: Assessed| {
            let index = dirty.binary_search_by_key(&one.cell, |(at, _)| *at).ok()?;
            let (_, reasons) = dirty[index];
            Some(Assessed { reasons, ..one })
        };
        let mut assessed: Vec<Assessed> = known.assessed.into_iter().filter_map(again).collect();
        debug_assert!(self.would_score_alike(&assessed));
        assessed.extend(self.score(&new));
        // Stable: within a cell, tasks and keys keep their order.
        assessed.sort_by_key(|one| one.cell);
        assessed
    }

    /// Whether the first cell, scored again, has the same entities and logits.
    fn would_score_alike(&self, assessed: &[Assessed]) -> bool {
        let Some(first) = assessed.first() else {
            return true;
        };
        let shape = |one: &Assessed| (one.task, one.entity, one.slot, one.logit);
        let again = self.score(&[(first.cell, first.reasons)]);
        let of_cell = assessed.iter().take_while(|one| one.cell == first.cell);
        of_cell.map(shape).eq(again.iter().map(shape))
    }

    fn score_chunk(&self, chunk: &[(CellRef, Reasons)]) -> Vec<Assessed> {
        let mut assessed: Vec<(usize, Assessed)> = Vec::new();
        let mut batch: Option<FeatureBatch> = None;
        for task in 0..self.given.tasks.len() {
            let candidates = self.candidates(chunk, task);
            let is_scored = candidates.iter().any(|one| one.eligible.is_ok());
            let logits = if is_scored {
                // Encoded once for all tasks, and not at all where no task asks about any entity.
                let batch = batch.get_or_insert_with(|| self.encode_chunk(chunk));
                self.given
                    .scorer
                    .logits(batch, self.given.scorer_tasks[task])
            } else {
                Vec::new()
            };
            for candidate in candidates {
                let one = self.assess(chunk, task, &candidate, batch.as_ref(), &logits);
                assessed.push((candidate.cell, one));
            }
        }
        // Stable: within a cell, tasks and keys keep their order.
        assessed.sort_by_key(|(cell, _)| *cell);
        assessed.into_iter().map(|(_, one)| one).collect()
    }

    fn encode_chunk(&self, chunk: &[(CellRef, Reasons)]) -> FeatureBatch {
        let cells: Vec<CellRef> = chunk.iter().map(|(at, _)| *at).collect();
        let asked: Vec<TableId> = self.given.tasks.iter().map(|task| task.entity).collect();
        let plan = self.given.scorer.plan();
        plan.encode(&self.state.graph, &cells, self.state.as_of, &asked)
    }

    /// The entities of a chunk that a task asks about or has ever observed, by cell, then key.
    fn candidates(&self, chunk: &[(CellRef, Reasons)], task: usize) -> Vec<Candidate> {
        let (graph, as_of) = (&self.state.graph, self.state.as_of);
        let given = &self.given.tasks[task];
        let mut candidates = Vec::new();
        for (index, (at, _)) in chunk.iter().enumerate() {
            let cell = graph.cell(*at);
            let is_asked = |node: &&Node| node.table == given.entity;
            let mut nodes: Vec<&Node> = cell.nodes.iter().filter(is_asked).collect();
            let directory = graph.directory();
            nodes.sort_by(|a, b| directory.key(a.entity).cmp(directory.key(b.entity)));
            for node in nodes {
                let absence = graph.absence(cell, node, as_of, &given.population);
                let is_tracked = || self.state.tracked.contains_key(&(task, node.entity));
                if absence.is_none() || is_tracked() {
                    candidates.push(Candidate {
                        cell: index,
                        entity: node.entity,
                        eligible: absence.map_or(Ok(()), Err),
                    });
                }
            }
        }
        candidates
    }

    fn assess(
        &self,
        chunk: &[(CellRef, Reasons)],
        task: usize,
        candidate: &Candidate,
        batch: Option<&FeatureBatch>,
        logits: &[f64],
    ) -> Assessed {
        let (cell, reasons) = chunk[candidate.cell];
        let entity = candidate.entity;
        let table = self.given.tasks[task].entity;
        let plan = self.given.scorer.plan();
        let scored = candidate.eligible.and_then(|()| {
            let row = batch.and_then(|batch| plan.row_of(batch, table, candidate.cell, entity));
            let (row, slot) = row.ok_or(Absence::Outside)?;
            Ok((logits[row], slot))
        });
        Assessed {
            cell,
            reasons,
            entity,
            task,
            slot: scored.map_or(0, |(_, slot)| slot),
            logit: scored.map(|(logit, _)| logit),
        }
    }
}
