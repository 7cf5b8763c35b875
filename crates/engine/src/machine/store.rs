//! The machine and the store of its state: what changed is handed out, and what was stored is gone on
//! from.

use std::sync::Arc;

use leadpulse_graph::{Pieces, StoredNodes};
use leadpulse_records::{Score, ShownScore};

use super::swap::SwapError;
use super::{Machine, Unmatched, WorkerState};

impl Machine {
    /// Notes changes from now on, for [`Self::take_changes`].
    pub fn note_changes(&mut self) {
        self.state.note_changes();
    }

    /// The pieces of the state that changed since the last call: the last epoch made the last of
    /// these changes.
    pub fn take_changes(&mut self) -> Pieces {
        self.state.take_changes()
    }

    /// Lets cells be cold from now on: all that is here was handed out, or is about to be with the
    /// next changes. See [`Graph::keep_cold`](leadpulse_graph::Graph::keep_cold).
    pub fn keep_cold(&mut self, stored: Arc<dyn StoredNodes>) {
        let epoch = self.state.number;
        self.state.graph.keep_cold(stored, epoch);
    }

    /// Puts nodes of cells out of memory that `stored` or an earlier epoch changed last, until at
    /// most `most_bytes` are left. Nothing that is written depends on it.
    pub fn put_out(&mut self, stored: u64, most_bytes: usize) {
        self.state.graph.put_out(stored, most_bytes);
    }

    /// All pieces of the state, in portions.
    ///
    /// # Errors
    /// Those of `each`.
    pub fn write_portions<E>(
        &self,
        each: &mut dyn FnMut(Pieces) -> Result<(), E>,
    ) -> Result<(), E> {
        self.state.write_portions(each)
    }

    /// Takes a stored state for its own, under its own owner. The state may be of another deployed
    /// version: see [`Self::restart`].
    ///
    /// # Errors
    /// [`SwapError`] if the state cannot go on under this version. The machine stays as it was.
    pub fn adopt(&mut self, state: WorkerState) -> Result<(), SwapError> {
        self.given.shape().succeeds(state.shape)?;
        let owner = std::mem::take(&mut self.state.owner);
        self.state = WorkerState { owner, ..state };
        Ok(())
    }

    /// Applies rows only from here on, after the epoch of an adopted state.
    pub fn go_on_replaying(&mut self) {
        self.state.graph.begin_replay();
    }

    /// Goes on with an adopted state as the last committed epoch left it, if it is of the deployed
    /// version that runs now: everything that waited waits still, and nothing else. `false` for
    /// another version, and for a state that was stored after a restart: then [`Self::restart`] is
    /// due.
    pub fn resume(&mut self) -> bool {
        let is_ours = self.state.deployed == self.given.digest();
        self.state.is_resumed = is_ours && !self.state.is_restarted;
        self.state.is_resumed
    }

    /// The view of a stored score record, whose explanation the state has.
    ///
    /// # Errors
    /// [`Unmatched`] if there is no such task or entity.
    pub fn show_score(&self, record: &Score) -> Result<ShownScore, Unmatched> {
        let (_, _, table) = self.named(&record.task, &record.entity_type, &record.entity_id)?;
        Ok(self.shown(record, table))
    }
}
