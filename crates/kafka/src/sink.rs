//! [`KafkaSink`]: sealed epochs become visible, each exactly once.
//!
//! # The story of a commit
//!
//! Per epoch one transaction: output records, and the position of every input partition with the epoch's number, `as_of` and nonce and the
//! token of the process that commits it ([`position`](crate::position)). The transaction protocol is that of
//! [KIP-98](https://cwiki.apache.org/confluence/display/KAFKA/KIP-98+-+Exactly+Once+Delivery+and+Transactional+Messaging); what can end
//! badly in each of its steps stands in [`transaction`](crate::transaction). What follows decides here:
//!
//! 1. **Take-over.** `init_transactions` fences every earlier producer. Then the committed offsets are read, waiting for what is prepared.
//!    Then an *empty transaction* writes them back unchanged, with our token: from here on everybody can read who owns the outputs. A
//!    process that is fenced in the middle tries again, since its token does not stand yet.
//! 2. **Attempt**, on a thread under a watchdog ([`Committer`]).
//! 3. **Committed**: done. But the next transaction begins only if every request of this one was answered. A copy of an unanswered one may
//!    come late and end the next transaction in its middle
//!    ([KIP-890](https://cwiki.apache.org/confluence/display/KAFKA/KIP-890%3A+Transactions+Server-Side+Defense),
//!    [librdkafka 5423](https://github.com/confluentinc/librdkafka/issues/5423)), so a new producer comes first: its `init_transactions`
//!    raises the epoch, and the copy is fenced.
//! 4. **Anything else** is settled by a new producer. The token is read first, without waiting: if it is another's, this process stops and
//!    fences nobody. Then `init_transactions`, and the token is read again. Our nonce under our token: the epoch was committed. The epoch
//!    before under our token: the same bytes are sent again. Another token: this process stops, and has touched nothing of the successor's.
//!    The number alone would not do: two processes may each have committed an epoch N of their own.
//!
//! A producer can be fenced although its owner's token stands: the broker ended a transaction that took too long, or another process died
//! or was paused in the middle of its take-over. So "fenced" is in doubt as well: half a second for the other process to write its token,
//! then step 4. Of two processes in any interleaving, at least one goes on: the one whose token stands.
//!
//! Outages are waited out. Authorization errors are fatal in the take-over only: later they may be the blink of an ACL that is replaced.
//!
//! A commit is acknowledged when it is decided. Its records can be read a moment later, when the brokers have written the markers; a
//! take-over waits for that, so what is read after one is complete.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rustc_hash::FxHashMap;

use leadpulse_engine::ports::{
    Attendant, CommittedEpoch, InputPartition, NextOffset, Nonce, Output, OutputRecord, PortCause,
    PortError, SealedEpoch, Sink, Unattended,
};

use crate::client::is_permanent;
use crate::committer::{Committer, CommitterSettings};
use crate::metrics::{KafkaMetrics, Replacement, TransactionOutcome};
use crate::offsets::{Isolation, OffsetRange, OffsetReader};
use crate::options::{KafkaOptions, LONGEST_TRANSACTION_MS};
use crate::oversize::DeadLetterRoom;
use crate::ownership::{OwnershipWatch, other_owner};
use crate::patience::{Attended, Backoff};
use crate::position::{Agreed, CommitMetadata, Owner, offsets_of, offsets_with, read_offsets};
use crate::transaction::{CommitPoint, Failpoint, Outcome, Work};

/// How long a process that took over has to write its token before the one it fenced takes over again.
const TOKEN_WAIT: Duration = Duration::from_millis(500);
/// Attempts without progress before the next ones may take longer without it.
const STALLS_BEFORE_PATIENCE: u32 = 2;

/// The outputs on a cluster, in transactions.
pub struct KafkaSink {
    options: KafkaOptions,
    partitions: Vec<InputPartition>,
    metrics: Arc<KafkaMetrics>,
    owner: Owner,
    attended: Attended,
    /// Waits for transactions in doubt.
    committed: OffsetReader,
    /// Does not wait.
    uncommitted: OffsetReader,
    /// None before [`Sink::take_over`], and after a producer was given up.
    producer: Option<Committer>,
    /// The newest metadata that this process wrote; none before [`Sink::take_over`].
    standing: Option<CommitMetadata>,
    ownership: Option<OwnershipWatch>,
    /// Transaction limit of the next producer.
    transaction_timeout: Duration,
    /// The longest one that the brokers allow, as far as it is known.
    longest_transaction: Duration,
    dead_letters: DeadLetterRoom,
    failpoint: Option<Failpoint>,
}

/// How an attempt in doubt was settled.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// The epoch is committed.
    Promoted,
    /// It is not: the same bytes go again.
    SendAgain,
    /// Another process owns the outputs.
    OtherOwner(Owner),
    /// Neither this epoch nor the one before is the newest, though nobody else took over.
    Unexplained(String),
}

/// Decides what the committed metadata say about an epoch, after `before` was committed by the same process.
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

impl KafkaSink {
    /// A sink for an engine that reads `partitions` ([`Source::partitions`](leadpulse_engine::ports::Source::partitions), same order).
    /// Touches nothing before [`Sink::take_over`].
    pub fn new(
        options: &KafkaOptions,
        partitions: &[InputPartition],
        metrics: &Arc<KafkaMetrics>,
    ) -> Result<Self, PortError> {
        Ok(Self {
            options: options.clone(),
            partitions: partitions.to_vec(),
            metrics: Arc::clone(metrics),
            owner: Owner::random(),
            attended: Attended::new(Arc::new(Unattended)),
            committed: OffsetReader::to_ask(options, Isolation::Committed, metrics)?,
            uncommitted: OffsetReader::to_ask(options, Isolation::Uncommitted, metrics)?,
            producer: None,
            standing: None,
            ownership: None,
            transaction_timeout: options.transaction_timeout(),
            longest_transaction: Duration::from_millis(LONGEST_TRANSACTION_MS),
            dead_letters: DeadLetterRoom::default(),
            failpoint: None,
        })
    }

    /// Tells `attendant` that waits go on, and what for; ends them when it says so.
    #[must_use]
    pub fn with_attendant(mut self, attendant: Arc<dyn Attendant>) -> Self {
        self.attended = Attended::new(attendant);
        self
    }

    /// Interrupts attempts, to test how they are settled. The empty transaction of a take-over is an attempt too; its number is that of the
    /// newest committed epoch.
    #[must_use]
    pub fn with_failpoint(mut self, failpoint: Failpoint) -> Self {
        self.failpoint = Some(failpoint);
        self
    }
}

/// Take-over.
impl KafkaSink {
    fn try_take_over(&mut self) -> Result<Option<CommittedEpoch>, PortError> {
        self.producer = None;
        let producer = self.new_producer(0)?;
        let found = read_offsets(
            self.committed.client(),
            &self.options.group_id,
            &self.partitions,
            self.options.request_timeout(),
        )?
        .agreed()?;
        let epoch = found.as_ref().and_then(Agreed::epoch);
        if epoch.is_none() {
            self.refuse_to_start_over()?;
        }
        let (standing, positions) = match found {
            Some(Agreed {
                metadata,
                positions,
            }) => (self.owned(&metadata), positions),
            None => (
                self.owned(&CommitMetadata {
                    epoch: 0,
                    as_of_ms: 0,
                    identity: None,
                }),
                self.log_starts()?,
            ),
        };
        self.write_token(&producer, &standing, &positions)?;
        let watched = self
            .partitions
            .iter()
            .zip(&positions)
            .find(|(_, position)| position.is_some());
        if let Some((partition, _)) = watched {
            let watch = OwnershipWatch::start(
                &self.options,
                &self.metrics,
                partition,
                &self.owner,
                standing.epoch,
            )?;
            self.ownership = Some(watch);
        }
        self.producer = Some(producer);
        self.standing = Some(standing);
        Ok(epoch)
    }

    /// Commits positions unchanged, under our token.
    fn write_token(
        &self,
        producer: &Committer,
        standing: &CommitMetadata,
        positions: &[Option<NextOffset>],
    ) -> Result<(), PortError> {
        let offsets = offsets_with(standing, &self.partitions, positions)?;
        let (number, as_of_ms, nonce) = (
            standing.epoch,
            standing.as_of_ms,
            standing.nonce().unwrap_or_default(),
        );
        let epoch = Arc::new(SealedEpoch {
            number,
            nonce,
            as_of_ms,
            positions: vec![],
            outputs: vec![],
        });
        let work = self.work(&epoch, FxHashMap::default(), offsets)?;
        let doing = |why: &str| {
            format!(
                "kafka: writing this owner's token to group '{}': {why}",
                self.options.group_id
            )
        };
        match producer.attempt(work, self.options.commit_timeout(), &self.attended)? {
            Outcome::Committed => Ok(()),
            Outcome::NotCommitted {
                why,
                code: Some(code),
            } if is_permanent(code) => Err(PortError::fatal(PortCause::Refused, doing(&why))),
            Outcome::NotCommitted { why, code } => Err(PortError::retriable(
                PortCause::NoAnswer,
                doing(&self.with_hint(why, code)),
            )),
            Outcome::InDoubt(why) | Outcome::Fenced(why) | Outcome::TooLarge { why, .. } => {
                Err(PortError::retriable(PortCause::NoAnswer, doing(&why)))
            }
            Outcome::Unanswered => Err(PortError::retriable(
                PortCause::NoAnswer,
                doing("a request was not answered"),
            )),
        }
    }

    /// The same epoch under our token. Metadata of version 1 get nonce 0.
    fn owned(&self, found: &CommitMetadata) -> CommitMetadata {
        CommitMetadata {
            identity: Some((found.nonce().unwrap_or_default(), self.owner.clone())),
            ..found.clone()
        }
    }

    fn log_starts(&self) -> Result<Vec<Option<NextOffset>>, PortError> {
        let places: Vec<_> = self
            .partitions
            .iter()
            .map(|partition| (partition.topic.clone(), partition.partition))
            .collect();
        Ok(self
            .committed
            .starts(&places)?
            .into_iter()
            .map(Some)
            .collect())
    }

    /// A group without offsets beside epoch records that were committed: its offsets expired, or the group id was changed. Starting
    /// over would write every score a second time.
    fn refuse_to_start_over(&self) -> Result<(), PortError> {
        let topic = &self.options.outputs.epochs;
        let Some(1) = self.committed.partition_count(topic)? else {
            return Err(PortError::fatal(
                PortCause::TopicMissing,
                format!(
                    "kafka: there is no topic '{topic}' with one partition: the output topics must be created before the engine starts"
                ),
            ));
        };
        let places = [(topic.clone(), 0)];
        let range = OffsetRange {
            partition: 0,
            from: self.committed.starts(&places)?[0].0,
            end: self.committed.stable_ends(&places)?[0],
        };
        self.committed.read(topic, &[range], &mut |record| {
            Err(PortError::fatal(PortCause::PositionsLost, format!(
                "kafka: group '{}' has no committed positions, but '{topic}' holds committed epochs (one at offset {}): the group's offsets \
                 expired (offsets.retention.minutes) or kafka.group_id was changed. Restore the group id, or start over with new output topics",
                self.options.group_id,
                rdkafka::Message::offset(record)
            )))
        })
    }
}

/// Attempts, and how they are settled.
impl KafkaSink {
    fn new_producer(&mut self, epoch: u64) -> Result<Committer, PortError> {
        self.reach(CommitPoint::BeforeInit, epoch);
        let settings = CommitterSettings {
            options: &self.options,
            transaction_timeout: self.transaction_timeout,
            failpoint: self.failpoint.clone(),
            metrics: &self.metrics,
        };
        let producer = Committer::start(settings, &self.attended)?;
        let Err(refused) = producer.init(self.options.commit_timeout(), &self.attended) else {
            self.reach(CommitPoint::AfterInit, epoch);
            return Ok(producer);
        };
        if refused.code == Some(RDKafkaErrorCode::InvalidTransactionTimeout)
            && self.transaction_timeout > self.options.transaction_timeout()
        {
            // The brokers' transaction.max.timeout.ms is below the limit that was doubled.
            self.longest_transaction = self.transaction_timeout / 2;
            self.transaction_timeout = self.longest_transaction;
            return Err(PortError::retriable(
                PortCause::Refused,
                refused.error.to_string(),
            ));
        }
        Err(refused.error)
    }

    fn reach(&self, point: CommitPoint, epoch: u64) {
        if let Some(failpoint) = &self.failpoint {
            failpoint(point, epoch);
        }
    }

    fn work(
        &self,
        epoch: &Arc<SealedEpoch>,
        replaced: FxHashMap<usize, OutputRecord>,
        offsets: TopicPartitionList,
    ) -> Result<Work, PortError> {
        let group = self.committed.client().group_metadata().ok_or_else(|| {
            PortError::fatal(PortCause::Misuse, "kafka: the group has no metadata")
        })?;
        Ok(Work {
            epoch: Arc::clone(epoch),
            replaced,
            offsets,
            group,
        })
    }

    /// Tries until the epoch is committed, or something says that this process must stop.
    fn commit_at_last(
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
        Err(PortError::fatal(
            PortCause::RecordTooLarge,
            format!(
                "kafka: a record of {bytes} bytes cannot be produced to '{topic}': {why}. Raise kafka.client.\"producer.message.max.bytes\" and \
             the topic's max.message.bytes"
            ),
        ))
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

    /// A new producer, and what the group's offsets say about the epoch. Waits while the brokers do not answer.
    fn settle(&mut self, epoch: &SealedEpoch) -> Result<Settled, PortError> {
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

    /// The other process that owns the outputs now, read without waiting.
    fn another_owner(&self) -> Result<Option<Owner>, PortError> {
        let committed = self.standing.as_ref().map_or(0, |standing| standing.epoch);
        Ok(self
            .standing_in(&self.uncommitted)?
            .and_then(|found| other_owner(&found, &self.owner, committed)))
    }

    /// An error if another owner's token stands. Whether it does may stay open here: settling asks again.
    fn stop_for_another_owner(&self) -> Result<(), PortError> {
        match self.another_owner() {
            Ok(Some(other)) => Err(self.taken_over_by(&other)),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    fn taken_over_by(&self, other: &Owner) -> PortError {
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

    fn with_hint(&self, why: String, code: Option<RDKafkaErrorCode>) -> String {
        with_hint(why, code, &self.options.group_id)
    }

    fn wait(&self, backoff: &mut Backoff, why: &str) -> Result<(), PortError> {
        tracing::warn!("{why}; trying again");
        self.attended.report(why);
        self.attended.pause(backoff.pause())
    }
}

/// A producer that is ready, or the epoch's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    /// The epoch is to be sent.
    Ready,
    /// The epoch is committed.
    Promoted,
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

impl Sink for KafkaSink {
    fn owner(&self) -> &str {
        self.owner.as_str()
    }

    fn arrange(&mut self, partitions: &[InputPartition]) {
        self.partitions = partitions.to_vec();
    }

    fn take_over(&mut self) -> Result<Option<CommittedEpoch>, PortError> {
        let mut backoff = Backoff::new();
        loop {
            match self.try_take_over() {
                Ok(found) => {
                    self.attended.clear();
                    return Ok(found);
                }
                Err(error @ (PortError::Fatal(_) | PortError::Interrupted(_))) => {
                    return Err(error);
                }
                Err(PortError::Retriable(why) | PortError::Fenced(why)) => {
                    self.wait(&mut backoff, why.message())?
                }
            }
        }
    }

    fn check(&mut self) -> Result<(), PortError> {
        match self.ownership.as_ref().and_then(OwnershipWatch::other) {
            Some(other) => Err(self.taken_over_by(&other)),
            None => Ok(()),
        }
    }

    fn commit(&mut self, epoch: &Arc<SealedEpoch>) -> Result<(), PortError> {
        let Some(standing) = &self.standing else {
            return Err(PortError::fatal(
                PortCause::Misuse,
                "kafka: commit before take_over, or after it failed",
            ));
        };
        if epoch.number != standing.epoch + 1 {
            return Err(PortError::fatal(
                PortCause::Misuse,
                format!(
                    "epoch {} cannot follow the committed epoch {}",
                    epoch.number, standing.epoch
                ),
            ));
        }
        self.check()?;
        let offsets = offsets_of(epoch, &self.owner, &self.partitions)?;
        let started = Instant::now();
        self.commit_at_last(epoch, &offsets)?;
        self.attended.clear();
        self.metrics.observe_commit(started.elapsed().as_secs_f64());
        if started.elapsed() * 3 < self.options.transaction_timeout() {
            self.transaction_timeout = self.options.transaction_timeout();
        }
        let identity = Some((epoch.nonce, self.owner.clone()));
        self.standing = Some(CommitMetadata {
            epoch: epoch.number,
            as_of_ms: epoch.as_of_ms,
            identity,
        });
        if let Some(ownership) = &self.ownership {
            ownership.committed(epoch.number);
        }
        Ok(())
    }
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        if let Some(producer) = self.producer.take() {
            producer.close(self.options.close_timeout());
        }
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
