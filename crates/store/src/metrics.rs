//! Metrics of the store.

use std::sync::Arc;

use leadpulse_metrics::{Instruments, MetricDefinition as Metric};
use prometheus::{IntCounter, IntGauge, Registry};

/// All metrics of the store; 0 without `[store]`.
pub const STORE_METRICS: &[Metric] = &[
    Metric::gauge(
        "leadpulse_store_epoch",
        &[],
        "The last epoch that is in the stored state.",
    ),
    Metric::gauge(
        "leadpulse_store_queued_bytes",
        &[],
        "Bytes of committed epochs that wait to be stored.",
    ),
    Metric::counter(
        "leadpulse_store_written_bytes_total",
        &[],
        "Bytes of pieces handed to the database.",
    ),
    Metric::gauge(
        "leadpulse_store_disk_bytes",
        &[],
        "Bytes of the state's folder.",
    ),
    Metric::counter(
        "leadpulse_store_failures_total",
        &[],
        "Writes and syncs of the stored state that failed.",
    ),
    Metric::gauge(
        "leadpulse_store_erasing",
        &[],
        "1 while the state's folder contains bytes of something that was erased.",
    ),
    Metric::counter(
        "leadpulse_store_rewrites_total",
        &[],
        "Times that the state's folder was written anew after an erasure.",
    ),
    Metric::gauge(
        "leadpulse_snapshot_epoch",
        &[],
        "The epoch of the last snapshot.",
    ),
    Metric::gauge(
        "leadpulse_snapshot_timestamp_seconds",
        &[],
        "When the last snapshot was begun; 0 before the first of this process.",
    ),
    Metric::counter(
        "leadpulse_snapshot_written_bytes_total",
        &[],
        "Compressed bytes written for snapshots.",
    ),
    Metric::counter(
        "leadpulse_snapshot_failures_total",
        &[],
        "Snapshots that failed.",
    ),
];

/// Counters and gauges of one store.
#[derive(Debug)]
pub struct StoreMetrics {
    /// The last epoch that is written.
    pub(crate) epoch: IntGauge,
    /// Bytes that wait to be written.
    pub(crate) queued: IntGauge,
    /// Bytes of pieces written.
    pub(crate) written: IntCounter,
    /// Bytes of the folder.
    pub(crate) disk: IntGauge,
    /// Failed writes and syncs.
    pub(crate) failures: IntCounter,
    /// 1 while the folder contains bytes of something that was erased.
    pub(crate) erasing: IntGauge,
    /// Times that the folder was written anew after an erasure.
    pub(crate) rewrites: IntCounter,
    /// The epoch of the last snapshot.
    pub(crate) snapshot_epoch: IntGauge,
    /// When it was begun, seconds since 1970 UTC.
    pub(crate) snapshot_at: IntGauge,
    /// Compressed bytes written for snapshots.
    pub(crate) snapshot_bytes: IntCounter,
    /// Snapshots that failed.
    pub(crate) snapshot_failures: IntCounter,
}

impl StoreMetrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// A name that is registered already.
    pub fn register(registry: &Registry) -> Result<Arc<Self>, prometheus::Error> {
        let made = Instruments::new(registry, STORE_METRICS);
        let metrics = Self {
            epoch: made.gauge("leadpulse_store_epoch")?,
            queued: made.gauge("leadpulse_store_queued_bytes")?,
            written: made.counter("leadpulse_store_written_bytes_total")?,
            disk: made.gauge("leadpulse_store_disk_bytes")?,
            failures: made.counter("leadpulse_store_failures_total")?,
            erasing: made.gauge("leadpulse_store_erasing")?,
            rewrites: made.counter("leadpulse_store_rewrites_total")?,
            snapshot_epoch: made.gauge("leadpulse_snapshot_epoch")?,
            snapshot_at: made.gauge("leadpulse_snapshot_timestamp_seconds")?,
            snapshot_bytes: made.counter("leadpulse_snapshot_written_bytes_total")?,
            snapshot_failures: made.counter("leadpulse_snapshot_failures_total")?,
        };
        made.finish()?;
        Ok(Arc::new(metrics))
    }
}
