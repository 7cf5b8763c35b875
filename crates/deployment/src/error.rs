//! Reasons for which a deployment cannot start or go on.

use std::path::PathBuf;

use leadpulse_engine::ports::{PortError, SchemaLookupError, StoreError};
use leadpulse_engine::{ErasureKeyError, MachineError, RunError};
use leadpulse_history::{HistoryError, PlaceError};
use leadpulse_model::BundleError;
use leadpulse_policy::PolicyError;
use leadpulse_registry::RegistryOptionsError;
use leadpulse_schema::{EncodeError, FileError, RegistryError};
use leadpulse_server::ServerError;

use crate::answers::AnswerError;
use crate::config_error::ConfigError;
use crate::erasures::ErasureOrderError;
use crate::models::ModelsError;

/// A deployment that cannot start, or that ended with an error.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The bundle does not load, or does not fit the schemas.
    #[error("the bundle {dir} cannot be used")]
    Bundle {
        /// Folder of the bundle.
        dir: PathBuf,
        /// The file or field at fault.
        source: Box<BundleError>,
    },
    /// No task is both configured and in the bundle.
    #[error("the bundle {bundle} predicts none of the configured tasks; train one of them")]
    NoTask {
        /// Id of the bundle.
        bundle: String,
    },
    /// The stored state or its snapshots cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address of snapshots cannot be used.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A task's policy contradicts itself.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A request to erase cannot be sent.
    #[error(transparent)]
    Erasure(#[from] ErasureOrderError),
    /// The champion is changed, and the running worker does not know.
    #[error(
        "the champion is changed, but the running worker was not asked; ask it with `leadpulse apply`"
    )]
    NotAsked(#[source] Box<DeployError>),
    /// An answer to an alert cannot be sent.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// Spans cannot be exported to the configured address.
    #[error(
        "telemetry.otlp_endpoint {endpoint:?} cannot be used: {problem}; write e.g. \"http://127.0.0.1:4318\""
    )]
    Telemetry { endpoint: String, problem: String },
    /// The secret of erasures cannot be used.
    #[error("erasure.secret cannot be used")]
    ErasureKey(#[from] ErasureKeyError),
    /// The cluster refuses topics, or did not answer in time.
    #[error(
        "the topics cannot be prepared on {brokers}; is the cluster up, and kafka.brokers right?"
    )]
    Topics {
        /// The bootstrap servers.
        brokers: String,
        /// The cluster's answer.
        source: PortError,
    },
    /// A configuration has no policy for a task.
    #[error(
        "{path} has no task {task:?}, so its policy is not known; add it with its [tasks.policy]",
        path = path.display()
    )]
    NoPolicy {
        /// The configuration.
        path: PathBuf,
        /// Name of the task.
        task: String,
    },
    /// The registry of models refuses something.
    #[error(transparent)]
    Models(#[from] ModelsError),
    /// A release was made for another worker's schemas or graph options.
    #[error(
        "it was made for other {what} than this worker's; stop the worker and start it with --anew: it applies every row \
         again under the new version"
    )]
    ReleaseOfOthers {
        /// `schemas` or `graph options`.
        what: &'static str,
    },
    /// A port cannot be opened.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The registry's settings cannot work.
    #[error(transparent)]
    Registry(#[from] RegistryOptionsError),
    /// The schemas folder cannot serve as a registry.
    #[error(transparent)]
    SchemasFolder(#[from] RegistryError),
    /// A topic that no source reads.
    #[error("no source reads the topic {topic}; the sources read: {known}")]
    NoSource {
        /// The topic asked for.
        topic: String,
        /// Topics of the sources.
        known: String,
    },
    /// A table that no source with a topic feeds.
    #[error("no topic feeds the table {table:?}; the topics feed: {known}")]
    NoFedTable {
        /// The table asked for.
        table: String,
        /// Tables of the topics.
        known: String,
    },
    /// Topics of a replay hold records already.
    #[error(
        "{topics}: there are records already, and a second replay doubles events whose ids are forgotten; delete the \
         topics, choose tables with --only, or pass --append if the files hold other rows"
    )]
    Filled {
        /// The topics, with commas between.
        topics: String,
    },
    /// A file cannot be read on.
    #[error(transparent)]
    File(#[from] FileError),
    /// A schema to write under has no id.
    #[error(transparent)]
    SchemaLookup(#[from] SchemaLookupError),
    /// The machine refuses its parts.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// Two metrics have one name.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
    /// HTTP cannot be served.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The operating system gives no thread or file.
    #[error(transparent)]
    Os(#[from] std::io::Error),
    /// The engine ended with an error.
    #[error("the engine stopped")]
    Stopped(#[source] RunError),
    /// The engine's thread panicked.
    #[error("the engine panicked; the message is in the log")]
    Panicked,
    /// Files cannot be read in order of known time.
    #[error(transparent)]
    Files(#[from] HistoryError),
    /// A row of the files does not fit its schema.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}
