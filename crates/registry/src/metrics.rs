//! Metrics of writer schemas: names, units and labels.

use std::sync::Arc;

use leadpulse_metrics::{Instruments, MetricDefinition as Metric};
use prometheus::{IntCounterVec, IntGauge, Registry};

/// All metrics of writer schemas.
pub const REGISTRY_METRICS: &[Metric] = &[
    Metric::counter(
        "leadpulse_schema_registry_requests_total",
        &["code"],
        "Requests to the schema registry by HTTP status, or 'failed'.",
    ),
    Metric::gauge(
        "leadpulse_schema_cache_size",
        &[],
        "Writer schemas answered from memory.",
    ),
];

/// Metrics of all stores of writer schemas in a process.
pub struct RegistryMetrics {
    pub(crate) requests: IntCounterVec,
    pub(crate) cached_schemas: IntGauge,
}

impl RegistryMetrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// One of the names is taken.
    pub fn register(registry: &Registry) -> Result<Arc<Self>, prometheus::Error> {
        let made = Instruments::new(registry, REGISTRY_METRICS);
        let metrics = Self {
            requests: made.counters("leadpulse_schema_registry_requests_total")?,
            cached_schemas: made.gauge("leadpulse_schema_cache_size")?,
        };
        made.finish()?;
        for code in ["200", "404", "failed"] {
            metrics.requests.with_label_values(&[code]);
        }
        Ok(Arc::new(metrics))
    }
}
