//! Refusals of the registry of models.

use std::io;
use std::path::{Path, PathBuf};

use leadpulse_model::BundleError;

use super::Alias;

/// A registry of models that refuses something, or cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// A file cannot be read or written.
    #[error("cannot {action} {path}; check that the folder exists and may be accessed", path = path.display())]
    Io {
        /// The attempt: `read`, `write` or `remove`.
        action: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file is not what the registry wrote.
    #[error("{path} cannot be read: {reason}; restore it from a backup, or remove it", path = path.display())]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// The fault, in words.
        reason: String,
    },
    /// A bundle was changed after it was added.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The configuration names no folder for models.
    #[error(
        "{path} names no registry of models; set models.dir, or give a bundle with --model",
        path = path.display()
    )]
    NoRegistry {
        /// The configuration.
        path: PathBuf,
    },
    /// No bundle has this name.
    #[error(
        "there is no model {name:?} in {dir} (there is: {known}); add it with `leadpulse models add BUNDLE`",
        dir = dir.display()
    )]
    NoSuchModel {
        name: String,
        /// Folder of the registry.
        dir: PathBuf,
        /// Ids that exist, with commas between.
        known: String,
    },
    /// Several bundles have ids that start like this.
    #[error("{name:?} may be any of {meant}; give more characters of the id")]
    Ambiguous {
        name: String,
        /// Ids that start like this, with commas between.
        meant: String,
    },
    /// A name stands for nothing.
    #[error(
        "the registry {dir} has no {alias}; make one with `leadpulse models promote NAME`, or give a bundle with --model",
        dir = dir.display()
    )]
    NoAlias {
        alias: Alias,
        /// Folder of the registry.
        dir: PathBuf,
    },
    /// The quality gate refuses a bundle.
    #[error(
        "{bundle} ranks {task} worse than chance, so it is not promoted; look at it with `leadpulse models show {bundle}`, \
         or promote it all the same with --force"
    )]
    WorseThanChance {
        /// Id of the bundle.
        bundle: String,
        /// The first task that is worse than chance.
        task: String,
    },
    /// No other champion came before.
    #[error(
        "no other champion came before this one in {dir}; promote a model by its name",
        dir = dir.display()
    )]
    NoChampionBefore {
        /// Folder of the registry.
        dir: PathBuf,
    },
    /// A bundle has a name, so it stays.
    #[error("{bundle} is the {alias}; promote another one before you remove it")]
    HasName {
        /// Id of the bundle.
        bundle: String,
        alias: Alias,
    },
    /// A worker needs a bundle for its next start.
    #[error(
        "{bundle} is needed by the worker {worker}: a restart goes on under release {release}; promote another one with \
         --live, and remove this one after two more swaps"
    )]
    InForce {
        /// Id of the bundle.
        bundle: String,
        /// Id of the worker.
        worker: String,
        /// Digest of the release that the worker needs.
        release: String,
    },
    /// A release is not there.
    #[error(
        "there is no release {digest} in {dir}; put its file back, or make a new one with `leadpulse apply`",
        dir = dir.display()
    )]
    NoSuchRelease {
        /// Digest of the release.
        digest: String,
        /// Folder of the registry.
        dir: PathBuf,
    },
}

impl ModelsError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
    pub(crate) fn damaged(path: &Path, reason: impl ToString) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}
