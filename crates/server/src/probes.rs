//! Probes and metrics of a process without the API: `/healthz`, `/readyz`, `/version`, `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus::{Registry, TextEncoder};
use serde_json::json;

use crate::metrics::HttpMetrics;
use crate::options::{LimitOptions, ServerError};
use crate::service::Handle;
use crate::side;

/// The condition of a process.
pub trait ProcessHealth: Send + Sync + 'static {
    /// Fails with a reason once the process should be restarted.
    ///
    /// # Errors
    /// The reason.
    fn live(&self) -> Result<(), String>;

    /// Fails with a reason while the process does not do its work.
    ///
    /// # Errors
    /// The reason.
    fn ready(&self) -> Result<(), String>;
}

/// State of the probes' handlers.
#[derive(Clone)]
pub(crate) struct Probes {
    registry: Registry,
    health: Arc<dyn ProcessHealth>,
    version: &'static str,
}

/// Answers probes and requests for metrics from everybody who can reach `listen`.
///
/// # Errors
/// If the address is taken, the registry already has the metrics of a server, or no thread can be
/// started.
pub fn serve_probes(
    listen: SocketAddr,
    registry: &Registry,
    health: Arc<dyn ProcessHealth>,
    version: &'static str,
) -> Result<Handle, ServerError> {
    let metrics = HttpMetrics::register(registry)?;
    let router = probe_routes(registry, health, version);
    side::start(
        (listen, "deliver.listen"),
        &LimitOptions::default(),
        router,
        metrics,
    )
}

/// The routes of probes.
pub(crate) fn probe_routes(
    registry: &Registry,
    health: Arc<dyn ProcessHealth>,
    version: &'static str,
) -> Router {
    let probes = Probes {
        registry: registry.clone(),
        health,
        version,
    };
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/version", get(program_version))
        .route("/metrics", get(metrics))
        .with_state(probes)
}

fn probe(outcome: Result<(), String>, good: &str, bad: &str) -> Response {
    match outcome {
        Ok(()) => Json(json!({"status": good})).into_response(),
        Err(reason) => {
            let body = Json(json!({"status": bad, "reason": reason}));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

async fn healthz(State(probes): State<Probes>) -> Response {
    probe(probes.health.live(), "ok", "hanging")
}

async fn readyz(State(probes): State<Probes>) -> Response {
    probe(probes.health.ready(), "ready", "waiting")
}

async fn program_version(State(probes): State<Probes>) -> Response {
    Json(json!({"name": "leadpulse", "version": probes.version})).into_response()
}

async fn metrics(State(probes): State<Probes>) -> Response {
    match TextEncoder::new().encode_to_string(&probes.registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
