//! The engine's metrics. [`ENGINE_METRICS`] defines them. Labels are bounded: topics, tables, reasons,
//! tasks; never entities.

use prometheus::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};

use leadpulse_metrics::Instruments;
use leadpulse_schema::{Catalog, ReferenceFit};

use crate::epoch::{Committed, Epoch};
use crate::machine::SaidKind;
use crate::ports::InputPartition;

pub use list::ENGINE_METRICS;

mod known;
mod list;

/// All metrics of the epoch loop.
#[derive(Clone, Debug)]
pub struct Metrics {
    consumed: IntCounterVec,
    accepted: IntCounter,
    duplicates: IntCounter,
    unchanged: IntCounterVec,
    remarked: IntCounterVec,
    late: IntCounter,
    dead_letters: IntCounterVec,
    scores: IntCounterVec,
    alerts: IntCounterVec,
    suppressed: IntCounterVec,
    exposures: IntCounterVec,
    work_lists: IntCounterVec,
    overrides: IntGaugeVec,
    verdicts: IntGaugeVec,
    explanations: IntCounterVec,
    requests: IntCounterVec,
    retractions: IntCounter,
    cells_scored: IntCounter,
    due_cells: Histogram,
    work_nodes: IntCounterVec,
    waiting_cells: IntGaugeVec,
    tick_epochs: Histogram,
    epochs: IntCounter,
    epoch_records: Histogram,
    epoch_seconds: Histogram,
    stage_seconds: HistogramVec,
    pipeline_seconds: Histogram,
    deferred: IntGauge,
    as_of: IntGauge,
    board: IntGauge,
    lag: IntGaugeVec,
    nodes: IntGaugeVec,
    stubs: IntGaugeVec,
    stale: IntGaugeVec,
    references_named: IntGaugeVec,
    references_lost: IntGaugeVec,
    gaps: IntCounter,
    filtered: IntCounterVec,
    ignored: IntCounterVec,
    members: IntGaugeVec,
    joined: IntGaugeVec,
    ambiguous_domains: IntGauge,
    retractions_flawed: IntGaugeVec,
    graph_bytes: IntGauge,
    resident_cells: IntGauge,
    node_bytes: IntGauge,
    cells_read: IntCounter,
    cells_put_out: IntCounter,
    fingerprints: IntGauge,
    fingerprints_for_good: IntGauge,
    open_events: IntGauge,
    burst_events: IntGauge,
    replayed: IntCounter,
    diverged: IntCounter,
    registry_waits: IntCounter,
    role: IntGaugeVec,
    follower_lag: IntGauge,
    takeovers: IntCounter,
    swaps: IntCounterVec,
    rescoring: IntGauge,
    lag_seconds: IntGaugeVec,
    model_info: IntGaugeVec,
    erasures: IntCounter,
    erased_hashes: IntGauge,
}

/// Everything that label values come from, as far as it is known at a start.
pub(crate) struct KnownLabels<'a> {
    /// Input topics.
    pub topics: &'a [&'a str],
    /// Scored tasks.
    pub tasks: &'a [&'a str],
}

impl Metrics {
    /// Makes and registers all of [`ENGINE_METRICS`].
    ///
    /// # Errors
    /// A name that is registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let made = Instruments::new(registry, ENGINE_METRICS);
        let metrics = Self {
            consumed: made.counters("leadpulse_events_consumed_total")?,
            accepted: made.counter("leadpulse_events_accepted_total")?,
            duplicates: made.counter("leadpulse_duplicates_total")?,
            unchanged: made.counters("leadpulse_unchanged_records_total")?,
            remarked: made.counters("leadpulse_remarked_records_total")?,
            late: made.counter("leadpulse_late_events_total")?,
            dead_letters: made.counters("leadpulse_dlq_records_total")?,
            scores: made.counters("leadpulse_scores_emitted_total")?,
            alerts: made.counters("leadpulse_alerts_emitted_total")?,
            suppressed: made.counters("leadpulse_alerts_suppressed_total")?,
            exposures: made.counters("leadpulse_exposures_total")?,
            work_lists: made.counters("leadpulse_work_lists_written_total")?,
            overrides: made.gauges("leadpulse_overrides_in_force")?,
            verdicts: made.gauges("leadpulse_feedback_alerts")?,
            explanations: made.counters("leadpulse_explanations_total")?,
            requests: made.counters("leadpulse_explanation_requests_total")?,
            retractions: made.counter("leadpulse_retractions_total")?,
            cells_scored: made.counter("leadpulse_cells_scored_total")?,
            due_cells: made.histogram("leadpulse_due_cells")?,
            work_nodes: made.counters("leadpulse_work_nodes_total")?,
            waiting_cells: made.gauges("leadpulse_waiting_cells")?,
            tick_epochs: made.histogram("leadpulse_tick_epochs")?,
            epochs: made.counter("leadpulse_epochs_total")?,
            epoch_records: made.histogram("leadpulse_epoch_records")?,
            epoch_seconds: made.histogram("leadpulse_epoch_duration_seconds")?,
            stage_seconds: made.histograms("leadpulse_stage_duration_seconds")?,
            pipeline_seconds: made.histogram("leadpulse_pipeline_latency_seconds")?,
            deferred: made.gauge("leadpulse_hub_fanout_deferred")?,
            as_of: made.gauge("leadpulse_as_of_timestamp_seconds")?,
            board: made.gauge("leadpulse_board")?,
            lag: made.gauges("leadpulse_kafka_consumer_lag_records")?,
            nodes: made.gauges("leadpulse_graph_nodes")?,
            stubs: made.gauges("leadpulse_graph_stubs")?,
            stale: made.gauges("leadpulse_graph_stale")?,
            references_named: made.gauges("leadpulse_references_named")?,
            references_lost: made.gauges("leadpulse_references_lost")?,
            gaps: made.counter("leadpulse_change_gaps_total")?,
            filtered: made.counters("leadpulse_records_filtered_total")?,
            ignored: made.counters("leadpulse_records_ignored_total")?,
            members: made.gauges("leadpulse_identity_members")?,
            joined: made.gauges("leadpulse_identity_joined")?,
            ambiguous_domains: made.gauge("leadpulse_identity_ambiguous_domains")?,
            retractions_flawed: made.gauges("leadpulse_retractions_flawed")?,
            graph_bytes: made.gauge("leadpulse_graph_memory_bytes")?,
            resident_cells: made.gauge("leadpulse_resident_cells")?,
            node_bytes: made.gauge("leadpulse_resident_node_bytes")?,
            cells_read: made.counter("leadpulse_cells_read_back_total")?,
            cells_put_out: made.counter("leadpulse_cells_put_out_total")?,
            fingerprints: made.gauge("leadpulse_dedupe_fingerprints")?,
            fingerprints_for_good: made.gauge("leadpulse_dedupe_fingerprints_for_good")?,
            open_events: made.gauge("leadpulse_open_events")?,
            burst_events: made.gauge("leadpulse_burst_events")?,
            replayed: made.counter("leadpulse_replayed_records_total")?,
            diverged: made.counter("leadpulse_restore_divergence_total")?,
            registry_waits: made.counter("leadpulse_schema_waits_total")?,
            role: made.gauges("leadpulse_role")?,
            follower_lag: made.gauge("leadpulse_follower_lag_epochs")?,
            takeovers: made.counter("leadpulse_takeovers_total")?,
            swaps: made.counters("leadpulse_swaps_total")?,
            rescoring: made.gauge("leadpulse_rescoring_entities")?,
            lag_seconds: made.gauges("leadpulse_kafka_consumer_lag_seconds")?,
            model_info: made.gauges("leadpulse_model_info")?,
            erasures: made.counter("leadpulse_erasures_total")?,
            erased_hashes: made.gauge("leadpulse_erased_hashes")?,
        };
        made.finish()?;
        metrics.said(&SaidKind::all().map(|kind| (kind, 0)));
        metrics.closed_sets_at_zero();
        Ok(metrics)
    }

    pub(crate) fn committed(
        &self,
        epoch: &Epoch<Committed>,
        partitions: &[InputPartition],
        seconds: f64,
        pipeline_seconds: Option<f64>,
    ) {
        let record = &epoch.record;
        for (interval, partition) in record.partitions.iter().zip(partitions) {
            self.consumed
                .with_label_values(&[&partition.topic])
                .inc_by(interval.read.max(0) as u64);
        }
        self.accepted.inc_by(record.accepted as u64);
        self.duplicates.inc_by(record.duplicate as u64);
        self.late.inc_by(record.late as u64);
        for (counter, counts) in [
            (&self.dead_letters, &record.dead_lettered),
            (&self.unchanged, &record.unchanged),
            (&self.remarked, &record.remarked),
        ] {
            for one in counts {
                counter
                    .with_label_values(&[&one.reason])
                    .inc_by(one.count as u64);
            }
        }
        let tally = &epoch.tally;
        self.erasures.inc_by(tally.erased);
        for ((task, cause), n) in &tally.emitted {
            self.scores
                .with_label_values(&[task.as_str(), cause])
                .inc_by(*n);
        }
        for ((task, alert_type, severity), n) in &tally.alerts {
            self.alerts
                .with_label_values(&[task.as_str(), alert_type, severity])
                .inc_by(*n);
        }
        for ((task, alert_type, reason), n) in &tally.suppressed {
            self.suppressed
                .with_label_values(&[task.as_str(), alert_type, reason])
                .inc_by(*n);
        }
        for (group, n) in &tally.exposures {
            self.exposures.with_label_values(&[group]).inc_by(*n);
        }
        for (task, n) in &tally.work_lists {
            self.work_lists.with_label_values(&[task]).inc_by(*n);
        }
        for ((task, outcome), n) in &tally.explanations {
            self.explanations
                .with_label_values(&[task.as_str(), outcome])
                .inc_by(*n);
        }
        self.retractions.inc_by(tally.retracted);
        self.gaps.inc_by(tally.gaps);
        for (topic, count) in &tally.filtered {
            self.filtered.with_label_values(&[topic]).inc_by(*count);
        }
        for (topic, count) in &tally.ignored {
            self.ignored.with_label_values(&[topic]).inc_by(*count);
        }
        self.cells_scored.inc_by(tally.cells as u64);
        for due in &tally.due {
            self.due_cells.observe(*due as f64);
        }
        for (reason, nodes) in &tally.work {
            self.work_nodes.with_label_values(&[reason]).inc_by(*nodes);
        }
        for (queue, cells) in [
            ("tick", tally.tick_left),
            ("dirty", tally.dirty_left),
            ("soft", tally.deferred),
        ] {
            let gauge = self.waiting_cells.with_label_values(&[queue]);
            gauge.set(cells as i64);
        }
        for epochs in &tally.tick_epochs {
            self.tick_epochs.observe(f64::from(*epochs));
        }
        self.epochs.inc();
        self.epoch_records.observe(record.records() as f64);
        self.epoch_seconds.observe(seconds);
        for (stage, seconds) in &tally.stage_seconds {
            self.stage_seconds
                .with_label_values(&[stage])
                .observe(*seconds);
        }
        if let Some(seconds) = pipeline_seconds {
            self.pipeline_seconds.observe(seconds.max(0.0));
        }
        self.deferred.set(tally.deferred as i64);
        self.as_of.set(record.as_of / 1000);
        self.board.set(record.board);
    }

    /// Sets the role of this process.
    pub(crate) fn role(&self, is_owner: bool) {
        let set = |role, value: bool| self.role.with_label_values(&[role]).set(value.into());
        set("owner", is_owner);
        set("follower", !is_owner);
    }

    /// Sets the number of committed epochs that are not applied.
    pub(crate) fn follower_lag(&self, epochs: u64) {
        self.follower_lag.set(epochs as i64);
    }

    /// Counts a follower that took over.
    pub(crate) fn took_over(&self) {
        self.takeovers.inc();
        self.follower_lag.set(0);
    }

    pub(crate) fn stage(&self, stage: &str, seconds: f64) {
        self.stage_seconds
            .with_label_values(&[stage])
            .observe(seconds);
    }
    /// Sets the records that wait in a topic, and the age of the newest that was taken, seconds.
    pub(crate) fn lag(&self, topic: &str, records: i64, seconds: i64) {
        self.lag.with_label_values(&[topic]).set(records);
        self.lag_seconds.with_label_values(&[topic]).set(seconds);
    }
    /// Names the bundle that scores each task.
    pub(crate) fn model(&self, bundle: &str, tasks: &[&str]) {
        self.model_info.reset();
        for task in tasks {
            self.model_info.with_label_values(&[task, bundle]).set(1);
        }
    }
    pub(crate) fn size(&self, size: &leadpulse_graph::GraphSize, catalog: &Catalog) {
        for table in &catalog.tables {
            self.nodes
                .with_label_values(&[&table.name])
                .set(size.known[table.id.index()] as i64);
            self.stubs
                .with_label_values(&[&table.name])
                .set(size.stubs[table.id.index()] as i64);
            self.stale
                .with_label_values(&[&table.name])
                .set(size.stale[table.id.index()] as i64);
        }
        self.graph_bytes.set(size.bytes as i64);
        self.fingerprints.set(size.fingerprints as i64);
        self.fingerprints_for_good
            .set(size.fingerprints_for_good as i64);
        self.open_events.set(size.open_events as i64);
    }
    pub(crate) fn residence(&self, residence: &leadpulse_graph::Residence) {
        self.resident_cells.set(residence.cells as i64);
        self.node_bytes.set(residence.bytes as i64);
        count_up_to(&self.cells_read, residence.reads);
        count_up_to(&self.cells_put_out, residence.put_out);
    }
    pub(crate) fn reference_fit(&self, catalog: &Catalog, fit: &ReferenceFit) {
        let table = catalog.table_at(fit.table);
        let labels = [table.name.as_str(), &table.field_at(fit.field).name];
        let named = self.references_named.with_label_values(&labels);
        named.set(fit.named as i64);
        let lost = self.references_lost.with_label_values(&labels);
        lost.set((fit.named - fit.found) as i64);
    }
    pub(crate) fn identity(&self, stats: &leadpulse_graph::IdentityStats) {
        let set = |gauges: &IntGaugeVec, values: &[(&str, u64)]| {
            for (label, value) in values {
                gauges.with_label_values(&[*label]).set(*value as i64);
            }
        };
        let found = [
            ("reference", stats.by_reference),
            ("link", stats.by_link),
            ("domain", stats.by_domain),
            ("events", stats.by_events),
            ("provisional", stats.provisional),
            ("unresolved", stats.unresolved),
            ("own", stats.own),
            ("competitor", stats.competitors),
        ];
        set(&self.members, &found);
        set(
            &self.joined,
            &[("merged", stats.merged), ("converted", stats.converted)],
        );
        let flawed = [
            ("inexact", stats.inexact_retractions),
            ("unmatched", stats.unmatched_retractions),
            ("early", stats.cancelled_events),
        ];
        set(&self.retractions_flawed, &flawed);
        self.ambiguous_domains.set(stats.ambiguous_domains as i64);
        self.burst_events.set(stats.burst_events as i64);
    }
    pub(crate) fn said(&self, counts: &[(SaidKind, u64)]) {
        for (kind, count) in counts {
            let gauge = match kind {
                SaidKind::Ruling(kind) => self.overrides.with_label_values(&[*kind]),
                SaidKind::Verdict(verdict) => self.verdicts.with_label_values(&[*verdict]),
            };
            gauge.set(*count as i64);
        }
    }
    pub(crate) fn requested(&self, answered: bool) {
        self.requests
            .with_label_values(&[if answered { "answered" } else { "refused" }])
            .inc();
    }
    pub(crate) fn swapped(&self, is_in_force: bool) {
        let outcome = if is_in_force { "in_force" } else { "refused" };
        self.swaps.with_label_values(&[outcome]).inc();
    }
    pub(crate) fn erased_hashes(&self, hashes: usize) {
        self.erased_hashes.set(hashes as i64);
    }
    pub(crate) fn rescoring(&self, waiting: u64) {
        self.rescoring.set(waiting as i64);
    }
    pub(crate) fn replayed(&self, records: u64) {
        self.replayed.inc_by(records);
    }
    pub(crate) fn diverged(&self) {
        self.diverged.inc();
    }
    pub(crate) fn waited_for_schema(&self) {
        self.registry_waits.inc();
    }
}

/// Brings a counter to a total that only grows.
fn count_up_to(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}
