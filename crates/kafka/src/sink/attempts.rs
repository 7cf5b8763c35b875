//! The attempts to commit one epoch: repeated until it is committed, or this process must stop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::error::RDKafkaErrorCode;

use leadpulse_engine::ports::{Output, OutputRecord, PortError, SealedEpoch};

use super::KafkaSink;
use super::settlement::Settled;
use crate::metrics::{Replacement, TransactionOutcome};
use crate::patience::Backoff;
use crate::transaction::Outcome;

/// How long a process that took over has to write its token before the one it fenced takes over again.
const TOKEN_WAIT: Duration = Duration::from_millis(500);
/// Attempts without progress before the next ones may take longer without it.
const STALLS_BEFORE_PATIENCE: u32 = 2;

/// A reason in words, with what to do where the code names a cause.
fn with_hint(why: String, code: Option<RDKafkaErrorCode>, group_id: &str) -> String {
    match code {
        Some(
            RDKafkaErrorCode::UnknownMemberId
            | RDKafkaErrorCode::IllegalGeneration
            | RDKafkaErrorCode::RebalanceInProgress,
        ) => {
            format!(
                "{why}. Another consumer has joined group '{group_id}', which is for Leadpulse alone: stop it (a console consumer?)"
            )
        }
        _ => why,
    }
}

/// Errors that a record itself causes: they come again each time it is sent.
fn is_of_the_record(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::InvalidRecord
            | RDKafkaErrorCode::InvalidTimestamp
            | RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::PolicyViolation
            | RDKafkaErrorCode::OffsetMetadataTooLarge
    )
}

/// The attempts of one epoch.
struct Attempts {
    backoff: Backoff,
    in_doubt: u32,
    fenced: u32,
}

impl Attempts {
    fn new() -> Self {
        Self {
            backoff: Backoff::new(),
            in_doubt: 0,
            fenced: 0,
        }
    }

    /// How long an attempt may go without progress. It doubles after repeated stalls, for one large record on a slow link.
    fn patience(&self, commit_timeout: Duration, transaction_timeout: Duration) -> Duration {
        let doublings = self
            .in_doubt
            .saturating_sub(STALLS_BEFORE_PATIENCE - 1)
            .min(16);
        (commit_timeout * 2_u32.pow(doublings))
            .min(transaction_timeout / 2)
            .max(commit_timeout)
    }
}

impl KafkaSink {
    /// Tries until the epoch is committed, or something says that this process must stop.
    pub(super) fn commit_at_last(
        &mut self,
        epoch: &Arc<SealedEpoch>,
        offsets: &TopicPartitionList,
    ) -> Result<(), PortError> {
        let mut attempts = Attempts::new();
        loop {
            let Some(producer) = &self.producer else {
                match self.settle(epoch)? {
                    Settled::Ready => continue,
                    Settled::Promoted => return Ok(()),
                }
            };
            let work = self.work(
                epoch,
                self.dead_letters.replacements(epoch),
                offsets.clone(),
            )?;
            let (begun, patience) = (
                Instant::now(),
                attempts.patience(self.options.commit_timeout(), self.transaction_timeout),
            );
            let outcome = producer.attempt(work, patience, &self.attended)?;
            if outcome == Outcome::Committed {
                self.metrics
                    .count_transaction(TransactionOutcome::Committed);
                return Ok(());
            }
            self.producer = None;
            self.allow_longer(begun.elapsed());
            self.prepare_another(epoch, outcome, &mut attempts)?;
        }
    }

    /// Decides whether another attempt makes sense, counts and reports the one before, and pauses.
    fn prepare_another(
        &mut self,
        epoch: &Arc<SealedEpoch>,
        outcome: Outcome,
        attempts: &mut Attempts,
    ) -> Result<(), PortError> {
        let number = epoch.number;
        match outcome {
            Outcome::Committed => Ok(()),
            Outcome::Unanswered => {
                self.metrics.count_replacement(Replacement::Unanswered);
                tracing::info!(
                    epoch = number,
                    "a request of the transaction before was not answered; a new producer goes on"
                );
                Ok(())
            }
            Outcome::TooLarge { records, why } => {
                self.count_aborted();
                self.make_smaller(epoch, &records, &why)
            }
            Outcome::NotCommitted { why, code } => {
                self.count_aborted();
                if code.is_some_and(is_of_the_record) {
                    return Err(PortError::Fatal(format!(
                        "kafka: a record of epoch {number} is refused: {why}; see the topics' settings"
                    )));
                }
                let why = format!(
                    "kafka: epoch {number} is not committed: {}",
                    self.with_hint(why, code)
                );
                self.wait(&mut attempts.backoff, &why)
            }
            Outcome::InDoubt(why) => {
                self.metrics
                    .count_transaction(TransactionOutcome::Indefinite);
                self.metrics.count_replacement(Replacement::InDoubt);
                attempts.in_doubt += 1;
                let why = format!(
                    "kafka: it is unknown whether epoch {number} is committed: {why}; a new producer settles it"
                );
                if attempts.in_doubt > 1 {
                    return self.wait(&mut attempts.backoff, &why);
                }
                tracing::warn!("{why}");
                self.attended.report(&why);
                Ok(())
            }
            Outcome::Fenced(why) => {
                self.metrics.count_transaction(TransactionOutcome::Fenced);
                self.metrics.count_replacement(Replacement::Fenced);
                tracing::warn!(
                    epoch = number,
                    why,
                    "the broker no longer accepts the producer; looking for another owner"
                );
                self.stop_for_another_owner()?;
                // Doubled each time: where the brokers are slow, two processes would fence each other again and again.
                let wait = TOKEN_WAIT * 2_u32.pow(attempts.fenced.min(4));
                attempts.fenced += 1;
                self.attended.pause(wait)
            }
        }
    }

    pub(super) fn with_hint(&self, why: String, code: Option<RDKafkaErrorCode>) -> String {
        with_hint(why, code, &self.options.group_id)
    }

    fn count_aborted(&self) {
        self.metrics.count_transaction(TransactionOutcome::Aborted);
        self.metrics.count_replacement(Replacement::Aborted);
    }

    /// Learns from records that were too large; an error where nothing of them can be left out.
    fn make_smaller(
        &mut self,
        epoch: &SealedEpoch,
        records: &[usize],
        why: &str,
    ) -> Result<(), PortError> {
        let replaced = self.dead_letters.replacements(epoch);
        let sent: Vec<&OutputRecord> = records
            .iter()
            .map(|index| replaced.get(index).unwrap_or(&epoch.outputs[*index]))
            .collect();
        let other = sent
            .iter()
            .find(|record| record.output != Output::DeadLetters);
        if other.is_none() && self.dead_letters.learn(&sent) {
            tracing::warn!(
                epoch = epoch.number,
                records = sent.len(),
                why,
                "dead letters are too large for their topic; values are left out"
            );
            return Ok(());
        }
        let Some(record) = other.or(sent.first()) else {
            return Ok(());
        };
        let (topic, bytes) = (
            self.options.outputs.name(record.output),
            record.value.as_ref().map_or(0, Vec::len),
        );
        Err(PortError::Fatal(format!(
            "kafka: a record of {bytes} bytes cannot be produced to '{topic}': {why}. Raise kafka.client.\"producer.message.max.bytes\" and \
             the topic's max.message.bytes"
        )))
    }

    /// Gives the next producer twice the limit, if this attempt came near it.
    fn allow_longer(&mut self, took: Duration) {
        if took * 3 < self.transaction_timeout * 2
            || self.transaction_timeout >= self.longest_transaction
        {
            return;
        }
        self.transaction_timeout = (self.transaction_timeout * 2).min(self.longest_transaction);
        let limit_ms = self.transaction_timeout.as_millis() as u64;
        tracing::warn!(
            took_ms = took.as_millis() as u64,
            limit_ms,
            "the transaction took long; the next one may take longer"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_member_is_named_as_the_cause() {
        let hint = |code| with_hint("refused".into(), Some(code), "g");
        for code in [
            RDKafkaErrorCode::UnknownMemberId,
            RDKafkaErrorCode::IllegalGeneration,
        ] {
            assert!(hint(code).contains("has joined group 'g'"), "{code:?}");
        }
        assert_eq!(hint(RDKafkaErrorCode::OperationTimedOut), "refused");
    }

    #[test]
    fn patience_grows_after_repeated_stalls_only() {
        let (commit, transaction) = (Duration::from_secs(10), Duration::from_secs(60));
        let patience: Vec<u64> = (0..5)
            .map(|in_doubt| {
                Attempts {
                    in_doubt,
                    ..Attempts::new()
                }
                .patience(commit, transaction)
                .as_secs()
            })
            .collect();
        assert_eq!(patience, [10, 10, 20, 30, 30]);
    }
}
