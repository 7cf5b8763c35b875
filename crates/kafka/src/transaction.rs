//! One attempt to make an epoch visible in a transaction, step by step, and the knowledge left
//! afterwards.
//!
//! Begin → queue the records → positions → wait for the deliveries → commit. Each step can end
//! badly in a way of its own:
//!
//! * *Begin* is local. It is refused here where a request of the transaction before was written and
//!   not answered ([`RequestLedger`]).
//! * *Queueing* is local too, except that a full queue waits for deliveries. librdkafka refuses a
//!   record that is too large.
//! * *Positions* go into the transaction before the deliveries are waited for. The two do not
//!   depend on each other, and a bare transaction is shorter by 15 to 40 % (measured). librdkafka
//!   may not return from this call when the group's coordinator has gone, whatever limit the call
//!   has ([5456](https://github.com/confluentinc/librdkafka/issues/5456),
//!   [5511](https://github.com/confluentinc/librdkafka/issues/5511)). The watchdog of
//!   [`Committer`](crate::committer::Committer) gives the producer up.
//! * *Deliveries* may be refused one by one. Nothing is visible, and nothing will be: no commit was
//!   requested.
//! * *Commit*: the outcome is in doubt from the moment its request is written until its answer is
//!   read. "It failed" is no outcome: a delayed request may take effect later
//!   ([KIP-98](https://cwiki.apache.org/confluence/display/KAFKA/KIP-98+-+Exactly+Once+Delivery+and+Transactional+Messaging)).
//!
//! A transaction is never aborted here. The producer that follows aborts it: `init_transactions`
//! raises the producer epoch, which also fences every request that is still under way
//! ([KIP-890](https://cwiki.apache.org/confluence/display/KAFKA/KIP-890%3A+Transactions+Server-Side+Defense)).
//!
//! [`RequestLedger`]: crate::requests::RequestLedger

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer;
use rustc_hash::FxHashMap;

use leadpulse_engine::ports::{OutputRecord, SealedEpoch};

use crate::client::{is_fenced, is_too_large};
use crate::output_topics::OutputTopics;
use crate::polled::{PolledProducer, RefusedRecord, SendError};

/// Limit until the log line of a commit's answer is seen, after the answer itself has been read.
/// Microseconds, normally.
const LEDGER_WAIT: Duration = Duration::from_secs(1);

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AttemptOutcome {
    /// Every record and position of the epoch is committed.
    Committed,
    /// No commit was requested: nothing of the epoch is or will be visible.
    NotCommitted {
        why: String,
        /// librdkafka's code, where it gave one.
        code: Option<RDKafkaErrorCode>,
        /// Index of the refused record, where one was refused.
        record: Option<usize>,
    },
    /// Like [`Self::NotCommitted`]: these records (indices in the epoch) are too large.
    TooLarge { records: Vec<usize>, why: String },
    /// The commit may or may not take effect: a new producer has to settle the epoch.
    InDoubt(String),
    /// The broker no longer accepts this producer. Another producer took over the transactional id,
    /// or the transaction was open for longer than its limit: librdkafka reports both alike
    /// ([3928](https://github.com/confluentinc/librdkafka/issues/3928)). In doubt like
    /// [`Self::InDoubt`].
    Fenced(String),
    /// Nothing was begun: a request of the transaction before was written and not answered.
    Unanswered,
}

/// Places where a test can interrupt a take-over, an attempt or its settling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitPoint {
    /// The owner's token was read; the transactional id is not taken over yet. Cannot end an
    /// attempt.
    BeforeInit,
    /// The transactional id is taken over; the committed offsets are not read yet. Cannot end an
    /// attempt.
    AfterInit,
    /// The transaction has begun, nothing is sent.
    BeforeRecords,
    /// All records are queued; some may be acknowledged.
    BeforeOffsets,
    /// Positions are in the transaction, and every record is acknowledged.
    BeforeCommit,
    /// The commit was acknowledged.
    AfterCommit,
}

/// A function called at each [`CommitPoint`] with the epoch's number (0 where a take-over does not
/// know the number yet). `true` makes an attempt end there as if its outcome were unknown. The
/// function may block, to let others act and limits pass.
pub type Failpoint = Arc<dyn Fn(CommitPoint, u64) -> bool + Send + Sync>;

/// A step of an attempt, for reports and errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum TransactionStep {
    TakingOver,
    Sending,
    Positions,
    Deliveries,
    Committing,
}

impl TransactionStep {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::TakingOver => "taking over the transactional id",
            Self::Sending => "queueing the records",
            Self::Positions => "adding the positions to the transaction",
            Self::Deliveries => "waiting for the records to be acknowledged",
            Self::Committing => "committing",
        }
    }

    fn of(number: u8) -> Self {
        [
            Self::TakingOver,
            Self::Sending,
            Self::Positions,
            Self::Deliveries,
            Self::Committing,
        ][usize::from(number)]
    }
}

/// State of an attempt that the watchdog shares with the committing thread.
#[derive(Debug)]
pub(crate) struct Watched {
    step: AtomicU8,
    abandoned: AtomicBool,
}

impl Default for Watched {
    fn default() -> Self {
        Self {
            step: AtomicU8::new(TransactionStep::TakingOver as u8),
            abandoned: AtomicBool::new(false),
        }
    }
}

impl Watched {
    pub(crate) fn step(&self) -> TransactionStep {
        TransactionStep::of(self.step.load(Ordering::Relaxed))
    }

    /// Forbids every further step.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }
}

/// An epoch with everything that one attempt needs.
pub(crate) struct Work {
    pub(crate) epoch: Arc<SealedEpoch>,
    /// Smaller records in place of epoch records that were too large, by index.
    pub(crate) replaced: FxHashMap<usize, OutputRecord>,
    pub(crate) offsets: TopicPartitionList,
    pub(crate) group: ConsumerGroupMetadata,
}

impl Work {
    fn records(&self) -> impl Iterator<Item = (usize, &OutputRecord)> {
        self.epoch
            .outputs
            .iter()
            .enumerate()
            .map(|(index, record)| (index, self.replaced.get(&index).unwrap_or(record)))
    }
}

/// A producer with the transactional id. One thread makes all calls, and any call may block for
/// longer than its limit.
pub(crate) struct TransactionalProducer {
    producer: PolledProducer,
    topics: OutputTopics,
    /// Limit that librdkafka gets for each call, so that an abandoned call returns at last.
    call_limit: Duration,
    watched: Arc<Watched>,
    failpoint: Option<Failpoint>,
    /// Answers to EndTxn requests before the newest commit.
    ended_before: u64,
    /// False from the request of a commit until the ledger was seen to be balanced.
    may_begin: bool,
}

impl TransactionalProducer {
    pub(crate) fn new(
        producer: PolledProducer,
        topics: OutputTopics,
        call_limit: Duration,
        watched: Arc<Watched>,
        failpoint: Option<Failpoint>,
    ) -> Self {
        Self {
            producer,
            topics,
            call_limit,
            watched,
            failpoint,
            ended_before: 0,
            may_begin: true,
        }
    }

    /// Takes the transactional id over: earlier producers are fenced, their open transaction is
    /// aborted, their prepared one is completed.
    pub(crate) fn init(&self, limit: Duration) -> Result<(), KafkaError> {
        self.step(TransactionStep::TakingOver);
        self.producer.client().init_transactions(limit)
    }

    /// Makes one attempt. [`Self::balance`] must follow before the next one.
    pub(crate) fn attempt(&mut self, work: &Work) -> AttemptOutcome {
        if !self.may_begin {
            return AttemptOutcome::Unanswered;
        }
        match self.try_commit(work) {
            Ok(()) => AttemptOutcome::Committed,
            Err(outcome) => outcome,
        }
    }

    fn try_commit(&mut self, work: &Work) -> Result<(), AttemptOutcome> {
        self.step(TransactionStep::Sending);
        self.producer
            .client()
            .begin_transaction()
            .map_err(|error| self.not_committed("beginning a transaction", &error))?;
        self.interrupt(CommitPoint::BeforeRecords, work)?;
        self.send(work)
            .map_err(|outcome| self.cause(outcome, work))?;
        self.interrupt(CommitPoint::BeforeOffsets, work)?;
        // Every position goes into every transaction, also the unchanged ones. With an empty list a
        // broker checks no generation, and the metadata of the epoch would stand nowhere.
        self.step(TransactionStep::Positions);
        let added = self.producer.client().send_offsets_to_transaction(
            &work.offsets,
            &work.group,
            self.call_limit,
        );
        added.map_err(|error| {
            self.not_committed("adding the positions to the transaction", &error)
        })?;
        self.step(TransactionStep::Deliveries);
        self.await_deliveries()
            .map_err(|outcome| self.cause(outcome, work))?;
        self.interrupt(CommitPoint::BeforeCommit, work)?;
        self.step(TransactionStep::Committing);
        self.commit()?;
        self.interrupt(CommitPoint::AfterCommit, work)
    }

    fn send(&self, work: &Work) -> Result<(), AttemptOutcome> {
        let given_up = || self.watched.is_abandoned() || self.producer.signals().is_refused();
        for (index, record) in work.records() {
            let topic = self.topics.name(record.output);
            match self.producer.send(topic, index, record, &given_up) {
                Ok(()) => {}
                Err(SendError::Refused(error)) => {
                    return Err(self.refused(vec![RefusedRecord {
                        record: index,
                        error,
                    }]));
                }
                Err(SendError::GivenUp) => {
                    return Err(self.refused(self.producer.signals().take_refusals()));
                }
            }
        }
        self.producer.signals().advance();
        Ok(())
    }

    fn await_deliveries(&self) -> Result<(), AttemptOutcome> {
        let decided = self
            .producer
            .wait_for_deliveries(&|| self.watched.is_abandoned());
        let refusals = self.producer.signals().take_refusals();
        if decided && refusals.is_empty() {
            Ok(())
        } else {
            Err(self.refused(refusals))
        }
    }

    /// Requests the commit. A broker may have accepted the request whatever this call returns.
    fn commit(&mut self) -> Result<(), AttemptOutcome> {
        if self.watched.is_abandoned() {
            return Err(AttemptOutcome::NotCommitted {
                why: "given up before the commit".into(),
                code: None,
                record: None,
            });
        }
        // From here on only a balanced ledger allows another transaction: see
        // docs/decisions/0003-a-producer-is-replaced-unless-all-was-answered.md.
        self.may_begin = false;
        self.ended_before = self.producer.signals().ledger.ended_transactions();
        let committed = self.producer.client().commit_transaction(self.call_limit);
        committed.map_err(|error| {
            self.fenced()
                .unwrap_or_else(|| AttemptOutcome::InDoubt(format!("committing: {error}")))
        })
    }

    /// Decides whether another transaction may begin: after an answered commit, if no request of
    /// the transaction is left unanswered. Waits until the log line of the commit's answer was
    /// seen. The lines of all earlier requests came before that one.
    pub(crate) fn balance(&mut self) {
        let signals = self.producer.signals();
        let seen = signals.wait(LEDGER_WAIT, |signals| {
            signals.ledger.ended_transactions() > self.ended_before
        });
        self.may_begin = seen && signals.ledger.is_balanced();
    }

    /// The outcome of an error before the commit was requested.
    fn not_committed(&self, doing: &str, error: &KafkaError) -> AttemptOutcome {
        // A refused record makes every later call fail: the record is the cause. Purged records
        // are not: the transaction failed first, and `error` says why.
        let refusals = self.producer.signals().take_refusals();
        let code = |refusal: &RefusedRecord| refusal.error.rdkafka_error_code();
        if refusals
            .first()
            .is_some_and(|first| !is_purged(code(first)))
        {
            return self.refused(refusals);
        }
        let why = format!("{doing}: {error}");
        self.fenced().unwrap_or(AttemptOutcome::NotCommitted {
            why,
            code: error.rdkafka_error_code(),
            record: None,
        })
    }

    /// The outcome of refused records. An empty list stands for an attempt that was given up.
    fn refused(&self, refusals: Vec<RefusedRecord>) -> AttemptOutcome {
        let too_large =
            |refusal: &&RefusedRecord| refusal.error.rdkafka_error_code().is_some_and(is_too_large);
        let records: Vec<usize> = refusals
            .iter()
            .filter(too_large)
            .map(|refusal| refusal.record)
            .collect();
        if let Some(first) = refusals.iter().find(too_large) {
            return AttemptOutcome::TooLarge {
                records,
                why: first.error.to_string(),
            };
        }
        if let Some(fenced) = self.fenced() {
            return fenced;
        }
        match refusals.first() {
            Some(RefusedRecord { error, record }) => AttemptOutcome::NotCommitted {
                why: format!("sending the records: {error}"),
                code: error.rdkafka_error_code(),
                record: Some(*record),
            },
            None => AttemptOutcome::NotCommitted {
                why: "given up while the records were sent".into(),
                code: None,
                record: None,
            },
        }
    }

    /// The outcome with the error of the transaction, where records only say that they were purged:
    /// a partition that the brokers deny is refused before any record is sent. A transaction that
    /// failed answers every call with its error, and without a request.
    fn cause(&self, outcome: AttemptOutcome, work: &Work) -> AttemptOutcome {
        if !matches!(&outcome, AttemptOutcome::NotCommitted { code, .. } if is_purged(*code)) {
            return outcome;
        }
        let asked = self.producer.client().send_offsets_to_transaction(
            &work.offsets,
            &work.group,
            self.call_limit,
        );
        match asked {
            Err(error) => self.not_committed("sending the records", &error),
            Ok(()) => outcome,
        }
    }

    /// The fatal error of a producer that the broker no longer accepts.
    fn fenced(&self) -> Option<AttemptOutcome> {
        let (code, why) = self.producer.client().client().fatal_error()?;
        is_fenced(code).then_some(AttemptOutcome::Fenced(why))
    }

    fn step(&self, step: TransactionStep) {
        self.watched.step.store(step as u8, Ordering::Relaxed);
        self.producer.signals().advance();
    }

    fn interrupt(&self, point: CommitPoint, work: &Work) -> Result<(), AttemptOutcome> {
        match &self.failpoint {
            Some(failpoint) if failpoint(point, work.epoch.number) => Err(AttemptOutcome::InDoubt(
                format!("interrupted at {point:?} by a failpoint"),
            )),
            _ => Ok(()),
        }
    }
}

/// True for records that were dropped because their transaction had failed.
fn is_purged(code: Option<RDKafkaErrorCode>) -> bool {
    matches!(
        code,
        Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)
    )
}
