//! Memory of versions that nodes do not hold: the newest version of each entity of a table with a
//! version field, deletions included, and the hubs that a row of their own has described.
//!
//! Entities need it because a deletion clears the row: an older version that arrives afterwards
//! must not bring the entity back. With versions on all rows, the newest one wins in any order.
//!
//! Decision: docs/decisions/0029-versions-win-deletions-keep-theirs.md

use serde::{Deserialize, Serialize};

use leadpulse_schema::Version;

use crate::apply::outcome::{Described, RowOutcome};
use crate::ids::EntityId;
use crate::pieces::KeptMap;

/// The newest version of an entity.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NewestVersion {
    version: Version,
    is_deletion: bool,
}

/// Newest versions by entity, and described hubs.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewestVersions {
    pub(crate) entities: KeptMap<EntityId, NewestVersion>,
    /// By hub with a row of its own: false once it was deleted.
    pub(crate) hubs: KeptMap<EntityId, bool>,
}

impl NewestVersions {
    /// Notes a version of an entity. Returns `false` for a stale one: older than the newest, or not
    /// newer than the deletion that is the newest. A row without a version follows the log's order.
    pub fn note(&mut self, entity: EntityId, version: Option<Version>) -> bool {
        let Some(version) = version else {
            return true;
        };
        if let Some(newest) = self.entities.get(&entity) {
            let is_stale = if newest.is_deletion {
                version <= newest.version
            } else {
                version < newest.version
            };
            if is_stale {
                return false;
            }
        }
        let newest = NewestVersion {
            version,
            is_deletion: false,
        };
        self.entities.insert(entity, newest);
        true
    }

    /// Notes a deletion of an entity. Returns `false` for a stale one: older than the newest
    /// version. Of equal versions the deletion wins, because the last image of a deleted row
    /// carries the version of the row. A deletion without a version deletes what the log has
    /// brought so far: the newest version becomes its own.
    pub fn note_deletion(&mut self, entity: EntityId, version: Option<Version>) -> bool {
        match (self.entities.get_mut(&entity), version) {
            (Some(newest), Some(version)) if version < newest.version => return false,
            (Some(newest), version) => {
                newest.is_deletion = true;
                newest.version = version.unwrap_or_else(|| newest.version.clone());
            }
            (None, Some(version)) => {
                let newest = NewestVersion {
                    version,
                    is_deletion: true,
                };
                self.entities.insert(entity, newest);
            }
            (None, None) => {}
        }
        true
    }

    /// True if the newest version of an entity is a deletion.
    pub fn is_deleted(&self, entity: EntityId) -> bool {
        self.entities
            .get(&entity)
            .is_some_and(|newest| newest.is_deletion)
    }

    /// Notes a row of a hub.
    pub fn describe_hub(&mut self, hub: EntityId) {
        self.hubs.insert(hub, true);
    }

    /// Notes the deletion of a hub's row. Its neighbours keep naming it, so the hub itself stays.
    pub fn delete_hub(&mut self, hub: EntityId) -> RowOutcome {
        RowOutcome::of_deletion(match self.hubs.get_mut(&hub).map(std::mem::take) {
            None => Described::Never,
            Some(false) => Described::Before,
            Some(true) => Described::Now,
        })
    }

    /// Bytes on the heap, roughly.
    pub fn heap_bytes(&self) -> usize {
        self.entities.capacity() * size_of::<(EntityId, NewestVersion)>()
            + self.hubs.capacity() * size_of::<(EntityId, bool)>()
    }
}
