//! The server's own metrics, named here and nowhere else.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

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
        let requests = IntCounterVec::new(
            Opts::new(
                "leadpulse_http_requests_total",
                "HTTP requests answered, by route pattern and status code.",
            ),
            &["route", "code"],
        )?;
        let duration = HistogramVec::new(
            HistogramOpts::new(
                "leadpulse_http_request_duration_seconds",
                "Time from a request's headers to its answer's, by route pattern.",
            )
            .buckets(vec![
                0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0,
            ]),
            &["route"],
        )?;
        let connections = IntGauge::new(
            "leadpulse_http_connections",
            "Open HTTP connections, as of the newest one.",
        )?;
        let refused_connections = IntCounter::new(
            "leadpulse_http_connections_refused_total",
            "HTTP connections closed at once because of a limit.",
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(connections.clone()))?;
        registry.register(Box::new(refused_connections.clone()))?;
        Ok(Self {
            requests,
            duration,
            connections,
            refused_connections,
        })
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
