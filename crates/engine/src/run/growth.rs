//! Partitions that are added to input topics, and places that cannot be read, while the engine is
//! live.

use crate::epoch::DecidedRange;
use crate::ports::{InputPartition, NextOffset};

use super::{Engine, RunError, Waiting};

/// Partitions that were noticed and are not read yet.
pub(super) struct Growth {
    partitions: Vec<InputPartition>,
    /// Ends of the partitions that were read when these were noticed.
    ends: Vec<NextOffset>,
}

impl Engine {
    /// Reads partitions that were added to the input topics, once those that are read have come to
    /// where they ended when the new ones were
    /// noticed: a key that moved to a new partition leaves its older rows in an old one, and these
    /// come first.
    pub(super) fn grow(&mut self) -> Result<(), RunError> {
        if self.growth.is_none() {
            let partitions = self.ports.source.added();
            if partitions.is_empty() {
                return Ok(());
            }
            let names: Vec<String> = partitions
                .iter()
                .map(|p| format!("{}/{}", p.topic, p.partition))
                .collect();
            tracing::warn!(
                partitions = names.join(", "),
                "new partitions were added to the input topics; they are read next"
            );
            self.read_model.set_condition(
                "added partitions",
                Some(format!(
                    "new partitions wait to be read: {}",
                    names.join(", ")
                )),
                false,
            );
            let ends = self
                .attendant
                .retry(|| self.ports.source.ends())?
                .into_iter()
                .map(|end| end.stable)
                .collect();
            self.growth = Some(Growth { partitions, ends });
        }
        let Some(ends) = self.growth.as_ref().map(|growth| growth.ends.clone()) else {
            return Ok(());
        };
        if !self.has_reached(&ends, Waiting::Excepted) {
            return Ok(());
        }
        let Some(Growth { partitions, .. }) = self.growth.take() else {
            return Ok(());
        };
        self.read_too(&partitions)
    }

    /// Reads partitions that the topics had at the start and no layout lists, once everything else
    /// is read to its end. Gives the ends anew.
    pub(super) fn grow_at_the_end(&mut self) -> Result<Option<Vec<NextOffset>>, RunError> {
        let read = self.ports.source.partitions();
        let further: Vec<InputPartition> = self
            .found_at_start
            .iter()
            .filter(|p| !read.contains(p))
            .cloned()
            .collect();
        if further.is_empty() {
            return Ok(None);
        }
        self.read_too(&further)?;
        let ends = self.attendant.retry(|| self.ports.source.ends())?;
        Ok(Some(ends.into_iter().map(|end| end.stable).collect()))
    }

    fn read_too(&mut self, partitions: &[InputPartition]) -> Result<(), RunError> {
        self.finish_commit()?;
        let mut all = self.ports.source.partitions().to_vec();
        let known = all.len();
        all.extend_from_slice(partitions);
        self.attendant
            .retry(|| self.ports.source.arrange(all.clone()))?;
        self.ports.sink.arrange(&all);
        let starts = self.attendant.retry(|| self.ports.source.starts())?;
        self.machine.add_partitions(partitions, &starts[known..]);
        self.attendant
            .retry(|| self.ports.source.seek(self.machine.positions()))?;
        self.forget_held();
        tracing::info!(
            partitions = partitions.len(),
            "the new partitions are read from their starts"
        );
        self.read_model
            .set_condition("added partitions", None, false);
        Ok(())
    }

    /// Reports places that cannot be read, and reads on behind those that an operator named.
    pub(super) fn pass_damage(&mut self) -> Result<(), RunError> {
        let stuck = self.ports.source.stuck();
        let mut condition = None;
        for place in stuck {
            let InputPartition {
                topic, partition, ..
            } = self.ports.source.partitions()[place.partition as usize].clone();
            let named = self.skips.iter().find(|skip| {
                skip.topic == topic && skip.partition == partition && skip.offset == place.offset.0
            });
            if named.is_none() {
                condition.get_or_insert(format!(
                    "{topic}/{partition} cannot be read from offset {} on: {}. Restore the partition, or restart with --skip {topic}/{partition}@{} to \
                     leave the damaged records out",
                    place.offset.0, place.reason, place.offset.0
                ));
                continue;
            }
            let end = self.attendant.retry(|| {
                self.ports
                    .source
                    .readable_after(place.partition, place.offset)
            })?;
            tracing::warn!(
                topic,
                partition,
                start = place.offset.0,
                end = end.0,
                "left out: these offsets cannot be read"
            );
            self.skipped.push(DecidedRange {
                partition: place.partition as i32,
                start: place.offset.0,
                end: end.0,
                reason: "damaged".to_owned(),
            });
            self.attendant
                .retry(|| self.ports.source.skip_to(place.partition, end))?;
        }
        self.read_model.set_condition("damaged", condition, true);
        Ok(())
    }
}
