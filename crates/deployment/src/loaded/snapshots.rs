//! The place of snapshots: a folder beside the configuration, or an object store.

use std::path::Path;

use leadpulse_store::SnapshotPlace;

use crate::error::DeployError;
use crate::loaded::Loaded;

impl Loaded {
    /// The place of snapshots; `None` where none are made.
    ///
    /// # Errors
    /// A folder that cannot be made; a store that the program was built without, or without
    /// credentials.
    pub fn snapshots(&self) -> Result<Option<SnapshotPlace>, DeployError> {
        let options = &self.config.store.snapshots;
        let Some(to) = &options.to else {
            return Ok(None);
        };
        if to.contains("://") {
            return in_store(to, options.keep).map(Some);
        }
        let dir = self.path.parent().unwrap_or(Path::new(".")).join(to);
        Ok(Some(SnapshotPlace::in_folder(&dir, options.keep)?))
    }
}

#[cfg(any(feature = "s3", feature = "gs", feature = "az"))]
fn in_store(url: &str, keep: usize) -> Result<SnapshotPlace, DeployError> {
    let (store, path) = leadpulse_history::object_store_at(url)?;
    Ok(SnapshotPlace::in_store(store, path, url, keep)?)
}

#[cfg(not(any(feature = "s3", feature = "gs", feature = "az")))]
fn in_store(url: &str, _: usize) -> Result<SnapshotPlace, DeployError> {
    Err(leadpulse_history::store_not_built(url).into())
}
