//! One attempt to make an epoch visible in a transaction, step by step, and what is known afterwards.
//!
//! Begin → queue the records → positions → wait for the deliveries → commit. Each step can end badly in its own way:
//!
//! * *Begin* is local. It is refused here where a request of the transaction before was written and not answered ([`RequestLedger`]).
//! * *Queueing* is local too, except that a full queue waits for deliveries. librdkafka refuses a record that is too large.
//! * *Positions* go into the transaction before the deliveries are waited for: they do not depend on each other, and the wait is shorter by
//!   15 to 40 % (measured). librdkafka may not return from this call when the group's coordinator has gone, whatever limit it is given
//!   ([5456](https://github.com/confluentinc/librdkafka/issues/5456), [5511](https://github.com/confluentinc/librdkafka/issues/5511)): the
//!   watchdog of [`Committer`](crate::committer::Committer) gives the producer up.
//! * *Deliveries* may be refused one by one. Nothing is visible, and nothing will be: no commit was requested.
//! * *Commit*: from the moment its request is written until its answer is read the outcome is in doubt, and "it failed" is no outcome: a
//!   delayed request may take effect later ([KIP-98](https://cwiki.apache.org/confluence/display/KAFKA/KIP-98+-+Exactly+Once+Delivery+and+Transactional+Messaging)).
//!
//! A transaction is never aborted here. The producer that follows aborts it: its `init_transactions` raises the epoch, which also fences
//! every request that is still under way ([KIP-890](https://cwiki.apache.org/confluence/display/KAFKA/KIP-890%3A+Transactions+Server-Side+Defense)).
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

/// How long the log line of a commit's answer may take to be seen: the answer itself has been read. Microseconds, normally.
const LEDGER_WAIT: Duration = Duration::from_secs(1);

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of it is visible.
    Committed,
    /// No commit was requested: nothing of it is or will be visible.
    NotCommitted {
        why: String,
        /// librdkafka's code, where it gave one.
        code: Option<RDKafkaErrorCode>,
    },
    /// As [`Self::NotCommitted`]: these records (indices in the epoch) are too large.
    TooLarge { records: Vec<usize>, why: String },
    /// Nobody knows: a new producer has to settle it.
    InDoubt(String),
    /// The broker no longer accepts this producer. Another one took over the transactional id, or the transaction was open for longer than
    /// its limit: librdkafka reports both alike ([3928](https://github.com/confluentinc/librdkafka/issues/3928)). In doubt like
    /// [`Self::InDoubt`].
    Fenced(String),
    /// Nothing was begun: a request of the transaction before was written and not answered.
    Unanswered,
}

/// Places where a test can interrupt a take-over, an attempt or its settling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitPoint {
    /// The owner's token was read; the transactional id is not taken over yet. Cannot end an attempt.
    BeforeInit,
    /// The transactional id is taken over; the committed offsets are not read yet. Cannot end an attempt.
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

/// A function called at each [`CommitPoint`] with the epoch's number (0 where a take-over does not know it yet). `true` makes an attempt end
/// there as if its outcome were unknown. It may block, to let others act and limits pass.
pub type Failpoint = Arc<dyn Fn(CommitPoint, u64) -> bool + Send + Sync>;

/// A step of an attempt, to name where one stands.
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

/// An attempt's state that the watching thread shares with the committing one.
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

/// An epoch on its way, with everything one attempt needs.
pub(crate) struct Work {
    pub(crate) epoch: Arc<SealedEpoch>,
    /// Records that go in place of the epoch's own, by index: those were too large.
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

/// A producer with the transactional id. All calls are made from one thread, and any of them may block for longer than its limit.
pub(crate) struct TransactionalProducer {
    producer: PolledProducer,
    topics: OutputTopics,
    /// Limit that librdkafka is given for each call, so that an abandoned one comes back at last.
    call_limit: Duration,
    watched: Arc<Watched>,
    failpoint: Option<Failpoint>,
    /// Answers to EndTxn requests before the newest commit.
    ended_before: u64,
    /// False from the moment a commit is requested until its ledger was seen to be balanced.
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

    /// Takes the transactional id over: earlier producers are fenced, their open transaction is aborted, their prepared one is completed.
    pub(crate) fn init(&self, limit: Duration) -> Result<(), KafkaError> {
        self.step(TransactionStep::TakingOver);
        self.producer.client().init_transactions(limit)
    }

    /// Makes one attempt. [`Self::balance`] must follow before the next.
    pub(crate) fn attempt(&mut self, work: &Work) -> Outcome {
        if !self.may_begin {
            return Outcome::Unanswered;
        }
        match self.try_commit(work) {
            Ok(()) => Outcome::Committed,
            Err(outcome) => outcome,
        }
    }

    fn try_commit(&mut self, work: &Work) -> Result<(), Outcome> {
        self.step(TransactionStep::Sending);
        self.producer
            .client()
            .begin_transaction()
            .map_err(|error| self.not_committed("beginning a transaction", &error))?;
        self.interrupt(CommitPoint::BeforeRecords, work)?;
        self.send(work)?;
        self.interrupt(CommitPoint::BeforeOffsets, work)?;
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
        self.await_deliveries()?;
        self.interrupt(CommitPoint::BeforeCommit, work)?;
        self.step(TransactionStep::Committing);
        self.commit()?;
        self.interrupt(CommitPoint::AfterCommit, work)
    }

    fn send(&self, work: &Work) -> Result<(), Outcome> {
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

    fn await_deliveries(&self) -> Result<(), Outcome> {
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

    /// Requests the commit. Whatever goes wrong here, the request may have been accepted.
    fn commit(&mut self) -> Result<(), Outcome> {
        if self.watched.is_abandoned() {
            return Err(Outcome::NotCommitted {
                why: "given up before the commit".into(),
                code: None,
            });
        }
        self.may_begin = false;
        self.ended_before = self.producer.signals().ledger.ended_transactions();
        let committed = self.producer.client().commit_transaction(self.call_limit);
        committed.map_err(|error| {
            self.fenced()
                .unwrap_or_else(|| Outcome::InDoubt(format!("committing: {error}")))
        })
    }

    /// Decides whether another transaction may begin: after a commit that was answered, if nothing of it is left unanswered. Waits until the
    /// log line of the answer was seen; the lines of all earlier requests came before it.
    pub(crate) fn balance(&mut self) {
        let signals = self.producer.signals();
        let seen = signals.wait(LEDGER_WAIT, |signals| {
            signals.ledger.ended_transactions() > self.ended_before
        });
        self.may_begin = seen && signals.ledger.is_balanced();
    }

    /// The outcome of an error before the commit was requested.
    fn not_committed(&self, doing: &str, error: &KafkaError) -> Outcome {
        // A refused record makes every later call fail: the record is the cause.
        let refusals = self.producer.signals().take_refusals();
        if !refusals.is_empty() {
            return self.refused(refusals);
        }
        let why = format!("{doing}: {error}");
        self.fenced().unwrap_or(Outcome::NotCommitted {
            why,
            code: error.rdkafka_error_code(),
        })
    }

    /// The outcome of refused records; of none, if the attempt was given up.
    fn refused(&self, refusals: Vec<RefusedRecord>) -> Outcome {
        let too_large =
            |refusal: &&RefusedRecord| refusal.error.rdkafka_error_code().is_some_and(is_too_large);
        let records: Vec<usize> = refusals
            .iter()
            .filter(too_large)
            .map(|refusal| refusal.record)
            .collect();
        if let Some(first) = refusals.iter().find(too_large) {
            return Outcome::TooLarge {
                records,
                why: first.error.to_string(),
            };
        }
        if let Some(fenced) = self.fenced() {
            return fenced;
        }
        match refusals.first() {
            Some(RefusedRecord { error, .. }) => Outcome::NotCommitted {
                why: format!("sending the records: {error}"),
                code: error.rdkafka_error_code(),
            },
            None => Outcome::NotCommitted {
                why: "given up while the records were sent".into(),
                code: None,
            },
        }
    }

    /// The fatal error of a producer that the broker no longer accepts.
    fn fenced(&self) -> Option<Outcome> {
        let (code, why) = self.producer.client().client().fatal_error()?;
        is_fenced(code).then_some(Outcome::Fenced(why))
    }

    fn step(&self, step: TransactionStep) {
        self.watched.step.store(step as u8, Ordering::Relaxed);
        self.producer.signals().advance();
    }

    fn interrupt(&self, point: CommitPoint, work: &Work) -> Result<(), Outcome> {
        match &self.failpoint {
            Some(failpoint) if failpoint(point, work.epoch.number) => Err(Outcome::InDoubt(
                format!("interrupted at {point:?} by a failpoint"),
            )),
            _ => Ok(()),
        }
    }
}
