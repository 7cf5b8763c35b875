//! The newest committed epoch, as the group's offsets tell it.
//!
//! Every transaction commits the position of every input partition, each with the same metadata: `v1;epoch=N;as_of=MS`. So the group's
//! offsets alone say which epoch is the newest committed one, also when an epoch read nothing. Offsets that do not agree with each other,
//! or that carry no such metadata, were written by something else, and are refused.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use leadpulse_engine::ports::{CommittedEpoch, InputPartition, NextOffset, PortError, SealedEpoch};

use crate::client::{Context, port_error};

/// What a transaction writes beside each offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommitMetadata {
    pub(crate) epoch: u64,
    pub(crate) as_of_ms: i64,
}

impl fmt::Display for CommitMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v1;epoch={};as_of={}", self.epoch, self.as_of_ms)
    }
}

impl FromStr for CommitMetadata {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let rest = text.strip_prefix("v1;epoch=").ok_or(())?;
        let (epoch, as_of) = rest.split_once(";as_of=").ok_or(())?;
        Ok(Self { epoch: epoch.parse().map_err(drop)?, as_of_ms: as_of.parse().map_err(drop)? })
    }
}

/// The offsets an epoch commits: all of them, changed or not.
pub(crate) fn offsets_of(epoch: &SealedEpoch, partitions: &[InputPartition]) -> Result<TopicPartitionList, PortError> {
    if epoch.positions.len() != partitions.len() {
        return Err(PortError::Fatal(format!(
            "epoch {} has {} positions, but {} partitions are read",
            epoch.number,
            epoch.positions.len(),
            partitions.len()
        )));
    }
    let metadata = CommitMetadata { epoch: epoch.number, as_of_ms: epoch.as_of_ms }.to_string();
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (partition, position) in partitions.iter().zip(&epoch.positions) {
        let mut element = list.add_partition(&partition.topic, partition.partition);
        element.set_metadata(&metadata);
        element.set_offset(Offset::Offset(position.0)).map_err(|error| {
            PortError::Fatal(format!(
                "epoch {}: position {} of {}/{} is not an offset: {error}",
                epoch.number, position.0, partition.topic, partition.partition
            ))
        })?;
    }
    Ok(list)
}

/// One partition of a group's committed offsets.
#[derive(Clone, Debug)]
struct CommittedOffset {
    offset: Option<i64>,
    metadata: String,
}

/// Asks the group's coordinator, waiting for transactions in doubt, at most `timeout`.
///
/// A partition without a committed offset beside others that have one is new: its topic was extended.
pub(crate) fn committed_epoch(
    consumer: &BaseConsumer<Context>,
    group_id: &str,
    partitions: &[InputPartition],
    timeout: Duration,
) -> Result<Option<CommittedEpoch>, PortError> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(&partition.topic, partition.partition);
    }
    let asking = || format!("reading the committed offsets of group '{group_id}'");
    let list = consumer.committed_offsets(list, timeout).map_err(|error| port_error(&asking(), &error))?;
    let mut committed = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let element = list.find_partition(&partition.topic, partition.partition);
        let element = element.ok_or_else(|| {
            PortError::Fatal(format!("{}: {}/{} is missing in the answer", asking(), partition.topic, partition.partition))
        })?;
        element.error().map_err(|error| port_error(&asking(), &error))?;
        let offset = match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        committed.push(CommittedOffset { offset, metadata: element.metadata().to_owned() });
    }
    agree(group_id, partitions, &committed)
}

/// The one epoch that all offsets name.
fn agree(
    group_id: &str,
    partitions: &[InputPartition],
    committed: &[CommittedOffset],
) -> Result<Option<CommittedEpoch>, PortError> {
    let mut newest: Option<(CommitMetadata, &InputPartition)> = None;
    for (partition, CommittedOffset { offset, metadata }) in partitions.iter().zip(committed) {
        if offset.is_none() {
            continue;
        }
        let place = format!("{}/{}", partition.topic, partition.partition);
        let Ok(found) = metadata.parse::<CommitMetadata>() else {
            return Err(PortError::Fatal(format!(
                "group '{group_id}' has an offset for {place} that Leadpulse did not write (metadata {metadata:?}); another program commits \
                 under this group id, or the offsets were reset: choose another kafka.group_id with new output topics"
            )));
        };
        match newest {
            None => newest = Some((found, partition)),
            Some((first, _)) if first == found => {}
            Some((first, other)) => {
                return Err(PortError::Fatal(format!(
                    "the offsets of group '{group_id}' disagree: {place} is at epoch {}, {}/{} at epoch {}; they were changed from outside",
                    found.epoch, other.topic, other.partition, first.epoch
                )));
            }
        }
    }
    let Some((CommitMetadata { epoch, as_of_ms }, _)) = newest else { return Ok(None) };
    let positions = committed.iter().map(|committed| committed.offset.map(NextOffset)).collect();
    Ok(Some(CommittedEpoch { number: epoch, as_of_ms, nonce: None, positions }))
}

#[cfg(test)]
mod tests {
    use leadpulse_engine::ports::Nonce;
    use leadpulse_schema::TableId;

    use super::*;

    /// Offset and metadata.
    type Offered = (Option<i64>, &'static str);

    fn check(committed: &[Offered]) -> Result<Option<CommittedEpoch>, String> {
        let partitions: Vec<_> =
            (0..committed.len() as i32).map(|partition| InputPartition { topic: "t".into(), partition, table: TableId(0) }).collect();
        let offsets: Vec<_> =
            committed.iter().map(|(offset, metadata)| CommittedOffset { offset: *offset, metadata: (*metadata).into() }).collect();
        agree("g", &partitions, &offsets).map_err(|error| error.to_string())
    }

    #[test]
    fn offsets_that_agree_name_the_epoch() {
        let epoch = |number, as_of_ms, positions: &[i64]| {
            Ok(Some(CommittedEpoch { number, as_of_ms, nonce: None, positions: positions.iter().map(|at| (*at >= 0).then_some(NextOffset(*at))).collect() }))
        };
        assert_eq!(check(&[]), Ok(None));
        assert_eq!(check(&[(None, ""), (None, "")]), Ok(None));
        assert_eq!(check(&[(Some(3), "v1;epoch=7;as_of=-5"), (Some(0), "v1;epoch=7;as_of=-5")]), epoch(7, -5, &[3, 0]));
        assert_eq!(check(&[(Some(3), "v1;epoch=7;as_of=9"), (None, "")]), epoch(7, 9, &[3, -1]));
    }

    #[test]
    fn foreign_or_torn_offsets_are_refused() {
        let cases: [(&[Offered], &str); 5] = [
            (&[(Some(3), "")], "did not write"),
            (&[(Some(3), "v2;epoch=1;as_of=2")], "did not write"),
            (&[(Some(3), "v1;epoch=-1;as_of=2")], "did not write"),
            (&[(Some(3), "v1;epoch=1;as_of=2"), (Some(3), "v1;epoch=2;as_of=2")], "disagree"),
            (&[(Some(3), "v1;epoch=1;as_of=2"), (Some(3), "v1;epoch=1;as_of=3")], "disagree"),
        ];
        for (committed, expected) in cases {
            let error = check(committed).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn an_epoch_with_too_few_positions_is_refused() {
        let partitions = [InputPartition { topic: "t".into(), partition: 0, table: TableId(0) }];
        let epoch = SealedEpoch { number: 1, nonce: Nonce(1), as_of_ms: 2, positions: vec![], outputs: vec![] };
        assert!(offsets_of(&epoch, &partitions).is_err());
        let list = offsets_of(&SealedEpoch { positions: vec![NextOffset(4)], ..epoch }, &partitions).unwrap();
        let element = list.find_partition("t", 0).unwrap();
        assert_eq!((element.offset(), element.metadata()), (Offset::Offset(4), "v1;epoch=1;as_of=2"));
    }
}
