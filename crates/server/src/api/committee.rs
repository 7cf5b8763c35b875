//! `/api/v1/{table}/{id}/committee`: the people of an entity's account, asked of the engine.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use leadpulse_engine::Machine;
use leadpulse_engine::read_model::Phase;
use tokio::sync::oneshot;

use super::answer::ApiError;
use super::arguments::QueryArguments;
use super::endpoint::{AnswerKind, Endpoint, READS};
use crate::service::App;

/// Longest wait for an answer: the engine answers between epochs.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) const COMMITTEE: Endpoint = Endpoint {
    path: "/api/v1/{table}/{id}/committee",
    summary: "The people of an entity's account by department and seniority, with the gaps, the hubs that it touches most, and the entities of other accounts that it is related to",
    answer: AnswerKind::Json("CommitteeSeats"),
    refusals: &[404],
    is_audited: true,
    ..READS
};

/// `/api/v1/{table}/{id}/committee`
pub(crate) async fn committee(
    State(app): State<App>,
    Path((table, id)): Path<(String, String)>,
    _: QueryArguments,
) -> Result<Response, ApiError> {
    let id = app.state.key(&table, id);
    let words = format!("nothing is known about \"{id}\" in {table}");
    let found = ask(&app, move |machine| machine.committee(&table, &id)).await?;
    let found = found.ok_or_else(|| {
        ApiError::not_found(words, "an entity is known once a record of it was accepted")
    })?;
    Ok(Json(found).into_response())
}

/// Asks the machine, which answers between two epochs.
///
/// # Errors
/// An engine that is busy, not ready or gone.
pub(super) async fn ask<T: Send + 'static>(
    app: &App,
    question: impl FnOnce(&Machine) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let not_ready = || {
        ApiError::unavailable(
            "scores are still being loaded",
            "/readyz tells when they are",
        )
    };
    let Some(desk) = &app.state.questions else {
        let hint = "ask the process that runs the engine";
        return Err(ApiError::unavailable(
            "this process answers no questions",
            hint,
        ));
    };
    if matches!(app.state.read_model.status().phase, Phase::Stopped) {
        return Err(ApiError::unavailable(
            "the engine has stopped",
            "its log says why",
        ));
    }
    let (answered, answer) = oneshot::channel();
    let asked = desk.ask(Box::new(move |machine: Option<&Machine>| {
        // A client that went away no longer listens.
        drop(answered.send(machine.map(question)));
    }));
    asked.map_err(|error| {
        ApiError::unavailable(error.to_string(), "ask again in a moment").retry_after(1)
    })?;
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(Some(found))) => Ok(found),
        Ok(Ok(None)) => Err(not_ready()),
        Ok(Err(_)) => Err(ApiError::unavailable(
            "the engine stopped before it answered",
            "its log says why",
        )),
        Err(_) => Err(ApiError::unavailable(
            format!("the engine did not answer within {} s", PATIENCE.as_secs()),
            "ask again in a moment",
        )),
    }
}
