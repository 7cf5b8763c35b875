//! Metrics of calls: every name, unit and label.

use leadpulse_metrics::{Instruments, MetricDefinition as Metric};
use prometheus::{IntCounterVec, Registry};

use crate::answer::Outcomes;
use crate::call::IngestSource;

/// All metrics of calls.
pub const INGEST_METRICS: &[Metric] = &[
    Metric::counter(
        "leadpulse_ingest_records_total",
        &["source", "outcome"],
        "Records of calls by outcome: accepted, refused, ignored, full, unacknowledged.",
    ),
    Metric::counter(
        "leadpulse_ingest_calls_refused_total",
        &["source", "reason"],
        "Calls that were refused as a whole: signature, body, busy, other.",
    ),
];

/// The metrics of an intake. All of them exist from the start, at 0.
#[derive(Clone, Debug)]
pub struct IngestMetrics {
    records: IntCounterVec,
    refused_calls: IntCounterVec,
}

/// Outcomes of records.
const OUTCOMES: [&str; 5] = ["accepted", "refused", "ignored", "full", "unacknowledged"];
/// Reasons for which a call is refused as a whole.
const REASONS: [&str; 4] = ["signature", "body", "busy", "other"];

impl IngestMetrics {
    /// Creates and registers the metrics.
    ///
    /// # Errors
    /// A metric name that is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let made = Instruments::new(registry, INGEST_METRICS);
        let metrics = Self {
            records: made.counters("leadpulse_ingest_records_total")?,
            refused_calls: made.counters("leadpulse_ingest_calls_refused_total")?,
        };
        made.finish()?;
        for source in IngestSource::ALL {
            for outcome in OUTCOMES {
                metrics.records.with_label_values(&[source.name(), outcome]);
            }
            for reason in REASONS {
                metrics
                    .refused_calls
                    .with_label_values(&[source.name(), reason]);
            }
        }
        Ok(metrics)
    }

    /// Counts the records of a call.
    pub fn count(&self, source: IngestSource, outcomes: &Outcomes) {
        let Outcomes {
            accepted,
            refused,
            ignored,
            full,
            unknown,
        } = *outcomes;
        for (outcome, count) in OUTCOMES
            .into_iter()
            .zip([accepted, refused, ignored, full, unknown])
        {
            let counter = self.records.with_label_values(&[source.name(), outcome]);
            counter.inc_by(count);
        }
    }

    /// Counts a call that was refused with a status.
    pub fn count_refused(&self, source: IngestSource, status: u16) {
        let reason = match status {
            401 => "signature",
            400 | 408 | 413 => "body",
            429 => "busy",
            _ => "other",
        };
        self.refused_calls
            .with_label_values(&[source.name(), reason])
            .inc();
    }
}
