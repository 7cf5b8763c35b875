//! The releases that running workers need for a restart. Each worker writes its own file.

use serde::{Deserialize, Serialize};

use super::files::{names_in, read_text, replace_file};
use super::{ModelRegistry, ModelsError};

/// The releases of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InForce {
    /// Digest of the release that decides; `None` for a version that was given at the start.
    pub release: Option<String>,
    /// Digest of the one before: until an epoch of the new one is committed, a restart needs it.
    pub before: Option<String>,
}

impl ModelRegistry {
    /// Notes the releases that a worker needs.
    pub(crate) fn note_in_force(&self, worker: &str, needed: &InForce) -> Result<(), ModelsError> {
        let path = self
            .in_force_dir()
            .join(format!("{}.json", file_name(worker)));
        let text = serde_json::to_string(&(worker, needed));
        replace_file(
            &path,
            &text.map_err(|error| ModelsError::damaged(&path, error))?,
        )
    }

    /// The releases that a worker noted.
    pub(crate) fn in_force(&self, worker: &str) -> Result<InForce, ModelsError> {
        let path = self
            .in_force_dir()
            .join(format!("{}.json", file_name(worker)));
        let Some(text) = read_text(&path)? else {
            return Ok(InForce::default());
        };
        let read: Result<(String, InForce), _> = serde_json::from_str(&text);
        let (_, needed) = read.map_err(|error| ModelsError::damaged(&path, error))?;
        Ok(needed)
    }

    /// A worker that needs a bundle, with the release that contains it.
    pub(super) fn need_of(&self, bundle: &str) -> Result<Option<(String, String)>, ModelsError> {
        for name in names_in(&self.in_force_dir())? {
            let path = self.in_force_dir().join(&name);
            let text = read_text(&path)?.unwrap_or_default();
            let read: Result<(String, InForce), _> = serde_json::from_str(&text);
            let (worker, needed) = read.map_err(|error| ModelsError::damaged(&path, error))?;
            for digest in needed.release.into_iter().chain(needed.before) {
                if self
                    .release(&digest)
                    .is_ok_and(|release| release.bundle == bundle)
                {
                    return Ok(Some((worker, digest)));
                }
            }
        }
        Ok(None)
    }

    fn in_force_dir(&self) -> std::path::PathBuf {
        self.dir.join("in-force")
    }
}

/// The id of a worker as the name of a file.
fn file_name(worker: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '_'
        }
    };
    worker.trim_start_matches('.').chars().map(plain).collect()
}
