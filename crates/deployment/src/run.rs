//! `leadpulse run`, without its arguments and its printing.

use std::path::PathBuf;
use std::sync::Arc;

use leadpulse_engine::{ClockMode, Skip, Until};
use leadpulse_server::SimulatorDesk;

use crate::deployment::{Assembly, Cluster, Deployment, load_bundle};
use crate::error::DeployError;
use crate::loaded::Loaded;
use crate::signals::stop_on_signal;

/// Settings of one run, beside the configuration.
pub struct RunSettings {
    /// Folder of the bundle.
    pub model: PathBuf,
    /// `End` scores what the topics hold now; `Stopped` goes on until Ctrl-C.
    pub until: Until,
    /// Damaged places of input partitions to leave out.
    pub skips: Vec<Skip>,
    /// Serves HTTP as `[server]` says.
    pub http: bool,
    /// Simulates alerts for the API; `None` for a process without a history.
    pub simulator: Option<SimulatorDesk>,
}

/// Starts a configuration on its real cluster.
///
/// # Errors
/// The configuration or the bundle cannot be used, or a part of the deployment cannot be made.
pub fn run(mut loaded: Loaded, settings: RunSettings) -> Result<Deployment, DeployError> {
    if settings.until == Until::End {
        // History is scored as of its own end, not as of today.
        loaded.config.engine.clock = ClockMode::Events;
    }
    loaded.skips = settings.skips;
    let project = loaded.project()?;
    let bundle = Arc::new(load_bundle(&project, &settings.model)?);
    let http = settings.http.then_some(&loaded.config.server);
    let assembly = Assembly {
        loaded: &loaded,
        project: &project,
        scorer: bundle,
        simulator: settings.simulator,
    };
    assembly.start(Cluster::Real, settings.until, http, stop_on_signal()?)
}
