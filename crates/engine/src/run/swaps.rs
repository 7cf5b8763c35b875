//! Swaps of the deployed version: between two epochs of a running worker, and along a script.
//!
//! A release is loaded off this thread and put in force between two epochs, so no record waits for
//! it. Every epoch record names the release it was decided under. A restart goes on under the
//! release of the last epoch, and an audit decides each epoch under its own.
//!
//! Decision: docs/decisions/0065-a-release-is-swapped-in-place.md

use std::sync::Arc;

use leadpulse_records::ShownScore;

use super::{Engine, RunError};
use crate::epoch::{EpochRecord, VersionNote};
use crate::machine::Deployed;
use crate::metrics::KnownLabels;
use crate::ports::{PortCause, PortError, ReleaseRefusal, Releases};
use crate::read_model::{DeployedStatus, RefusedRelease};

/// Name of the remark about a release that was asked for and refused.
const MATTER: &str = "release";

/// The engine's view of releases.
#[derive(Default)]
pub(super) struct Swaps {
    releases: Option<Box<dyn Releases>>,
    /// True if a restart goes on under the release of the last epoch.
    follows: bool,
    /// The last release that was asked for and refused, until another one is in force.
    refused: Option<ReleaseRefusal>,
    /// The release of the newest epoch of the script, if it cannot be loaded.
    missing: Option<ReleaseRefusal>,
    /// The version that the engine was built with.
    started_with: Option<Arc<Deployed>>,
    /// True until an epoch of other tasks is committed.
    tasks_changed: bool,
}

impl Engine {
    /// Takes releases from a port. `follows`: a restart goes on under the release of the last
    /// committed epoch, whatever version the engine was built with.
    #[must_use]
    pub fn with_releases(mut self, releases: Box<dyn Releases>, follows: bool) -> Self {
        self.swaps.releases = Some(releases);
        self.swaps.follows = follows;
        self.swaps.started_with = Some(self.machine.deployed().clone());
        self
    }

    /// Goes on under the release that was asked for, if one is loaded. A refusal changes nothing
    /// but the status.
    pub(super) fn swap_if_asked(&mut self) {
        let releases = self.swaps.releases.as_mut();
        let Some(offered) = releases.and_then(|releases| releases.offered()) else {
            return;
        };
        let outcome = offered.and_then(|given| {
            let release = given.release().unwrap_or_default().to_owned();
            let refusal = |error: crate::SwapError| ReleaseRefusal {
                release,
                reason: error.to_string(),
            };
            self.put_in_force(&given).map_err(refusal)
        });
        self.metrics.swapped(outcome.is_ok());
        let remark = outcome.as_ref().err().map(ToString::to_string);
        self.swaps.refused = outcome.err();
        self.read_model.set_condition(MATTER, remark, false);
        self.read_model
            .set_status(self.status(crate::read_model::Phase::Live, None));
    }

    fn put_in_force(&mut self, given: &Arc<Deployed>) -> Result<(), crate::SwapError> {
        let before = self.machine.deployed().clone();
        self.machine.replace(given.clone())?;
        self.swaps.tasks_changed |= !before.task_names().eq(given.task_names());
        self.tell_releases();
        let is_another_model = before.bundle_id() != given.bundle_id();
        tracing::info!(
            release = given.release().unwrap_or_default(),
            before = before.release().unwrap_or_default(),
            bundle = given.bundle_id(),
            after_epoch = self.machine.number(),
            is_another_model,
            cells = self.machine.graph().deferred(),
            "another version decides from the next epoch on: every cell is scored again, a few per epoch"
        );
        Ok(())
    }

    /// Tells the port which version is in force.
    pub(super) fn tell_releases(&mut self) {
        self.name_version();
        if let Some(releases) = &mut self.swaps.releases {
            releases.is_in_force(self.machine.deployed());
        }
    }

    /// Names the version in force in the metrics, where its tasks are from then on.
    pub(super) fn name_version(&self) {
        let deployed = self.machine.deployed();
        let tasks: Vec<&str> = deployed.task_names().map(|name| &**name).collect();
        let topics: Vec<&str> = self.topics.iter().map(|(topic, _)| &**topic).collect();
        self.metrics.known_at_zero(&KnownLabels {
            topics: &topics,
            tasks: &tasks,
        });
        self.metrics.model(deployed.bundle_id(), &tasks);
    }

    /// Goes on along the script under the release of an epoch, before its rows are applied.
    pub(super) fn follow_release(&mut self, record: &EpochRecord) -> Result<(), RunError> {
        if !self.swaps.follows {
            return Ok(());
        }
        let note = record.version_note()?;
        if note.release.is_none() {
            self.swaps.missing = None;
        }
        let Some(given) = self.other_release(&note) else {
            return Ok(());
        };
        let followed = given.and_then(|given| {
            let reason = |error: crate::SwapError| ReleaseRefusal {
                release: note.release.clone().unwrap_or_default(),
                reason: error.to_string(),
            };
            self.machine.follow(given).map_err(reason)
        });
        self.swaps.missing = followed.err();
        self.name_version();
        Ok(())
    }

    /// Decides the epochs of the script from here on under the release of one, as far as it can be
    /// loaded: an audit tells where it cannot.
    pub(super) fn repeat_swap(&mut self, record: &EpochRecord) {
        let note = match record.version_note() {
            Ok(note) => note,
            Err(error) => {
                tracing::warn!("{error}");
                return;
            }
        };
        match self.other_release(&note) {
            Some(Ok(given)) if given.digest() == record.deployed => {
                if let Err(error) = self.machine.replace(given) {
                    tracing::warn!(epoch = record.epoch, %error, "the release of this epoch does not follow");
                }
            }
            Some(Err(refusal)) => tracing::warn!(epoch = record.epoch, "{refusal}"),
            _ => {}
        }
    }

    /// Loads the release of a note, if it is another one than that in force. One that was missing is
    /// not looked for again.
    fn other_release(
        &mut self,
        note: &VersionNote,
    ) -> Option<Result<Arc<Deployed>, ReleaseRefusal>> {
        let release = note.release.as_deref()?;
        let releases = self.swaps.releases.as_mut()?;
        if self.machine.deployed().release() == Some(release) {
            self.swaps.missing = None;
            return None;
        }
        let known = self.swaps.missing.as_ref();
        if known.is_some_and(|known| known.release == release) {
            return None;
        }
        Some(releases.load(release))
    }

    /// Takes back what the last epoch notes about its version, which the stored state of that epoch
    /// (`is_stored`) has already. Refuses to go on under another version than that of the last epoch,
    /// where it should be followed and is missing.
    pub(super) fn resume_version(
        &mut self,
        last: &EpochRecord,
        is_stored: bool,
    ) -> Result<(), RunError> {
        if let Some(missing) = &self.swaps.missing {
            return Err(PortError::fatal(
                PortCause::ReleaseMissing,
                format!(
                    "epoch {} was decided under {missing}. Put its files back into the registry of models, or start with --anew: the \
                     configuration and the champion decide from then on, and every score is computed again",
                    last.epoch
                ),
            )
            .into());
        }
        let note = last.version_note()?;
        let started_with = self.swaps.started_with.clone();
        if let Some(given) = started_with.filter(|_| note.release.is_none()) {
            // A start without a release came after the last one that did.
            let followed = self.machine.follow(given);
            followed
                .map_err(|error| PortError::fatal(PortCause::ReleaseMissing, error.to_string()))?;
        }
        if is_stored {
            return Ok(());
        }
        if note.rescoring.is_some() {
            // Policy states fill it, of whatever epoch they are.
            self.stored.read_all_outputs();
        }
        self.machine.restore_tasks(&note);
        self.machine.restore_rescoring(note.rescoring);
        Ok(())
    }

    /// Shows scores that were read back in the ranking of those before a change of model, if one is
    /// under way.
    pub(super) fn publish_older_ranks(&self, scores: &[ShownScore]) {
        if self.machine.rescoring().is_none() {
            return;
        }
        let mut ranked = Vec::new();
        for score in scores {
            let record = &score.record;
            let by = self
                .machine
                .ranked_by(&record.task, &record.entity_type, &record.entity_id);
            ranked.extend(by.map(|logit| (score.clone(), logit)));
        }
        let bundle_id = self.machine.deployed().bundle_id();
        self.read_model.publish_older_ranks(ranked, bundle_id);
    }

    /// The tasks that there are, if a swap has changed them since the last call. What is shown of
    /// others is dropped once an epoch without them is committed.
    pub(super) fn take_changed_tasks(&mut self) -> Option<Vec<Arc<str>>> {
        std::mem::take(&mut self.swaps.tasks_changed)
            .then(|| self.machine.deployed().task_names().cloned().collect())
    }

    /// The version in force, for the status.
    pub(super) fn deployed_status(&self) -> DeployedStatus {
        let given = self.machine.deployed();
        let refused = self.swaps.refused.as_ref();
        DeployedStatus {
            release: given.release().map(str::to_owned),
            bundle_id: Some(given.bundle_id().to_owned()),
            rescoring: self.machine.rescoring(),
            refused: refused.map(|refused| RefusedRelease {
                release: refused.release.clone(),
                reason: refused.reason.clone(),
            }),
        }
    }
}
