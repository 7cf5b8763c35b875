//! The committed outputs as a follower reads them on: policy memory and explanations for the
//! machine, scores, alerts, work lists and dead letters for the read model.
//!
//! Output topics and the epochs topic become readable one after the other, so a record may come
//! before the rows of its epoch are applied. It waits for them: its entity may be unknown until
//! then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use leadpulse_records::{
    Alert, KeptLetter, PolicyStateRecord, Score, ShownAlert, ShownScore, WorkList,
};

use super::restore::LETTERS_READ_BACK;
use super::{Engine, RunError};
use crate::ports::{Attendant, Output, OutputRecord, PortCause, PortError, ReadFrom};
use crate::read_model::ALERTS_KEPT;

/// Time after which outputs are read on although no epoch was applied: a record may become
/// readable after its epoch record.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// Records of one epoch that wait for its rows.
#[derive(Default)]
struct OfEpoch {
    policies: Vec<PolicyStateRecord>,
    scores: Vec<Score>,
    alerts: Vec<Alert>,
}

/// The outputs that were read so far.
#[derive(Default)]
pub(super) struct FollowedOutputs {
    has_begun: bool,
    /// By number of the epoch.
    waiting: BTreeMap<i64, OfEpoch>,
    /// The moment of the last read.
    read_at: Duration,
    /// The last epoch that was applied then.
    read_after: u64,
    /// Records of tasks or entities that are not there.
    pub unmatched: u64,
}

/// Records of an output by key, the newest of each.
type Newest = BTreeMap<Vec<u8>, Vec<u8>>;

impl Engine {
    /// Reads the outputs on if an epoch was applied since, or after a while. `false` at the stop
    /// signal.
    pub(super) fn read_outputs_on(
        &mut self,
        outputs: &mut FollowedOutputs,
    ) -> Result<bool, RunError> {
        let (number, now) = (self.machine.number(), self.elapsed());
        let is_due = now.saturating_sub(outputs.read_at) >= READ_AGAIN;
        if outputs.has_begun && number == outputs.read_after && !is_due {
            return Ok(true);
        }
        self.read_all_outputs(outputs)
    }

    /// Reads the outputs on to where they end now, and shows what belongs to applied epochs.
    /// `false` at the stop signal.
    pub(super) fn read_all_outputs(
        &mut self,
        outputs: &mut FollowedOutputs,
    ) -> Result<bool, RunError> {
        if self.machine.number() == 0 {
            return Ok(true);
        }
        let states = self.newest_of(Output::PolicyState, ReadFrom::Start)?;
        for value in states.values() {
            let record = self.readable_policy(value)?;
            let waiting = outputs.waiting.entry(record.epoch).or_default();
            waiting.policies.push(record);
        }
        for value in self.further_scores(outputs)? {
            match self.readable_score(&value)? {
                Some(record) => {
                    let waiting = outputs.waiting.entry(record.epoch).or_default();
                    waiting.scores.push(record);
                }
                None => outputs.unmatched += 1,
            }
            self.read_model.beat();
        }
        self.read_further_alerts(outputs)?;
        let lists = self.further_lists(outputs)?;
        let letters = self.further_letters()?;
        self.read_model.publish_work_lists(lists);
        self.read_model.publish_dead_letters(letters);
        self.show_applied(outputs);
        outputs.has_begun = true;
        (outputs.read_at, outputs.read_after) = (self.elapsed(), self.machine.number());
        Ok(!self.stopped())
    }

    /// Gives the waiting records of applied epochs to the machine, and shows them.
    fn show_applied(&mut self, outputs: &mut FollowedOutputs) {
        let later = outputs
            .waiting
            .split_off(&(self.machine.number() as i64 + 1));
        let ready = std::mem::replace(&mut outputs.waiting, later);
        let (mut scores, mut alerts) = (Vec::new(), Vec::new());
        for of_epoch in ready.into_values() {
            for record in &of_epoch.policies {
                outputs.unmatched += u64::from(self.machine.restore_policy(record).is_err());
            }
            for record in of_epoch.scores {
                scores.extend(self.followed_score(record, &mut outputs.unmatched));
            }
            for record in &of_epoch.alerts {
                alerts.extend(self.machine.restore_alert(record));
            }
        }
        // Before the scores and alerts, which show it.
        self.read_model.publish_said(self.machine.said_view());
        self.show_following(scores, alerts);
    }

    /// The view of a score. A score of an entity that is not there is shown if it says so: it
    /// takes the place of the one before.
    fn followed_score(&mut self, record: Score, unmatched: &mut u64) -> Option<ShownScore> {
        match self.machine.restore_score(&record) {
            Ok(view) => Some(view),
            Err(_) => {
                *unmatched += 1;
                let is_erased = self
                    .machine
                    .is_erased(Some(&record.entity_type), &record.entity_id);
                (!record.is_scored() && !is_erased).then_some(ShownScore {
                    record,
                    name: None,
                    facts: serde_json::Value::Null,
                    history: Vec::new(),
                })
            }
        }
    }

    /// The scores since the read before: at first the current one of each entity, then those of
    /// the history, which names entities that lost theirs.
    fn further_scores(&mut self, outputs: &FollowedOutputs) -> Result<Vec<Vec<u8>>, RunError> {
        // The end of the history is noted before the current scores are read, so that none is
        // passed over.
        let further = self.newest_of(Output::Scores, ReadFrom::End)?;
        if outputs.has_begun {
            return Ok(further.into_values().collect());
        }
        let current = self.latest(Output::CurrentScores)?;
        Ok(current.into_values().flatten().collect())
    }

    fn read_further_alerts(&mut self, outputs: &mut FollowedOutputs) -> Result<(), RunError> {
        for value in self.further_of(Output::Alerts, ReadFrom::Newest(ALERTS_KEPT))? {
            let Some(value) = value.value else { continue };
            match self.readable_alert(&value)? {
                Some(record) => {
                    let waiting = outputs.waiting.entry(record.epoch).or_default();
                    waiting.alerts.push(record);
                }
                None => outputs.unmatched += 1,
            }
        }
        Ok(())
    }

    fn further_lists(
        &mut self,
        outputs: &mut FollowedOutputs,
    ) -> Result<Vec<Arc<WorkList>>, RunError> {
        if !self.machine.deployed().makes_work_lists() {
            return Ok(Vec::new());
        }
        let newest = self.newest_of(Output::WorkLists, ReadFrom::Start)?;
        for value in newest.values() {
            let record = self.readable_list(value)?;
            outputs.unmatched += u64::from(self.machine.restore_list(record).is_err());
        }
        Ok(self.machine.work_lists())
    }

    /// Dead letters since the read before, oldest first. They are for pages only: where they
    /// cannot be read they are not shown.
    fn further_letters(&mut self) -> Result<Vec<KeptLetter>, RunError> {
        let from = ReadFrom::Newest(LETTERS_READ_BACK);
        let read = match self.further_of(Output::DeadLetters, from) {
            Ok(read) => read,
            Err(RunError::Port(stop @ PortError::Interrupted(_))) => return Err(stop.into()),
            Err(error) => {
                tracing::warn!(%error, "dead letters are not shown");
                return Ok(Vec::new());
            }
        };
        let mut letters: Vec<KeptLetter> = read.iter().filter_map(KeptLetter::of).collect();
        letters.sort_by_key(|letter| letter.refused_as_of);
        self.forget_older(&mut letters);
        Ok(letters)
    }

    /// The newest value by key among the records of an output since the read before.
    fn newest_of(&mut self, output: Output, from: ReadFrom) -> Result<Newest, RunError> {
        let mut newest = Newest::new();
        self.each_further(output, from, &mut |record| {
            let OutputRecord { key, value, .. } = record;
            if let (Some(key), Some(value)) = (key, value) {
                newest.insert(key, value);
            }
        })?;
        Ok(newest)
    }

    /// The records of an output since the read before.
    fn further_of(
        &mut self,
        output: Output,
        from: ReadFrom,
    ) -> Result<Vec<OutputRecord>, RunError> {
        let mut records = Vec::new();
        self.each_further(output, from, &mut |record| records.push(record))?;
        Ok(records)
    }

    fn each_further(
        &mut self,
        output: Output,
        from: ReadFrom,
        take: &mut dyn FnMut(OutputRecord),
    ) -> Result<(), RunError> {
        let (attendant, outputs) = (&self.attendant, &mut self.ports.outputs);
        attendant.retry(|| {
            outputs.read_on(output, from, &mut |record| {
                take(record);
                attendant.beat();
                if attendant.is_stopped() {
                    let doing = "following scores and alert states";
                    return Err(PortError::interrupted(PortCause::Stopped, doing));
                }
                Ok(())
            })
        })?;
        Ok(())
    }

    /// Logs the records that were left out.
    pub(super) fn log_unmatched(&self, outputs: &FollowedOutputs) {
        if outputs.unmatched > 0 {
            tracing::info!(
                records = outputs.unmatched,
                "scores and alert states of tasks or entities that are not there any more are left out"
            );
        }
    }

    /// Shows scores and alerts of applied epochs, with the status of a follower.
    fn show_following(&mut self, scores: Vec<ShownScore>, alerts: Vec<ShownAlert>) {
        let status = self.following_status();
        self.read_model.publish(scores, alerts, status);
    }
}
