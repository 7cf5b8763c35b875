//! A rehearsal: the engine's machine over files, for the alerts that a policy would have sent.
//!
//! Rows come in order of known time. Every hour is a tick, closed by an epoch of its own, so alerts
//! are those of a deployment whose `engine.tick` is one hour. Nothing is written anywhere.
//!
//! Decisions: docs/decisions/0052-alerts-are-a-fold-over-ticks.md,
//! docs/decisions/0053-alerts-are-a-fold.md

mod rises;

use std::collections::BTreeMap;
use std::sync::Arc;

use leadpulse_engine::ports::{
    CommittedEpoch, InputPartition, NextOffset, PortError, RecordBatch, SealedEpoch, Sink,
};
use leadpulse_engine::{
    Alert, AsOfRule, Cut, CutTicks, Decoded, ErasureKey, Machine, MachineParts, OutputEncoders,
    Readings, TickClosing, WorkBudget,
};
use leadpulse_features::{Scorer, assignee};
use leadpulse_graph::{Graph, Tracking};
use leadpulse_history::{Files, Replay};
use leadpulse_kafka::SchemaPort;
use leadpulse_policy::{Caps, WorkLists};
use leadpulse_project::Project;
use leadpulse_registry::FolderStore;
use leadpulse_schema::RowBatch;
use leadpulse_schema::units::at_or_after;

use crate::deployment::scored_tasks;
use crate::error::DeployError;
use crate::loaded::Loaded;

use rises::RiseWatch;
pub use rises::{REVERSED_WITHIN_MS, Rise};

/// Distance of two ticks, milliseconds.
const TICK_MS: i64 = 3_600_000;
/// Offsets of one epoch: more than any file has rows, so that its position covers all of them.
const EPOCH_OFFSETS: i64 = 1 << 40;

/// The job of a rehearsal.
pub struct Rehearsal<'a> {
    /// The configuration whose policies are asked.
    pub loaded: &'a Loaded,
    /// Catalog and tasks.
    pub project: &'a Project,
    pub files: &'a Files,
    pub scorer: Arc<dyn Scorer>,
    /// The most alerts that a person gets on a day.
    pub caps: Caps,
    /// Alerts fire after the tick of this moment, milliseconds.
    pub live_from_ms: i64,
    /// Rows known later than this moment are not read, milliseconds.
    pub until_ms: i64,
}

/// The findings of a rehearsal.
#[derive(Debug, Default)]
pub struct Rehearsed {
    /// The alerts in the order in which they fired, digests and ends of alerts included.
    pub alerts: Vec<Alert>,
    /// Crossings that fired no alert, by (type, reason).
    pub held: BTreeMap<(&'static str, &'static str), u64>,
    /// Rises of scores over `threshold_up`, alerted or not, in order of time.
    pub rises: Vec<Rise>,
    /// Owner → accounts at the end; accounts of nobody are under the empty name.
    pub owners: BTreeMap<String, usize>,
    /// The tick after which alerts fire, milliseconds.
    pub live_from_ms: i64,
    /// The last tick, milliseconds.
    pub until_ms: i64,
}

impl Rehearsal<'_> {
    /// Plays the files to the machine. `progress` is told the rows read so far.
    ///
    /// # Errors
    /// A policy that is absent or does not fit, a bundle that does not fit, a file that cannot be
    /// read on.
    pub fn run(&self, progress: &mut dyn FnMut(u64)) -> Result<Rehearsed, DeployError> {
        let mut stage = Stage::set(self)?;
        stage.play(self.until_ms, progress)?;
        Ok(stage.found)
    }

    fn machine(&self) -> Result<Machine, DeployError> {
        let config = &self.loaded.config;
        // The outputs go nowhere: their schemas need no registry.
        let schemas = SchemaPort::new(FolderStore::load(&self.loaded.schemas_dir())?);
        Ok(Machine::new(MachineParts {
            worker: "rehearsal".to_owned(),
            fingerprint: self.project.catalog.fingerprint(),
            graph: self.project.graph(Tracking::On),
            tasks: scored_tasks(self.loaded, self.project, &*self.scorer)?,
            scorer: self.scorer.clone(),
            encoders: Arc::new(OutputEncoders::new(&schemas)?),
            partitions: vec![InputPartition {
                topic: "files".to_owned(),
                partition: 0,
                // No table is waited for, as in training.
                tables: Vec::new(),
            }],
            start: vec![NextOffset(0)],
            owner: String::new(),
            soft_budget: config.engine.soft_budget,
            tick_ms: TICK_MS,
            explain_budget: config.engine.explain_budget,
            explain_top: 0,
            current_scores: false,
            caps: self.caps.clone(),
            work_lists: WorkLists::none(),
            erasure_key: ErasureKey::default(),
            exports_spans: false,
            release: None,
        })?)
    }
}

/// A machine with the rows that it is given.
struct Stage {
    machine: Machine,
    replay: Replay,
    rises: RiseWatch,
    found: Rehearsed,
    largest_epoch: usize,
    position: i64,
    rows: u64,
}

impl Stage {
    fn set(job: &Rehearsal<'_>) -> Result<Self, DeployError> {
        let mut machine = job.machine()?;
        let live_from_ms = at_or_after(job.live_from_ms, TICK_MS);
        machine.live_from(live_from_ms);
        Ok(Self {
            machine,
            replay: job.files.replay()?,
            rises: RiseWatch::new(&job.loaded.config.tasks, live_from_ms),
            found: Rehearsed {
                live_from_ms,
                ..Rehearsed::default()
            },
            largest_epoch: job.loaded.config.engine.max_records,
            position: 0,
            rows: 0,
        })
    }

    /// Takes everything known by a moment, tick by tick.
    fn play(&mut self, until_ms: i64, progress: &mut dyn FnMut(u64)) -> Result<(), DeployError> {
        let begin_ms = self.machine.first_tick_ms(TICK_MS).unwrap_or(i64::MIN);
        // Before the first row there is nothing to look at.
        let first_row_ms = self.replay.peek_ms().unwrap_or(until_ms);
        let mut tick_ms = begin_ms.max(at_or_after(first_row_ms.max(0), TICK_MS));
        while tick_ms <= until_ms {
            self.pass(tick_ms)?;
            progress(self.rows);
            self.found.until_ms = tick_ms;
            tick_ms += TICK_MS;
        }
        self.found.rises = self.rises.take(self.found.until_ms);
        self.found.owners = owners(self.machine.graph());
        Ok(())
    }

    /// Applies the rows of a tick, and closes it.
    fn pass(&mut self, tick_ms: i64) -> Result<(), DeployError> {
        loop {
            let mut rows = RowBatch::new();
            let read = self.replay.read(tick_ms, self.largest_epoch, &mut rows)?;
            self.rows += read as u64;
            let is_over = read < self.largest_epoch;
            self.step(tick_ms, rows, is_over);
            if is_over {
                return Ok(());
            }
        }
    }

    /// One epoch of rows of a tick. The last one closes it.
    fn step(&mut self, tick_ms: i64, rows: RowBatch, is_over: bool) {
        let read = rows.len() as i64;
        let (records, decoded) = self.decoded(rows);
        self.position += EPOCH_OFFSETS;
        let closing = TickClosing {
            tick: tick_ms,
            positions: vec![self.position],
        };
        let cut = Cut {
            positions: vec![NextOffset(self.position)],
            read: vec![read],
            moment: AsOfRule::Newest,
            clock: Readings::default(),
            closing: false,
            skipped: Vec::new(),
            ticks: CutTicks {
                live_from_ms: Some(self.found.live_from_ms),
                closings: is_over.then_some(closing).into_iter().collect(),
                open_ms: (!is_over).then_some(tick_ms),
                before_ms: tick_ms + TICK_MS,
                ..CutTicks::default()
            },
            work: WorkBudget::NONE,
        };
        let sealed = self.machine.step(&records, decoded, cut);
        let epoch = sealed
            .commit(&mut Nowhere)
            .expect("nothing can fail where nothing is written");
        if tick_ms > self.found.live_from_ms {
            for ((_, alert_type, reason), count) in &epoch.tally.suppressed {
                let key = (*alert_type, *reason);
                *self.found.held.entry(key).or_default() += count;
            }
        }
        let views = epoch.into_views();
        for score in views.scores {
            self.rises.observe(&score.record);
        }
        let alerts = views.alerts.into_iter();
        self.found.alerts.extend(alerts.map(|alert| alert.record));
    }

    /// Rows as if they had been decoded, each with a record that stands for it in dead letters.
    fn decoded(&self, rows: RowBatch) -> (RecordBatch, Decoded) {
        let mut records = RecordBatch::default();
        for (index, row) in rows.iter().enumerate() {
            let offset = self.position + index as i64;
            let key = Some(row.key().as_bytes());
            records.push(0, offset, row.known_ms(), key, None, []);
        }
        let decoded = Decoded {
            records: (0..rows.len() as u32).collect(),
            rows,
            ..Decoded::default()
        };
        (records, decoded)
    }
}

/// Accounts by the person whom their alerts are for.
fn owners(graph: &Graph) -> BTreeMap<String, usize> {
    let root = graph.catalog().root().id;
    let mut owners = BTreeMap::new();
    for (_, cell) in graph.cells() {
        let account = cell.anchor_node().filter(|node| node.table == root);
        let Some(account) = account.filter(|node| graph.exists(node)) else {
            continue;
        };
        let owner = assignee(graph, cell, account.entity).unwrap_or_default();
        *owners.entry(owner.to_string()).or_default() += 1;
    }
    owners
}

/// A sink that takes every epoch and keeps none.
struct Nowhere;

impl Sink for Nowhere {
    fn owner(&self) -> &str {
        ""
    }
    fn take_over(&mut self) -> Result<Option<CommittedEpoch>, PortError> {
        Ok(None)
    }
    fn arrange(&mut self, _: &[InputPartition]) {}
    fn commit(&mut self, _: &Arc<SealedEpoch>) -> Result<(), PortError> {
        Ok(())
    }
}
