//! The list of the engine's metrics.

use leadpulse_metrics::MetricDefinition as Metric;

/// Bounds of durations within a process, seconds.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];
/// Bounds of the way from a record's Kafka timestamp to its commit, seconds: up to an hour, because
/// producers and brokers may hold a record for as long.
const WAY_SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
    1800.0, 3600.0,
];

/// All metrics of the epoch loop.
pub const ENGINE_METRICS: &[Metric] = &[
    Metric::counter(
        "leadpulse_events_consumed_total",
        &["topic"],
        "Records taken into committed epochs, by topic.",
    ),
    Metric::counter(
        "leadpulse_events_accepted_total",
        &[],
        "Records applied to the graph.",
    ),
    Metric::counter(
        "leadpulse_duplicates_total",
        &[],
        "Events whose id was already in the graph, and repeated deletions.",
    ),
    Metric::counter(
        "leadpulse_unchanged_records_total",
        &["reason"],
        "Records without effect, by reason: erased (of a person who was erased), nothing_to_delete (a deletion of a key that no row has described), stale_version (older than the newest of its key), filtered (no source of the topic wants it), no_row (it concerns no row, as messages in a change log).",
    ),
    Metric::counter(
        "leadpulse_records_filtered_total",
        &["topic"],
        "Records that the filter of no source of their topic wants, by topic.",
    ),
    Metric::counter(
        "leadpulse_records_ignored_total",
        &["topic"],
        "Records that concern no row, such as messages in a change log, by topic.",
    ),
    Metric::counter(
        "leadpulse_change_gaps_total",
        &[],
        "Rows by which a source reported that changes of an entity are missing.",
    ),
    Metric::gauge(
        "leadpulse_graph_stale",
        &["type"],
        "Known entities whose source reported a gap in their changes, and of which no complete version came since, by table.",
    ),
    Metric::counter(
        "leadpulse_remarked_records_total",
        &["reason"],
        "Accepted records with a remark, by reason: stepped_back (its time lies before that of the version it replaced), in_part (some fields of a key that no row has described).",
    ),
    Metric::counter(
        "leadpulse_dlq_records_total",
        &["reason"],
        "Dead letters, late and future ones included, by reason.",
    ),
    Metric::counter(
        "leadpulse_late_events_total",
        &[],
        "Events beyond the late horizon; they are dead letters too.",
    ),
    Metric::counter(
        "leadpulse_scores_emitted_total",
        &["task", "cause"],
        "Score records committed, by task and cause: event, board, timer, bundle_swap, closing.",
    ),
    Metric::counter(
        "leadpulse_alerts_emitted_total",
        &["task", "type", "severity"],
        "Alert records committed, by task, type and severity.",
    ),
    Metric::counter(
        "leadpulse_alerts_suppressed_total",
        &["task", "type", "reason"],
        "Crossings that fired no alert, by task, type and reason: cooldown (it waits), unconfirmed, reversed, placing, first_score, ineligible, reconfigured, customer, other_owner, do_not_contact, excluded_domain, muted, excluded.",
    ),
    Metric::counter(
        "leadpulse_exposures_total",
        &["group"],
        "Exposure records committed, by group: told, held_out, digest.",
    ),
    Metric::counter(
        "leadpulse_work_lists_written_total",
        &["task"],
        "Work lists that changed and were committed, by task.",
    ),
    Metric::counter(
        "leadpulse_erasures_total",
        &[],
        "Requests to erase a person, or to lift an erasure, that took effect.",
    ),
    Metric::gauge(
        "leadpulse_erased_hashes",
        &[],
        "Keyed hashes by which rows of erased persons are refused.",
    ),
    Metric::gauge(
        "leadpulse_overrides_in_force",
        &["kind"],
        "Entities with a person's decision in force, by kind: pin, mute, exclude; every 5 s.",
    ),
    Metric::gauge(
        "leadpulse_feedback_alerts",
        &["verdict"],
        "Alerts by the verdict of their last answer: accepted, rejected; every 5 s.",
    ),
    Metric::counter(
        "leadpulse_explanations_total",
        &["task", "outcome"],
        "Explanations of committed scores, by task and outcome: made, listed (for a work list), carried (an older one came with the score), over_budget.",
    ),
    Metric::counter(
        "leadpulse_explanation_requests_total",
        &["outcome"],
        "Explanations asked of the engine, by outcome: answered, refused.",
    ),
    Metric::counter("leadpulse_cells_scored_total", &[], "Cells scored."),
    Metric::counter("leadpulse_epochs_total", &[], "Epochs committed."),
    Metric::histogram(
        "leadpulse_due_cells",
        &[],
        &[1.0, 10.0, 100.0, 1000.0, 10000.0, 100000.0],
        "Cells looked at for alerts, per tick at which any were due.",
    ),
    Metric::histogram(
        "leadpulse_tick_epochs",
        &[],
        &[1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 1000.0],
        "Epochs that a tick took at which any cells were due.",
    ),
    Metric::counter(
        "leadpulse_work_nodes_total",
        &["reason"],
        "Work of scoring in committed epochs, in nodes (a cell counts as its nodes and four), by reason: tick, event, board, timer, bundle, closing.",
    ),
    Metric::gauge(
        "leadpulse_waiting_cells",
        &["queue"],
        "Cells that wait for a later epoch, by queue: tick (due at a half-closed tick), dirty (rows, timers), soft (boards, changes that many read).",
    ),
    Metric::histogram(
        "leadpulse_epoch_records",
        &[],
        &[0.0, 1.0, 10.0, 100.0, 1000.0, 5000.0, 20000.0, 100000.0],
        "Records per epoch.",
    ),
    Metric::histogram(
        "leadpulse_epoch_duration_seconds",
        &[],
        SECONDS,
        "From cutting an epoch to its commit.",
    ),
    Metric::histogram(
        "leadpulse_stage_duration_seconds",
        &["stage"],
        SECONDS,
        "Time of an epoch in a stage: decode, graph, track, infer, policy, seal, produce.",
    ),
    Metric::histogram(
        "leadpulse_pipeline_latency_seconds",
        &[],
        WAY_SECONDS,
        "From the Kafka timestamp of an epoch's newest record to its commit; of epochs after the topics were read to their end, so that reading history does not count as latency.",
    ),
    Metric::gauge(
        "leadpulse_kafka_consumer_lag_records",
        &["topic"],
        "Records that wait in the input, by topic; every 5 s.",
    ),
    Metric::gauge(
        "leadpulse_kafka_consumer_lag_seconds",
        &["topic"],
        "Age of the newest record taken, of the partition of the topic that is furthest behind; 0 where no record waits; every 5 s.",
    ),
    Metric::gauge(
        "leadpulse_as_of_timestamp_seconds",
        &[],
        "The moment scores are valid at: as_of of the newest committed epoch.",
    ),
    Metric::gauge("leadpulse_board", &[], "Number of the board in force."),
    Metric::gauge(
        "leadpulse_hub_fanout_deferred",
        &[],
        "Cells that wait because a board moved their hubs, or because of a change that more than 64 cells read.",
    ),
    Metric::gauge(
        "leadpulse_references_named",
        &["table", "field"],
        "References among the first rows of a run (of events at most 2,000 an epoch), by table and field; set once, when 1,000 rows or more were read and the topics to their end.",
    ),
    Metric::gauge(
        "leadpulse_references_lost",
        &["table", "field"],
        "Those of them that name a row nobody sent.",
    ),
    Metric::gauge(
        "leadpulse_graph_nodes",
        &["type"],
        "Known entities, by table. Sizes of the graph are counted every 5 s; on a large graph rarer, so that it takes a hundredth of the time at most.",
    ),
    Metric::gauge(
        "leadpulse_graph_stubs",
        &["type"],
        "Entities that were named but never sent, by table.",
    ),
    Metric::gauge(
        "leadpulse_identity_members",
        &["found"],
        "Known members by how they found their account: reference, link, domain, events (only their events name one), provisional (their domain has no account yet), unresolved; own and competitor count nowhere.",
    ),
    Metric::gauge(
        "leadpulse_identity_joined",
        &["how"],
        "Entities that are part of another now, by how: merged, converted.",
    ),
    Metric::gauge(
        "leadpulse_identity_ambiguous_domains",
        &[],
        "Domains that several accounts name: the one with the smallest key gets their members.",
    ),
    Metric::gauge(
        "leadpulse_burst_events",
        &[],
        "Events of scanners' bursts, which count as no engagement.",
    ),
    Metric::gauge(
        "leadpulse_open_events",
        &[],
        "Events kept one by one until they can no longer turn out to be a scanner's.",
    ),
    Metric::counter(
        "leadpulse_retractions_total",
        &[],
        "Accepted rows that took an event back.",
    ),
    Metric::gauge(
        "leadpulse_retractions_flawed",
        &["how"],
        "Retractions that could not restore everything (inexact), found nothing (unmatched), came before their event (early).",
    ),
    Metric::gauge(
        "leadpulse_graph_memory_bytes",
        &[],
        "Memory of the graph's nodes, estimated.",
    ),
    Metric::gauge(
        "leadpulse_dedupe_fingerprints",
        &[],
        "Event ids kept against duplicates.",
    ),
    Metric::gauge(
        "leadpulse_dedupe_fingerprints_for_good",
        &[],
        "Those of them that are never forgotten: of outcome tables.",
    ),
    Metric::gauge(
        "leadpulse_resident_cells",
        &[],
        "Cells with rows and sums in memory, of those that may be cold; 0 without stored state.",
    ),
    Metric::gauge(
        "leadpulse_resident_node_bytes",
        &[],
        "Bytes of their nodes, estimated.",
    ),
    Metric::counter(
        "leadpulse_cells_read_back_total",
        &[],
        "Cells that were read from the stored state.",
    ),
    Metric::counter(
        "leadpulse_cells_put_out_total",
        &[],
        "Cells that were put out of memory.",
    ),
    Metric::gauge(
        "leadpulse_role",
        &["role"],
        "1 for the role of this process: owner, follower.",
    ),
    Metric::gauge(
        "leadpulse_follower_lag_epochs",
        &[],
        "Committed epochs that this follower has not applied; 0 for an owner.",
    ),
    Metric::counter(
        "leadpulse_takeovers_total",
        &[],
        "Times that this process took over after it followed.",
    ),
    Metric::counter(
        "leadpulse_replayed_records_total",
        &[],
        "Records read again on start or as a follower.",
    ),
    Metric::counter(
        "leadpulse_restore_divergence_total",
        &[],
        "Epochs whose rows came out otherwise than recorded when they were applied again.",
    ),
    Metric::gauge(
        "leadpulse_model_info",
        &["task", "bundle"],
        "1 for each task and the bundle that scores it.",
    ),
    Metric::counter(
        "leadpulse_swaps_total",
        &["outcome"],
        "Releases that were asked for, by outcome: in_force, refused.",
    ),
    Metric::gauge(
        "leadpulse_rescoring_entities",
        &[],
        "Entities without a score of the newest model; 0 once a change is complete.",
    ),
    Metric::counter(
        "leadpulse_schema_waits_total",
        &[],
        "Epochs that waited for a writer schema.",
    ),
];
