//! [`OwnershipWatch`]: notices within two seconds, also while nothing is committed, that another
//! process took over.
//!
//! A thread asks for the committed metadata of one partition every second. Its client is
//! `read_uncommitted`, because a coordinator lets a `read_committed` client wait while a
//! transaction that holds offsets is open (KIP-447). An answer with an earlier epoch comes from a
//! coordinator that lags behind, and proves nothing. For the same reason another token counts only
//! after a second question.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use leadpulse_engine::ports::{InputPartition, PortCause, PortError};

use crate::committed::{CommitMetadata, Owner, read_offsets};
use crate::metrics::KafkaMetrics;
use crate::offsets::{Isolation, OffsetReader};
use crate::options::KafkaOptions;

/// Time between two questions.
const INTERVAL: Duration = Duration::from_secs(1);
/// Pause before the question that confirms another owner's token.
const CONFIRM_AFTER: Duration = Duration::from_millis(200);

/// State that the watching thread shares with the sink.
#[derive(Default)]
struct OwnershipState {
    /// Number of the newest epoch that this process committed or found.
    committed: AtomicU64,
    /// Token of another owner, once it was confirmed.
    other: Mutex<Option<Owner>>,
}

/// A thread that watches the owner's token. The thread ends when this handle is dropped.
pub(crate) struct OwnershipWatch {
    shared: Arc<OwnershipState>,
    _running: Sender<()>,
}

impl OwnershipWatch {
    /// Starts to watch `partition`. Our token must stand already, with epoch `committed`.
    pub(crate) fn start(
        options: &KafkaOptions,
        metrics: &Arc<KafkaMetrics>,
        partition: &InputPartition,
        owner: &Owner,
        committed: u64,
    ) -> Result<Self, PortError> {
        let shared = Arc::new(OwnershipState {
            committed: AtomicU64::new(committed),
            other: Mutex::default(),
        });
        let (running, until_dropped) = bounded(0);
        let watcher = OwnershipWatcher {
            reader: OffsetReader::to_ask(options, Isolation::Uncommitted, metrics)?,
            group_id: options.group_id.clone(),
            timeout: options.request_timeout(),
            partition: partition.clone(),
            owner: owner.clone(),
            shared: Arc::clone(&shared),
        };
        let spawned = std::thread::Builder::new()
            .name("kafka-ownership".into())
            .spawn(move || watcher.run(&until_dropped));
        spawned.map_err(|error| {
            PortError::fatal(
                PortCause::Local,
                format!("kafka: no thread to watch the owner: {error}"),
            )
        })?;
        Ok(Self {
            shared,
            _running: running,
        })
    }

    /// Raises the epoch below which other tokens are ignored to `epoch`.
    pub(crate) fn committed(&self, epoch: u64) {
        self.shared.committed.store(epoch, Ordering::Release);
    }

    /// Another owner whose token stands in place of ours, if one was confirmed.
    pub(crate) fn other(&self) -> Option<Owner> {
        self.shared
            .other
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

struct OwnershipWatcher {
    reader: OffsetReader,
    group_id: String,
    timeout: Duration,
    partition: InputPartition,
    owner: Owner,
    shared: Arc<OwnershipState>,
}

impl OwnershipWatcher {
    fn run(self, until_dropped: &Receiver<()>) {
        let mut suspected: Option<Owner> = None;
        loop {
            let pause = if suspected.is_some() {
                CONFIRM_AFTER
            } else {
                INTERVAL
            };
            if !matches!(
                until_dropped.recv_timeout(pause),
                Err(RecvTimeoutError::Timeout)
            ) {
                return;
            }
            // librdkafka keeps errors and log lines until a poll; nothing is assigned, so no record
            // can come.
            let _ = self.reader.client().poll(Duration::ZERO);
            let found = self.ask();
            if found.is_some() && found == suspected {
                *self
                    .shared
                    .other
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = found;
                return;
            }
            suspected = found;
        }
    }

    /// Another owner's token, if one stands now. An error only delays the answer: the sink reports
    /// errors of the group.
    fn ask(&self) -> Option<Owner> {
        let committed = self.shared.committed.load(Ordering::Acquire);
        let offsets = read_offsets(
            self.reader.client(),
            &self.group_id,
            std::slice::from_ref(&self.partition),
            self.timeout,
        );
        match offsets.and_then(|offsets| offsets.standing()) {
            Ok(standing) => {
                standing.and_then(|standing| other_owner(&standing, &self.owner, committed))
            }
            Err(error) => {
                tracing::debug!(%error, "the owner of the outputs cannot be asked for; asking again");
                None
            }
        }
    }
}

/// The owner in `standing`, if that is not `owner` and the epoch is not older than `committed`.
pub(crate) fn other_owner(
    standing: &CommitMetadata,
    owner: &Owner,
    committed: u64,
) -> Option<Owner> {
    let (_, found) = standing.identity.as_ref()?;
    (found != owner && standing.epoch >= committed).then(|| found.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_owner_of_no_older_epoch_counts() {
        let (ours, theirs) = ("a".repeat(32), "b".repeat(32));
        let owner: Owner = ours.parse().unwrap();
        let cases = [
            (&ours, 7, false),
            (&theirs, 6, false),
            (&theirs, 7, true),
            (&theirs, 8, true),
        ];
        for (token, epoch, expected) in cases {
            let standing = format!("v2;epoch={epoch};as_of=0;nonce=0000000000000001;owner={token}")
                .parse()
                .unwrap();
            assert_eq!(
                other_owner(&standing, &owner, 7).is_some(),
                expected,
                "{standing}"
            );
        }
        assert_eq!(
            other_owner(&"v1;epoch=9;as_of=0".parse().unwrap(), &owner, 7),
            None
        );
    }
}
