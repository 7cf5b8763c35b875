//! Puts a deployment together: ports on a cluster, the machine, the engine on a thread of its own, HTTP beside it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use prometheus::Registry;

use leadpulse_engine::explain::{ExplainDesk, explain_queue};
use leadpulse_engine::ports::{
    Attendant, Clock, Output, PortCause, PortError, SchemaLookupError, SchemaStore, Sink, Source,
};
use leadpulse_engine::read_model::ReadModel;
use leadpulse_engine::{
    Engine, Machine, MachineParts, Metrics, NoSink, OutputEncoders, Ports, RunSummary, Supervisor,
    Task, Until, retry,
};
use leadpulse_features::Scorer;
use leadpulse_graph::Tracking;
use leadpulse_kafka::{
    FolderStore, HttpRegistry, KafkaMetrics, KafkaOptions, KafkaOutputLog, KafkaSink, KafkaSource,
    MockSink, TopicSpec, TopicWatch, ensure_topics, output_topics,
};
use leadpulse_project::Project;
use leadpulse_server::{BandView, Handle, ServerOptions, ServerState, TaskView, serve};

use crate::config::{Config, Loaded};

/// Reads the system's clock: the only place that does.
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock port")]
    fn wall_ms(&self) -> i64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_millis() as i64)
    }

    fn elapsed(&self) -> Duration {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }

    fn wait(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            runtime.block_on(async {
                let Ok(mut terminate) =
                    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
                else {
                    return;
                };
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
pub fn schema_store(
    config: &Config,
    schemas_dir: &Path,
    metrics: &Arc<KafkaMetrics>,
) -> Result<Arc<dyn SchemaStore>> {
    Ok(match &config.registry {
        Some(options) => Arc::new(HttpRegistry::new(options, metrics)?),
        None => Arc::new(FolderStore::load(schemas_dir)?),
    })
}

/// Ends waits after the limit of a request: a command that a person started should rather fail than hang.
pub struct WithinLimit(Instant);

impl WithinLimit {
    /// Ends waits after `kafka.request_timeout_ms`.
    pub fn of(options: &KafkaOptions) -> Self {
        Self(Instant::now() + Duration::from_millis(options.request_timeout_ms))
    }
}

impl Attendant for WithinLimit {
    fn beat(&self) {}
    fn is_stopped(&self) -> bool {
        Instant::now() >= self.0
    }
    fn report(&self, _: &'static str, _: Option<String>) {}
}

/// Creates the topics that do not exist, and logs which. Waits for a cluster that is away.
pub fn create_missing(
    options: &KafkaOptions,
    wanted: &[TopicSpec],
    attendant: &dyn Attendant,
) -> Result<()> {
    let created =
        retry(&SystemClock, attendant, || ensure_topics(options, wanted)).with_context(|| {
            format!(
                "the topics cannot be prepared on {}; is the cluster up, and kafka.brokers right?",
                options.brokers
            )
        })?;
    if !created.is_empty() {
        tracing::info!(topics = created.join(", "), "created");
    }
    Ok(())
}

/// Registers the output schemas, or finds their ids. Waits for a registry that is away.
fn output_encoders(schemas: &dyn SchemaStore, attendant: &dyn Attendant) -> Result<OutputEncoders> {
    let found = retry(&SystemClock, attendant, || {
        OutputEncoders::new(schemas).map_err(|error| match error {
            SchemaLookupError::Unavailable(_) => {
                PortError::retriable(PortCause::NoAnswer, error.to_string())
            }
            SchemaLookupError::Unknown(_) => {
                PortError::fatal(PortCause::Refused, error.to_string())
            }
        })
    });
    Ok(found?)
}

/// The configured tasks that a bundle predicts.
fn tasks_of(config: &Config, project: &Project, scorer: &dyn Scorer) -> Result<Vec<Task>> {
    let mut tasks = Vec::new();
    for planned in &project.tasks {
        if !scorer.tasks().iter().any(|t| t.name == planned.name) {
            tracing::warn!(
                task = planned.name,
                bundle = scorer.bundle_id(),
                "not scored: the bundle was trained without this task"
            );
            continue;
        }
        let configured = config
            .tasks
            .iter()
            .find(|t| t.name == planned.name)
            .expect("tasks are planned from the configuration");
        tasks.push(Task {
            name: planned.name.as_str().into(),
            entity: planned.plan.entity,
            population: planned.population.clone(),
            policy: configured.policy.validated()?,
            query: planned.plan.text.clone(),
        });
    }
    if tasks.is_empty() {
        bail!(
            "the bundle {} predicts none of the configured tasks; train one of them",
            scorer.bundle_id()
        );
    }
    Ok(tasks)
}

/// The machine's parts, of a process that owns nothing.
fn machine_parts(
    config: &Config,
    project: &Project,
    scorer: Arc<dyn Scorer>,
    tasks: Vec<Task>,
    encoders: &Arc<OutputEncoders>,
    source: &mut KafkaSource,
    attendant: &dyn Attendant,
) -> Result<MachineParts> {
    Ok(MachineParts {
        worker: config.kafka.transactional_id.clone(),
        fingerprint: project.catalog.fingerprint(),
        graph: project.graph(Tracking::On),
        tasks,
        scorer,
        encoders: encoders.clone(),
        partitions: source.partitions().to_vec(),
        start: retry(&SystemClock, attendant, || source.starts())?,
        owner: String::new(),
        soft_budget: config.engine.soft_budget,
        explain_budget: config.engine.explain_budget,
        current_scores: config.kafka.outputs.writes(Output::CurrentScores),
    })
}

/// An engine that can only be audited: it reads a deployment's topics, and takes nothing over.
pub fn auditor(
    loaded: &Loaded,
    project: &Project,
    scorer: Arc<dyn Scorer>,
    stop: Arc<AtomicBool>,
) -> Result<Engine> {
    let config = &loaded.config;
    let registry = Registry::new();
    let (metrics, kafka_metrics) = (Metrics::new(&registry)?, KafkaMetrics::register(&registry)?);
    let read_model = Arc::new(ReadModel::new());
    let limit = WithinLimit::of(&config.kafka);
    let schemas = schema_store(config, &loaded.schemas_dir(), &kafka_metrics)?;
    let encoders = Arc::new(output_encoders(schemas.as_ref(), &limit)?);
    let inputs = loaded.inputs(&project.catalog)?;
    let mut source = retry(&SystemClock, &limit, || {
        KafkaSource::open(&config.kafka, &inputs, &kafka_metrics)
    })?;
    let tasks = tasks_of(config, project, scorer.as_ref())?;
    let machine = Machine::new(machine_parts(
        config,
        project,
        scorer,
        tasks,
        &encoders,
        &mut source,
        &limit,
    )?)?;
    let ports = Ports {
        source: Box::new(source),
        sink: Box::new(NoSink),
        outputs: Box::new(KafkaOutputLog::new(&config.kafka, &kafka_metrics)),
        schemas,
        clock: Arc::new(SystemClock),
    };
    Ok(Engine::new(
        config.engine.clone(),
        ports,
        machine,
        encoders,
        read_model,
        metrics,
        stop,
    ))
}

/// A running deployment.
pub struct Deployment {
    engine: JoinHandle<Result<RunSummary, leadpulse_engine::RunError>>,
    server: Option<Handle>,
    /// The committed state.
    pub read_model: Arc<ReadModel>,
    /// Checks the topics' settings for as long as the deployment runs.
    _watch: Option<TopicWatch>,
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
            Some(options) => Some(serve(
                options,
                server_state(
                    project,
                    scorer.as_ref(),
                    &tasks,
                    &read_model,
                    registry,
                    desk,
                ),
            )?),
            None => None,
        };

        let supervisor = Arc::new(Supervisor::new(&read_model, &stop));
        let attend = supervisor.as_ref();
        if cluster == Cluster::Real {
            // A service starts before its cluster does; a run to the end was started by somebody who waits for it.
            let limit = WithinLimit::of(&config.kafka);
            let attend: &dyn Attendant = if until == Until::End { &limit } else { attend };
            create_missing(&config.kafka, &output_topics(&config.kafka), attend)?;
        }
        let schemas = schema_store(config, &loaded.schemas_dir(), &kafka_metrics)?;
        let inputs = loaded.inputs(&project.catalog)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let watch = match cluster {
            Cluster::Real => Some(TopicWatch::start(
                &config.kafka,
                &inputs,
                clock.clone(),
                &kafka_metrics,
            )?),
            Cluster::Mock => None,
        };
        let mut source = retry(&SystemClock, attend, || {
            KafkaSource::open(&config.kafka, &inputs, &kafka_metrics)
        })?;
        let sink: Box<dyn Sink> = match cluster {
            Cluster::Real => Box::new(
                KafkaSink::new(&config.kafka, source.partitions(), &kafka_metrics)?
                    .with_attendant(supervisor.clone()),
            ),
            Cluster::Mock => Box::new(MockSink::new(
                &config.kafka,
                source.partitions(),
                &kafka_metrics,
            )?),
        };
        let encoders = Arc::new(output_encoders(schemas.as_ref(), attend)?);
        let parts = machine_parts(
            config,
            project,
            scorer,
            tasks,
            &encoders,
            &mut source,
            attend,
        )?;
        let machine = Machine::new(MachineParts {
            owner: sink.owner().to_owned(),
            ..parts
        })?;
        let ports = Ports {
            source: Box::new(source),
            sink,
            outputs: Box::new(KafkaOutputLog::new(&config.kafka, &kafka_metrics)),
            schemas,
            clock,
        };
        let engine = Engine::new(
            config.engine.clone(),
            ports,
            machine,
            encoders,
            read_model.clone(),
            metrics,
            stop,
        )
        .with_requests(requests)
        .with_skips(loaded.skips.clone());
        let engine = std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || engine.run(until))?;
        Ok(Self {
            engine,
            server,
            read_model,
            _watch: watch,
        })
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
    pub fn join(self) -> Result<RunSummary> {
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
        horizon_ms: scorer
            .tasks()
            .iter()
            .find(|t| t.name == *task.name)
            .map_or(0, |t| t.horizon_ms),
        bands: task
            .policy
            .bands()
            .map(|b| BandView {
                name: b.name.to_string(),
                enter: b.enter,
                exit: b.exit,
            })
            .collect(),
    };
    let is_scored_kind = |t: &&leadpulse_schema::Table| {
        matches!(
            t.role,
            leadpulse_schema::Role::Root | leadpulse_schema::Role::Member
        )
    };
    ServerState {
        read_model: read_model.clone(),
        registry,
        tasks: tasks.iter().map(view).collect(),
        tables: project
            .catalog
            .tables
            .iter()
            .filter(is_scored_kind)
            .map(|t| t.name.clone())
            .collect(),
        explanations: Some(desk),
        version: env!("CARGO_PKG_VERSION").into(),
    }
}
