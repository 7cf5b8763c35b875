//! `leadpulse.toml` as types: one struct per section.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use leadpulse_deliver::DeliverOptions;
use leadpulse_engine::{EngineOptions, ErasureKey, ErasureKeyError, StandbyOptions};
use leadpulse_graph::GraphOptions;
use leadpulse_ingest::IngestOptions;
use leadpulse_kafka::KafkaOptions;
use leadpulse_model::FitOptions;
use leadpulse_policy::{CapOptions, PolicyError, PolicyOptions, WorkListOptions, WorkLists};
use leadpulse_project::Anchors;
use leadpulse_registry::{RegistryOptions, Secret};
use leadpulse_schema::units::Span;
use leadpulse_schema::{
    CurrencyOptions, EnvelopeOption, FilterValues, NameList, SourceFormat, SourceShape, TextOption,
    TimeOption,
};
use leadpulse_server::ServerOptions;
use leadpulse_store::StoreOptions;

use crate::telemetry::TelemetryOptions;

/// A source of one table's rows: a topic, files or both.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceConfig {
    /// Name of the table, as its schema declares it.
    pub table: String,
    /// The Kafka topic; `None` for a table that only training reads.
    pub topic: Option<String>,
    /// A file name, or a pattern with `*` in any part of the path, relative to the data folder; or
    /// the address of an object store.
    pub file: Option<String>,
    /// A pattern of files may meet none.
    pub optional: bool,
    /// In files: the column with the time at which a row became known.
    pub known_time: Option<String>,
    /// In files: the time from a row's event to the row being known, e.g. `2h`.
    pub lag: Option<String>,
    /// The format of values on the topic: `avro`, `json`, `json-schema` or `protobuf`; or of files
    /// whose name does not say it: `csv`, `tsv`, `jsonl` or `parquet`.
    pub format: SourceFormat,
    /// `none`, `debezium`, `salesforce-cdc`, `segment`, `cloudevents`, or paths of one's own.
    pub envelope: EnvelopeOption,
    /// Records of the source: path → value or values.
    #[serde(rename = "where")]
    pub filter: BTreeMap<String, FilterValues>,
    /// Path in the record → field or fields, or field → path, where the two differ.
    pub columns: BTreeMap<String, NameList>,
    /// Paths that make a row's key together, or `@row`: all of the row does.
    pub key: Option<NameList>,
    /// Field or path → unit or format of its times.
    pub times: BTreeMap<String, TimeOption>,
    /// The field or column of a truth value: a row where it is true deletes its entity.
    pub deleted: Option<String>,
    /// How text is written: separator and encoding of files, numbers, words for null and for truth.
    pub text: TextOption,
}

impl SourceConfig {
    /// The shape of the source's records.
    pub fn shape(&self) -> SourceShape {
        SourceShape {
            format: self.format,
            envelope: self.envelope.clone(),
            filter: self.filter.clone(),
            columns: self.columns.clone(),
            key: self.key.clone(),
            times: self.times.clone(),
            text: self.text.clone(),
            deleted: self.deleted.clone(),
        }
    }
}

/// One prediction: a query with its anchors, policy and fit options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskConfig {
    /// Unique name; scores, metrics and the bundle use it.
    pub name: String,
    /// The PQL query.
    pub query: String,
    /// Moments at which training examples are taken.
    #[serde(default)]
    pub anchors: Anchors,
    /// The time after the end of a window until its outcome counts as known; by default as long as
    /// the rows that the target reads were late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lateness: Option<Span>,
    /// Bands, alerts and the rules by which scores are emitted.
    #[serde(default)]
    pub policy: PolicyOptions,
    /// Size, search and stopping of training.
    #[serde(default)]
    pub fit: FitOptions,
}

/// Settings of the alerts of all tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertConfig {
    /// The most alerts that a person gets on a day.
    pub caps: CapOptions,
}

/// The registry of models.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelOptions {
    /// Folder of the registry, relative to this file; without one, a run needs `--model`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
}

/// All sections of the file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The schemas folder, relative to this file.
    pub schemas: PathBuf,
    /// Input topics and files.
    pub sources: Vec<SourceConfig>,
    /// Named targets that queries may use: name → PQL expression.
    pub targets: BTreeMap<String, String>,
    /// Predictions, in order: the first shapes the network that the others share.
    pub tasks: Vec<TaskConfig>,
    /// The currency that amounts are converted to, with its rates.
    pub currency: CurrencyOptions,
    /// Half-lives, horizons and limits of the graph.
    pub graph: GraphOptions,
    /// Budgets, pace and clock of the epoch loop.
    pub engine: EngineOptions,
    /// Whether a process follows first, and when it takes over.
    pub standby: StandbyOptions,
    /// Settings of the alerts of all tasks.
    pub alerts: AlertConfig,
    /// The lists of what each person should work on next.
    pub worklist: WorkListOptions,
    /// The registry of models.
    pub models: ModelOptions,
    /// Brokers, topics and limits of the Kafka ports.
    pub kafka: KafkaOptions,
    /// A schema registry; `None` takes writer schemas from the schemas folder.
    pub registry: Option<RegistryOptions>,
    /// The place of the worker's state between two starts.
    pub store: StoreOptions,
    /// Recognition of persons who were erased.
    pub erasure: ErasureOptions,
    /// Listener and limits of the HTTP API.
    pub server: ServerOptions,
    /// Sinks of `leadpulse deliver`.
    pub deliver: DeliverOptions,
    /// Sources of `leadpulse ingest`.
    pub ingest: IngestOptions,
    /// Export of spans.
    pub telemetry: TelemetryOptions,
}

/// The `[erasure]` section.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ErasureOptions {
    /// The secret of the keyed hashes by which erased persons are recognised; `None` uses a key that
    /// everybody knows. It must stay the same: under another one nobody is recognised.
    pub secret: Option<Secret>,
}

impl Config {
    /// The key by which erased persons are recognised.
    ///
    /// # Errors
    /// A secret that is too short.
    pub fn erasure_key(&self) -> Result<ErasureKey, ErasureKeyError> {
        match &self.erasure.secret {
            Some(secret) => ErasureKey::of(secret.reveal().as_bytes()),
            None => Ok(ErasureKey::default()),
        }
    }

    /// The work lists, whose spans begin at the local midnight of caps.
    ///
    /// # Errors
    /// A size or a span out of its range.
    pub fn work_lists(&self) -> Result<WorkLists, PolicyError> {
        let offset_minutes = self.alerts.caps.utc_offset_minutes;
        self.worklist.checked(self.engine.tick_ms, offset_minutes)
    }
}
