//! `/api/v1/dead-letters`: the newest records that could not be used, with reason, remedy and a look
//! into their bytes.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use leadpulse_engine::ports::SchemaLookupError;
use leadpulse_engine::read_model::{LETTERS_KEPT, LetterKind};
use leadpulse_records::ShownLetter;
use leadpulse_schema::SchemaRef;
use serde::{Deserialize, Serialize};

use super::answer::{ApiError, EntityTag};
use super::{DEFAULT_LIMIT, checked_limit};
use crate::service::App;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LettersQuery {
    topic: Option<String>,
    reason: Option<String>,
    limit: Option<usize>,
}

/// `/api/v1/dead-letters`
pub(crate) async fn dead_letters(
    State(app): State<App>,
    query: Result<Query<LettersQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct LettersAnswer {
        dead_letters: Vec<ShownLetter>,
        kinds: Vec<LetterKind>,
    }
    let Query(query) = query.map_err(|rejection| {
        ApiError::bad_request(
            rejection.body_text(),
            "the parameters are topic, reason and limit (a number)",
        )
    })?;
    let limit = checked_limit(query.limit.unwrap_or(DEFAULT_LIMIT), LETTERS_KEPT)?;
    // An empty parameter is what a form sends for "all".
    let chosen = |choice: &Option<String>| choice.clone().filter(|text| !text.is_empty());
    let page = app.state.read_model.dead_letters(
        chosen(&query.topic).as_deref(),
        chosen(&query.reason).as_deref(),
        limit,
    );
    let tag = EntityTag::new(app.process, page.version);
    let mut is_complete = true;
    let mut schema = |schema: &SchemaRef| {
        let Some(schemas) = &app.state.schemas else {
            return Err("no schema registry is known here".to_owned());
        };
        // Never waits: a schema that is asked for now is there at the next request.
        let found = schemas.0.find(schema);
        is_complete &= !matches!(found, Err(SchemaLookupError::Unavailable(_)));
        found
            .map(|writer| writer.text.to_string())
            .map_err(|cause| cause.to_string())
    };
    if tag.is_known_to(&headers) {
        return Ok(tag.not_modified());
    }
    let shown = page.letters.iter().map(|letter| letter.shown(&mut schema));
    let dead_letters = shown.collect();
    let answer = Json(LettersAnswer {
        dead_letters,
        kinds: page.kinds,
    });
    // Without a tag the client asks again, and gets the values whose schema has come.
    Ok(if is_complete {
        tag.on(answer)
    } else {
        axum::response::IntoResponse::into_response(answer)
    })
}
