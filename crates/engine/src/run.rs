//! The loop of one worker: take over, restore along the script, then epoch after epoch.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use leadpulse_graph::UnreadableNodes;
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Catalog, TableId, TopicDecoder};

use crate::clock::GuardedClock;
use crate::data_fit::DataFit;
use crate::decode::Decoders;
use crate::encoders::OutputEncoders;
use crate::epoch::{Committed, DecidedRange, Epoch, EpochRecord, sum};
use crate::explain::ExplainQueue;
use crate::machine::Machine;
use crate::metrics::Metrics;
use crate::options::EngineOptions;
use crate::ports::{
    Attendant, Clock, Heartbeats, InputPartition, NextOffset, OutputLog, PortCause, PortError,
    SchemaStore, Sink, Source, StateStore,
};
use crate::questions::QuestionQueue;
use crate::read_model::{Phase, ReadModel};
use crate::standby::StandbyOptions;

use follow::{FollowerLag, Standby};
use inbox::Inbox;
use ticks::Ticks;

pub(crate) mod audit;
mod commit;
mod follow;
mod follow_outputs;
mod gather;
mod gauge;
mod growth;
mod inbox;
mod notices;
mod readable;
mod restore;
mod silence;
mod store_whole;
mod stored;
mod swaps;
mod tail;
mod ticks;
mod work;

/// Wait of a poll while nothing arrives. The loop beats at least this often.
const IDLE_WAIT: Duration = Duration::from_millis(50);
/// Pause before a port is tried again.
const RETRY_WAIT: Duration = Duration::from_millis(500);
/// Explanations answered between two epochs, at most: each takes milliseconds, and epochs come
/// first.
const ANSWERS_BETWEEN_EPOCHS: usize = 4;

/// The end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// At the stop signal.
    Stopped,
    /// Once the topics, as they were at the start of the run, are processed and the closing tick is
    /// committed.
    End,
}

/// Counts of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunSummary {
    /// Epochs of other owners whose rows were applied, on start or as a follower.
    pub replayed_epochs: u64,
    /// Epochs committed by this run.
    pub epochs: u64,
    /// Records in those epochs.
    pub records: u64,
    /// Records applied to the graph.
    pub accepted: u64,
    /// Events recognised as duplicates, and repeated deletions.
    pub duplicate: u64,
    /// Records that changed nothing: deletions that found no entity, stale versions.
    pub unchanged: u64,
    /// Dead letters, late and future records included.
    pub dead_lettered: u64,
    pub scores: u64,
    pub alerts: u64,
}

impl RunSummary {
    fn count(&mut self, epoch: &Epoch<Committed>) {
        let record = &epoch.record;
        self.epochs += 1;
        self.records += record.records();
        self.accepted += record.accepted as u64;
        self.duplicate += record.duplicate as u64;
        self.unchanged += sum(&record.unchanged) as u64;
        self.dead_lettered += sum(&record.dead_lettered) as u64;
        self.scores += record.scores as u64;
        self.alerts += record.alerts as u64;
    }
}

/// Reason why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A port failed for good.
    #[error(transparent)]
    Port(#[from] PortError),
}

fn warn_of_fit(report: &[String]) {
    for remark in report {
        tracing::warn!("{remark}");
    }
}

/// The end of a run whose state could not be read back.
fn unreadable(payload: Box<dyn Any + Send>) -> Result<(), RunError> {
    match payload.downcast::<UnreadableNodes>() {
        Ok(fault) => {
            let told = format!(
                "{fault}. The last epoch is committed: start again once the disk is well; or delete the folder of store.dir, and all rows are applied again"
            );
            Err(PortError::fatal(PortCause::Local, told).into())
        }
        Err(other) => resume_unwind(other),
    }
}

/// A damaged place that an operator has decided to leave out, up to the next offset that can be
/// read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    pub topic: String,
    /// Partition number within the topic.
    pub partition: i32,
    /// First offset that cannot be read.
    pub offset: i64,
}

/// The ports of a worker.
pub struct Ports {
    /// Records of the input topics.
    pub source: Box<dyn Source>,
    /// Transactions of outputs and positions.
    pub sink: Box<dyn Sink>,
    /// Committed outputs, read back at a start.
    pub outputs: Box<dyn OutputLog>,
    /// Lookup of the schemas that records were written with.
    pub schemas: Arc<dyn SchemaStore>,
    /// Wall clock, monotonic clock and waiting.
    pub clock: Arc<dyn Clock>,
    /// The state of this worker outside of the process; `None` for a worker that applies all rows
    /// at a start.
    pub store: Option<Box<dyn StateStore>>,
}

/// The engine's attendant: reports long waits to the read model, and ends them at the stop signal.
#[derive(Clone, Debug)]
pub struct Supervisor {
    read_model: Arc<ReadModel>,
    stop: Arc<AtomicBool>,
}

impl Supervisor {
    /// Builds a supervisor that reports to `read_model` and ends waits once `stop` is set.
    pub fn new(read_model: &Arc<ReadModel>, stop: &Arc<AtomicBool>) -> Self {
        Self {
            read_model: read_model.clone(),
            stop: stop.clone(),
        }
    }
}

impl Attendant for Supervisor {
    fn beat(&self) {
        self.read_model.beat();
    }
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
    fn report(&self, matter: &'static str, condition: Option<String>) {
        self.read_model.set_condition(matter, condition, true);
    }
}

/// The part of waiting partitions in the question whether everything is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// Partitions that wait for a schema count: not everything is read.
    Counts,
    /// Partitions that wait for a schema do not count: the others go on without them.
    Excepted,
}

/// One worker: a machine, its ports, and the memory of the loop.
pub struct Engine {
    options: EngineOptions,
    ports: Ports,
    machine: Machine,
    decoders: Decoders,
    data_fit: DataFit,
    encoders: Arc<OutputEncoders>,
    catalog: Arc<Catalog>,
    /// Configured topics, and the tables of each.
    topics: Vec<(String, Vec<TableId>)>,
    read_model: Arc<ReadModel>,
    attendant: AttendedClock,
    metrics: Metrics,
    stop: Arc<AtomicBool>,
    requests: Option<ExplainQueue>,
    questions: Option<QuestionQueue>,
    summary: RunSummary,
    clock: GuardedClock,
    /// Records of partitions that wait for a writer schema.
    held: Inbox,
    /// By partition: the missing writer schema, for people; `None` unless waiting.
    blocked: Vec<Option<String>>,
    /// By partition: true while fetching is paused because of held records.
    paused: Vec<bool>,
    growth: Option<growth::Growth>,
    /// The partitions that the topics had at the start.
    found_at_start: Vec<InputPartition>,
    skips: Vec<Skip>,
    audited: audit::AuditFindings,
    /// Ranges that were left out since the last epoch.
    skipped: Vec<DecidedRange>,
    ticks: Ticks,
    costs: work::WorkCosts,
    swaps: swaps::Swaps,
    /// The epoch that is sealed and not known to be committed.
    in_flight: Option<commit::InFlight>,
    /// Number and `as_of` of the newest committed epoch.
    committed: (u64, Option<AsOf>),
    /// Records of all epochs up to the newest sealed one, replayed ones included.
    taken: u64,
    gauges: gauge::Gauges,
    notices: notices::NoticeLog,
    stored: stored::Stored,
    /// `None` for a process that takes over at its start.
    standby: Option<Standby>,
    /// Distance from what is committed, while this process follows.
    follower_lag: FollowerLag,
}

impl Engine {
    /// Builds a worker before its start. `options` are validated.
    pub fn new(
        options: EngineOptions,
        mut ports: Ports,
        machine: Machine,
        encoders: Arc<OutputEncoders>,
        read_model: Arc<ReadModel>,
        metrics: Metrics,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let catalog = machine.graph().catalog().clone();
        let mut topics: Vec<(String, Vec<TableId>)> = ports
            .source
            .partitions()
            .iter()
            .map(|p| (p.topic.clone(), p.tables.clone()))
            .collect();
        topics.dedup();
        let store = ports.store.take();
        let engine = Self {
            ticks: Ticks::new(options.tick_ms as i64),
            clock: GuardedClock::new(ports.clock.clone()),
            attendant: AttendedClock {
                supervisor: Supervisor::new(&read_model, &stop),
                clock: ports.clock.clone(),
            },
            options,
            ports,
            machine,
            decoders: Decoders::default(),
            data_fit: DataFit::new(&catalog),
            encoders,
            catalog,
            topics,
            read_model,
            metrics,
            stop,
            requests: None,
            questions: None,
            summary: RunSummary::default(),
            held: Inbox::default(),
            blocked: Vec::new(),
            paused: Vec::new(),
            growth: None,
            found_at_start: Vec::new(),
            skips: Vec::new(),
            audited: audit::AuditFindings::default(),
            skipped: Vec::new(),
            costs: work::WorkCosts::default(),
            swaps: swaps::Swaps::default(),
            in_flight: None,
            committed: (0, None),
            taken: 0,
            gauges: gauge::Gauges::default(),
            notices: notices::NoticeLog::default(),
            stored: stored::Stored::new(store),
            standby: None,
            follower_lag: FollowerLag::default(),
        };
        engine.name_version();
        engine
    }

    /// Logs once how the references of the rows fit, when enough were read.
    fn tell_fit(&mut self, caught_up: bool) {
        let now = self.elapsed();
        let (catalog, metrics) = (&self.catalog, &self.metrics);
        let report = self.data_fit.report(catalog, caught_up, now, metrics);
        warn_of_fit(&report);
    }

    fn tell_fit_at_the_end(&mut self) {
        let report = self
            .data_fit
            .report_at_the_end(&self.catalog, &self.metrics);
        warn_of_fit(&report);
    }

    /// Answers requests for explanations between epochs.
    #[must_use]
    pub fn with_requests(mut self, requests: ExplainQueue) -> Self {
        self.requests = Some(requests);
        self
    }

    /// Answers questions to the machine between epochs.
    #[must_use]
    pub fn with_questions(mut self, questions: QuestionQueue) -> Self {
        self.questions = Some(questions);
        self
    }

    /// Reads these topics by the shapes of their sources. Other topics are plain Avro.
    #[must_use]
    pub fn with_topics(mut self, topics: Vec<(String, TopicDecoder)>) -> Self {
        self.decoders = self.decoders.with_topics(topics);
        self
    }

    /// Leaves out these places where they cannot be read. The decision is recorded with the epoch.
    #[must_use]
    pub fn with_skips(mut self, skips: Vec<Skip>) -> Self {
        self.skips = skips;
        self
    }

    /// Follows the owner of the outputs first, and takes over when it is silent or has left.
    /// `options` are validated. Without this a run takes over at its start.
    #[must_use]
    pub fn with_standby(
        mut self,
        options: StandbyOptions,
        heartbeats: Box<dyn Heartbeats>,
    ) -> Self {
        self.standby = Some(Standby::new(options, heartbeats));
        self
    }

    /// Takes over from the process before, restores the committed state, and processes epochs until
    /// the stop signal or the end.
    ///
    /// # Errors
    /// A port that failed for good. Nothing is half-committed then; the next start restores.
    pub fn run(mut self, until: Until) -> Result<RunSummary, RunError> {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.run_inner(until)));
        let outcome = match outcome.unwrap_or_else(unreadable) {
            // A wait that ended because the process was told to stop is no failure.
            Err(RunError::Port(PortError::Interrupted(what))) if self.stopped() => {
                tracing::info!(%what, "stopped");
                Ok(())
            }
            outcome => outcome,
        };
        self.notices.end();
        self.end_storing();
        if let (Ok(()), Some(standby)) = (&outcome, &mut self.standby) {
            standby.leave();
        }
        let status = self.status(
            Phase::Stopped,
            outcome.as_ref().err().map(ToString::to_string),
        );
        self.read_model.set_status(status);
        outcome.map(|()| self.summary)
    }

    fn run_inner(&mut self, until: Until) -> Result<(), RunError> {
        let last = self.begin()?;
        if self.stopped() {
            return Ok(());
        }
        self.metrics.role(true);
        self.tell_releases();
        self.forget_held();
        if let Some(at_ms) = last
            .as_ref()
            .and_then(|record| record.clock.bound_at.max(record.clock.live_at))
        {
            self.clock.not_before(at_ms);
        }
        let ends = self.attendant.retry(|| self.ports.source.ends())?;
        let ends: Vec<NextOffset> = ends.into_iter().map(|end| end.stable).collect();
        let closed = last.is_some_and(|record| record.closing);
        self.read_model.set_status(self.status(Phase::Live, None));
        match until {
            Until::Stopped => self.live(&ends, None, closed),
            Until::End => self.live(&ends, Some(&ends), closed),
        }
    }

    /// Comes to own the outputs, with the state of the last committed epoch. Returns that epoch's
    /// record; `None` before the first epoch and at the stop signal.
    fn begin(&mut self) -> Result<Option<EpochRecord>, RunError> {
        let Some(mut standby) = self.standby.take() else {
            return self.restore();
        };
        let last = self.follow_and_take_over(&mut standby);
        self.standby = Some(standby);
        last
    }

    /// Processes epoch after epoch. `targets` are the ends of the topics at the start; nothing is
    /// taken
    /// beyond `ends`.
    fn live(
        &mut self,
        targets: &[NextOffset],
        ends: Option<&[NextOffset]>,
        mut closed: bool,
    ) -> Result<(), RunError> {
        let mut ends = ends.map(<[NextOffset]>::to_vec);
        let mut caught_up = false;
        let floor = Duration::from_millis(self.options.epoch_floor_ms);
        let mut cut_at = self.elapsed();
        loop {
            self.read_model.beat();
            if self.stopped() {
                return self.finish_commit();
            }
            self.ports.sink.check()?;
            self.look_at_commit()?;
            if self.is_asked() {
                self.finish_commit()?;
                self.answer_requests(true);
            }
            self.tell_fit(caught_up);
            self.store_whole_if_due()?;
            // A tick is closed under the version that began with it.
            if !self.machine.is_half_closed() {
                self.swap_if_asked();
            }
            if ends.is_none() {
                self.grow()?;
            }
            self.pass_damage()?;
            self.release_held();
            let clock = self.readings(caught_up, ends.is_some(), None);
            self.begin_ticks(clock, caught_up);
            let place = self.ticks.place();
            let gathered = self.gather(cut_at, caught_up, ends.as_deref())?;
            let is_at_rest = !self.machine.is_half_closed() || self.machine.closing_ms().is_some();
            if gathered.taken.is_empty()
                && is_at_rest
                && ends
                    .as_ref()
                    .is_some_and(|ends| self.has_reached(ends, Waiting::Counts))
            {
                if let Some(further) = self.grow_at_the_end()? {
                    ends = Some(further);
                    continue;
                }
                self.tell_fit_at_the_end();
                self.finish_commit()?;
                if !closed {
                    self.close()?;
                }
                return Ok(());
            }
            // The records that complete the backlog are history too.
            self.gauges.is_caught_up = caught_up;
            caught_up = caught_up || self.has_reached(targets, Waiting::Excepted);
            let next_ms = self.ticks.next_ms();
            let live_ms = gathered.clock.live_ms.map(|ms| ms.min(next_ms - 1));
            let wants_epoch = self.machine.wants_tick(live_ms) || !self.skipped.is_empty();
            if gathered.taken.is_empty() && !wants_epoch {
                self.gauge()?;
                continue;
            }
            let started = self.elapsed();
            let newest_record_ms = gathered
                .taken
                .records
                .iter()
                .map(|r| r.timestamp_ms())
                .max();
            self.gauges.note_taken(&gathered.taken.records);
            let decoded = self.decode(&gathered.taken.records)?;
            self.data_fit.observe(&self.catalog, &decoded.rows);
            let closed_ms = gathered.taken.closings.last().map(|closing| closing.tick);
            // Rows of the tick may be committed already.
            let is_due = closed_ms.is_some_and(|tick_ms| {
                self.machine.ticks().open_ms.is_some() || self.machine.next_due_ms() <= tick_ms
            });
            if decoded.is_empty() && !is_due && !wants_epoch {
                continue; // every record waits for a schema
            }
            closed = closed && decoded.is_empty();
            let blocked = decoded.blocked.clone();
            let (batch, cut) = self.cut(gathered, &decoded, ends.as_deref())?;
            self.note_holdings();
            let offered = (cut.positions.clone(), cut.skipped.clone());
            let clock = &self.ports.clock;
            let elapsed = || clock.elapsed();
            let sealed = self.machine.step_timed(&batch, decoded, cut, &elapsed);
            self.costs.note(&sealed.tally);
            if !batch.is_empty() {
                let is_short = sealed.record.positions() != offered.0;
                let taken = sealed.record.records() as usize;
                self.costs.note_taken(taken, is_short);
            }
            if sealed.record.positions() != offered.0 || self.machine.is_half_closed() {
                self.give_back(&batch, &blocked, offered.1, &sealed.record, place);
            }
            self.begin_commit(sealed, started, newest_record_ms)?;
            // Epochs follow each other at the floor; under load what arrives while one is
            // processed makes the next one longer:
            // more events per scored cell before anything waits.
            cut_at = started + floor;
            self.gauge()?;
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Time since an arbitrary start, by the monotonic clock of the port.
    fn elapsed(&self) -> Duration {
        self.ports.clock.elapsed()
    }

    fn seconds_since(&self, started: Duration) -> f64 {
        self.elapsed().saturating_sub(started).as_secs_f64()
    }
}

/// The supervisor with the clock that waits are measured by.
struct AttendedClock {
    supervisor: Supervisor,
    clock: Arc<dyn Clock>,
}

impl AttendedClock {
    /// See [`retry`].
    fn retry<T>(&self, call: impl FnMut() -> Result<T, PortError>) -> Result<T, PortError> {
        retry(self.clock.as_ref(), &self.supervisor, call)
    }
    fn wait(&self, duration: Duration) {
        self.clock.wait(duration);
    }
}

impl Attendant for AttendedClock {
    fn beat(&self) {
        self.supervisor.beat();
    }
    fn is_stopped(&self) -> bool {
        self.supervisor.is_stopped()
    }
    fn report(&self, matter: &'static str, condition: Option<String>) {
        self.supervisor.report(matter, condition);
    }
}

/// Calls a port until it succeeds or fails for good. A failure that may go away by itself is
/// reported, then waited for.
///
/// # Errors
/// The port's, unless retriable; [`PortError::Interrupted`] once the attendant ends the wait.
pub fn retry<T>(
    clock: &dyn Clock,
    attendant: &dyn Attendant,
    mut call: impl FnMut() -> Result<T, PortError>,
) -> Result<T, PortError> {
    let mut failed = false;
    loop {
        match call() {
            Err(PortError::Retriable(message)) => {
                if attendant.is_stopped() {
                    return Err(PortError::Interrupted(message));
                }
                tracing::warn!(%message, "trying again");
                attendant.report("port", Some(message.to_string()));
                attendant.beat();
                clock.wait(RETRY_WAIT);
                failed = true;
            }
            outcome => {
                if failed {
                    attendant.report("port", None);
                }
                return outcome;
            }
        }
    }
}
