//! `POST /api/v1/alerts/simulate`: the alerts that other policies would have sent.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::{IntoResponse, Response};

use super::answer::ApiError;
use super::apart::run_apart;
use super::endpoint::{AnswerKind, Endpoint, EndpointAccess, READS, Verb};
use crate::options::Scope;
use crate::service::App;
use crate::simulate::{SimulationError, SimulationRequest};

pub(crate) const SIMULATE: Endpoint = Endpoint {
    verb: Verb::Post,
    path: "/api/v1/alerts/simulate",
    summary: "The alerts that policies would have sent on a history, judged",
    body: Some("SimulationRequest"),
    answer: AnswerKind::Json("Simulation"),
    refusals: &[400, 503],
    access: EndpointAccess::Client(Scope::Operate),
    is_audited: true,
    ..READS
};

/// `POST /api/v1/alerts/simulate`
pub(crate) async fn simulate(
    State(app): State<App>,
    request: Result<Json<SimulationRequest>, JsonRejection>,
) -> Result<Response, ApiError> {
    let Some(desk) = &app.state.simulator else {
        return Err(ApiError::unavailable(
            "this process has no history to simulate alerts on",
            "start it with --history and the folder with the sources' files",
        ));
    };
    let Json(request) = request.map_err(|rejection| {
        ApiError::bad_request(
            rejection.body_text(),
            "send a JSON object with any of days, until, policies, caps and list; the content-type is application/json",
        )
    })?;
    let Some(turn) = desk.take() else {
        return Err(ApiError::unavailable(
            "another simulation is under way",
            "ask again when it has ended; it takes minutes at most",
        ));
    };
    let names = ("leadpulse-simulate", "simulation");
    match run_apart(names, move || turn.simulate(&request)).await? {
        Ok(found) => Ok(Json(found).into_response()),
        Err(SimulationError::Refused(words)) => Err(ApiError::bad_request(
            words,
            "policies and caps are those of leadpulse.toml, as JSON",
        )),
        Err(SimulationError::Failed(words)) => Err(ApiError::internal(words)),
    }
}
