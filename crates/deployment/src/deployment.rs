//! A deployment from its parts: ports on a cluster, the machine, the engine on a thread of its own,
//! HTTP beside it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::Duration;

use prometheus::Registry;

use leadpulse_engine::explain::explain_queue;
use leadpulse_engine::ports::{Attendant, Clock, Output, Sink, Source, StateStore};
use leadpulse_engine::questions::question_queue;
use leadpulse_engine::read_model::ReadModel;
use leadpulse_engine::{
    Engine, Machine, MachineParts, Metrics, NoSink, OutputEncoders, Ports, RunError, RunSummary,
    Supervisor, Task, Until, retry,
};
use leadpulse_features::Scorer;
use leadpulse_graph::{Graph, Tracking};
use leadpulse_kafka::{
    KafkaHeartbeats, KafkaMetrics, KafkaOutputLog, KafkaSink, KafkaSource, MockSink, TopicWatch,
    output_topics,
};
use leadpulse_model::Bundle;
use leadpulse_project::Project;
use leadpulse_registry::RegistryMetrics;
use leadpulse_schema::Catalog;
use leadpulse_server::{Handle, HistoryDesk, ServerOptions, TaskViews, serve};
use leadpulse_store::{FolderStore, StoreMetrics};

use crate::archive::TopicArchive;
use crate::clock::SystemClock;
use crate::control::{ControlReader, ControlRecord, ask, control_topic};
use crate::error::DeployError;
use crate::live_releases::{LiveReleases, ReleaseLoader};
use crate::loaded::Loaded;
use crate::metrics::register_process;
use crate::models::ModelRegistry;
use crate::ports::{WithinLimit, create_missing, input_topics, output_encoders, schema_store};
use crate::telemetry::SpanExport;
use crate::views::{server_state, task_views};

/// Requests for explanations that may wait for the engine.
const EXPLANATIONS_WAITING: usize = 32;
/// Questions to the machine that may wait for the end of an epoch.
const QUESTIONS_WAITING: usize = 32;

/// The kind of cluster that the outputs go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cluster {
    /// Apache Kafka: transactions, exactly once.
    Real,
    /// The in-process mock: at least once.
    Mock,
}

/// Loads a bundle for a project.
///
/// # Errors
/// A file that is absent or damaged, or features that the project's schemas do not have.
pub fn load_bundle(project: &Project, dir: &Path) -> Result<Bundle, DeployError> {
    Bundle::load(
        dir,
        |spec| Ok(project.feature_plan(spec.clone())),
        |name| project.catalog.table(name).map(|t| t.id),
    )
    .map_err(|source| DeployError::Bundle {
        dir: dir.to_owned(),
        source: Box::new(source),
    })
}

/// Everything given to a worker: a configuration, the project that it describes, a model for it.
pub struct Assembly<'a> {
    /// The configuration.
    pub loaded: &'a Loaded,
    /// The configuration's catalog and tasks.
    pub project: &'a Project,
    /// The model.
    pub scorer: Arc<dyn Scorer>,
    /// Jobs on the files of a past for the API; `None` for a process without any.
    pub history: Option<HistoryDesk>,
    /// The registry of models that releases come from; `None` without one.
    pub registry: Option<ModelRegistry>,
    /// The origin of the version that is given.
    pub origin: VersionOrigin,
}

/// The origin of the version that a worker starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionOrigin {
    /// A bundle that was named at the start: it decides, whatever the last epoch was decided under.
    Given,
    /// A release of the registry, by its digest: of the configuration with the champion. A restart
    /// goes on under the release of the last epoch.
    Release(String),
    /// As before, but this release decides also after a restart.
    Anew(String),
}

impl VersionOrigin {
    /// Digest of the release that the version is.
    fn release(&self) -> Option<&str> {
        match self {
            Self::Given => None,
            Self::Release(digest) | Self::Anew(digest) => Some(digest),
        }
    }
}

/// The ports of a deployment, connected.
struct Connected {
    source: KafkaSource,
    sink: Box<dyn Sink>,
    clock: Arc<dyn Clock>,
    watch: Option<TopicWatch>,
}

impl Assembly<'_> {
    /// Connects, creates missing output topics, starts the engine and, with `http`, the server.
    /// `stop` ends the engine after an epoch.
    ///
    /// # Errors
    /// The first part that cannot be made.
    pub fn start(
        self,
        cluster: Cluster,
        until: Until,
        http: Option<&ServerOptions>,
        stop: Arc<AtomicBool>,
    ) -> Result<Deployment, DeployError> {
        let config = &self.loaded.config;
        let registry = Registry::new();
        register_process(&registry)?;
        let metrics = Metrics::new(&registry)?;
        let kafka_metrics = KafkaMetrics::register(&registry)?;
        let schema_metrics = RegistryMetrics::register(&registry)?;
        let store_metrics = StoreMetrics::register(&registry)?;
        let read_model = Arc::new(ReadModel::new());
        let worker = &config.kafka.transactional_id;
        let spans = SpanExport::begin(&config.telemetry, worker, &read_model)?;
        let tasks = scored_tasks(self.loaded, self.project, &*self.scorer)?;
        let shown = task_views(config, self.project, &*self.scorer, &tasks);
        let views = TaskViews::new(shown, self.scorer.card());
        let (desk, requests) = explain_queue(EXPLANATIONS_WAITING);
        let (question_desk, questions) = question_queue(QUESTIONS_WAITING);
        let schemas = schema_store(self.loaded, &schema_metrics)?;
        // HTTP comes first: /readyz gives the reason while a deployment waits for its cluster.
        let server = match http {
            Some(options) => {
                let committed = (&read_model, &schemas);
                let archive = TopicArchive::new(&config.kafka, &kafka_metrics, schemas.clone());
                let state = server_state(
                    &self,
                    views.clone(),
                    committed,
                    registry,
                    (desk, question_desk),
                    archive,
                );
                Some(serve(options, state)?)
            }
            None => None,
        };

        let supervisor = Arc::new(Supervisor::new(&read_model, &stop));
        if cluster == Cluster::Real {
            // Of the mock nothing outlives the process.
            self.remark_on_open_erasures();
            self.prepare_outputs(until, &supervisor)?;
        }
        let mut connected = self.connect(cluster, &supervisor, &kafka_metrics)?;
        let attendant: &Supervisor = &supervisor;
        let encoders = Arc::new(output_encoders(schemas.as_ref(), attendant)?);
        let heartbeats = self.heartbeats(cluster, until, &connected.source, &kafka_metrics)?;
        let parts = self.machine_parts(tasks, &encoders, &mut connected.source, attendant)?;
        let releases = match cluster {
            Cluster::Real => self.live_releases(&encoders, &kafka_metrics, views)?,
            Cluster::Mock => None,
        };
        let machine = Machine::new(MachineParts {
            owner: connected.sink.owner().to_owned(),
            ..parts
        })?;
        let ports = Ports {
            source: Box::new(connected.source),
            sink: connected.sink,
            outputs: Box::new(KafkaOutputLog::new(&config.kafka, &kafka_metrics)),
            schemas,
            clock: connected.clock,
            store: self.store(cluster, &store_metrics)?,
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
        .with_topics(self.loaded.topics(&self.project.catalog)?)
        .with_requests(requests)
        .with_questions(questions)
        .with_skips(self.loaded.skips.clone());
        let engine = match heartbeats {
            Some(heartbeats) => engine.with_standby(config.standby, Box::new(heartbeats)),
            None => engine,
        };
        let follows = matches!(self.origin, VersionOrigin::Release(_));
        let engine = match releases {
            Some(releases) => engine.with_releases(Box::new(releases), follows),
            None => engine,
        };
        let engine = std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || engine.run(until))?;
        Ok(Deployment {
            engine,
            server,
            read_model,
            spans,
            _watch: connected.watch,
        })
    }

    /// The store of the worker's state, if the configuration names a folder.
    // The mock's topics end with the process, so its state would be of no use.
    fn store(
        &self,
        cluster: Cluster,
        metrics: &Arc<StoreMetrics>,
    ) -> Result<Option<Box<dyn StateStore>>, DeployError> {
        let options = &self.loaded.config.store;
        let dir = self.loaded.store_dir();
        let Some(dir) = dir.filter(|_| cluster == Cluster::Real) else {
            return Ok(None);
        };
        let mut store =
            FolderStore::new(&dir, options.queue_bytes, metrics).with_memory(options.memory_budget);
        if let Some(place) = self.loaded.snapshots()? {
            let every = Duration::from_millis(options.snapshots.every_ms);
            store = store.with_snapshots(place, every, Arc::new(SystemClock));
        }
        Ok(Some(Box::new(store)))
    }

    /// An engine for audits only: it reads a deployment's topics and takes nothing over.
    ///
    /// # Errors
    /// The first part that cannot be made.
    pub fn auditor(self, stop: Arc<AtomicBool>) -> Result<Engine, DeployError> {
        let config = &self.loaded.config;
        let registry = Registry::new();
        let metrics = Metrics::new(&registry)?;
        let kafka_metrics = KafkaMetrics::register(&registry)?;
        let schema_metrics = RegistryMetrics::register(&registry)?;
        let read_model = Arc::new(ReadModel::new());
        let limit = WithinLimit::of(&config.kafka);
        let schemas = schema_store(self.loaded, &schema_metrics)?;
        let encoders = Arc::new(output_encoders(schemas.as_ref(), &limit)?);
        let inputs = self.loaded.inputs(&self.project.catalog)?;
        let mut source = retry(&SystemClock, &limit, || {
            KafkaSource::open(&config.kafka, &inputs, &kafka_metrics)
        })?;
        let tasks = scored_tasks(self.loaded, self.project, &*self.scorer)?;
        let machine = Machine::new(self.machine_parts(tasks, &encoders, &mut source, &limit)?)?;
        let ports = Ports {
            source: Box::new(source),
            sink: Box::new(NoSink),
            outputs: Box::new(KafkaOutputLog::new(&config.kafka, &kafka_metrics)),
            schemas,
            clock: Arc::new(SystemClock),
            store: None,
        };
        let releases = self.release_loader(&encoders);
        let engine = Engine::new(
            config.engine.clone(),
            ports,
            machine,
            encoders,
            read_model,
            metrics,
            stop,
        )
        .with_topics(self.loaded.topics(&self.project.catalog)?);
        Ok(match releases {
            Some(loader) => {
                engine.with_releases(Box::new(LiveReleases::without_control(loader)), true)
            }
            None => engine,
        })
    }

    /// The loader of releases; `None` without a registry.
    fn release_loader(&self, encoders: &Arc<OutputEncoders>) -> Option<ReleaseLoader> {
        let registry = self.registry.clone()?;
        Some(ReleaseLoader {
            registry,
            loaded: self.loaded.clone(),
            catalog: self.project.catalog.clone(),
            encoders: encoders.clone(),
        })
    }

    /// The port to releases. After a start that names its version, records that were there before it
    /// do not count.
    fn live_releases(
        &self,
        encoders: &Arc<OutputEncoders>,
        metrics: &Arc<KafkaMetrics>,
        views: TaskViews,
    ) -> Result<Option<LiveReleases>, DeployError> {
        let Some(loader) = self.release_loader(encoders) else {
            return Ok(None);
        };
        let options = &self.loaded.config.kafka;
        if let VersionOrigin::Anew(release) = &self.origin {
            let record = ControlRecord {
                release: release.clone(),
                by: "run --anew".to_owned(),
                at_ms: SystemClock.wall_ms(),
            };
            ask(options, &record)?;
        }
        let counts_older = matches!(self.origin, VersionOrigin::Release(_));
        let reader = ControlReader::new(options, metrics, counts_older);
        Ok(Some(LiveReleases::start(loader, reader, views)?))
    }

    /// Creates the output topics that do not exist.
    fn prepare_outputs(&self, until: Until, supervisor: &Supervisor) -> Result<(), DeployError> {
        let options = &self.loaded.config.kafka;
        // A service may start before its cluster, and waits. A person waits for a run to the end:
        // on a wrong address it must fail.
        let limit = WithinLimit::of(options);
        let attendant: &dyn Attendant = match until {
            Until::End => &limit,
            Until::Stopped => supervisor,
        };
        let mut topics = output_topics(options);
        let of_people = self.loaded.inputs_of_people(&self.project.catalog)?;
        topics.extend(input_topics(&of_people, 1));
        if self.registry.is_some() {
            topics.push(control_topic(options));
        }
        create_missing(options, &topics, attendant)
    }

    /// Opens the source and the sink; on a real cluster, watches the topics' settings.
    fn connect(
        &self,
        cluster: Cluster,
        supervisor: &Arc<Supervisor>,
        metrics: &Arc<KafkaMetrics>,
    ) -> Result<Connected, DeployError> {
        let options = &self.loaded.config.kafka;
        let inputs = self.loaded.inputs(&self.project.catalog)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let watch = match cluster {
            Cluster::Real => Some(TopicWatch::start(options, &inputs, clock.clone(), metrics)?),
            Cluster::Mock => None,
        };
        let attendant: &Supervisor = supervisor;
        let source = retry(&SystemClock, attendant, || {
            KafkaSource::open(options, &inputs, metrics)
        })?;
        let partitions = source.partitions();
        let sink: Box<dyn Sink> = match cluster {
            Cluster::Real => {
                let sink = KafkaSink::new(options, partitions, metrics)?;
                let sink = sink.with_attendant(supervisor.clone());
                let holdings = watch.as_ref().map(TopicWatch::holdings);
                Box::new(sink.with_holdings(holdings.unwrap_or_default()))
            }
            Cluster::Mock => Box::new(MockSink::new(options, partitions, metrics)?),
        };
        Ok(Connected {
            source,
            sink,
            clock,
            watch,
        })
    }

    /// The signs of life of a deployment with a standby. A run to the end has none: a person waits
    /// for it, so it takes over at once.
    fn heartbeats(
        &self,
        cluster: Cluster,
        until: Until,
        source: &KafkaSource,
        metrics: &Arc<KafkaMetrics>,
    ) -> Result<Option<KafkaHeartbeats>, DeployError> {
        let config = &self.loaded.config;
        if !config.standby.enabled || cluster == Cluster::Mock || until == Until::End {
            return Ok(None);
        }
        let every = Duration::from_millis(config.standby.heartbeat_ms);
        let partitions = source.partitions();
        let heartbeats = KafkaHeartbeats::new(&config.kafka, partitions, every, metrics)?;
        Ok(Some(heartbeats))
    }

    /// Reports that hashes of erased persons would be such as anybody can make who has the program. It
    /// is a remark: most deployments never erase, and the first erasure without a secret warns.
    fn remark_on_open_erasures(&self) {
        let mut tables = self.project.catalog.tables.iter();
        let taken = tables.find(|table| table.erasure.is_some());
        if let Some(table) = taken.filter(|_| self.loaded.config.erasure.secret.is_none()) {
            tracing::info!(
                table = table.name,
                "requests to erase are taken, and no erasure.secret is set: hashes of erased persons could be tested for guesses; \
                 set erasure.secret = {{ env = \"ERASURE_SECRET\" }} before the first request: a later change refuses the stored state"
            );
        }
    }

    /// The machine's parts, of a process that owns nothing.
    fn machine_parts(
        &self,
        tasks: Vec<Task>,
        encoders: &Arc<OutputEncoders>,
        source: &mut KafkaSource,
        attendant: &dyn Attendant,
    ) -> Result<MachineParts, DeployError> {
        let graph = self.project.graph(Tracking::On);
        let catalog = &self.project.catalog;
        let scorer = self.scorer.clone();
        Ok(MachineParts {
            tasks,
            partitions: source.partitions().to_vec(),
            start: retry(&SystemClock, attendant, || source.starts())?,
            release: self.origin.release().map(Into::into),
            ..given_parts(self.loaded, catalog, graph, scorer, encoders)?
        })
    }
}

/// Parts of a machine that a configuration gives: without tasks, partitions and owner.
pub(crate) fn given_parts(
    loaded: &Loaded,
    catalog: &Catalog,
    graph: Graph,
    scorer: Arc<dyn Scorer>,
    encoders: &Arc<OutputEncoders>,
) -> Result<MachineParts, DeployError> {
    let config = &loaded.config;
    Ok(MachineParts {
        worker: config.kafka.transactional_id.clone(),
        fingerprint: catalog.fingerprint(),
        graph,
        tasks: Vec::new(),
        scorer,
        encoders: encoders.clone(),
        partitions: Vec::new(),
        start: Vec::new(),
        owner: String::new(),
        soft_budget: config.engine.soft_budget,
        tick_ms: config.engine.tick_ms as i64,
        explain_budget: config.engine.explain_budget,
        explain_top: config.engine.explain_top,
        current_scores: config.kafka.outputs.writes(Output::CurrentScores),
        caps: config.alerts.caps.checked()?,
        work_lists: config.work_lists()?,
        erasure_key: config.erasure_key()?,
        exports_spans: config.telemetry.otlp_endpoint.is_some(),
        release: None,
    })
}

/// The tasks of a project that the bundle predicts, with the policies of a configuration. Logs the
/// tasks that it does not predict.
///
/// # Errors
/// A task whose policy is absent or faulty; a bundle that predicts no task.
pub(crate) fn scored_tasks(
    loaded: &Loaded,
    project: &Project,
    scorer: &dyn Scorer,
) -> Result<Vec<Task>, DeployError> {
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
        let mut configured = loaded.config.tasks.iter();
        let configured = configured.find(|t| t.name == planned.name);
        let Some(configured) = configured else {
            return Err(DeployError::NoPolicy {
                path: loaded.path.clone(),
                task: planned.name.clone(),
            });
        };
        tasks.push(Task {
            name: planned.name.as_str().into(),
            entity: planned.plan.entity,
            population: planned.population.clone(),
            policy: configured.policy.validated()?,
            query: planned.plan.text.clone(),
        });
    }
    if tasks.is_empty() {
        return Err(DeployError::NoTask {
            bundle: scorer.bundle_id().to_owned(),
        });
    }
    Ok(tasks)
}

/// A running deployment.
pub struct Deployment {
    engine: JoinHandle<Result<RunSummary, RunError>>,
    server: Option<Handle>,
    /// The committed state.
    pub read_model: Arc<ReadModel>,
    spans: Option<SpanExport>,
    /// Checks the topics' settings for as long as the deployment runs.
    _watch: Option<TopicWatch>,
}

impl Deployment {
    /// Address of the HTTP listener; `None` without HTTP.
    pub fn address(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(Handle::address)
    }

    /// True once the engine has ended.
    pub fn is_finished(&self) -> bool {
        self.engine.is_finished()
    }

    /// Waits for the engine, then ends HTTP.
    ///
    /// # Errors
    /// The engine stopped with an error or panicked, or the server failed.
    pub fn join(self) -> Result<RunSummary, DeployError> {
        let outcome = match self.engine.join() {
            Ok(outcome) => outcome.map_err(DeployError::Stopped),
            Err(_) => return Err(DeployError::Panicked),
        };
        if let Some(spans) = self.spans {
            spans.end(&self.read_model);
        }
        if let Some(server) = self.server {
            server.stop()?;
        }
        outcome
    }
}
