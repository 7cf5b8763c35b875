//! Operations: answers to alerts, changes of the champion, replays of dead letters.
//!
//! Each wants a body of JSON, which a page of another origin cannot send without being asked about by
//! the browser first. Each runs on a thread of its own, one at a time: a client that goes away does
//! not end it.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, State};
use axum::{Json, response::IntoResponse, response::Response};
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::answer::ApiError;
use super::apart::run_apart;
use super::arguments::{QueryArguments, json_body};
use super::endpoint::{AnswerKind, Endpoint, OPERATES, READS};
use crate::guard::Client;
use crate::operations::{
    AlertAnswer, KnownModel, OperationError, Operations, OperationsDesk, PromotionRequest,
    ReplayRequest, RollbackRequest,
};
use crate::service::App;

pub(crate) const ANSWER: Endpoint = Endpoint {
    path: "/api/v1/feedback/answer",
    summary: "Sends an answer to an alert as a row of the feedback table",
    body: Some("AlertAnswer"),
    answer: AnswerKind::Json("SentRow"),
    ..OPERATES
};
pub(crate) const MODELS: Endpoint = Endpoint {
    path: "/api/v1/models",
    summary: "The bundles of the registry of models, with names and grades",
    answer: AnswerKind::Json("Models"),
    refusals: &[503],
    ..READS
};
pub(crate) const PROMOTE: Endpoint = Endpoint {
    path: "/api/v1/models/promote",
    summary: "Makes a bundle the champion, and asks the running worker to go on under it",
    body: Some("PromotionRequest"),
    answer: AnswerKind::Json("ChangedChampion"),
    ..OPERATES
};
pub(crate) const ROLL_BACK: Endpoint = Endpoint {
    path: "/api/v1/models/rollback",
    summary: "Makes the champion before this one the champion again",
    body: Some("RollbackRequest"),
    answer: AnswerKind::Json("ChangedChampion"),
    ..OPERATES
};
pub(crate) const REPLAY: Endpoint = Endpoint {
    path: "/api/v1/dead-letters/replay",
    summary: "Sends dead letters again, each at most once, or counts what would be sent",
    body: Some("ReplayRequest"),
    answer: AnswerKind::Json("ReplayCounts"),
    ..OPERATES
};

/// `POST /api/v1/feedback/answer`
pub(crate) async fn answer(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    body: Result<Json<AlertAnswer>, JsonRejection>,
) -> Result<Response, ApiError> {
    let hint = "send {\"alert_id\": …, \"verdict\": \"accepted\"} or \"rejected\"";
    let body = json_body(body, hint)?;
    operate(&app, client, move |operations, by| {
        operations.answer_alert(&body, by)
    })
    .await
}

/// `/api/v1/models`
pub(crate) async fn models(
    State(app): State<App>,
    _: QueryArguments,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct ModelsAnswer {
        models: Vec<KnownModel>,
    }
    // It reads files, and takes nobody's turn.
    let operations = desk_of(&app)?.service();
    let listed = spawn_blocking(move || operations.models()).await;
    match listed {
        Ok(models) => {
            let models = models.map_err(not_done)?;
            Ok(Json(ModelsAnswer { models }).into_response())
        }
        Err(_) => Err(ApiError::internal("the list ended without an answer")),
    }
}

/// `POST /api/v1/models/promote`
pub(crate) async fn promote(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    body: Result<Json<PromotionRequest>, JsonRejection>,
) -> Result<Response, ApiError> {
    let body = json_body(body, "send {\"bundle\": …, \"live\": true}")?;
    operate(&app, client, move |operations, by| {
        operations.promote(&body, by)
    })
    .await
}

/// `POST /api/v1/models/rollback`
pub(crate) async fn roll_back(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    body: Result<Json<RollbackRequest>, JsonRejection>,
) -> Result<Response, ApiError> {
    let body = json_body(body, "send {\"live\": true}")?;
    operate(&app, client, move |operations, by| {
        operations.roll_back(&body, by)
    })
    .await
}

/// `POST /api/v1/dead-letters/replay`
pub(crate) async fn replay(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    body: Result<Json<ReplayRequest>, JsonRejection>,
) -> Result<Response, ApiError> {
    let body = json_body(
        body,
        "send {\"reasons\": […], \"topics\": […], \"dry_run\": true}",
    )?;
    operate(&app, client, move |operations, by| {
        operations.replay(&body, by)
    })
    .await
}

/// Runs an operation on a thread of its own.
async fn operate<T: Serialize + Send + 'static>(
    app: &App,
    client: Client,
    run: impl FnOnce(&dyn Operations, &str) -> Result<T, OperationError> + Send + 'static,
) -> Result<Response, ApiError> {
    let Some(turn) = desk_of(app)?.take() else {
        return Err(ApiError::unavailable(
            "another operation is under way",
            "ask again when it has ended",
        )
        .retry_after(1));
    };
    let run = move || run(&*turn, &client.name());
    let done = run_apart(("leadpulse-operate", "operation"), run).await?;
    done.map(|done| Json(done).into_response())
        .map_err(not_done)
}

fn desk_of(app: &App) -> Result<&OperationsDesk, ApiError> {
    app.state.operations.as_ref().ok_or_else(|| {
        ApiError::unavailable(
            "this process operates nothing",
            "ask a process that runs a configuration, or use the commands of leadpulse",
        )
    })
}

fn not_done(error: OperationError) -> ApiError {
    match error {
        OperationError::Refused(words) => ApiError::bad_request(
            words,
            "the commands of leadpulse refuse it for the same reason",
        ),
        OperationError::Failed(words) => ApiError::unavailable(
            words,
            "ask again once its cause is mended; the log of the process has more",
        ),
    }
}
