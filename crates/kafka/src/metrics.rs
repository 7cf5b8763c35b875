//! Metrics of the Kafka ports: every name, unit and label. The engine measures lag, since it knows
//! the committed positions.

use std::sync::Arc;

use prometheus::{
    GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use crate::retention::Finding;

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
    topic_retention_hours: GaugeVec,
}

impl KafkaMetrics {
    /// Creates and registers the metrics.
    ///
    /// # Errors
    /// A metric name that is registered already.
    pub fn register(registry: &Registry) -> Result<Arc<Self>, prometheus::Error> {
        let metrics = Self::new()?;
        metrics.register_in(registry)?;
        Ok(Arc::new(metrics))
    }

    fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            transactions: IntCounterVec::new(
                Opts::new(
                    "leadpulse_kafka_transactions_total",
                    "Transactions by outcome: committed, aborted, indefinite, promoted, fenced.",
                ),
                &["outcome"],
            )?,
            commit_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "leadpulse_kafka_commit_duration_seconds",
                    "From the first record of an epoch sent to its commit known.",
                )
                .buckets(prometheus::exponential_buckets(0.001, 2.0, 16)?),
            )?,
            replacements: IntCounterVec::new(
                Opts::new(
                    "leadpulse_kafka_producer_replacements_total",
                    "Producers that a new one replaced, by reason: unanswered, aborted, in_doubt, fenced.",
                ),
                &["reason"],
            )?,
            abandoned_producers: IntGauge::new(
                "leadpulse_kafka_abandoned_producers",
                "Producers that were given up and have not closed yet; no more than 8 at a time.",
            )?,
            client_errors: IntCounterVec::new(
                Opts::new(
                    "leadpulse_kafka_client_errors_total",
                    "Errors that librdkafka reported, by client and error code.",
                ),
                &["client", "code"],
            )?,
            out_of_range: IntCounter::new(
                "leadpulse_source_offset_out_of_range_total",
                "Positions that the log no longer, or not yet, holds: records were lost before they were read.",
            )?,
            added_partitions: IntGauge::new(
                "leadpulse_source_partitions_added",
                "Partitions of the input topics that are not read yet: they were added after the deployment's layout was written.",
            )?,
            topic_findings: IntGaugeVec::new(
                Opts::new(
                    "leadpulse_topic_findings",
                    "1 for each setting of a topic under which records that a restart needs get lost; looked at every hour.",
                ),
                &["topic", "setting"],
            )?,
            topic_retention_hours: GaugeVec::new(
                Opts::new(
                    "leadpulse_topic_retention_hours",
                    "Hours until retention may delete the oldest record of a topic: then a restart becomes impossible.",
                ),
                &["topic"],
            )?,
        })
    }

    fn register_in(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.transactions.clone()))?;
        registry.register(Box::new(self.commit_seconds.clone()))?;
        registry.register(Box::new(self.replacements.clone()))?;
        registry.register(Box::new(self.abandoned_producers.clone()))?;
        registry.register(Box::new(self.client_errors.clone()))?;
        registry.register(Box::new(self.out_of_range.clone()))?;
        registry.register(Box::new(self.added_partitions.clone()))?;
        registry.register(Box::new(self.topic_findings.clone()))?;
        registry.register(Box::new(self.topic_retention_hours.clone()))?;
        Ok(())
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
        self.topic_retention_hours.reset();
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
                self.topic_retention_hours
                    .with_label_values(&[topic])
                    .set(*hours);
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
