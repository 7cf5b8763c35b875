//! A release: the parts of a configuration that a running worker can change, with a bundle. It is
//! stored under its digest in the registry of models, and a control record names it.
//!
//! A release does not hold schemas, sources, topics and addresses: those are the worker's own. It
//! names the schemas it was made for, and holds the graph options, so that a worker of others refuses
//! it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use leadpulse_engine::EngineOptions;
use leadpulse_graph::GraphOptions;
use leadpulse_policy::WorkListOptions;
use leadpulse_project::Project;
use leadpulse_schema::{Catalog, hex};

use crate::config::{AlertConfig, TaskConfig};
use crate::config_error::ConfigError;
use crate::error::DeployError;
use crate::loaded::Loaded;
use crate::models::{ModelRegistry, ModelsError};

/// The format of releases that is written and read.
const FORMAT: u32 = 1;
/// Characters of a digest.
const DIGEST_CHARACTERS: usize = 16;

/// A configuration with a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Format of the file.
    format: u32,
    /// Id of the bundle.
    pub bundle: String,
    /// Fingerprint of the input schemas.
    schemas: String,
    /// Named targets that queries may use.
    targets: BTreeMap<String, String>,
    /// Predictions with their policies, in order; without what training alone reads.
    tasks: Vec<TaskConfig>,
    graph: GraphOptions,
    budgets: Budgets,
    alerts: AlertConfig,
    worklist: WorkListOptions,
}

/// The settings of the epoch loop that a version holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budgets {
    soft_budget: usize,
    explain_budget: usize,
    explain_top: usize,
    tick_ms: u64,
}

impl Release {
    /// The release of a configuration with a bundle.
    pub fn of(loaded: &Loaded, catalog: &Catalog, bundle: &str) -> Self {
        let config = &loaded.config;
        let without_training = |task: &TaskConfig| TaskConfig {
            anchors: Default::default(),
            lateness: None,
            fit: Default::default(),
            ..task.clone()
        };
        let EngineOptions {
            soft_budget,
            explain_budget,
            explain_top,
            tick_ms,
            ..
        } = config.engine;
        Self {
            format: FORMAT,
            bundle: bundle.to_owned(),
            schemas: catalog.fingerprint(),
            targets: config.targets.clone(),
            tasks: config.tasks.iter().map(without_training).collect(),
            graph: config.graph.clone(),
            budgets: Budgets {
                soft_budget,
                explain_budget,
                explain_top,
                tick_ms,
            },
            alerts: config.alerts.clone(),
            worklist: config.worklist.clone(),
        }
    }

    /// The file's text.
    fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self)
            .expect("options with texts as keys and finite numbers are JSON");
        text.push('\n');
        text
    }

    /// The digest that names the release: the start of the SHA-256 of its file, hexadecimal.
    pub fn digest(&self) -> String {
        digest_of(&self.text())
    }

    /// A worker's configuration with the parts of this release.
    ///
    /// # Errors
    /// A release for other schemas or graph options than the worker's; settings that contradict each
    /// other.
    pub(crate) fn onto(self, loaded: &Loaded, catalog: &Catalog) -> Result<Loaded, DeployError> {
        if self.schemas != catalog.fingerprint() {
            return Err(DeployError::ReleaseOfOthers { what: "schemas" });
        }
        if self.graph != loaded.config.graph {
            return Err(DeployError::ReleaseOfOthers {
                what: "graph options",
            });
        }
        let mut changed = loaded.clone();
        let config = &mut changed.config;
        config.targets = self.targets;
        config.tasks = self.tasks;
        config.alerts = self.alerts;
        config.worklist = self.worklist;
        let Budgets {
            soft_budget,
            explain_budget,
            explain_top,
            tick_ms,
        } = self.budgets;
        config.engine = EngineOptions {
            soft_budget,
            explain_budget,
            explain_top,
            tick_ms,
            ..config.engine.clone()
        };
        match changed.faults().into_iter().next() {
            Some(fault) => Err(fault.into()),
            None => Ok(changed),
        }
    }
}

/// Digest of a release's file.
fn digest_of(text: &str) -> String {
    let mut digest = hex(&Sha256::digest(text.as_bytes()));
    digest.truncate(DIGEST_CHARACTERS);
    digest
}

impl ModelRegistry {
    /// Stores a release, unless it is there. Returns its digest.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn store(&self, release: &Release) -> Result<String, ModelsError> {
        let digest = release.digest();
        let file = self.release_file(&digest);
        if !file.exists() {
            crate::models::replace_file(&file, &release.text())?;
        }
        Ok(digest)
    }

    /// The release of a digest.
    ///
    /// # Errors
    /// There is none, or its file was changed.
    pub fn release(&self, digest: &str) -> Result<Release, ModelsError> {
        let file = self.release_file(digest);
        let text = crate::models::read_text(&file)?.ok_or_else(|| ModelsError::NoSuchRelease {
            digest: digest.to_owned(),
            dir: self.dir().to_owned(),
        })?;
        let found = digest_of(&text);
        if found != digest {
            let reason = format!("its digest is {found}, its name says {digest}");
            return Err(ModelsError::damaged(&file, reason));
        }
        serde_json::from_str(&text).map_err(|error| ModelsError::damaged(&file, error))
    }

    /// Every release that can be read, by digest.
    pub(crate) fn releases(&self) -> Result<Vec<Release>, ModelsError> {
        let names = crate::models::names_in(&self.dir().join("releases"))?;
        let digests = names.iter().filter_map(|name| name.strip_suffix(".json"));
        Ok(digests
            .filter_map(|digest| self.release(digest).ok())
            .collect())
    }
}

impl Loaded {
    /// The registry of models.
    ///
    /// # Errors
    /// The configuration names none.
    pub fn models(&self) -> Result<ModelRegistry, ModelsError> {
        match &self.config.models.dir {
            Some(dir) => {
                let base = self.path.parent().unwrap_or(Path::new("."));
                Ok(ModelRegistry::at(&base.join(dir)))
            }
            None => Err(ModelsError::NoRegistry {
                path: self.path.clone(),
            }),
        }
    }

    /// Graph options and planned tasks on a catalog.
    ///
    /// # Errors
    /// A graph option or query that does not fit it.
    pub(crate) fn project_on(&self, catalog: Arc<Catalog>) -> Result<Project, ConfigError> {
        self.config.graph.fits(&catalog)?;
        Ok(Project::new(
            catalog,
            self.config.graph.clone(),
            &self.task_sources(),
            &self.config.targets,
        )?)
    }
}
