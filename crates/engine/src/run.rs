//! The loop of one worker: take over, restore along the script, then epoch after epoch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use leadpulse_schema::{Catalog, TableId};

use crate::clock::GuardedClock;
use crate::decode::{Decoded, Decoders, Verdicts};
use crate::epoch::{Committed, DecidedRange, Epoch, EpochViews, Sealed};
use crate::explain::{ExplainQueue, ExplainRefusal};
use crate::machine::{Cut, Machine, Moment, Readings};
use crate::metrics::Metrics;
use crate::options::{ClockMode, EngineOptions};
use crate::output::OutputEncoders;
use crate::ports::{
    Attendant, Clock, InputPartition, LogEnd, NextOffset, OutputLog, PollLimit, PortError,
    RecordBatch, SchemaStore, Sink, Source,
};
use crate::read_model::{EngineStatus, Phase, ReadModel};

use inbox::Inbox;

pub(crate) mod audit;
mod growth;
mod inbox;
mod restore;

/// How long a poll waits while nothing happens; the loop beats at least this often.
const IDLE_WAIT: Duration = Duration::from_millis(50);
/// How long to wait before a port is tried again.
const RETRY_WAIT: Duration = Duration::from_millis(500);
/// How often lag and sizes are measured.
const GAUGE_EVERY: Duration = Duration::from_secs(5);
/// Without an answer of the brokers for this long, the process is not ready.
const BROKERS_PATIENCE: Duration = Duration::from_secs(10);
/// A transaction of a producer may be open this long before it is reported that records wait behind it.
const OPEN_TRANSACTION_PATIENCE: Duration = Duration::from_secs(10);

/// Explanations answered between two epochs, at most: each takes milliseconds, and epochs come first.
const ANSWERS_BETWEEN_EPOCHS: usize = 4;

/// When a run ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When it is told to stop.
    Stopped,
    /// When the topics, as they were at the start of the run, are processed and the closing tick is committed.
    End,
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Epochs whose rows were applied again on start.
    pub replayed_epochs: u64,
    /// Epochs committed by this run.
    pub epochs: u64,
    /// Records in them.
    pub records: u64,
    /// Records applied to the graph.
    pub accepted: u64,
    /// Events recognised as duplicates.
    pub duplicate: u64,
    /// Dead letters, late and future records included.
    pub dead_lettered: u64,
    /// Score records.
    pub scores: u64,
    /// Alert records.
    pub alerts: u64,
}

impl Summary {
    fn count(&mut self, epoch: &Epoch<Committed>) {
        let record = &epoch.record;
        self.epochs += 1;
        self.records += record.records();
        self.accepted += record.accepted as u64;
        self.duplicate += record.duplicate as u64;
        let dead = record.dead_lettered.iter().map(|r| r.count as u64);
        self.dead_lettered += dead.sum::<u64>();
        self.scores += record.scores as u64;
        self.alerts += record.alerts as u64;
    }
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A port failed for good.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// A damaged place that an operator has decided to leave out, up to the next offset that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// First offset that cannot be read.
    pub offset: i64,
}

/// Everything a worker talks to.
pub struct Ports {
    /// Input topics.
    pub source: Box<dyn Source>,
    /// Transactions.
    pub sink: Box<dyn Sink>,
    /// Committed outputs.
    pub outputs: Box<dyn OutputLog>,
    /// Writer schemas.
    pub schemas: Arc<dyn SchemaStore>,
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
}

/// Reports long waits to the read model, and ends them when the process is told to stop.
#[derive(Clone, Debug)]
pub struct Supervisor {
    read_model: Arc<ReadModel>,
    stop: Arc<AtomicBool>,
}

impl Supervisor {
    /// Reports to `read_model`; stops once `stop` is set.
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

/// Whether a partition that waits for a schema counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// It does: not everything is read.
    Counts,
    /// It does not: the others go on without it.
    Excepted,
}

/// A worker.
pub struct Engine {
    options: EngineOptions,
    ports: Ports,
    machine: Machine,
    decoders: Decoders,
    encoders: Arc<OutputEncoders>,
    catalog: Arc<Catalog>,
    /// The topics that are configured, and the tables they are read as.
    topics: Vec<(String, TableId)>,
    read_model: Arc<ReadModel>,
    attendant: Supervisor,
    metrics: Metrics,
    stop: Arc<AtomicBool>,
    requests: Option<ExplainQueue>,
    summary: Summary,
    clock: GuardedClock,
    /// Records of partitions that wait for a writer schema.
    held: Inbox,
    /// Why a partition waits for a writer schema.
    blocked: Vec<Option<String>>,
    /// Partitions whose fetching was paused for records that are held.
    paused: Vec<bool>,
    growth: Option<growth::Growth>,
    /// The partitions that the topics had at the start.
    found_at_start: Vec<InputPartition>,
    skips: Vec<Skip>,
    audited: audit::AuditFindings,
    /// Ranges that were left out since the last epoch.
    skipped: Vec<DecidedRange>,
    /// Number and `as_of` of the newest committed epoch.
    committed: (u64, Option<i64>),
    /// Records taken since the first epoch, replayed ones included.
    taken: u64,
    lag_records: u64,
    gauged: Option<Instant>,
    /// When the ends of the topics were known last.
    lag_known: Option<Instant>,
    /// Stable ends that stood before the high watermark when last looked at, and since when they have.
    waiting_behind: BTreeMap<usize, (NextOffset, Instant)>,
    /// When the graph is counted next; `None` before the first time.
    count_again: Option<Instant>,
}

impl Engine {
    /// A worker before its start. `options` are validated.
    pub fn new(
        options: EngineOptions,
        ports: Ports,
        machine: Machine,
        encoders: Arc<OutputEncoders>,
        read_model: Arc<ReadModel>,
        metrics: Metrics,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let catalog = machine.graph().catalog().clone();
        let mut topics: Vec<(String, TableId)> = ports
            .source
            .partitions()
            .iter()
            .map(|p| (p.topic.clone(), p.table))
            .collect();
        topics.dedup();
        Self {
            clock: GuardedClock::new(ports.clock.clone()),
            attendant: Supervisor::new(&read_model, &stop),
            options,
            ports,
            machine,
            decoders: Decoders::default(),
            encoders,
            catalog,
            topics,
            read_model,
            metrics,
            stop,
            requests: None,
            summary: Summary::default(),
            held: Inbox::default(),
            blocked: Vec::new(),
            paused: Vec::new(),
            growth: None,
            found_at_start: Vec::new(),
            skips: Vec::new(),
            audited: audit::AuditFindings::default(),
            skipped: Vec::new(),
            committed: (0, None),
            taken: 0,
            lag_records: 0,
            gauged: None,
            lag_known: None,
            waiting_behind: BTreeMap::new(),
            count_again: None,
        }
    }

    /// Answers requests for explanations between epochs.
    #[must_use]
    pub fn with_requests(mut self, requests: ExplainQueue) -> Self {
        self.requests = Some(requests);
        self
    }

    /// Leaves out these places where they cannot be read. The decision is recorded with the epoch.
    #[must_use]
    pub fn with_skips(mut self, skips: Vec<Skip>) -> Self {
        self.skips = skips;
        self
    }

    /// Takes over from whoever ran before, restores what is committed, and processes epochs until told to stop or the end is reached.
    pub fn run(mut self, until: Until) -> Result<Summary, RunError> {
        let outcome = match self.run_inner(until) {
            // A wait that ended because the process was told to stop is no failure.
            Err(RunError::Port(PortError::Interrupted(what))) if self.stopped() => {
                tracing::info!(%what, "stopped");
                Ok(())
            }
            outcome => outcome,
        };
        let status = self.status(
            Phase::Stopped,
            outcome.as_ref().err().map(ToString::to_string),
        );
        self.read_model.set_status(status);
        outcome.map(|()| self.summary)
    }

    fn run_inner(&mut self, until: Until) -> Result<(), RunError> {
        let last = self.restore()?;
        if self.stopped() {
            return Ok(());
        }
        self.forget_held();
        if let Some(at_ms) = last
            .as_ref()
            .and_then(|record| record.clock.bound_at.max(record.clock.live_at))
        {
            self.clock.not_before(at_ms);
        }
        let ends = retry(&self.attendant, || self.ports.source.ends())?;
        let ends: Vec<NextOffset> = ends.into_iter().map(|end| end.stable).collect();
        let closed = last.is_some_and(|record| record.closing);
        self.read_model.set_status(self.status(Phase::Live, None));
        match until {
            Until::Stopped => self.live(&ends, None, closed),
            Until::End => self.live(&ends, Some(&ends), closed),
        }
    }

    /// Epoch after epoch. `targets`: where the topics ended when this began; `ends`: beyond which nothing is taken.
    fn live(
        &mut self,
        targets: &[NextOffset],
        ends: Option<&[NextOffset]>,
        mut closed: bool,
    ) -> Result<(), RunError> {
        let mut ends = ends.map(<[NextOffset]>::to_vec);
        let mut caught_up = false;
        let floor = Duration::from_millis(self.options.epoch_floor_ms);
        let mut cut_at = Instant::now();
        loop {
            self.read_model.beat();
            if self.stopped() {
                return Ok(());
            }
            self.ports.sink.check()?;
            self.answer_requests(true);
            if ends.is_none() {
                self.grow()?;
            }
            self.pass_damage()?;
            self.release_held()?;
            let batch = self.gather(cut_at, ends.as_deref())?;
            if batch.is_empty()
                && ends
                    .as_ref()
                    .is_some_and(|ends| self.has_reached(ends, Waiting::Counts))
            {
                if let Some(further) = self.grow_at_the_end()? {
                    ends = Some(further);
                    continue;
                }
                if !closed {
                    self.close()?;
                }
                return Ok(());
            }
            caught_up = caught_up || self.has_reached(targets, Waiting::Excepted);
            let newest_record_ms = batch.iter().map(|r| r.timestamp_ms()).max();
            let clock = self.readings(caught_up, ends.is_some(), newest_record_ms);
            let wants_epoch = self.machine.wants_tick(clock.live_ms) || !self.skipped.is_empty();
            if batch.is_empty() && !wants_epoch {
                self.gauge()?;
                continue;
            }
            let started = Instant::now();
            let decoded = self.decode(&batch)?;
            if decoded.records.is_empty() && decoded.dead.is_empty() && !wants_epoch {
                continue; // every record waits for a schema
            }
            closed = false;
            let cut = self.cut(&batch, &decoded, clock, ends.as_deref())?;
            let stepped = self.machine.step(&batch, decoded, cut);
            self.commit(stepped, started, newest_record_ms)?;
            // Epochs follow each other at the floor; under load what arrives while one is processed makes the next one longer:
            // more events per scored cell before anything waits.
            cut_at = started + floor;
            self.gauge()?;
        }
    }

    /// The clock for one epoch.
    fn readings(
        &mut self,
        caught_up: bool,
        to_the_end: bool,
        newest_record_ms: Option<i64>,
    ) -> Readings {
        if self.options.clock == ClockMode::Events || to_the_end {
            return Readings::default();
        }
        let reading = self.clock.read(newest_record_ms, caught_up);
        let refused = reading.refused_by_ms.map(|by_ms| {
            format!(
                "the system clock jumped by {} s; time goes on without it until records carry timestamps that agree with it",
                by_ms / 1000
            )
        });
        self.attendant.report("clock", refused);
        Readings {
            live_ms: caught_up.then_some(reading.now_ms),
            bound_ms: Some(reading.now_ms),
        }
    }

    /// Whether all partitions are read to these offsets, those that wait for a schema excepted or not. What separates a position from an end may be transaction markers
    /// only: the source has passed them.
    fn has_reached(&mut self, offsets: &[NextOffset], waiting: Waiting) -> bool {
        let Ok(read_to) = self.ports.source.read_to() else {
            return false;
        };
        (0..offsets.len().min(read_to.len())).all(|partition| {
            if waiting == Waiting::Excepted && self.blocked[partition].is_some() {
                return true;
            }
            let is_held = !self.held.is_empty(partition);
            let at = if is_held {
                self.machine.positions()[partition]
            } else {
                self.machine.positions()[partition].max(read_to[partition])
            };
            at >= offsets[partition]
        })
    }

    /// Decodes; a partition that needs a schema which cannot be had now is held back from that record on.
    fn decode(&mut self, batch: &RecordBatch) -> Result<Decoded, RunError> {
        let started = Instant::now();
        let partitions = self.ports.source.partitions();
        let decoded = self.decoders.decode(
            batch,
            partitions,
            &self.catalog,
            self.ports.schemas.as_ref(),
            Verdicts::Store,
        );
        self.metrics
            .stage("decode", started.elapsed().as_secs_f64());
        if decoded.blocked.is_empty() {
            return Ok(decoded);
        }
        let mut ahead = Inbox::new(self.blocked.len());
        batch
            .iter()
            .filter(|r| decoded.holds_back(r.partition(), r.offset()))
            .for_each(|record| ahead.push(record));
        for blocked in &decoded.blocked {
            self.metrics.waited_for_schema();
            let partition = blocked.partition as usize;
            tracing::warn!(
                topic = self.ports.source.partitions()[partition].topic,
                partition = self.ports.source.partitions()[partition].partition,
                offset = blocked.offset,
                reason = blocked.reason,
                "the partition waits for a writer schema; the others go on"
            );
            self.blocked[partition] = Some(blocked.reason.clone());
            self.held.put_before(partition, &mut ahead);
        }
        let waiting: Vec<u32> = decoded
            .blocked
            .iter()
            .map(|blocked| blocked.partition)
            .filter(|p| !self.paused[*p as usize])
            .collect();
        if !waiting.is_empty() {
            retry(&self.attendant, || self.ports.source.pause(&waiting))?;
            waiting
                .iter()
                .for_each(|partition| self.paused[*partition as usize] = true);
        }
        self.tell_blocked();
        Ok(decoded)
    }

    /// Lets partitions go on whose schema is known by now. They are fetched again once what is held of them was taken, so that it stays bounded.
    fn release_held(&mut self) -> Result<(), RunError> {
        let mut released = Vec::new();
        let emptied: Vec<u32> = (0..self.paused.len() as u32)
            .filter(|p| {
                self.paused[*p as usize]
                    && self.blocked[*p as usize].is_none()
                    && self.held.is_empty(*p as usize)
            })
            .collect();
        if !emptied.is_empty() {
            retry(&self.attendant, || self.ports.source.resume(&emptied))?;
            emptied
                .iter()
                .for_each(|partition| self.paused[*partition as usize] = false);
        }
        for partition in 0..self.blocked.len() {
            let Some(record) = self
                .held
                .front(partition)
                .filter(|_| self.blocked[partition].is_some())
            else {
                continue;
            };
            let input = &self.ports.source.partitions()[partition];
            if self
                .decoders
                .is_decidable(record, input, self.ports.schemas.as_ref())
            {
                released.push(partition as u32);
            }
        }
        if released.is_empty() {
            return Ok(());
        }
        released
            .iter()
            .for_each(|partition| self.blocked[*partition as usize] = None);
        self.tell_blocked();
        Ok(())
    }

    fn tell_blocked(&self) {
        let mut waiting = self
            .blocked
            .iter()
            .zip(self.ports.source.partitions())
            .filter_map(|(why, input)| Some((why.as_ref()?, input)));
        let first = waiting.next().map(|(why, input)| {
            format!(
                "{}/{} waits for a writer schema: {why}",
                input.topic, input.partition
            )
        });
        let more = waiting.count();
        let text = first.map(|first| {
            if more == 0 {
                first
            } else {
                format!("{first}; {more} more partitions wait")
            }
        });
        self.read_model.set_condition("schemas", text, false);
    }

    /// Drops what is held: a seek reads it again.
    fn forget_held(&mut self) {
        let partitions = self.ports.source.partitions().len();
        self.held = Inbox::new(partitions);
        self.blocked = vec![None; partitions];
        self.paused = vec![false; partitions];
        self.tell_blocked();
    }

    /// Polls until the epoch is long or full enough. Beyond `ends` nothing is taken.
    fn gather(
        &mut self,
        cut_at: Instant,
        ends: Option<&[NextOffset]>,
    ) -> Result<RecordBatch, RunError> {
        let mut batch = RecordBatch::default();
        let limit = (self.options.max_records, self.options.max_bytes);
        for partition in
            (0..self.blocked.len()).filter(|partition| self.blocked[*partition].is_none())
        {
            self.held.take(partition, i64::MAX, limit, &mut batch);
        }
        loop {
            let room = PollLimit {
                records: limit.0.saturating_sub(batch.len()),
                bytes: limit.1.saturating_sub(batch.bytes()),
            };
            let wait = if batch.is_empty() {
                IDLE_WAIT
            } else {
                cut_at.saturating_duration_since(Instant::now())
            };
            let before = batch.len();
            self.poll(&mut batch, room, wait)?;
            self.read_model.beat();
            self.hold_back(&mut batch, before);
            if let Some(ends) = ends {
                batch.retain(|r| r.offset() < ends[r.partition() as usize].0);
            }
            let full = batch.len() >= limit.0 || batch.bytes() >= limit.1;
            let due = batch.is_empty() || Instant::now() >= cut_at;
            // Reading to the end there is nothing to wait for once a poll comes back empty.
            if full || due || (ends.is_some() && batch.len() == before) {
                return Ok(batch);
            }
        }
    }

    /// Moves newly polled records of partitions that wait, or of which older records wait, behind those.
    fn hold_back(&mut self, batch: &mut RecordBatch, before: usize) {
        let (held, blocked) = (&self.held, &self.blocked);
        let waits = |partition: u32| {
            blocked[partition as usize].is_some() || !held.is_empty(partition as usize)
        };
        let waiting: Vec<bool> = (0..blocked.len() as u32).map(waits).collect();
        if !waiting.contains(&true) {
            return;
        }
        let mut later = RecordBatch::default();
        for index in before..batch.len() {
            let record = batch.record(index);
            if waiting[record.partition() as usize] {
                later.push_copy(record);
            }
        }
        let firsts: Vec<Option<i64>> = (0..blocked.len() as u32)
            .map(|p| {
                later
                    .iter()
                    .find(|r| r.partition() == p)
                    .map(|r| r.offset())
            })
            .collect();
        batch.retain(|record| {
            firsts[record.partition() as usize].is_none_or(|first| record.offset() < first)
        });
        later.iter().for_each(|record| self.held.push(record));
    }

    /// Polls once; a failure that may go away is an empty poll.
    fn poll(
        &mut self,
        batch: &mut RecordBatch,
        limit: PollLimit,
        wait: Duration,
    ) -> Result<(), PortError> {
        match self.ports.source.poll(batch, limit, wait) {
            Err(PortError::Retriable(message)) => {
                tracing::warn!(%message, "polling again");
                std::thread::sleep(RETRY_WAIT);
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// What decides the epoch besides its rows.
    fn cut(
        &mut self,
        batch: &RecordBatch,
        decoded: &Decoded,
        clock: Readings,
        ends: Option<&[NextOffset]>,
    ) -> Result<Cut, RunError> {
        let mut positions = self.machine.positions().to_vec();
        let mut read = vec![0; positions.len()];
        for record in batch
            .iter()
            .filter(|r| !decoded.holds_back(r.partition(), r.offset()))
        {
            let partition = record.partition() as usize;
            positions[partition] = positions[partition].max(NextOffset(record.offset() + 1));
            read[partition] += 1;
        }
        // Positions pass transaction markers and aborted records, so that a partition without further records has no lag.
        let passed = self.ports.source.read_to()?;
        for (partition, position) in positions.iter_mut().enumerate() {
            if self.held.is_empty(partition) && self.blocked[partition].is_none() {
                let to = ends.map_or(passed[partition], |ends| {
                    passed[partition].min(ends[partition])
                });
                *position = (*position).max(to);
            }
        }
        // A range belongs to the epoch whose interval passes it.
        let passed = |range: &mut DecidedRange| positions[range.partition as usize].0 >= range.end;
        let skipped = self.skipped.extract_if(.., passed).collect();
        Ok(Cut {
            positions,
            read,
            moment: Moment::Newest,
            clock,
            closing: false,
            skipped,
        })
    }

    /// Explains what was asked for, from committed state; or says that there is none yet.
    fn answer_requests(&self, ready: bool) {
        let Some(requests) = &self.requests else {
            return;
        };
        let limit = if ready {
            ANSWERS_BETWEEN_EPOCHS
        } else {
            usize::MAX
        };
        requests.answer(limit, |request| {
            let answer = if ready {
                self.machine.explain(request)
            } else {
                Err(ExplainRefusal::NotReady)
            };
            self.metrics.requested(answer.is_ok());
            answer
        });
    }

    /// One tick at the next board: the board is published, every cell scored, every score emitted.
    fn close(&mut self) -> Result<(), RunError> {
        let Some(as_of_ms) = self.machine.next_board_ms() else {
            tracing::warn!("nothing was accepted: there is nothing to score");
            return Ok(());
        };
        let positions = self.machine.positions().to_vec();
        let cut = Cut {
            read: vec![0; positions.len()],
            positions,
            moment: Moment::Fixed(as_of_ms),
            clock: Readings::default(),
            closing: true,
            skipped: Vec::new(),
        };
        let started = Instant::now();
        let stepped = self
            .machine
            .step(&RecordBatch::default(), Decoded::default(), cut);
        self.commit(stepped, started, None)
    }

    /// Commits a sealed epoch, counts it, and shows it: in this order, so that nothing is visible here that a restart may lose (C1).
    fn commit(
        &mut self,
        sealed: Epoch<Sealed>,
        started: Instant,
        newest_ms: Option<i64>,
    ) -> Result<(), RunError> {
        let transaction = Instant::now();
        let epoch = sealed.commit(self.ports.sink.as_mut())?;
        self.metrics
            .stage("produce", transaction.elapsed().as_secs_f64());
        let pipeline = newest_ms
            .filter(|t| *t > 0)
            .map(|t| (self.ports.clock.now_ms() - t) as f64 / 1000.0);
        self.metrics.committed(
            &epoch,
            self.ports.source.partitions(),
            started.elapsed().as_secs_f64(),
            pipeline,
        );
        self.summary.count(&epoch);
        self.taken += epoch.record.records();
        self.committed = (self.machine.number(), self.machine.as_of_ms());
        let status = self.status(Phase::Live, None);
        let EpochViews { scores, alerts } = epoch.into_views();
        self.read_model.publish(scores, alerts, status);
        Ok(())
    }

    fn gauge(&mut self) -> Result<(), RunError> {
        if self.gauged.is_some_and(|at| at.elapsed() < GAUGE_EVERY) {
            return Ok(());
        }
        self.gauged = Some(Instant::now());
        match self.ports.source.last_ends() {
            Some(ends) => {
                self.measure_lag(&ends);
                self.lag_known = Some(Instant::now());
                self.attendant.report("brokers", None);
            }
            None if self
                .lag_known
                .is_some_and(|at| at.elapsed() > BROKERS_PATIENCE) =>
            {
                let text = "the brokers have not said for more than 10 s where the input topics end; records may wait there";
                self.attendant.report("brokers", Some(text.to_owned()));
            }
            None => {}
        }
        if self.count_again.is_none_or(|at| at <= Instant::now()) {
            // Walks the whole graph: the larger it is, the rarer, so that epochs wait for it a hundredth of the time at most.
            let started = Instant::now();
            self.metrics
                .size(&self.machine.graph().size(), &self.catalog);
            self.metrics.identity(&self.machine.graph().identity());
            self.count_again = Some(Instant::now() + started.elapsed() * 100);
        }
        self.read_model.set_status(self.status(Phase::Live, None));
        Ok(())
    }

    /// Measures how many records wait, and reports those that wait behind a transaction which its producer does not end.
    fn measure_lag(&mut self, ends: &[LogEnd]) {
        let partitions: &[InputPartition] = self.ports.source.partitions();
        let positions = self.machine.positions();
        let mut by_topic: BTreeMap<&str, i64> = BTreeMap::new();
        let mut waiting: Option<String> = None;
        for (index, ((partition, end), at)) in
            partitions.iter().zip(ends).zip(positions).enumerate()
        {
            *by_topic.entry(&partition.topic).or_default() += (end.high.0 - at.0).max(0);
            if *at < end.stable || end.stable >= end.high {
                self.waiting_behind.remove(&index);
                continue;
            }
            let (stable, since) = self
                .waiting_behind
                .entry(index)
                .or_insert((end.stable, Instant::now()));
            if *stable != end.stable {
                (*stable, *since) = (end.stable, Instant::now());
            } else if since.elapsed() >= OPEN_TRANSACTION_PATIENCE {
                waiting.get_or_insert(format!(
                    "{} records of {}/{} wait behind a transaction that is open since offset {}: its producer neither commits nor aborts it",
                    end.high.0 - end.stable.0,
                    partition.topic,
                    partition.partition,
                    end.stable.0
                ));
            }
        }
        self.lag_records = by_topic.values().sum::<i64>() as u64;
        by_topic
            .into_iter()
            .for_each(|(topic, lag)| self.metrics.lag(topic, lag));
        self.read_model
            .set_condition("open transaction", waiting, false);
    }

    fn status(&self, phase: Phase, reason: Option<String>) -> EngineStatus {
        let (epoch, as_of_ms) = self.committed;
        EngineStatus {
            phase,
            epoch,
            as_of_ms,
            records: self.taken,
            lag_records: self.lag_records,
            reason,
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Calls a port until it succeeds or fails for good; what may go away by itself is waited for and reported.
pub fn retry<T>(
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
                std::thread::sleep(RETRY_WAIT);
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
