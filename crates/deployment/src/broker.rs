//! The cluster of a demo: a real one, or a mock broker in this process.

use leadpulse_kafka::{InputTopic, KafkaOptions, MockBroker, SecurityOptions, output_topics};

use crate::deployment::Cluster;
use crate::error::DeployError;
use crate::ports::{create_inputs, input_topics};

/// A cluster with the input topics of a demo.
pub struct DemoCluster {
    /// The kind of cluster, for [`Assembly::start`](crate::Assembly::start).
    pub kind: Cluster,
    /// The mock broker; its topics end with it.
    _broker: Option<MockBroker>,
}

impl DemoCluster {
    /// Uses the cluster of `brokers`; without brokers, starts a mock. `options` then point to the
    /// cluster.
    ///
    /// # Errors
    /// The real cluster did not answer in time, or the mock cannot start.
    pub fn prepare(
        options: &mut KafkaOptions,
        brokers: Option<&str>,
        inputs: &[InputTopic],
        partitions: i32,
    ) -> Result<Self, DeployError> {
        if let Some(brokers) = brokers {
            options.brokers = brokers.to_owned();
            create_inputs(options, inputs, partitions)?;
            return Ok(Self {
                kind: Cluster::Real,
                _broker: None,
            });
        }
        // The mock creates topics at its start only, so the outputs come with the inputs.
        let mut topics = input_topics(inputs, partitions);
        topics.extend(output_topics(options));
        let broker = MockBroker::start(&topics)?;
        options.brokers = broker.bootstrap_servers().to_owned();
        // The mock has one listener, without TLS and logins.
        options.security = SecurityOptions::default();
        Ok(Self {
            kind: Cluster::Mock,
            _broker: Some(broker),
        })
    }
}
