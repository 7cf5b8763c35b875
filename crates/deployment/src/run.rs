//! `leadpulse run`, without its arguments and its printing.

use std::path::PathBuf;
use std::sync::Arc;

use leadpulse_engine::{ClockMode, Skip, Until};
use leadpulse_server::HistoryDesk;

use leadpulse_model::Bundle;
use leadpulse_project::Project;

use crate::deployment::{Assembly, Cluster, Deployment, VersionOrigin, load_bundle};
use crate::error::DeployError;
use crate::loaded::Loaded;
use crate::models::ModelRegistry;
use crate::release::Release;
use crate::signals::stop_on_signal;

/// The bundle that a worker starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelChoice {
    /// The bundle in a folder: it decides, whatever the last epoch was decided under.
    Folder(PathBuf),
    /// The release of the last epoch, or else the configuration with the champion of the registry.
    Registry,
    /// The configuration with the champion, whatever the last epoch was decided under.
    RegistryAnew,
}

/// A bundle with its origin.
pub struct ChosenModel {
    /// The bundle.
    pub bundle: Bundle,
    /// The registry of models, if the configuration names one.
    pub registry: Option<ModelRegistry>,
    /// The origin of the version that it makes with the configuration.
    pub origin: VersionOrigin,
    /// The release that it makes with the configuration; `None` for a bundle in a folder.
    pub release: Option<Release>,
}

impl ModelChoice {
    /// Loads the bundle.
    ///
    /// # Errors
    /// No registry or champion where one is needed; a bundle that cannot be used.
    pub fn load(&self, loaded: &Loaded, project: &Project) -> Result<ChosenModel, DeployError> {
        if let Self::Folder(dir) = self {
            return Ok(ChosenModel {
                bundle: load_bundle(project, dir)?.with_forward(loaded.config.engine.forward),
                registry: loaded.models().ok(),
                origin: VersionOrigin::Given,
                release: None,
            });
        }
        let registry = loaded.models()?;
        let id = registry.champion()?.manifest.bundle_id;
        let bundle = load_bundle(project, &registry.bundle_dir(&id))?;
        let bundle = bundle.with_forward(loaded.config.engine.forward);
        let release = Release::of(loaded, &project.catalog, &id);
        let origin = match self {
            Self::RegistryAnew => VersionOrigin::Anew(release.digest()),
            _ => VersionOrigin::Release(release.digest()),
        };
        Ok(ChosenModel {
            bundle,
            registry: Some(registry),
            origin,
            release: Some(release),
        })
    }
}

/// Settings of one run, beside the configuration.
pub struct RunSettings {
    /// The bundle to decide with.
    pub model: ModelChoice,
    /// `End` scores what the topics hold now; `Stopped` goes on until Ctrl-C.
    pub until: Until,
    /// Damaged places of input partitions to leave out.
    pub skips: Vec<Skip>,
    /// Serves HTTP as `[server]` says.
    pub http: bool,
    /// Jobs on the files of a past for the API; `None` for a process without any.
    pub history: Option<HistoryDesk>,
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
    let chosen = settings.model.load(&loaded, &project)?;
    if let (Some(registry), Some(release)) = (&chosen.registry, &chosen.release) {
        // A restart needs it, once an epoch names it.
        registry.store(release)?;
    }
    let http = settings.http.then_some(&loaded.config.server);
    let assembly = Assembly {
        loaded: &loaded,
        project: &project,
        scorer: Arc::new(chosen.bundle),
        history: settings.history,
        registry: chosen.registry,
        origin: chosen.origin,
    };
    assembly.start(Cluster::Real, settings.until, http, stop_on_signal()?)
}
