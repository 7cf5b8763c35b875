//! The journal of who belonged to whom: for readers that ask about the past.
//!
//! The graph knows homes as they are now. A label asks whose an entity was at the time of an event,
//! so a walk through history keeps the changes with the rows that made them.

use crate::ids::EntityId;
use crate::who::home::RootFoundBy;

/// A change of homes or identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// An entity has a home from now on, perhaps the one that it had.
    Home {
        entity: EntityId,
        /// `None` where it stands alone.
        home: Option<EntityId>,
        found_by: RootFoundBy,
    },
    /// The first became the second.
    Link(EntityId, EntityId),
}

/// The changes that the rows of a batch made, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    is_kept: bool,
    row: u32,
    changes: Vec<(u32, Change)>,
}

impl Journal {
    /// Keeps changes from now on.
    pub fn keep(&mut self) {
        self.is_kept = true;
    }
    /// Names the row of the batch that makes the changes to come.
    pub fn at_row(&mut self, row: u32) {
        self.row = row;
    }
    pub fn note(&mut self, change: Change) {
        if self.is_kept {
            self.changes.push((self.row, change));
        }
    }
    /// The changes since the last call, each with the index of its row in the batch.
    pub fn take(&mut self) -> Vec<(u32, Change)> {
        std::mem::take(&mut self.changes)
    }
}
