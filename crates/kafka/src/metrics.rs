//! Metrics of the Kafka ports: every name, unit and label. The engine measures lag, since it knows
//! the committed positions.

use std::sync::Arc;

use leadpulse_metrics::{Instruments, MetricDefinition as Metric};
use prometheus::{GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use crate::retention::Finding;

const SECONDS_AN_HOUR: f64 = 3600.0;

/// All metrics of the Kafka ports.
pub const KAFKA_METRICS: &[Metric] = &[
    Metric::counter(
        "leadpulse_kafka_transactions_total",
        &["outcome"],
        "Transactions by outcome: committed, aborted, indefinite, promoted, fenced.",
    ),
    Metric::histogram(
        "leadpulse_kafka_commit_duration_seconds",
        &[],
        &[
            0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 2.0, 4.0,
            8.0, 16.0, 32.0, 64.0,
        ],
        "From the first record of an epoch sent to its commit known, attempts included.",
    ),
    Metric::counter(
        "leadpulse_kafka_producer_replacements_total",
        &["reason"],
        "Producers that a new one replaced, by reason: unanswered, aborted, in_doubt, fenced.",
    ),
    Metric::gauge(
        "leadpulse_kafka_abandoned_producers",
        &[],
        "Producers that were given up and have not closed yet; no more than 8 at a time.",
    ),
    Metric::counter(
        "leadpulse_kafka_client_errors_total",
        &["client", "code"],
        "Errors that librdkafka reported, those while reading included, by client and error code.",
    ),
    Metric::counter(
        "leadpulse_source_offset_out_of_range_total",
        &[],
        "Positions that the log no longer, or not yet, holds: records were lost before they were read.",
    ),
    Metric::gauge(
        "leadpulse_source_partitions_added",
        &[],
        "Partitions of the input topics that are not read yet: they were added after the deployment's layout was written; looked at every 10 s.",
    ),
    Metric::gauge(
        "leadpulse_topic_findings",
        &["topic", "setting"],
        "1 for each setting of a topic under which records that a restart needs get lost; looked at every hour.",
    ),
    Metric::gauge(
        "leadpulse_topic_retention_seconds",
        &["topic"],
        "Seconds until retention may delete the oldest record of a topic: then a restart becomes impossible; looked at every hour.",
    ),
];

/// The end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactionOutcome {
    /// The broker acknowledged the commit.
    Committed,
    /// The transaction was given up before its commit was requested; the epoch is sent again.
    Aborted,
    /// The broker did not answer; a new producer settles the epoch.
    Indefinite,
    /// The settlement of an indefinite transaction found it committed.
    Promoted,
    /// The broker no longer accepts the producer.
    Fenced,
}

impl TransactionOutcome {
    const ALL: [Self; 5] = [
        Self::Committed,
        Self::Aborted,
        Self::Indefinite,
        Self::Promoted,
        Self::Fenced,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Aborted => "aborted",
            Self::Indefinite => "indefinite",
            Self::Promoted => "promoted",
            Self::Fenced => "fenced",
        }
    }
}

/// The reason for a new producer in the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replacement {
    /// A transactional request was written and not answered: a copy may be under way.
    Unanswered,
    /// The transaction was given up before its commit was requested.
    Aborted,
    /// The end of the transaction is unknown.
    InDoubt,
    /// The broker no longer accepts the producer: another one took over, or the transaction grew
    /// too old.
    Fenced,
}

impl Replacement {
    const ALL: [Self; 4] = [Self::Unanswered, Self::Aborted, Self::InDoubt, Self::Fenced];

    fn label(self) -> &'static str {
        match self {
            Self::Unanswered => "unanswered",
            Self::Aborted => "aborted",
            Self::InDoubt => "in_doubt",
            Self::Fenced => "fenced",
        }
    }
}

/// The metrics of all Kafka ports of a process.
pub struct KafkaMetrics {
    transactions: IntCounterVec,
    commit_seconds: Histogram,
    replacements: IntCounterVec,
    /// Producers that were given up and have not closed yet.
    pub(crate) abandoned_producers: IntGauge,
    client_errors: IntCounterVec,
    out_of_range: IntCounter,
    added_partitions: IntGauge,
    topic_findings: IntGaugeVec,
    topic_retention: GaugeVec,
}

impl KafkaMetrics {
    /// Creates and registers the metrics.
    ///
    /// # Errors
    /// A metric name that is registered already.
    pub fn register(registry: &Registry) -> Result<Arc<Self>, prometheus::Error> {
        let made = Instruments::new(registry, KAFKA_METRICS);
        let metrics = Self {
            transactions: made.counters("leadpulse_kafka_transactions_total")?,
            commit_seconds: made.histogram("leadpulse_kafka_commit_duration_seconds")?,
            replacements: made.counters("leadpulse_kafka_producer_replacements_total")?,
            abandoned_producers: made.gauge("leadpulse_kafka_abandoned_producers")?,
            client_errors: made.counters("leadpulse_kafka_client_errors_total")?,
            out_of_range: made.counter("leadpulse_source_offset_out_of_range_total")?,
            added_partitions: made.gauge("leadpulse_source_partitions_added")?,
            topic_findings: made.gauges("leadpulse_topic_findings")?,
            topic_retention: made.fractions("leadpulse_topic_retention_seconds")?,
        };
        made.finish()?;
        metrics.known_at_zero();
        Ok(Arc::new(metrics))
    }

    /// Sets what can be counted to zero, so that the first of each kind is an increase.
    fn known_at_zero(&self) {
        for outcome in TransactionOutcome::ALL {
            self.transactions.with_label_values(&[outcome.label()]);
        }
        for reason in Replacement::ALL {
            self.replacements.with_label_values(&[reason.label()]);
        }
    }

    /// Number of transactions that ended in `outcome`: `committed`, `aborted`, `indefinite`,
    /// `promoted` or `fenced`.
    pub fn transactions(&self, outcome: &str) -> u64 {
        self.transactions.with_label_values(&[outcome]).get()
    }

    /// Number of producers that a new one replaced because of `reason`: `unanswered`, `aborted`,
    /// `in_doubt` or `fenced`.
    pub fn replacements(&self, reason: &str) -> u64 {
        self.replacements.with_label_values(&[reason]).get()
    }

    /// Number of producers that were given up and have not closed yet.
    pub fn abandoned(&self) -> i64 {
        self.abandoned_producers.get()
    }

    pub(crate) fn count_replacement(&self, reason: Replacement) {
        self.replacements.with_label_values(&[reason.label()]).inc();
    }

    pub(crate) fn count_transaction(&self, outcome: TransactionOutcome) {
        self.transactions
            .with_label_values(&[outcome.label()])
            .inc();
    }

    pub(crate) fn observe_commit(&self, seconds: f64) {
        self.commit_seconds.observe(seconds);
    }

    pub(crate) fn count_client_error(&self, client: &str, code: &str) {
        self.client_errors.with_label_values(&[client, code]).inc();
    }

    pub(crate) fn count_out_of_range(&self) {
        self.out_of_range.inc();
    }

    /// Replaces the findings of the look before.
    pub(crate) fn set_findings(&self, findings: &[Finding]) {
        self.topic_findings.reset();
        self.topic_retention.reset();
        for Finding {
            topic,
            setting,
            hours_left,
            ..
        } in findings
        {
            self.topic_findings
                .with_label_values(&[topic.as_str(), setting])
                .set(1);
            if let Some(hours) = hours_left {
                self.topic_retention
                    .with_label_values(&[topic])
                    .set(*hours * SECONDS_AN_HOUR);
            }
        }
    }

    pub(crate) fn set_added_partitions(&self, count: usize) {
        self.added_partitions.set(count as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registering_twice_is_refused() {
        let registry = Registry::new();
        assert!(KafkaMetrics::register(&registry).is_ok());
        assert!(KafkaMetrics::register(&registry).is_err());
    }
}
