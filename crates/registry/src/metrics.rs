//! Metrics of writer schemas: names, units and labels.

use std::sync::Arc;

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

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
        let metrics = Self {
            requests: IntCounterVec::new(
                Opts::new(
                    "leadpulse_schema_registry_requests_total",
                    "Requests to the schema registry by HTTP status, or 'failed'.",
                ),
                &["code"],
            )?,
            cached_schemas: IntGauge::new(
                "leadpulse_schema_cache_size",
                "Writer schemas answered from memory.",
            )?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.cached_schemas.clone()))?;
        Ok(Arc::new(metrics))
    }
}
