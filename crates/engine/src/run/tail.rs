//! The tail of the epochs topic as the authority: it says where to go on, where the group's
//! positions expired or were deleted.
//!
//! Positions and epoch records commit together, so each alone names the newest epoch. The group's
//! are asked first, because they also name the owner. The tail counts only under the transactional
//! id that wrote it: producing under it has fenced whoever wrote before, so nothing newer can come.
//!
//! Decision: docs/decisions/0091-the-tail-of-the-log-is-the-authority.md

use super::{Engine, RunError};
use crate::epoch::{EpochRecord, PartitionLayout, ScriptRecord};
use crate::ports::{CommittedEpoch, InputPartition, NextOffset, Output, PortCause, PortError};

/// Epoch records that are looked at first. Few of the newest introduce a layout, so all are looked at
/// where these do not name their partitions.
const NEWEST: usize = 64;
/// More records than a topic has.
const ALL: usize = 1 << 40;

impl Engine {
    /// Fences every earlier owner. Returns the newest committed epoch, with positions in the order
    /// of `asked`: by the group's positions, or where it has none by the tail of the epochs topic.
    pub(super) fn own_outputs(
        &mut self,
        asked: &[InputPartition],
    ) -> Result<Option<CommittedEpoch>, RunError> {
        let refused = match self.attendant.retry(|| self.ports.sink.take_over()) {
            Err(refused) if refused.cause() == PortCause::PositionsLost => refused,
            outcome => return Ok(outcome?),
        };
        let Some((record, layout)) = self.tail()? else {
            return Err(refused.into());
        };
        if record.worker != self.machine.deployed().worker() {
            let found = &record.worker;
            return Err(PortError::fatal(
                PortCause::PositionsLost,
                format!(
                    "{refused}. Epoch {} was written under transactional id '{found}'",
                    record.epoch
                ),
            )
            .into());
        }
        let tail = committed_by(&record, &layout, asked);
        tracing::warn!(
            epoch = tail.number,
            "the group has no committed positions: going on after the newest record of the epochs topic"
        );
        Ok(self
            .attendant
            .retry(|| self.ports.sink.take_over_at(&tail))?)
    }

    /// The newest committed epoch record with its layout; `None` where there is none.
    fn tail(&mut self) -> Result<Option<(EpochRecord, PartitionLayout)>, RunError> {
        for count in [NEWEST, ALL] {
            let mut values: Vec<Vec<u8>> = Vec::new();
            let (attendant, outputs) = (&self.attendant, &mut self.ports.outputs);
            attendant.retry(|| {
                values.clear();
                outputs.newest(Output::Epochs, count, &mut |_, value| {
                    values.extend(value.map(<[u8]>::to_vec));
                    Ok(())
                })
            })?;
            let (mut newest, mut layouts) = (None, Vec::new());
            for value in &values {
                for entry in self.encoders.read_script(value)? {
                    match entry {
                        ScriptRecord::Epoch(record) => newest = Some(*record),
                        ScriptRecord::Layout(layout) => layouts.push(layout),
                    }
                }
            }
            let Some(record) = newest else { continue };
            let known = self.machine.layout();
            let mut layouts = layouts.into_iter().chain([known.clone()]);
            if let Some(layout) = layouts.find(|layout| layout.layout == record.layout) {
                return Ok(Some((record, layout)));
            }
        }
        Ok(None)
    }
}

/// An epoch by its record, as the group's positions would name it.
fn committed_by(
    record: &EpochRecord,
    layout: &PartitionLayout,
    asked: &[InputPartition],
) -> CommittedEpoch {
    let position = |asked: &InputPartition| {
        let mut places = layout.partitions.iter();
        let index = places
            .position(|place| place.topic == asked.topic && place.partition == asked.partition)?;
        Some(NextOffset(record.partitions.get(index)?.end))
    };
    CommittedEpoch {
        number: record.epoch as u64,
        as_of_ms: record.as_of,
        nonce: record.nonce(),
        positions: asked.iter().map(position).collect(),
    }
}
