//! The end of an epoch: one transaction, then everything that may count or show it. The next epoch
//! is computed meanwhile.

use leadpulse_schema::units::AsOf;

use std::sync::Arc;
use std::time::Duration;

use super::stored::{ScoreName, StateChange, name_of};
use super::{ANSWERS_BETWEEN_EPOCHS, Engine, RunError};
use crate::decode::Decoded;
use crate::epoch::{Committed, Ending, Epoch, EpochViews, Sealed, TickClosing, UnderWay};
use crate::explain::{ExplainQueue, ExplainRefusal};
use crate::machine::{AsOfRule, Cut, CutTicks, ErasedNames, Readings};
use crate::ports::RecordBatch;
use crate::questions::QuestionQueue;
use crate::read_model::{EngineStatus, EpochTimes, Phase, StageTime};

/// Longest wait for a commit before the engine asks for it again.
const COMMIT_WAIT: Duration = Duration::from_millis(50);

/// An epoch that the sink is committing.
pub(super) struct InFlight {
    epoch: Epoch<UnderWay>,
    was: AtSealing,
}

/// The state that an epoch was sealed in, as far as its end shows or stores it: once the epoch is
/// committed the machine may be one further.
struct AtSealing {
    /// Start of the epoch's work, by the clock's elapsed time.
    started: Duration,
    /// Start of its commit, likewise.
    begun: Duration,
    /// Kafka timestamp of its newest record.
    newest_ms: Option<i64>,
    is_caught_up: bool,
    as_of: Option<AsOf>,
    /// Entities that wait to be scored by another model.
    rescoring: u64,
    /// The tasks that there are, where a swap has changed them.
    tasks: Option<Vec<Arc<str>>>,
    erased: Vec<ErasedNames>,
    erased_hashes: usize,
    stored: Option<StateChange>,
}

impl Engine {
    /// Commits a sealed epoch, counts it, and shows it. See [`Self::begin_commit`].
    pub(super) fn commit(
        &mut self,
        sealed: Epoch<Sealed>,
        started: Duration,
        newest_ms: Option<i64>,
    ) -> Result<(), RunError> {
        self.begin_commit(sealed, started, newest_ms)?;
        self.finish_commit()
    }

    /// Begins to commit a sealed epoch, once the one before is committed. It is counted and shown by
    /// [`Self::look_at_commit`] or [`Self::finish_commit`], after its commit, so that nothing is visible
    /// here that a restart may lose (C1). `newest_ms` is the Kafka timestamp of its newest record.
    // Decision: docs/decisions/0088-a-commit-overlaps-the-next-epoch.md
    pub(super) fn begin_commit(
        &mut self,
        sealed: Epoch<Sealed>,
        started: Duration,
        newest_ms: Option<i64>,
    ) -> Result<(), RunError> {
        self.finish_commit()?;
        self.read_model.beat();
        let begun = self.elapsed();
        let epoch = sealed.begin(self.ports.sink.as_mut())?;
        let rescoring = self.machine.rescoring();
        self.taken += epoch.record.records();
        let was = AtSealing {
            started,
            begun,
            newest_ms,
            is_caught_up: self.gauges.is_caught_up,
            as_of: self.machine.as_of(),
            rescoring: rescoring.map_or(0, |note| note.waiting),
            tasks: self.take_changed_tasks(),
            erased: self.take_erased(),
            erased_hashes: self.machine.erased_hashes(),
            stored: self.take_state_change(&epoch.sealed),
        };
        self.in_flight = Some(InFlight { epoch, was });
        Ok(())
    }

    /// Counts and shows the epoch under way if it is committed by now.
    pub(super) fn look_at_commit(&mut self) -> Result<(), RunError> {
        self.await_commit(Duration::ZERO)
    }

    /// Waits until the epoch under way is committed, counts and shows it.
    pub(super) fn finish_commit(&mut self) -> Result<(), RunError> {
        while self.in_flight.is_some() {
            // The sink reports and beats while it waits.
            self.await_commit(COMMIT_WAIT)?;
        }
        Ok(())
    }

    fn await_commit(&mut self, wait: Duration) -> Result<(), RunError> {
        let Some(InFlight { epoch, was }) = self.in_flight.take() else {
            return Ok(());
        };
        match epoch.end(self.ports.sink.as_mut(), wait)? {
            Ending::Committed(epoch, since) => self.show(epoch, since, was),
            Ending::UnderWay(epoch) => self.in_flight = Some(InFlight { epoch, was }),
        }
        Ok(())
    }

    /// Counts an epoch that was committed `since` ago, and shows it.
    fn show(&mut self, epoch: Epoch<Committed>, since: Duration, was: AtSealing) {
        let at = self.elapsed().saturating_sub(since);
        let produce = at.saturating_sub(was.begun).as_secs_f64();
        let whole = at.saturating_sub(was.started).as_secs_f64();
        self.metrics.stage("produce", produce);
        let wall_ms = self.ports.clock.wall_ms() - since.as_millis() as i64;
        let newest_ms = was.newest_ms.filter(|t| *t > 0);
        let pipeline = newest_ms.map(|t| (wall_ms - t) as f64 / 1000.0);
        self.metrics.committed(
            &epoch,
            self.ports.source.partitions(),
            whole,
            // The age of history that is read is no latency.
            pipeline.filter(|_| was.is_caught_up),
        );
        self.read_model.set_epoch_times(EpochTimes {
            seconds: whole,
            newest_record_age_seconds: pipeline,
            ..epoch_times(&epoch, produce)
        });
        self.metrics.rescoring(was.rescoring);
        self.summary.count(&epoch);
        self.committed = (epoch.sealed.number, was.as_of);
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
        if let Some(tasks) = was.tasks {
            self.read_model.keep_tasks(&tasks);
        }
        self.read_model.publish_work_lists(work_lists);
        self.read_model.publish_dead_letters(dead_letters);
        self.read_model.publish_traced(status.epoch, traced);
        // Before the scores and alerts, which show it.
        self.read_model.publish_said(said);
        let shown: Vec<ScoreName> = scores.iter().map(|score| name_of(&score.record)).collect();
        self.note_not_stored(&sealed, &shown);
        self.read_model.publish(scores, alerts, status);
        // After all that the epoch showed: a tick of it may have told of the person.
        self.forget(was.erased);
        self.metrics.erased_hashes(was.erased_hashes);
        if let Some(change) = was.stored {
            self.store_epoch(&sealed, change, &shown);
        }
    }

    /// The persons whom the machine has erased since the last call, as far as they are gone.
    pub(super) fn take_erased(&mut self) -> Vec<ErasedNames> {
        let mut erased = self.machine.take_erased();
        if !erased.is_empty() && !self.machine.erases_by_secret() {
            tracing::warn!(
                persons = erased.len(),
                "erased persons are recognised by hashes without a secret, so proofs and stored state can be tested for guesses; \
                 set erasure.secret in a new deployment: another key does not recognise those erased before"
            );
        }
        for names in &mut erased {
            // A person whose erasure was lifted at once may be there again.
            let machine = &self.machine;
            let is_gone = |(table, key): &(Arc<str>, Arc<str>)| machine.is_erased(Some(table), key);
            names.entities.retain(is_gone);
        }
        erased
    }

    /// Lets pages forget persons, and notes them for the store.
    pub(super) fn forget(&mut self, erased: Vec<ErasedNames>) {
        for names in erased {
            self.read_model.forget(&names);
            self.stored.note_erased(names);
        }
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

    /// True if anybody waits for an answer of the machine.
    pub(super) fn is_asked(&self) -> bool {
        self.questions
            .as_ref()
            .is_some_and(QuestionQueue::is_waiting)
            || self.requests.as_ref().is_some_and(ExplainQueue::is_waiting)
    }

    /// Answers requests for explanations from committed state, or refuses them while there is none.
    /// No epoch is under way: the machine has its rows.
    pub(super) fn answer_requests(&self, ready: bool) {
        debug_assert!(self.in_flight.is_none());
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
        let in_flight = self.in_flight.as_ref();
        let in_flight = in_flight.map_or(0, |under_way| under_way.epoch.record.records());
        EngineStatus {
            phase,
            epoch,
            as_of_ms: as_of.map(AsOf::ms),
            records: self.taken - in_flight,
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
