//! A follower: another process owns the outputs, this one applies the rows of its committed
//! epochs, shows them, and takes over when the owner is silent or has left.
//!
//! A follower never writes. It reads committed epoch records only, so its state is always that of
//! a restart at the last applied epoch. Taking over is the same fencing as that of any start
//! ([`Sink::take_over`](crate::ports::Sink::take_over)), so a follower that is wrong about the
//! owner costs a change of owners, and no record (C1, C3).

use std::time::Duration;

use super::follow_outputs::FollowedOutputs;
use super::restore::{Goal, ScriptReading, in_order_of};
use super::silence::{Look, Silence, Vacancy};
use super::{Engine, RunError};
use crate::epoch::EpochRecord;
use crate::ports::{Attendant, Heartbeats, InputPartition, OwnerSight, PortError, StoreHead};
use crate::read_model::{EngineStatus, Phase};
use crate::standby::StandbyOptions;

/// Time between two looks at the owner while everything is applied.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Pause before the epochs topic is read on while a committed epoch is not readable in it yet.
const READ_ON_AFTER: Duration = Duration::from_millis(5);
/// A follower that has not applied for this long what was committed is not ready.
const BEHIND_AT_MOST: Duration = Duration::from_secs(5);

/// The part of a process in a deployment with a standby.
pub(super) struct Standby {
    options: StandbyOptions,
    heartbeats: Box<dyn Heartbeats>,
    /// True once this process took over.
    owns: bool,
}

impl Standby {
    /// A process before its start.
    pub fn new(options: StandbyOptions, heartbeats: Box<dyn Heartbeats>) -> Self {
        Self {
            options,
            heartbeats,
            owns: false,
        }
    }

    /// Writes the sign that the owner ended on purpose.
    pub fn leave(&mut self) {
        if self.owns {
            self.heartbeats.leave();
        }
    }
}

/// Distance of a follower from what is committed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FollowerLag {
    /// Committed epochs that are not applied, at the last look.
    epochs: u64,
    /// A committed epoch that is not applied yet, with the moment at which it was seen. `None`
    /// while everything is applied, and before the first look.
    waits_for: Option<(u64, Duration)>,
    /// True after the first look.
    is_known: bool,
    /// True once everything was applied that the first look showed.
    has_caught_up: bool,
}

impl FollowerLag {
    /// Takes the number of the newest committed epoch and of the last applied one.
    fn note(&mut self, committed: u64, applied: u64, now: Duration) {
        self.epochs = committed.saturating_sub(applied);
        let waits = self.waits_for.filter(|(number, _)| *number > applied);
        // Under load there may always be an epoch that was committed just now.
        self.has_caught_up |= waits.is_none() && (self.is_known || self.epochs == 0);
        self.waits_for = waits.or((committed > applied).then_some((committed, now)));
        self.is_known = true;
    }

    /// True if everything that was committed a moment ago is applied.
    fn is_current(&self, now: Duration) -> bool {
        let since = |(_, since)| now.saturating_sub(since);
        self.has_caught_up && self.waits_for.map(since).unwrap_or_default() <= BEHIND_AT_MOST
    }
}

/// Everything that a follower has read.
struct Following {
    script: ScriptReading,
    /// The stored state that it began with.
    base: Option<StoreHead>,
    /// True once the epochs topic was read to an end.
    has_read: bool,
    outputs: FollowedOutputs,
    silence: Silence,
}

impl Engine {
    /// Follows the owner until there is none, takes over, and brings the state to the committed
    /// epoch. Returns that epoch's record; `None` before the first epoch and at the stop signal.
    pub(super) fn follow_and_take_over(
        &mut self,
        standby: &mut Standby,
    ) -> Result<Option<EpochRecord>, RunError> {
        self.found_at_start = self.ports.source.partitions().to_vec();
        self.metrics.role(false);
        let base = self.adopt_stored_to_follow()?;
        let Some(script) = self.begin_script(Goal::Following, base.as_ref())? else {
            return Ok(None);
        };
        tracing::info!(
            after = self.machine.number(),
            "following the epochs of the owner"
        );
        let limit = Duration::from_millis(standby.options.silence_ms);
        let mut following = Following {
            script,
            base,
            has_read: false,
            outputs: FollowedOutputs::default(),
            silence: Silence::new(limit),
        };
        let Some(vacancy) = self.follow(standby, &mut following)? else {
            return Ok(None);
        };
        tracing::info!(
            after = self.machine.number(),
            "taking over: {}",
            vacancy.in_words()
        );
        self.take_over_from(standby, following)
    }

    /// Follows until there is no owner. `None` at the stop signal.
    fn follow(
        &mut self,
        standby: &mut Standby,
        following: &mut Following,
    ) -> Result<Option<Vacancy>, RunError> {
        loop {
            self.read_model.beat();
            let vacancy = self.look_at_owner(standby, &mut following.silence)?;
            if self.stopped() || vacancy.is_some() {
                return Ok(vacancy.filter(|_| !self.stopped()));
            }
            self.tell_following();
            self.measure()?;
            let is_behind = self.follower_lag.epochs > 0;
            if (is_behind || !following.has_read) && !self.read_epochs_on(following)? {
                return Ok(None);
            }
            if !self.read_outputs_on(&mut following.outputs)? {
                return Ok(None);
            }
            let pause = if is_behind { READ_ON_AFTER } else { LOOK_EVERY };
            self.attendant.wait(pause);
        }
    }

    /// Applies the rows of the epochs that are readable now. `false` at the stop signal.
    fn read_epochs_on(&mut self, following: &mut Following) -> Result<bool, RunError> {
        if std::mem::replace(&mut following.has_read, true) {
            self.attendant.retry(|| self.ports.outputs.go_on())?;
        }
        self.read_script_on(&mut following.script, Goal::Following)
    }

    /// Asks for the newest transaction and sign of life, and takes the answer into account.
    fn look_at_owner(
        &mut self,
        standby: &mut Standby,
        silence: &mut Silence,
    ) -> Result<Option<Vacancy>, RunError> {
        let asked = self.elapsed();
        let looked = standby.heartbeats.look();
        let answered = self.elapsed();
        let sight = match looked {
            Ok(sight) => sight,
            Err(PortError::Retriable(why)) => {
                silence.interrupt();
                self.attendant.report("owner", Some(why.to_string()));
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        self.attendant.report("owner", None);
        let is_at_end = self.note_lag(&sight, answered);
        Ok(silence.note(Look {
            asked,
            answered,
            sight,
            is_at_end,
        }))
    }

    /// Notes how many committed epochs are not applied. Returns true if there are none.
    fn note_lag(&mut self, sight: &OwnerSight, now: Duration) -> bool {
        let committed = sight.committed.as_ref().map_or(0, |mark| mark.epoch);
        let lag = &mut self.follower_lag;
        lag.note(committed, self.machine.number(), now);
        self.metrics.follower_lag(lag.epochs);
        lag.epochs == 0
    }

    /// Fences the owner, then applies what it committed after the last applied epoch.
    fn take_over_from(
        &mut self,
        standby: &mut Standby,
        mut following: Following,
    ) -> Result<Option<EpochRecord>, RunError> {
        let asked = self.known_partitions();
        self.ports.sink.arrange(&asked);
        let committed = self.own_outputs(&asked)?;
        let owner = self.ports.sink.owner().to_owned();
        standby.heartbeats.begin(&owner)?;
        standby.owns = true;
        self.metrics.took_over();
        let read = self.ports.source.partitions().to_vec();
        self.ports.sink.arrange(&read);
        let Some(committed) = committed else {
            self.attendant
                .retry(|| self.ports.source.seek(self.machine.positions()))?;
            self.follow_with_store(None, None);
            return Ok(None);
        };
        if !self.read_epochs_on(&mut following)? {
            return Ok(None);
        }
        let chain = &following.script.chain;
        chain.ends_with(&in_order_of(chain.layout(), &committed, &asked))?;
        self.log_replay(&following.script);
        if !self.read_all_outputs(&mut following.outputs)? {
            return Ok(None);
        }
        let last = following.script.chain.last().cloned();
        if let Some(last) = &last {
            self.resume_version(last, false)?;
            let unmatched = &mut following.outputs.unmatched;
            // What waits for a score of a new model stands in all policy states.
            if self.machine.rescoring().is_some() && !self.read_policies_back(unmatched)? {
                return Ok(None);
            }
        }
        self.log_unmatched(&following.outputs);
        if let Some(last) = &last {
            self.resume(last, following.base.as_ref(), false)?;
        }
        Ok(last)
    }

    /// The partitions that are read, then those that the topics have besides.
    fn known_partitions(&mut self) -> Vec<InputPartition> {
        let mut known = self.ports.source.partitions().to_vec();
        let mut further = self.found_at_start.clone();
        further.extend(self.ports.source.added());
        for partition in further {
            if !known.contains(&partition) {
                known.push(partition);
            }
        }
        known
    }

    /// Shows the distance from what is committed, and answers requests from the applied state.
    /// Returns true if everything that was committed a moment ago is applied.
    pub(super) fn tell_following(&mut self) -> bool {
        let status = self.following_status();
        let is_current = matches!(
            status.phase,
            Phase::Following {
                is_current: true,
                ..
            }
        );
        self.read_model.set_status(status);
        self.answer_requests(is_current);
        is_current
    }

    /// The status of a follower.
    pub(super) fn following_status(&self) -> EngineStatus {
        let lag = self.follower_lag;
        let is_current = lag.is_current(self.elapsed());
        let phase = Phase::Following {
            lag_epochs: lag.epochs,
            is_current,
        };
        let reason = match (lag.is_known, is_current) {
            (false, _) => Some("applying the rows of what is committed".to_owned()),
            (true, false) => Some(format!(
                "{} committed epochs are not applied yet",
                lag.epochs
            )),
            (true, true) => None,
        };
        self.status(phase, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_is_current_once_it_caught_up_and_until_it_falls_behind() {
        let mut lag = FollowerLag::default();
        let mut noted = |committed, applied, at_s| {
            let now = Duration::from_secs(at_s);
            lag.note(committed, applied, now);
            (lag.epochs, lag.is_current(now))
        };
        assert_eq!(noted(9, 0, 0), (9, false), "nothing is applied yet");
        assert_eq!(noted(12, 8, 1), (4, false));
        assert_eq!(noted(14, 9, 2), (5, true), "all that the first look showed");
        assert_eq!(noted(30, 13, 7), (17, true));
        assert_eq!(noted(40, 13, 8), (27, false), "epoch 14 waits for 6 s");
        assert_eq!(noted(40, 15, 9), (25, true));
        assert_eq!(noted(40, 40, 10), (0, true));
        let mut empty = FollowerLag::default();
        empty.note(0, 0, Duration::ZERO);
        assert!(empty.is_current(Duration::ZERO), "nobody has committed");
    }
}
