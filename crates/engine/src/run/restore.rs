//! A restart: take over, apply the rows of every committed epoch without scoring, read back what
//! consumers have, go on.
//!
//! Rows make the graph (C2); compacted outputs give bands, alerts fired, last scores and
//! explanations. Nothing that was written is computed
//! again, so neither the type of processor, nor the program's version, nor what a registry answers
//! today decides whether a worker starts.
//!
//! Decision: docs/decisions/0001-restart-by-rows.md

use std::collections::BTreeMap;
use std::time::Duration;

use leadpulse_records::{KeptLetter, ShownAlert, ShownScore};

use super::inbox::Inbox;
use super::{Engine, RunError};
use crate::decode::{Decoded, SchemaVerdicts};
use crate::epoch::{EpochRecord, PartitionLayout};
use crate::ports::{
    Attendant, CommittedEpoch, InputPartition, LogStep, NextOffset, Output, PollLimit, PortCause,
    PortError, RecordBatch, StoreHead,
};
use crate::read_model::{ALERTS_KEPT, Phase};
use crate::script::{Chain, ScriptLink};

/// Wait of a poll while nothing arrives.
const WAIT: Duration = Duration::from_millis(50);
/// Without progress for this long, the wait is reported.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of records read ahead of the epochs that take them. Beyond it, partitions that the next
/// epoch does not need are paused.
const READ_AHEAD_BYTES: usize = 32 << 20;
/// Dead letters read back for pages, about. A letter may take a megabyte, so these are few.
pub(super) const LETTERS_READ_BACK: usize = 100;

/// Purpose of following a script.
#[derive(Clone, Copy)]
pub(super) enum Goal<'a> {
    /// The state at the committed epoch, whose positions are of the partitions that were asked for.
    Committed {
        committed: &'a CommittedEpoch,
        asked: &'a [InputPartition],
    },
    /// The state of whatever is committed while another process owns the outputs.
    Following,
    /// A comparison with outputs that are computed again.
    Audit,
}

/// A script that is read so far: the chain of its records, and the replay of their rows.
#[derive(Default)]
pub(super) struct ScriptReading {
    pub chain: Chain,
    /// `None` before the first epoch.
    replay: Option<ScriptReplay>,
    /// The epoch of the stored state that it began with, until the next one is applied.
    base_epoch: Option<u64>,
}

/// Progress of a replay.
struct ScriptReplay {
    inbox: Inbox,
    /// One past what the source delivered or passed over, by partition.
    read_to: Vec<NextOffset>,
    paused: Vec<bool>,
    records: u64,
    total: u64,
    diverged: u64,
    told: Duration,
}

impl Engine {
    /// Fences the worker before and brings the state to the committed epoch. Returns that epoch's
    /// record.
    pub(super) fn restore(&mut self) -> Result<Option<EpochRecord>, RunError> {
        let asked = self.ports.source.partitions().to_vec();
        self.found_at_start.clone_from(&asked);
        let committed = self.own_outputs(&asked)?;
        let base = self.adopt_stored(committed.as_ref())?;
        let Some(committed) = committed else {
            self.attendant
                .retry(|| self.ports.source.seek(self.machine.positions()))?;
            self.follow_with_store(None, None);
            return Ok(None);
        };
        let goal = Goal::Committed {
            committed: &committed,
            asked: &asked,
        };
        let Some(last) = self.replay(goal, base.as_ref())? else {
            return Ok(None);
        };
        let is_last = base
            .as_ref()
            .is_some_and(|base| base.epoch == committed.number);
        self.resume_version(&last, is_last)?;
        self.committed = (self.machine.number(), self.machine.as_of());
        if !self.read_state_back(is_last)? {
            return Ok(None);
        }
        self.resume(&last, base.as_ref(), is_last)?;
        Ok(Some(last))
    }

    /// Goes on after the last committed epoch, and the input is read from its positions. With the
    /// stored state of that epoch (`is_last`) what waited waits still; else every cell waits to be
    /// scored again. `base` is the stored state that this process began with.
    pub(super) fn resume(
        &mut self,
        last: &EpochRecord,
        base: Option<&StoreHead>,
        is_last: bool,
    ) -> Result<(), RunError> {
        let swapped = last.bundle_id.as_deref() != Some(self.machine.deployed().bundle_id());
        if last.deployed != self.machine.deployed().digest() {
            tracing::info!(
                bundle = self.machine.deployed().bundle_id(),
                before = last.bundle_id.as_deref().unwrap_or_default(),
                "schemas, bundle, tasks, policies or options are not those of the last epoch: every score is computed again, a few per epoch"
            );
        }
        if !is_last || !self.machine.resume() {
            self.machine.restart(swapped);
        }
        self.follow_with_store(base, Some(last));
        self.attendant
            .retry(|| self.ports.source.seek(self.machine.positions()))?;
        Ok(())
    }

    /// Follows the script to its end, from its beginning or from the epoch of a stored state. `None`
    /// at the stop signal, or if there is no epoch.
    pub(super) fn replay(
        &mut self,
        goal: Goal<'_>,
        base: Option<&StoreHead>,
    ) -> Result<Option<EpochRecord>, RunError> {
        tracing::info!("applying the rows of what is committed");
        let Some(mut script) = self.begin_script(goal, base)? else {
            return Ok(None);
        };
        if !self.read_script_on(&mut script, goal)? {
            return Ok(None);
        }
        if let Goal::Committed { committed, asked } = goal {
            let chain = &script.chain;
            chain.ends_with(&in_order_of(chain.layout(), committed, asked))?;
        }
        self.log_replay(&script);
        Ok(script.chain.last().cloned())
    }

    /// Goes back to the beginning of the script, or to the epoch of a stored state. `None` at the
    /// stop signal.
    pub(super) fn begin_script(
        &mut self,
        goal: Goal<'_>,
        base: Option<&StoreHead>,
    ) -> Result<Option<ScriptReading>, RunError> {
        let Some(base) = base else {
            self.attendant.retry(|| self.ports.outputs.rewind(0))?;
            return Ok(Some(ScriptReading::default()));
        };
        let Some(chain) = self.script_after_stored() else {
            return Ok(None);
        };
        Ok(Some(ScriptReading {
            chain,
            replay: Some(self.begin_after(base, goal)?),
            base_epoch: Some(base.epoch),
        }))
    }

    /// Follows the script from where it was read to, up to where it ended at the rewind or when
    /// the log went on. `false` at the stop signal.
    pub(super) fn read_script_on(
        &mut self,
        script: &mut ScriptReading,
        goal: Goal<'_>,
    ) -> Result<bool, RunError> {
        let ScriptReading {
            chain,
            replay,
            base_epoch,
        } = script;
        loop {
            let last = chain.last().map_or(0, |last| last.epoch);
            let Some(value) = self.next_of_script(last)? else {
                return Ok(false);
            };
            let Some(value) = value else { return Ok(true) };
            for entry in self.encoders.read_script(&value)? {
                match chain.follow(entry)? {
                    ScriptLink::Layout => self.follow_layout(chain.layout(), replay.as_mut())?,
                    ScriptLink::Repeated(epoch) => {
                        tracing::warn!(
                            epoch,
                            "the record of this epoch stands twice, with equal content: its outputs may stand twice too"
                        );
                    }
                    ScriptLink::Next(record) => {
                        let replay = match replay.as_mut() {
                            Some(replay) => replay,
                            None => {
                                replay.insert(self.begin_replay(chain.layout(), &record, goal)?)
                            }
                        };
                        if base_epoch.take().is_some() {
                            self.machine.go_on_replaying();
                        }
                        if !self.replay_epoch(&record, replay, goal)? {
                            return Ok(false);
                        }
                    }
                }
            }
        }
    }

    /// Logs the end of a replay, and the epochs that came out otherwise than recorded.
    pub(super) fn log_replay(&self, script: &ScriptReading) {
        let replay = script.replay.as_ref();
        let (records, diverged) = replay.map_or((0, 0), |replay| (replay.records, replay.diverged));
        if diverged > 0 {
            tracing::warn!(
                epochs = diverged,
                "rows of these epochs came out otherwise than recorded: input topics or schemas are not what they were; `leadpulse verify` says more"
            );
        }
        tracing::info!(epoch = self.machine.number(), records, "rows applied");
    }

    /// The value of the next record of the epochs topic: `Some(None)` at its end, `None` at the
    /// stop signal. `after` is the epoch before, for reports.
    #[expect(
        clippy::option_option,
        reason = "stopped, ended and found are three things"
    )]
    pub(super) fn next_of_script(
        &mut self,
        after: i64,
    ) -> Result<Option<Option<Vec<u8>>>, RunError> {
        let started = self.elapsed();
        loop {
            if self.stopped() {
                return Ok(None);
            }
            match self.attendant.retry(|| self.ports.outputs.next(WAIT))? {
                LogStep::Record(value) => {
                    self.attendant.report("epochs", None);
                    return Ok(Some(Some(value)));
                }
                LogStep::End => {
                    self.attendant.report("epochs", None);
                    return Ok(Some(None));
                }
                LogStep::Waiting => {
                    self.read_model.beat();
                    if self.elapsed().saturating_sub(started) > PATIENCE {
                        self.attendant.report(
                            "epochs",
                            Some(format!("the epochs topic gives no record after epoch {after}; waiting for its brokers")),
                        );
                    }
                }
            }
        }
    }

    /// Starts reading where the first epoch did.
    fn begin_replay(
        &mut self,
        layout: &PartitionLayout,
        first: &EpochRecord,
        goal: Goal<'_>,
    ) -> Result<ScriptReplay, RunError> {
        let partitions = self.partitions_of(layout)?;
        let starts: Vec<NextOffset> = first
            .partitions
            .iter()
            .map(|interval| NextOffset(interval.start))
            .collect();
        self.attendant
            .retry(|| self.ports.source.arrange(partitions.clone()))?;
        self.ports.sink.arrange(&partitions);
        self.check_starts(&partitions, &starts, 0)?;
        self.attendant.retry(|| self.ports.source.seek(&starts))?;
        let total = self.records_of(goal, &starts)?;
        self.ticks.arrange(partitions.len());
        match goal {
            Goal::Committed { .. } | Goal::Following => {
                self.machine
                    .begin_replay(layout, partitions, starts.clone())
            }
            Goal::Audit => self
                .machine
                .begin_script(layout, partitions, starts.clone()),
        }
        Ok(self.script_replay(starts, total))
    }

    /// A replay that reads from these positions on.
    fn script_replay(&self, starts: Vec<NextOffset>, total: u64) -> ScriptReplay {
        ScriptReplay {
            inbox: Inbox::new(starts.len()),
            paused: vec![false; starts.len()],
            read_to: starts,
            records: 0,
            total,
            diverged: 0,
            told: self.elapsed(),
        }
    }

    /// Goes on reading where the epoch of a stored state ended.
    fn begin_after(&mut self, base: &StoreHead, goal: Goal<'_>) -> Result<ScriptReplay, RunError> {
        let layout = self.machine.layout().clone();
        let partitions = self.partitions_of(&layout)?;
        let positions = self.machine.positions().to_vec();
        self.attendant
            .retry(|| self.ports.source.arrange(partitions.clone()))?;
        self.ports.sink.arrange(&partitions);
        self.check_starts(&partitions, &positions, base.epoch)?;
        self.attendant
            .retry(|| self.ports.source.seek(&positions))?;
        self.ticks.go_on(&base.newest_ms, partitions.len());
        let total = self.records_of(goal, &positions)?;
        Ok(self.script_replay(positions, total))
    }

    /// About the number of records from `starts` to the end of a replay; 0 for an audit.
    fn records_of(&mut self, goal: Goal<'_>, starts: &[NextOffset]) -> Result<u64, RunError> {
        let end: i64 = match goal {
            Goal::Committed { committed, .. } => {
                let positions = committed.positions.iter().flatten();
                positions.map(|at| at.0).sum()
            }
            Goal::Following => {
                let ends = self.attendant.retry(|| self.ports.source.ends())?;
                ends.iter().map(|end| end.stable.0).sum()
            }
            Goal::Audit => return Ok(0),
        };
        let start: i64 = starts.iter().map(|start| start.0).sum();
        Ok((end - start).max(0) as u64)
    }

    /// Goes on under another layout: further partitions are read from their starts.
    fn follow_layout(
        &mut self,
        layout: &PartitionLayout,
        replay: Option<&mut ScriptReplay>,
    ) -> Result<(), RunError> {
        let Some(replay) = replay else { return Ok(()) };
        if *layout == *self.machine.layout() {
            return Ok(());
        }
        let partitions = self.partitions_of(layout)?;
        let known = replay.read_to.len();
        self.attendant
            .retry(|| self.ports.source.arrange(partitions.clone()))?;
        self.ports.sink.arrange(&partitions);
        let starts = self.attendant.retry(|| self.ports.source.starts())?;
        let mut positions = self.machine.positions().to_vec();
        positions.extend_from_slice(&starts[known..]);
        // What was read ahead is read again: a seek drops it, and layouts are rare.
        self.attendant
            .retry(|| self.ports.source.seek(&positions))?;
        self.ticks.arrange(partitions.len());
        self.machine.follow_layout(layout, partitions, &starts);
        replay.inbox = Inbox::new(positions.len());
        replay.paused = vec![false; positions.len()];
        replay.read_to = positions;
        Ok(())
    }

    /// The partitions of a layout, with the tables that the configuration reads their topics as.
    fn partitions_of(&self, layout: &PartitionLayout) -> Result<Vec<InputPartition>, PortError> {
        let tables_of = |topic: &str| {
            self.topics
                .iter()
                .find(|(name, _)| name == topic)
                .map(|(_, tables)| tables.clone())
        };
        let mut partitions = Vec::with_capacity(layout.partitions.len());
        for place in &layout.partitions {
            let Some(tables) = tables_of(&place.topic) else {
                return Err(PortError::fatal(
                    PortCause::NotConfigured,
                    format!(
                        "committed epochs were read from topic '{}', which no [[sources]] names now; name it again, or start a new deployment",
                        place.topic
                    ),
                ));
            };
            partitions.push(InputPartition {
                topic: place.topic.clone(),
                partition: place.partition,
                tables,
            });
        }
        Ok(partitions)
    }

    /// Rows are applied from the epoch after `epoch` on; what retention has taken from the input
    /// topics is missing for good.
    fn check_starts(
        &mut self,
        partitions: &[InputPartition],
        starts: &[NextOffset],
        epoch: u64,
    ) -> Result<(), RunError> {
        let here = self.attendant.retry(|| self.ports.source.starts())?;
        let mut places = partitions.iter().zip(starts).zip(here);
        let Some(((partition, start), here)) = places.find(|((_, start), here)| *start < here)
        else {
            return Ok(());
        };
        let InputPartition {
            topic, partition, ..
        } = partition;
        // A state that could not be read may need none of them.
        let unusable = self.stored.unusable.as_ref();
        let first = unusable.map_or_else(String::new, |unusable| {
            format!("The stored state was passed over ({unusable}): mend that and start again. Otherwise: ")
        });
        Err(PortError::fatal(
            PortCause::RecordsExpired,
            format!(
                "the rows after epoch {epoch} begin at offset {} of partition {partition} of '{topic}', but its log starts at {} now: a start \
                 needs every row from there on, and retention has removed some. {first}Start a new deployment, and keep its input topics: for \
                 good (retention.ms=-1), or with store.dir for longer than the process may be down",
                start.0, here.0
            ),
        )
        .into())
    }

    /// Applies the rows of one epoch. `false` at the stop signal.
    fn replay_epoch(
        &mut self,
        record: &EpochRecord,
        replay: &mut ScriptReplay,
        goal: Goal<'_>,
    ) -> Result<bool, RunError> {
        record.work_note()?;
        let Some(batch) = self.interval(record, replay)? else {
            return Ok(false);
        };
        let Some(decoded) = self.decode_recorded(&batch, record)? else {
            return Ok(false);
        };
        self.data_fit.observe(&self.catalog, &decoded.rows);
        self.tell_fit(false);
        for read in batch.iter() {
            let (partition, timestamp_ms) = (read.partition(), read.timestamp_ms());
            self.ticks
                .note(partition, timestamp_ms, record.clock.bound_at);
        }
        match goal {
            Goal::Committed { .. } | Goal::Following => {
                self.follow_release(record)?;
                if !self.machine.replay(decoded, record) {
                    replay.diverged += 1;
                    self.metrics.diverged();
                }
            }
            Goal::Audit => self.compare(&batch, decoded, record),
        }
        replay.records += batch.len() as u64;
        self.taken += batch.len() as u64;
        self.metrics.replayed(batch.len() as u64);
        self.summary.replayed_epochs += 1;
        self.committed = (self.machine.number(), self.machine.as_of());
        let erased = self.take_erased();
        self.forget(erased);
        self.metrics.erased_hashes(self.machine.erased_hashes());
        self.read_model.beat();
        if self.elapsed().saturating_sub(replay.told) > Duration::from_secs(2) {
            self.tell_replay(record, replay, goal);
            replay.told = self.elapsed();
        }
        Ok(!self.stopped())
    }

    /// Shows how far a replay is.
    fn tell_replay(&mut self, record: &EpochRecord, replay: &ScriptReplay, goal: Goal<'_>) {
        if matches!(goal, Goal::Following) && self.tell_following() {
            return;
        }
        let (done, total) = (replay.records, replay.total);
        tracing::info!(done, total, epoch = record.epoch, "applying rows");
        if matches!(goal, Goal::Following) {
            return;
        }
        let phase = Phase::Replaying { done, total };
        let reason = Some("applying the rows of what is committed".into());
        self.read_model.set_status(self.status(phase, reason));
        self.answer_requests(false);
    }

    /// The records of one epoch of the script. `None` at the stop signal.
    fn interval(
        &mut self,
        record: &EpochRecord,
        replay: &mut ScriptReplay,
    ) -> Result<Option<RecordBatch>, RunError> {
        let mut progress = self.elapsed();
        loop {
            self.pass_skipped(record, replay)?;
            let missing = record
                .partitions
                .iter()
                .zip(&replay.read_to)
                .position(|(interval, read_to)| read_to.0 < interval.end);
            let Some(missing) = missing else { break };
            if self.stopped() {
                return Ok(None);
            }
            self.pause_or_resume(record, replay)?;
            let mut batch = RecordBatch::default();
            let limit = PollLimit {
                records: self.options.max_records,
                bytes: self.options.max_bytes,
            };
            self.poll(&mut batch, limit, WAIT)?;
            self.read_model.beat();
            batch.iter().for_each(|record| replay.inbox.push(record));
            let read_to = self.attendant.retry(|| self.ports.source.read_to())?;
            if read_to != replay.read_to {
                replay.read_to = read_to;
                progress = self.elapsed();
                self.attendant.report("replay", None);
            } else if self.elapsed().saturating_sub(progress) > PATIENCE {
                let InputPartition {
                    topic, partition, ..
                } = &self.ports.source.partitions()[missing];
                let reason = format!(
                    "epoch {} needs records of {topic}/{partition} up to offset {}, and nothing comes; waiting for its brokers",
                    record.epoch, record.partitions[missing].end
                );
                self.attendant.report("replay", Some(reason));
            }
        }
        self.attendant.report("replay", None);
        let mut taken = RecordBatch::default();
        for (partition, interval) in record.partitions.iter().enumerate() {
            replay.inbox.take(
                partition,
                interval.end,
                (usize::MAX, usize::MAX),
                &mut taken,
            );
        }
        // A replica that is whole again may give what was left out: it stays left out.
        taken.retain(|r| {
            !record
                .skipped
                .iter()
                .any(|range| range.holds(r.partition(), r.offset()))
        });
        Ok(Some(taken))
    }

    /// Reads on behind batches that were left out.
    fn pass_skipped(
        &mut self,
        record: &EpochRecord,
        replay: &mut ScriptReplay,
    ) -> Result<(), RunError> {
        for range in &record.skipped {
            let partition = range.partition as usize;
            let read_to = &mut replay.read_to[partition];
            if (range.start..range.end).contains(&read_to.0) {
                let to = NextOffset(range.end);
                self.attendant
                    .retry(|| self.ports.source.skip_to(partition as u32, to))?;
                *read_to = to;
            }
        }
        Ok(())
    }

    /// Keeps what is read ahead within its bytes: only the partitions that the epoch needs are
    /// fetched beyond it.
    fn pause_or_resume(
        &mut self,
        record: &EpochRecord,
        replay: &mut ScriptReplay,
    ) -> Result<(), RunError> {
        let is_full = replay.inbox.bytes() > READ_AHEAD_BYTES;
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for (index, (interval, read_to)) in
            record.partitions.iter().zip(&replay.read_to).enumerate()
        {
            let is_needed = read_to.0 < interval.end;
            let is_paused = &mut replay.paused[index];
            if is_full && !is_needed && !*is_paused {
                pause.push(index as u32);
                *is_paused = true;
            } else if *is_paused && (is_needed || replay.inbox.bytes() < READ_AHEAD_BYTES / 2) {
                resume.push(index as u32);
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

    /// Decodes by the recorded decisions, waiting for a registry that is away. `None` at the stop
    /// signal.
    fn decode_recorded(
        &mut self,
        batch: &RecordBatch,
        record: &EpochRecord,
    ) -> Result<Option<Decoded>, RunError> {
        loop {
            // Records of format 1 do not hold the decisions of their time: today's answer has to
            // do.
            let verdicts = if record.version == 1 {
                SchemaVerdicts::Store
            } else {
                SchemaVerdicts::Recorded(&record.refused)
            };
            let decoded = self.decoders.decode(
                batch,
                self.ports.source.partitions(),
                &self.catalog,
                self.ports.schemas.as_ref(),
                verdicts,
            );
            let Some(blocked) = decoded.blocked.first() else {
                self.attendant.report("schemas", None);
                return Ok(Some(decoded));
            };
            self.metrics.waited_for_schema();
            let topic = &self.ports.source.partitions()[blocked.partition as usize].topic;
            self.attendant.report(
                "schemas",
                Some(format!(
                    "offset {} of {topic}: {}",
                    blocked.offset, blocked.reason
                )),
            );
            self.read_model.beat();
            self.attendant.wait(WAIT);
            if self.stopped() {
                return Ok(None);
            }
        }
    }

    /// Reads back what consumers have: policy states, work lists, scores with their explanations, the
    /// newest alerts; of a stored state what came after it. With the state of the last epoch
    /// (`is_last`) only pages need any of it. `false` at the stop signal.
    fn read_state_back(&mut self, is_last: bool) -> Result<bool, RunError> {
        let done = self.taken;
        let phase = |this: &Self, reason: Option<String>| {
            this.status(Phase::Replaying { done, total: done }, reason)
        };
        let status = phase(self, Some("reading scores and alert states back".into()));
        self.read_model.set_status(status);
        let mut unmatched = 0_u64;
        let is_read = is_last
            || self.read_policies_back(&mut unmatched)? && self.read_lists_back(&mut unmatched)?;
        if !is_read {
            return Ok(false);
        }
        let Some(mut scores) = self.read_scores_back(is_last, &mut unmatched)? else {
            return Ok(false);
        };
        self.stored.give_histories(&mut scores);
        let alerts = self.read_alerts_back(&mut unmatched)?;
        let letters = self.read_letters_back()?;
        if unmatched > 0 {
            tracing::info!(
                records = unmatched,
                "scores and alert states of tasks or entities that are not there any more are left out"
            );
        }
        let status = phase(self, None);
        self.publish_older_ranks(&scores);
        self.read_model.publish_dead_letters(letters);
        self.read_model
            .publish_work_lists(self.machine.work_lists());
        self.read_model.publish_said(self.machine.said_view());
        self.read_model.publish(scores, alerts, status);
        Ok(true)
    }

    /// Policy states are needed: one that cannot be read is an error. `false` at the stop signal.
    pub(super) fn read_policies_back(&mut self, unmatched: &mut u64) -> Result<bool, RunError> {
        let states = self.latest(Output::PolicyState)?;
        for value in states.into_values().flatten() {
            let record = self.readable_policy(&value)?;
            *unmatched += u64::from(self.machine.restore_policy(&record).is_err());
            self.read_model.beat();
            if self.stopped() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Work lists are needed, where any are made: a list is written when it differs from the one
    /// before. `false` at the stop signal.
    fn read_lists_back(&mut self, unmatched: &mut u64) -> Result<bool, RunError> {
        if !self.machine.deployed().makes_work_lists() {
            return Ok(true);
        }
        for value in self.latest(Output::WorkLists)?.into_values().flatten() {
            let record = self.readable_list(&value)?;
            *unmatched += u64::from(self.machine.restore_list(record).is_err());
            self.read_model.beat();
            if self.stopped() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Scores are for pages and explanations only: one that cannot be read is missing until it is
    /// scored again. `None` at the stop signal.
    fn read_scores_back(
        &mut self,
        is_last: bool,
        unmatched: &mut u64,
    ) -> Result<Option<Vec<ShownScore>>, RunError> {
        let mut scores = Vec::new();
        let newer = self.latest(Output::CurrentScores)?;
        if !is_last {
            self.forget_deleted(&newer);
        }
        let stored = self.stored.take_scores(&newer).into_iter();
        let stored = stored.map(|value| (value, true));
        let read_back = newer.values().flatten().cloned();
        for (value, is_stored) in stored.chain(read_back.map(|value| (value, is_last))) {
            let view = self.readable_score(&value)?.map(|record| match is_stored {
                // The state has its explanation.
                true => self.machine.show_score(&record),
                false => self.machine.restore_score(&record),
            });
            match view {
                Some(Ok(view)) => scores.push(view),
                Some(Err(_)) | None => *unmatched += 1,
            }
            self.read_model.beat();
            if self.stopped() {
                return Ok(None);
            }
        }
        self.stored.note_scores(newer);
        Ok(Some(scores))
    }

    /// The newest alerts, oldest first.
    fn read_alerts_back(&mut self, unmatched: &mut u64) -> Result<Vec<ShownAlert>, RunError> {
        let mut values = Vec::new();
        let outputs = &mut self.ports.outputs;
        self.attendant.retry(|| {
            values.clear();
            outputs.newest(Output::Alerts, ALERTS_KEPT, &mut |_, value| {
                values.extend(value.map(<[u8]>::to_vec));
                Ok(())
            })
        })?;
        let mut alerts = Vec::new();
        for value in &values {
            match self.readable_alert(value)? {
                Some(record) => {
                    let alert = self.machine.restore_alert(&record);
                    alerts.extend(alert.map(|alert| (record.epoch, alert)));
                }
                None => *unmatched += 1,
            }
        }
        // The topic has several partitions: the order of epochs is that of all alerts.
        alerts.sort_by_key(|(epoch, _)| *epoch);
        Ok(alerts.into_iter().map(|(_, alert)| alert).collect())
    }

    /// The newest dead letters, oldest first.
    fn read_letters_back(&mut self) -> Result<Vec<KeptLetter>, RunError> {
        let mut letters = Vec::new();
        let (attendant, outputs) = (&self.attendant, &mut self.ports.outputs);
        let read = attendant.retry(|| {
            letters.clear();
            outputs.newest_whole(Output::DeadLetters, LETTERS_READ_BACK, &mut |letter| {
                // Only a bounded part of each is kept, and letters may be large.
                letters.extend(KeptLetter::of(&letter));
                attendant.beat();
                Ok(())
            })
        });
        match read {
            Ok(()) => {}
            Err(stop @ PortError::Interrupted(_)) => return Err(stop.into()),
            // They are for pages only, and stay in their topic.
            Err(error) => tracing::warn!(%error, "older dead letters are not shown"),
        }
        // The topic has several partitions: the order of epochs is that of all letters.
        letters.sort_by_key(|letter| letter.refused_as_of);
        self.forget_older(&mut letters);
        Ok(letters)
    }

    /// Leaves dead letters out that were written before somebody was erased: their bytes may be of
    /// that person.
    pub(super) fn forget_older(&self, letters: &mut Vec<KeptLetter>) {
        if let Some(erased_ms) = self.machine.erased_until_ms() {
            let is_newer =
                |letter: &KeptLetter| letter.refused_as_of.is_some_and(|at| at.ms() > erased_ms);
            letters.retain(is_newer);
        }
    }

    /// Forgets what the stored state has of entities whose scores were deleted after its epoch.
    pub(super) fn forget_deleted(&mut self, newer: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) {
        if newer.values().any(Option::is_none) {
            let is_deleted = |key: &[u8]| newer.get(key).is_some_and(Option::is_none);
            self.machine.forget_deleted(is_deleted);
        }
    }

    /// The newest value by key of a compacted output, behind the epoch of the stored state.
    pub(super) fn latest(
        &mut self,
        output: Output,
    ) -> Result<BTreeMap<Vec<u8>, Option<Vec<u8>>>, RunError> {
        let mut newest: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        let (attendant, outputs) = (&self.attendant, &mut self.ports.outputs);
        let from = self.stored.outputs();
        attendant.retry(|| {
            newest.clear();
            outputs.latest(output, from, &mut |key, value| {
                newest.insert(key.to_vec(), value.map(<[u8]>::to_vec));
                attendant.beat();
                if attendant.is_stopped() {
                    Err(PortError::interrupted(
                        PortCause::Stopped,
                        "reading scores and alert states back",
                    ))
                } else {
                    Ok(())
                }
            })
        })?;
        Ok(newest)
    }
}

/// Committed positions in the order of a layout. Topics list a partition that was added beside
/// their others; a layout lists it last.
pub(super) fn in_order_of(
    layout: &PartitionLayout,
    committed: &CommittedEpoch,
    asked: &[InputPartition],
) -> CommittedEpoch {
    let position = |topic: &str, partition: i32| {
        let index = asked
            .iter()
            .position(|p| p.topic == topic && p.partition == partition)?;
        committed.positions.get(index).copied().flatten()
    };
    CommittedEpoch {
        positions: layout
            .partitions
            .iter()
            .map(|p| position(&p.topic, p.partition))
            .collect(),
        ..committed.clone()
    }
}
