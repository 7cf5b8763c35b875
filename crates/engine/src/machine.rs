//! One epoch, from rows to sealed outputs. Deterministic: the same rows, moment and bundle on the same state give the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rayon::prelude::*;
use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};

use leadpulse_features::{Explanation, FeatureBatch, Scorer, probability};
use leadpulse_graph::{CellRef, EntityId, Graph, Outcome, Reasons};
use leadpulse_policy::{Decision, EmitReason, EntityState, Observation, Policy};
use leadpulse_schema::{Catalog, Population, TableId};

use crate::dead_letter::{Reason, dead_letter};
use crate::decode::Decoded;
use crate::epoch::{ClockState, EpochRecord, PartitionInterval, ReasonCount};
use crate::output::{OutputEncoders, PolicyStateRecord};
use crate::ports::{InputPartition, NextOffset, Output, OutputRecord, RecordBatch, SealedEpoch};
use crate::read_model::{AlertView, ScoreView};
use crate::records::{Emission, Lineage};

/// Cells that are encoded and scored together. The scorer forms its own batches of cells of like shape within a chunk.
const SCORE_CHUNK: usize = 128;

const LATE: &str = "older than its partition's newest event by more than the late horizon";
const FUTURE: &str = "its event time lies ahead of its Kafka timestamp by more than tolerated";

/// Something to predict, as the engine needs it.
#[derive(Debug)]
pub struct Task {
    /// Its name; the bundle has a task of the same name.
    pub name: Arc<str>,
    /// Table of the entities scored.
    pub entity: TableId,
    /// Who is asked about, its windows bound to the graph's day counters.
    pub population: Population,
    /// Bands and alerts.
    pub policy: Policy,
    /// The query, for records.
    pub query: String,
}

/// What decides an epoch besides its rows.
#[derive(Clone, Debug)]
pub struct Cut {
    /// The next offset of every partition after the epoch.
    pub positions: Vec<NextOffset>,
    /// How `as_of` moves.
    pub moment: Moment,
    /// The closing tick: every cell is scored, every score emitted.
    pub closing: bool,
}

/// How an epoch's `as_of` is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The newest accepted event, and this reading of the clock if there is one; never back.
    Now {
        /// Wall clock, milliseconds.
        clock_ms: Option<i64>,
    },
    /// Exactly this: a script is replayed, or the closing tick.
    Fixed {
        /// The moment, milliseconds.
        as_of_ms: i64,
        /// The clock state to record.
        clock: Option<i64>,
    },
}

/// An epoch that is decided but not committed.
#[derive(Debug)]
pub struct Stepped {
    /// What goes into the transaction.
    pub sealed: SealedEpoch,
    /// Its record.
    pub record: EpochRecord,
    /// Scores to show once committed.
    pub scores: Vec<ScoreView>,
    /// Alerts to show once committed.
    pub alerts: Vec<AlertView>,
    /// What happened, for metrics.
    pub tally: Tally,
}

/// Counts of one epoch that its record does not hold.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Cells scored.
    pub cells: usize,
    /// Cells still waiting because a board moved their hubs.
    pub deferred: usize,
    /// Scores emitted by (task, cause).
    pub emitted: BTreeMap<(String, &'static str), u64>,
    /// Alerts by (type, severity).
    pub alerts: BTreeMap<(&'static str, &'static str), u64>,
    /// Crossings that fired no alert, by (type, reason).
    pub suppressed: BTreeMap<(&'static str, &'static str), u64>,
    /// Seconds spent by stage.
    pub stage_seconds: Vec<(&'static str, f64)>,
}

/// One entity of a cell under one task, scored or found ineligible.
struct Found {
    cell: CellRef,
    reasons: Reasons,
    entity: EntityId,
    task: usize,
    slot: usize,
    /// `None`: outside the population.
    logit: Option<f64>,
}

/// The state of one worker.
pub struct Machine {
    catalog: Arc<Catalog>,
    fingerprint: String,
    worker: String,
    tasks: Vec<Task>,
    graph: Graph,
    scorer: Arc<dyn Scorer>,
    /// Task → index among the scorer's tasks.
    scorer_tasks: Vec<usize>,
    states: FxHashMap<(usize, EntityId), EntityState>,
    explained: FxHashMap<(usize, EntityId), (i64, Explanation)>,
    /// When a crossing under way will have lasted long enough: its entity is scored again then.
    revisits: BTreeSet<(i64, EntityId)>,
    encoders: Arc<OutputEncoders>,
    partitions: Vec<InputPartition>,
    positions: Vec<NextOffset>,
    number: u64,
    as_of_ms: i64,
    newest_event_ms: Option<i64>,
    soft_budget: usize,
    explain_budget: usize,
}

/// Why a machine could not be built.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MachineError {
    /// The bundle does not know a configured task.
    #[error(
        "the bundle {bundle} has no task {task:?} (it has: {known}); train it with this task, or remove the task from the configuration"
    )]
    NoSuchTask {
        /// Bundle id.
        bundle: String,
        /// The configured task.
        task: String,
        /// The bundle's tasks.
        known: String,
    },
    /// The bundle's task is about another table.
    #[error("task {task:?} is about {configured} in the configuration and about {trained} in the bundle; train it again")]
    OtherEntity {
        /// Task name.
        task: String,
        /// Table in the configuration.
        configured: String,
        /// Table in the bundle.
        trained: String,
    },
}

/// What a machine is made of.
pub struct MachineParts {
    /// Identifies the worker in epoch records.
    pub worker: String,
    /// Fingerprint of the input schemas.
    pub fingerprint: String,
    /// An empty graph that tracks changes.
    pub graph: Graph,
    /// What to predict.
    pub tasks: Vec<Task>,
    /// The bundle.
    pub scorer: Arc<dyn Scorer>,
    /// Output writers.
    pub encoders: Arc<OutputEncoders>,
    /// Input partitions, in order.
    pub partitions: Vec<InputPartition>,
    /// Where reading starts.
    pub start: Vec<NextOffset>,
    /// See [`crate::EngineOptions::soft_budget`].
    pub soft_budget: usize,
    /// See [`crate::EngineOptions::explain_budget`].
    pub explain_budget: usize,
}

impl Machine {
    /// A machine before its first epoch.
    pub fn new(parts: MachineParts) -> Result<Self, MachineError> {
        let MachineParts { worker, fingerprint, graph, tasks, scorer, encoders, partitions, start, soft_budget, explain_budget } = parts;
        let catalog = graph.catalog().clone();
        let mut scorer_tasks = Vec::new();
        for task in &tasks {
            let found = scorer.tasks().iter().position(|t| t.name == *task.name).ok_or_else(|| MachineError::NoSuchTask {
                bundle: scorer.bundle_id().to_owned(),
                task: task.name.to_string(),
                known: scorer.tasks().iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", "),
            })?;
            let trained = scorer.tasks()[found].entity;
            if trained != task.entity {
                return Err(MachineError::OtherEntity {
                    task: task.name.to_string(),
                    configured: catalog.table_at(task.entity).name.clone(),
                    trained: catalog.table_at(trained).name.clone(),
                });
            }
            scorer_tasks.push(found);
        }
        Ok(Self {
            catalog,
            fingerprint,
            worker,
            tasks,
            graph,
            scorer,
            scorer_tasks,
            states: FxHashMap::default(),
            explained: FxHashMap::default(),
            revisits: BTreeSet::new(),
            encoders,
            positions: start,
            partitions,
            number: 0,
            as_of_ms: i64::MIN,
            newest_event_ms: None,
            soft_budget,
            explain_budget,
        })
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }
    /// Fingerprint of the input schemas, and the bundle's id.
    pub fn identity(&self) -> (&str, &str) {
        (&self.fingerprint, self.scorer.bundle_id())
    }
    /// Number of the last epoch stepped; 0 before the first.
    pub fn number(&self) -> u64 {
        self.number
    }
    /// `as_of` of the last epoch; `None` before the first accepted row.
    pub fn as_of_ms(&self) -> Option<i64> {
        (self.as_of_ms != i64::MIN).then_some(self.as_of_ms)
    }
    /// The next offset to take from each partition.
    pub fn positions(&self) -> &[NextOffset] {
        &self.positions
    }
    /// The time of the first board after the last epoch, milliseconds; `None` before the first accepted row.
    pub fn next_board_ms(&self) -> Option<i64> {
        self.as_of_ms().map(|_| self.graph.next_board_ms())
    }
    /// Whether an epoch without records would do something at this clock reading: a timer or a board is due, or cells wait.
    pub fn wants_tick(&self, clock_ms: Option<i64>) -> bool {
        let revisit_ms = self.revisits.first().map(|(at_ms, _)| *at_ms);
        self.graph.deferred() > 0
            || clock_ms.is_some_and(|now| {
                let due = |at_ms: Option<i64>| at_ms.is_some_and(|at_ms| now >= at_ms);
                self.as_of_ms().is_some_and(|as_of| now > as_of)
                    && (due(Some(self.graph.next_board_ms())) || due(self.graph.next_timer_ms()) || due(revisit_ms))
            })
    }

    /// Decides the next epoch. `decoded` are the rows of exactly the records between the last positions and the cut's.
    pub fn step(&mut self, records: &RecordBatch, decoded: Decoded, cut: Cut) -> Stepped {
        let mut tally = Tally::default();
        let started = std::time::Instant::now();
        let mut lap = {
            let mut last = started;
            move |tally: &mut Tally, stage| {
                let now = std::time::Instant::now();
                tally.stage_seconds.push((stage, (now - last).as_secs_f64()));
                last = now;
            }
        };
        self.number += 1;
        let Decoded { rows, records: record_of, mut dead } = decoded;
        let record_of = |row: usize| record_of[row];

        let outcomes = self.graph.apply(&rows);
        let mut counts = [0_i64; 4];
        for (index, outcome) in outcomes.iter().enumerate() {
            let row = rows.row(index);
            let refused = match outcome {
                Outcome::Accepted => {
                    let known = row.event_ms().min(row.known_ms());
                    self.newest_event_ms = Some(self.newest_event_ms.map_or(known, |t| t.max(known)));
                    None
                }
                Outcome::Duplicate => None,
                Outcome::Late => Some((Reason::LateBeyondHorizon, LATE)),
                Outcome::Future => Some((Reason::FutureTimestamp, FUTURE)),
            };
            counts[*outcome as usize] += 1;
            if let Some((reason, message)) = refused {
                dead.push((record_of(index), reason, message.to_owned()));
            }
        }
        lap(&mut tally, "graph");

        let (moment, live_at) = match cut.moment {
            Moment::Now { clock_ms } => (self.newest_event_ms.max(clock_ms), clock_ms),
            Moment::Fixed { as_of_ms, clock } => (Some(as_of_ms), clock),
        };
        // Before the first accepted row there is nothing to be scored at any moment. No score is valid before 1970: records and
        // their Kafka timestamps could not say so, and a replay of the script would score at another moment.
        if self.newest_event_ms.is_some() {
            self.as_of_ms = self.as_of_ms.max(moment.unwrap_or_default()).max(0);
            self.graph.advance(self.as_of_ms);
        }
        if cut.closing {
            self.graph.mark_all(Reasons::CLOSING);
        }
        let dirty = self.graph.take_dirty(self.soft_budget);
        let dirty = self.with_revisits(dirty);
        tally.cells = dirty.len();
        tally.deferred = self.graph.deferred();
        lap(&mut tally, "track");

        let found = self.score(&dirty);
        let scored = found.iter().filter(|f| f.logit.is_some()).count();
        lap(&mut tally, "infer");
        let (outputs, scores, alerts) = self.decide(&dirty, found, cut.closing, &mut tally);
        lap(&mut tally, "policy");

        let mut by_reason: BTreeMap<&'static str, i64> = BTreeMap::new();
        let mut all = Vec::with_capacity(dead.len() + outputs.len() + 1);
        for (index, reason, message) in dead {
            *by_reason.entry(reason.code()).or_default() += 1;
            let record = records.record(index as usize);
            let input = &self.partitions[record.partition() as usize];
            all.push(dead_letter(record, input, reason, &message, self.as_of_ms.max(0)));
        }
        all.extend(outputs);
        let written = |output| all.iter().filter(|r| r.output == output).count() as i64;
        let partitions = self
            .partitions
            .iter()
            .zip(self.positions.iter().zip(&cut.positions))
            .map(|(p, (start, end))| PartitionInterval { topic: p.topic.clone(), partition: p.partition, start: start.0, end: end.0 })
            .collect();
        let record = EpochRecord {
            worker: self.worker.clone(),
            epoch: self.number as i64,
            as_of: self.as_of_ms.max(0),
            board: self.graph.board().unwrap_or(-1),
            bundle_id: Some(self.scorer.bundle_id().to_owned()),
            plan_hash: Some(self.scorer.plan().hash().to_owned()),
            catalog_fingerprint: self.fingerprint.clone(),
            partitions,
            clock: ClockState { live_at, newest_event_at: self.newest_event_ms },
            closing: cut.closing,
            accepted: counts[Outcome::Accepted as usize],
            duplicate: counts[Outcome::Duplicate as usize],
            late: counts[Outcome::Late as usize],
            future: counts[Outcome::Future as usize],
            dead_lettered: by_reason.into_iter().map(|(reason, count)| ReasonCount { reason: reason.into(), count }).collect(),
            scored: scored as i64,
            scores: written(Output::Scores),
            alerts: written(Output::Alerts),
            digest: digest(&all),
        };
        self.positions = cut.positions;
        all.push(OutputRecord {
            output: Output::Epochs,
            key: Some(self.worker.clone().into_bytes()),
            value: Some(self.encoders.epoch(&record)),
            headers: Vec::new(),
            timestamp_ms: record.as_of,
        });
        lap(&mut tally, "seal");
        let sealed = SealedEpoch { number: self.number, as_of_ms: record.as_of, positions: self.positions.clone(), outputs: all };
        Stepped { sealed, record, scores, alerts, tally }
    }

    /// Adds the cells of entities whose crossing has lasted long enough by now.
    fn with_revisits(&mut self, mut dirty: Vec<(CellRef, Reasons)>) -> Vec<(CellRef, Reasons)> {
        while let Some((_, entity)) = self.revisits.first().copied().filter(|(at_ms, _)| *at_ms <= self.as_of_ms) {
            self.revisits.pop_first();
            let Some(place) = self.graph.directory().place(entity) else { continue };
            match dirty.binary_search_by_key(&place.cell, |(at, _)| *at) {
                Ok(index) => dirty[index].1 = dirty[index].1.with(Reasons::TIMER),
                Err(index) => dirty.insert(index, (place.cell, Reasons::TIMER)),
            }
        }
        dirty
    }

    /// Scores dirty cells: one entry per entity and task that is known or was ever observed, by cell, then task, then entity key.
    fn score(&mut self, dirty: &[(CellRef, Reasons)]) -> Vec<Found> {
        let as_of_ms = self.as_of_ms;
        let this = &*self;
        let chunks: Vec<Vec<Found>> = dirty.par_chunks(SCORE_CHUNK).map(|chunk| this.score_chunk(chunk, as_of_ms)).collect();
        chunks.into_iter().flatten().collect()
    }

    fn score_chunk(&self, chunk: &[(CellRef, Reasons)], as_of_ms: i64) -> Vec<Found> {
        let mut found = Vec::new();
        let mut batch: Option<(FeatureBatch, Vec<CellRef>)> = None;
        for (task_index, task) in self.tasks.iter().enumerate() {
            let mut asked: Vec<(CellRef, Reasons, EntityId, bool)> = Vec::new();
            for (at, reasons) in chunk {
                let cell = self.graph.cell(*at);
                let mut nodes: Vec<_> = cell.nodes.iter().filter(|n| n.table == task.entity).collect();
                nodes.sort_by(|a, b| self.graph.directory().key(a.entity).cmp(self.graph.directory().key(b.entity)));
                for node in nodes {
                    let eligible = self.graph.view(cell, node, as_of_ms, &task.population).is_eligible();
                    if eligible || self.states.contains_key(&(task_index, node.entity)) {
                        asked.push((*at, *reasons, node.entity, eligible));
                    }
                }
            }
            let logits = if asked.iter().any(|(.., eligible)| *eligible) {
                let (batch, _) = batch.get_or_insert_with(|| {
                    let cells: Vec<CellRef> = chunk.iter().map(|(at, _)| *at).collect();
                    (self.scorer.plan().encode(&self.graph, &cells, as_of_ms), cells)
                });
                self.scorer.logits(batch, self.scorer_tasks[task_index])
            } else {
                Vec::new()
            };
            for (at, reasons, entity, eligible) in asked {
                let cell = chunk.iter().position(|(c, _)| *c == at).expect("asked cells are of this chunk");
                let encoded = batch.as_ref().filter(|_| eligible);
                let place = encoded.and_then(|(b, _)| self.scorer.plan().row_of(b, task.entity, cell, entity));
                let logit = place.map(|(row, _)| logits[row]);
                found.push(Found { cell: at, reasons, entity, task: task_index, slot: place.map_or(0, |(_, slot)| slot), logit });
            }
        }
        found.sort_by_key(|f| chunk.iter().position(|(c, _)| *c == f.cell));
        found
    }

    /// Policy, explanations and output records, in order.
    fn decide(
        &mut self,
        dirty: &[(CellRef, Reasons)],
        found: Vec<Found>,
        closing: bool,
        tally: &mut Tally,
    ) -> (Vec<OutputRecord>, Vec<ScoreView>, Vec<AlertView>) {
        let as_of_ms = self.as_of_ms;
        let mut decisions: Vec<Decision> = Vec::with_capacity(found.len());
        let mut margins: FxHashMap<CellRef, f32> = FxHashMap::default();
        let mut explain: Vec<usize> = Vec::new();
        let mut budget = self.explain_budget;
        for (index, item) in found.iter().enumerate() {
            let policy = &self.tasks[item.task].policy;
            let state = self.states.entry((item.task, item.entity)).or_default();
            let decision = match item.logit {
                Some(logit) => {
                    let margin = policy.bands().map(|b| (logit - logit_of(b.enter)).abs() as f32).fold(f32::MAX, f32::min);
                    let nearest = margins.entry(item.cell).or_insert(f32::MAX);
                    *nearest = nearest.min(margin);
                    let muted = item.reasons.contains(Reasons::BUNDLE);
                    policy.observe(state, Observation { probability: probability(logit), logit, as_of_ms, muted, forced: closing })
                }
                None => policy.observe_ineligible(state),
            };
            let crossed = decision.emit == Some(EmitReason::Crossing) && item.logit.is_some();
            if !decision.alerts.is_empty() || (crossed && budget > 0) {
                budget = budget.saturating_sub(usize::from(decision.alerts.is_empty()));
                explain.push(index);
            }
            self.revisits.extend(decision.revisit_at_ms.map(|at_ms| (at_ms, item.entity)));
            decisions.push(decision);
        }
        for (at, _) in dirty {
            self.graph.scored(*at, margins.get(at).copied().unwrap_or(f32::MAX));
        }
        let this = &*self;
        let explanations: Vec<Explanation> = explain
            .par_iter()
            .map(|index| {
                let item = &found[*index];
                let batch = this.scorer.plan().encode(&this.graph, &[item.cell], as_of_ms);
                this.scorer.explain(&batch, this.scorer_tasks[item.task], 0, item.slot)
            })
            .collect();
        for (index, explanation) in explain.into_iter().zip(explanations) {
            self.explained.insert((found[index].task, found[index].entity), (as_of_ms, explanation));
        }

        let (mut outputs, mut scores, mut alerts) = (Vec::new(), Vec::new(), Vec::new());
        let lineage = Lineage {
            epoch: self.number as i64,
            as_of_ms,
            bundle_id: self.scorer.bundle_id().into(),
            plan_hash: self.scorer.plan().hash().into(),
            board: self.graph.board().unwrap_or(-1),
        };
        for (item, decision) in found.iter().zip(&decisions) {
            let task = &self.tasks[item.task];
            for (alert_type, reason) in &decision.suppressed {
                *tally.suppressed.entry((alert_type.name(), reason.name())).or_default() += 1;
            }
            if decision.emit.is_some() {
                let emission = Emission {
                    catalog: &self.catalog,
                    graph: &self.graph,
                    groups: &self.scorer.plan().layout().groups,
                    task,
                    horizon_ms: self.scorer.tasks()[self.scorer_tasks[item.task]].horizon_ms,
                    cell: item.cell,
                    entity: item.entity,
                    reasons: item.reasons,
                    logit: item.logit,
                    decision,
                    explained: self.explained.get(&(item.task, item.entity)),
                    lineage: &lineage,
                };
                let parts = emission.records(scores.len() as i32);
                *tally.emitted.entry((task.name.to_string(), parts.score.cause.0)).or_default() += 1;
                outputs.push(OutputRecord {
                    output: Output::Scores,
                    key: Some(parts.key.clone()),
                    value: Some(self.encoders.score(&parts.score)),
                    headers: Vec::new(),
                    timestamp_ms: as_of_ms,
                });
                for (alert, view) in parts.alerts {
                    *tally.alerts.entry((alert.r#type, alert.severity.0)).or_default() += 1;
                    outputs.push(OutputRecord {
                        output: Output::Alerts,
                        key: Some(alert.account_id.clone().unwrap_or_else(|| alert.entity_id.clone()).into_bytes()),
                        value: Some(self.encoders.alert(&alert)),
                        headers: Vec::new(),
                        timestamp_ms: as_of_ms,
                    });
                    alerts.push(view);
                }
                scores.push(parts.view);
            }
            if decision.state_changed {
                let state = &self.states[&(item.task, item.entity)];
                let entity_id = self.graph.directory().key(item.entity).to_string();
                let entity_type = self.catalog.table_at(task.entity).name.clone();
                let record = PolicyStateRecord {
                    task: task.name.to_string(),
                    entity_type,
                    entity_id,
                    epoch: self.number as i64,
                    band: decision.band.as_ref().map(|b| b.to_string()),
                    state: serde_json::to_string(state).expect("a policy state is JSON"),
                };
                outputs.push(OutputRecord {
                    output: Output::PolicyState,
                    key: Some(output_key(&record.task, &record.entity_type, &record.entity_id)),
                    value: Some(self.encoders.policy_state(&record)),
                    headers: Vec::new(),
                    timestamp_ms: as_of_ms,
                });
            }
        }
        (outputs, scores, alerts)
    }
}

/// Kafka key of scores and policy states.
pub fn output_key(task: &str, entity_type: &str, entity_id: &str) -> Vec<u8> {
    format!("{task}|{entity_type}|{entity_id}").into_bytes()
}

fn logit_of(p: f64) -> f64 {
    (p / (1.0 - p)).ln()
}

fn digest(outputs: &[OutputRecord]) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: Option<&[u8]>| {
        hash.update(bytes.map_or(-1, |b| b.len() as i64).to_le_bytes());
        hash.update(bytes.unwrap_or_default());
    };
    for record in outputs {
        part(Some(&[record.output as u8]));
        part(record.key.as_deref());
        part(record.value.as_deref());
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}
