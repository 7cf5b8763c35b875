//! Metrics of the store.

use std::sync::Arc;

use prometheus::{IntCounter, IntGauge, Opts, Registry};

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
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::with_opts(Opts::new(name, help))?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::with_opts(Opts::new(name, help))?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Arc::new(Self {
            epoch: gauge(
                "leadpulse_store_epoch",
                "The last epoch that is in the stored state.",
            )?,
            queued: gauge(
                "leadpulse_store_queued_bytes",
                "Bytes of committed epochs that wait to be stored.",
            )?,
            written: counter(
                "leadpulse_store_written_bytes_total",
                "Bytes of pieces handed to the database.",
            )?,
            disk: gauge("leadpulse_store_disk_bytes", "Bytes of the state's folder.")?,
            failures: counter(
                "leadpulse_store_failures_total",
                "Writes and syncs of the stored state that failed.",
            )?,
            erasing: gauge(
                "leadpulse_store_erasing",
                "1 while the state's folder contains bytes of something that was erased.",
            )?,
            rewrites: counter(
                "leadpulse_store_rewrites_total",
                "Times that the state's folder was written anew after an erasure.",
            )?,
            snapshot_epoch: gauge(
                "leadpulse_snapshot_epoch",
                "The epoch of the last snapshot.",
            )?,
            snapshot_at: gauge(
                "leadpulse_snapshot_timestamp_seconds",
                "When the last snapshot was begun; 0 before the first of this process.",
            )?,
            snapshot_bytes: counter(
                "leadpulse_snapshot_written_bytes_total",
                "Compressed bytes written for snapshots.",
            )?,
            snapshot_failures: counter(
                "leadpulse_snapshot_failures_total",
                "Snapshots that failed.",
            )?,
        }))
    }
}
