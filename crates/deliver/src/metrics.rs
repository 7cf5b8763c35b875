//! Metrics of sinks: every name, unit and label.

use leadpulse_metrics::{Instruments, MetricDefinition as Metric};
use prometheus::{
    GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};

/// All metrics of sinks.
pub const DELIVER_METRICS: &[Metric] = &[
    Metric::counter(
        "leadpulse_deliver_records_total",
        &["sink", "outcome"],
        "Records of sinks by outcome: delivered, passed_over, superseded, dead_lettered.",
    ),
    Metric::counter(
        "leadpulse_deliver_requests_total",
        &["sink", "outcome"],
        "Requests of sinks by outcome: accepted, refused, retried (it is sent again in whole or in part).",
    ),
    Metric::histogram(
        "leadpulse_deliver_request_duration_seconds",
        &["sink"],
        &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0],
        "From a sink's request to its answer, or to the lack of one.",
    ),
    Metric::gauge(
        "leadpulse_deliver_lag_seconds",
        &["sink"],
        "Age of the oldest record that a sink took and has not settled; 0 when there is none.",
    ),
    Metric::gauge(
        "leadpulse_deliver_waiting",
        &["sink"],
        "1 while a sink waits before it sends again: the other side failed, or asked to wait.",
    ),
];

/// The metrics of all sinks of a process.
#[derive(Clone, Debug)]
pub struct DeliverMetrics {
    records: IntCounterVec,
    requests: IntCounterVec,
    duration: HistogramVec,
    lag: GaugeVec,
    waiting: IntGaugeVec,
}

/// The metrics of one sink. All of them exist from the start, at 0.
#[derive(Clone, Debug)]
pub(crate) struct SinkMetrics {
    pub(crate) delivered: IntCounter,
    pub(crate) passed_over: IntCounter,
    pub(crate) superseded: IntCounter,
    pub(crate) dead_lettered: IntCounter,
    pub(crate) accepted: IntCounter,
    pub(crate) refused: IntCounter,
    pub(crate) retried: IntCounter,
    pub(crate) duration: Histogram,
    pub(crate) lag_seconds: prometheus::Gauge,
    pub(crate) waiting: IntGauge,
}

impl DeliverMetrics {
    /// Creates and registers the metrics.
    ///
    /// # Errors
    /// A metric name that is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let made = Instruments::new(registry, DELIVER_METRICS);
        let metrics = Self {
            records: made.counters("leadpulse_deliver_records_total")?,
            requests: made.counters("leadpulse_deliver_requests_total")?,
            duration: made.histograms("leadpulse_deliver_request_duration_seconds")?,
            lag: made.fractions("leadpulse_deliver_lag_seconds")?,
            waiting: made.gauges("leadpulse_deliver_waiting")?,
        };
        made.finish()?;
        Ok(metrics)
    }

    /// Makes the metrics of a sink exist, at 0.
    pub fn announce(&self, sink: &str) {
        self.of(sink);
    }

    pub(crate) fn of(&self, sink: &str) -> SinkMetrics {
        let records = |outcome: &str| self.records.with_label_values(&[sink, outcome]);
        let requests = |outcome: &str| self.requests.with_label_values(&[sink, outcome]);
        SinkMetrics {
            delivered: records("delivered"),
            passed_over: records("passed_over"),
            superseded: records("superseded"),
            dead_lettered: records("dead_lettered"),
            accepted: requests("accepted"),
            refused: requests("refused"),
            retried: requests("retried"),
            duration: self.duration.with_label_values(&[sink]),
            lag_seconds: self.lag.with_label_values(&[sink]),
            waiting: self.waiting.with_label_values(&[sink]),
        }
    }
}
