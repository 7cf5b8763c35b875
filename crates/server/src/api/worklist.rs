//! `/api/v1/worklist`: the newest work lists of a task.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use leadpulse_records::WorkList;
use serde::{Deserialize, Serialize};

use super::answer::{ApiError, EntityTag};
use super::task_of;
use crate::service::App;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WorkListQuery {
    task: Option<String>,
    owner: Option<String>,
}

/// `/api/v1/worklist`
pub(crate) async fn worklist(
    State(app): State<App>,
    query: Result<Query<WorkListQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct WorkListAnswer<'a> {
        task: &'a str,
        lists: Vec<Arc<WorkList>>,
    }
    let Query(query) = query.map_err(|rejection| {
        ApiError::bad_request(
            rejection.body_text(),
            "parameters are task (a name; the first task without it) and owner (a person's key; \
             empty for what nobody is assigned to, all lists without it)",
        )
    })?;
    let tasks = app.state.tasks.now();
    let task = task_of(&tasks, query.task.as_deref(), None)?;
    let read_model = &app.state.read_model;
    let (version, lists) = read_model.work_lists(&task.name, query.owner.as_deref());
    let tag = EntityTag::new(app.process, version);
    Ok(if tag.is_known_to(&headers) {
        tag.not_modified()
    } else {
        tag.on(Json(WorkListAnswer {
            task: &task.name,
            lists,
        }))
    })
}
