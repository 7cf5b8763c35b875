//! [`KafkaHeartbeats`]: signs of life as metadata of one more offset of the group.
//!
//! The owner commits an offset of the epochs topic's partition, outside of any transaction, with
//! the metadata `sign1;owner=HEX32;count=N;left=0|1`. Followers read it together with the marks of
//! the newest transaction, in one request to the group's coordinator. So a sign costs no record
//! that is kept, no topic and no permission that a deployment does not need anyway. The offset
//! itself means nothing: nobody reads the epochs topic from it.
//!
//! A sign is written by whichever process believes that it owns the outputs. It keeps followers
//! from taking over, and gives no right to anything.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use leadpulse_engine::ports::{
    CommitMark, Heartbeats, InputPartition, Output, OwnerSight, PortCause, PortError, SignOfLife,
};

use crate::client::serve;
use crate::committed::{CommitMetadata, Owner, read_offsets};
use crate::metrics::KafkaMetrics;
use crate::offsets::{Isolation, OffsetReader};
use crate::options::KafkaOptions;

/// Limit of one look. A later answer proves no silence.
const LOOK_LIMIT: Duration = Duration::from_secs(1);
/// Partition of the epochs topic.
const PARTITION: i32 = 0;

/// A sign as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SignMetadata(SignOfLife);

impl fmt::Display for SignMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SignOfLife { owner, count, left } = &self.0;
        let left = u8::from(*left);
        write!(f, "sign1;owner={owner};count={count};left={left}")
    }
}

impl FromStr for SignMetadata {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let fields: Vec<&str> = text.split(';').collect();
        let ["sign1", owner, count, left] = fields[..] else {
            return Err(());
        };
        let field = |text: &str, name: &str| text.strip_prefix(name).map(str::to_owned).ok_or(());
        let owner: Owner = field(owner, "owner=")?.parse()?;
        Ok(Self(SignOfLife {
            owner: owner.to_string(),
            count: field(count, "count=")?.parse().map_err(drop)?,
            left: match field(left, "left=")?.as_str() {
                "0" => false,
                "1" => true,
                _ => return Err(()),
            },
        }))
    }
}

/// Signs of life on the group's offsets.
pub struct KafkaHeartbeats {
    options: KafkaOptions,
    metrics: Arc<KafkaMetrics>,
    every: Duration,
    /// One partition of each input topic, whose offsets carry the marks of transactions, then the
    /// one that carries the signs.
    asked: Vec<InputPartition>,
    /// `read_uncommitted`: it is answered at once while a transaction is open.
    reader: OffsetReader,
    beating: Option<Beating>,
}

/// The thread that writes signs.
struct Beating {
    /// Dropped without a message when the process ends otherwise than on purpose.
    leave: Sender<()>,
    left: Receiver<()>,
}

impl KafkaHeartbeats {
    /// Signs of a deployment that reads `partitions`, one in `every`.
    ///
    /// # Errors
    /// A client that cannot be created.
    pub fn new(
        options: &KafkaOptions,
        partitions: &[InputPartition],
        every: Duration,
        metrics: &Arc<KafkaMetrics>,
    ) -> Result<Self, PortError> {
        let mut asked: Vec<InputPartition> = Vec::new();
        for partition in partitions {
            if asked.iter().all(|it| it.topic != partition.topic) {
                asked.push(partition.clone());
            }
        }
        asked.push(InputPartition {
            topic: options.outputs.name(Output::Epochs).to_owned(),
            partition: PARTITION,
            tables: Vec::new(),
        });
        Ok(Self {
            options: options.clone(),
            metrics: Arc::clone(metrics),
            every,
            asked,
            reader: OffsetReader::to_ask(options, Isolation::Uncommitted, metrics)?,
            beating: None,
        })
    }
}

impl Heartbeats for KafkaHeartbeats {
    fn look(&mut self) -> Result<OwnerSight, PortError> {
        // librdkafka keeps errors and log lines until a poll; nothing is assigned, so no record
        // can come.
        let _ = self.reader.client().poll(Duration::ZERO);
        let group_id = &self.options.group_id;
        let offsets = read_offsets(self.reader.client(), group_id, &self.asked, LOOK_LIMIT)?;
        let topic = self.options.outputs.name(Output::Epochs);
        let sign = offsets.metadata_of(topic, PARTITION);
        let sign = sign.and_then(|text| text.parse::<SignMetadata>().ok());
        Ok(OwnerSight {
            committed: offsets.standing()?.map(mark),
            sign: sign.map(|sign| sign.0),
        })
    }

    fn begin(&mut self, owner: &str) -> Result<(), PortError> {
        let writer = SignWriter {
            client: OffsetReader::to_ask(&self.options, Isolation::Uncommitted, &self.metrics)?,
            topic: self.options.outputs.name(Output::Epochs).to_owned(),
            sign: SignOfLife {
                owner: owner.to_owned(),
                count: 0,
                left: false,
            },
            every: self.every,
        };
        let ((leave, until_left), (confirm, left)) = (bounded(1), bounded(1));
        let spawned = std::thread::Builder::new()
            .name("kafka-heartbeat".into())
            .spawn(move || writer.run(&until_left, &confirm));
        spawned.map_err(|error| {
            PortError::fatal(
                PortCause::Local,
                format!("kafka: no thread to write signs of life: {error}"),
            )
        })?;
        self.beating = Some(Beating { leave, left });
        Ok(())
    }

    fn leave(&mut self) {
        let Some(beating) = self.beating.take() else {
            return;
        };
        let asked = beating.leave.send(());
        let limit = self.options.close_timeout();
        if asked.is_err() || beating.left.recv_timeout(limit).is_err() {
            tracing::info!(
                "the last sign of life was not written: a follower waits for silence before it takes over"
            );
        }
    }
}

fn mark(metadata: CommitMetadata) -> CommitMark {
    CommitMark {
        epoch: metadata.epoch,
        nonce: metadata.nonce(),
        owner: metadata.identity.map(|(_, owner)| owner.to_string()),
    }
}

/// Writes signs on a thread of its own: a commit may wait for brokers.
struct SignWriter {
    client: OffsetReader,
    topic: String,
    sign: SignOfLife,
    every: Duration,
}

impl SignWriter {
    fn run(mut self, until_left: &Receiver<()>, confirm: &Sender<()>) {
        loop {
            self.write();
            match until_left.recv_timeout(self.every) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
                Ok(()) => {
                    self.sign.left = true;
                    if self.write() {
                        let _ = confirm.send(()); // the process may have stopped waiting
                    }
                    return;
                }
            }
        }
    }

    /// Writes the next sign. An error only delays it: followers ask the same coordinator, and
    /// conclude nothing while it does not answer.
    fn write(&mut self) -> bool {
        self.sign.count += 1;
        serve(self.client.client());
        let text = SignMetadata(self.sign.clone()).to_string();
        let mut list = TopicPartitionList::with_capacity(1);
        let mut element = list.add_partition(&self.topic, PARTITION);
        element.set_metadata(&text);
        let written = element
            .set_offset(Offset::Offset(0))
            .and_then(|()| self.client.client().commit(&list, CommitMode::Sync));
        match written {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "a sign of life was not written; writing the next one");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_read_as_they_were_written_and_other_metadata_is_not() {
        let sign = |count, left| SignOfLife {
            owner: "a".repeat(32),
            count,
            left,
        };
        for sign in [sign(1, false), sign(u64::MAX, true)] {
            let text = SignMetadata(sign.clone()).to_string();
            assert_eq!(text.parse(), Ok(SignMetadata(sign)));
        }
        let owner = "a".repeat(32);
        for text in [
            String::new(),
            format!("sign2;owner={owner};count=1;left=0"),
            format!("sign1;owner={owner};count=1;left=2"),
            format!("sign1;owner={owner};count=-1;left=0"),
            "sign1;owner=b;count=1;left=0".to_owned(),
            format!("v2;epoch=1;as_of=0;nonce=0000000000000001;owner={owner}"),
        ] {
            assert_eq!(text.parse::<SignMetadata>(), Err(()), "{text}");
        }
    }
}
