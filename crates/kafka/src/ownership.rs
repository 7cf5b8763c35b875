//! [`OwnershipWatch`]: notices within two seconds, also while nothing is committed, that another process took over.
//!
//! A thread with a `read_uncommitted` client asks for the committed metadata of one partition every second. Such a client does not wait for
//! transactions that are open. An answer of an earlier epoch comes from a coordinator that lags behind, and says nothing; another token is
//! asked for twice, for the same reason.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use leadpulse_engine::ports::{InputPartition, PortCause, PortError};

use crate::metrics::KafkaMetrics;
use crate::offsets::{Isolation, OffsetReader};
use crate::options::KafkaOptions;
use crate::position::{CommitMetadata, Owner, read_offsets};

/// Between two questions.
const INTERVAL: Duration = Duration::from_secs(1);
/// Before another's token is asked for a second time.
const CONFIRM_AFTER: Duration = Duration::from_millis(200);

/// State that the watching thread shares with the sink.
#[derive(Default)]
struct OwnershipState {
    /// Number of the newest epoch that this process committed or found.
    committed: AtomicU64,
    /// The token that stands in place of ours.
    other: Mutex<Option<Owner>>,
}

/// A thread that watches the owner's token. It ends when this is dropped.
pub(crate) struct OwnershipWatch {
    shared: Arc<OwnershipState>,
    _running: Sender<()>,
}

impl OwnershipWatch {
    /// Starts to watch `partition`, from the moment on that our token stands with epoch `committed`.
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
        let watcher = Watcher {
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

    /// Notes a committed epoch.
    pub(crate) fn committed(&self, epoch: u64) {
        self.shared.committed.store(epoch, Ordering::Release);
    }

    /// The owner whose token stands in place of ours, if one was noticed.
    pub(crate) fn other(&self) -> Option<Owner> {
        self.shared
            .other
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

struct Watcher {
    reader: OffsetReader,
    group_id: String,
    timeout: Duration,
    partition: InputPartition,
    owner: Owner,
    shared: Arc<OwnershipState>,
}

impl Watcher {
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
            let _ = self.reader.client().poll(Duration::ZERO); // serves errors and log lines; nothing is assigned
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

    /// Another owner's token, if it stands now. Errors are the sink's to report; here they only delay the answer.
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

/// The owner that `standing` names, if it is another one and its epoch is not older than ours.
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
