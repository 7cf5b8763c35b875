//! Control records: each asks a worker to go on under a release. The newest record of a worker counts.
//!
//! The topic is compacted, has one partition, and is created by a run. Keys are ids of workers, values
//! JSON.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use prometheus::Registry;

use leadpulse_engine::ports::PortError;
use leadpulse_kafka::{
    Isolation, KafkaMetrics, KafkaOptions, OwnedRecord, Producer, TopicReader, TopicSpec,
};

use crate::error::DeployError;
use crate::ports::{WithinLimit, create_missing};

/// Limit of the wait until a control record is acknowledged.
const FLUSH_LIMIT: Duration = Duration::from_secs(30);

/// A control record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlRecord {
    /// Digest of the release to go on under.
    pub release: String,
    /// The person or program that asks.
    pub by: String,
    /// Moment of asking, milliseconds since 1970 UTC.
    #[serde(rename = "at")]
    pub at_ms: i64,
}

/// The control topic of a deployment, as it is created where it does not exist.
pub(crate) fn control_topic(options: &KafkaOptions) -> TopicSpec {
    TopicSpec::latest_by_key(&options.outputs.control(), 1)
}

/// Asks the worker of a configuration to go on under a release. Creates the topic if it is missing.
///
/// # Errors
/// The cluster does not answer in time, or refuses.
pub fn ask(options: &KafkaOptions, record: &ControlRecord) -> Result<(), DeployError> {
    let topic = control_topic(options);
    create_missing(options, &[topic], &WithinLimit::of(options))?;
    let metrics = KafkaMetrics::register(&Registry::new())?;
    let mut producer = Producer::connect(options, &metrics)?;
    let value = serde_json::to_vec(record).expect("a record of texts and a number is JSON");
    let key = options.transactional_id.as_bytes();
    let topic = options.outputs.control();
    producer.send(&topic, Some(key), Some(&value), record.at_ms)?;
    Ok(producer.flush(FLUSH_LIMIT)?)
}

/// A reader of the control records of one worker.
pub(crate) struct ControlReader {
    options: KafkaOptions,
    metrics: Arc<KafkaMetrics>,
    /// `None` until the topic can be read.
    reader: Option<TopicReader>,
    /// True while records that are there already count.
    counts: bool,
}

impl ControlReader {
    /// A reader that connects when it is first asked. `counts_older`: the newest record that is there
    /// already counts.
    pub fn new(options: &KafkaOptions, metrics: &Arc<KafkaMetrics>, counts_older: bool) -> Self {
        Self {
            options: options.clone(),
            metrics: metrics.clone(),
            reader: None,
            counts: counts_older,
        }
    }

    /// The newest record since the last call; `None` if there is none. A record that is no control
    /// record is logged and passed over.
    ///
    /// # Errors
    /// Brokers that do not answer: to be called again later.
    pub fn newest(&mut self) -> Result<Option<ControlRecord>, PortError> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(TopicReader::open(
                &self.options,
                &self.options.outputs.control(),
                Isolation::Committed,
                &self.metrics,
            )?),
        };
        let records = reader.read_to_end()?;
        let counted = std::mem::replace(&mut self.counts, true);
        let ours = records.iter().filter(|record| {
            record.key.as_deref() == Some(self.options.transactional_id.as_bytes())
        });
        Ok(ours.filter_map(read).next_back().filter(|_| counted))
    }
}

fn read(record: &OwnedRecord) -> Option<ControlRecord> {
    let value = record.value.as_deref()?;
    match serde_json::from_slice(value) {
        Ok(record) => Some(record),
        Err(error) => {
            let offset = record.offset;
            tracing::warn!(offset, %error, "a record of the control topic is no control record; write it with `leadpulse apply`");
            None
        }
    }
}
