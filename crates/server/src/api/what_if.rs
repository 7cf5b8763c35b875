//! `POST /api/v1/{table}/{id}/what-if`: the score of an entity if some rows came, asked of the engine.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use leadpulse_engine::explain::{ExplainRefusal, ExplainRequest};
use leadpulse_engine::what_if::{WhatIf, WhatIfAnswer, WhatIfRefusal};

use super::answer::ApiError;
use super::arguments::{QueryArguments, json_body};
use super::committee::ask;
use super::endpoint::{AnswerKind, Endpoint, READS, Verb};
use super::task_of;
use crate::service::App;

pub(crate) const WHAT_IF: Endpoint = Endpoint {
    verb: Verb::Post,
    path: "/api/v1/{table}/{id}/what-if",
    summary: "The score that an entity would have if some rows came, beside its score as of now",
    parameters: &[super::TASK],
    body: Some("WhatIf"),
    answer: AnswerKind::Json("WhatIfAnswer"),
    refusals: &[400, 404],
    is_audited: true,
    ..READS
};

/// `POST /api/v1/{table}/{id}/what-if`
pub(crate) async fn what_if(
    State(app): State<App>,
    Path((table, id)): Path<(String, String)>,
    arguments: QueryArguments,
    question: Result<Json<WhatIf>, JsonRejection>,
) -> Result<Json<WhatIfAnswer>, ApiError> {
    let hint = "send {\"rows\": [{\"table\": …, \"fields\": {…}}]}";
    let question = json_body(question, hint)?;
    let tasks = app.state.tasks.now();
    let task = task_of(&tasks, arguments.chosen("task"), Some(&table))?;
    let request = ExplainRequest {
        task: task.name.clone(),
        entity_id: app.state.key(&table, id),
        entity_type: table,
    };
    let answer = ask(&app, move |machine| machine.what_if(&request, &question)).await?;
    answer.map(Json).map_err(refused)
}

fn refused(refusal: WhatIfRefusal) -> ApiError {
    let words = refusal.to_string();
    match refusal {
        WhatIfRefusal::Subject(ExplainRefusal::NoSuchEntity { .. }) => ApiError::not_found(
            words,
            "ask about an entity that a record named, or put a row of it into the question",
        ),
        WhatIfRefusal::Subject(ExplainRefusal::NoSuchTask { .. }) => {
            ApiError::not_found(words, "/api/v1/status lists the tasks")
        }
        WhatIfRefusal::Subject(_) => {
            ApiError::unavailable(words, "/readyz tells when scores are there")
        }
        WhatIfRefusal::Row { .. } => {
            ApiError::bad_request(words, "/api/v1/tables lists the tables with their fields")
        }
        WhatIfRefusal::Count(_) => ApiError::bad_request(words, "send fewer rows, at least one"),
        WhatIfRefusal::Moment { .. } => {
            ApiError::bad_request(words, "leave as_of out to score at the newest of the rows")
        }
    }
}
