//! `leadpulse ingest`, without its arguments: calls of other systems become records of input topics.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus::Registry;
use serde_json::json;

use leadpulse_engine::ports::Clock;
use leadpulse_ingest::{
    Acknowledgement, IngestCall, IngestMetrics, IngestSource, Intake, Outcomes, Taken,
};
use leadpulse_kafka::{AcknowledgedProducer, KafkaMetrics, PlainRecord, RecordFate};
use leadpulse_server::{
    Call, CallAnswer, CallHandler, CallLimits, Handle, ProcessHealth, serve_calls,
};

use crate::clock::SystemClock;
use crate::config_error::ConfigError;
use crate::error::DeployError;
use crate::loaded::Loaded;

/// Starts to answer calls; they are answered until the handle stops the server.
///
/// # Errors
/// No source is configured, a setting cannot work, the address is taken.
pub fn ingest(loaded: &Loaded) -> Result<Handle, DeployError> {
    let intake = loaded.intake()?;
    let options = &loaded.config.ingest;
    let registry = Registry::new();
    let kafka_metrics = KafkaMetrics::register(&registry)?;
    let health = Arc::new(IngestHealth::default());
    let handler = Receiver {
        intake,
        producer: AcknowledgedProducer::connect(&loaded.config.kafka, &kafka_metrics)?,
        metrics: IngestMetrics::register(&registry)?,
        limit: Duration::from_millis(options.acknowledge_timeout_ms),
        health: Arc::clone(&health),
    };
    let limits = CallLimits {
        body_bytes: options.body_bytes,
        body_timeout: Duration::from_millis(options.body_timeout_ms),
        at_once: options.calls_at_once,
        per_second: options.calls_per_second,
    };
    let version = env!("CARGO_PKG_VERSION");
    let (listen, handler) = (options.listen, Arc::new(handler));
    Ok(serve_calls(
        listen, limits, &registry, health, version, handler,
    )?)
}

impl Loaded {
    /// The sources of calls, checked; at least one. Every topic of theirs feeds a table.
    ///
    /// # Errors
    /// A secret that is not at hand, a setting that cannot work, a topic that no source reads, or no
    /// source at all.
    pub fn intake(&self) -> Result<Intake, ConfigError> {
        self.check_references("ingest.")?;
        let options = &self.config.ingest;
        let intake = Intake::new(options)?;
        if options.is_empty() {
            let path = self.path.clone();
            return Err(ConfigError::NoIngest { path });
        }
        let sources = self.config.sources.iter();
        let read: BTreeSet<&str> = sources.filter_map(|it| it.topic.as_deref()).collect();
        match options.topics().difference(&read).next() {
            Some(topic) => Err(ConfigError::UnreadTopic {
                path: self.path.clone(),
                topic: (*topic).to_owned(),
            }),
            None => Ok(intake),
        }
    }
}

/// The condition of the intake: whether Kafka took the records of the newest call.
#[derive(Default)]
struct IngestHealth {
    is_stuck: AtomicBool,
}

impl ProcessHealth for IngestHealth {
    fn live(&self) -> Result<(), String> {
        Ok(())
    }

    fn ready(&self) -> Result<(), String> {
        if self.is_stuck.load(Ordering::Relaxed) {
            return Err("Kafka did not acknowledge the newest records".to_owned());
        }
        Ok(())
    }
}

/// Answers calls.
struct Receiver {
    intake: Intake,
    producer: AcknowledgedProducer,
    metrics: IngestMetrics,
    limit: Duration,
    health: Arc<IngestHealth>,
}

impl Receiver {
    /// Sends the records of a call, and waits for Kafka.
    fn store(&self, taken: &[Taken]) -> Vec<Acknowledgement> {
        let records: Vec<PlainRecord<'_>> = taken
            .iter()
            .filter_map(|one| match one {
                Taken::Record(record) => Some(PlainRecord {
                    topic: &record.topic,
                    key: record.key.as_deref(),
                    value: &record.value,
                }),
                Taken::Refused(_) | Taken::Ignored(_) => None,
            })
            .collect();
        if records.is_empty() {
            return Vec::new();
        }
        let fates = self.producer.send(&records, self.limit);
        let is_stored = |fate: &RecordFate| matches!(fate, RecordFate::Stored { .. });
        let is_stuck = !fates.iter().any(is_stored);
        self.health.is_stuck.store(is_stuck, Ordering::Relaxed);
        fates.into_iter().map(acknowledgement).collect()
    }
}

fn acknowledgement(fate: RecordFate) -> Acknowledgement {
    match fate {
        RecordFate::Stored { partition, offset } => Acknowledgement::Stored { partition, offset },
        RecordFate::Full => Acknowledgement::Full,
        RecordFate::Unknown(why) => Acknowledgement::Unknown(why),
        RecordFate::Refused(why) => Acknowledgement::Refused(why),
    }
}

fn refusal(status: u16, detail: &str) -> CallAnswer {
    CallAnswer {
        status,
        retry_after_s: None,
        body: json!({"status": status, "detail": detail}),
    }
}

impl CallHandler for Receiver {
    fn answer(&self, call: Call) -> CallAnswer {
        let Some(source) = IngestSource::of(&call.source) else {
            return refusal(404, "the sources are segment, hubspot, marketo and json");
        };
        let call = IngestCall {
            source,
            path_and_query: call.path_and_query,
            headers: call.headers,
            body: call.body,
        };
        let taken = match self.intake.take(&call, SystemClock.wall_ms()) {
            Ok(taken) => taken,
            Err(refused) => {
                self.metrics.count_refused(source, refused.status);
                return refusal(refused.status, &refused.detail);
            }
        };
        let (outcomes, answer) = Outcomes::answer(&taken, &self.store(&taken));
        self.metrics.count(source, &outcomes);
        CallAnswer {
            status: answer.status,
            retry_after_s: answer.retry_after_s,
            body: answer.body,
        }
    }

    fn refused(&self, source: &str, status: u16) {
        if let Some(source) = IngestSource::of(source) {
            self.metrics.count_refused(source, status);
        }
    }
}
