//! The attempts to commit one epoch: repeated until it is committed, or this process must stop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::error::RDKafkaErrorCode;

use leadpulse_engine::ports::{Output, OutputRecord, PortCause, PortError, SealedEpoch};

use super::KafkaSink;
use super::settlement::Settled;
use crate::committer::{Attempted, Awaited, LOOK_INTERVAL};
use crate::metrics::{Replacement, TransactionOutcome};
use crate::patience::Backoff;
use crate::transaction::AttemptOutcome;

/// The time that a process has to write a token after its take-over, before the process that it
/// fenced takes over again.
const TOKEN_WAIT: Duration = Duration::from_millis(500);
/// Attempts without progress before the next ones may take longer without it.
const STALLS_BEFORE_PATIENCE: u32 = 2;

/// The reason, with advice where the error code names a cause.
fn with_hint(why: String, code: Option<RDKafkaErrorCode>, group_id: &str) -> String {
    match code {
        // Partitions are assigned by hand, so a group of Leadpulse alone has no members that a
        // broker could check.
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

/// True for errors that a record itself causes: they come again each time the record is sent.
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

    /// The time that an attempt may go without progress. Repeated stalls double the time, for one
    /// large record on a slow link.
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

/// An epoch that is being committed.
pub(super) struct Begun {
    epoch: Arc<SealedEpoch>,
    offsets: TopicPartitionList,
    pub(super) started: Instant,
    attempts: Attempts,
    /// The attempt under way and its start; none where there is no producer.
    attempt: Option<(Awaited<Attempted>, Instant)>,
}

impl Begun {
    pub(super) fn epoch(&self) -> &SealedEpoch {
        &self.epoch
    }
}

impl KafkaSink {
    /// Begins to commit an epoch: the first attempt is under way, if there is a producer.
    pub(super) fn begin_attempts(
        &self,
        epoch: &Arc<SealedEpoch>,
        offsets: TopicPartitionList,
    ) -> Result<Begun, PortError> {
        let mut begun = Begun {
            epoch: Arc::clone(epoch),
            offsets,
            started: Instant::now(),
            attempts: Attempts::new(),
            attempt: None,
        };
        self.attempt(&mut begun)?;
        Ok(begun)
    }

    /// Starts an attempt, if there is a producer.
    fn attempt(&self, begun: &mut Begun) -> Result<(), PortError> {
        let Some(producer) = &self.producer else {
            return Ok(());
        };
        let replaced = self.dead_letters.replacements(&begun.epoch);
        let work = self.work(&begun.epoch, replaced, begun.offsets.clone())?;
        let (commit, transaction) = (self.options.commit_timeout(), self.transaction_timeout);
        let patience = begun.attempts.patience(commit, transaction);
        begun.attempt = Some((producer.begin(work, patience), Instant::now()));
        Ok(())
    }

    /// Waits up to `wait` for the end of the attempt under way. After one that failed it tries on,
    /// without a limit, until the epoch is committed. Returns the moment of the commit; `None` while
    /// the attempt goes on.
    ///
    /// # Errors
    /// Another owner, a record that no attempt can get through, or a stop.
    pub(super) fn end_attempts(
        &mut self,
        begun: &mut Begun,
        wait: Duration,
    ) -> Result<Option<Instant>, PortError> {
        let mut has_failed = false;
        loop {
            let (Some((attempt, since)), Some(producer)) = (&mut begun.attempt, &self.producer)
            else {
                match self.settle(&begun.epoch)? {
                    Settled::Ready => self.attempt(begun)?,
                    Settled::Promoted => return Ok(Some(Instant::now())),
                }
                continue;
            };
            let wait = if has_failed { LOOK_INTERVAL } else { wait };
            let Some((outcome, at)) = producer.end(attempt, wait, &self.attended)? else {
                match has_failed {
                    true => continue,
                    false => return Ok(None),
                }
            };
            let took = since.elapsed();
            begun.attempt = None;
            if outcome == AttemptOutcome::Committed {
                self.metrics
                    .count_transaction(TransactionOutcome::Committed);
                self.written
                    .extend(begun.epoch.outputs.iter().map(|record| record.output));
                return Ok(Some(at));
            }
            self.producer = None;
            self.allow_longer(took);
            has_failed = true;
            let epoch = Arc::clone(&begun.epoch);
            self.prepare_another(&epoch, outcome, &mut begun.attempts)?;
        }
    }

    /// Prepares another attempt after one that ended in `outcome`: counts, reports and pauses.
    ///
    /// # Errors
    /// An outcome after which another attempt makes no sense.
    fn prepare_another(
        &mut self,
        epoch: &Arc<SealedEpoch>,
        outcome: AttemptOutcome,
        attempts: &mut Attempts,
    ) -> Result<(), PortError> {
        let number = epoch.number;
        match outcome {
            AttemptOutcome::Committed => Ok(()),
            AttemptOutcome::Unanswered => {
                self.metrics.count_replacement(Replacement::Unanswered);
                tracing::info!(
                    epoch = number,
                    "a request of the transaction before was not answered; a new producer goes on"
                );
                Ok(())
            }
            AttemptOutcome::TooLarge { records, why } => {
                self.count_aborted();
                self.make_smaller(epoch, &records, &why)
            }
            AttemptOutcome::NotCommitted { why, code, record } => {
                self.count_aborted();
                if let Some(denied) = self.denied(epoch, code, record) {
                    return Err(denied);
                }
                if code.is_some_and(is_of_the_record) {
                    return Err(PortError::fatal(
                        PortCause::Refused,
                        format!(
                            "kafka: a record of epoch {number} is refused: {why}; see the topics' settings"
                        ),
                    ));
                }
                let why = format!(
                    "kafka: epoch {number} is not committed: {}",
                    self.with_hint(why, code)
                );
                self.wait(&mut attempts.backoff, &why)
            }
            AttemptOutcome::InDoubt(why) => {
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
            AttemptOutcome::Fenced(why) => {
                self.metrics.count_transaction(TransactionOutcome::Fenced);
                self.metrics.count_replacement(Replacement::Fenced);
                tracing::warn!(
                    epoch = number,
                    why,
                    "the broker no longer accepts the producer; looking for another owner"
                );
                self.stop_for_another_owner()?;
                // Doubled each time: where the brokers are slow, two processes would fence each
                // other again and again.
                let wait = TOKEN_WAIT * 2_u32.pow(attempts.fenced.min(4));
                attempts.fenced += 1;
                self.attended.pause(wait)
            }
        }
    }

    /// The error of a permission that this process never had. One that it had before comes back: it
    /// is being replaced.
    fn denied(
        &self,
        epoch: &SealedEpoch,
        code: Option<RDKafkaErrorCode>,
        record: Option<usize>,
    ) -> Option<PortError> {
        let new = |record: &&OutputRecord| !self.written.contains(&record.output);
        let refused = match record {
            Some(index) => epoch.outputs.get(index).filter(new),
            None => epoch.outputs.iter().find(new),
        };
        let topic = self.options.outputs.name(refused?.output);
        let subject = match (code?, record) {
            (RDKafkaErrorCode::TopicAuthorizationFailed, Some(_)) => format!("topic '{topic}'"),
            (RDKafkaErrorCode::TopicAuthorizationFailed, None) => {
                let mut topics: Vec<&str> = epoch
                    .outputs
                    .iter()
                    .filter(new)
                    .map(|record| self.options.outputs.name(record.output))
                    .collect();
                topics.sort_unstable();
                topics.dedup();
                match topics[..] {
                    [only] => format!("topic '{only}'"),
                    _ => format!("one of the topics '{}'", topics.join("', '")),
                }
            }
            _ => String::new(),
        };
        let sentence = self.access.permission(code?, &subject)?;
        Some(PortError::fatal(
            PortCause::Refused,
            format!("kafka: {sentence}"),
        ))
    }

    pub(super) fn with_hint(&self, why: String, code: Option<RDKafkaErrorCode>) -> String {
        with_hint(why, code, &self.options.group_id)
    }

    fn count_aborted(&self) {
        self.metrics.count_transaction(TransactionOutcome::Aborted);
        self.metrics.count_replacement(Replacement::Aborted);
    }

    /// Remembers the size of records that were too large, so that the next attempt sends smaller
    /// ones.
    ///
    /// # Errors
    /// Records of which nothing can be left out.
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
        Err(PortError::fatal(
            PortCause::RecordTooLarge,
            format!(
                "kafka: a record of {bytes} bytes cannot be produced to '{topic}': {why}. Raise kafka.client.\"producer.message.max.bytes\" and \
             the topic's max.message.bytes"
            ),
        ))
    }

    /// Gives the next producer twice the transaction limit, if this attempt came near the limit.
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
