//! The end of an epoch: one transaction, then everything that may count or show it.

use leadpulse_schema::units::AsOf;

use std::sync::Arc;
use std::time::Duration;

use super::stored::{ScoreName, name_of};
use super::{ANSWERS_BETWEEN_EPOCHS, Engine, RunError};
use crate::decode::Decoded;
use crate::epoch::{Committed, Epoch, EpochViews, Sealed, TickClosing};
use crate::explain::ExplainRefusal;
use crate::machine::{AsOfRule, Cut, CutTicks, Readings};
use crate::ports::RecordBatch;
use crate::read_model::{EngineStatus, EpochTimes, Phase, StageTime};

impl Engine {
    /// Commits a sealed epoch, counts it, and shows it: in this order, so that nothing is visible
    /// here that a restart may lose (C1). `newest_ms` is the Kafka timestamp of its newest record.
    pub(super) fn commit(
        &mut self,
        sealed: Epoch<Sealed>,
        started: Duration,
        newest_ms: Option<i64>,
    ) -> Result<(), RunError> {
        let transaction = self.elapsed();
        let epoch = sealed.commit(self.ports.sink.as_mut())?;
        let produce = self.seconds_since(transaction);
        self.metrics.stage("produce", produce);
        let pipeline = newest_ms
            .filter(|t| *t > 0)
            .map(|t| (self.ports.clock.wall_ms() - t) as f64 / 1000.0);
        self.metrics.committed(
            &epoch,
            self.ports.source.partitions(),
            self.seconds_since(started),
            // The age of history that is read is no latency.
            pipeline.filter(|_| self.gauges.is_caught_up),
        );
        self.read_model.set_epoch_times(EpochTimes {
            seconds: self.seconds_since(started),
            newest_record_age_seconds: pipeline,
            ..epoch_times(&epoch, produce)
        });
        let rescoring = self.machine.rescoring();
        self.metrics
            .rescoring(rescoring.map_or(0, |note| note.waiting));
        self.summary.count(&epoch);
        self.taken += epoch.record.records();
        self.committed = (self.machine.number(), self.machine.as_of());
        let status = self.status(Phase::Live, None);
        let now = self.elapsed();
        self.notices.note(&epoch.tally.notices, now);
        let sealed = epoch.sealed.clone();
        let EpochViews {
            scores,
            alerts,
            work_lists,
            dead_letters,
            said,
            traced,
        } = epoch.into_views();
        self.forget_removed_tasks();
        self.read_model.publish_work_lists(work_lists);
        self.read_model.publish_dead_letters(dead_letters);
        self.read_model.publish_traced(status.epoch, traced);
        // Before the scores and alerts, which show it.
        self.read_model.publish_said(said);
        let shown: Vec<ScoreName> = scores.iter().map(|score| name_of(&score.record)).collect();
        self.read_model.publish(scores, alerts, status);
        // After all that the epoch showed: a tick of it may have told of the person.
        self.forget_erased();
        self.store_epoch(&sealed, &shown);
        Ok(())
    }

    /// Lets pages forget persons whom the machine has erased, and notes them for the store.
    pub(super) fn forget_erased(&mut self) {
        let erased = self.machine.take_erased();
        if !erased.is_empty() && !self.machine.erases_by_secret() {
            tracing::warn!(
                persons = erased.len(),
                "erased persons are recognised by hashes without a secret, so proofs and stored state can be tested for guesses; \
                 set erasure.secret in a new deployment: another key does not recognise those erased before"
            );
        }
        for mut names in erased {
            // A person whose erasure was lifted at once may be there again.
            let machine = &self.machine;
            let is_gone = |(table, key): &(Arc<str>, Arc<str>)| machine.is_erased(Some(table), key);
            names.entities.retain(is_gone);
            self.read_model.forget(&names);
            self.stored.note_erased(names);
        }
        self.metrics.erased_hashes(self.machine.erased_hashes());
    }

    /// The places that hold copies of records now, where a request to erase may ask for them.
    pub(super) fn note_holdings(&mut self) {
        if self.machine.takes_erasures() {
            let mut holdings = self.ports.sink.holdings();
            holdings.extend(self.stored.snapshots());
            self.machine.note_holdings(holdings);
        }
    }

    /// One tick at the next board: the board is published, every cell scored, every score emitted.
    /// Where that is more than an epoch may do, epoch after epoch at that moment, until the stop
    /// signal.
    pub(super) fn close(&mut self) -> Result<(), RunError> {
        let at_ms = self.machine.closing_ms();
        let Some(board_ms) = at_ms.or_else(|| self.machine.next_board_ms()) else {
            tracing::warn!("nothing was accepted: there is nothing to score");
            return Ok(());
        };
        while !self.stopped() {
            let positions = self.machine.positions().to_vec();
            let cut = Cut {
                read: vec![0; positions.len()],
                positions,
                moment: AsOfRule::Fixed(AsOf::from_ms(board_ms)),
                clock: Readings::default(),
                closing: true,
                skipped: Vec::new(),
                ticks: self.closing_ticks(board_ms),
                work: self.costs.budget_of_history(&self.options),
            };
            let started = self.elapsed();
            let clock = &self.ports.clock;
            let elapsed = || clock.elapsed();
            let nothing = (RecordBatch::default(), Decoded::default());
            let stepped = self
                .machine
                .step_timed(&nothing.0, nothing.1, cut, &elapsed);
            self.costs.note(&stepped.tally);
            let closes = stepped.record.closing;
            self.commit(stepped, started, None)?;
            if closes {
                break;
            }
            self.read_model.beat();
            self.ports.sink.check()?;
        }
        Ok(())
    }

    /// The ticks of the closing tick. What alerts look back on without ticks before it is history:
    /// then they fire from the next tick on.
    fn closing_ticks(&mut self, board_ms: i64) -> CutTicks {
        let place = self.machine.ticks();
        let is_begun = self.machine.is_half_closed() || place.closed_ms >= Some(board_ms);
        let positions = self.machine.positions().iter().map(|at| at.0).collect();
        let closing = TickClosing {
            tick: board_ms,
            positions,
        };
        CutTicks {
            live_from_ms: Some(board_ms),
            closings: Some(closing).filter(|_| !is_begun).into_iter().collect(),
            before_ms: i64::MAX,
            ..CutTicks::default()
        }
    }

    /// Answers requests for explanations from committed state, or refuses them while there is none.
    pub(super) fn answer_requests(&self, ready: bool) {
        let limit = if ready {
            ANSWERS_BETWEEN_EPOCHS
        } else {
            usize::MAX
        };
        if let Some(questions) = &self.questions {
            questions.answer(limit, ready.then_some(&self.machine));
        }
        let Some(requests) = &self.requests else {
            return;
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

    pub(super) fn status(&self, phase: Phase, reason: Option<String>) -> EngineStatus {
        let (epoch, as_of) = self.committed;
        EngineStatus {
            phase,
            epoch,
            as_of_ms: as_of.map(AsOf::ms),
            records: self.taken,
            lag_records: self.gauges.lag_records,
            reason,
            deployed: self.deployed_status(),
        }
    }
}

/// The times of a committed epoch, for people.
fn epoch_times(epoch: &Epoch<Committed>, produce_seconds: f64) -> EpochTimes {
    let record = &epoch.record;
    let produce = ("produce", produce_seconds);
    let stages = epoch.tally.stage_seconds.iter().copied();
    EpochTimes {
        epoch: record.epoch.max(0) as u64,
        records: record.records(),
        scored: record.scored.max(0) as u64,
        scores: record.scores.max(0) as u64,
        alerts: record.alerts.max(0) as u64,
        stages: stages
            .chain([produce])
            .map(|(stage, seconds)| StageTime { stage, seconds })
            .collect(),
        linked_traces: epoch.tally.linked_traces.clone(),
        ..EpochTimes::default()
    }
}
