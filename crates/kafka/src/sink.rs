//! [`KafkaSink`]: sealed epochs become visible, each exactly once.
//!
//! # The story of a commit
//!
//! Each epoch is one transaction. The transaction contains the output records, and the position of
//! every input partition with the epoch's number, `as_of` and nonce and the token of the process
//! that commits ([`committed`](crate::committed)). The protocol is that of
//! [KIP-98](https://cwiki.apache.org/confluence/display/KAFKA/KIP-98+-+Exactly+Once+Delivery+and+Transactional+Messaging).
//! [`transaction`](crate::transaction) lists how each step can end badly. The sink decides what
//! follows:
//!
//! 1. **Take-over** ([`take_over`]). `init_transactions` fences every earlier producer. Then the
//!    sink reads the committed offsets, and waits for transactions that are prepared. Then an
//!    *empty transaction* writes the offsets back unchanged, with our token: from here on every
//!    process can read who owns the outputs. A process that is fenced in the middle tries again,
//!    since no token of its own stands yet.
//! 2. **Attempt** ([`attempts`]), on a thread under a watchdog ([`Committer`]). The caller may go on
//!    with other work until it ends. One epoch is under way at a time.
//! 3. **Committed**: done. But the next transaction begins only if every request of this one was
//!    answered. A copy of an unanswered request may arrive late and end the next transaction in the
//!    middle
//!    ([KIP-890](https://cwiki.apache.org/confluence/display/KAFKA/KIP-890%3A+Transactions+Server-Side+Defense),
//!    [librdkafka 5423](https://github.com/confluentinc/librdkafka/issues/5423)). So a new producer
//!    comes first: its `init_transactions` raises the producer epoch, and the copy is fenced.
//! 4. **Anything else** is settled by a new producer ([`settlement`]). The token is read first,
//!    without waiting. If another token stands, this process stops and fences nobody. Then
//!    `init_transactions`, and the token is read again. Our nonce under our token: the epoch was
//!    committed. The epoch before under our token: the same bytes are sent again. Another token:
//!    this process stops, and has touched nothing of the successor's. The number alone would not
//!    do: two processes may each have committed an epoch N
//!    (docs/decisions/0002-owner-and-nonce.md).
//!
//! A producer can be fenced although the token of its process stands. The broker ended a
//! transaction that took too long, or another process died or was paused in the middle of its
//! take-over. So "fenced" is in doubt as well: the other process gets half a second to write a
//! token, then step 4 follows. Of two processes in any interleaving at least one goes on: the one
//! whose token stands.
//!
//! Outages are waited out. Authorization errors are fatal in the take-over only: later they may be
//! the blink of an ACL that is replaced.
//!
//! A commit is acknowledged when it is decided. Readers see the records a moment later, when the
//! brokers have written the markers. A take-over waits for the markers, so a read after a take-over
//! is complete.

mod attempts;
mod settlement;
mod take_over;

use std::sync::Arc;
use std::time::Duration;

use attempts::Begun;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rustc_hash::{FxHashMap, FxHashSet};

use leadpulse_engine::ports::{
    Attendant, CommittedEpoch, Holding, InputPartition, Output, OutputPositions, OutputRecord,
    PortCause, PortError, SealedEpoch, Sink, Unattended,
};

use crate::access::Access;
use crate::client_settings::LONGEST_TRANSACTION_MS;
use crate::committed::{CommitMetadata, Owner, offsets_of};
use crate::committer::{Committer, CommitterSettings, LOOK_INTERVAL};
use crate::metrics::KafkaMetrics;
use crate::offsets::{Isolation, OffsetReader};
use crate::options::KafkaOptions;
use crate::oversize::DeadLetterRoom;
use crate::ownership::OwnershipWatch;
use crate::patience::{Attended, Backoff};
use crate::polled::Delivered;
use crate::retention::Holdings;
use crate::transaction::{CommitPoint, Failpoint, Work};

/// The outputs on a cluster, in transactions.
// Decision: docs/decisions/0006-one-epoch-is-one-transaction.md
pub struct KafkaSink {
    options: KafkaOptions,
    partitions: Vec<InputPartition>,
    metrics: Arc<KafkaMetrics>,
    owner: Owner,
    attended: Attended,
    /// The identity of the producers.
    access: Arc<Access>,
    /// Where the records of this process went.
    delivered: Arc<Delivered>,
    /// Outputs that this process wrote a record of.
    written: FxHashSet<Output>,
    /// A `read_committed` client: the coordinator answers after transactions in doubt are settled.
    committed: OffsetReader,
    /// A `read_uncommitted` client: the coordinator answers at once.
    uncommitted: OffsetReader,
    /// None before [`Sink::take_over`], and after a producer was given up.
    producer: Option<Committer>,
    /// The newest metadata that this process wrote; none before [`Sink::take_over`].
    standing: Option<CommitMetadata>,
    /// The epoch that is being committed.
    begun: Option<Begun>,
    ownership: Option<OwnershipWatch>,
    /// Transaction limit of the next producer.
    transaction_timeout: Duration,
    /// The longest limit that the brokers allow, as far as known.
    longest_transaction: Duration,
    dead_letters: DeadLetterRoom,
    failpoint: Option<Failpoint>,
    holdings: Holdings,
}

impl KafkaSink {
    /// A sink for an engine that reads `partitions`, in the order of
    /// [`Source::partitions`](leadpulse_engine::ports::Source::partitions). Changes nothing on the
    /// cluster before [`Sink::take_over`].
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
            access: Arc::new(Access::new(options)),
            delivered: Arc::default(),
            written: FxHashSet::default(),
            committed: OffsetReader::to_ask(options, Isolation::Committed, metrics)?,
            uncommitted: OffsetReader::to_ask(options, Isolation::Uncommitted, metrics)?,
            producer: None,
            standing: None,
            begun: None,
            ownership: None,
            transaction_timeout: options.transaction_timeout(),
            longest_transaction: Duration::from_millis(LONGEST_TRANSACTION_MS),
            dead_letters: DeadLetterRoom::default(),
            failpoint: None,
            holdings: Holdings::default(),
        })
    }

    /// Reports long waits to `attendant`, and ends a wait when the attendant asks for a stop.
    #[must_use]
    pub fn with_attendant(mut self, attendant: Arc<dyn Attendant>) -> Self {
        self.attended = Attended::new(attendant);
        self
    }

    /// Tells how long topics keep records by what a watch has found.
    #[must_use]
    pub fn with_holdings(mut self, holdings: Holdings) -> Self {
        self.holdings = holdings;
        self
    }

    /// Interrupts attempts, to test how they are settled. The empty transaction of a take-over is
    /// an attempt too, with the number of the newest committed epoch.
    #[must_use]
    pub fn with_failpoint(mut self, failpoint: Failpoint) -> Self {
        self.failpoint = Some(failpoint);
        self
    }
}

impl KafkaSink {
    /// A producer that has taken the transactional id over. `epoch` is for failpoints only.
    fn new_producer(&mut self, epoch: u64) -> Result<Committer, PortError> {
        self.reach(CommitPoint::BeforeInit, epoch);
        let settings = CommitterSettings {
            options: &self.options,
            transaction_timeout: self.transaction_timeout,
            failpoint: self.failpoint.clone(),
            access: &self.access,
            delivered: &self.delivered,
            metrics: &self.metrics,
        };
        let producer = Committer::start(settings, &self.attended)?;
        let Err(refused) = producer.init(self.options.commit_timeout(), &self.attended) else {
            self.access.admit();
            self.reach(CommitPoint::AfterInit, epoch);
            return Ok(producer);
        };
        if refused.code == Some(RDKafkaErrorCode::InvalidTransactionTimeout)
            && self.transaction_timeout > self.options.transaction_timeout()
        {
            // The brokers' transaction.max.timeout.ms is below the limit that was doubled: the
            // limit before is the longest.
            self.longest_transaction = self.transaction_timeout / 2;
            self.transaction_timeout = self.longest_transaction;
            return Err(PortError::retriable(
                PortCause::Refused,
                refused.error.to_string(),
            ));
        }
        let id = format!("transactional id '{}'", self.options.transactional_id);
        match refused
            .code
            .and_then(|code| self.access.permission(code, &id))
        {
            Some(sentence) => Err(PortError::fatal(
                PortCause::Refused,
                format!("kafka: {sentence}"),
            )),
            None => Err(self.access.explain(refused.error)),
        }
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
        // Partitions are assigned by hand, so the group has no generation that could fence another
        // process (KIP-447). The transactional id and the token do that here.
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

    /// Takes over, however often it takes. `tail` stands in the place of positions that are gone.
    fn take_over_beside(
        &mut self,
        tail: Option<&CommittedEpoch>,
    ) -> Result<Option<CommittedEpoch>, PortError> {
        let mut backoff = Backoff::new();
        loop {
            match self.try_take_over(tail) {
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

    fn wait(&self, backoff: &mut Backoff, why: &str) -> Result<(), PortError> {
        tracing::warn!("{why}; trying again");
        self.attended.report(why);
        self.attended.pause(backoff.pause())
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
        self.take_over_beside(None)
    }

    fn take_over_at(&mut self, tail: &CommittedEpoch) -> Result<Option<CommittedEpoch>, PortError> {
        self.take_over_beside(Some(tail))
    }

    fn holdings(&self) -> Vec<Holding> {
        self.holdings.get()
    }

    fn written(&self) -> OutputPositions {
        let mut positions = OutputPositions::default();
        for output in Output::ALL {
            if self.options.outputs.writes(output) {
                let nexts = self.delivered.nexts(self.options.outputs.name(output));
                let partitions = (0..).zip(nexts).filter(|(_, next)| *next > 0);
                partitions.for_each(|(at, next)| positions.note(output as u8, at, next));
            }
        }
        positions
    }

    fn check(&mut self) -> Result<(), PortError> {
        match self.ownership.as_ref().and_then(OwnershipWatch::other) {
            Some(other) => Err(self.taken_over_by(&other)),
            None => Ok(()),
        }
    }

    fn commit(&mut self, epoch: &Arc<SealedEpoch>) -> Result<(), PortError> {
        self.begin(epoch)?;
        while self.end(LOOK_INTERVAL)?.is_none() {}
        Ok(())
    }

    fn begin(&mut self, epoch: &Arc<SealedEpoch>) -> Result<(), PortError> {
        let misuse = |text: String| Err(PortError::fatal(PortCause::Misuse, text));
        let Some(standing) = &self.standing else {
            return misuse("kafka: commit before take_over, or after it failed".to_owned());
        };
        if epoch.number != standing.epoch + 1 || self.begun.is_some() {
            return misuse(format!(
                "epoch {} cannot follow the committed epoch {}",
                epoch.number, standing.epoch
            ));
        }
        self.check()?;
        let offsets = offsets_of(epoch, &self.owner, &self.partitions)?;
        self.begun = Some(self.begin_attempts(epoch, offsets)?);
        Ok(())
    }

    fn end(&mut self, wait: Duration) -> Result<Option<Duration>, PortError> {
        let Some(mut begun) = self.begun.take() else {
            return Ok(Some(Duration::ZERO));
        };
        let Some(at) = self.end_attempts(&mut begun, wait)? else {
            self.begun = Some(begun);
            return Ok(None);
        };
        self.attended.clear();
        let took = at.saturating_duration_since(begun.started);
        self.metrics.observe_commit(took.as_secs_f64());
        // The link is fast again: the limit that slow attempts have doubled goes back.
        if took * 3 < self.options.transaction_timeout() {
            self.transaction_timeout = self.options.transaction_timeout();
        }
        let epoch = begun.epoch();
        let identity = Some((epoch.nonce, self.owner.clone()));
        self.standing = Some(CommitMetadata {
            epoch: epoch.number,
            as_of_ms: epoch.as_of_ms,
            identity,
        });
        if let Some(ownership) = &self.ownership {
            ownership.committed(epoch.number);
        }
        Ok(Some(at.elapsed()))
    }
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        if let Some(producer) = self.producer.take() {
            producer.close(self.options.close_timeout());
        }
    }
}
