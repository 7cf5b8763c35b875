//! `/api/v1/tasks`: the tasks that are scored; `/api/v1/schemas/{id}`: a writer schema.

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use leadpulse_engine::ports::SchemaLookupError;
use leadpulse_schema::SchemaRef;
use serde::Serialize;
use serde_json::Value;

use super::answer::{ApiError, tagged};
use super::arguments::QueryArguments;
use super::endpoint::{AnswerKind, Endpoint, READS};
use crate::service::App;
use crate::state::TaskView;

pub(crate) const TASKS: Endpoint = Endpoint {
    path: "/api/v1/tasks",
    summary: "The tasks with query, bands, actions and groups",
    answer: AnswerKind::Json("Tasks"),
    ..READS
};
pub(crate) const SCHEMA: Endpoint = Endpoint {
    path: "/api/v1/schemas/{id}",
    summary: "The writer schema with this number",
    answer: AnswerKind::Json("WriterSchema"),
    refusals: &[400, 404, 503],
    ..READS
};

/// `/api/v1/tasks`
pub(crate) async fn tasks(
    State(app): State<App>,
    _: QueryArguments,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct TasksAnswer<'a> {
        tasks: &'a [TaskView],
    }
    let tasks = app.state.tasks.now();
    tagged(&app, &headers, &TasksAnswer { tasks: &tasks })
}

/// `/api/v1/schemas/{id}`
pub(crate) async fn schema(
    State(app): State<App>,
    Path(id): Path<String>,
    _: QueryArguments,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct SchemaAnswer {
        id: u32,
        /// The schema: JSON where it is, else its text.
        schema: Value,
    }
    let number: u32 = id.parse().map_err(|_| {
        let detail = format!("\"{}\" is not a number of a schema", id.escape_debug());
        ApiError::bad_request(
            detail,
            "records and dead letters name the numbers of their schemas",
        )
    })?;
    let Some(schemas) = &app.state.schemas else {
        let hint = "configure [registry]";
        return Err(ApiError::unavailable(
            "no schema registry is known here",
            hint,
        ));
    };
    let found = schemas.0.find(&SchemaRef::Id(number));
    let writer = found.map_err(|cause| match cause {
        SchemaLookupError::Unavailable(words) => {
            // Asked for now, and there at a later request.
            ApiError::unavailable(words.to_string(), "ask again in a moment").retry_after(1)
        }
        cause => ApiError::not_found(cause.to_string(), "the registry does not know it"),
    })?;
    let text = writer.text.to_string();
    let schema = serde_json::from_str(&text).unwrap_or(Value::String(text));
    tagged(&app, &headers, &SchemaAnswer { id: number, schema })
}
