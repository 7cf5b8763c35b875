//! The records of the next epoch: polled, held back where a writer schema is missing, decoded, and
//! cut.

use std::time::Duration;

use super::inbox::Inbox;
use super::{Engine, IDLE_WAIT, RETRY_WAIT, RunError, Waiting};
use crate::decode::{Decoded, SchemaVerdicts};
use crate::epoch::DecidedRange;
use crate::machine::{AsOfRule, Cut, Readings};
use crate::options::ClockMode;
use crate::ports::{Attendant, NextOffset, PollLimit, PortError, RecordBatch};

impl Engine {
    /// Polls until the epoch is long or full enough. Beyond `ends` nothing is taken.
    pub(super) fn gather(
        &mut self,
        cut_at: Duration,
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
                cut_at.saturating_sub(self.elapsed())
            };
            let before = batch.len();
            self.poll(&mut batch, room, wait)?;
            self.read_model.beat();
            self.hold_back(&mut batch, before);
            if let Some(ends) = ends {
                batch.retain(|r| r.offset() < ends[r.partition() as usize].0);
            }
            let full = batch.len() >= limit.0 || batch.bytes() >= limit.1;
            let due = batch.is_empty() || self.elapsed() >= cut_at;
            // Reading to the end there is nothing to wait for once a poll comes back empty.
            if full || due || (ends.is_some() && batch.len() == before) {
                return Ok(batch);
            }
        }
    }

    /// Moves newly polled records of partitions that wait, or of which older records wait, behind
    /// those.
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
    pub(super) fn poll(
        &mut self,
        batch: &mut RecordBatch,
        limit: PollLimit,
        wait: Duration,
    ) -> Result<(), PortError> {
        match self.ports.source.poll(batch, limit, wait) {
            Err(PortError::Retriable(message)) => {
                tracing::warn!(%message, "polling again");
                self.attendant.wait(RETRY_WAIT);
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Readings of the guarded clock for one epoch. A refused reading is reported.
    pub(super) fn readings(
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

    /// Decodes. A partition that needs a schema which no registry gives now is held back from that
    /// record on.
    pub(super) fn decode(&mut self, batch: &RecordBatch) -> Result<Decoded, RunError> {
        let started = self.elapsed();
        let partitions = self.ports.source.partitions();
        let decoded = self.decoders.decode(
            batch,
            partitions,
            &self.catalog,
            self.ports.schemas.as_ref(),
            SchemaVerdicts::Store,
        );
        self.metrics.stage("decode", self.seconds_since(started));
        if decoded.blocked.is_empty() {
            return Ok(decoded);
        }
        self.hold(batch, &decoded);
        let waiting: Vec<u32> = decoded
            .blocked
            .iter()
            .map(|blocked| blocked.partition)
            .filter(|p| !self.paused[*p as usize])
            .collect();
        if !waiting.is_empty() {
            self.attendant.retry(|| self.ports.source.pause(&waiting))?;
            waiting
                .iter()
                .for_each(|partition| self.paused[*partition as usize] = true);
        }
        self.report_blocked();
        Ok(decoded)
    }

    /// Holds the records of blocked partitions, from the blocking one on.
    fn hold(&mut self, batch: &RecordBatch, decoded: &Decoded) {
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
    }

    /// Lets partitions go on whose schema is known by now. They are fetched again only once their
    /// held
    /// records were taken, so that held records stay bounded.
    pub(super) fn release_held(&mut self) -> Result<(), RunError> {
        let mut released = Vec::new();
        let emptied: Vec<u32> = (0..self.paused.len() as u32)
            .filter(|p| {
                self.paused[*p as usize]
                    && self.blocked[*p as usize].is_none()
                    && self.held.is_empty(*p as usize)
            })
            .collect();
        if !emptied.is_empty() {
            self.attendant
                .retry(|| self.ports.source.resume(&emptied))?;
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
        self.report_blocked();
        Ok(())
    }

    fn report_blocked(&self) {
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

    /// Drops held records, because a seek reads them again.
    pub(super) fn forget_held(&mut self) {
        let partitions = self.ports.source.partitions().len();
        self.held = Inbox::new(partitions);
        self.blocked = vec![None; partitions];
        self.paused = vec![false; partitions];
        self.report_blocked();
    }

    /// True if all partitions are read to these offsets. Transaction markers may separate a
    /// position
    /// from an end. The source has passed them, so the source's position counts too.
    pub(super) fn has_reached(&mut self, offsets: &[NextOffset], waiting: Waiting) -> bool {
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

    /// The decisions of the epoch besides its rows.
    pub(super) fn cut(
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
        // Positions pass transaction markers and aborted records, so that a partition without
        // further records has no lag.
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
            moment: AsOfRule::Newest,
            clock,
            closing: false,
            skipped,
        })
    }
}
