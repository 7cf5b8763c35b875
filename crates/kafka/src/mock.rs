//! librdkafka's in-process mock cluster, for the demo: no Java, no network, at least once.
//!
//! The mock of librdkafka 2.12.1 delivers records of aborted transactions, drops the positions of
//! committed ones, does not fence, and keeps the newest 5 MiB of a partition (measured, and read in
//! [`rdkafka_mock_handlers.c`](https://github.com/confluentinc/librdkafka/blob/v2.12.1/src/rdkafka_mock_handlers.c)).
//! So [`MockSink`] produces without transactions and commits positions afterwards. After a crash in
//! between an epoch would be sent twice.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Sender, bounded};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::mocking::MockCluster;

use leadpulse_engine::ports::{
    CommittedEpoch, InputPartition, PortCause, PortError, SealedEpoch, Sink,
};

use crate::access::Access;
use crate::client::{Closing, port_error};
use crate::client_settings::ClientRole;
use crate::committed::{Owner, offsets_of, read_offsets};
use crate::metrics::{KafkaMetrics, TransactionOutcome};
use crate::offsets::{Isolation, OffsetReader};
use crate::options::KafkaOptions;
use crate::polled::{DebugLines, PolledProducer, PolledSettings, SendError, Signals};
use crate::topics::TopicSpec;

/// A mock cluster of one broker. The cluster ends when this handle is dropped.
pub struct MockBroker {
    bootstrap_servers: String,
    /// Keeps the thread that owns the cluster alive. The cluster cannot be moved between threads.
    _running: Sender<()>,
}

impl MockBroker {
    /// Starts the cluster and creates the topics. The mock ignores their settings.
    pub fn start(topics: &[TopicSpec]) -> Result<Self, PortError> {
        let topics = topics.to_vec();
        let (running, until_dropped) = bounded::<()>(0);
        let (started, start) = bounded(1);
        let thread = std::thread::Builder::new().name("mock-broker".into());
        let spawned = thread.spawn(move || match mock_cluster(&topics) {
            Ok(cluster) => {
                // An error means that `start` has returned; then the next line returns at once.
                let _ = started.send(Ok(cluster.bootstrap_servers()));
                let _ = until_dropped.recv();
            }
            Err(error) => drop(started.send(Err(error))),
        });
        let failed = |why: String| {
            PortError::fatal(
                PortCause::Local,
                format!("the in-process Kafka mock cannot be started: {why}"),
            )
        };
        spawned.map_err(|error| failed(error.to_string()))?;
        let bootstrap_servers = start
            .recv()
            .map_err(|error| failed(error.to_string()))?
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            bootstrap_servers,
            _running: running,
        })
    }

    /// Address for clients, `host:port`.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }
}

fn mock_cluster(
    topics: &[TopicSpec],
) -> Result<
    MockCluster<'static, rdkafka::producer::DefaultProducerContext>,
    rdkafka::error::KafkaError,
> {
    let cluster = MockCluster::new(1)?;
    for topic in topics {
        cluster.create_topic(&topic.name, topic.partitions, 1)?;
    }
    Ok(cluster)
}

/// The outputs without transactions: every epoch at least once.
pub struct MockSink {
    options: KafkaOptions,
    partitions: Vec<InputPartition>,
    metrics: Arc<KafkaMetrics>,
    offsets: OffsetReader,
    producer: Closing<PolledProducer>,
    owner: Owner,
}

impl MockSink {
    /// A sink for an engine that reads `partitions`.
    pub fn new(
        options: &KafkaOptions,
        partitions: &[InputPartition],
        metrics: &Arc<KafkaMetrics>,
    ) -> Result<Self, PortError> {
        let signals = Arc::new(Signals::default());
        let config = options.client_config(ClientRole::Producer);
        let producer = PolledProducer::start(
            PolledSettings {
                config: &config,
                debug: DebugLines {
                    protocol: true,
                    others: true,
                },
                access: &Arc::new(Access::new(options)),
                delivered: &Arc::default(),
            },
            "mock-sink",
            metrics,
            &signals,
        )?;
        Ok(Self {
            options: options.clone(),
            partitions: partitions.to_vec(),
            metrics: Arc::clone(metrics),
            offsets: OffsetReader::connect(options, Isolation::Committed, metrics)?,
            producer: Closing::new(producer, "mock-sink", options.close_timeout()),
            owner: Owner::random(),
        })
    }

    /// Produces the records in order and waits until every one is acknowledged.
    fn send(&self, epoch: &SealedEpoch) -> Result<(), PortError> {
        let deadline = Instant::now() + self.options.commit_timeout();
        let given_up = || Instant::now() >= deadline || self.producer.signals().is_refused();
        for (index, record) in epoch.outputs.iter().enumerate() {
            let topic = self.options.outputs.name(record.output);
            match self.producer.send(topic, index, record, &given_up) {
                Ok(()) => {}
                Err(SendError::Refused(error)) => {
                    return Err(port_error(&format!("producing to '{topic}'"), &error));
                }
                Err(SendError::GivenUp) => break,
            }
        }
        let delivered = self
            .producer
            .wait_for_deliveries(&|| Instant::now() >= deadline);
        if let Some(refusal) = self.producer.signals().take_refusals().first() {
            return Err(port_error("sending an epoch's records", &refusal.error));
        }
        let limit_ms = self.options.commit_timeout_ms;
        let late = || {
            PortError::retriable(
                PortCause::NoAnswer,
                format!("kafka: an epoch's records are not acknowledged within {limit_ms} ms"),
            )
        };
        if delivered { Ok(()) } else { Err(late()) }
    }
}

impl Sink for MockSink {
    fn owner(&self) -> &str {
        self.owner.as_str()
    }

    fn arrange(&mut self, partitions: &[InputPartition]) {
        self.partitions = partitions.to_vec();
    }

    /// Reads the committed epoch, and fences nobody.
    fn take_over(&mut self) -> Result<Option<CommittedEpoch>, PortError> {
        let (group_id, timeout) = (&self.options.group_id, self.options.request_timeout());
        let offsets = read_offsets(self.offsets.client(), group_id, &self.partitions, timeout)?;
        Ok(offsets.agreed()?.and_then(|agreed| agreed.epoch()))
    }

    /// Produces, waits for every acknowledgement, then commits the positions.
    fn commit(&mut self, epoch: &Arc<SealedEpoch>) -> Result<(), PortError> {
        let started = Instant::now();
        let offsets = offsets_of(epoch, &self.owner, &self.partitions)?;
        self.send(epoch)?;
        self.offsets
            .client()
            .commit(&offsets, CommitMode::Sync)
            .map_err(|error| port_error("committing the positions", &error))?;
        self.metrics
            .count_transaction(TransactionOutcome::Committed);
        self.metrics.observe_commit(started.elapsed().as_secs_f64());
        Ok(())
    }
}
