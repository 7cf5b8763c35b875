//! Changes of the champion, with or without a running worker that is asked to follow.

use leadpulse_engine::ports::Clock;

use crate::clock::SystemClock;
use crate::control::{ControlRecord, ask};
use crate::deployment::load_bundle;
use crate::error::DeployError;
use crate::loaded::Loaded;
use crate::models::{Change, LogEntry, ModelRegistry};
use crate::release::Release;

/// A change of the champion that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promotion {
    /// Line of the registry's log.
    pub entry: LogEntry,
    /// Digest of the release that the running worker was asked for; `None` if nobody asked it.
    pub release: Option<String>,
}

/// A change of now by somebody.
pub fn change_by(by: String) -> Change {
    Change {
        by,
        at_ms: SystemClock.wall_ms(),
    }
}

/// Makes a bundle the champion, by its id, the start of it, or a name. With `live` the running worker
/// is asked to go on under it, once the bundle was checked.
///
/// # Errors
/// A bundle that does not exist, does not fit, or is worse than chance without `force`.
/// [`DeployError::NotAsked`] if the champion is changed and the worker was not asked.
pub fn promote(
    loaded: &Loaded,
    name: &str,
    (force, live): (bool, bool),
    change: &Change,
) -> Result<Promotion, DeployError> {
    let registry = loaded.models()?;
    let id = registry.find(name)?.manifest.bundle_id;
    if !live {
        let entry = registry.promote(&id, force, change)?;
        return Ok(Promotion {
            entry,
            release: None,
        });
    }
    // The release is checked before the name changes.
    let release = checked_release(loaded, &registry, &id)?;
    let entry = registry.promote(&id, force, change)?;
    let asked = ask_for(loaded, &registry, &release, change);
    let release = asked.map_err(|source| DeployError::NotAsked(Box::new(source)))?;
    Ok(Promotion {
        entry,
        release: Some(release),
    })
}

/// Makes the champion before this one the champion again; with `live` the running worker is asked to
/// go on under it.
///
/// # Errors
/// As [`promote`], and no champion before.
pub fn roll_back(loaded: &Loaded, live: bool, change: &Change) -> Result<Promotion, DeployError> {
    let registry = loaded.models()?;
    let entry = registry.roll_back(change)?;
    if !live {
        return Ok(Promotion {
            entry,
            release: None,
        });
    }
    let release = checked_release(loaded, &registry, &entry.bundle);
    let asked = release.and_then(|release| ask_for(loaded, &registry, &release, change));
    let release = asked.map_err(|source| DeployError::NotAsked(Box::new(source)))?;
    Ok(Promotion {
        entry,
        release: Some(release),
    })
}

/// Asks the running worker to go on under the champion and the configuration as it is now. Returns the
/// digest of the release.
///
/// # Errors
/// No champion, one that does not fit, or a cluster that refuses the request.
pub fn apply_champion(loaded: &Loaded, change: &Change) -> Result<String, DeployError> {
    let registry = loaded.models()?;
    let id = registry.champion()?.manifest.bundle_id;
    let release = checked_release(loaded, &registry, &id)?;
    ask_for(loaded, &registry, &release, change)
}

/// The release of the configuration with a bundle of the registry that fits it.
fn checked_release(
    loaded: &Loaded,
    registry: &ModelRegistry,
    id: &str,
) -> Result<Release, DeployError> {
    let project = loaded.project()?;
    load_bundle(&project, &registry.bundle_dir(id))?;
    Ok(Release::of(loaded, &project.catalog, id))
}

/// Asks the worker of a configuration to go on under a release.
fn ask_for(
    loaded: &Loaded,
    registry: &ModelRegistry,
    release: &Release,
    change: &Change,
) -> Result<String, DeployError> {
    let digest = registry.store(release)?;
    let record = ControlRecord {
        release: digest.clone(),
        by: change.by.clone(),
        at_ms: change.at_ms,
    };
    ask(&loaded.config.kafka, &record)?;
    Ok(digest)
}
