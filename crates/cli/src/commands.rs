//! The subcommands, one module each, and the arguments that several share.

pub mod alerts;
pub mod backtest;
pub mod completions;
pub mod config;
pub mod deliver;
pub mod demo;
pub mod dlq;
mod dlq_sinks;
pub mod erase;
pub mod explain;
mod given;
pub mod ingest;
pub mod init;
pub mod metrics;
pub mod models;
pub mod query;
pub mod replay;
pub mod report;
pub mod run;
pub mod schema;
mod schema_pull;
pub mod simulate;
pub mod top;
pub mod train;
pub mod validate;
pub mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};

use leadpulse_history::{Files, REFUSED_RATIO};
use leadpulse_model::Bundle;
use leadpulse_project::{Project, TaskPlan};
use leadpulse_schema::units::Span;
use leadpulse_schema::{Catalog, Table};

use leadpulse_deployment::{ConfigError, Loaded, load_bundle};

use crate::nearest::known_names;

/// `--config`.
#[derive(clap::Args, Debug, Clone)]
pub struct ConfigArgument {
    /// The configuration.
    #[arg(long, default_value_os_t = crate::default_config())]
    pub config: PathBuf,
}

impl ConfigArgument {
    /// Reads the configuration; `overrides` come from other arguments.
    pub fn load(&self, overrides: &[(&str, String)]) -> Result<Loaded, ConfigError> {
        Loaded::read(&self.config, overrides)
    }
}

/// A configuration on another cluster: `--config`, `--brokers`.
#[derive(clap::Args)]
pub struct ClusterArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Bootstrap servers, instead of kafka.brokers.
    #[arg(long)]
    brokers: Option<String>,
}

impl ClusterArguments {
    /// The file of the configuration.
    pub fn path(&self) -> &Path {
        &self.config.config
    }

    /// Reads the configuration; `--brokers` rules.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let overrides: Vec<(&str, String)> = self
            .brokers
            .iter()
            .map(|b| ("kafka.brokers", format!("{b:?}")))
            .collect();
        self.config.load(&overrides)
    }
}

/// Files of history: `--data`, `--allow-bad`.
#[derive(clap::Args)]
pub struct DataArguments {
    /// Folder with the sources' files.
    #[arg(long)]
    data: PathBuf,
    #[command(flatten)]
    allowance: Allowance,
}

/// `--allow-bad`.
#[derive(clap::Args)]
pub struct Allowance {
    /// The share of a file's rows that may be refused, from 0 to 1; with more the command ends.
    #[arg(long, value_name = "SHARE", value_parser = parse_share, default_value_t = REFUSED_RATIO)]
    allow_bad: f64,
}

impl DataArguments {
    /// Looks at every file of the configured sources.
    pub fn open(&self, loaded: &Loaded, catalog: &Arc<Catalog>) -> Result<Files> {
        self.allowance.open(loaded, catalog, &self.data)
    }

    /// As [`Self::open`], for a reading that ends once the sign is set.
    pub fn open_until(
        &self,
        loaded: &Loaded,
        catalog: &Arc<Catalog>,
        end: &Arc<AtomicBool>,
    ) -> Result<Files> {
        self.allowance.open_until(loaded, catalog, &self.data, end)
    }
}

impl Allowance {
    /// Looks at every file of the configured sources in a folder.
    pub fn open(&self, loaded: &Loaded, catalog: &Arc<Catalog>, data: &Path) -> Result<Files> {
        self.open_until(loaded, catalog, data, &Arc::default())
    }

    fn open_until(
        &self,
        loaded: &Loaded,
        catalog: &Arc<Catalog>,
        data: &Path,
        end: &Arc<AtomicBool>,
    ) -> Result<Files> {
        let mut sources = loaded.files(catalog, data)?;
        for source in &mut sources {
            source.refused_ratio = self.allow_bad;
        }
        Ok(Files::prepare_until(
            catalog.clone(),
            &sources,
            end.clone(),
        )?)
    }
}

/// A history and a bundle trained on it: `--config`, `--data`, `--model`.
#[derive(clap::Args)]
pub struct HistoryArguments {
    #[command(flatten)]
    config: ConfigArgument,
    #[command(flatten)]
    data: DataArguments,
    /// Folder of the bundle.
    #[arg(long)]
    model: PathBuf,
}

/// A configuration with a history and a bundle, loaded by [`HistoryArguments`].
pub struct LoadedHistory<B = Bundle> {
    pub loaded: Loaded,
    pub project: Project,
    pub files: Files,
    pub bundle: B,
}

impl HistoryArguments {
    /// As the command line would give them.
    pub fn new(config: PathBuf, data: PathBuf, model: PathBuf) -> Self {
        let allowance = Allowance {
            allow_bad: REFUSED_RATIO,
        };
        Self {
            config: ConfigArgument { config },
            data: DataArguments { data, allowance },
            model,
        }
    }

    /// Loads everything. Fails before any file is opened if a named task is not configured.
    pub fn load(&self, task_names: &[String]) -> Result<LoadedHistory> {
        self.load_until(task_names, &Arc::default())
    }

    /// Reads the configuration alone.
    pub fn configuration(&self) -> Result<Loaded> {
        Ok(self.config.load(&[])?)
    }

    /// Opens the files alone, for a reading that ends once the sign is set.
    pub fn files_until(
        &self,
        loaded: &Loaded,
        catalog: &Arc<Catalog>,
        end: &Arc<AtomicBool>,
    ) -> Result<Files> {
        self.data.open_until(loaded, catalog, end)
    }

    /// As [`Self::load`], for a reading that ends once the sign is set.
    pub fn load_until(
        &self,
        task_names: &[String],
        end: &Arc<AtomicBool>,
    ) -> Result<LoadedHistory> {
        let loaded = self.config.load(&[])?;
        let project = loaded.project()?;
        tasks(&project, task_names)?;
        let files = self.data.open_until(&loaded, &project.catalog, end)?;
        let bundle = load_bundle(&project, &self.model)?;
        Ok(LoadedHistory {
            loaded,
            project,
            files,
            bundle,
        })
    }
}

/// The task of a name, or an error that lists the tasks.
pub fn task<'a>(project: &'a Project, name: &str) -> Result<&'a TaskPlan> {
    project.task(name).with_context(|| {
        let known = project.tasks.iter().map(|t| t.name.as_str());
        format!(
            "the configuration has no task {name:?}; {}",
            known_names(name, known)
        )
    })
}

/// The table of a name, or an error that names the one that was meant.
pub fn table<'a>(catalog: &'a Catalog, name: &str) -> Result<&'a Table> {
    catalog.table(name).with_context(|| {
        let known = catalog.tables.iter().map(|table| table.name.as_str());
        format!(
            "no schema defines the table {name:?}; {}",
            known_names(name, known)
        )
    })
}

/// The tasks of these names, in order of configuration; all of them where none is named.
pub fn tasks<'a>(project: &'a Project, names: &[String]) -> Result<Vec<&'a TaskPlan>> {
    for name in names {
        task(project, name)?;
    }
    Ok(project
        .tasks
        .iter()
        .filter(|t| names.is_empty() || names.contains(&t.name))
        .collect())
}

/// A share from 0 to 1.
fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok();
    let share = share.filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("{text:?} is not a share; write a number from 0 to 1, e.g. 0.05"))
}

/// A share: above 0, at most 1.
pub fn parse_ratio(text: &str) -> Result<f64, String> {
    let ratio = text
        .parse::<f64>()
        .ok()
        .filter(|ratio| *ratio > 0.0 && *ratio <= 1.0);
    ratio.ok_or_else(|| {
        format!("{text:?} is not a share; write a number above 0 and at most 1, e.g. 0.25")
    })
}

/// A moment: a date, a date and time, RFC 3339 or epoch milliseconds.
pub fn parse_moment(text: &str) -> Result<i64, String> {
    leadpulse_schema::parse_time_ms(text).ok_or_else(|| {
        format!("{text:?} is not a time; write e.g. 2011-09-09 or 2011-09-09T12:00:00Z")
    })
}

/// A duration such as 90d, in milliseconds.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let span: Result<Span, _> = text.parse();
    span.map(Span::ms).map_err(|error| error.to_string())
}

/// A moment as date and time in UTC, for messages; milliseconds where the calendar ends.
pub fn date(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(
        |_| ms.to_string(),
        |t| t.strftime("%Y-%m-%d %H:%M").to_string(),
    )
}
