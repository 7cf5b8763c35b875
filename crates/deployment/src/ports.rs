//! Parts of the ports: writer schemas, topics, output encoders.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use prometheus::Registry;

use leadpulse_engine::ports::{
    Attendant, PortCause, PortError, SchemaLookupError, SchemaStore, Source,
};
use leadpulse_engine::{OutputEncoders, retry};
use leadpulse_kafka::{
    InputTopic, KafkaMetrics, KafkaOptions, KafkaSource, SchemaPort, TopicSpec, ensure_topics,
};
use leadpulse_registry::{FolderStore, HttpRegistry, RegistryMetrics};
use leadpulse_schema::{Catalog, Role};

use crate::clock::SystemClock;
use crate::error::DeployError;
use crate::loaded::Loaded;

/// Writer schemas: a registry if one is configured, else the schemas folder.
///
/// # Errors
/// Settings of a registry that cannot work; a folder with a file that is no schema.
pub fn schema_store(
    loaded: &Loaded,
    metrics: &Arc<RegistryMetrics>,
) -> Result<Arc<dyn SchemaStore>, DeployError> {
    Ok(match &loaded.config.registry {
        Some(options) => {
            let folder = FolderStore::load(&loaded.schemas_dir())?;
            let registry = HttpRegistry::new(options, metrics)?.with_local(folder);
            Arc::new(SchemaPort::new(registry))
        }
        None => Arc::new(SchemaPort::new(FolderStore::load(&loaded.schemas_dir())?)),
    })
}

/// As [`schema_store`], for a tool: no one reads its metrics.
///
/// # Errors
/// As [`schema_store`].
pub fn writer_schemas(loaded: &Loaded) -> Result<Arc<dyn SchemaStore>, DeployError> {
    schema_store(loaded, &RegistryMetrics::register(&Registry::new())?)
}

/// Ends waits after the limit of a request: a command that a person started should rather fail than
/// hang.
pub(crate) struct WithinLimit {
    deadline: Instant,
}

impl WithinLimit {
    /// Ends waits after `kafka.request_timeout` from now.
    pub(crate) fn of(options: &KafkaOptions) -> Self {
        Self {
            deadline: Instant::now() + Duration::from_millis(options.request_timeout_ms),
        }
    }
}

impl Attendant for WithinLimit {
    fn beat(&self) {}
    fn is_stopped(&self) -> bool {
        Instant::now() >= self.deadline
    }
    fn report(&self, _: &'static str, _: Option<String>) {}
}

/// Ends waits once a stop is asked for.
pub(crate) struct UntilStopped<'s>(pub(crate) &'s AtomicBool);

impl Attendant for UntilStopped<'_> {
    fn beat(&self) {}
    fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
    fn report(&self, _: &'static str, _: Option<String>) {}
}

/// Creates the input topics that do not exist, with `partitions` each. Waits for the limit of a
/// request.
///
/// # Errors
/// The cluster did not answer in time, or refuses.
pub fn create_inputs(
    options: &KafkaOptions,
    inputs: &[InputTopic],
    partitions: i32,
) -> Result<(), DeployError> {
    let topics = input_topics(inputs, partitions);
    create_missing(options, &topics, &WithinLimit::of(options))
}

/// Refuses to fill topics that hold records: a second replay of a file doubles its events, once their
/// ids are forgotten. Goes on with a line in the log where ids alone make them duplicates: entities,
/// and events of outcome tables.
///
/// # Errors
/// Topics that hold records; a cluster that does not answer.
pub fn check_unfilled(
    loaded: &Loaded,
    catalog: &Catalog,
    inputs: &[InputTopic],
) -> Result<(), DeployError> {
    let options = &loaded.config.kafka;
    let limit = WithinLimit::of(options);
    let metrics = KafkaMetrics::register(&Registry::new())?;
    let mut source = retry(&SystemClock, &limit, || {
        KafkaSource::open(options, inputs, &metrics)
    })?;
    let starts = retry(&SystemClock, &limit, || source.starts())?;
    let ends = retry(&SystemClock, &limit, || source.ends())?;
    let mut filled: Vec<&str> = Vec::new();
    for (index, partition) in source.partitions().iter().enumerate() {
        let has_records = ends[index].stable.0 > starts[index].0;
        if has_records && !filled.contains(&partition.topic.as_str()) {
            filled.push(partition.topic.as_str());
        }
    }
    if filled.is_empty() {
        return Ok(());
    }
    let topics = filled.join(", ");
    let forgets = |input: &&InputTopic| {
        input.tables.iter().any(|table| {
            let table = catalog.table_at(*table);
            table.role == Role::Event && table.outcome.is_none()
        })
    };
    let of_filled = inputs.iter().filter(|i| filled.contains(&i.topic.as_str()));
    if of_filled.clone().any(|input| forgets(&input)) {
        return Err(DeployError::Filled { topics });
    }
    tracing::info!(
        topics,
        "hold records already; rows that are sent again are duplicates by their ids"
    );
    Ok(())
}

/// The topics of a deployment's input, as they are created where they do not exist.
pub(crate) fn input_topics(inputs: &[InputTopic], partitions: i32) -> Vec<TopicSpec> {
    inputs
        .iter()
        .map(|input| TopicSpec::log(&input.topic, partitions))
        .collect()
}

/// Creates the topics that do not exist, and logs their names. Waits for a cluster that is away.
pub(crate) fn create_missing(
    options: &KafkaOptions,
    wanted: &[TopicSpec],
    attendant: &dyn Attendant,
) -> Result<(), DeployError> {
    let created =
        retry(&SystemClock, attendant, || ensure_topics(options, wanted)).map_err(|source| {
            match source {
                // The brokers' refusal says what to do.
                PortError::Fatal(_) => DeployError::Port(source),
                _ => DeployError::Topics {
                    brokers: options.brokers.clone(),
                    source,
                },
            }
        })?;
    if !created.is_empty() {
        tracing::info!(topics = created.join(", "), "created");
    }
    Ok(())
}

/// Registers the output schemas, or finds their ids. Waits for a registry that is away.
pub(crate) fn output_encoders(
    schemas: &dyn SchemaStore,
    attendant: &dyn Attendant,
) -> Result<OutputEncoders, DeployError> {
    let found = retry(&SystemClock, attendant, || {
        OutputEncoders::new(schemas).map_err(|error| match error {
            SchemaLookupError::Unavailable(_) => {
                PortError::retriable(PortCause::NoAnswer, error.to_string())
            }
            SchemaLookupError::Unknown(_) | SchemaLookupError::Denied(_) => {
                PortError::fatal(PortCause::Refused, error.to_string())
            }
        })
    });
    Ok(found?)
}
