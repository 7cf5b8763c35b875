//! The server's own metrics, named here and nowhere else.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use leadpulse_metrics::{Instruments, MetricDefinition as Metric};
use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge, Registry};

/// All metrics of the server.
pub const SERVER_METRICS: &[Metric] = &[
    Metric::counter(
        "leadpulse_http_requests_total",
        &["route", "code"],
        "HTTP requests answered, by route pattern and status code.",
    ),
    Metric::histogram(
        "leadpulse_http_request_duration_seconds",
        &["route"],
        &[0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0],
        "Time from a request's headers to its answer's, by route pattern.",
    ),
    Metric::gauge(
        "leadpulse_http_connections",
        &[],
        "Open HTTP connections, as of the newest one.",
    ),
    Metric::counter(
        "leadpulse_http_connections_refused_total",
        &[],
        "HTTP connections closed at once because of a limit.",
    ),
];

/// Requests by route and status code. The route is the pattern, never the path, so that no entity
/// key becomes a label.
#[derive(Clone, Debug)]
pub(crate) struct HttpMetrics {
    requests: IntCounterVec,
    duration: HistogramVec,
    connections: IntGauge,
    refused_connections: IntCounter,
}

impl HttpMetrics {
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let made = Instruments::new(registry, SERVER_METRICS);
        let metrics = Self {
            requests: made.counters("leadpulse_http_requests_total")?,
            duration: made.histograms("leadpulse_http_request_duration_seconds")?,
            connections: made.gauge("leadpulse_http_connections")?,
            refused_connections: made.counter("leadpulse_http_connections_refused_total")?,
        };
        made.finish()?;
        Ok(metrics)
    }

    /// Sets the answers of known routes to zero.
    pub fn routes_at_zero<'a>(&self, routes: impl Iterator<Item = &'a str>) {
        for route in routes {
            self.requests.with_label_values(&[route, "200"]);
            self.duration.with_label_values(&[route]);
        }
    }

    pub fn set_connections(&self, open: usize) {
        self.connections
            .set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    pub fn count_refused_connection(&self) {
        self.refused_connections.inc();
    }

    fn count(&self, route: &str, code: StatusCode, seconds: f64) {
        self.requests
            .with_label_values(&[route, code.as_str()])
            .inc();
        self.duration.with_label_values(&[route]).observe(seconds);
    }
}

/// Registers the server's metrics without a server, so that they can be listed.
///
/// # Errors
/// A name that is registered already.
pub fn register_http(registry: &Registry) -> Result<(), prometheus::Error> {
    HttpMetrics::register(registry).map(drop)
}

/// Counts and times a request, as a layer around all routes.
pub(crate) async fn measure(
    State(metrics): State<HttpMetrics>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let start = Instant::now();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    metrics.count(route, response.status(), start.elapsed().as_secs_f64());
    response
}
