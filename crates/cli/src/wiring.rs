//! Puts a deployment together: ports on a cluster, the machine, the engine on a thread of its own, HTTP beside it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use prometheus::Registry;

use leadpulse_engine::explain::{ExplainDesk, explain_queue};
use leadpulse_engine::ports::{Attendant, Clock, Output, PortError, SchemaStore, Sink, Source};
use leadpulse_engine::read_model::ReadModel;
use leadpulse_engine::{Engine, Machine, MachineParts, Metrics, OutputEncoders, Ports, Summary, Task, Until};
use leadpulse_features::Scorer;
use leadpulse_graph::Tracking;
use leadpulse_kafka::{
    FolderStore, HttpRegistry, KafkaEpochLog, KafkaMetrics, KafkaOptions, KafkaSink, KafkaSource, MockSink, TopicSpec, ensure_topics,
    output_topics,
};
use leadpulse_learn::Project;
use leadpulse_server::{BandView, Handle, ServerOptions, ServerState, TaskView, serve};

use crate::config::{Config, Loaded};

/// Reads the system's clock: the only place that does.
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock port")]
    fn now_ms(&self) -> i64 {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
    }

    fn monotonic_ms(&self) -> i64 {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_millis() as i64
    }
}

/// How long to wait before the cluster is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Requests for explanations that may wait for the engine.
const EXPLANATIONS_WAITING: usize = 32;

/// Which cluster the outputs go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cluster {
    /// Apache Kafka: transactions, exactly once.
    Real,
    /// The in-process mock: at least once.
    Mock,
}

/// Told to stop by Ctrl-C or SIGTERM; a second signal ends the process at once.
pub fn stop_on_signal() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else { return };
            loop {
                tokio::select! {
                    _ = tokio::signal::ctrl_c() => {}
                    _ = terminate.recv() => {}
                }
                if flag.swap(true, Ordering::Relaxed) {
                    std::process::exit(1);
                }
                tracing::info!("stopping after this epoch; once more to stop at once");
            }
        });
    })?;
    Ok(stop)
}

/// Writer schemas: a registry if one is configured, else the schemas folder.
pub fn schema_store(config: &Config, schemas_dir: &Path, metrics: &Arc<KafkaMetrics>) -> Result<Arc<dyn SchemaStore>> {
    Ok(match &config.registry {
        Some(options) => Arc::new(HttpRegistry::new(options, metrics)?),
        None => Arc::new(FolderStore::load(schemas_dir)?),
    })
}

/// Asks the cluster again for as long as a request may take: a topic just created has no leader for a moment.
fn patiently<T>(options: &KafkaOptions, mut ask: impl FnMut() -> Result<T, PortError>) -> Result<T, PortError> {
    let deadline = Instant::now() + Duration::from_millis(options.request_timeout_ms);
    loop {
        match ask() {
            Err(PortError::Retriable(message)) if Instant::now() < deadline => {
                tracing::debug!(message, "asking again");
                std::thread::sleep(ASK_AGAIN);
            }
            answer => return answer,
        }
    }
}

/// Creates the topics that do not exist, and says which.
pub fn create_missing(options: &KafkaOptions, wanted: &[TopicSpec]) -> Result<()> {
    let created = patiently(options, || ensure_topics(options, wanted))
        .with_context(|| format!("the topics cannot be prepared on {}; is the cluster up, and kafka.brokers right?", options.brokers))?;
    if !created.is_empty() {
        tracing::info!(topics = created.join(", "), "created");
    }
    Ok(())
}

/// The configured tasks that a bundle predicts.
fn tasks_of(config: &Config, project: &Project, scorer: &dyn Scorer) -> Result<Vec<Task>> {
    let mut tasks = Vec::new();
    for planned in &project.tasks {
        if !scorer.tasks().iter().any(|t| t.name == planned.name) {
            tracing::warn!(task = planned.name, bundle = scorer.bundle_id(), "not scored: the bundle was trained without this task");
            continue;
        }
        let configured = config.tasks.iter().find(|t| t.name == planned.name).expect("tasks are planned from the configuration");
        tasks.push(Task {
            name: planned.name.as_str().into(),
            entity: planned.plan.entity,
            population: planned.population.clone(),
            policy: configured.policy.validated()?,
            query: planned.plan.text.clone(),
        });
    }
    if tasks.is_empty() {
        bail!("the bundle {} predicts none of the configured tasks; train one of them", scorer.bundle_id());
    }
    Ok(tasks)
}

/// Connects the sink's long waits with the read model and the stop flag.
struct EngineAttendant {
    read_model: Arc<ReadModel>,
    stop: Arc<AtomicBool>,
}

impl Attendant for EngineAttendant {
    fn beat(&self) {
        self.read_model.beat();
    }
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
    fn report(&self, matter: &'static str, condition: Option<String>) {
        tracing::debug!(matter, condition, "the sink reports");
    }
}

/// A running deployment.
pub struct Deployment {
    engine: JoinHandle<Result<Summary, leadpulse_engine::RunError>>,
    server: Option<Handle>,
    /// The committed state.
    pub read_model: Arc<ReadModel>,
}

impl Deployment {
    /// Connects, creates missing output topics, starts the engine and, where asked for, HTTP.
    pub fn start(
        loaded: &Loaded,
        project: &Project,
        scorer: Arc<dyn Scorer>,
        cluster: Cluster,
        until: Until,
        http: Option<&ServerOptions>,
        stop: Arc<AtomicBool>,
    ) -> Result<Self> {
        let config = &loaded.config;
        let registry = Registry::new();
        let metrics = Metrics::new(&registry)?;
        let kafka_metrics = KafkaMetrics::register(&registry)?;
        let read_model = Arc::new(ReadModel::new());
        let tasks = tasks_of(config, project, scorer.as_ref())?;
        let (desk, requests) = explain_queue(EXPLANATIONS_WAITING);
        let server = match http {
            Some(options) => Some(serve(options, server_state(project, scorer.as_ref(), &tasks, &read_model, registry, desk))?),
            None => None,
        };

        if cluster == Cluster::Real {
            create_missing(&config.kafka, &output_topics(&config.kafka))?;
        }
        let schemas = schema_store(config, &loaded.schemas_dir(), &kafka_metrics)?;
        let inputs = loaded.inputs(&project.catalog)?;
        let mut source = patiently(&config.kafka, || KafkaSource::open(&config.kafka, &inputs, &kafka_metrics))?;
        let sink: Box<dyn Sink> = match cluster {
            Cluster::Real => {
                let attendant = Arc::new(EngineAttendant { read_model: read_model.clone(), stop: stop.clone() });
                Box::new(KafkaSink::new(&config.kafka, source.partitions(), &kafka_metrics)?.with_attendant(attendant))
            }
            Cluster::Mock => Box::new(MockSink::new(&config.kafka, source.partitions(), &kafka_metrics)?),
        };
        let encoders = Arc::new(OutputEncoders::new(schemas.as_ref())?);
        let machine = Machine::new(MachineParts {
            worker: config.kafka.transactional_id.clone(),
            fingerprint: project.catalog.fingerprint(),
            graph: project.graph(Tracking::On),
            tasks,
            scorer,
            encoders: encoders.clone(),
            partitions: source.partitions().to_vec(),
            start: patiently(&config.kafka, || source.starts())?,
            soft_budget: config.engine.soft_budget,
            explain_budget: config.engine.explain_budget,
            current_scores: config.kafka.outputs.writes(Output::CurrentScores),
        })?;
        let ports = Ports {
            source: Box::new(source),
            sink,
            epochs: Box::new(KafkaEpochLog::new(&config.kafka, &kafka_metrics)),
            schemas,
            clock: Arc::new(SystemClock),
        };
        let engine =
            Engine::new(config.engine.clone(), ports, machine, encoders, read_model.clone(), metrics, stop).with_requests(requests);
        let engine = std::thread::Builder::new().name("engine".into()).spawn(move || engine.run(until))?;
        Ok(Self { engine, server, read_model })
    }

    /// Where HTTP listens.
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        self.server.as_ref().map(Handle::address)
    }

    /// Whether the engine has ended.
    pub fn is_finished(&self) -> bool {
        self.engine.is_finished()
    }

    /// Waits for the engine, then ends HTTP.
    pub fn join(self) -> Result<Summary> {
        let outcome = match self.engine.join() {
            Ok(outcome) => outcome.context("the engine stopped"),
            Err(_) => bail!("the engine panicked; the message is in the log"),
        };
        if let Some(server) = self.server {
            server.stop()?;
        }
        outcome
    }
}

fn server_state(
    project: &Project,
    scorer: &dyn Scorer,
    tasks: &[Task],
    read_model: &Arc<ReadModel>,
    registry: Registry,
    desk: ExplainDesk,
) -> ServerState {
    let view = |task: &Task| TaskView {
        name: task.name.to_string(),
        entity: project.catalog.table_at(task.entity).name.clone(),
        query: task.query.clone(),
        horizon_ms: scorer.tasks().iter().find(|t| t.name == *task.name).map_or(0, |t| t.horizon_ms),
        bands: task.policy.bands().map(|b| BandView { name: b.name.to_string(), enter: b.enter, exit: b.exit }).collect(),
    };
    let is_scored_kind = |t: &&leadpulse_schema::Table| matches!(t.role, leadpulse_schema::Role::Root | leadpulse_schema::Role::Member);
    ServerState {
        read_model: read_model.clone(),
        registry,
        tasks: tasks.iter().map(view).collect(),
        tables: project.catalog.tables.iter().filter(is_scored_kind).map(|t| t.name.clone()).collect(),
        explanations: Some(desk),
        version: env!("CARGO_PKG_VERSION").into(),
    }
}
