//! The pipeline as it runs: the newest epoch with its times, and the lag of each partition.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use serde::Serialize;

use leadpulse_records::TraceContext;

use super::ReadModel;

/// The newest committed epoch, with the time that it took.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EpochTimes {
    /// Number of the epoch.
    pub epoch: u64,
    /// Records that it took.
    pub records: u64,
    /// Entities that were scored, whether or not a record was due.
    pub scored: u64,
    pub scores: u64,
    pub alerts: u64,
    /// Seconds from its start to its commit.
    pub seconds: f64,
    /// Seconds from the Kafka timestamp of its newest record to its commit; `None` without one.
    pub newest_record_age_seconds: Option<f64>,
    /// Seconds by stage, in order.
    pub stages: Vec<StageTime>,
    /// Traces that its records' headers name, each once, the first 32; empty where no spans are
    /// exported.
    #[serde(skip)]
    pub linked_traces: Vec<TraceContext>,
}

/// The time of one stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageTime {
    pub stage: &'static str,
    pub seconds: f64,
}

/// The place of a partition, as it was last measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionLag {
    pub topic: String,
    /// Partition number within the topic.
    pub partition: i32,
    /// Offset of the next record that an epoch takes.
    pub next_offset: i64,
    /// End of the partition.
    pub end_offset: i64,
    /// Offsets between the two.
    pub lag_records: u64,
}

/// The pipeline as it runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PipelineView {
    /// The newest epoch of this process; `None` before the first, and for a follower.
    pub newest_epoch: Option<Arc<EpochTimes>>,
    /// Partitions in the order of the layout; empty before the first measurement.
    pub partitions: Arc<Vec<PartitionLag>>,
}

impl ReadModel {
    /// Sends the times of each epoch from now on to a watcher; `None` ends it. An epoch that comes while
    /// the channel is full is left out: the engine waits for no watcher.
    pub fn watch_epochs(&self, watcher: Option<SyncSender<EpochTimes>>) {
        self.epoch_watch.store(watcher.map(Arc::new));
    }

    /// Shows the times of the newest epoch.
    pub fn set_epoch_times(&self, times: EpochTimes) {
        if let Some(watcher) = &*self.epoch_watch.load() {
            // Full, or gone: the epoch is shown all the same.
            let _ = watcher.try_send(times.clone());
        }
        let view = PipelineView {
            newest_epoch: Some(Arc::new(times)),
            partitions: self.pipeline.load().partitions.clone(),
        };
        self.pipeline.store(Arc::new(view));
    }

    /// Shows the places of the partitions.
    pub fn set_partition_lags(&self, partitions: Vec<PartitionLag>) {
        let view = PipelineView {
            newest_epoch: self.pipeline.load().newest_epoch.clone(),
            partitions: Arc::new(partitions),
        };
        self.pipeline.store(Arc::new(view));
    }

    /// The pipeline as it runs.
    pub fn pipeline(&self) -> Arc<PipelineView> {
        self.pipeline.load_full()
    }
}
