//! The moves between two epochs: another deployed version for the same state, or the same state in
//! another machine.

use std::sync::Arc;

use super::deployed::StateShape;
use super::{Deployed, Machine, WorkerState};

/// Reasons why a state cannot go on under a deployed version. A restart can: it builds the state
/// anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SwapError {
    /// The input schemas differ: rows of the graph are of the others.
    #[error("the input schemas are not those that the graph was built with; restart the worker")]
    OtherSchemas,
    /// The graph options differ: they shape the memory of every node.
    #[error("the graph options are not those that the graph was built with; restart the worker")]
    OtherGraphOptions,
    /// Tasks, their tables or their populations differ: memory is kept by task, and timers follow
    /// populations.
    #[error(
        "the tasks or their populations are not those of the running version; restart the worker"
    )]
    OtherTasks,
    /// The state was made under another deployed version.
    #[error(
        "the state was made under the deployed version {made}, not under {given}; resume it there, then replace that version"
    )]
    OtherVersion {
        /// Digest of the version that the state was made under.
        made: String,
        /// Digest of the version that it was to go on under.
        given: String,
    },
}

impl Machine {
    /// Decides the next epochs under another deployed version. An equal one changes nothing. Under
    /// a different one every cell waits
    /// to be scored again, as after a restart; scores of another bundle fire no crossings.
    ///
    /// # Errors
    /// [`SwapError`] if the state cannot go on under it. The machine stays as it was.
    pub fn replace(&mut self, given: Arc<Deployed>) -> Result<(), SwapError> {
        given.shape().succeeds(self.given.shape())?;
        let before = std::mem::replace(&mut self.given, given);
        if before.digest() == self.given.digest() {
            return Ok(());
        }
        let swapped = before.bundle_id() != self.given.bundle_id();
        if swapped {
            // Contributions of another bundle explain nothing of this one's scores.
            self.state.explained.clear();
        }
        self.restart(swapped);
        Ok(())
    }

    /// Separates the given from the known, between two epochs.
    pub fn into_parts(self) -> (Arc<Deployed>, WorkerState) {
        (self.given, self.state)
    }

    /// Goes on with a state that another machine made under an equal deployed version.
    ///
    /// # Errors
    /// [`SwapError::OtherVersion`] if the version is not equal.
    pub fn from_parts(given: Arc<Deployed>, state: WorkerState) -> Result<Self, SwapError> {
        if given.digest() != state.deployed {
            return Err(SwapError::OtherVersion {
                made: state.deployed,
                given: given.digest().to_owned(),
            });
        }
        Ok(Self { given, state })
    }
}

impl StateShape {
    /// Checks that a state of the shape `before` can go on under a version of this shape.
    pub(super) fn succeeds(self, before: StateShape) -> Result<(), SwapError> {
        if self.schemas != before.schemas {
            return Err(SwapError::OtherSchemas);
        }
        if self.graph_options != before.graph_options {
            return Err(SwapError::OtherGraphOptions);
        }
        if self.tasks != before.tasks {
            return Err(SwapError::OtherTasks);
        }
        Ok(())
    }
}
