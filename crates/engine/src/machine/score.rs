//! Dirty cells become scores: everyone a task asks about, in a fixed order whatever the threads do.

use rayon::prelude::*;

use leadpulse_features::FeatureBatch;
use leadpulse_graph::{CellRef, EntityId, Reasons};
use leadpulse_schema::Absence;

use super::Machine;

/// Cells that are encoded and scored together. The scorer forms its own batches of cells of like shape within a chunk.
const SCORE_CHUNK: usize = 128;

/// One entity of a cell under one task, scored or found without a score.
pub(super) struct Found {
    pub cell: CellRef,
    pub reasons: Reasons,
    pub entity: EntityId,
    pub task: usize,
    pub slot: usize,
    pub logit: Result<f64, Absence>,
}

impl Machine {
    /// Scores dirty cells: one entry per entity and task that is known or was ever observed, by cell, then task, then entity key.
    pub(super) fn score(&self, dirty: &[(CellRef, Reasons)]) -> Vec<Found> {
        let chunks: Vec<Vec<Found>> = dirty
            .par_chunks(SCORE_CHUNK)
            .map(|chunk| self.score_chunk(chunk, self.as_of_ms))
            .collect();
        chunks.into_iter().flatten().collect()
    }

    fn score_chunk(&self, chunk: &[(CellRef, Reasons)], as_of_ms: i64) -> Vec<Found> {
        let mut found = Vec::new();
        let mut batch: Option<(FeatureBatch, Vec<CellRef>)> = None;
        for (task_index, task) in self.tasks.iter().enumerate() {
            let mut asked: Vec<(CellRef, Reasons, EntityId, Result<(), Absence>)> = Vec::new();
            for (at, reasons) in chunk {
                let cell = self.graph.cell(*at);
                let mut nodes: Vec<_> = cell
                    .nodes
                    .iter()
                    .filter(|n| n.table == task.entity)
                    .collect();
                nodes.sort_by(|a, b| {
                    self.graph
                        .directory()
                        .key(a.entity)
                        .cmp(self.graph.directory().key(b.entity))
                });
                for node in nodes {
                    let eligible = self
                        .graph
                        .absence(cell, node, self.as_of_ms, &task.population)
                        .map_or(Ok(()), Err);
                    if eligible.is_ok() || self.tracked.contains_key(&(task_index, node.entity)) {
                        asked.push((*at, *reasons, node.entity, eligible));
                    }
                }
            }
            let logits = if asked.iter().any(|(.., eligible)| eligible.is_ok()) {
                let (batch, _) = batch.get_or_insert_with(|| {
                    let cells: Vec<CellRef> = chunk.iter().map(|(at, _)| *at).collect();
                    (
                        self.scorer.plan().encode(&self.graph, &cells, as_of_ms),
                        cells,
                    )
                });
                self.scorer.logits(batch, self.scorer_tasks[task_index])
            } else {
                Vec::new()
            };
            for (at, reasons, entity, eligible) in asked {
                let cell = chunk
                    .iter()
                    .position(|(c, _)| *c == at)
                    .expect("asked cells are of this chunk");
                let scored = eligible.and_then(|()| {
                    let place = batch
                        .as_ref()
                        .and_then(|(b, _)| self.scorer.plan().row_of(b, task.entity, cell, entity));
                    place
                        .map(|(row, slot)| (logits[row], slot))
                        .ok_or(Absence::Outside)
                });
                let slot = scored.map_or(0, |(_, slot)| slot);
                found.push(Found {
                    cell: at,
                    reasons,
                    entity,
                    task: task_index,
                    slot,
                    logit: scored.map(|(logit, _)| logit),
                });
            }
        }
        found.sort_by_key(|f| chunk.iter().position(|(c, _)| *c == f.cell));
        found
    }
}
