//! The records of the next epoch: polled, held back where a writer schema is missing, decoded, and
//! cut.

use std::time::Duration;

use leadpulse_schema::units::AsOf;

use super::inbox::Inbox;
use super::ticks::{Outside, Taken, TickPlace};
use super::{Engine, IDLE_WAIT, RETRY_WAIT, RunError, Waiting};
use crate::decode::{Blocked, Decoded, SchemaVerdicts};
use crate::epoch::{DecidedRange, EpochRecord};
use crate::machine::{AsOfRule, Cut, CutTicks, Readings};
use crate::options::ClockMode;
use crate::ports::{Attendant, NextOffset, PollLimit, PortError, Record, RecordBatch};

/// Bytes of records that wait for their tick. Beyond it, partitions that are ahead are paused.
const AHEAD_BYTES: usize = 32 << 20;
/// Longest wait for records while an epoch is under way, whose end is to be shown.
const LOOK_WAIT: Duration = Duration::from_millis(1);

impl Engine {
    /// Polls until the epoch is long or full enough. Beyond `ends` nothing is taken.
    pub(super) fn gather(
        &mut self,
        cut_at: Duration,
        caught_up: bool,
        ends: Option<&[NextOffset]>,
    ) -> Result<Gathered, RunError> {
        if self.machine.is_half_closed() {
            return self.gather_nothing(caught_up, ends);
        }
        let mut taken = Taken::from(self.machine.positions());
        let limit = (self.costs.records(&self.options), self.options.max_bytes);
        let mut newest_ms = None;
        let mut clock = self.readings(caught_up, ends.is_some(), newest_ms);
        self.take(&mut taken, limit, ends, clock);
        loop {
            let room = PollLimit {
                records: limit.0.saturating_sub(taken.records.len()),
                bytes: limit.1.saturating_sub(taken.records.bytes()),
            };
            // What rows touched and did not fit is not kept waiting for others.
            let is_idle = taken.is_empty() && self.machine.graph().dirty() == 0;
            let wait = match is_idle {
                true => IDLE_WAIT,
                false => cut_at.saturating_sub(self.elapsed()),
            };
            let wait = match self.in_flight {
                Some(_) => wait.min(LOOK_WAIT),
                None => wait,
            };
            let mut polled = RecordBatch::default();
            if room.records > 0 && room.bytes > 0 {
                self.poll(&mut polled, room, wait)?;
            }
            self.read_model.beat();
            self.look_at_commit()?;
            newest_ms = newest_ms.max(polled.iter().map(|r| r.timestamp_ms()).max());
            let within = |r: &Record<'_>| {
                ends.is_none_or(|ends| r.offset() < ends[r.partition() as usize].0)
            };
            let came = polled
                .iter()
                .filter(within)
                .map(|r| self.held.push(r))
                .count();
            clock = self.readings(caught_up, ends.is_some(), newest_ms);
            self.take(&mut taken, limit, ends, clock);
            self.pace()?;
            let full = taken.records.len() >= limit.0 || taken.records.bytes() >= limit.1;
            let due = match taken.is_empty() && is_idle {
                true => self.in_flight.is_none(),
                false => taken.is_empty() || self.elapsed() >= cut_at,
            };
            // Reading to the end there is nothing to wait for once a poll comes back empty.
            if full || due || (ends.is_some() && came == 0) {
                return Ok(Gathered { taken, clock });
            }
        }
    }

    /// Polls once without a wait and takes nothing: a tick is half-closed, and rows wait for it.
    fn gather_nothing(
        &mut self,
        caught_up: bool,
        ends: Option<&[NextOffset]>,
    ) -> Result<Gathered, RunError> {
        let limit = PollLimit {
            records: self.options.max_records,
            bytes: self.options.max_bytes,
        };
        let mut polled = RecordBatch::default();
        self.poll(&mut polled, limit, Duration::ZERO)?;
        let within =
            |r: &Record<'_>| ends.is_none_or(|ends| r.offset() < ends[r.partition() as usize].0);
        let came = polled.iter().filter(within);
        came.for_each(|record| self.held.push(record));
        self.pace()?;
        let newest_ms = polled.iter().map(|r| r.timestamp_ms()).max();
        Ok(Gathered {
            taken: Taken::from(self.machine.positions()),
            clock: self.readings(caught_up, ends.is_some(), newest_ms),
        })
    }

    /// Takes back what an epoch was offered and did not take, because a tick was more work than it
    /// may do. `place` is that among the ticks before the records were taken.
    pub(super) fn give_back(
        &mut self,
        batch: &RecordBatch,
        blocked: &[Blocked],
        skipped: Vec<DecidedRange>,
        record: &EpochRecord,
        place: TickPlace,
    ) {
        let ends = record.positions();
        let is_taken = |r: &Record<'_>| {
            ends.get(r.partition() as usize)
                .is_some_and(|end| r.offset() < end.0)
        };
        let is_held = |r: &Record<'_>| {
            let mut blocked = blocked.iter();
            blocked.any(|one| one.partition == r.partition() && r.offset() >= one.offset)
        };
        let mut back = Inbox::new(self.blocked.len());
        let rest = batch.iter().filter(|r| !is_taken(r) && !is_held(r));
        rest.for_each(|record| back.push(record));
        for partition in 0..self.blocked.len() {
            if !back.is_empty(partition) {
                // Its front is another record now, which may be read.
                self.blocked[partition] = None;
                self.held.put_before(partition, &mut back);
            }
        }
        let left = skipped
            .into_iter()
            .filter(|range| !record.skipped.contains(range));
        self.skipped.extend(left);
        let taken = batch.iter().filter(is_taken);
        let folded_ms = self.machine.ticks().folded_ms;
        let bound_ms = record.clock.bound_at;
        self.ticks.go_back(
            place,
            taken,
            bound_ms,
            folded_ms.max(self.machine.ticks().closed_ms),
        );
    }

    /// Takes the records that may be applied now.
    fn take(
        &mut self,
        taken: &mut Taken,
        limit: (usize, usize),
        ends: Option<&[NextOffset]>,
        clock: Readings,
    ) {
        let outside = Outside {
            blocked: &self.blocked,
            ends,
            clock_ms: clock.bound_ms,
        };
        let due_ms = self.machine.next_due_ms();
        let source = self.ports.source.as_mut();
        self.ticks
            .take(&mut self.held, taken, limit, due_ms, &outside, source);
    }

    /// Pauses partitions that wait for a schema, and those that are ahead while much waits; resumes
    /// them once what they gave was taken.
    fn pace(&mut self) -> Result<(), RunError> {
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        // What waits for a schema may wait for days, and must not hold the others.
        let going = (0..self.paused.len()).filter(|p| self.blocked[*p].is_none());
        let bytes: usize = going.map(|partition| self.held.bytes_of(partition)).sum();
        for partition in 0..self.paused.len() {
            let is_blocked = self.blocked[partition].is_some();
            let waits = !self.held.is_empty(partition);
            let is_paused = &mut self.paused[partition];
            if !*is_paused && (is_blocked || (waits && bytes > AHEAD_BYTES)) {
                pause.push(partition as u32);
                *is_paused = true;
            } else if *is_paused && !is_blocked && !waits {
                resume.push(partition as u32);
                *is_paused = false;
            }
        }
        if !pause.is_empty() {
            self.attendant.retry(|| self.ports.source.pause(&pause))?;
        }
        if !resume.is_empty() {
            self.attendant.retry(|| self.ports.source.resume(&resume))?;
        }
        Ok(())
    }

    /// Begins to count ticks once it is decided from when on alerts fire: the configured moment,
    /// the first reading of the clock, or, where only events count, the end of what was there.
    pub(super) fn begin_ticks(&mut self, clock: Readings, caught_up: bool) {
        if self.ticks.have_begun() {
            return;
        }
        let state = self.machine.ticks();
        let as_of_ms = self.machine.as_of().map(AsOf::ms);
        let by_events = || self.ticks.newest_ms().max(as_of_ms).filter(|_| caught_up);
        let decided_ms = self
            .options
            .live_from_ms
            .or(clock.bound_ms)
            .or_else(by_events);
        let live_from_ms = decided_ms.map(|ms| self.ticks.at_or_after(ms));
        let Some(live_from_ms) = state.live_from_ms.or(live_from_ms) else {
            return;
        };
        self.machine.live_from(live_from_ms);
        let step_ms = self.options.tick_ms as i64;
        if let Some(first_ms) = self.machine.first_tick_ms(step_ms) {
            // The process before may have gone on without closing a tick.
            let gone_ms = self.machine.as_of().filter(|_| state.open_ms.is_none());
            let gone_ms = gone_ms.map(|as_of| self.ticks.before(as_of.ms()));
            let over_ms = state.closed_ms.map(|ms| ms.max(gone_ms.unwrap_or(ms)));
            // What was looked at is over, whether a tick with records followed or not.
            let over_ms = over_ms.max(state.folded_ms.filter(|_| state.open_ms.is_none()));
            self.ticks.begin(first_ms, over_ms, state.open_ms);
        }
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
        self.pace()?;
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

    /// Lets partitions go on whose schema is known by now.
    pub(super) fn release_held(&mut self) {
        let mut released = Vec::new();
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
            return;
        }
        released
            .iter()
            .for_each(|partition| self.blocked[*partition as usize] = None);
        self.report_blocked();
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
        self.ticks.arrange(partitions);
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
        gathered: Gathered,
        decoded: &Decoded,
        ends: Option<&[NextOffset]>,
    ) -> Result<(RecordBatch, Cut), RunError> {
        let Gathered { taken, mut clock } = gathered;
        let mut positions = self.machine.positions().to_vec();
        let mut read = vec![0; positions.len()];
        let is_used = |r: &Record<'_>| !decoded.holds_back(r.partition(), r.offset());
        for record in taken.records.iter().filter(is_used) {
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
        // What waits for a schema belongs to the tick that is open when it goes on. The epoch may end
        // before the offset that waits: markers and aborted records can lie between.
        let mut closings = taken.closings;
        for blocked in &decoded.blocked {
            let end = positions[blocked.partition as usize].0;
            for closing in &mut closings {
                let at = &mut closing.positions[blocked.partition as usize];
                *at = (*at).min(end);
            }
        }
        let before_ms = self.ticks.next_ms();
        clock.live_ms = clock.live_ms.map(|ms| ms.min(before_ms - 1));
        let cut = Cut {
            positions,
            read,
            moment: AsOfRule::Newest,
            clock,
            closing: false,
            skipped,
            ticks: CutTicks {
                live_from_ms: None,
                closings,
                open_ms: self.ticks.open_ms().filter(|_| self.ticks.have_begun()),
                before_ms,
                late: taken.late,
                late_by: taken.late_by,
                half_ms: None,
            },
            work: match self.gauges.is_caught_up {
                true => self.costs.budget(&self.options),
                false => self.costs.budget_of_history(&self.options),
            },
        };
        Ok((taken.records, cut))
    }
}

/// The records of an epoch, and the readings it is decided with.
pub(super) struct Gathered {
    pub taken: Taken,
    pub clock: Readings,
}
