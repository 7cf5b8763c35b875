//! One epoch, from rows to sealed outputs. Deterministic: the same rows, moment and bundle on the same state give the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};

use leadpulse_features::Scorer;
use leadpulse_graph::{CellRef, EntityId, Graph, Reasons, RowOutcome as Outcome};
use leadpulse_policy::{ActionTable, EntityState, Policy, PolicyError};
use leadpulse_records::{Explained, Reason, ShownAlert, ShownScore, hex, vocabulary};
use leadpulse_schema::{Catalog, Operation, Population, TableId};

use crate::decode::{Decoded, dead_letter};
use crate::encoders::OutputEncoders;
use crate::epoch::{
    ClockState, DecidedRange, EPOCH_RECORD_VERSION, EpochRecord, LAYOUT_SECTION, Layout,
    PartitionInterval, ReasonCount, ranges,
};
use crate::ports::{
    InputPartition, NextOffset, Nonce, Output, OutputRecord, RecordBatch, SealedEpoch,
};
use crate::standings::Standings;

mod answer;
mod decide;
mod restore;
mod score;

pub use restore::Unmatched;

/// The program, as epoch records name it.
const PROGRAM: &str = concat!("leadpulse/", env!("CARGO_PKG_VERSION"));

const LATE: &str = "older than the late horizon allows: behind its partition's newest event, or of a day that its table has forgotten";
const FUTURE: &str =
    "its time lies ahead of its Kafka timestamp, or of the clock here, by more than tolerated";

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
    /// Records read from every partition.
    pub read: Vec<i64>,
    /// How `as_of` moves.
    pub moment: Moment,
    /// Readings of the clock.
    pub clock: Readings,
    /// The closing tick: every cell is scored, every score emitted.
    pub closing: bool,
    /// Offsets that were left out by an operator's decision.
    pub skipped: Vec<DecidedRange>,
}

/// How an epoch's `as_of` is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The newest accepted event, and the clock where it counts; never back, and never beyond the clock that bounds the future.
    Newest,
    /// Exactly this, milliseconds: a script is repeated, or the closing tick.
    Fixed(i64),
}

/// Readings of the wall clock that an epoch is decided with, milliseconds; they are recorded, so that a repetition decides the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// Moves `as_of`: once the topics are read to their end.
    pub live_ms: Option<i64>,
    /// Bounds the future: rows beyond it are dead letters, and no epoch moves `as_of` past it.
    pub bound_ms: Option<i64>,
}

/// An epoch that is decided but not committed.
#[derive(Debug)]
pub struct Stepped {
    /// What goes into the transaction.
    pub sealed: Arc<SealedEpoch>,
    /// Its record.
    pub record: EpochRecord,
    /// Scores to show once committed.
    pub scores: Vec<ShownScore>,
    /// Alerts to show once committed.
    pub alerts: Vec<ShownAlert>,
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
    /// Accepted rows that took an event back.
    pub retracted: u64,
    /// Explanations by (task, outcome): `made`, `carried` (an emitted score came with an older one), `over_budget` (wanted, not made).
    pub explanations: BTreeMap<(String, &'static str), u64>,
    /// Crossings that fired no alert, by (type, reason).
    pub suppressed: BTreeMap<(&'static str, &'static str), u64>,
    /// Seconds spent by stage.
    pub stage_seconds: Vec<(&'static str, f64)>,
}

/// What is remembered of one entity under one task. All of it can be read back from the compacted outputs.
#[derive(Default)]
struct Tracked {
    policy: EntityState,
    /// Boxed: most entities are never explained.
    explained: Option<Box<Explained>>,
}

impl Tracked {
    /// The score it is ranked by: the one that consumers have; `None` while it is ineligible.
    fn ranked_by(&self) -> Option<f64> {
        self.policy.standing_logit()
    }
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
    /// By task.
    actions: Vec<ActionTable>,
    /// By task.
    standings: Vec<Standings>,
    tracked: FxHashMap<(usize, EntityId), Tracked>,
    /// When a crossing under way will have lasted long enough: its entity is scored again then.
    revisits: BTreeSet<(i64, EntityId)>,
    encoders: Arc<OutputEncoders>,
    partitions: Vec<InputPartition>,
    layout: Layout,
    /// The layout's record is not in the epochs topic yet.
    layout_is_new: bool,
    positions: Vec<NextOffset>,
    /// Token of the process start.
    owner: String,
    /// Digest of what was given to the worker.
    deployed: String,
    number: u64,
    as_of_ms: i64,
    newest_event_ms: Option<i64>,
    soft_budget: usize,
    explain_budget: usize,
    current_scores: bool,
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
    #[error(
        "task {task:?} is about {configured} in the configuration and about {trained} in the bundle; train it again"
    )]
    OtherEntity {
        /// Task name.
        task: String,
        /// Table in the configuration.
        configured: String,
        /// Table in the bundle.
        trained: String,
    },
    /// A rule of a task's actions names what neither the data nor the bundle has.
    #[error("task {task:?}: {source}")]
    Actions {
        /// Task name.
        task: String,
        /// Which name, and what could be there.
        source: PolicyError,
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
    /// First offset of each.
    pub start: Vec<NextOffset>,
    /// Token of the process start ([`Sink::owner`](crate::ports::Sink::owner)).
    pub owner: String,
    /// See [`crate::EngineOptions::soft_budget`].
    pub soft_budget: usize,
    /// See [`crate::EngineOptions::explain_budget`].
    pub explain_budget: usize,
    /// Whether [`Output::CurrentScores`] is written.
    pub current_scores: bool,
}

impl Machine {
    /// A machine before its first epoch.
    pub fn new(parts: MachineParts) -> Result<Self, MachineError> {
        let MachineParts {
            graph,
            tasks,
            scorer,
            ..
        } = &parts;
        let catalog = graph.catalog().clone();
        let known = vocabulary(
            &catalog,
            scorer
                .plan()
                .layout()
                .groups
                .iter()
                .map(|group| group.code.as_str()),
        );
        let (mut scorer_tasks, mut actions) = (Vec::new(), Vec::new());
        for task in tasks {
            let found = scorer
                .tasks()
                .iter()
                .position(|t| t.name == *task.name)
                .ok_or_else(|| MachineError::NoSuchTask {
                    bundle: scorer.bundle_id().to_owned(),
                    task: task.name.to_string(),
                    known: scorer
                        .tasks()
                        .iter()
                        .map(|t| t.name.as_str())
                        .collect::<Vec<_>>()
                        .join(", "),
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
            let table = task.policy.actions(&known);
            actions.push(table.map_err(|source| MachineError::Actions {
                task: task.name.to_string(),
                source,
            })?);
        }
        let MachineParts {
            worker,
            fingerprint,
            mut graph,
            tasks,
            scorer,
            encoders,
            partitions,
            start,
            owner,
            soft_budget,
            explain_budget,
            current_scores,
        } = parts;
        expect(&mut graph, &partitions);
        let deployed = deployed_digest(
            &fingerprint,
            scorer.as_ref(),
            &tasks,
            &graph,
            (soft_budget, explain_budget),
        );
        Ok(Self {
            catalog,
            fingerprint,
            worker,
            standings: tasks.iter().map(|_| Standings::default()).collect(),
            tasks,
            graph,
            scorer,
            scorer_tasks,
            actions,
            tracked: FxHashMap::default(),
            revisits: BTreeSet::new(),
            encoders,
            positions: start,
            layout: Layout::of(1, &partitions),
            layout_is_new: true,
            partitions,
            owner,
            deployed,
            number: 0,
            as_of_ms: i64::MIN,
            newest_event_ms: None,
            soft_budget,
            explain_budget,
            current_scores,
        })
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }
    /// Id of the bundle that scores.
    pub fn bundle_id(&self) -> &str {
        self.scorer.bundle_id()
    }
    /// Digest of what was given to the worker: schemas, bundle, tasks, policies, graph options, budgets. Hexadecimal.
    pub fn deployed(&self) -> &str {
        &self.deployed
    }
    /// The partitions that positions and intervals refer to.
    pub fn layout(&self) -> &Layout {
        &self.layout
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
    /// Reads further partitions from now on, from these offsets. The next epoch's transaction holds the new layout.
    pub fn add_partitions(&mut self, partitions: &[InputPartition], starts: &[NextOffset]) {
        self.partitions.extend_from_slice(partitions);
        self.positions.extend_from_slice(starts);
        self.layout = Layout::of(self.layout.layout + 1, &self.partitions);
        self.layout_is_new = true;
    }
    /// Whether an epoch without records would do something at this clock reading: a timer or a board is due, or cells wait.
    pub fn wants_tick(&self, clock_ms: Option<i64>) -> bool {
        let revisit_ms = self.revisits.first().map(|(at_ms, _)| *at_ms);
        self.graph.deferred() > 0
            || clock_ms.is_some_and(|now| {
                let due = |at_ms: Option<i64>| at_ms.is_some_and(|at_ms| now >= at_ms);
                self.as_of_ms().is_some_and(|as_of| now > as_of)
                    && (due(Some(self.graph.next_board_ms()))
                        || due(self.graph.next_timer_ms())
                        || due(revisit_ms))
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
                tally
                    .stage_seconds
                    .push((stage, (now - last).as_secs_f64()));
                last = now;
            }
        };
        self.number += 1;
        let Admitted {
            counts,
            mut dead,
            retracted,
        } = self.admit(decoded, cut.clock.bound_ms);
        tally.retracted = retracted;
        lap(&mut tally, "graph");

        self.advance(cut.moment, cut.clock);
        if cut.closing {
            self.graph.mark_all(Reasons::CLOSING);
        }
        let dirty = self.graph.take_dirty(self.soft_budget);
        let dirty = self.with_revisits(dirty);
        tally.cells = dirty.len();
        tally.deferred = self.graph.deferred();
        lap(&mut tally, "track");

        let found = self.score(&dirty);
        let scored = found.iter().filter(|f| f.logit.is_ok()).count();
        lap(&mut tally, "infer");
        let decide::Decided {
            outputs,
            scores,
            alerts,
        } = self.decide(&dirty, &found, cut.closing, &mut tally);
        lap(&mut tally, "policy");

        let mut by_reason: BTreeMap<&'static str, i64> = BTreeMap::new();
        let mut all = Vec::with_capacity(dead.len() + outputs.len() + 1);
        let unknown = dead
            .iter()
            .filter(|(_, reason, _)| *reason == Reason::UnknownSchema);
        let place = |index: u32| {
            (
                records.record(index as usize).partition(),
                records.record(index as usize).offset(),
            )
        };
        let mut unknown: Vec<(u32, i64)> = unknown.map(|(index, ..)| place(*index)).collect();
        unknown.sort_unstable();
        let refused = ranges(unknown, Reason::UnknownSchema.code());
        for (index, reason, message) in dead.drain(..) {
            *by_reason.entry(reason.code()).or_default() += 1;
            let record = records.record(index as usize);
            let input = &self.partitions[record.partition() as usize];
            all.push(dead_letter(
                record,
                input,
                reason,
                &message,
                self.as_of_ms.max(0),
            ));
        }
        all.extend(outputs);
        let written = |output| all.iter().filter(|r| r.output == output).count() as i64;
        let intervals = self.positions.iter().zip(&cut.positions).zip(&cut.read);
        let intervals = intervals.map(|((start, end), read)| PartitionInterval {
            start: start.0,
            end: end.0,
            read: *read,
        });
        let digest = digest(&all);
        let nonce = nonce(&self.owner, self.number, &digest);
        let mut sections = BTreeMap::new();
        if std::mem::take(&mut self.layout_is_new) {
            sections.insert(
                LAYOUT_SECTION.to_owned(),
                self.encoders.layout(&self.layout),
            );
        }
        let record = EpochRecord {
            version: EPOCH_RECORD_VERSION,
            lane: 0,
            layout: self.layout.layout,
            worker: self.worker.clone(),
            program: PROGRAM.to_owned(),
            epoch: self.number as i64,
            nonce: nonce.to_string(),
            owner: self.owner.clone(),
            as_of: self.as_of_ms.max(0),
            board: self.graph.board().unwrap_or(-1),
            deployed: self.deployed.clone(),
            bundle_id: Some(self.scorer.bundle_id().to_owned()),
            plan_hash: Some(self.scorer.plan().hash().to_owned()),
            catalog_fingerprint: self.fingerprint.clone(),
            partitions: intervals.collect(),
            clock: ClockState {
                live_at: cut.clock.live_ms,
                bound_at: cut.clock.bound_ms,
                newest_event_at: self.newest_event_ms,
            },
            closing: cut.closing,
            refused,
            skipped: cut.skipped,
            accepted: counts[Outcome::Accepted as usize],
            duplicate: counts[Outcome::Duplicate as usize],
            late: counts[Outcome::Late as usize],
            future: counts[Outcome::Future as usize],
            dead_lettered: by_reason
                .into_iter()
                .map(|(reason, count)| ReasonCount {
                    reason: reason.into(),
                    count,
                })
                .collect(),
            scored: scored as i64,
            scores: written(Output::Scores),
            alerts: written(Output::Alerts),
            digest,
            sections,
        };
        self.positions = cut.positions;
        let script = |key: &[u8], value| OutputRecord {
            output: Output::Epochs,
            key: Some(key.to_vec()),
            value: Some(value),
            headers: Vec::new(),
            timestamp_ms: record.as_of,
        };
        all.push(script(self.worker.as_bytes(), self.encoders.epoch(&record)));
        lap(&mut tally, "seal");
        let sealed = SealedEpoch {
            number: self.number,
            nonce,
            as_of_ms: record.as_of,
            positions: self.positions.clone(),
            outputs: all,
        };
        let sealed = Arc::new(sealed);
        Stepped {
            sealed,
            record,
            scores,
            alerts,
            tally,
        }
    }

    /// Applies rows, and counts what became of them. Late and future rows join the dead letters.
    fn admit(&mut self, decoded: Decoded, bound_ms: Option<i64>) -> Admitted {
        let Decoded {
            rows,
            records: record_of,
            mut dead,
            ..
        } = decoded;
        let outcomes = self.graph.apply(&rows, bound_ms);
        let (mut counts, mut retracted) = ([0_i64; 4], 0);
        for (index, outcome) in outcomes.iter().enumerate() {
            let row = rows.row(index);
            counts[*outcome as usize] += 1;
            let (reason, message) = match outcome {
                Outcome::Accepted => {
                    let known = row.event_ms().min(row.known_ms());
                    self.newest_event_ms =
                        Some(self.newest_event_ms.map_or(known, |t| t.max(known)));
                    retracted += u64::from(row.operation() == Operation::Retract);
                    continue;
                }
                Outcome::Duplicate => continue,
                Outcome::Late => (Reason::LateBeyondHorizon, LATE),
                Outcome::Future => (Reason::FutureTimestamp, FUTURE),
            };
            dead.push((record_of[index], reason, message.to_owned()));
        }
        Admitted {
            counts,
            dead,
            retracted,
        }
    }

    /// Moves `as_of` on.
    fn advance(&mut self, moment: Moment, clock: Readings) {
        // The clock counts once the inputs were read to their end: a partition that is still empty then is waited for no longer.
        if clock.live_ms.is_some() {
            self.graph.caught_up();
        }
        // Before the first accepted row there is nothing to be scored at any moment. No score is valid before 1970: records and
        // their Kafka timestamps could not say so, and a replay of the script would score at another moment.
        if self.newest_event_ms.is_none() {
            return;
        }
        let to_ms = match moment {
            Moment::Fixed(as_of_ms) => as_of_ms,
            Moment::Newest => {
                let newest_ms = self.newest_event_ms.max(clock.live_ms).unwrap_or_default();
                clock
                    .bound_ms
                    .map_or(newest_ms, |bound_ms| newest_ms.min(bound_ms))
            }
        };
        self.as_of_ms = self.as_of_ms.max(to_ms).max(0);
        self.graph.advance(self.as_of_ms);
    }

    /// Adds the cells of entities whose crossing has lasted long enough by now.
    fn with_revisits(&mut self, mut dirty: Vec<(CellRef, Reasons)>) -> Vec<(CellRef, Reasons)> {
        while let Some((_, entity)) = self
            .revisits
            .first()
            .copied()
            .filter(|(at_ms, _)| *at_ms <= self.as_of_ms)
        {
            self.revisits.pop_first();
            let Some(place) = self.graph.directory().place(entity) else {
                continue;
            };
            match dirty.binary_search_by_key(&place.cell, |(at, _)| *at) {
                Ok(index) => dirty[index].1 = dirty[index].1.with(Reasons::TIMER),
                Err(index) => dirty.insert(index, (place.cell, Reasons::TIMER)),
            }
        }
        dirty
    }
}

/// What became of an epoch's rows.
struct Admitted {
    /// By [`Outcome`].
    counts: [i64; 4],
    dead: Vec<(u32, Reason, String)>,
    retracted: u64,
}

/// The history of these partitions is still to be read.
fn expect(graph: &mut Graph, partitions: &[InputPartition]) {
    partitions
        .iter()
        .zip(0..)
        .for_each(|(partition, number)| graph.expect(number, partition.table));
}

/// Tells epochs apart that have one number: of other owners, or of one owner with other outputs.
fn nonce(owner: &str, number: u64, digest: &str) -> Nonce {
    let hash = Sha256::new()
        .chain_update(owner)
        .chain_update(number.to_le_bytes())
        .chain_update(digest)
        .finalize();
    Nonce(
        hash.first_chunk::<8>()
            .map_or(0, |bytes| u64::from_be_bytes(*bytes)),
    )
}

/// Digest of what a worker is given.
fn deployed_digest(
    fingerprint: &str,
    scorer: &dyn Scorer,
    tasks: &[Task],
    graph: &Graph,
    budgets: (usize, usize),
) -> String {
    let mut hash = Sha256::new();
    for part in [
        fingerprint,
        scorer.bundle_id(),
        scorer.plan().hash(),
        PROGRAM,
    ] {
        hash.update(part);
        hash.update([0]);
    }
    // The derived form of options changes with their meaning only. A digest that changes too often costs nothing but a remark.
    for task in tasks {
        hash.update(format!(
            "{}|{:?}|{}|{:?}|{:?}\0",
            task.name, task.entity, task.query, task.population, task.policy
        ));
    }
    hash.update(format!("{:?}|{budgets:?}", graph.shared().options));
    hex(&hash.finalize())
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
    hex(&hash.finalize())
}
