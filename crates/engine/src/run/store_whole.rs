//! A whole state is stored at a start without one. Where the disk refuses it, epochs go on, and it
//! is tried again.

use std::time::Duration;

use rustc_hash::FxHashSet;

use leadpulse_graph::Pieces;

use super::stored::ScoreName;
use super::{Engine, RunError};
use crate::ports::{Nonce, Output, SealedEpoch, StateStore, StoreError, StoreHead};

/// Pause before a failed whole state is tried again; doubled each time.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// The longest pause: epochs wait while a state is written, which may take as long as a start.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A whole state that could not be stored, while epochs go on.
pub(super) struct WholeToStore {
    /// The time of the next try, by the clock's elapsed time.
    due: Duration,
    pause: Duration,
    /// Nonce of the last committed epoch.
    nonce: Nonce,
    /// Scores that were shown since the start.
    shown: FxHashSet<ScoreName>,
}

impl WholeToStore {
    /// After the first failure.
    pub fn begun(now: Duration, nonce: Nonce) -> Self {
        Self {
            due: now + AGAIN_AFTER,
            pause: AGAIN_AFTER,
            nonce,
            shown: FxHashSet::default(),
        }
    }
}

impl Engine {
    /// Notes a committed epoch that the store does not get by itself, because the whole state is to
    /// be stored first.
    pub(super) fn note_not_stored(&mut self, sealed: &SealedEpoch, shown: &[ScoreName]) {
        let Some(behind) = &mut self.stored.behind else {
            return;
        };
        behind.nonce = sealed.nonce;
        behind.shown.extend(shown.iter().cloned());
        for record in &sealed.outputs {
            if let (Output::CurrentScores, Some(key)) = (record.output, &record.key) {
                let value = record.value.as_ref().map(|value| value.to_vec());
                self.stored.newer_scores.insert(key.to_vec(), value);
            }
        }
        let written = self.ports.sink.written();
        self.stored.outputs.note_all(&written);
    }

    /// Tries to store the whole state again, once it is time. What is committed is the state then.
    ///
    /// # Errors
    /// Those of the commit that is waited for.
    pub(super) fn store_whole_if_due(&mut self) -> Result<(), RunError> {
        let now = self.elapsed();
        if self.stored.behind.as_ref().is_none_or(|it| now < it.due) {
            return Ok(());
        }
        self.finish_commit()?;
        let Some(mut behind) = self.stored.behind.take() else {
            return Ok(());
        };
        let Some(mut store) = self.stored.store.take() else {
            return Ok(());
        };
        let head = self.head(self.machine.number(), behind.nonce);
        match self.store_whole(store.as_mut(), &head, &behind.shown) {
            Ok(()) => {
                self.stored.follows = true;
                let seconds = self.seconds_since(now);
                tracing::info!(epoch = head.epoch, seconds, "the state is stored again");
            }
            Err(error) => {
                behind.pause = (2 * behind.pause).min(LONGEST_PAUSE);
                behind.due = self.elapsed() + behind.pause;
                let seconds = behind.pause.as_secs();
                tracing::error!(%error, seconds, "the state is still not stored; it is tried again after a pause");
                self.stored.behind = Some(behind);
            }
        }
        self.stored.store = Some(store);
        Ok(())
    }

    /// Stores the state of the machine in the place of what the store has, with the past of `shown`
    /// scores.
    pub(super) fn store_whole<'a>(
        &mut self,
        store: &mut dyn StateStore,
        head: &StoreHead,
        shown: impl IntoIterator<Item = &'a ScoreName>,
    ) -> Result<(), StoreError> {
        store.replace()?;
        let read_model = &self.read_model;
        self.machine.write_portions(&mut |pieces: Pieces| {
            read_model.beat();
            store.put(&pieces)
        })?;
        let mut pieces = Pieces::default();
        self.put_scores(&mut pieces);
        for name in shown {
            self.put_history(&mut pieces, name);
        }
        store.put(&pieces)?;
        store.finish(head)?;
        self.machine.note_changes();
        self.stored.newer_scores.clear();
        self.stored.erased.clear();
        if let Some(nodes) = store.nodes() {
            self.machine.keep_cold(nodes);
        }
        Ok(())
    }
}
