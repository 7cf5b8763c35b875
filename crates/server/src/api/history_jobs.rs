//! Jobs on the files of a past: `POST /api/v1/alerts/simulate`, `/api/v1/query/labels` and
//! `/api/v1/backtest`. One at a time, apart from the engine, for a limited time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use serde_json::Value;

use super::answer::{ApiError, apart};
use super::apart::run_apart;
use super::arguments::json_body;
use super::endpoint::{AnswerKind, Endpoint, OPERATES};
use crate::history_jobs::{
    BacktestRequest, HistoryJobError, HistoryJobs, LabelRequest, MOST_LABELS, SimulationRequest,
};
use crate::service::App;

pub(crate) const SIMULATE: Endpoint = Endpoint {
    path: "/api/v1/alerts/simulate",
    summary: "The alerts that policies would have sent on a history, judged",
    body: Some("SimulationRequest"),
    answer: AnswerKind::Json("Simulation"),
    ..OPERATES
};
pub(crate) const LABELS: Endpoint = Endpoint {
    path: "/api/v1/query/labels",
    summary: "The counts of a query's labels on a history, and the first of them",
    body: Some("LabelRequest"),
    answer: AnswerKind::Json("QueryLabels"),
    ..OPERATES
};
pub(crate) const BACKTEST: Endpoint = Endpoint {
    path: "/api/v1/backtest",
    summary: "The scores of the model on a history, judged by what happened",
    body: Some("BacktestRequest"),
    answer: AnswerKind::Json("Backtest"),
    ..OPERATES
};

/// The sign by which a job ends. It is set when this is dropped: the answer was given, the time is
/// over, or the client has gone away.
#[derive(Default)]
struct EndOfRequest(Arc<AtomicBool>);

impl Drop for EndOfRequest {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// `POST /api/v1/alerts/simulate`
pub(crate) async fn simulate(
    State(app): State<App>,
    request: Result<Json<SimulationRequest>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let request = json_body(
        request,
        "send a JSON object with any of days, until, policies, caps and list",
    )?;
    let hint = "policies and caps are those of leadpulse.toml, as JSON";
    answered(&app, "simulation", hint, move |jobs, end| {
        jobs.simulate(&request, end)
    })
    .await
}

/// `POST /api/v1/query/labels`
pub(crate) async fn labels(
    State(app): State<App>,
    request: Result<Json<LabelRequest>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let request = json_body(
        request,
        "send {\"query\": \"PREDICT …\"}, with any of anchors and first",
    )?;
    if request.first.is_some_and(|first| first > MOST_LABELS) {
        return Err(ApiError::bad_request(
            format!("first is more than {MOST_LABELS}"),
            "ask for fewer labels; leadpulse query --list lists any number",
        ));
    }
    check_query(&app, &request.query).await?;
    let hint = "anchors are written as in leadpulse.toml, e.g. \"every 30d\"";
    answered(&app, "count of labels", hint, move |jobs, end| {
        jobs.labels(&request, end)
    })
    .await
}

/// `POST /api/v1/backtest`
pub(crate) async fn backtest(
    State(app): State<App>,
    request: Result<Json<BacktestRequest>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let request = json_body(request, "send a JSON object with any of task and from")?;
    let hint = "task is one that the model predicts, from a moment before the end of the files";
    answered(&app, "backtest", hint, move |jobs, end| {
        jobs.backtest(&request, end)
    })
    .await
}

/// Refuses a query with a fault before any file is read. The name of a task is as good as its query.
async fn check_query(app: &App, query: &str) -> Result<(), ApiError> {
    let tasks = app.state.tasks.now();
    let Some(desk) = app.state.queries.clone() else {
        return Ok(());
    };
    if tasks.iter().any(|task| task.name == query) {
        return Ok(());
    }
    let query = query.to_owned();
    apart(move || match desk.0.plan(&query) {
        Ok(_) => Ok(()),
        Err(fault) => Err(ApiError::of_query(*fault)),
    })
    .await
}

/// Runs a job for a request.
async fn answered(
    app: &App,
    what: &'static str,
    hint: &'static str,
    job: impl FnOnce(&dyn HistoryJobs, &Arc<AtomicBool>) -> Result<Value, HistoryJobError>
    + Send
    + 'static,
) -> Result<Json<Value>, ApiError> {
    let Some(desk) = &app.state.history else {
        return Err(ApiError::unavailable(
            format!("this process has no history for a {what}"),
            "start it with --history and the folder with the sources' files",
        ));
    };
    let Some(turn) = desk.take() else {
        return Err(ApiError::unavailable(
            "another job on the history is under way",
            "ask again when it has ended; it takes minutes at most",
        ));
    };
    let request = EndOfRequest::default();
    let end = request.0.clone();
    let limit = Duration::from_millis(app.guard.limits().history_timeout_ms);
    let done = run_apart(("leadpulse-history", what), move || job(&*turn, &end));
    let Ok(done) = tokio::time::timeout(limit, done).await else {
        return Err(too_long(limit));
    };
    match done? {
        Ok(found) => Ok(Json(found)),
        Err(HistoryJobError::Refused(words)) => Err(ApiError::bad_request(words, hint)),
        Err(HistoryJobError::Ended) => Err(too_long(limit)),
        Err(HistoryJobError::Failed(words)) => Err(ApiError::internal(words)),
    }
}

fn too_long(limit: Duration) -> ApiError {
    ApiError::unavailable(
        format!("the files take longer than {} s", limit.as_secs()),
        "ask for less, raise server.limits.history_timeout, or run the command on the files",
    )
}
