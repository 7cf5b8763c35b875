//! The engine's metrics, named in one place. Labels are bounded: topics, tables, reasons, tasks;
//! never entities.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use leadpulse_schema::{Catalog, ReferenceFit};

use crate::epoch::{Committed, Epoch};
use crate::machine::SaidKind;
use crate::ports::InputPartition;

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
    cells_read: IntGauge,
    cells_put_out: IntGauge,
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
    erasures: IntCounter,
    erased_hashes: IntGauge,
}

fn seconds_buckets() -> Vec<f64> {
    vec![
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ]
}

impl Metrics {
    /// Registers everything.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let metric = IntCounter::new(name, help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let counters =
            |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
                let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
                registry.register(Box::new(metric.clone()))?;
                Ok(metric)
            };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let metric = IntGauge::new(name, help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let gauges =
            |name: &str, help: &str, labels: &[&str]| -> Result<IntGaugeVec, prometheus::Error> {
                let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
                registry.register(Box::new(metric.clone()))?;
                Ok(metric)
            };
        let histogram =
            |name: &str, help: &str, buckets: Vec<f64>| -> Result<Histogram, prometheus::Error> {
                let metric = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
                registry.register(Box::new(metric.clone()))?;
                Ok(metric)
            };
        let stage_seconds = HistogramVec::new(
            HistogramOpts::new(
                "leadpulse_stage_duration_seconds",
                "Time an epoch spends in a stage.",
            )
            .buckets(seconds_buckets()),
            &["stage"],
        )?;
        registry.register(Box::new(stage_seconds.clone()))?;
        let metrics = Self {
            consumed: counters(
                "leadpulse_events_consumed_total",
                "Records taken into committed epochs, by topic.",
                &["topic"],
            )?,
            accepted: counter(
                "leadpulse_events_accepted_total",
                "Records applied to the graph.",
            )?,
            duplicates: counter(
                "leadpulse_duplicates_total",
                "Events whose id was already in the graph, and repeated deletions.",
            )?,
            unchanged: counters(
                "leadpulse_unchanged_records_total",
                "Records that changed nothing, by reason: nothing_to_delete, stale_version.",
                &["reason"],
            )?,
            remarked: counters(
                "leadpulse_remarked_records_total",
                "Accepted records with a remark, by reason: in_part, stepped_back.",
                &["reason"],
            )?,
            late: counter(
                "leadpulse_late_events_total",
                "Events beyond the late horizon; they are dead letters too.",
            )?,
            dead_letters: counters(
                "leadpulse_dlq_records_total",
                "Dead letters, by reason.",
                &["reason"],
            )?,
            scores: counters(
                "leadpulse_scores_emitted_total",
                "Score records committed, by task and cause.",
                &["task", "cause"],
            )?,
            alerts: counters(
                "leadpulse_alerts_emitted_total",
                "Alert records committed, by type and severity.",
                &["type", "severity"],
            )?,
            suppressed: counters(
                "leadpulse_alerts_suppressed_total",
                "Crossings that fired no alert, by type and reason.",
                &["type", "reason"],
            )?,
            exposures: counters(
                "leadpulse_exposures_total",
                "Exposure records committed, by group: told, held_out, digest.",
                &["group"],
            )?,
            work_lists: counters(
                "leadpulse_work_lists_written_total",
                "Work lists committed, by task.",
                &["task"],
            )?,
            explanations: counters(
                "leadpulse_explanations_total",
                "Explanations of committed scores, by task and outcome: made, listed (for a work list), carried (an older one came with the score), over_budget.",
                &["task", "outcome"],
            )?,
            overrides: gauges(
                "leadpulse_overrides_in_force",
                "Entities with a person's decision in force, by kind: pin, mute, exclude.",
                &["kind"],
            )?,
            verdicts: gauges(
                "leadpulse_feedback_alerts",
                "Alerts whose last answer is this verdict: accepted, rejected.",
                &["verdict"],
            )?,
            requests: counters(
                "leadpulse_explanation_requests_total",
                "Explanations asked for, by outcome.",
                &["outcome"],
            )?,
            retractions: counter(
                "leadpulse_retractions_total",
                "Accepted rows that took an event back.",
            )?,
            cells_scored: counter("leadpulse_cells_scored_total", "Cells scored.")?,
            due_cells: histogram(
                "leadpulse_due_cells",
                "Cells looked at for alerts, per tick at which any were due.",
                vec![1.0, 10.0, 100.0, 1000.0, 10000.0, 100000.0],
            )?,
            work_nodes: counters(
                "leadpulse_work_nodes_total",
                "Work of scoring in committed epochs, in nodes, by reason: tick, event, board, timer, bundle, closing.",
                &["reason"],
            )?,
            waiting_cells: gauges(
                "leadpulse_waiting_cells",
                "Cells that wait for a later epoch, by queue: tick (due at a half-closed tick), dirty (rows, timers), soft (boards, changes that many read).",
                &["queue"],
            )?,
            tick_epochs: histogram(
                "leadpulse_tick_epochs",
                "Epochs that a tick took at which any cells were due.",
                vec![1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 1000.0],
            )?,
            epochs: counter("leadpulse_epochs_total", "Epochs committed.")?,
            epoch_records: histogram(
                "leadpulse_epoch_records",
                "Records per epoch.",
                vec![0.0, 1.0, 10.0, 100.0, 1000.0, 5000.0, 20000.0, 100000.0],
            )?,
            epoch_seconds: histogram(
                "leadpulse_epoch_duration_seconds",
                "From cutting an epoch to its commit.",
                seconds_buckets(),
            )?,
            stage_seconds,
            pipeline_seconds: histogram(
                "leadpulse_pipeline_latency_seconds",
                "From the Kafka timestamp of an epoch's newest record to its commit.",
                seconds_buckets(),
            )?,
            deferred: gauge(
                "leadpulse_hub_fanout_deferred",
                "Cells waiting to be re-scored because a board, or a change that many read, moved them.",
            )?,
            as_of: gauge(
                "leadpulse_as_of_timestamp_seconds",
                "as_of of the newest committed epoch.",
            )?,
            board: gauge("leadpulse_board", "Number of the board in force.")?,
            lag: gauges(
                "leadpulse_kafka_consumer_lag_records",
                "Records waiting in the input, by topic.",
                &["topic"],
            )?,
            nodes: gauges(
                "leadpulse_graph_nodes",
                "Known entities, by table.",
                &["type"],
            )?,
            stubs: gauges(
                "leadpulse_graph_stubs",
                "Entities that were named but are not known, by table.",
                &["type"],
            )?,
            stale: gauges(
                "leadpulse_graph_stale",
                "Known entities whose source reported a gap in their changes, and of which no complete version came since, by table.",
                &["type"],
            )?,
            references_named: gauges(
                "leadpulse_references_named",
                "References among the first rows of a run, by table and field.",
                &["table", "field"],
            )?,
            references_lost: gauges(
                "leadpulse_references_lost",
                "References among the first rows of a run that name a row nobody sent, by table and field.",
                &["table", "field"],
            )?,
            gaps: counter(
                "leadpulse_change_gaps_total",
                "Rows by which a source reported that changes of an entity are missing.",
            )?,
            filtered: counters(
                "leadpulse_records_filtered_total",
                "Records that the filter of no source of their topic wants, by topic.",
                &["topic"],
            )?,
            ignored: counters(
                "leadpulse_records_ignored_total",
                "Records that concern no row, such as messages in a change log, by topic.",
                &["topic"],
            )?,
            members: gauges(
                "leadpulse_identity_members",
                "Known members, by how their account was found: reference, link, domain, provisional, unresolved; own and competitor count nowhere.",
                &["found"],
            )?,
            joined: gauges(
                "leadpulse_identity_joined",
                "Entities that are part of another now: merged, converted.",
                &["how"],
            )?,
            ambiguous_domains: gauge(
                "leadpulse_identity_ambiguous_domains",
                "Domains that several accounts name; the first of them by key takes their people.",
            )?,
            retractions_flawed: gauges(
                "leadpulse_retractions_flawed",
                "Retractions that could not restore everything (inexact), found nothing (unmatched), came before their event (early).",
                &["how"],
            )?,
            graph_bytes: gauge(
                "leadpulse_graph_memory_bytes",
                "Memory held by graph nodes, estimated.",
            )?,
            resident_cells: gauge(
                "leadpulse_resident_cells",
                "Cells with nodes in memory, of those that may be cold; 0 without stored state.",
            )?,
            node_bytes: gauge(
                "leadpulse_resident_node_bytes",
                "Bytes of their nodes, estimated.",
            )?,
            cells_read: gauge(
                "leadpulse_cells_read_back",
                "Cells that were read from the stored state since the start.",
            )?,
            cells_put_out: gauge(
                "leadpulse_cells_put_out",
                "Cells that were put out of memory since the start.",
            )?,
            fingerprints: gauge(
                "leadpulse_dedupe_fingerprints",
                "Event fingerprints held against duplicates.",
            )?,
            fingerprints_for_good: gauge(
                "leadpulse_dedupe_fingerprints_for_good",
                "Event fingerprints that are never forgotten: of outcome tables.",
            )?,
            open_events: gauge(
                "leadpulse_open_events",
                "Events kept one by one until they can no longer turn out to be a scanner's.",
            )?,
            burst_events: gauge(
                "leadpulse_burst_events",
                "Events of scanners' bursts, which count as no engagement.",
            )?,
            diverged: counter(
                "leadpulse_restore_divergence_total",
                "Epochs whose rows came out otherwise than recorded when they were applied again on start.",
            )?,
            replayed: counter(
                "leadpulse_replayed_records_total",
                "Records read again on start.",
            )?,
            registry_waits: counter(
                "leadpulse_schema_waits_total",
                "Times an epoch waited for a writer schema.",
            )?,

            role: gauges(
                "leadpulse_role",
                "1 for the role of this process: owner, follower.",
                &["role"],
            )?,
            follower_lag: gauge(
                "leadpulse_follower_lag_epochs",
                "Committed epochs that this follower has not applied; 0 for an owner.",
            )?,
            takeovers: counter(
                "leadpulse_takeovers_total",
                "Times that this process took over after it followed.",
            )?,
            swaps: counters(
                "leadpulse_swaps_total",
                "Releases that were asked for: in force, or refused.",
                &["outcome"],
            )?,
            erasures: counter(
                "leadpulse_erasures_total",
                "Requests to erase a person, or to lift an erasure, that took effect.",
            )?,
            erased_hashes: gauge(
                "leadpulse_erased_hashes",
                "Keyed hashes by which rows of erased persons are refused.",
            )?,
            rescoring: gauge(
                "leadpulse_rescoring_entities",
                "Entities without a score of the newest model; 0 once a change is complete.",
            )?,
        };
        metrics.said(&SaidKind::all().map(|kind| (kind, 0)));
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
        for ((alert_type, severity), n) in &tally.alerts {
            self.alerts
                .with_label_values(&[alert_type, severity])
                .inc_by(*n);
        }
        for ((alert_type, reason), n) in &tally.suppressed {
            self.suppressed
                .with_label_values(&[alert_type, reason])
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
    pub(crate) fn lag(&self, topic: &str, records: i64) {
        self.lag.with_label_values(&[topic]).set(records);
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
        self.cells_read.set(residence.reads as i64);
        self.cells_put_out.set(residence.put_out as i64);
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
