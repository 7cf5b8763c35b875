//! `/api/v1/{table}/{id}/explanation`: the score of an entity as of now with its drivers, asked of
//! the engine.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use leadpulse_engine::explain::{ExplainRefusal, ExplainRequest};
use leadpulse_engine::read_model::Phase;
use serde::Deserialize;
use tokio::sync::oneshot;

use super::answer::ApiError;
use super::task_of;
use crate::service::App;

/// Longest wait for an answer. The engine answers between epochs, so after this long it does
/// something else.
const PATIENCE: Duration = Duration::from_secs(10);

const AGAIN: &str =
    "ask again in a moment; the last explanation of a score is in /api/v1/{table}/{id}";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ExplanationQuery {
    task: Option<String>,
}

/// `/api/v1/{table}/{id}/explanation`
pub(crate) async fn explanation(
    State(app): State<App>,
    Path((table, id)): Path<(String, String)>,
    query: Result<Query<ExplanationQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|rejection| {
        ApiError::bad_request(rejection.body_text(), "the only parameter is task (a name)")
    })?;
    let task = task_of(&app.state.tasks, query.task.as_deref(), Some(&table))?;
    let Some(desk) = &app.state.explanations else {
        return Err(ApiError::unavailable(
            "this process explains nothing on request",
            AGAIN,
        ));
    };
    match app.state.read_model.status().phase {
        Phase::Live => {}
        Phase::Stopped => {
            return Err(ApiError::unavailable(
                "the engine has stopped",
                "its log says why",
            ));
        }
        Phase::Starting | Phase::Replaying { .. } => return Err(refused(ExplainRefusal::NotReady)),
    }
    let (answered, answer) = oneshot::channel();
    let request = ExplainRequest {
        task: task.name.clone(),
        entity_id: app.state.key(&table, id),
        entity_type: table,
    };
    // A client that went away no longer listens.
    desk.ask(
        request,
        Box::new(move |explanation| drop(answered.send(explanation))),
    )
    .map_err(refused)?;
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(explanation)) => Ok(Json(explanation.map_err(refused)?).into_response()),
        Ok(Err(_)) => Err(ApiError::unavailable(
            "the engine stopped before it answered",
            "its log says why",
        )),
        Err(_) => Err(ApiError::unavailable(
            format!("the engine did not answer within {} s", PATIENCE.as_secs()),
            AGAIN,
        )),
    }
}

fn refused(refusal: ExplainRefusal) -> ApiError {
    let words = refusal.to_string();
    match refusal {
        ExplainRefusal::NoSuchTask { .. } => {
            ApiError::not_found(words, "/api/v1/status lists the tasks")
        }
        ExplainRefusal::NoSuchEntity { .. } => {
            ApiError::not_found(words, "an entity is known once a record of it was accepted")
        }
        ExplainRefusal::Ineligible { .. } => {
            ApiError::conflict(words, "only an entity of the task's population has a score")
        }
        ExplainRefusal::NotReady => ApiError::unavailable(words, "/readyz tells when they are"),
        ExplainRefusal::Busy => ApiError::unavailable(words, AGAIN),
    }
}
