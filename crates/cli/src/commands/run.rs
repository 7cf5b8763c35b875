//! `leadpulse run`

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use serde_json::{Value, json};

use leadpulse_deployment::{Loaded, ModelChoice, RunSettings};
use leadpulse_engine::{RunSummary, Skip, Until};
use leadpulse_server::HistoryDesk;

use crate::commands::ClusterArguments;
use crate::history_jobs::FileJobs;
use crate::output::JsonArgument;

/// Arguments of `run`.
#[derive(clap::Args)]
pub struct RunArguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Folder of the bundle. By default the release of the last epoch, or else the champion of the
    /// registry of models.
    #[arg(long)]
    model: Option<PathBuf>,
    /// The configuration as it is now with the champion, whatever the last epoch was decided under.
    #[arg(long, conflicts_with = "model")]
    anew: bool,
    /// Process what the topics hold now, close with one tick at the next board, and end: batch
    /// scoring.
    #[arg(long)]
    until_end: bool,
    /// A damaged place of an input partition to leave out, as TOPIC/PARTITION@OFFSET: up to the
    /// next offset that can be read. The decision is recorded with the epoch.
    #[arg(long, value_parser = parse_skip)]
    skip: Vec<Skip>,
    /// No HTTP.
    #[arg(long)]
    no_http: bool,
    /// Folder with the sources' files, for simulations of alerts, labels of queries and backtests over
    /// HTTP.
    #[arg(long, value_name = "DIR")]
    history: Option<PathBuf>,
    #[command(flatten)]
    json: JsonArgument,
}

fn parse_skip(text: &str) -> Result<Skip, String> {
    let parse = || {
        let (place, offset) = text.rsplit_once('@')?;
        let (topic, partition) = place.rsplit_once('/')?;
        Some(Skip {
            topic: topic.to_owned(),
            partition: partition.parse().ok()?,
            offset: offset.parse().ok()?,
        })
    };
    parse().ok_or_else(|| {
        format!(
            "{text:?} is not a place; write TOPIC/PARTITION@OFFSET, as /readyz and the log name it"
        )
    })
}

impl RunArguments {
    pub fn run(self) -> Result<()> {
        self.json.begin();
        let loaded = self.cluster.load()?;
        let model = match (self.model, self.anew) {
            (Some(dir), _) => ModelChoice::Folder(dir),
            (None, true) => ModelChoice::RegistryAnew,
            (None, false) => ModelChoice::Registry,
        };
        let history = match self.history {
            Some(data) => Some(history_jobs(self.cluster.path(), data, &model, &loaded)?),
            None => None,
        };
        let settings = RunSettings {
            history,
            model,
            until: if self.until_end {
                Until::End
            } else {
                Until::Stopped
            },
            skips: self.skip,
            http: !self.no_http,
        };
        let deployment = leadpulse_deployment::run(loaded, settings)?;
        if let Some(address) = deployment.address() {
            tracing::info!("http://{address}");
        }
        let summary = deployment.join()?;
        show(&summary);
        self.json.print(|| Ok(figures(&summary)))
    }
}

/// Jobs on a folder's files with the bundle that the run starts with.
fn history_jobs(
    config: &Path,
    data: PathBuf,
    model: &ModelChoice,
    loaded: &Loaded,
) -> Result<HistoryDesk> {
    let dir = match model {
        ModelChoice::Folder(dir) => dir.clone(),
        ModelChoice::Registry | ModelChoice::RegistryAnew => {
            let registry = loaded.models()?;
            registry.bundle_dir(&registry.champion()?.manifest.bundle_id)
        }
    };
    let jobs = FileJobs::new(config.to_owned(), data, dir);
    Ok(HistoryDesk::new(Arc::new(jobs)))
}

/// The counts of a run, as JSON.
pub fn figures(summary: &RunSummary) -> Value {
    json!({
        "replayed_epochs": summary.replayed_epochs,
        "epochs": summary.epochs,
        "records": summary.records,
        "accepted": summary.accepted,
        "duplicate": summary.duplicate,
        "dead_lettered": summary.dead_lettered,
        "unchanged": summary.unchanged,
        "scores": summary.scores,
        "alerts": summary.alerts,
    })
}

/// Prints the counts of a run.
fn show(summary: &RunSummary) {
    say!(
        "epochs       {} ({} replayed)",
        summary.epochs,
        summary.replayed_epochs
    );
    say!(
        "records      {} = {} accepted + {} duplicate + {} dead-lettered + {} without effect",
        summary.records,
        summary.accepted,
        summary.duplicate,
        summary.dead_lettered,
        summary.unchanged
    );
    say!("scores       {}", summary.scores);
    say!("alerts       {}", summary.alerts);
}
