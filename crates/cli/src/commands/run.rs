//! `leadpulse run`

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;

use leadpulse_engine::{ClockMode, Skip, Until};

use crate::commands::{ClusterArguments, load_bundle};
use leadpulse_deployment::{Cluster, Deployment, stop_on_signal};

/// Arguments of `run`.
#[derive(clap::Args)]
pub struct Run {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Folder of the bundle.
    #[arg(long)]
    model: PathBuf,
    /// Process what the topics hold now, close with one tick at the next board, and end: batch scoring.
    #[arg(long)]
    until_end: bool,
    /// A damaged place of an input partition to leave out, as TOPIC/PARTITION@OFFSET: up to the next offset that can be read. The decision is
    /// recorded with the epoch.
    #[arg(long, value_parser = parse_skip)]
    skip: Vec<Skip>,
    /// No HTTP.
    #[arg(long)]
    no_http: bool,
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

impl Run {
    pub fn run(self) -> Result<()> {
        let mut loaded = self.cluster.load()?;
        if self.until_end {
            // History is scored as of its own end, not as of today.
            loaded.config.engine.clock = ClockMode::Events;
        }
        loaded.skips = self.skip;
        let project = loaded.project()?;
        let bundle = Arc::new(load_bundle(&project, &self.model)?);
        let until = if self.until_end {
            Until::End
        } else {
            Until::Stopped
        };
        let server = loaded.config.server.clone();
        let http = (!self.no_http).then_some(&server);
        let deployment = Deployment::start(
            &loaded,
            &project,
            bundle,
            Cluster::Real,
            until,
            http,
            stop_on_signal()?,
        )?;
        if let Some(address) = deployment.address() {
            tracing::info!("http://{address}");
        }
        let summary = deployment.join()?;
        say!(
            "epochs       {} ({} replayed)",
            summary.epochs,
            summary.replayed_epochs
        );
        say!(
            "records      {} = {} accepted + {} duplicate + {} dead-lettered",
            summary.records,
            summary.accepted,
            summary.duplicate,
            summary.dead_lettered
        );
        say!("scores       {}", summary.scores);
        say!("alerts       {}", summary.alerts);
        Ok(())
    }
}
