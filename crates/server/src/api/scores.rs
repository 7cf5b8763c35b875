//! `/api/v1/scores`: a page of a ranking.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use leadpulse_engine::read_model::{PageCursor, PageCursorError, Sort};
use serde::{Deserialize, Serialize};

use super::answer::{ApiError, EntityTag};
use super::said::RuledScore;
use super::{DEFAULT_LIMIT, checked_limit, task_of};
use crate::service::App;

/// Scores of one page, at most.
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
    /// Place in the order that was asked for, from 1. The record's `rank` is by score, at the
    /// moment it was written.
    place: u64,
    #[serde(flatten)]
    score: RuledScore,
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
            "parameters are task, entity, sort (score, velocity, change or as_of), \
             limit (a number) and cursor (next_cursor of the page before)",
        )
    })?;
    let limit = checked_limit(query.limit.unwrap_or(DEFAULT_LIMIT), MAX_LIMIT)?;
    let cursor = query
        .cursor
        .as_deref()
        .map(str::parse::<PageCursor>)
        .transpose();
    let cursor = cursor.map_err(|error: PageCursorError| {
        ApiError::bad_request(error.to_string(), "leave cursor out for the first page")
    })?;
    let tasks = app.state.tasks.now();
    let task = task_of(&tasks, query.task.as_deref(), query.entity.as_deref())?;

    let read_model = &app.state.read_model;
    // Both numbers only grow, so the sum changes with each of them.
    let said_version = read_model.said_version();
    let tag = EntityTag::new(
        app.process,
        read_model.ranking_version(&task.name, &task.entity) + said_version,
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
            .map(|(place, score)| ListedScore {
                place,
                score: RuledScore::of(read_model, score),
            })
            .collect(),
        next_cursor: page.next.map(|cursor| cursor.to_string()),
    };
    Ok(EntityTag::new(app.process, page.version + said_version).on(Json(answer)))
}
