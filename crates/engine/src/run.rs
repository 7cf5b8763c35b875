//! The loop of one worker: take over, replay the script, then epoch after epoch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use leadpulse_schema::Catalog;

use crate::decode::{Decoded, Decoders};
use crate::epoch::{EpochRecord, check_script};
use crate::explain::{ExplainQueue, ExplainRefusal};
use crate::machine::{Cut, Machine, Moment, Stepped};
use crate::metrics::Metrics;
use crate::options::{ClockMode, EngineOptions};
use crate::output::OutputEncoders;
use crate::ports::{
    Clock, EpochLog, InputPartition, NextOffset, PollLimit, PortError, RecordBatch, SchemaLookupError, SchemaStore, Sink, Source,
};
use crate::read_model::{EngineStatus, Phase, ReadModel};

/// How long a poll waits while nothing happens; the loop beats at least this often.
const IDLE_WAIT: Duration = Duration::from_millis(50);
/// How long to wait before a port is tried again.
const RETRY_WAIT: Duration = Duration::from_millis(500);
/// An interval of the script must be readable within this long without progress.
const REPLAY_STALL: Duration = Duration::from_secs(60);
/// How often lag and sizes are measured.
const GAUGE_EVERY: Duration = Duration::from_secs(5);

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
    /// Epochs replayed on start.
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

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A port failed for good.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The same epoch, replayed, gave other outputs: a bundle, schema or configuration changed under a running deployment.
    #[error(
        "epoch {epoch} was committed with {what} {committed}, but this process has {found}; start with what the deployment ran with, \
         or start a new deployment (new group id, transactional id and output topics)"
    )]
    OtherScript {
        /// The epoch.
        epoch: i64,
        /// What differs.
        what: &'static str,
        /// As committed.
        committed: String,
        /// As here.
        found: String,
    },
}

/// Everything a worker talks to.
pub struct Ports {
    /// Input topics.
    pub source: Box<dyn Source>,
    /// Transactions.
    pub sink: Box<dyn Sink>,
    /// Committed epoch records.
    pub epochs: Box<dyn EpochLog>,
    /// Writer schemas.
    pub schemas: Arc<dyn SchemaStore>,
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
}

/// A worker.
pub struct Engine {
    options: EngineOptions,
    ports: Ports,
    machine: Machine,
    decoders: Decoders,
    encoders: Arc<OutputEncoders>,
    catalog: Arc<Catalog>,
    read_model: Arc<ReadModel>,
    metrics: Metrics,
    stop: Arc<AtomicBool>,
    requests: Option<ExplainQueue>,
    summary: Summary,
    /// Number and `as_of` of the newest committed epoch.
    committed: (u64, Option<i64>),
    /// Records taken since the first epoch, replayed ones included.
    taken: u64,
    lag_records: u64,
    gauged: Option<Instant>,
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
        Self {
            options,
            ports,
            machine,
            decoders: Decoders::default(),
            encoders,
            catalog,
            read_model,
            metrics,
            stop,
            requests: None,
            summary: Summary::default(),
            committed: (0, None),
            taken: 0,
            lag_records: 0,
            gauged: None,
            count_again: None,
        }
    }

    /// Answers requests for explanations between epochs.
    #[must_use]
    pub fn with_requests(mut self, requests: ExplainQueue) -> Self {
        self.requests = Some(requests);
        self
    }

    /// Takes over from whoever ran before, replays what is committed, and processes epochs until told to stop or the end is reached.
    pub fn run(mut self, until: Until) -> Result<Summary, RunError> {
        let outcome = self.run_inner(until);
        let status = self.status(Phase::Stopped, outcome.as_ref().err().map(ToString::to_string));
        self.read_model.set_status(status);
        outcome.map(|()| self.summary)
    }

    fn run_inner(&mut self, until: Until) -> Result<(), RunError> {
        let last = self.restore()?;
        if self.stopped() {
            return Ok(());
        }
        let ends = match until {
            Until::Stopped => None,
            Until::End => Some(retry(&self.read_model, &self.stop, || self.ports.source.ends())?.into_iter().map(|end| end.stable).collect::<Vec<_>>()),
        };
        let closed = last.is_some_and(|record| record.closing);
        self.live(ends.as_deref(), closed)
    }

    /// Fences the worker before, then reads everything committed again, silently and along the epoch records, so that boards
    /// fall where they fell. Returns the last committed epoch's record.
    fn restore(&mut self) -> Result<Option<EpochRecord>, RunError> {
        let committed = retry(&self.read_model, &self.stop, || self.ports.sink.take_over())?;
        let Some(committed) = committed else {
            self.ports.source.seek(self.machine.positions())?;
            return Ok(None);
        };
        let (encoders, schemas) = (&self.encoders, self.ports.schemas.as_ref());
        let mut script = retry(&self.read_model, &self.stop, || {
            let mut script = Vec::new();
            self.ports.epochs.read(&mut |value| {
                script.push(encoders.read_epoch(value, schemas)?);
                Ok(())
            })?;
            Ok(script)
        })?;
        // Records of epochs that committed after the positions were read cannot exist: this worker has fenced all others.
        check_script(&script, &committed, self.ports.source.partitions())?;
        self.check_start(&script)?;
        let total: u64 = script.iter().map(EpochRecord::records).sum();
        tracing::info!(epochs = script.len(), records = total, "replaying what is committed; there are no checkpoints yet");
        self.ports.source.seek(self.machine.positions())?;
        let mut pending = Pending::new(self.ports.source.partitions().len());
        let (mut done, mut told) = (0, Instant::now());
        for record in &script {
            self.check_same(record)?;
            let Some(batch) = self.interval(record, &mut pending)? else { return Ok(None) };
            let Some(decoded) = self.decode(&batch)? else { return Ok(None) };
            let cut = Cut {
                positions: record.positions(),
                moment: Moment::Fixed { as_of_ms: record.as_of, clock: record.clock.live_at },
                closing: record.closing,
            };
            let stepped = self.machine.step(&batch, decoded, cut);
            if stepped.record != *record {
                let (what, committed, found) = if stepped.record.digest == record.digest {
                    ("the record", format!("{record:?}"), format!("{:?}", stepped.record))
                } else {
                    ("output digest", record.digest.clone(), stepped.record.digest.clone())
                };
                return Err(RunError::OtherScript { epoch: record.epoch, what, committed, found });
            }
            done += record.records();
            self.taken += record.records();
            self.metrics.replayed(record.records());
            self.summary.replayed_epochs += 1;
            self.committed = (self.machine.number(), self.machine.as_of_ms());
            let status = self.status(Phase::Replaying { done, total }, Some("replaying what is committed".into()));
            self.read_model.publish(stepped.scores, stepped.alerts, status);
            self.read_model.beat();
            self.answer_requests(false);
            if told.elapsed() > Duration::from_secs(2) {
                tracing::info!(done, total, epoch = record.epoch, "replaying");
                told = Instant::now();
            }
            if self.stopped() {
                return Ok(None);
            }
        }
        self.ports.source.seek(self.machine.positions())?;
        tracing::info!(epoch = committed.number, records = done, "replay done");
        Ok(script.pop())
    }

    /// Replay begins where the first epoch did; what retention has taken from the input topics cannot be replayed.
    fn check_start(&self, script: &[EpochRecord]) -> Result<(), PortError> {
        let starts = script.first().map(|first| first.partitions.as_slice()).unwrap_or_default();
        match starts.iter().zip(self.machine.positions()).find(|(interval, here)| interval.start != here.0) {
            None => Ok(()),
            Some((interval, here)) => Err(PortError::Fatal(format!(
                "epoch 1 started at offset {} of partition {} of '{}', but reading starts at {} now: the committed epochs can only be \
                 replayed while the input topics hold all their records (retention removed some, or the start was changed)",
                interval.start, interval.partition, interval.topic, here.0
            ))),
        }
    }

    fn check_same(&self, record: &EpochRecord) -> Result<(), RunError> {
        let (fingerprint, bundle) = self.machine.identity();
        let checks = [
            ("schemas", record.catalog_fingerprint.as_str(), fingerprint),
            ("bundle", record.bundle_id.as_deref().unwrap_or_default(), bundle),
        ];
        for (what, committed, found) in checks {
            if committed != found {
                return Err(RunError::OtherScript { epoch: record.epoch, what, committed: committed.into(), found: found.into() });
            }
        }
        Ok(())
    }

    /// The records of one epoch of the script. `None` when told to stop.
    fn interval(&mut self, record: &EpochRecord, pending: &mut Pending) -> Result<Option<RecordBatch>, RunError> {
        let limit = PollLimit { records: self.options.max_records, bytes: self.options.max_bytes };
        let mut progress = Instant::now();
        loop {
            if pending.covers(record) {
                return Ok(Some(pending.take(record)));
            }
            if self.stopped() {
                return Ok(None);
            }
            let mut batch = RecordBatch::default();
            self.poll(&mut batch, limit, IDLE_WAIT)?;
            self.read_model.beat();
            if !batch.is_empty() {
                progress = Instant::now();
                pending.push(batch);
            } else if progress.elapsed() > REPLAY_STALL {
                return Err(PortError::Fatal(format!(
                    "epoch {} cannot be replayed: its records are no longer in the input topics (retention or compaction removed them)",
                    record.epoch
                ))
                .into());
            }
        }
    }

    /// Decodes, waiting for as long as the registry cannot be reached. `None` when told to stop.
    fn decode(&mut self, batch: &RecordBatch) -> Result<Option<Decoded>, RunError> {
        let started = Instant::now();
        loop {
            match self.decoders.decode(batch, self.ports.source.partitions(), &self.catalog, self.ports.schemas.as_ref()) {
                Ok(decoded) => {
                    self.metrics.stage("decode", started.elapsed().as_secs_f64());
                    return Ok(Some(decoded));
                }
                Err(error @ SchemaLookupError::Unavailable(_)) => {
                    self.metrics.waited_for_schema();
                    tracing::warn!(%error, "waiting: no record is taken until the writer's schema is known");
                    let status = self.status(Phase::Starting, Some(error.to_string()));
                    self.read_model.set_status(status);
                    self.read_model.beat();
                    std::thread::sleep(RETRY_WAIT);
                    if self.stopped() {
                        return Ok(None);
                    }
                }
                Err(error @ SchemaLookupError::Unknown(_)) => return Err(PortError::Fatal(error.to_string()).into()),
            }
        }
    }

    fn live(&mut self, ends: Option<&[NextOffset]>, mut closed: bool) -> Result<(), RunError> {
        let mut caught_up = false;
        let floor = Duration::from_millis(self.options.epoch_floor_ms);
        let mut cut_at = Instant::now();
        loop {
            self.read_model.beat();
            if self.stopped() {
                return Ok(());
            }
            self.answer_requests(true);
            let batch = self.gather(cut_at, ends)?;
            let reached = ends.is_some_and(|ends| self.machine.positions().iter().zip(ends).all(|(at, end)| at >= end));
            if batch.is_empty() {
                caught_up = true;
                if reached || (ends.is_some() && self.nothing_left(ends.unwrap_or_default())?) {
                    if !closed {
                        self.close()?;
                    }
                    return Ok(());
                }
            }
            let clock_ms = (self.options.clock == ClockMode::Wall && caught_up && ends.is_none()).then(|| self.ports.clock.now_ms());
            if batch.is_empty() && !self.machine.wants_tick(clock_ms) {
                self.gauge()?;
                continue;
            }
            closed = false;
            let started = Instant::now();
            let Some(decoded) = self.decode(&batch)? else { return Ok(()) };
            let mut positions = self.machine.positions().to_vec();
            for record in batch.iter() {
                let at = &mut positions[record.partition() as usize];
                *at = (*at).max(NextOffset(record.offset() + 1));
            }
            let stepped = self.machine.step(&batch, decoded, Cut { positions, moment: Moment::Now { clock_ms }, closing: false });
            let newest_ms = batch.iter().map(|r| r.timestamp_ms()).max();
            self.commit(stepped, started, newest_ms)?;
            // Epochs follow each other at the floor; under load what arrives while one is processed makes the next one longer:
            // more events per scored cell before anything waits.
            cut_at = started + floor;
            self.gauge()?;
        }
    }

    /// Polls until the epoch is long or full enough. Beyond `ends` nothing is taken.
    fn gather(&mut self, cut_at: Instant, ends: Option<&[NextOffset]>) -> Result<RecordBatch, RunError> {
        let mut batch = RecordBatch::default();
        loop {
            let limit = PollLimit {
                records: self.options.max_records.saturating_sub(batch.len()),
                bytes: self.options.max_bytes.saturating_sub(batch.bytes()),
            };
            let wait = if batch.is_empty() { IDLE_WAIT } else { cut_at.saturating_duration_since(Instant::now()) };
            let before = batch.len();
            self.poll(&mut batch, limit, wait)?;
            self.read_model.beat();
            if let Some(ends) = ends {
                batch.retain(|r| r.offset() < ends[r.partition() as usize].0);
            }
            let full = batch.len() >= self.options.max_records || batch.bytes() >= self.options.max_bytes;
            let due = batch.is_empty() || Instant::now() >= cut_at;
            // Reading to the end there is nothing to wait for once a poll comes back empty.
            if full || due || (ends.is_some() && batch.len() == before) {
                return Ok(batch);
            }
        }
    }

    /// Polls once; a failure that may go away is an empty poll.
    fn poll(&mut self, batch: &mut RecordBatch, limit: PollLimit, wait: Duration) -> Result<(), PortError> {
        match self.ports.source.poll(batch, limit, wait) {
            Err(PortError::Retriable(message)) => {
                tracing::warn!(message, "polling again");
                std::thread::sleep(RETRY_WAIT);
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Explains what was asked for, from committed state; or says that there is none yet.
    fn answer_requests(&self, ready: bool) {
        let Some(requests) = &self.requests else { return };
        let limit = if ready { ANSWERS_BETWEEN_EPOCHS } else { usize::MAX };
        requests.answer(limit, |request| {
            let answer = if ready { self.machine.explain(request) } else { Err(ExplainRefusal::NotReady) };
            self.metrics.requested(answer.is_ok());
            answer
        });
    }

    /// Whether what separates the positions from the ends are only transaction markers: the source has delivered all there is.
    fn nothing_left(&mut self, ends: &[NextOffset]) -> Result<bool, RunError> {
        let read = retry(&self.read_model, &self.stop, || self.ports.source.read_to())?;
        Ok(read.iter().zip(ends).all(|(at, end)| at >= end))
    }

    /// One tick at the next board: the board is published, every cell scored, every score emitted.
    fn close(&mut self) -> Result<(), RunError> {
        let Some(as_of_ms) = self.machine.next_board_ms() else {
            tracing::warn!("nothing was accepted: there is nothing to score");
            return Ok(());
        };
        let cut = Cut { positions: self.machine.positions().to_vec(), moment: Moment::Fixed { as_of_ms, clock: None }, closing: true };
        let started = Instant::now();
        let stepped = self.machine.step(&RecordBatch::default(), Decoded::default(), cut);
        self.commit(stepped, started, None)
    }

    fn commit(&mut self, stepped: Stepped, started: Instant, newest_ms: Option<i64>) -> Result<(), RunError> {
        let transaction = Instant::now();
        self.ports.sink.commit(&stepped.sealed)?;
        self.metrics.stage("produce", transaction.elapsed().as_secs_f64());
        let pipeline = newest_ms.filter(|t| *t > 0).map(|t| (self.ports.clock.now_ms() - t) as f64 / 1000.0);
        self.metrics.committed(&stepped, self.ports.source.partitions(), started.elapsed().as_secs_f64(), pipeline);
        let record = &stepped.record;
        self.summary.epochs += 1;
        self.summary.records += record.records();
        self.taken += record.records();
        self.summary.accepted += record.accepted as u64;
        self.summary.duplicate += record.duplicate as u64;
        self.summary.dead_lettered += record.dead_lettered.iter().map(|r| r.count as u64).sum::<u64>();
        self.summary.scores += record.scores as u64;
        self.summary.alerts += record.alerts as u64;
        self.committed = (self.machine.number(), self.machine.as_of_ms());
        let status = self.status(Phase::Live, None);
        self.read_model.publish(stepped.scores, stepped.alerts, status);
        Ok(())
    }

    fn gauge(&mut self) -> Result<(), RunError> {
        if self.gauged.is_some_and(|at| at.elapsed() < GAUGE_EVERY) {
            return Ok(());
        }
        self.gauged = Some(Instant::now());
        match self.ports.source.ends() {
            Ok(ends) => {
                let partitions: &[InputPartition] = self.ports.source.partitions();
                let mut by_topic: std::collections::BTreeMap<&str, i64> = std::collections::BTreeMap::new();
                for (partition, (end, at)) in partitions.iter().zip(ends.iter().zip(self.machine.positions())) {
                    *by_topic.entry(&partition.topic).or_default() += (end.high.0 - at.0).max(0);
                }
                self.lag_records = by_topic.values().sum::<i64>() as u64;
                by_topic.into_iter().for_each(|(topic, lag)| self.metrics.lag(topic, lag));
            }
            Err(error) => tracing::warn!(%error, "the lag is not known now"),
        }
        if self.count_again.is_none_or(|at| at <= Instant::now()) {
            // Walks the whole graph: the larger it is, the rarer, so that epochs wait for it a hundredth of the time at most.
            let started = Instant::now();
            self.metrics.size(&self.machine.graph().size(), &self.catalog);
            self.metrics.identity(&self.machine.graph().identity());
            self.count_again = Some(Instant::now() + started.elapsed() * 100);
        }
        self.read_model.set_status(self.status(Phase::Live, None));
        Ok(())
    }

    fn status(&self, phase: Phase, reason: Option<String>) -> EngineStatus {
        let (epoch, as_of_ms) = self.committed;
        EngineStatus { phase, epoch, as_of_ms, records: self.taken, lag_records: self.lag_records, reason }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

fn retry<T>(read_model: &ReadModel, stop: &AtomicBool, mut call: impl FnMut() -> Result<T, PortError>) -> Result<T, PortError> {
    loop {
        match call() {
            Err(PortError::Retriable(message)) if !stop.load(Ordering::Relaxed) => {
                tracing::warn!(message, "trying again");
                read_model.beat();
                std::thread::sleep(RETRY_WAIT);
            }
            outcome => return outcome,
        }
    }
}

/// Records read ahead of the epoch that takes them.
struct Pending {
    /// Per partition, in order of offset: the batch a record is in, and its index there.
    queues: Vec<VecDeque<(Arc<RecordBatch>, usize)>>,
    /// One past the newest offset read, per partition.
    read_to: Vec<i64>,
}

impl Pending {
    fn new(partitions: usize) -> Self {
        Self { queues: vec![VecDeque::new(); partitions], read_to: vec![0; partitions] }
    }
    fn push(&mut self, batch: RecordBatch) {
        let batch = Arc::new(batch);
        for (index, record) in batch.iter().enumerate() {
            let partition = record.partition() as usize;
            self.read_to[partition] = record.offset() + 1;
            self.queues[partition].push_back((batch.clone(), index));
        }
    }
    fn covers(&self, record: &EpochRecord) -> bool {
        record.partitions.iter().zip(&self.read_to).all(|(interval, read)| interval.start == interval.end || *read >= interval.end)
    }
    /// Takes out the records of an epoch; what belongs to later ones stays.
    fn take(&mut self, record: &EpochRecord) -> RecordBatch {
        let mut taken = RecordBatch::default();
        for (interval, queue) in record.partitions.iter().zip(&mut self.queues) {
            while let Some((batch, index)) = queue.front().filter(|(batch, index)| batch.record(*index).offset() < interval.end) {
                taken.push_copy(batch.record(*index));
                queue.pop_front();
            }
        }
        taken
    }
}
