//! All metrics of a worker: the lists of the crates, and those of the process.
//!
//! Decision: docs/decisions/0078-one-list-of-metrics.md

use prometheus::process_collector::ProcessCollector;
use prometheus::{Error, Registry, TextEncoder};

use leadpulse_engine::{ENGINE_METRICS, Metrics};
use leadpulse_kafka::{KAFKA_METRICS, KafkaMetrics};
use leadpulse_metrics::{Instruments, MetricDefinition as Metric};
use leadpulse_registry::{REGISTRY_METRICS, RegistryMetrics};
use leadpulse_server::{SERVER_METRICS, register_http};
use leadpulse_store::{STORE_METRICS, StoreMetrics};

/// Metrics of the program itself.
const BUILD_METRICS: &[Metric] = &[Metric::gauge(
    "leadpulse_build_info",
    &["version", "os", "arch"],
    "1, with the version of the program and the platform it was built for.",
)];

/// Metrics of the process, as the prometheus crate collects them on Linux.
const PROCESS_METRICS: &[Metric] = &[
    Metric::counter(
        "process_cpu_seconds_total",
        &[],
        "Total user and system CPU time spent in seconds.",
    ),
    Metric::gauge("process_open_fds", &[], "Number of open file descriptors."),
    Metric::gauge(
        "process_max_fds",
        &[],
        "Maximum number of open file descriptors.",
    ),
    Metric::gauge(
        "process_virtual_memory_bytes",
        &[],
        "Virtual memory size in bytes.",
    ),
    Metric::gauge(
        "process_resident_memory_bytes",
        &[],
        "Resident memory size in bytes.",
    ),
    Metric::gauge(
        "process_start_time_seconds",
        &[],
        "Start time of the process since unix epoch in seconds.",
    ),
    Metric::gauge(
        "process_threads",
        &[],
        "Number of OS threads in the process.",
    ),
];

/// Metrics about one matter.
#[derive(Clone, Copy, Debug)]
pub struct MetricGroup {
    /// The matter, as a heading.
    pub title: &'static str,
    pub metrics: &'static [Metric],
}

/// Every metric that `/metrics` of a worker may show, by matter.
pub fn metric_groups() -> [MetricGroup; 7] {
    let group = |title, metrics| MetricGroup { title, metrics };
    [
        group("Engine", ENGINE_METRICS),
        group("Kafka", KAFKA_METRICS),
        group("Schemas of writers", REGISTRY_METRICS),
        group("Stored state", STORE_METRICS),
        group("HTTP", SERVER_METRICS),
        group("Build", BUILD_METRICS),
        group("Process", PROCESS_METRICS),
    ]
}

/// Registers the metrics of the program and of its process.
pub(crate) fn register_process(registry: &Registry) -> Result<(), Error> {
    let made = Instruments::new(registry, BUILD_METRICS);
    let build = made.gauges("leadpulse_build_info")?;
    made.finish()?;
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    build
        .with_label_values(&[env!("CARGO_PKG_VERSION"), os, arch])
        .set(1);
    registry.register(Box::new(ProcessCollector::for_self()))
}

/// `/metrics` of a worker that has counted nothing yet and knows no topic and no task, in
/// Prometheus' text format.
///
/// # Errors
/// A mistake in the lists of metrics.
pub fn metrics_at_start() -> Result<String, Error> {
    TextEncoder::new().encode_to_string(&full_registry()?.gather())
}

fn full_registry() -> Result<Registry, Error> {
    let registry = Registry::new();
    register_process(&registry)?;
    Metrics::new(&registry)?;
    KafkaMetrics::register(&registry)?;
    RegistryMetrics::register(&registry)?;
    StoreMetrics::register(&registry)?;
    register_http(&registry)?;
    Ok(registry)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Metrics with a label whose values only the configuration, the model or what happens give.
    const OPEN: [&str; 21] = [
        "leadpulse_alerts_emitted_total",
        "leadpulse_alerts_suppressed_total",
        "leadpulse_events_consumed_total",
        "leadpulse_explanations_total",
        "leadpulse_graph_nodes",
        "leadpulse_graph_stale",
        "leadpulse_graph_stubs",
        "leadpulse_http_request_duration_seconds",
        "leadpulse_http_requests_total",
        "leadpulse_kafka_client_errors_total",
        "leadpulse_kafka_consumer_lag_records",
        "leadpulse_kafka_consumer_lag_seconds",
        "leadpulse_model_info",
        "leadpulse_records_filtered_total",
        "leadpulse_records_ignored_total",
        "leadpulse_references_lost",
        "leadpulse_references_named",
        "leadpulse_scores_emitted_total",
        "leadpulse_topic_findings",
        "leadpulse_topic_retention_seconds",
        "leadpulse_work_lists_written_total",
    ];

    #[test]
    fn every_metric_with_a_closed_set_of_labels_exists_before_anything_is_counted() {
        let families = full_registry().unwrap().gather();
        let found: BTreeSet<&str> = families.iter().map(|family| family.name()).collect();
        let listed: BTreeSet<&str> = metric_groups()
            .iter()
            .flat_map(|group| group.metrics.iter().map(|metric| metric.name))
            .collect();
        let open = BTreeSet::from(OPEN);
        let absent: BTreeSet<&str> = listed.difference(&found).copied().collect();
        assert_eq!(absent, open);
        let unlisted: Vec<&str> = found.difference(&listed).copied().collect();
        assert_eq!(unlisted, Vec::<&str>::new());
    }

    #[test]
    fn the_text_has_the_help_and_kind_of_the_list() {
        let text = metrics_at_start().unwrap();
        let mut said: BTreeMap<(&str, &str), &str> = BTreeMap::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("# ")) {
            let mut words = line.splitn(3, ' ');
            if let (Some(what), Some(name), Some(rest)) = (words.next(), words.next(), words.next())
            {
                said.insert((what, name), rest);
            }
        }
        for metric in metric_groups().iter().flat_map(|group| group.metrics) {
            if let Some(help) = said.get(&("HELP", metric.name)) {
                assert_eq!(*help, metric.help, "{}", metric.name);
                assert_eq!(said[&("TYPE", metric.name)], metric.kind.name());
            }
        }
    }

    #[test]
    fn names_follow_the_conventions() {
        let mut names = BTreeSet::new();
        for metric in metric_groups().iter().flat_map(|group| group.metrics) {
            let name = metric.name;
            let is_counter = metric.kind == leadpulse_metrics::MetricKind::Counter;
            assert_eq!(name.ends_with("_total"), is_counter, "{name}");
            assert!(metric.help.ends_with('.'), "{name}: help is a sentence");
            assert!(names.insert(name), "{name} is listed twice");
            for unit in ["_ms", "_hours", "_minutes", "_kb", "_mb"] {
                assert!(!name.contains(unit), "{name}: seconds and bytes only");
            }
        }
    }
}
