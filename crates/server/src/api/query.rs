//! `POST /api/v1/query`: the plan of a query, or its fault with the place.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use serde::{Deserialize, Serialize};

use super::answer::{ApiError, apart};
use super::arguments::json_body;
use super::endpoint::{AnswerKind, Endpoint, READS, Verb};
use crate::queries::{PlannedQuery, QueryFault};
use crate::service::App;

pub(crate) const QUERY: Endpoint = Endpoint {
    verb: Verb::Post,
    path: "/api/v1/query",
    summary: "The plan of a query in words with remarks, or its first fault with the place",
    body: Some("QueryText"),
    answer: AnswerKind::Json("QueryAnswer"),
    refusals: &[400],
    ..READS
};

/// Body of a request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueryText {
    query: String,
}

/// A plan or a fault: exactly one is not null.
#[derive(Serialize)]
pub(crate) struct QueryAnswer {
    plan: Option<PlannedQuery>,
    error: Option<Box<QueryFault>>,
}

/// `POST /api/v1/query`
pub(crate) async fn query(
    State(app): State<App>,
    request: Result<Json<QueryText>, JsonRejection>,
) -> Result<Json<QueryAnswer>, ApiError> {
    let Some(desk) = app.state.queries.clone() else {
        return Err(ApiError::unavailable(
            "this process plans no queries",
            "ask a process that runs a configuration, or leadpulse query",
        ));
    };
    let request = json_body(request, "send {\"query\": \"PREDICT …\"}")?;
    // A fault of the query is an answer, not a refusal: the request was right.
    let answer = apart(move || {
        Ok(match desk.0.plan(&request.query) {
            Ok(plan) => QueryAnswer {
                plan: Some(plan),
                error: None,
            },
            Err(fault) => QueryAnswer {
                plan: None,
                error: Some(fault),
            },
        })
    });
    answer.await.map(Json)
}
