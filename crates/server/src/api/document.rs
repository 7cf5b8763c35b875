//! The API about itself: an index at `/api`, the OpenAPI document, and the reference page of the
//! documentation. All are made from the list of endpoints.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::ENDPOINTS;
use super::answer::{ApiError, tagged};
use super::arguments::{QueryArguments, words};
use super::endpoint::{AnswerKind, Endpoint, EndpointAccess, Parameter, ParameterValues, READS};
use crate::service::App;

mod components;

pub(crate) const INDEX: Endpoint = Endpoint {
    path: "/api",
    summary: "The paths of the API",
    answer: AnswerKind::Json("Index"),
    access: EndpointAccess::Everybody,
    ..READS
};
pub(crate) const DOCUMENT: Endpoint = Endpoint {
    path: "/api/v1/openapi.json",
    summary: "The OpenAPI document",
    answer: AnswerKind::Json("OpenApi"),
    access: EndpointAccess::Everybody,
    ..READS
};

/// Refusals that any endpoint may have, besides those of its own.
const COMMON_REFUSALS: [u16; 6] = [400, 401, 414, 421, 429, 503];
/// Refusals that any endpoint with a body may have.
const BODY_REFUSALS: [u16; 4] = [403, 408, 413, 415];

/// `/api`
pub(crate) async fn index(
    State(app): State<App>,
    _: QueryArguments,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct IndexAnswer<'a> {
        version: &'a str,
        openapi: String,
        paths: Vec<PathEntry>,
    }
    #[derive(Serialize)]
    struct PathEntry {
        method: &'static str,
        path: String,
        summary: &'static str,
        parameters: Vec<&'static str>,
    }
    let base = app.guard.base_path();
    let entry = |endpoint: &&Endpoint| PathEntry {
        method: endpoint.verb.name(),
        path: format!("{base}{}", endpoint.path),
        summary: endpoint.summary,
        parameters: endpoint.parameters.iter().map(|one| one.name).collect(),
    };
    let answer = IndexAnswer {
        version: &app.state.version,
        openapi: format!("{base}{}", DOCUMENT.path),
        paths: ENDPOINTS.iter().map(entry).collect(),
    };
    tagged(&app, &headers, &answer)
}

/// `/api/v1/openapi.json`
pub(crate) async fn document(
    State(app): State<App>,
    _: QueryArguments,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let document = api_document(&app.state.version, app.guard.base_path());
    tagged(&app, &headers, &document)
}

/// The OpenAPI 3.1 document of the API, below a base path.
pub fn api_document(version: &str, base_path: &str) -> Value {
    let mut paths = Map::new();
    for endpoint in ENDPOINTS.iter() {
        let methods = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        methods[endpoint.verb.name().to_lowercase()] = operation(endpoint);
    }
    let server = match base_path {
        "" => "/",
        base_path => base_path,
    };
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Leadpulse",
            "version": version,
            "description": "Scores, alerts and their reasons, from committed state. Names and units \
                are those of the output topics; times are milliseconds since 1970 UTC.",
        },
        "servers": [{"url": server}],
        "paths": paths,
        "components": {
            "schemas": components::schemas(),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let in_path = path_parameters(endpoint.path).map(
        |name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}),
    );
    let in_query = endpoint.parameters.iter().map(|one| {
        json!({
            "name": one.name, "in": "query", "required": false,
            "description": one.about, "schema": schema_of(one),
            // A list is one text with commas.
            "explode": false,
        })
    });
    let parameters: Vec<Value> = in_path.chain(in_query).collect();
    let mut operation = json!({
        "operationId": operation_id(endpoint),
        "summary": endpoint.summary,
        "parameters": parameters,
        "responses": responses(endpoint),
    });
    if let Some(body) = endpoint.body {
        operation["requestBody"] = json!({
            "required": true,
            "content": {"application/json": {"schema": reference(body)}},
        });
    }
    if let EndpointAccess::Client(scope) = endpoint.access {
        operation["security"] = json!([{"bearer": [scope.name()]}]);
    }
    operation
}

fn responses(endpoint: &Endpoint) -> Map<String, Value> {
    let content = match endpoint.answer {
        AnswerKind::Json(schema) => json!({"application/json": {"schema": reference(schema)}}),
        AnswerKind::Events => json!({"text/event-stream": {}}),
        AnswerKind::Text(kind) => json!({kind: {}}),
    };
    let mut responses = Map::new();
    let ok = json!({"description": endpoint.summary, "content": content});
    responses.insert("200".into(), ok);
    if matches!(endpoint.answer, AnswerKind::Json("Probe")) {
        let content = json!({"application/json": {"schema": reference("Probe")}});
        let not_so = json!({"description": "Not so, with the reason", "content": content});
        responses.insert("503".into(), not_so);
        return responses;
    }
    let mut refusals = endpoint.refusals.to_vec();
    refusals.extend(COMMON_REFUSALS);
    if endpoint.body.is_some() {
        refusals.extend(BODY_REFUSALS);
    }
    refusals.sort_unstable();
    refusals.dedup();
    for status in refusals {
        let name = StatusCode::from_u16(status).ok();
        let name = name.and_then(|status| status.canonical_reason());
        let content = json!({"application/problem+json": {"schema": reference("Problem")}});
        let refusal = json!({"description": name.unwrap_or_default(), "content": content});
        responses.insert(status.to_string(), refusal);
    }
    responses
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

/// A name for generated clients: the method and the words of the path.
fn operation_id(endpoint: &Endpoint) -> String {
    let words = endpoint.path.split(['/', '.', '-', '{', '}']);
    let words = words.filter(|word| !word.is_empty() && *word != "v1");
    let mut id = endpoint.verb.name().to_lowercase();
    for word in words {
        id.push('_');
        id.push_str(word);
    }
    id
}

/// Names of the variable parts of a path.
fn path_parameters(path: &str) -> impl Iterator<Item = &str> {
    let parts = path.split('/');
    parts.filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn schema_of(parameter: &Parameter) -> Value {
    match parameter.values {
        ParameterValues::Text => json!({"type": "string"}),
        ParameterValues::Truth => json!({"type": "boolean"}),
        ParameterValues::Number { min, max, default } => {
            json!({"type": "integer", "minimum": min, "maximum": max, "default": default})
        }
        ParameterValues::OneOf(choices) => {
            json!({"type": "string", "enum": choices, "default": choices.first()})
        }
        ParameterValues::List { max } => {
            json!({"type": "array", "items": {"type": "string"}, "maxItems": max})
        }
    }
}

/// The table of endpoints for the documentation, as Markdown.
pub fn api_reference() -> String {
    let mut text = String::new();
    for endpoint in ENDPOINTS.iter() {
        text.push_str(&format!(
            "### `{} {}`\n\n",
            endpoint.verb.name(),
            endpoint.path
        ));
        let answer = match endpoint.answer {
            AnswerKind::Json(schema) => format!("`{schema}`"),
            AnswerKind::Events => "server-sent events".to_owned(),
            AnswerKind::Text(kind) => format!("`{kind}`"),
        };
        let access = match endpoint.access {
            EndpointAccess::Everybody => "everybody".to_owned(),
            EndpointAccess::Client(scope) => format!("scope `{}`", scope.name()),
        };
        let audited = match endpoint.is_audited {
            true => ", audited",
            false => "",
        };
        text.push_str(&format!(
            "{}. {answer}; {access}{audited}.\n\n",
            endpoint.summary
        ));
        if !endpoint.parameters.is_empty() {
            text.push_str("| parameter | values | meaning |\n|---|---|---|\n");
            for one in endpoint.parameters {
                let values = default_words(one.values);
                text.push_str(&format!("| `{}` | {values} | {} |\n", one.name, one.about));
            }
            text.push('\n');
        }
    }
    text
}

fn default_words(values: ParameterValues) -> String {
    match values {
        ParameterValues::Number { default, .. } => format!("{}; {default}", words(values)),
        ParameterValues::OneOf(choices) => {
            let first = choices.first().copied().unwrap_or_default();
            format!("{}; {first}", words(values))
        }
        values => words(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_that_is_named_is_there() {
        let document = api_document("1", "");
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let text = document.to_string();
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "there is no schema {name}");
        }
        assert!(schemas.contains_key("Score") && schemas.contains_key("Problem"));
    }
}
