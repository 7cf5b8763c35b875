//! `leadpulse deliver`, without its arguments: the sinks of a configuration, each on a thread of its
//! own with a group and a position of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prometheus::Registry;
use serde_json::{Map, Value as Json};

use leadpulse_deliver::{
    Arrived, DeliverHealth, DeliverMetrics, FeedKind, HttpTransport, Inbox, LETTER_HEADERS,
    Letters, OauthTokens, ReadFailure, RecordReader, SinkLetter, SinkParts, SinkSpec, SinkState,
    SinkWorker, StartAt, Tokens,
};
use leadpulse_engine::ports::{Clock, Output, PortError, SchemaLookupError, SchemaStore};
use leadpulse_kafka::{CommittedFeed, FeedStart, KafkaMetrics, KafkaOptions, Producer, TopicSpec};
use leadpulse_records::{ALERT_SCHEMA, Alert, ReadError, RecordCodec, SCORE_SCHEMA, Score};
use leadpulse_registry::RegistryMetrics;
use leadpulse_server::{Handle, Heartbeat, ProcessHealth, serve_probes};

use crate::clock::SystemClock;
use crate::error::DeployError;
use crate::loaded::Loaded;
use crate::ports::{UntilStopped, create_missing, schema_store};

/// Room for a dead letter, bytes: that of the engine's own.
const LETTER_BYTES: &str = "67108864";
/// Time in which a dead letter must be acknowledged before another try.
const LETTER_LIMIT: Duration = Duration::from_secs(30);
/// Pause before a topic that cannot be opened is tried again.
const OPEN_PAUSE: Duration = Duration::from_secs(1);
/// Time beside that of a request in which a sink's loop must come round: a commit may take as long
/// as a broker takes to answer.
const BEAT_LIMIT: Duration = Duration::from_secs(180);

/// Running sinks.
pub struct Delivery {
    sinks: Vec<JoinHandle<Result<(), PortError>>>,
    http: Option<Handle>,
}

/// Starts the sinks of a configuration. They end soon after `stop` is set.
///
/// # Errors
/// The configuration has no sink or a faulty one, or a part cannot be made.
pub fn deliver(
    loaded: &Loaded,
    http: bool,
    stop: &Arc<AtomicBool>,
) -> Result<Delivery, DeployError> {
    let specs = loaded.sinks()?;
    let registry = Registry::new();
    let parts = SharedParts {
        options: loaded.config.kafka.clone(),
        letters: letters_topic(loaded),
        schemas: schema_store(loaded, &RegistryMetrics::register(&registry)?)?,
        kafka_metrics: KafkaMetrics::register(&registry)?,
        metrics: DeliverMetrics::register(&registry)?,
        stop: Arc::clone(stop),
    };
    let mut letters = TopicSpec::log(&parts.letters, 1);
    letters
        .settings
        .push(("max.message.bytes", LETTER_BYTES.to_owned()));
    create_missing(&parts.options, &[letters], &UntilStopped(stop))?;
    for spec in &specs {
        parts.metrics.announce(&spec.name);
    }
    let states: Vec<Arc<SinkState>> = specs.iter().map(|it| SinkState::new(&it.name)).collect();
    let longest = specs.iter().map(|spec| spec.timeout).max();
    let probe = SinkProbe {
        health: DeliverHealth::new(states.clone()),
        // No loop counts so far: the first reading begins the time.
        heartbeats: states
            .iter()
            .map(|_| Heartbeat::new(u64::MAX, Instant::now()))
            .collect(),
        limit: longest.unwrap_or_default() + BEAT_LIMIT,
    };
    let http = if http {
        let listen = loaded.config.deliver.listen;
        let version = env!("CARGO_PKG_VERSION");
        Some(serve_probes(listen, &registry, Arc::new(probe), version)?)
    } else {
        None
    };
    let parts = Arc::new(parts);
    let mut sinks = Vec::new();
    for (spec, state) in specs.into_iter().zip(states) {
        let parts = Arc::clone(&parts);
        let thread = std::thread::Builder::new().name(format!("deliver-{}", spec.name));
        sinks.push(thread.spawn(move || run_sink(&parts, spec, &state))?);
    }
    Ok(Delivery { sinks, http })
}

impl Delivery {
    /// Address of probes and metrics, if they are served.
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        self.http.as_ref().map(Handle::address)
    }

    /// Waits until every sink has ended.
    ///
    /// # Errors
    /// The first error that ended a sink.
    pub fn join(self) -> Result<(), DeployError> {
        let mut outcome = Ok(());
        for sink in self.sinks {
            let ended = sink.join().map_err(|_| DeployError::Panicked)?;
            outcome = outcome.and(ended);
        }
        if let Some(http) = self.http {
            http.stop()?;
        }
        Ok(outcome?)
    }
}

/// The topic of the sinks' dead letters.
pub(crate) fn letters_topic(loaded: &Loaded) -> String {
    let configured = loaded.config.deliver.dead_letters.clone();
    configured.unwrap_or_else(|| loaded.config.kafka.outputs.sink_letters())
}

/// Parts that all sinks share.
struct SharedParts {
    options: KafkaOptions,
    letters: String,
    schemas: Arc<dyn SchemaStore>,
    kafka_metrics: Arc<KafkaMetrics>,
    metrics: DeliverMetrics,
    stop: Arc<AtomicBool>,
}

/// Runs one sink to its end; its error is in its state and in the log.
fn run_sink(parts: &SharedParts, spec: SinkSpec, state: &Arc<SinkState>) -> Result<(), PortError> {
    let name = spec.name.clone();
    let ended = try_sink(parts, spec, state);
    if let Err(error) = &ended {
        tracing::error!(sink = name, %error, "the sink ended; the others go on");
        state.set_failed(&error.to_string());
    }
    ended
}

fn try_sink(parts: &SharedParts, spec: SinkSpec, state: &Arc<SinkState>) -> Result<(), PortError> {
    let topic = match spec.feed {
        FeedKind::Alerts => parts.options.outputs.name(Output::Alerts),
        FeedKind::Scores => parts.options.outputs.name(Output::Scores),
    };
    let Some(feed) = open_feed(parts, &spec, topic, state)? else {
        return Ok(());
    };
    let transport = HttpTransport::new(spec.timeout, spec.ca.clone());
    let transport = transport.map_err(|error| local(error.to_string()))?;
    tracing::info!(sink = spec.name, topic, "delivers");
    let tokens = spec
        .tokens
        .map(|options| -> Box<dyn Tokens> { Box::new(OauthTokens(options)) });
    let worker = SinkParts {
        protocol: spec.protocol,
        inbox: Box::new(FeedInbox(feed)),
        reader: Box::new(OutputReader::new(spec.feed, &parts.schemas)),
        letters: Box::new(LetterTopic {
            options: letter_options(&parts.options),
            metrics: Arc::clone(&parts.kafka_metrics),
            from: topic.to_owned(),
            to: parts.letters.clone(),
            producer: None,
        }),
        transport: Box::new(transport),
        tokens,
        clock: Arc::new(SystemClock),
        records: spec.records,
        gather: spec.gather,
        rate: spec.rate,
        longest_pause: spec.longest_pause,
        name: spec.name,
    };
    let stop = Arc::clone(&parts.stop);
    SinkWorker::new(worker, &parts.metrics, Arc::clone(state), stop).run()
}

fn local(why: String) -> PortError {
    PortError::fatal(leadpulse_engine::ports::PortCause::Local, why)
}

/// Opens a sink's topic, however long that takes; `None` after a stop.
fn open_feed(
    parts: &SharedParts,
    spec: &SinkSpec,
    topic: &str,
    state: &SinkState,
) -> Result<Option<CommittedFeed>, PortError> {
    let group = format!("{}.deliver.{}", parts.options.group_id, spec.name);
    let start = match spec.start {
        StartAt::Now => FeedStart::End,
        StartAt::Beginning => FeedStart::Beginning,
    };
    while !parts.stop.load(Ordering::Relaxed) {
        let metrics = &parts.kafka_metrics;
        match CommittedFeed::open(&parts.options, topic, &group, start, metrics) {
            Ok(feed) => return Ok(Some(feed)),
            Err(PortError::Retriable(why)) => {
                if state.waiting().is_none() {
                    tracing::warn!(sink = spec.name, %why, "waits for its topic");
                }
                state.note_opening(&why.to_string());
                SystemClock.wait(OPEN_PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Kafka options of the producer of dead letters, whose records may be as large as any output.
fn letter_options(options: &KafkaOptions) -> KafkaOptions {
    let mut options = options.clone();
    let largest = options
        .client
        .entry("producer.message.max.bytes".to_owned());
    largest.or_insert_with(|| LETTER_BYTES.to_owned());
    options
}

/// The inbox port on a topic.
struct FeedInbox(CommittedFeed);

impl Inbox for FeedInbox {
    fn take(
        &mut self,
        most_records: usize,
        most_bytes: usize,
        wait: Duration,
    ) -> Result<Vec<Arrived>, PortError> {
        let taken = self.0.take(most_records, most_bytes, wait)?;
        let arrived = taken.into_iter().map(|record| Arrived {
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key,
            value: record.value,
        });
        Ok(arrived.collect())
    }

    fn commit(&mut self, next: &BTreeMap<i32, i64>) -> Result<(), PortError> {
        self.0.commit(next)
    }
}

/// The reader port on output schemas.
struct OutputReader {
    feed: FeedKind,
    codec: RecordCodec,
    schemas: Arc<dyn SchemaStore>,
}

impl OutputReader {
    fn new(feed: FeedKind, schemas: &Arc<dyn SchemaStore>) -> Self {
        let schema = match feed {
            FeedKind::Alerts => ALERT_SCHEMA,
            FeedKind::Scores => SCORE_SCHEMA,
        };
        Self {
            feed,
            // The id is for writing only.
            codec: RecordCodec::new(schema, 0),
            schemas: Arc::clone(schemas),
        }
    }

    fn read_as<T>(&self, value: &[u8]) -> Result<Json, ReadError<SchemaLookupError>>
    where
        T: serde::Serialize + serde::de::DeserializeOwned,
    {
        let record: T = self.codec.read(value, |schema| {
            self.schemas.lookup(schema).map(|writer| writer.text)
        })?;
        serde_json::to_value(record).map_err(|error| ReadError::Unreadable(error.to_string()))
    }
}

impl RecordReader for OutputReader {
    fn read(&self, value: &[u8]) -> Result<Map<String, Json>, ReadFailure> {
        let read = match self.feed {
            FeedKind::Alerts => self.read_as::<Alert>(value),
            FeedKind::Scores => self.read_as::<Score>(value),
        };
        match read {
            Ok(Json::Object(fields)) => Ok(fields),
            Ok(_) => Err(ReadFailure::Unreadable("not a record".into())),
            Err(ReadError::Unreadable(why)) => Err(ReadFailure::Unreadable(why)),
            // A newer worker wrote under a schema that is not here yet.
            Err(ReadError::Lookup(why)) => Err(ReadFailure::Later(why.to_string())),
        }
    }
}

/// The dead-letter port on a topic. The producer is made for the first letter, and anew after an
/// error: a late report of one letter must not fail the next.
struct LetterTopic {
    options: KafkaOptions,
    metrics: Arc<KafkaMetrics>,
    /// The sink's topic, as the letter names it.
    from: String,
    to: String,
    producer: Option<Producer>,
}

impl Letters for LetterTopic {
    fn write(&mut self, letter: &SinkLetter) -> Result<(), PortError> {
        let mut producer = match self.producer.take() {
            Some(producer) => producer,
            None => Producer::connect(&self.options, &self.metrics)?,
        };
        let record = &letter.record;
        let (partition, offset) = (record.partition.to_string(), record.offset.to_string());
        let values = [
            &letter.sink,
            &letter.reason,
            &self.from,
            &partition,
            &offset,
        ];
        let named = LETTER_HEADERS.into_iter().zip(values);
        let headers: Vec<(&str, Option<&[u8]>)> = named
            .map(|(name, value)| (name, Some(value.as_bytes())))
            .collect();
        producer.send_with_headers(
            &self.to,
            record.key.as_deref(),
            record.value.as_deref(),
            &headers,
            record.timestamp_ms,
        )?;
        producer.flush(LETTER_LIMIT)?;
        self.producer = Some(producer);
        Ok(())
    }
}

/// The health of the sinks, timed by a monotonic clock.
struct SinkProbe {
    health: DeliverHealth,
    /// By sink.
    heartbeats: Vec<Heartbeat>,
    limit: Duration,
}

impl ProcessHealth for SinkProbe {
    fn live(&self) -> Result<(), String> {
        let failures = self.health.failures();
        if !failures.is_empty() {
            return Err(failures.join("; "));
        }
        let now = Instant::now();
        let sinks = self.health.beats().into_iter().zip(self.health.names());
        for (heartbeat, (beats, name)) in self.heartbeats.iter().zip(sinks) {
            let age = heartbeat.age(beats, now);
            if age > self.limit {
                return Err(format!(
                    "{name}: its loop has not come round for {} s",
                    age.as_secs()
                ));
            }
        }
        Ok(())
    }

    fn ready(&self) -> Result<(), String> {
        let hindrances = self.health.hindrances();
        if hindrances.is_empty() {
            return Ok(());
        }
        Err(hindrances.join("; "))
    }
}
