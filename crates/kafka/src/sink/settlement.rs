//! The settlement of an epoch in doubt, by the owner's token and the epoch's nonce.
//!
//! The reasons are in docs/decisions/0002-owner-and-nonce.md.

use leadpulse_engine::ports::{Nonce, PortCause, PortError, SealedEpoch};

use super::KafkaSink;
use crate::committed::{CommitMetadata, Owner, read_offsets};
use crate::metrics::TransactionOutcome;
use crate::offsets::OffsetReader;
use crate::ownership::other_owner;
use crate::patience::Backoff;

/// The result of settling an attempt in doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// The epoch is committed.
    Promoted,
    /// The epoch is not committed: the same bytes go again.
    SendAgain,
    /// Another process owns the outputs.
    OtherOwner(Owner),
    /// Neither this epoch nor the one before is the newest, though nobody else took over.
    Unexplained(String),
}

/// The verdict on an epoch from the committed metadata, where the same process committed `before`.
fn judge(
    found: Option<&CommitMetadata>,
    before: &CommitMetadata,
    owner: &Owner,
    epoch: u64,
    nonce: Nonce,
) -> Verdict {
    let Some(found) = found else {
        return Verdict::Unexplained("the group has no committed offsets of ours any more".into());
    };
    match &found.identity {
        Some((_, other)) if other != owner => Verdict::OtherOwner(other.clone()),
        Some((committed, _)) if found.epoch == epoch && *committed == nonce => Verdict::Promoted,
        Some(_) if found == before => Verdict::SendAgain,
        _ => Verdict::Unexplained(format!(
            "'{found}' is committed where '{before}' was, or epoch {epoch} with nonce {nonce} was expected"
        )),
    }
}

/// A producer that is ready, or the epoch's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// The producer is ready, and the epoch is to be sent.
    Ready,
    /// The epoch is committed.
    Promoted,
}

impl KafkaSink {
    /// Settles an epoch: a new producer takes over, then the group's offsets decide. Waits while
    /// the brokers do not answer.
    ///
    /// # Errors
    /// Another owner, offsets that were changed from outside, or a stop.
    pub(super) fn settle(&mut self, epoch: &SealedEpoch) -> Result<Settled, PortError> {
        let mut backoff = Backoff::new();
        loop {
            let unsettled = match self.try_settle(epoch) {
                Ok(Verdict::Promoted) => {
                    self.metrics.count_transaction(TransactionOutcome::Promoted);
                    tracing::info!(epoch = epoch.number, "it was committed");
                    return Ok(Settled::Promoted);
                }
                Ok(Verdict::SendAgain) => return Ok(Settled::Ready),
                Ok(Verdict::OtherOwner(other)) => return Err(self.taken_over_by(&other)),
                Ok(Verdict::Unexplained(what)) => return Err(self.unexplained(&what)),
                Err(stop @ PortError::Interrupted(_)) => return Err(stop),
                Err(waits) => waits,
            };
            self.wait(
                &mut backoff,
                &format!("epoch {} is not settled: {unsettled}", epoch.number),
            )?;
        }
    }

    fn try_settle(&mut self, epoch: &SealedEpoch) -> Result<Verdict, PortError> {
        self.attended.beat();
        let Some(before) = self.standing.clone() else {
            return Ok(Verdict::Unexplained("nothing was taken over".into()));
        };
        // Asked before `init_transactions`, which would fence an owner that has the right to go on.
        if let Some(other) = self.another_owner()? {
            return Ok(Verdict::OtherOwner(other));
        }
        let producer = self.new_producer(epoch.number)?;
        let found = self.standing_in(&self.committed)?;
        let verdict = judge(
            found.as_ref(),
            &before,
            &self.owner,
            epoch.number,
            epoch.nonce,
        );
        if matches!(verdict, Verdict::Promoted | Verdict::SendAgain) {
            self.producer = Some(producer);
        }
        Ok(verdict)
    }

    fn standing_in(&self, reader: &OffsetReader) -> Result<Option<CommitMetadata>, PortError> {
        let (group_id, timeout) = (&self.options.group_id, self.options.request_timeout());
        read_offsets(reader.client(), group_id, &self.partitions, timeout)?.standing()
    }

    /// The other process that owns the outputs now. The answer comes without waiting for open
    /// transactions.
    fn another_owner(&self) -> Result<Option<Owner>, PortError> {
        let committed = self.standing.as_ref().map_or(0, |standing| standing.epoch);
        Ok(self
            .standing_in(&self.uncommitted)?
            .and_then(|found| other_owner(&found, &self.owner, committed)))
    }

    /// Stops for another owner whose token stands. An unanswered question is no reason to stop:
    /// settling asks again.
    pub(super) fn stop_for_another_owner(&self) -> Result<(), PortError> {
        match self.another_owner() {
            Ok(Some(other)) => Err(self.taken_over_by(&other)),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    pub(super) fn taken_over_by(&self, other: &Owner) -> PortError {
        PortError::fenced(
            PortCause::OtherOwner,
            format!(
                "another process took over the transactional id '{}' (owner {other}), so this one must stop. If both are to run, give each its own \
             kafka.transactional_id, kafka.group_id and output topics",
                self.options.transactional_id
            ),
        )
    }

    fn unexplained(&self, what: &str) -> PortError {
        PortError::fatal(
            PortCause::PositionsForeign,
            format!(
                "kafka: the offsets of group '{}' were changed from outside: {what}. Start again; see that nothing else uses kafka.group_id and \
             kafka.transactional_id '{}'",
                self.options.group_id, self.options.transactional_id
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(epoch: u64, nonce: u64, owner: &str) -> CommitMetadata {
        CommitMetadata {
            epoch,
            as_of_ms: 0,
            identity: Some((Nonce(nonce), owner.repeat(32).parse().unwrap())),
        }
    }

    #[test]
    fn an_epoch_in_doubt_is_settled_by_nonce_and_owner() {
        let (ours, before): (Owner, _) = ("a".repeat(32).parse().unwrap(), metadata(6, 60, "a"));
        let other = || Verdict::OtherOwner("b".repeat(32).parse().unwrap());
        let cases = [
            (metadata(7, 70, "a"), Verdict::Promoted),
            (metadata(6, 60, "a"), Verdict::SendAgain),
            (metadata(6, 60, "b"), other()),
            (metadata(7, 70, "b"), other()),
            (metadata(7, 71, "b"), other()),
            (metadata(9, 90, "b"), other()),
        ];
        for (found, expected) in cases {
            assert_eq!(
                judge(Some(&found), &before, &ours, 7, Nonce(70)),
                expected,
                "{found}"
            );
        }
        let v1 = CommitMetadata {
            identity: None,
            ..before.clone()
        };
        for found in [
            Some(metadata(7, 71, "a")),
            Some(metadata(5, 50, "a")),
            Some(metadata(6, 61, "a")),
            Some(v1),
            None,
        ] {
            let verdict = judge(found.as_ref(), &before, &ours, 7, Nonce(70));
            assert!(
                matches!(verdict, Verdict::Unexplained(_)),
                "{found:?}: {verdict:?}"
            );
        }
    }
}
