//! The state of each sink, for probes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Condition of a sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Condition {
    /// The topic was read at least once.
    reads: bool,
    /// Reason for which the sink waits before it sends again.
    waiting: Option<String>,
    /// Error that ended the sink.
    failed: Option<String>,
}

/// The state of one sink, shared by its worker and the probes.
#[derive(Debug, Default)]
pub struct SinkState {
    name: String,
    beats: AtomicU64,
    condition: Mutex<Condition>,
}

impl SinkState {
    /// The state of a sink that has not begun.
    pub fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            ..Self::default()
        })
    }

    fn condition(&self) -> MutexGuard<'_, Condition> {
        self.condition
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_reads(&self) {
        self.condition().reads = true;
    }

    pub(crate) fn set_waiting(&self, reason: Option<&str>) {
        self.condition().waiting = reason.map(str::to_owned);
    }

    /// Notes that the topic cannot be opened yet, and that the loop comes round.
    pub fn note_opening(&self, reason: &str) {
        self.beat();
        self.set_waiting(Some(reason));
    }

    /// Notes the error that ended the sink's worker.
    pub fn set_failed(&self, error: &str) {
        self.condition().failed = Some(error.to_owned());
    }

    /// The reason for which the sink waits; `None` if it does not.
    pub fn waiting(&self) -> Option<String> {
        self.condition().waiting.clone()
    }
}

/// The sinks of a process, for probes.
#[derive(Clone, Debug, Default)]
pub struct DeliverHealth(Vec<Arc<SinkState>>);

impl DeliverHealth {
    /// The health of these sinks.
    pub fn new(sinks: Vec<Arc<SinkState>>) -> Self {
        Self(sinks)
    }

    /// Numbers that rise while the loops of the sinks come round.
    pub fn beats(&self) -> Vec<u64> {
        let beats = self.0.iter().map(|sink| sink.beats.load(Ordering::Relaxed));
        beats.collect()
    }

    /// Names of the sinks, in the order of [`Self::beats`].
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(|sink| sink.name.as_str()).collect()
    }

    /// Errors of sinks that ended, one sentence each.
    pub fn failures(&self) -> Vec<String> {
        let failed = |sink: &Arc<SinkState>| {
            let error = sink.condition().failed.clone()?;
            Some(format!("{}: {error}", sink.name))
        };
        self.0.iter().filter_map(failed).collect()
    }

    /// Reasons for which sinks do not deliver now, one sentence each; empty if all do.
    pub fn hindrances(&self) -> Vec<String> {
        let mut found = Vec::new();
        for sink in &self.0 {
            let condition = sink.condition().clone();
            let reason = match condition {
                Condition {
                    failed: Some(error),
                    ..
                } => error,
                Condition {
                    waiting: Some(reason),
                    ..
                } => reason,
                Condition { reads: false, .. } => "reads nothing yet".to_owned(),
                _ => continue,
            };
            found.push(format!("{}: {reason}", sink.name));
        }
        found
    }
}
