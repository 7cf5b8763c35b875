//! The take-over of the outputs: a new producer, the committed offsets, and this owner's token.
//!
//! The token decides between two processes (docs/decisions/0002-owner-and-nonce.md), so a take-over
//! ends only when the token stands.

use std::sync::Arc;

use rdkafka::error::RDKafkaErrorCode;
use rustc_hash::FxHashMap;

use leadpulse_engine::ports::{
    CommittedEpoch, InputPartition, NextOffset, PortCause, PortError, SealedEpoch,
};

use super::KafkaSink;
use crate::client::is_permanent;
use crate::committed::{Agreed, CommitMetadata, offsets_with, read_offsets};
use crate::committer::Committer;
use crate::offsets::{OffsetRange, TopicPartition};
use crate::ownership::OwnershipWatch;
use crate::transaction::AttemptOutcome;

impl KafkaSink {
    /// Takes over once. Where the group has no positions, those of `tail` stand in their place.
    pub(super) fn try_take_over(
        &mut self,
        tail: Option<&CommittedEpoch>,
    ) -> Result<Option<CommittedEpoch>, PortError> {
        self.producer = None;
        let producer = self.new_producer(0)?;
        let found = read_offsets(
            self.committed.client(),
            &self.options.group_id,
            &self.partitions,
            self.options.request_timeout(),
        )?
        .agreed()?;
        let mut found = found;
        if found.as_ref().and_then(Agreed::epoch).is_none() {
            match tail {
                Some(tail) => found = Some(Agreed::at(tail, &self.owner)),
                None => self.refuse_to_start_over()?,
            }
        }
        let epoch = found.as_ref().and_then(Agreed::epoch);
        let (standing, positions) = match found {
            Some(Agreed {
                metadata,
                positions,
            }) => (self.owned(&metadata), positions),
            None => (
                self.owned(&CommitMetadata {
                    epoch: 0,
                    as_of_ms: 0,
                    identity: None,
                }),
                self.log_starts()?,
            ),
        };
        self.write_token(&producer, &standing, &positions)?;
        let watched = self
            .partitions
            .iter()
            .zip(&positions)
            .find(|(_, position)| position.is_some());
        if let Some((partition, _)) = watched {
            let watch = OwnershipWatch::start(
                &self.options,
                &self.metrics,
                partition,
                &self.owner,
                standing.epoch,
            )?;
            self.ownership = Some(watch);
        }
        self.producer = Some(producer);
        self.standing = Some(standing);
        Ok(epoch)
    }

    /// Commits `positions` unchanged, under our token, in a transaction without records.
    fn write_token(
        &self,
        producer: &Committer,
        standing: &CommitMetadata,
        positions: &[Option<NextOffset>],
    ) -> Result<(), PortError> {
        let offsets = offsets_with(standing, &self.partitions, positions)?;
        let (number, as_of_ms, nonce) = (
            standing.epoch,
            standing.as_of_ms,
            standing.nonce().unwrap_or_default(),
        );
        let epoch = Arc::new(SealedEpoch {
            number,
            nonce,
            as_of_ms,
            positions: vec![],
            outputs: vec![],
        });
        let work = self.work(&epoch, FxHashMap::default(), offsets)?;
        let doing = |why: &str| {
            format!(
                "kafka: writing this owner's token to group '{}': {why}",
                self.options.group_id
            )
        };
        match producer.attempt(work, self.options.commit_timeout(), &self.attended)? {
            AttemptOutcome::Committed => Ok(()),
            AttemptOutcome::NotCommitted {
                why,
                code: Some(code),
                ..
            } if is_permanent(code) => {
                // Positions are written by who may read their topics.
                if code == RDKafkaErrorCode::TopicAuthorizationFailed
                    && let Some(named) = self.committed.denied_topic(&self.places())
                {
                    return Err(named);
                }
                let subject = format!("group '{}'", self.options.group_id);
                let denied = self.access.permission(code, &subject);
                let why = denied.map_or_else(|| doing(&why), |it| format!("kafka: {it}"));
                Err(PortError::fatal(PortCause::Refused, why))
            }
            AttemptOutcome::NotCommitted { why, code, .. } => Err(PortError::retriable(
                PortCause::NoAnswer,
                doing(&self.with_hint(why, code)),
            )),
            AttemptOutcome::InDoubt(why)
            | AttemptOutcome::Fenced(why)
            | AttemptOutcome::TooLarge { why, .. } => {
                Err(PortError::retriable(PortCause::NoAnswer, doing(&why)))
            }
            AttemptOutcome::Unanswered => Err(PortError::retriable(
                PortCause::NoAnswer,
                doing("a request was not answered"),
            )),
        }
    }

    /// The metadata of the same epoch under our token. Metadata of version 1 get nonce 0.
    fn owned(&self, found: &CommitMetadata) -> CommitMetadata {
        CommitMetadata {
            identity: Some((found.nonce().unwrap_or_default(), self.owner.clone())),
            ..found.clone()
        }
    }

    fn places(&self) -> Vec<TopicPartition> {
        let place = |it: &InputPartition| (it.topic.clone(), it.partition);
        self.partitions.iter().map(place).collect()
    }

    fn log_starts(&self) -> Result<Vec<Option<NextOffset>>, PortError> {
        Ok(self
            .committed
            .starts(&self.places())?
            .into_iter()
            .map(Some)
            .collect())
    }

    /// Refuses a group without offsets beside epoch records that were committed. The offsets
    /// expired, or the group id was changed, and starting over would write every score a second
    /// time.
    fn refuse_to_start_over(&self) -> Result<(), PortError> {
        let topic = &self.options.outputs.epochs;
        let Some(1) = self.committed.partition_count(topic)? else {
            return Err(PortError::fatal(
                PortCause::TopicMissing,
                format!(
                    "kafka: there is no topic '{topic}' with one partition: the output topics must be created before the engine starts"
                ),
            ));
        };
        let places = [(topic.clone(), 0)];
        let range = OffsetRange {
            partition: 0,
            from: self.committed.starts(&places)?[0].0,
            end: self.committed.stable_ends(&places)?[0],
        };
        self.committed.read(topic, &[range], &mut |record| {
            Err(PortError::fatal(PortCause::PositionsLost, format!(
                "kafka: group '{}' has no committed positions, but '{topic}' holds committed epochs (one at offset {}): the group's offsets \
                 expired (offsets.retention.minutes) or kafka.group_id was changed. Restore the group id, or start over with new output topics",
                self.options.group_id,
                rdkafka::Message::offset(record)
            )))
        })
    }
}
