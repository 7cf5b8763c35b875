//! Answers about the process: its status, its probes, its version, its metrics.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use leadpulse_engine::read_model::{EngineStatus, Phase};
use prometheus::TextEncoder;
use serde::Serialize;

use super::answer::ApiError;
use super::endpoint::{AnswerKind, Endpoint, EndpointAccess, READS};
use crate::service::App;
use crate::state::TaskView;

pub(crate) const STATUS: Endpoint = Endpoint {
    path: "/api/v1/status",
    summary: "Phase, epoch, as_of, lag, deployed version, and the tasks with their bands",
    answer: AnswerKind::Json("ProcessStatus"),
    ..READS
};
pub(crate) const HEALTHZ: Endpoint = Endpoint {
    path: "/healthz",
    summary: "200 while the engine's loop comes round, whatever Kafka does",
    answer: AnswerKind::Json("Probe"),
    access: EndpointAccess::Everybody,
    ..READS
};
pub(crate) const READYZ: Endpoint = Endpoint {
    path: "/readyz",
    summary: "200 once scores are live; else 503 with the reason",
    ..HEALTHZ
};
pub(crate) const VERSION: Endpoint = Endpoint {
    path: "/version",
    summary: "Name and version of the program",
    answer: AnswerKind::Json("Version"),
    ..HEALTHZ
};
pub(crate) const METRICS: Endpoint = Endpoint {
    path: "/metrics",
    summary: "Metrics of the process",
    answer: AnswerKind::Text(prometheus::TEXT_FORMAT),
    ..READS
};

/// `/api/v1/status`
pub(crate) async fn status(State(app): State<App>) -> Response {
    #[derive(Serialize)]
    struct StatusAnswer<'a> {
        #[serde(flatten)]
        engine: &'a EngineStatus,
        version: &'a str,
        tasks: &'a [TaskView],
    }
    let engine = app.state.read_model.status();
    Json(StatusAnswer {
        engine: &engine,
        version: &app.state.version,
        tasks: &app.state.tasks.now(),
    })
    .into_response()
}

#[derive(Serialize)]
struct Probe {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Of a follower only.
    #[serde(skip_serializing_if = "Option::is_none")]
    lag_epochs: Option<u64>,
}

/// `/healthz`
pub(crate) async fn healthz(State(app): State<App>) -> Response {
    let age = app
        .heartbeat
        .age(app.state.read_model.beats(), Instant::now());
    if age <= Duration::from_millis(app.heartbeat_timeout_ms) {
        return Json(Probe {
            status: "ok",
            reason: None,
            lag_epochs: None,
        })
        .into_response();
    }
    let reason = format!(
        "the engine's loop has not come round for {} s",
        age.as_secs()
    );
    (
        StatusCode::SERVICE_UNAVAILABLE,
        Json(Probe {
            status: "hanging",
            reason: Some(reason),
            lag_epochs: None,
        }),
    )
        .into_response()
}

/// `/readyz`
pub(crate) async fn readyz(State(app): State<App>) -> Response {
    let status = app.state.read_model.status();
    let conditions = app.state.read_model.conditions();
    let told = |blocks: bool| {
        let texts: Vec<&str> = conditions
            .iter()
            .filter(|c| c.blocks || !blocks)
            .map(|c| c.text.as_str())
            .collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    };
    let ready = match status.phase {
        Phase::Live => Some("ready"),
        Phase::Following {
            is_current: true, ..
        } => Some("following"),
        _ => None,
    };
    // Scores are those that are committed, and stay so while a remark stands; whoever reads the
    // body sees it.
    if let (Some(ready), None) = (ready, told(true)) {
        return Json(Probe {
            status: ready,
            reason: told(false),
            lag_epochs: lag_of(status.phase),
        })
        .into_response();
    }
    let reason: Vec<String> = doing(status.phase)
        .into_iter()
        .chain(status.reason.clone())
        .chain(told(true))
        .collect();
    (
        StatusCode::SERVICE_UNAVAILABLE,
        Json(Probe {
            status: "not ready",
            reason: Some(reason.join(": ")),
            lag_epochs: lag_of(status.phase),
        }),
    )
        .into_response()
}

/// The work of a process that is not ready; `None` for one that is live.
fn doing(phase: Phase) -> Option<String> {
    Some(match phase {
        Phase::Live => return None,
        Phase::Starting => "starting".to_owned(),
        Phase::Replaying { done, total } => {
            format!("replaying what was committed before: {done} of {total} records")
        }
        Phase::Following { .. } => "following another process".to_owned(),
        Phase::Stopped => "stopped".to_owned(),
    })
}

/// Committed epochs that a follower has not applied.
fn lag_of(phase: Phase) -> Option<u64> {
    match phase {
        Phase::Following { lag_epochs, .. } => Some(lag_epochs),
        _ => None,
    }
}

/// `/version`
pub(crate) async fn version(State(app): State<App>) -> Response {
    #[derive(Serialize)]
    struct VersionAnswer<'a> {
        name: &'static str,
        version: &'a str,
    }
    Json(VersionAnswer {
        name: "leadpulse",
        version: &app.state.version,
    })
    .into_response()
}

/// `/metrics`
pub(crate) async fn metrics(State(app): State<App>) -> Result<Response, ApiError> {
    let text = TextEncoder::new().encode_to_string(&app.state.registry.gather());
    let text = text
        .map_err(|error| ApiError::internal(format!("the metrics cannot be written: {error}")))?;
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}
