//! `/api/v1/{table}/{id}/explanation`: the score of an entity as of now with its drivers, asked of
//! the engine.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use leadpulse_engine::explain::{ExplainRefusal, ExplainRequest};
use leadpulse_engine::read_model::Phase;
use leadpulse_records::ShownScore;
use tokio::sync::oneshot;

use super::answer::ApiError;
use super::arguments::QueryArguments;
use super::endpoint::{AnswerKind, Endpoint, READS};
use super::task_of;
use crate::service::App;

/// Wait for an answer as of now. The engine answers between epochs; after this long it is at a long
/// one, and the explanation that the last record carries is the answer.
const PATIENCE: Duration = Duration::from_millis(300);
/// Longest wait where no record carries an explanation.
const LAST_PATIENCE: Duration = Duration::from_secs(10);

const AGAIN: &str =
    "ask again in a moment; the last explanation of a score is in /api/v1/{table}/{id}";

pub(crate) const EXPLANATION: Endpoint = Endpoint {
    path: "/api/v1/{table}/{id}/explanation",
    summary: "The score of an entity as of now with its drivers, asked of the engine",
    parameters: &[super::TASK],
    answer: AnswerKind::Json("ShownScore"),
    refusals: &[400, 404, 409],
    is_audited: true,
    ..READS
};

/// `/api/v1/{table}/{id}/explanation`
pub(crate) async fn explanation(
    State(app): State<App>,
    Path((table, id)): Path<(String, String)>,
    arguments: QueryArguments,
) -> Result<Response, ApiError> {
    let tasks = app.state.tasks.now();
    let task = task_of(&tasks, arguments.chosen("task"), Some(&table))?;
    let Some(desk) = &app.state.explanations else {
        return Err(ApiError::unavailable(
            "this process explains nothing on request",
            AGAIN,
        ));
    };
    match app.state.read_model.status().phase {
        // A follower that is behind refuses.
        Phase::Live | Phase::Following { .. } => {}
        Phase::Stopped => {
            return Err(ApiError::unavailable(
                "the engine has stopped",
                "its log says why",
            ));
        }
        Phase::Starting | Phase::Replaying { .. } => return Err(refused(ExplainRefusal::NotReady)),
    }
    let (answered, mut answer) = oneshot::channel();
    let request = ExplainRequest {
        task: task.name.clone(),
        entity_id: app.state.key(&table, id),
        entity_type: table,
    };
    let kept = kept(&app, &request);
    // A client that went away no longer listens.
    let asked = desk.ask(
        request,
        Box::new(move |explanation| drop(answered.send(explanation))),
    );
    match (asked, &kept) {
        (Err(ExplainRefusal::Busy), Some(kept)) => return Ok(Json(kept).into_response()),
        (asked, _) => asked.map_err(refused)?,
    }
    let mut waited = tokio::time::timeout(PATIENCE, &mut answer).await;
    if waited.is_err() {
        if let Some(kept) = kept {
            return Ok(Json(kept).into_response());
        }
        waited = tokio::time::timeout(LAST_PATIENCE, answer).await;
    }
    match waited {
        Ok(Ok(explanation)) => Ok(Json(explanation.map_err(refused)?).into_response()),
        Ok(Err(_)) => Err(ApiError::unavailable(
            "the engine stopped before it answered",
            "its log says why",
        )),
        Err(_) => Err(ApiError::unavailable(
            format!(
                "the engine did not answer within {} s",
                LAST_PATIENCE.as_secs()
            ),
            AGAIN,
        )),
    }
}

/// The score of the last record, if it carries an explanation.
fn kept(app: &App, request: &ExplainRequest) -> Option<Arc<ShownScore>> {
    let scores = app
        .state
        .read_model
        .get(&request.entity_type, &request.entity_id);
    scores
        .into_iter()
        .find(|score| *score.record.task == *request.task && score.record.drivers_as_of.is_some())
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
