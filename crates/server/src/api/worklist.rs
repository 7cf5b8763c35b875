//! `/api/v1/worklist`: the newest work lists of a task.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use leadpulse_records::WorkList;
use serde::Serialize;

use super::answer::{ApiError, EntityTag};
use super::arguments::QueryArguments;
use super::endpoint::{AnswerKind, Endpoint, Parameter, ParameterValues, READS};
use super::task_of;
use crate::service::App;

pub(crate) const WORK_LISTS: Endpoint = Endpoint {
    path: "/api/v1/worklist",
    summary: "The newest work lists of a task",
    parameters: &[
        super::TASK,
        Parameter {
            name: "owner",
            values: ParameterValues::Text,
            about: "key of a person; empty for what nobody is assigned to, all lists without it",
        },
    ],
    answer: AnswerKind::Json("WorkLists"),
    refusals: &[400, 404],
    ..READS
};

/// `/api/v1/worklist`
pub(crate) async fn worklist(
    State(app): State<App>,
    arguments: QueryArguments,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct WorkListAnswer<'a> {
        task: &'a str,
        lists: Vec<Arc<WorkList>>,
    }
    let tasks = app.state.tasks.now();
    let task = task_of(&tasks, arguments.chosen("task"), None)?;
    let read_model = &app.state.read_model;
    let (version, lists) = read_model.work_lists(&task.name, arguments.text("owner"));
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
