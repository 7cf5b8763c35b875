//! The section of an epoch record about the deployed version: the release that it came from, and a
//! change of model that is not complete.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::EpochRecord;
use crate::ports::{PortCause, PortError};

/// Name of the section: JSON of a [`VersionNote`]. Epochs of a version that a start gave, without a
/// change of model, have none.
pub const VERSION_SECTION: &str = "version";

/// The deployed version of an epoch beyond its digest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionNote {
    /// Digest of the release in force; `None` for a version that was given at a start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Task → the first epoch that scored it, of tasks that a swap added. Records of older epochs
    /// are of another task of that name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tasks: BTreeMap<String, u64>,
    /// The change of model under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescoring: Option<RescoringNote>,
}

/// A change of model while not every entity has a score of the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescoringNote {
    /// The first epoch of the change. Ranks are those of the scores that stood before it.
    pub ranked_since: u64,
    /// The first epoch under the newest model: later than `ranked_since` where a change followed
    /// before the one before was complete.
    pub since: u64,
    /// Entities, counted once a task, that have no score of the newest model yet.
    pub waiting: u64,
}

impl VersionNote {
    /// The section's bytes; `None` for a note that says nothing.
    pub(crate) fn section(&self) -> Option<Vec<u8>> {
        if *self == Self::default() {
            return None;
        }
        Some(serde_json::to_vec(self).expect("a note of texts and numbers is JSON"))
    }
}

impl EpochRecord {
    /// The note about the deployed version; empty where the record has none.
    ///
    /// # Errors
    /// A section that this program cannot read.
    pub fn version_note(&self) -> Result<VersionNote, PortError> {
        let Some(section) = self.sections.get(VERSION_SECTION) else {
            return Ok(VersionNote::default());
        };
        serde_json::from_slice(section).map_err(|error| {
            PortError::fatal(
                PortCause::Unreadable,
                format!(
                    "the section \"{VERSION_SECTION}\" of epoch {} cannot be read: {error}; a newer program may have written it",
                    self.epoch
                ),
            )
        })
    }
}
