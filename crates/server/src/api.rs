//! The answers to programs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use leadpulse_engine::read_model::{ALERTS_KEPT, Cursor, CursorError, EngineStatus, Phase, Sort};
use leadpulse_records::{ShownAlert, ShownScore};
use prometheus::TextEncoder;
use serde::{Deserialize, Serialize};

use crate::answer::{ApiError, EntityTag};
use crate::service::App;
use crate::state::TaskView;

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 1000;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ScoresQuery {
    task: Option<String>,
    entity: Option<String>,
    sort: SortName,
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SortName {
    #[default]
    Score,
    Velocity,
    Change,
    AsOf,
}

#[derive(Serialize)]
struct ScoresAnswer<'a> {
    task: &'a str,
    entity: &'a str,
    sort: SortName,
    total: usize,
    scores: Vec<ListedScore>,
    next_cursor: Option<String>,
}

#[derive(Serialize)]
struct ListedScore {
    /// Place in the order that was asked for, from 1. The record's `rank` is by score, at the moment it was written.
    place: u64,
    #[serde(flatten)]
    score: Arc<ShownScore>,
}

/// `/api/v1/scores`
pub(crate) async fn scores(
    State(app): State<App>,
    query: Result<Query<ScoresQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|rejection| {
        ApiError::bad_request(
            rejection.body_text(),
            "parameters are task, entity, sort (score, velocity, change or as_of), limit (a number) and cursor (next_cursor of the page before)",
        )
    })?;
    let limit = checked_limit(query.limit.unwrap_or(DEFAULT_LIMIT), MAX_LIMIT)?;
    let cursor = query
        .cursor
        .as_deref()
        .map(str::parse::<Cursor>)
        .transpose();
    let cursor = cursor.map_err(|error: CursorError| {
        ApiError::bad_request(error.to_string(), "leave cursor out for the first page")
    })?;
    let task = task_of(
        &app.state.tasks,
        query.task.as_deref(),
        query.entity.as_deref(),
    )?;

    let read_model = &app.state.read_model;
    let tag = EntityTag::new(
        app.process,
        read_model.ranking_version(&task.name, &task.entity),
    );
    if tag.is_known_to(&headers) {
        return Ok(tag.not_modified());
    }
    let sort = match query.sort {
        SortName::Score => Sort::Score,
        SortName::Velocity => Sort::Velocity,
        SortName::Change => Sort::Change,
        SortName::AsOf => Sort::AsOf,
    };
    let page = read_model.scores(&task.name, &task.entity, sort, limit, cursor.as_ref());
    let answer = ScoresAnswer {
        task: &task.name,
        entity: &task.entity,
        sort: query.sort,
        total: page.total,
        scores: (page.first_rank..)
            .zip(page.scores)
            .map(|(place, score)| ListedScore { place, score })
            .collect(),
        next_cursor: page.next.map(|cursor| cursor.to_string()),
    };
    Ok(EntityTag::new(app.process, page.version).on(Json(answer)))
}

/// The first task that is what the request says.
pub(crate) fn task_of<'a>(
    tasks: &'a [TaskView],
    name: Option<&str>,
    entity: Option<&str>,
) -> Result<&'a TaskView, ApiError> {
    let fits = |task: &&TaskView| {
        name.is_none_or(|name| task.name == name)
            && entity.is_none_or(|entity| task.entity == entity)
    };
    tasks.iter().find(fits).ok_or_else(|| {
        let wanted = [
            name.map(|name| format!(" named \"{name}\"")),
            entity.map(|entity| format!(" for \"{entity}\"")),
        ];
        let known: Vec<String> = tasks
            .iter()
            .map(|task| format!("{} (for {})", task.name, task.entity))
            .collect();
        let hint = if known.is_empty() {
            "no task is configured".into()
        } else {
            format!("there is: {}", known.join(", "))
        };
        ApiError::not_found(
            format!(
                "there is no task{}",
                wanted.into_iter().flatten().collect::<String>()
            ),
            hint,
        )
    })
}

fn checked_limit(limit: usize, max: usize) -> Result<usize, ApiError> {
    if (1..=max).contains(&limit) {
        Ok(limit)
    } else {
        Err(ApiError::bad_request(
            format!("limit is {limit}"),
            format!("it must be from 1 to {max}"),
        ))
    }
}

/// `/api/v1/{table}/{id}`
pub(crate) async fn entity(
    State(app): State<App>,
    Path((table, id)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Answer {
        table: String,
        id: String,
        scores: Vec<Arc<ShownScore>>,
        alerts: Vec<Arc<ShownAlert>>,
    }
    if !app.state.tables.contains(&table) {
        let hint = format!("entity tables are: {}", app.state.tables.join(", "));
        return Err(ApiError::not_found(
            format!("there is no entity table \"{table}\""),
            hint,
        ));
    }
    let scores = app.state.read_model.get(&table, &id);
    if scores.is_empty() {
        let hint = match app.state.read_model.status().phase {
            Phase::Live => "an entity is here once a task has scored it and the epoch is committed",
            _ => "scores are still being loaded; /readyz tells when they are",
        };
        return Err(ApiError::not_found(
            format!("no score of \"{id}\" in {table}"),
            hint,
        ));
    }
    let (_, mut alerts) = app.state.read_model.alerts(ALERTS_KEPT);
    alerts.retain(|alert| *alert.record.entity_type == *table && *alert.record.entity_id == *id);
    Ok(Json(Answer {
        table,
        id,
        scores,
        alerts,
    })
    .into_response())
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AlertsQuery {
    limit: Option<usize>,
}

/// `/api/v1/alerts`
pub(crate) async fn alerts(
    State(app): State<App>,
    query: Result<Query<AlertsQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Answer {
        alerts: Vec<Arc<ShownAlert>>,
    }
    let Query(query) = query.map_err(|rejection| {
        ApiError::bad_request(
            rejection.body_text(),
            "the only parameter is limit (a number)",
        )
    })?;
    let limit = checked_limit(query.limit.unwrap_or(DEFAULT_LIMIT), ALERTS_KEPT)?;
    let (version, alerts) = app.state.read_model.alerts(limit);
    let tag = EntityTag::new(app.process, version);
    Ok(if tag.is_known_to(&headers) {
        tag.not_modified()
    } else {
        tag.on(Json(Answer { alerts }))
    })
}

/// `/api/v1/status`
pub(crate) async fn status(State(app): State<App>) -> Response {
    #[derive(Serialize)]
    struct Answer<'a> {
        #[serde(flatten)]
        engine: &'a EngineStatus,
        version: &'a str,
        tasks: &'a [TaskView],
    }
    let engine = app.state.read_model.status();
    Json(Answer {
        engine: &engine,
        version: &app.state.version,
        tasks: &app.state.tasks,
    })
    .into_response()
}

#[derive(Serialize)]
struct Probe {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
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
        }),
    )
        .into_response()
}

/// `/readyz`
pub(crate) async fn readyz(State(app): State<App>) -> Response {
    let status = app.state.read_model.status();
    let doing = match status.phase {
        Phase::Live => {
            let conditions = app.state.read_model.conditions();
            let told = |blocks: bool| {
                let texts: Vec<&str> = conditions
                    .iter()
                    .filter(|c| c.blocks || !blocks)
                    .map(|c| c.text.as_str())
                    .collect();
                (!texts.is_empty()).then(|| texts.join("; "))
            };
            // Scores are live, and stay so while a remark stands; whoever reads the body sees it.
            let Some(reason) = told(true) else {
                return Json(Probe {
                    status: "ready",
                    reason: told(false),
                })
                .into_response();
            };
            reason
        }
        Phase::Starting => "starting".to_owned(),
        Phase::Replaying { done, total } => {
            format!("replaying what was committed before: {done} of {total} records")
        }
        Phase::Stopped => "stopped".to_owned(),
    };
    let blocking = app
        .state
        .read_model
        .conditions()
        .into_iter()
        .filter(|c| c.blocks && status.phase != Phase::Live)
        .map(|c| c.text);
    let reason: Vec<String> = std::iter::once(doing)
        .chain(status.reason.clone())
        .chain(blocking)
        .collect();
    let reason = reason.join(": ");
    (
        StatusCode::SERVICE_UNAVAILABLE,
        Json(Probe {
            status: "not ready",
            reason: Some(reason),
        }),
    )
        .into_response()
}

/// `/version`
pub(crate) async fn version(State(app): State<App>) -> Response {
    #[derive(Serialize)]
    struct Answer<'a> {
        name: &'static str,
        version: &'a str,
    }
    Json(Answer {
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

/// Any other path.
pub(crate) async fn no_such_path() -> ApiError {
    ApiError::not_found(
        "there is nothing at this path",
        "the console is at /, scores are at /api/v1/scores",
    )
}

/// Any other method.
pub(crate) async fn no_such_method() -> ApiError {
    ApiError::method_not_allowed()
}
