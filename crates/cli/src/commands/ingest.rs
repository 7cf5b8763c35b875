//! `leadpulse ingest`

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;

use leadpulse_deployment::{ingest, stop_on_signal};

use crate::commands::ClusterArguments;

/// Time between two looks at whether to stop.
const LOOK: Duration = Duration::from_millis(100);

/// Arguments of `ingest`.
#[derive(clap::Args)]
pub struct IngestArguments {
    #[command(flatten)]
    cluster: ClusterArguments,
}

impl IngestArguments {
    pub fn run(self) -> Result<()> {
        let loaded = self.cluster.load()?;
        let stop = stop_on_signal()?;
        let server = ingest(&loaded)?;
        tracing::info!("http://{}", server.address());
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK);
        }
        server.stop()?;
        Ok(())
    }
}
