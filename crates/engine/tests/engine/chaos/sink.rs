//! A sink with the protocol of decisions 0002 and 0003 over the simulated coordinator, and flaws that
//! a judge must find.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use leadpulse_engine::ports::{
    CommittedEpoch, InputPartition, NextOffset, Nonce, PortCause, PortError, SealedEpoch, Sink,
};

use super::coordinator::{GroupMetadata, GroupOffsets, LateCopy, Replaced};
use super::plan::{Disturbance, StepPlace};
use super::world::{World, token};

/// A mistake in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// After a failed attempt the process goes back to the committed epoch and seals another one,
    /// under the same producer.
    RewindsWhileOwning,
    /// An epoch that is not committed is sent with the bytes of the one before.
    ResendsAnother,
    /// Positions are committed before the records.
    PositionsFirst,
    /// An epoch in doubt passes for committed.
    PromotesEarly,
    /// An epoch passes for committed by its number alone.
    PromotesByNumber,
    /// The producer stays though a request of its was not answered.
    KeepsProducer,
}

pub struct Producer {
    epoch: u64,
    /// A copy of a request may be under way.
    is_unanswered: bool,
}

enum Attempt {
    Committed,
    InDoubt,
    Fenced,
    Unanswered,
}

pub struct SimSink {
    world: World,
    me: usize,
    token: String,
    flaw: Option<Flaw>,
    producer: Option<Producer>,
    standing: Option<GroupMetadata>,
    before: Option<Arc<SealedEpoch>>,
    begun: Option<Begun>,
    kept: KeptProducer,
}

/// An epoch under way.
struct Begun {
    epoch: Arc<SealedEpoch>,
    /// True once it is committed; the process does not know yet.
    is_committed: bool,
    /// Looks until the process knows.
    looks: usize,
}

/// The producer that a process with the flaw [`Flaw::RewindsWhileOwning`] goes on with.
pub type KeptProducer = Arc<Mutex<Option<Producer>>>;

/// The verdict on an epoch in doubt.
enum Verdict {
    Promoted,
    SendAgain,
    OtherOwner,
    Unexplained,
}

impl SimSink {
    pub fn new(world: &World, me: usize, flaw: Option<Flaw>, kept: KeptProducer) -> Self {
        Self {
            world: world.clone(),
            me,
            token: token(me),
            flaw,
            producer: None,
            standing: None,
            before: None,
            begun: None,
            kept,
        }
    }

    fn step(&self, place: StepPlace) -> Result<(), PortError> {
        self.world.step(self.me, place)
    }

    fn happens(&self, kind: Disturbance, probability: f64) -> bool {
        self.world.happens(kind, probability)
    }

    fn other_owner(&self) -> bool {
        self.world.is_owned_by_another(self.me)
    }

    fn init(&mut self) {
        let epoch = self.world.lock().coordinator.init();
        self.producer = Some(Producer {
            epoch,
            is_unanswered: false,
        });
    }

    /// One transaction of records and offsets.
    fn attempt(
        &mut self,
        epoch: &SealedEpoch,
        offsets: &GroupOffsets,
    ) -> Result<Attempt, PortError> {
        let Some(producer) = &self.producer else {
            return Ok(Attempt::Unanswered);
        };
        if producer.is_unanswered && self.flaw != Some(Flaw::KeepsProducer) {
            return Ok(Attempt::Unanswered);
        }
        let producer = producer.epoch;
        self.step(StepPlace::BeforeCommit)?;
        if self.flaw == Some(Flaw::PositionsFirst) {
            if self.write(|it| it.add_offsets(producer, offsets))
                || self.write(|it| it.commit(producer))
            {
                return Ok(Attempt::Fenced);
            }
            self.step(StepPlace::BeforeCommit)?;
        }
        let half = epoch.outputs.len() / 2;
        for part in [&epoch.outputs[..half], &epoch.outputs[half..]] {
            if self.write(|it| it.add_records(producer, part)) {
                return Ok(Attempt::Fenced);
            }
            self.step(StepPlace::BeforeCommit)?;
        }
        if self.write(|it| it.add_offsets(producer, offsets)) {
            return Ok(Attempt::Fenced);
        }
        if self.happens(Disturbance::CopyLate, 0.03) {
            self.leave_copy(producer, LateCopy::Offsets(offsets.clone()));
        }
        self.step(StepPlace::BeforeCommit)?;
        self.request_commit(producer)
    }

    fn request_commit(&mut self, producer: u64) -> Result<Attempt, PortError> {
        if self.happens(Disturbance::RequestLost, 0.04) {
            return Ok(Attempt::InDoubt);
        }
        if self.happens(Disturbance::RequestLate, 0.04) {
            let steps = 1 + self.world.below(12) as u32;
            let mut state = self.world.lock();
            state
                .coordinator
                .send_late(producer, LateCopy::Commit, steps);
            drop(state);
            self.step(StepPlace::AfterCommit)?;
            return Ok(Attempt::InDoubt);
        }
        if self.write(|it| it.commit(producer)) {
            return Ok(Attempt::Fenced);
        }
        if !self.happens(Disturbance::MarkersLate, 0.1) {
            self.world.lock().coordinator.write_markers();
        }
        self.step(StepPlace::AfterCommit)?;
        if self.happens(Disturbance::AnswerLost, 0.04) {
            return Ok(Attempt::InDoubt);
        }
        if self.happens(Disturbance::CopyLate, 0.04) {
            self.leave_copy(producer, LateCopy::Commit);
        }
        Ok(Attempt::Committed)
    }

    /// Leaves a copy of a request under way.
    fn leave_copy(&mut self, producer: u64, copy: LateCopy) {
        let steps = 2 + self.world.below(25) as u32;
        let mut state = self.world.lock();
        state.coordinator.send_late(producer, copy, steps);
        drop(state);
        if let Some(producer) = &mut self.producer {
            producer.is_unanswered = true;
        }
    }

    /// Sends a request. True if the producer was replaced.
    fn write(
        &self,
        request: impl FnOnce(&mut super::coordinator::Coordinator) -> Result<(), Replaced>,
    ) -> bool {
        request(&mut self.world.lock().coordinator).is_err()
    }

    fn offsets_of(&self, epoch: &SealedEpoch) -> GroupOffsets {
        GroupOffsets {
            metadata: GroupMetadata {
                number: epoch.number,
                as_of_ms: epoch.as_of_ms,
                nonce: epoch.nonce,
                owner: self.token.clone(),
            },
            positions: epoch.positions.clone(),
        }
    }

    /// Settles an epoch in doubt: a new producer, then the committed offsets decide.
    fn settle(&mut self, epoch: &SealedEpoch) -> Result<Verdict, PortError> {
        self.step(StepPlace::AfterCommit)?;
        let by_number_alone = self.flaw == Some(Flaw::PromotesByNumber);
        if !by_number_alone && self.other_owner() {
            return Ok(Verdict::OtherOwner);
        }
        self.step(StepPlace::BeforeCommit)?;
        self.init();
        self.step(StepPlace::AfterCommit)?;
        let found = self.world.lock().coordinator.offsets_stable();
        let Some(found) = found.map(|found| found.metadata) else {
            return Ok(Verdict::Unexplained);
        };
        if by_number_alone {
            return Ok(match found.number == epoch.number {
                true => Verdict::Promoted,
                false => Verdict::SendAgain,
            });
        }
        let is_it = found.number == epoch.number && found.nonce == epoch.nonce;
        Ok(if found.owner != self.token {
            Verdict::OtherOwner
        } else if is_it {
            Verdict::Promoted
        } else if Some(&found) == self.standing.as_ref() {
            Verdict::SendAgain
        } else {
            Verdict::Unexplained
        })
    }

    fn fenced() -> PortError {
        PortError::fenced(PortCause::OtherOwner, "another process took over")
    }

    /// Goes back to what is committed, under the producer that there was.
    fn go_back(&mut self, producer: Producer) -> Option<GroupOffsets> {
        let mut state = self.world.lock();
        let _ = state.coordinator.abort_of(producer.epoch);
        let found = state.coordinator.offsets_now().cloned();
        drop(state);
        self.standing = found.as_ref().map(|found| found.metadata.clone());
        self.producer = Some(producer);
        found
    }

    /// Writes this owner's token. `None` where another take-over came between.
    fn try_take_over(&mut self) -> Result<Option<Option<GroupOffsets>>, PortError> {
        self.step(StepPlace::Restoring)?;
        self.init();
        let producer = self.producer.as_ref().map_or(0, |it| it.epoch);
        self.step(StepPlace::Restoring)?;
        let found = self.world.lock().coordinator.offsets_stable();
        self.step(StepPlace::Restoring)?;
        let owned = match &found {
            Some(found) => GroupOffsets {
                metadata: GroupMetadata {
                    owner: self.token.clone(),
                    ..found.metadata.clone()
                },
                positions: found.positions.clone(),
            },
            None => GroupOffsets {
                metadata: GroupMetadata {
                    number: 0,
                    as_of_ms: 0,
                    nonce: Nonce::default(),
                    owner: self.token.clone(),
                },
                positions: self.starts(),
            },
        };
        let add = |it: &mut super::coordinator::Coordinator| it.add_offsets(producer, &owned);
        if self.write(add) {
            return Ok(None);
        }
        self.step(StepPlace::Restoring)?;
        if !matches!(self.request_commit(producer)?, Attempt::Committed) {
            return Ok(None);
        }
        // The token stands for whoever asks without waiting.
        self.world.lock().coordinator.write_markers();
        self.standing = Some(owned.metadata);
        Ok(Some(found))
    }

    fn starts(&self) -> Vec<NextOffset> {
        let cluster = self.world.rig.broker.lock();
        cluster
            .starts
            .iter()
            .map(|start| NextOffset(*start))
            .collect()
    }
}

impl Sink for SimSink {
    fn owner(&self) -> &str {
        &self.token
    }

    fn arrange(&mut self, _: &[InputPartition]) {}

    fn take_over(&mut self) -> Result<Option<CommittedEpoch>, PortError> {
        let kept = self.kept.lock().unwrap().take();
        let found = match kept {
            Some(producer) => self.go_back(producer),
            None => loop {
                if let Some(found) = self.try_take_over()? {
                    break found;
                }
            },
        };
        let found = found.filter(|found| found.metadata.number > 0);
        Ok(found.map(|found| CommittedEpoch {
            number: found.metadata.number,
            as_of_ms: found.metadata.as_of_ms,
            nonce: Some(found.metadata.nonce),
            positions: found.positions.into_iter().map(Some).collect(),
        }))
    }

    fn check(&mut self) -> Result<(), PortError> {
        // A watch notices another owner after a while.
        if self.world.below(4) == 0 && self.other_owner() {
            return Err(Self::fenced());
        }
        Ok(())
    }

    fn begin(&mut self, epoch: &Arc<SealedEpoch>) -> Result<(), PortError> {
        assert!(self.begun.is_none(), "one epoch is under way at a time");
        let is_committed = self.world.below(2) == 0;
        if is_committed {
            self.commit(epoch)?;
        }
        self.begun = Some(Begun {
            epoch: epoch.clone(),
            is_committed,
            looks: self.world.below(8),
        });
        Ok(())
    }

    fn end(&mut self, wait: Duration) -> Result<Option<Duration>, PortError> {
        let Some(mut begun) = self.begun.take() else {
            return Ok(Some(Duration::ZERO));
        };
        if wait.is_zero() && begun.looks > 0 {
            begun.looks -= 1;
            self.begun = Some(begun);
            return Ok(None);
        }
        if !begun.is_committed {
            self.commit(&begun.epoch)?;
        }
        Ok(Some(Duration::ZERO))
    }

    fn commit(&mut self, epoch: &Arc<SealedEpoch>) -> Result<(), PortError> {
        let mut sent = epoch.clone();
        let offsets = self.offsets_of(epoch);
        loop {
            let attempt = self.attempt(&sent, &offsets)?;
            match attempt {
                Attempt::Committed => break,
                Attempt::InDoubt if self.flaw == Some(Flaw::PromotesEarly) => break,
                Attempt::InDoubt if self.flaw == Some(Flaw::RewindsWhileOwning) => {
                    *self.kept.lock().unwrap() = self.producer.take();
                    return Err(PortError::retriable(PortCause::NoAnswer, "gone back"));
                }
                Attempt::Fenced if self.other_owner() => {
                    self.producer = None;
                    if self.flaw != Some(Flaw::PromotesByNumber) {
                        return Err(Self::fenced());
                    }
                }
                Attempt::InDoubt | Attempt::Fenced | Attempt::Unanswered => self.producer = None,
            }
            if self.producer.is_some() {
                continue;
            }
            match self.settle(epoch)? {
                Verdict::Promoted => break,
                Verdict::SendAgain => {
                    if let (Some(Flaw::ResendsAnother), Some(before)) = (self.flaw, &self.before) {
                        sent = before.clone();
                    }
                }
                Verdict::OtherOwner => return Err(Self::fenced()),
                Verdict::Unexplained => {
                    return Err(PortError::fatal(
                        PortCause::PositionsForeign,
                        "offsets were changed from outside",
                    ));
                }
            }
        }
        self.standing = Some(offsets.metadata);
        self.before = Some(epoch.clone());
        Ok(())
    }
}
