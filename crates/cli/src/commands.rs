//! One module per subcommand, and what several of them need.

pub mod backtest;
pub mod demo;
pub mod explain;
pub mod query;
pub mod replay;
pub mod run;
pub mod schema;
pub mod simulate;
pub mod train;
pub mod verify;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use leadpulse_learn::{FileSource, Project, TaskPlan};
use leadpulse_model::Bundle;

use leadpulse_deployment::Loaded;

/// `--config`.
#[derive(clap::Args, Debug, Clone)]
pub struct ConfigArgument {
    /// The configuration.
    #[arg(long, default_value_os_t = crate::default_config())]
    pub config: PathBuf,
}

impl ConfigArgument {
    /// Reads it; `overrides` come from other arguments.
    pub fn load(&self, overrides: &[(&str, String)]) -> Result<Loaded> {
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
    /// Reads the configuration; `--brokers` rules.
    pub fn load(&self) -> Result<Loaded> {
        let overrides: Vec<(&str, String)> = self
            .brokers
            .iter()
            .map(|b| ("kafka.brokers", format!("{b:?}")))
            .collect();
        self.config.load(&overrides)
    }
}

/// A history and the bundle that is asked about it: `--config`, `--data`, `--model`.
#[derive(clap::Args)]
pub struct HistoryArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Folder with the sources' files.
    #[arg(long)]
    data: PathBuf,
    /// Folder of the bundle.
    #[arg(long)]
    model: PathBuf,
}

/// What [`HistoryArguments`] name.
pub struct History {
    pub loaded: Loaded,
    pub project: Project,
    pub sources: Vec<FileSource>,
    pub bundle: Bundle,
}

impl HistoryArguments {
    /// Loads everything; the named tasks must be configured, which is said before any file is looked at.
    pub fn load(&self, task_names: &[String]) -> Result<History> {
        let loaded = self.config.load(&[])?;
        let project = loaded.project()?;
        tasks(&project, task_names)?;
        let sources = loaded.files(&project.catalog, &self.data)?;
        let bundle = load_bundle(&project, &self.model)?;
        Ok(History {
            loaded,
            project,
            sources,
            bundle,
        })
    }
}

/// The task of a name, or an error that lists the tasks.
pub fn task<'a>(project: &'a Project, name: &str) -> Result<&'a TaskPlan> {
    project.task(name).with_context(|| {
        let known: Vec<&str> = project.tasks.iter().map(|t| t.name.as_str()).collect();
        format!(
            "the configuration has no task {name:?}; it has: {}",
            known.join(", ")
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
    leadpulse_learn::parse_duration_ms(text)
        .ok_or_else(|| format!("{text:?} is not a duration; write e.g. 24h or 90d"))
}

/// Loads a bundle for a project.
pub fn load_bundle(project: &Project, dir: &Path) -> Result<Bundle> {
    Bundle::load(
        dir,
        |spec| Ok(project.feature_plan(spec.clone())),
        |name| project.catalog.table(name).map(|t| t.id),
    )
    .with_context(|| format!("the bundle {} cannot be used", dir.display()))
}

/// A number of days in words, for messages.
pub fn date(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(
        |_| ms.to_string(),
        |t| t.strftime("%Y-%m-%d %H:%M").to_string(),
    )
}
