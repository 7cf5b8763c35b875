//! A configuration becomes ports, machine and server, running.
//!
//! [`Loaded::read`] reads the file, the environment and the command line. [`Assembly::start`]
//! connects the ports, makes the machine, and starts the engine and HTTP; [`Deployment::join`]
//! waits for the end. [`run`] does all of it for `leadpulse run`. [`deliver`] runs sinks, [`ingest`]
//! takes calls. [`Rehearsal`]
//! drives the machine alone, over files. [`Feeder`] and [`DemoCluster`]
//! are the other side: they write the inputs of a replay or a demo.
//!
//! Invariants: every value in force has a known origin; [`SystemClock`] is the only reader of the
//! system's clock.

mod answers;
mod archive;
mod broker;
mod champions;
mod check;
mod clock;
mod config;
mod config_error;
mod control;
mod deliver;
mod deployment;
mod erasures;
mod error;
mod feeder;
mod ingest;
mod letters;
mod live_releases;
mod loaded;
mod metrics;
mod models;
mod operations;
mod ports;
mod project;
mod queries;
mod rehearsal;
mod release;
mod rows_of_people;
mod run;
mod signals;
mod sink_letters;
mod telemetry;
mod validate;
mod views;

pub use answers::AnswerError;
pub use broker::DemoCluster;
pub use champions::{Promotion, apply_champion, change_by, promote, roll_back};
pub use check::{CheckReport, check};
pub use clock::SystemClock;
pub use config::{Config, ErasureOptions, ModelOptions, SourceConfig, TaskConfig};
pub use config_error::{ConfigError, PathError};
pub use control::{ControlRecord, ask};
pub use deliver::{Delivery, deliver};
pub use deployment::{Assembly, Cluster, Deployment, VersionOrigin, load_bundle};
pub use erasures::{ErasureOrder, ErasureOrderError, erasure_proofs, request_erasure};
pub use error::DeployError;
pub use feeder::Feeder;
pub use ingest::ingest;
pub use letters::{
    Judgement, LetterBox, LetterFilter, LetterJudge, Pace, ReplayPlan, ReplaySummary,
};
pub use loaded::{DEFAULT_ORIGIN, Loaded, Setting, in_lines};
pub use metrics::{MetricGroup, metric_groups, metric_groups_beside, metrics_at_start};
pub use models::{Alias, Change, LogAction, LogEntry, ModelEntry, ModelRegistry, ModelsError};
pub use ports::{check_unfilled, create_inputs, schema_store, writer_schemas};
pub use rehearsal::{REVERSED_WITHIN_MS, Rehearsal, Rehearsed, Rise};
pub use release::Release;
pub use run::{ChosenModel, ModelChoice, RunSettings, run};
pub use signals::stop_on_signal;
pub use sink_letters::{BuriedRecord, read_sink_letters};
pub use telemetry::TelemetryOptions;
pub use validate::{RowShown, ValidationSummary, Validator, Verdict, newest_records};
