//! [`KafkaSink`]: sealed epochs become visible, each exactly once.
//!
//! Per epoch one transaction: output records, the position of every input partition, epoch number and `as_of` in the commit metadata. When
//! an attempt's outcome is unknown, the sink settles it: a new producer with the same transactional id (which fences the old one, so that
//! nothing of it can take effect any more), then the committed epoch read back. It is this one: done. It is the one before: the same bytes
//! again. Anything else: another process took over, and this one must stop.
//!
//! A commit is acknowledged when it is decided. Its records can be read a moment later, when the brokers have written the markers; a
//! take-over waits for that, so what is read after one is complete.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;

use leadpulse_engine::ports::{CommittedEpoch, InputPartition, PortError, SealedEpoch, Sink};

use crate::metrics::{KafkaMetrics, TransactionOutcome};
use crate::offsets::{Isolation, OffsetRange, OffsetReader};
use crate::options::KafkaOptions;
use crate::position::{committed_epoch, offsets_of};
use crate::transaction::{Failpoint, Heartbeat, Outcome, TransactionalProducer};

/// Attempts of one epoch that end aborted before the process gives up.
const ABORTED_ATTEMPTS: u32 = 5;
/// Between two tries to read the committed epoch.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// The outputs on a cluster, in transactions.
pub struct KafkaSink {
    options: KafkaOptions,
    partitions: Vec<InputPartition>,
    metrics: Arc<KafkaMetrics>,
    offsets: OffsetReader,
    /// There from [`Sink::take_over`] on, except while a new one is made.
    producer: Option<TransactionalProducer>,
    /// Number of the newest committed epoch, 0 before the first.
    committed: u64,
    failpoint: Option<Failpoint>,
    alive: Heartbeat,
}

impl KafkaSink {
    /// A sink for an engine that reads `partitions` ([`Source::partitions`](leadpulse_engine::ports::Source::partitions), same order).
    /// Touches nothing before [`Sink::take_over`].
    pub fn new(options: &KafkaOptions, partitions: &[InputPartition], metrics: &Arc<KafkaMetrics>) -> Result<Self, PortError> {
        Ok(Self {
            options: options.clone(),
            partitions: partitions.to_vec(),
            metrics: Arc::clone(metrics),
            offsets: OffsetReader::connect(options, Isolation::Committed, metrics)?,
            producer: None,
            committed: 0,
            failpoint: None,
            alive: Heartbeat::default(),
        })
    }

    /// Calls `beat` between the steps of a transaction and while an outcome in doubt is settled, each of which has a limit: whoever waits
    /// for a commit knows that it goes on.
    #[must_use]
    pub fn with_heartbeat(mut self, beat: impl Fn() + Send + 'static) -> Self {
        self.alive = Heartbeat::new(beat);
        self
    }

    /// Injects unknown outcomes, to test how they are settled.
    #[must_use]
    pub fn with_failpoint(mut self, failpoint: Failpoint) -> Self {
        self.failpoint = Some(failpoint);
        self
    }

    /// Fences every other owner, then asks what is committed: in this order nothing can be committed in between.
    fn settle(&mut self) -> Result<Option<CommittedEpoch>, PortError> {
        let deadline = Instant::now() + self.options.settle_timeout();
        self.producer = None; // closed before the new one starts
        self.producer = Some(TransactionalProducer::take_over(&self.options, &self.metrics, deadline, &self.alive)?);
        loop {
            self.alive.beat();
            match self.read_committed_epoch() {
                Err(PortError::Retriable(message)) if Instant::now() < deadline => {
                    tracing::warn!("{message}; trying again");
                    std::thread::sleep(RETRY_PAUSE);
                }
                result => return result,
            }
        }
    }

    fn read_committed_epoch(&self) -> Result<Option<CommittedEpoch>, PortError> {
        let (group_id, timeout) = (&self.options.group_id, self.options.request_timeout());
        committed_epoch(self.offsets.client(), group_id, &self.partitions, timeout)
    }

    /// A group without offsets beside epoch records that were committed: its offsets expired, or the group id was changed. Starting
    /// over would write every score a second time.
    fn refuse_to_start_over(&self) -> Result<(), PortError> {
        let topic = &self.options.outputs.epochs;
        let Some(1) = self.offsets.partition_count(topic)? else {
            return Err(PortError::Fatal(format!(
                "kafka: there is no topic '{topic}' with one partition: the output topics must be created before the engine starts"
            )));
        };
        let places = [(topic.clone(), 0)];
        let range = OffsetRange { partition: 0, from: self.offsets.starts(&places)?[0].0, end: self.offsets.stable_ends(&places)?[0] };
        let mut epochs = 0;
        self.offsets.read(topic, &[range], &mut |_| {
            epochs += 1;
            Ok(())
        })?;
        if epochs == 0 {
            return Ok(());
        }
        Err(PortError::Fatal(format!(
            "kafka: group '{}' has no committed positions, but '{topic}' holds {epochs} committed epochs: the group's offsets expired \
             (offsets.retention.minutes) or kafka.group_id was changed. Restore the group id, or start over with new output topics",
            self.options.group_id
        )))
    }

    fn fenced(&self, why: &str) -> PortError {
        self.metrics.count_transaction(TransactionOutcome::Fenced);
        PortError::Fenced(format!("another process uses kafka.transactional_id '{}': {why}", self.options.transactional_id))
    }

    fn is_committed(&mut self, epoch: &SealedEpoch, started: Instant) {
        self.committed = epoch.number;
        self.metrics.observe_commit(started.elapsed().as_secs_f64());
    }
}

impl Sink for KafkaSink {
    fn owner(&self) -> &str {
        &self.options.transactional_id
    }

    fn arrange(&mut self, partitions: &[InputPartition]) {
        self.partitions = partitions.to_vec();
    }

    fn take_over(&mut self) -> Result<Option<CommittedEpoch>, PortError> {
        let committed = self.settle()?;
        if committed.is_none() {
            self.refuse_to_start_over()?;
        }
        self.committed = committed.as_ref().map_or(0, |epoch| epoch.number);
        Ok(committed)
    }

    fn commit(&mut self, epoch: &Arc<SealedEpoch>) -> Result<(), PortError> {
        if epoch.number != self.committed + 1 {
            return Err(PortError::Fatal(format!("epoch {} cannot follow the committed epoch {}", epoch.number, self.committed)));
        }
        let offsets = offsets_of(epoch, &self.partitions)?;
        let group = self.offsets.client().group_metadata().ok_or_else(|| PortError::Fatal("kafka: the group has no metadata".into()))?;
        let started = Instant::now();
        let mut aborted = 0;
        loop {
            let Some(producer) = &self.producer else {
                return Err(PortError::Fatal("kafka: commit before take_over, or after it failed".into()));
            };
            let attempted = Instant::now();
            match producer.attempt(epoch.number, &epoch.outputs, &offsets, &group, &mut self.failpoint, &self.alive)? {
                Outcome::Committed => {
                    self.metrics.count_transaction(TransactionOutcome::Committed);
                    self.is_committed(epoch, started);
                    return Ok(());
                }
                Outcome::Aborted(why) => {
                    self.metrics.count_transaction(TransactionOutcome::Aborted);
                    aborted += 1;
                    if aborted == ABORTED_ATTEMPTS {
                        return Err(PortError::Fatal(format!("kafka: epoch {} was aborted {aborted} times, last: {why}", epoch.number)));
                    }
                    tracing::warn!(epoch = epoch.number, why, "the transaction was aborted; sending it again");
                    std::thread::sleep(RETRY_PAUSE);
                }
                Outcome::Fenced(why) => return Err(self.fenced(&why)),
                Outcome::Indefinite(why) => {
                    self.metrics.count_transaction(TransactionOutcome::Indefinite);
                    tracing::warn!(epoch = epoch.number, why, "the outcome of the transaction is unknown; a new producer settles it");
                    let settled = self.settle().map_err(|error| match error {
                        PortError::Retriable(last) => PortError::Fatal(format!(
                            "kafka: the outcome of epoch {} could not be settled within kafka.settle_timeout_ms ({}): {last}",
                            epoch.number, self.options.settle_timeout_ms
                        )),
                        other => other,
                    })?;
                    let newest = settled.map_or(0, |newest| newest.number);
                    if newest == epoch.number {
                        self.metrics.count_transaction(TransactionOutcome::Promoted);
                        tracing::info!(epoch = newest, settled_ms = attempted.elapsed().as_millis() as u64, "it was committed");
                        self.is_committed(epoch, started);
                        return Ok(());
                    }
                    if newest + 1 != epoch.number {
                        self.producer = None;
                        return Err(PortError::Fatal(format!(
                            "epoch {newest} is committed where {} or {} was expected: another process used kafka.transactional_id '{}' meanwhile",
                            epoch.number - 1,
                            epoch.number,
                            self.options.transactional_id
                        )));
                    }
                    tracing::info!(epoch = epoch.number, "it was not committed; sending the same bytes again");
                }
            }
        }
    }
}
