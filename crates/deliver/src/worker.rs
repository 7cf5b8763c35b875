//! The loop of one sink: take a batch, send it, commit.
//!
//! A batch ends once every record of it has a fate that lasts. Whatever fails before is sent again,
//! with the same keys, after a pause; newer records wait in Kafka. So a sink whose other side is
//! away stands still alone, with one batch in memory. A process that dies sends the records behind
//! the last commit once more.

mod batch;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use leadpulse_engine::ports::{Clock, PortError};

use crate::backoff::Backoff;
use crate::fate::{Fate, Judgement, Later};
use crate::keeper::TokenKeeper;
use crate::metrics::{DeliverMetrics, SinkMetrics};
use crate::ports::{
    Arrived, Inbox, Letters, ReadFailure, RecordReader, SinkLetter, Tokens, Transport,
};
use crate::protocols::{Fields, Protocol};
use crate::rate::Rate;
use crate::request::HttpAnswer;
use crate::state::SinkState;

use batch::Batch;

/// Longest wait without a look at whether to stop.
const STEP: Duration = Duration::from_millis(200);
/// Most bytes of a batch's records, beside one larger record.
const BATCH_BYTES: usize = 8 << 20;
/// First pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Time between two commits within a batch.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// Parts and settings of a worker.
pub struct SinkParts {
    /// Name of the sink.
    pub name: String,
    /// The protocol of the other side.
    pub protocol: Box<dyn Protocol>,
    /// The sink's topic.
    pub inbox: Box<dyn Inbox>,
    /// Reader of the topic's values.
    pub reader: Box<dyn RecordReader>,
    /// Dead letters.
    pub letters: Box<dyn Letters>,
    /// Network.
    pub transport: Box<dyn Transport>,
    /// Endpoint of tokens; `None` for a sink without.
    pub tokens: Option<Box<dyn Tokens>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Records taken at once.
    pub records: usize,
    /// Time for which records are gathered after the first.
    pub gather: Duration,
    /// Requests a second.
    pub rate: std::num::NonZeroU32,
    /// Longest pause between two tries.
    pub longest_pause: Duration,
}

/// The worker of one sink.
pub struct SinkWorker {
    parts: SinkParts,
    rate: Rate,
    backoff: Backoff,
    keeper: Option<TokenKeeper>,
    metrics: SinkMetrics,
    state: Arc<SinkState>,
    stop: Arc<AtomicBool>,
    /// Next offsets by partition that wait for a commit.
    uncommitted: BTreeMap<i32, i64>,
    committed_at: Duration,
    /// Kafka timestamp of the oldest record that is taken and not settled.
    oldest_ms: Option<i64>,
}

/// A stop was asked for, or the sink cannot go on.
enum Ending {
    Stopped,
    Failed(PortError),
}

impl From<PortError> for Ending {
    fn from(error: PortError) -> Self {
        Self::Failed(error)
    }
}

impl SinkWorker {
    /// A worker that has not begun. It ends soon after `stop` is set.
    pub fn new(
        mut parts: SinkParts,
        metrics: &DeliverMetrics,
        state: Arc<SinkState>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self {
            rate: Rate::new(parts.rate, &parts.clock),
            backoff: Backoff::new(FIRST_PAUSE.min(parts.longest_pause), parts.longest_pause),
            keeper: parts.tokens.take().map(TokenKeeper::new),
            metrics: metrics.of(&parts.name),
            committed_at: parts.clock.elapsed(),
            uncommitted: BTreeMap::new(),
            oldest_ms: None,
            parts,
            state,
            stop,
        }
    }

    /// Delivers until the stop.
    ///
    /// # Errors
    /// A port that cannot work any more, such as a position that the log no longer holds.
    pub fn run(&mut self) -> Result<(), PortError> {
        loop {
            match self.round() {
                Ok(()) => {}
                Err(Ending::Stopped) => return Ok(()),
                Err(Ending::Failed(error)) => return Err(error),
            }
        }
    }

    /// Takes a batch and delivers all of it; does nothing where no record comes for a moment.
    fn round(&mut self) -> Result<(), Ending> {
        let arrived = self.gather()?;
        if arrived.is_empty() {
            self.commit()?;
            return Ok(());
        }
        let mut batch = Batch::new(arrived);
        // Positions of settled records are committed however the batch ends.
        let ended = self.deliver(&mut batch);
        self.uncommitted.extend(batch.settled_upto());
        let committed = self.commit();
        self.oldest_ms = None;
        self.show_lag();
        ended.and(committed.map_err(Ending::Failed))
    }

    fn check_stop(&self) -> Result<(), Ending> {
        self.state.beat();
        if self.stop.load(Ordering::Relaxed) {
            return Err(Ending::Stopped);
        }
        Ok(())
    }

    /// Waits, with looks at whether to stop.
    fn wait(&self, time: Duration) -> Result<(), Ending> {
        let until = self.parts.clock.elapsed() + time;
        loop {
            self.check_stop()?;
            self.show_lag();
            let left = until.saturating_sub(self.parts.clock.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            self.parts.clock.wait(left.min(STEP));
        }
    }

    /// Records for one batch: those that come within the time of gathering after the first.
    fn gather(&mut self) -> Result<Vec<Arrived>, Ending> {
        let mut gathered: Vec<Arrived> = Vec::new();
        let mut bytes = 0;
        let mut until = None;
        loop {
            self.check_stop()?;
            let now = self.parts.clock.elapsed();
            let end = until.unwrap_or(now + STEP);
            let room = self.parts.records - gathered.len();
            let bytes_left = BATCH_BYTES.saturating_sub(bytes);
            let is_over = end <= now || room == 0 || bytes_left == 0;
            if is_over {
                return Ok(gathered);
            }
            let wait = (end - now).min(STEP);
            let taken = match self.parts.inbox.take(room, bytes_left, wait) {
                Ok(taken) => taken,
                Err(PortError::Retriable(message)) => {
                    // Brokers recover in seconds, and nobody is spared by longer pauses.
                    let reason = message.to_string();
                    let after = Some(FIRST_PAUSE);
                    self.pause(&Later { reason, after })?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            self.state.set_reads();
            // Nothing is being sent now, so only Kafka can have been waited for.
            self.progress();
            if taken.is_empty() {
                if until.is_none() {
                    return Ok(gathered);
                }
                continue;
            }
            for record in &taken {
                bytes += record.value.as_ref().map_or(0, Vec::len);
            }
            gathered.extend(taken);
            until.get_or_insert(now + self.parts.gather);
        }
    }

    fn deliver(&mut self, batch: &mut Batch) -> Result<(), Ending> {
        self.read(batch)?;
        let wanted: Vec<usize> = (0..batch.arrived.len())
            .filter(|index| batch.fields[*index].is_some())
            .collect();
        let records: Vec<&Fields> = batch.fields.iter().flatten().collect();
        let planned = self.parts.protocol.plan(&records);
        let to_index = |group: Vec<usize>| -> Vec<usize> {
            group.into_iter().map(|place| wanted[place]).collect()
        };
        let mut groups: VecDeque<Vec<usize>> = planned.into_iter().map(to_index).collect();
        let sent: Vec<usize> = groups.iter().flatten().copied().collect();
        while let Some(group) = groups.pop_front() {
            self.send(batch, group, &mut groups)?;
            self.commit_now_and_then(batch)?;
        }
        // Only now: the newer record of the same key has arrived.
        for index in wanted.into_iter().filter(|index| !sent.contains(index)) {
            batch.settled[index] = true;
            self.metrics.superseded.inc();
        }
        Ok(())
    }

    /// Reads the values of a batch. What nobody wants is settled, what cannot be read becomes a dead
    /// letter.
    fn read(&mut self, batch: &mut Batch) -> Result<(), Ending> {
        for index in 0..batch.arrived.len() {
            let Some(value) = &batch.arrived[index].value else {
                batch.settled[index] = true;
                self.metrics.passed_over.inc();
                continue;
            };
            let fields = loop {
                match self.parts.reader.read(value) {
                    Ok(fields) => break Ok(fields),
                    Err(ReadFailure::Unreadable(reason)) => break Err(reason),
                    Err(ReadFailure::Later(reason)) => self.pause(&Later::because(reason))?,
                }
            };
            self.progress();
            match fields {
                Ok(fields) if self.parts.protocol.wants(&fields) => {
                    batch.fields[index] = Some(fields);
                }
                Ok(_) => {
                    batch.settled[index] = true;
                    self.metrics.passed_over.inc();
                }
                Err(reason) => self.bury(batch, index, &reason)?,
            }
        }
        Ok(())
    }

    /// Sends one group. What is left of it goes to the front of `groups`.
    fn send(
        &mut self,
        batch: &mut Batch,
        group: Vec<usize>,
        groups: &mut VecDeque<Vec<usize>>,
    ) -> Result<(), Ending> {
        self.oldest_ms = batch.oldest_ms();
        self.show_lag();
        let judged = match self.exchange(batch, &group)? {
            Ok(judged) => judged,
            Err(later) => Judgement::Together(Fate::Later(later)),
        };
        let fates = match judged {
            Judgement::Each(fates) => fates,
            Judgement::Together(Fate::Refused(_)) if group.len() > 1 => {
                self.metrics.refused.inc();
                let (first, second) = group.split_at(group.len() / 2);
                groups.push_front(second.to_vec());
                groups.push_front(first.to_vec());
                return Ok(());
            }
            Judgement::Together(fate) => vec![fate; group.len()],
        };
        let mut left = Vec::new();
        let mut wait: Option<Later> = None;
        let mut has_refused = false;
        for (index, fate) in group.into_iter().zip(fates) {
            match fate {
                Fate::Delivered => {
                    batch.settled[index] = true;
                    self.metrics.delivered.inc();
                    self.progress();
                }
                Fate::Refused(reason) => {
                    has_refused = true;
                    self.bury(batch, index, &reason)?;
                }
                Fate::Later(later) => {
                    left.push(index);
                    wait.get_or_insert(later);
                }
            }
        }
        match wait {
            None if has_refused => self.metrics.refused.inc(),
            None => self.metrics.accepted.inc(),
            Some(later) => {
                self.metrics.retried.inc();
                groups.push_front(left);
                self.commit_now_and_then(batch)?;
                self.pause(&later)?;
            }
        }
        Ok(())
    }

    /// One request and the meaning of its answer. A token that was refused is replaced at once; if
    /// the new one is refused too, the sink waits.
    fn exchange(
        &mut self,
        batch: &Batch,
        group: &[usize],
    ) -> Result<Result<Judgement, Later>, Ending> {
        let fields = |index: &usize| batch.fields[*index].as_ref();
        let records: Vec<&Fields> = group.iter().filter_map(fields).collect();
        let mut may_renew = true;
        loop {
            self.take_turn()?;
            let answer = match self.request(&records) {
                Ok(answer) => answer,
                Err(later) => return Ok(Err(later)),
            };
            if answer.status == 401
                && may_renew
                && self.keeper.as_mut().is_some_and(TokenKeeper::forget)
            {
                self.metrics.retried.inc();
                may_renew = false;
                continue;
            }
            return Ok(Ok(self.parts.protocol.judge(&records, &answer)));
        }
    }

    fn request(&mut self, records: &[&Fields]) -> Result<HttpAnswer, Later> {
        let clock = &self.parts.clock;
        let mut request = self.parts.protocol.request(records, clock.wall_ms());
        if let Some(keeper) = &mut self.keeper {
            let token = keeper.token(clock.elapsed())?;
            request = request.with("authorization", format!("Bearer {}", token.reveal()));
        }
        let began = clock.elapsed();
        let sent = self.parts.transport.send(&request);
        let took = clock.elapsed().saturating_sub(began);
        self.metrics.duration.observe(took.as_secs_f64());
        sent.map_err(|error| Later::because(error.to_string()))
    }

    fn take_turn(&self) -> Result<(), Ending> {
        loop {
            self.check_stop()?;
            match self.rate.take_turn() {
                Ok(()) => return Ok(()),
                Err(time) => self.wait(time)?,
            }
        }
    }

    /// Writes a dead letter, however long it takes.
    fn bury(&mut self, batch: &mut Batch, index: usize, reason: &str) -> Result<(), Ending> {
        let record = batch.arrived[index].clone();
        let letter = SinkLetter {
            sink: self.parts.name.clone(),
            reason: reason.to_owned(),
            record,
        };
        while let Err(error) = self.parts.letters.write(&letter) {
            let reason = format!("no dead letter can be written: {error}");
            self.pause(&Later::because(reason))?;
        }
        let Arrived {
            partition, offset, ..
        } = letter.record;
        tracing::warn!(
            sink = self.parts.name,
            partition,
            offset,
            reason,
            "a record was refused for good"
        );
        batch.settled[index] = true;
        self.metrics.dead_lettered.inc();
        self.progress();
        Ok(())
    }

    /// Notes that something succeeded.
    fn progress(&mut self) {
        self.backoff.reset();
        if self.state.waiting().is_some() {
            self.state.set_waiting(None);
            self.metrics.waiting.set(0);
            tracing::info!(sink = self.parts.name, "delivers again");
        }
    }

    /// Waits before another try.
    fn pause(&mut self, later: &Later) -> Result<(), Ending> {
        let time = self.backoff.pause(later.after);
        if self.state.waiting().as_deref() != Some(&later.reason) {
            tracing::warn!(
                sink = self.parts.name,
                reason = later.reason,
                pause_ms = time.as_millis() as u64,
                "waits before it sends again"
            );
        }
        self.state.set_waiting(Some(&later.reason));
        self.metrics.waiting.set(1);
        self.wait(time)
    }

    fn show_lag(&self) {
        let now_ms = self.parts.clock.wall_ms();
        let lag_ms = self.oldest_ms.map_or(0, |oldest| now_ms - oldest);
        self.metrics.lag_seconds.set(lag_ms.max(0) as f64 / 1000.0);
    }

    fn commit_now_and_then(&mut self, batch: &Batch) -> Result<(), Ending> {
        let since = self.parts.clock.elapsed().saturating_sub(self.committed_at);
        if since < COMMIT_INTERVAL {
            return Ok(());
        }
        self.uncommitted.extend(batch.settled_upto());
        Ok(self.commit()?)
    }

    /// Commits what waits for it. A failure that passes is covered by a later commit.
    fn commit(&mut self) -> Result<(), PortError> {
        if self.uncommitted.is_empty() {
            return Ok(());
        }
        match self.parts.inbox.commit(&self.uncommitted) {
            Ok(()) => {
                self.uncommitted.clear();
                self.committed_at = self.parts.clock.elapsed();
                Ok(())
            }
            Err(PortError::Retriable(message)) => {
                tracing::warn!(sink = self.parts.name, %message, "positions are committed later");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
