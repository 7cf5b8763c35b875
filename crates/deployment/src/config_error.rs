//! Faults of a configuration, each with the file or setting to mend.

use std::path::PathBuf;

use leadpulse_deliver::DeliverOptionsError;
use leadpulse_engine::{EngineOptionsError, StandbyOptionsError};
use leadpulse_graph::GraphOptionsError;
use leadpulse_history::PlaceError;
use leadpulse_ingest::IngestOptionsError;
use leadpulse_kafka::OptionsError;
use leadpulse_policy::PolicyError;
use leadpulse_project::QueryError;
use leadpulse_registry::RegistryOptionsError;
use leadpulse_schema::{CurrencyError, ShapeError};
use leadpulse_server::ServerError;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is absent, or may not be read.
    #[error("{path} cannot be read; name the configuration with --config")]
    Unreadable {
        /// The configuration.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The file does not parse.
    #[error("{path} is not TOML")]
    NotToml {
        /// The configuration.
        path: PathBuf,
        /// Line and column of the fault.
        source: toml::de::Error,
    },
    /// An override names no possible place in the file.
    #[error("{origin} cannot be applied")]
    NotApplied {
        /// The environment variable, or `command line`.
        origin: String,
        /// The reason.
        source: PathError,
    },
    /// A value has the wrong type, or a key is not known.
    #[error("{culprit}")]
    Invalid {
        /// The file, or the override that made a valid file invalid.
        culprit: String,
        /// The key and the type expected.
        source: toml::de::Error,
    },
    /// A setting of `[graph]` is out of range.
    #[error(transparent)]
    Graph(#[from] GraphOptionsError),
    /// A setting of `[currency]` means nothing.
    #[error(transparent)]
    Currency(#[from] CurrencyError),
    /// A setting of `[engine]` is out of range.
    #[error(transparent)]
    Engine(#[from] EngineOptionsError),
    /// A setting of `[server]` cannot be used.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A setting of a sink cannot work.
    #[error(transparent)]
    Deliver(#[from] DeliverOptionsError),
    /// No sink is configured.
    #[error(
        "{path} has no sink; add a section such as [deliver.webhook.NAME], see docs/deliver.md"
    )]
    NoSink {
        /// The configuration.
        path: PathBuf,
    },
    /// A setting of a source of calls cannot work.
    #[error(transparent)]
    Ingest(#[from] IngestOptionsError),
    /// No source of calls is configured.
    #[error("{path} takes no calls; add a section such as [ingest.segment], see docs/ingest.md")]
    NoIngest {
        /// The configuration.
        path: PathBuf,
    },
    /// A topic of calls feeds no table.
    #[error(
        "{path}: calls write to the topic {topic:?}, which no source reads; correct it, or add the source"
    )]
    UnreadTopic {
        /// The configuration.
        path: PathBuf,
        /// The topic.
        topic: String,
    },
    /// A standby option out of its range.
    #[error(transparent)]
    Standby(#[from] StandbyOptionsError),
    /// A setting of `[kafka]` cannot work.
    #[error(transparent)]
    Kafka(#[from] OptionsError),
    /// A setting of `[registry]` cannot work.
    #[error(transparent)]
    Registry(#[from] RegistryOptionsError),
    /// A reference leads nowhere.
    #[error("{path}: {problem}")]
    Reference {
        /// Dotted path of the setting.
        path: String,
        /// The variable or file, and the fault.
        problem: String,
    },
    /// A secret stands in the file.
    #[error(
        "{path}: {setting} is a secret and must not stand in the file; write \
         {{ env = \"NAME\" }} or {{ file = \"path\" }}"
    )]
    LiteralSecret {
        /// The configuration.
        path: PathBuf,
        /// Dotted path of the setting.
        setting: String,
    },
    /// A duration has no unit.
    #[error("{path} = {value} has no unit; write {path} = {example}")]
    NoUnit {
        /// Dotted path of the setting.
        path: String,
        /// The value as written.
        value: String,
        /// The value with the unit that the older key had.
        example: String,
    },
    /// A duration stands under its present and under its older key.
    #[error("{old} and {new} are the same setting; remove {old}")]
    TwoNames {
        /// Dotted path of the older key.
        old: String,
        /// Dotted path of the present key.
        new: String,
    },
    /// An environment variable is written almost like that of a setting.
    #[error(
        "the environment variable {variable} is no setting; write {meant} (two underscores after \
         each section)"
    )]
    NearMiss {
        /// The variable.
        variable: String,
        /// The variable that it probably means.
        meant: String,
    },
    /// The shape of a source cannot work.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// Two tasks have one name.
    #[error("{path}: two tasks are named {name:?}")]
    TwoTasks {
        /// The configuration.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// A task's policy contradicts itself.
    #[error("{path}: task {task:?}")]
    Policy {
        /// The configuration.
        path: PathBuf,
        /// Name of the task.
        task: String,
        /// The setting at fault.
        source: Box<PolicyError>,
    },
    /// The work lists have a fault.
    #[error("{path}")]
    WorkLists {
        /// The configuration.
        path: PathBuf,
        /// The setting at fault.
        source: PolicyError,
    },
    /// A value in force cannot be written as TOML.
    #[error(transparent)]
    Unprintable(#[from] toml::ser::Error),
    /// The schemas folder does not load.
    #[error("{}", schema_faults(.dir, .faults))]
    Schemas {
        /// The schemas folder.
        dir: PathBuf,
        /// All faults, in order of files.
        faults: Vec<leadpulse_schema::SchemaFault>,
    },
    /// A query does not parse, or does not fit the schemas.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A source belongs to no table.
    #[error("{path}: a source names the table {table:?}, which no schema defines")]
    NoTable {
        /// The configuration.
        path: PathBuf,
        /// The name in the source.
        table: String,
    },
    /// A source's column feeds a field that its table does not have.
    #[error(
        "{path}: a column of {table:?} feeds the field {field:?}, which the table does not have"
    )]
    NoField {
        /// The configuration.
        path: PathBuf,
        /// Name of the source's table.
        table: String,
        /// The field in `columns`.
        field: String,
    },
    /// A source's lag does not parse.
    #[error("lag {lag:?} of {table} is not a duration like 2h")]
    Lag {
        /// The text.
        lag: String,
        /// Name of the source's table.
        table: String,
    },
    /// No file of the data folder matches a source.
    #[error("{data} holds no file that a source of {path} names")]
    NoFiles {
        /// The data folder.
        data: PathBuf,
        /// The configuration.
        path: PathBuf,
    },
    /// A pattern that meets no file.
    #[error(
        "source of {table}: no file fits {pattern:?} in {data}; correct `file` or --data, or set optional = true \
         if there may be none"
    )]
    NoMatch {
        /// Name of the source's table.
        table: String,
        /// The pattern.
        pattern: String,
        /// The data folder.
        data: PathBuf,
    },
    /// Files cannot be looked for.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// No source has a topic.
    #[error("{path} names no topics: give each source of the engine a `topic`")]
    NoTopics {
        /// The configuration.
        path: PathBuf,
    },
}

/// An override's dotted path that leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// The path is empty.
    #[error("an empty name")]
    Empty,
    /// A part before the last one is a value.
    #[error("{name} is not a section")]
    NotASection {
        /// The part.
        name: String,
    },
}

fn schema_faults(dir: &std::path::Path, faults: &[leadpulse_schema::SchemaFault]) -> String {
    let ending = if faults.len() == 1 { "" } else { "s" };
    let mut text = format!("{} has {} fault{ending}:\n", dir.display(), faults.len());
    for (index, fault) in faults.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        text.push_str(&format!("  {fault}"));
    }
    text
}
