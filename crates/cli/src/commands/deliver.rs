//! `leadpulse deliver`

use anyhow::Result;

use leadpulse_deployment::stop_on_signal;

use crate::commands::ClusterArguments;

/// Arguments of `deliver`.
#[derive(clap::Args)]
pub struct DeliverArguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// No probes and no metrics over HTTP.
    #[arg(long)]
    no_http: bool,
}

impl DeliverArguments {
    pub fn run(self) -> Result<()> {
        let loaded = self.cluster.load()?;
        let stop = stop_on_signal()?;
        let delivery = leadpulse_deployment::deliver(&loaded, !self.no_http, &stop)?;
        if let Some(address) = delivery.address() {
            tracing::info!("http://{address}");
        }
        delivery.join()?;
        Ok(())
    }
}
