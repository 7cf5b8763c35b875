//! The newest committed epoch and its owner, read from the group's offsets.
//!
//! Every transaction commits the position of every input partition, each with the same metadata:
//! `v2;epoch=N;as_of=MS;nonce=HEX16;owner=HEX32`. So the group's offsets alone name the newest
//! committed epoch and the process that committed it, also when an epoch read nothing. Brokers
//! return the metadata also where the offset itself did not change (measured on Kafka 4.3.1). Epoch
//! 0 stands for "none yet": the first take-over of a deployment writes it. Metadata of version 1
//! (`v1;epoch=N;as_of=MS`) is still read. Offsets that disagree with each other, or that carry no
//! such metadata, were written by another program.
//!
//! The reasons for the token and the nonce are in docs/decisions/0002-owner-and-nonce.md.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use leadpulse_engine::ports::{
    CommittedEpoch, InputPartition, NextOffset, Nonce, PortCause, PortError, SealedEpoch,
};

use crate::client::{ClientCallbacks, port_error_of, serve, serve_all};

/// The token of one process start: 32 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner(String);

impl Owner {
    /// A random token (UUID version 4), so that no two processes share one.
    pub(crate) fn random() -> Self {
        Self(uuid::Uuid::new_v4().simple().to_string())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Owner {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 32 && text.bytes().all(is_digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(())
        }
    }
}

/// The metadata that a transaction commits with each offset.
#[derive(Clone, Debug, PartialEq, Eq)]
// Decision: docs/decisions/0007-every-position-in-every-commit.md
pub(crate) struct CommitMetadata {
    /// Number of the epoch; 0 before the first.
    pub(crate) epoch: u64,
    pub(crate) as_of_ms: i64,
    /// `None` in version 1.
    pub(crate) identity: Option<(Nonce, Owner)>,
}

impl CommitMetadata {
    pub(crate) fn nonce(&self) -> Option<Nonce> {
        self.identity.as_ref().map(|(nonce, _)| *nonce)
    }
}

impl fmt::Display for CommitMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            epoch,
            as_of_ms,
            identity,
        } = self;
        match identity {
            Some((nonce, owner)) => write!(
                f,
                "v2;epoch={epoch};as_of={as_of_ms};nonce={nonce};owner={owner}"
            ),
            None => write!(f, "v1;epoch={epoch};as_of={as_of_ms}"),
        }
    }
}

impl FromStr for CommitMetadata {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let fields: Vec<&str> = text.split(';').collect();
        let (epoch, as_of, identity) = match fields.as_slice() {
            ["v1", epoch, as_of] => (epoch, as_of, None),
            ["v2", epoch, as_of, nonce, owner] => (epoch, as_of, Some((nonce, owner))),
            _ => return Err(()),
        };
        let identity = match identity {
            None => None,
            Some((nonce, owner)) => {
                let digits = field(nonce, "nonce=")?;
                if digits.len() != 16 {
                    return Err(());
                }
                Some((
                    digits.parse().map_err(drop)?,
                    field(owner, "owner=")?.parse()?,
                ))
            }
        };
        let (epoch, as_of) = (field(epoch, "epoch=")?, field(as_of, "as_of=")?);
        Ok(Self {
            epoch: epoch.parse().map_err(drop)?,
            as_of_ms: as_of.parse().map_err(drop)?,
            identity,
        })
    }
}

fn field<'a>(text: &'a str, name: &str) -> Result<&'a str, ()> {
    text.strip_prefix(name).ok_or(())
}

/// The offsets that an epoch commits: those of all partitions, changed or not.
///
/// # Errors
/// An epoch without one position for each partition.
pub(crate) fn offsets_of(
    epoch: &SealedEpoch,
    owner: &Owner,
    partitions: &[InputPartition],
) -> Result<TopicPartitionList, PortError> {
    if epoch.positions.len() != partitions.len() {
        return Err(PortError::fatal(
            PortCause::Misuse,
            format!(
                "epoch {} has {} positions, but {} partitions are read",
                epoch.number,
                epoch.positions.len(),
                partitions.len()
            ),
        ));
    }
    let positions: Vec<_> = epoch.positions.iter().copied().map(Some).collect();
    let metadata = CommitMetadata {
        epoch: epoch.number,
        as_of_ms: epoch.as_of_ms,
        identity: Some((epoch.nonce, owner.clone())),
    };
    offsets_with(&metadata, partitions, &positions)
}

/// Offsets with `metadata`, for the partitions that have a position.
pub(crate) fn offsets_with(
    metadata: &CommitMetadata,
    partitions: &[InputPartition],
    positions: &[Option<NextOffset>],
) -> Result<TopicPartitionList, PortError> {
    let text = metadata.to_string();
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (partition, position) in partitions.iter().zip(positions) {
        let Some(position) = position else { continue };
        let mut element = list.add_partition(&partition.topic, partition.partition);
        element.set_metadata(&text);
        element
            .set_offset(Offset::Offset(position.0))
            .map_err(|error| {
                PortError::fatal(
                    PortCause::Misuse,
                    format!(
                        "epoch {}: position {} of {}/{} is not an offset: {error}",
                        metadata.epoch, position.0, partition.topic, partition.partition
                    ),
                )
            })?;
    }
    Ok(list)
}

/// One partition of a group's committed offsets.
#[derive(Clone, Debug)]
struct CommittedOffset {
    topic: String,
    partition: i32,
    /// `None` where the group has no offset for the partition.
    offset: Option<i64>,
    metadata: String,
}

/// A group's committed offsets, as read from its coordinator.
#[derive(Clone, Debug)]
pub(crate) struct CommittedOffsets {
    group_id: String,
    offsets: Vec<CommittedOffset>,
}

/// Metadata that all committed offsets carry, and their positions in order of the partitions asked
/// for. A partition without a committed offset beside others that have one is new: its topic was
/// extended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) metadata: CommitMetadata,
    pub(crate) positions: Vec<Option<NextOffset>>,
}

impl Agreed {
    /// The standing of an epoch, of which the group has no positions.
    pub(crate) fn at(epoch: &CommittedEpoch, owner: &Owner) -> Self {
        let nonce = epoch.nonce.unwrap_or_default();
        Self {
            metadata: CommitMetadata {
                epoch: epoch.number,
                as_of_ms: epoch.as_of_ms,
                identity: Some((nonce, owner.clone())),
            },
            positions: epoch.positions.clone(),
        }
    }

    /// The newest committed epoch; `None` if only a take-over was committed so far.
    pub(crate) fn epoch(&self) -> Option<CommittedEpoch> {
        let Self {
            metadata,
            positions,
        } = self;
        let (number, as_of_ms, nonce) = (metadata.epoch, metadata.as_of_ms, metadata.nonce());
        (number > 0).then(|| CommittedEpoch {
            number,
            as_of_ms,
            nonce,
            positions: positions.clone(),
        })
    }
}

/// Asks the group's coordinator for the committed offsets, at most `timeout`.
///
/// A `read_committed` client waits until transactions that hold offsets are settled (KIP-447). A
/// `read_uncommitted` client gets the offsets that were committed last.
pub(crate) fn read_offsets(
    consumer: &BaseConsumer<ClientCallbacks>,
    group_id: &str,
    partitions: &[InputPartition],
    timeout: Duration,
) -> Result<CommittedOffsets, PortError> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(&partition.topic, partition.partition);
    }
    let asking = || format!("reading the committed offsets of group '{group_id}'");
    let access = consumer.context().access();
    let subject = format!("group '{group_id}'");
    let failed = |error| port_error_of(access, &asking(), &subject, &error);
    serve(consumer);
    let list = consumer.committed_offsets(list, timeout).map_err(|error| {
        serve_all(consumer);
        access.explain(failed(error))
    })?;
    access.admit_group();
    let mut offsets = Vec::with_capacity(partitions.len());
    for InputPartition {
        topic, partition, ..
    } in partitions
    {
        let element = list.find_partition(topic, *partition);
        let element = element.ok_or_else(|| {
            PortError::fatal(
                PortCause::NoAnswer,
                format!("{}: {topic}/{partition} is missing in the answer", asking()),
            )
        })?;
        element.error().map_err(failed)?;
        let offset = match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        offsets.push(CommittedOffset {
            topic: topic.clone(),
            partition: *partition,
            offset,
            metadata: element.metadata().to_owned(),
        });
    }
    Ok(CommittedOffsets {
        group_id: group_id.to_owned(),
        offsets,
    })
}

impl CommittedOffsets {
    /// The offset of each partition, in order of the question; `None` where there is none.
    pub(crate) fn places(&self) -> Vec<Option<i64>> {
        self.offsets.iter().map(|place| place.offset).collect()
    }

    /// The metadata and positions of all partitions; `None` if the group has no offsets.
    ///
    /// # Errors
    /// Offsets that another program wrote, or that disagree.
    pub(crate) fn agreed(&self) -> Result<Option<Agreed>, PortError> {
        let foreign = self.offsets.iter().find(|committed| committed.is_foreign());
        if let Some(CommittedOffset {
            topic,
            partition,
            metadata,
            ..
        }) = foreign
        {
            return Err(PortError::fatal(
                PortCause::PositionsForeign,
                format!(
                    "group '{}' has an offset for {topic}/{partition} that Leadpulse did not write (metadata {metadata:?}); another program commits \
                 under this group id, or the offsets were reset: choose another kafka.group_id with new output topics",
                    self.group_id
                ),
            ));
        }
        let positions = self
            .offsets
            .iter()
            .map(|committed| committed.offset.map(NextOffset))
            .collect();
        Ok(self.standing()?.map(|metadata| Agreed {
            metadata,
            positions,
        }))
    }

    /// The metadata of a partition's offset; `None` where the group has no offset for it.
    pub(crate) fn metadata_of(&self, topic: &str, partition: i32) -> Option<&str> {
        let mut offsets = self.offsets.iter();
        let found = offsets.find(|it| it.topic == topic && it.partition == partition)?;
        found.offset.map(|_| found.metadata.as_str())
    }

    /// The metadata of the newest transaction; `None` if no offset carries metadata of ours.
    /// Offsets that another program wrote over ours are passed over: each transaction writes all
    /// partitions, so one offset that still carries our metadata names the newest transaction.
    ///
    /// # Errors
    /// Offsets that disagree.
    pub(crate) fn standing(&self) -> Result<Option<CommitMetadata>, PortError> {
        let mut newest: Option<(CommitMetadata, &CommittedOffset)> = None;
        for committed in &self.offsets {
            let Some(found) = committed.ours() else {
                continue;
            };
            match &newest {
                None => newest = Some((found, committed)),
                Some((first, _)) if *first == found => {}
                Some((first, other)) => {
                    return Err(PortError::fatal(
                        PortCause::PositionsForeign,
                        format!(
                            "the offsets of group '{}' disagree: {}/{} is at epoch {}, {}/{} at epoch {}; they were changed from outside",
                            self.group_id,
                            committed.topic,
                            committed.partition,
                            found.epoch,
                            other.topic,
                            other.partition,
                            first.epoch
                        ),
                    ));
                }
            }
        }
        Ok(newest.map(|(metadata, _)| metadata))
    }
}

impl CommittedOffset {
    fn ours(&self) -> Option<CommitMetadata> {
        self.offset.and_then(|_| self.metadata.parse().ok())
    }

    fn is_foreign(&self) -> bool {
        self.offset.is_some() && self.ours().is_none()
    }
}

#[cfg(test)]
mod tests {
    use leadpulse_schema::TableId;

    use super::*;

    const OWNER: &str = "0123456789abcdef0123456789abcdef";
    /// Texts as versions 1 and 2 wrote them.
    const V1: &str = "v1;epoch=7;as_of=-5";
    const V2: &str =
        "v2;epoch=7;as_of=-5;nonce=00000000000000ff;owner=0123456789abcdef0123456789abcdef";
    const V2_OTHER_OWNER: &str =
        "v2;epoch=7;as_of=-5;nonce=00000000000000ff;owner=ffffffffffffffffffffffffffffffff";

    /// Offset and metadata.
    type Offered = (Option<i64>, &'static str);

    fn offsets(committed: &[Offered]) -> CommittedOffsets {
        let offset = |(partition, (offset, metadata)): (usize, &Offered)| CommittedOffset {
            topic: "t".into(),
            partition: partition as i32,
            offset: *offset,
            metadata: (*metadata).into(),
        };
        CommittedOffsets {
            group_id: "g".into(),
            offsets: committed.iter().enumerate().map(offset).collect(),
        }
    }

    #[test]
    fn metadata_of_both_versions_is_read_and_written_as_it_was() {
        let read = |text: &str| text.parse::<CommitMetadata>().unwrap();
        let identity = Some((Nonce(255), OWNER.parse().unwrap()));
        assert_eq!(
            read(V1),
            CommitMetadata {
                epoch: 7,
                as_of_ms: -5,
                identity: None
            }
        );
        assert_eq!(
            read(V2),
            CommitMetadata {
                epoch: 7,
                as_of_ms: -5,
                identity
            }
        );
        for text in [V1, V2, V2_OTHER_OWNER] {
            assert_eq!(read(text).to_string(), text);
        }
    }

    #[test]
    fn metadata_of_other_programs_is_not_read() {
        let wrong = [
            "",
            "v1",
            "v1;epoch=-1;as_of=2",
            "v2;epoch=1;as_of=2",
            "v3;epoch=7;as_of=-5;nonce=00000000000000ff;owner=0123456789abcdef0123456789abcdef",
            "v2;epoch=7;as_of=-5;nonce=ff;owner=0123456789abcdef0123456789abcdef",
            "v2;epoch=7;as_of=-5;nonce=00000000000000ff;owner=0123456789ABCDEF0123456789abcdef",
            "v2;epoch=7;as_of=-5;nonce=00000000000000ff;owner=0123",
        ];
        for text in wrong {
            assert!(text.parse::<CommitMetadata>().is_err(), "{text}");
        }
    }

    #[test]
    fn owners_differ_and_are_read_back() {
        let (one, other) = (Owner::random(), Owner::random());
        assert_ne!(one, other);
        assert_eq!(one.as_str().parse::<Owner>(), Ok(one.clone()));
    }

    #[test]
    fn offsets_that_agree_name_the_epoch() {
        let epoch = |committed: &[Offered]| {
            offsets(committed)
                .agreed()
                .unwrap()
                .and_then(|agreed| agreed.epoch())
        };
        let expected = |nonce, positions: &[Option<i64>]| {
            let positions = positions
                .iter()
                .map(|offset| offset.map(NextOffset))
                .collect();
            Some(CommittedEpoch {
                number: 7,
                as_of_ms: -5,
                nonce,
                positions,
            })
        };
        assert_eq!(epoch(&[]), None);
        assert_eq!(epoch(&[(None, ""), (None, "")]), None);
        assert_eq!(
            epoch(&[(Some(3), V1), (Some(0), V1)]),
            expected(None, &[Some(3), Some(0)])
        );
        assert_eq!(
            epoch(&[(Some(3), V2), (None, "")]),
            expected(Some(Nonce(255)), &[Some(3), None])
        );
    }

    #[test]
    fn a_take_over_before_the_first_epoch_names_none() {
        let first =
            "v2;epoch=0;as_of=0;nonce=0000000000000000;owner=0123456789abcdef0123456789abcdef";
        let agreed = offsets(&[(Some(3), first)]).agreed().unwrap().unwrap();
        assert_eq!(
            (agreed.epoch(), agreed.positions),
            (None, vec![Some(NextOffset(3))])
        );
    }

    #[test]
    fn foreign_or_torn_offsets_are_refused() {
        let cases: [(&[Offered], &str); 5] = [
            (&[(Some(3), "")], "did not write"),
            (&[(Some(3), V2), (Some(3), "")], "did not write"),
            (
                &[
                    (Some(3), "v1;epoch=1;as_of=2"),
                    (Some(3), "v1;epoch=2;as_of=2"),
                ],
                "disagree",
            ),
            (&[(Some(3), V1), (Some(3), V2)], "disagree"),
            (&[(Some(3), V2), (Some(3), V2_OTHER_OWNER)], "disagree"),
        ];
        for (committed, expected) in cases {
            let error = offsets(committed).agreed().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn foreign_offsets_do_not_hide_the_owner() {
        let standing = |committed: &[Offered]| {
            offsets(committed)
                .standing()
                .unwrap()
                .map(|metadata| metadata.to_string())
        };
        assert_eq!(
            standing(&[(Some(9), "console"), (Some(3), V2)]).as_deref(),
            Some(V2)
        );
        assert_eq!(standing(&[(Some(9), "console"), (None, "")]), None);
        assert!(
            offsets(&[(Some(3), V2), (Some(3), V2_OTHER_OWNER)])
                .standing()
                .is_err()
        );
    }

    #[test]
    fn an_epoch_carries_every_position_with_its_owner() {
        let partitions = [InputPartition {
            topic: "t".into(),
            partition: 0,
            tables: vec![TableId(0)],
        }];
        let owner: Owner = OWNER.parse().unwrap();
        let epoch = SealedEpoch {
            number: 7,
            nonce: Nonce(255),
            as_of_ms: -5,
            positions: vec![],
            outputs: vec![],
        };
        assert!(offsets_of(&epoch, &owner, &partitions).is_err());
        let list = offsets_of(
            &SealedEpoch {
                positions: vec![NextOffset(4)],
                ..epoch
            },
            &owner,
            &partitions,
        )
        .unwrap();
        let element = list.find_partition("t", 0).unwrap();
        assert_eq!(
            (element.offset(), element.metadata()),
            (Offset::Offset(4), V2)
        );
    }
}
