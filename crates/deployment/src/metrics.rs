//! All metrics of a worker: the lists of the crates, and those of the process.
//!
//! Decision: docs/decisions/0078-one-list-of-metrics.md

use prometheus::process_collector::ProcessCollector;
use prometheus::{Error, Registry, TextEncoder};

use leadpulse_deliver::DELIVER_METRICS;
use leadpulse_engine::{ENGINE_METRICS, Metrics};
use leadpulse_ingest::INGEST_METRICS;
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

/// The metrics of the processes beside the worker, `deliver` and `ingest`.
pub fn metric_groups_beside() -> [MetricGroup; 2] {
    let group = |title, metrics| MetricGroup { title, metrics };
    [
        group("Sinks", DELIVER_METRICS),
        group("Calls", INGEST_METRICS),
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
