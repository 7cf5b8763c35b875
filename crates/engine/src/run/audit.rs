//! The audit: committed epochs are computed again from their rows and compared. It takes nothing
//! over and writes nothing.

use super::restore::Goal;
use super::{Engine, RunError};
use crate::decode::Decoded;
use crate::epoch::{EpochRecord, RESUMED_SECTION};
use crate::ports::{
    CommittedEpoch, InputPartition, PortCause, PortError, RecordBatch, SealedEpoch, Sink,
};

/// Findings of an audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFindings {
    /// Epochs in the script.
    pub epochs: u64,
    /// Epochs whose outputs were computed again.
    pub recomputed: u64,
    /// Epochs among them whose outputs have another digest.
    pub outputs_differ: u64,
    /// Epochs whose rows came out otherwise than recorded.
    pub rows_differ: u64,
    /// The first epoch that differs.
    pub first_difference: Option<i64>,
    /// The first epoch of a deployed version that is not there: neither the one at hand, nor a release
    /// that can be loaded. Nothing else can compute its memory, so only rows are compared from there
    /// on.
    pub other_version_from: Option<i64>,
    /// Owner of the epoch before.
    owner: Option<String>,
}

impl AuditFindings {
    fn differs(&mut self, epoch: i64) {
        self.first_difference.get_or_insert(epoch);
    }
}

/// Computes the committed epochs again and compares their digests, as long as they are of the
/// version that runs now.
///
/// # Errors
/// If the script or the inputs cannot be read.
pub fn audit(mut engine: Engine) -> Result<AuditFindings, RunError> {
    engine.replay(Goal::Audit, None)?;
    if engine.stopped() {
        return Err(PortError::interrupted(PortCause::Stopped, "the audit").into());
    }
    Ok(engine.audited)
}

impl Engine {
    pub(super) fn compare(&mut self, batch: &RecordBatch, decoded: Decoded, record: &EpochRecord) {
        self.audited.epochs += 1;
        let is_alone = self.audited.other_version_from.is_some();
        if !is_alone {
            self.follow_owner(record);
            self.repeat_swap(record);
        }
        let is_ours = record.deployed == self.machine.deployed().digest() && !is_alone;
        if !is_ours {
            if self.audited.other_version_from.is_none() {
                self.audited.other_version_from = Some(record.epoch);
                self.machine.stop_scoring();
            }
            if !self.machine.replay(decoded, record) {
                self.audited.rows_differ += 1;
                self.audited.differs(record.epoch);
            }
            return;
        }
        let found = self.machine.repeat(batch, decoded, record).record;
        self.audited.recomputed += 1;
        let counts = |r: &EpochRecord| r.outcomes().in_format(record.version);
        if counts(&found) != counts(record) || found.dead_lettered != record.dead_lettered {
            self.audited.rows_differ += 1;
            self.audited.differs(record.epoch);
        }
        if found.digest != record.digest {
            self.audited.outputs_differ += 1;
            self.audited.differs(record.epoch);
            tracing::info!(
                epoch = record.epoch,
                program = record.program,
                "the outputs of this epoch come out otherwise"
            );
        }
    }
}

impl Engine {
    /// Lets every cell wait again where another process went on: it was started after the epoch
    /// before. One that went on from the stored state of that epoch let nothing wait.
    fn follow_owner(&mut self, record: &EpochRecord) {
        let owner = self.audited.owner.replace(record.owner.clone());
        let is_resumed = record.sections.contains_key(RESUMED_SECTION);
        if owner.is_some_and(|owner| owner != record.owner) && !is_resumed {
            self.machine.restart(false);
        }
    }
}

/// A sink that refuses to take over and to commit, for audits.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSink;

impl Sink for NoSink {
    fn owner(&self) -> &str {
        ""
    }
    fn take_over(&mut self) -> Result<Option<CommittedEpoch>, PortError> {
        Err(PortError::fatal(
            PortCause::Misuse,
            "an audit takes nothing over",
        ))
    }
    fn arrange(&mut self, _: &[InputPartition]) {}
    fn commit(&mut self, _: &std::sync::Arc<SealedEpoch>) -> Result<(), PortError> {
        Err(PortError::fatal(
            PortCause::Misuse,
            "an audit commits nothing",
        ))
    }
}
