//! `/api/v1/dead-letters`: the newest records that could not be used, with reason, remedy and a look
//! into their bytes.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use leadpulse_engine::ports::SchemaLookupError;
use leadpulse_engine::read_model::{LETTERS_KEPT, LetterKind};
use leadpulse_records::ShownLetter;
use leadpulse_schema::SchemaRef;
use serde::Serialize;

use super::answer::{ApiError, EntityTag};
use super::arguments::QueryArguments;
use super::endpoint::{AnswerKind, Endpoint, Parameter, ParameterValues, READS};
use crate::service::App;

pub(crate) const DEAD_LETTERS: Endpoint = Endpoint {
    path: "/api/v1/dead-letters",
    summary: "The newest records that could not be used, with reason, remedy and a look into their bytes",
    parameters: &[
        Parameter {
            name: "topic",
            values: ParameterValues::Text,
            about: "only records of this topic; all without it",
        },
        Parameter {
            name: "reason",
            values: ParameterValues::Text,
            about: "only records with this reason; all without it",
        },
        super::limit(LETTERS_KEPT as u64),
    ],
    answer: AnswerKind::Json("DeadLetters"),
    refusals: &[400],
    ..READS
};

/// `/api/v1/dead-letters`
pub(crate) async fn dead_letters(
    State(app): State<App>,
    arguments: QueryArguments,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct LettersAnswer {
        dead_letters: Vec<ShownLetter>,
        kinds: Vec<LetterKind>,
    }
    let page = app.state.read_model.dead_letters(
        arguments.chosen("topic"),
        arguments.chosen("reason"),
        arguments.limit(),
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
