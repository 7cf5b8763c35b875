//! The epochs topic as a script: a chain of records that a restart follows and an audit repeats.

use crate::epoch::{EpochRecord, LayoutPartition, PartitionLayout, ScriptRecord};
use crate::invariants;
use crate::ports::{CommittedEpoch, PortCause, PortError, ScriptFault};

/// The meaning of an epochs-topic record to a reader of the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScriptLink {
    /// A record that continues the chain.
    Next(Box<EpochRecord>),
    /// The epoch before, once more with equal content. A late commit request, which librdkafka had
    /// repeated, wrote it twice (KIP-890).
    Repeated(i64),
    /// A layout record: it changes no epoch.
    Layout,
}

/// Checks, record by record, that the epochs topic is a script: numbers without gaps, intervals
/// that tile every partition, `as_of` that
/// never goes back, layouts that only grow.
#[derive(Debug, Default)]
pub struct Chain {
    layout: PartitionLayout,
    last: Option<Box<EpochRecord>>,
    /// The last closed tick, milliseconds.
    closed_tick_ms: Option<i64>,
}

impl Chain {
    /// A chain that goes on after an epoch of a stored state.
    pub fn after(
        layout: PartitionLayout,
        last: Box<EpochRecord>,
        closed_tick_ms: Option<i64>,
    ) -> Self {
        Self {
            layout,
            last: Some(last),
            closed_tick_ms,
        }
    }

    /// The layout of the newest record.
    pub fn layout(&self) -> &PartitionLayout {
        &self.layout
    }

    /// The newest epoch of the chain; `None` before the first.
    pub fn last(&self) -> Option<&EpochRecord> {
        self.last.as_deref()
    }

    /// Checks the next record of the topic against those before, and keeps it as the newest.
    ///
    /// # Errors
    /// A record that does not follow from those before, with its number and what differs.
    pub fn follow(&mut self, record: ScriptRecord) -> Result<ScriptLink, PortError> {
        match record {
            ScriptRecord::Layout(layout) => {
                if !invariants::layout_extends(&self.layout, &layout) {
                    return refuse(
                        ScriptFault::LayoutShrinks,
                        format!(
                            "layout {} does not start with the partitions of layout {}",
                            layout.layout, self.layout.layout
                        ),
                    );
                }
                self.layout = layout;
                Ok(ScriptLink::Layout)
            }
            ScriptRecord::Epoch(record) => self.follow_epoch(record),
        }
    }

    fn follow_epoch(&mut self, record: Box<EpochRecord>) -> Result<ScriptLink, PortError> {
        if self.last.as_ref().is_some_and(|last| *last == record) {
            return Ok(ScriptLink::Repeated(record.epoch));
        }
        let expected = self.last.as_ref().map_or(1, |last| last.epoch + 1);
        if self.last.is_none() && record.epoch > 1 {
            return Err(expired(&format!("it begins with epoch {}", record.epoch)));
        }
        if !invariants::numbers_have_no_gaps(self.last(), &record) {
            return refuse(
                ScriptFault::NumberGap,
                format!(
                    "a record of epoch {} stands where that of epoch {expected} should",
                    record.epoch
                ),
            );
        }
        if record.layout != self.layout.layout {
            let (found, known) = (record.layout, self.layout.layout);
            return refuse(
                ScriptFault::OtherLayout,
                format!(
                    "epoch {expected} refers to layout {found}, but layout {known} is the newest before it"
                ),
            );
        }
        if record.partitions.len() != self.layout.partitions.len() {
            let (found, known) = (record.partitions.len(), self.layout.partitions.len());
            return refuse(
                ScriptFault::IntervalCount,
                format!(
                    "epoch {expected} has {found} intervals for the {known} partitions of its layout"
                ),
            );
        }
        if let Some(last) = &self.last {
            if !invariants::as_of_never_goes_back(last.as_of, record.as_of) {
                return refuse(
                    ScriptFault::AsOfBack,
                    format!("as_of goes back in epoch {expected}"),
                );
            }
            if !invariants::intervals_tile(&last.partitions, &record.partitions) {
                return refuse(
                    ScriptFault::IntervalsApart,
                    format!(
                        "the intervals of epochs {} and {expected} do not meet",
                        last.epoch
                    ),
                );
            }
        }
        if !invariants::ticks_divide_the_intervals(self.closed_tick_ms, &record) {
            return refuse(
                ScriptFault::TicksApart,
                format!(
                    "the ticks of epoch {expected} do not ascend, or do not divide its records"
                ),
            );
        }
        let closed = record.ticks.last().map(|closing| closing.tick);
        self.closed_tick_ms = closed.or(self.closed_tick_ms);
        self.last = Some(record.clone());
        Ok(ScriptLink::Next(record))
    }

    /// Checks that the script ends with the committed epoch, at its positions.
    ///
    /// # Errors
    /// If it ends elsewhere. An input topic whose committed position is missing was created again:
    /// Kafka forgets a topic's positions with it.
    pub fn ends_with(&self, committed: &CommittedEpoch) -> Result<(), PortError> {
        let Some(last) = &self.last else {
            let found = format!(
                "epoch {} is committed, and the topic has no record of it",
                committed.number
            );
            return Err(expired(&found));
        };
        if last.epoch as u64 != committed.number {
            return refuse(
                ScriptFault::OtherEnd,
                format!(
                    "it ends with epoch {}, but epoch {} is committed",
                    last.epoch, committed.number
                ),
            );
        }
        if let (Some(here), Some(there)) = (last.nonce(), committed.nonce)
            && here != there
        {
            return refuse(
                ScriptFault::OtherNonce,
                format!(
                    "epoch {} has nonce {here} in the topic and {there} in the group's offsets",
                    last.epoch
                ),
            );
        }
        for ((interval, at), partition) in last
            .partitions
            .iter()
            .zip(&committed.positions)
            .zip(&self.layout.partitions)
        {
            let LayoutPartition { topic, partition } = partition;
            match at {
                Some(at) if at.0 == interval.end => {}
                Some(at) => {
                    return refuse(
                        ScriptFault::OtherOffset,
                        format!(
                            "epoch {} ends at offset {} of {topic}/{partition}, but offset {} is committed: the group's offsets were changed from outside",
                            last.epoch, interval.end, at.0
                        ),
                    );
                }
                None => {
                    return Err(PortError::fatal(
                        PortCause::TopicReplaced,
                        format!(
                            "epoch {} ended at offset {} of {topic}/{partition}, but the group has no position there any more: topic '{topic}' was \
                         deleted and created again, so its offsets mean other records. Start a new deployment (new kafka.group_id, \
                         kafka.transactional_id and output topics)",
                            last.epoch, interval.end
                        ),
                    ));
                }
            }
        }
        Ok(())
    }
}

/// An epochs topic that lost the records before the first that is needed.
fn expired(found: &str) -> PortError {
    PortError::fatal(
        PortCause::RecordsExpired,
        format!(
            "the epochs topic has lost records: {found}. Retention removed them, or somebody did; keep the topic for good (retention.ms=-1). \
             A start from a stored state or a snapshot (store.dir, store.snapshots) needs the records since only; without one start a new \
             deployment (new kafka.group_id, kafka.transactional_id and output topics)"
        ),
    )
}

fn refuse<T>(fault: ScriptFault, message: String) -> Result<T, PortError> {
    Err(PortError::fatal(
        PortCause::ScriptBroken(fault),
        format!("the epoch records are not a script: {message}"),
    ))
}
