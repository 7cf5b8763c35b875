//! Answers on the wire: JSON, problem documents, entity tags, headers.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::queries::QueryFault;
use crate::service::App;

/// A refusal as a problem document (RFC 9457), with the remedy.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    detail: String,
    hint: String,
    parameter: Option<&'static str>,
    allowed: Vec<String>,
    retry_after_s: Option<u64>,
    fault: Option<Box<QueryFault>>,
}

impl ApiError {
    pub fn new(status: StatusCode, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            hint: hint.into(),
            parameter: None,
            allowed: Vec::new(),
            retry_after_s: None,
            fault: None,
        }
    }
    pub fn bad_request(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail, hint)
    }
    /// A query with a fault, whose place the document names as the member `fault`.
    pub fn of_query(fault: QueryFault) -> Self {
        let (line, column) = (fault.line, fault.column);
        let hint = match fault.hint.is_empty() {
            true => "POST /api/v1/query plans a query without reading files".to_owned(),
            false => fault.hint.clone(),
        };
        let detail = format!("the query, line {line}, column {column}: {}", fault.message);
        Self {
            fault: Some(Box::new(fault)),
            ..Self::bad_request(detail, hint)
        }
    }
    pub fn not_found(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail, hint)
    }
    pub fn conflict(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail, hint)
    }
    pub fn unavailable(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail, hint)
    }
    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "this path does not answer that method",
            "the header Allow lists its methods, /api all paths; events are written to Kafka",
        )
    }
    pub fn internal(detail: impl Into<String>) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, detail, "see the process's log")
    }

    /// Names the parameter at fault, with the values that it may have.
    pub fn of_parameter(mut self, name: &'static str, allowed: Vec<String>) -> Self {
        self.parameter = Some(name);
        self.allowed = allowed;
        self
    }

    /// Names the seconds after which the same request may succeed.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds.max(1));
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Problem {
            r#type: &'static str,
            title: &'static str,
            status: u16,
            detail: String,
            hint: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            parameter: Option<&'static str>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            allowed: Vec<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            fault: Option<Box<QueryFault>>,
        }
        let problem = Problem {
            // The status says all that a program can act on.
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            detail: self.detail,
            hint: self.hint,
            parameter: self.parameter,
            allowed: self.allowed,
            fault: self.fault,
        };
        let mut response = (self.status, Json(problem)).into_response();
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// Runs work that takes milliseconds apart from the threads that talk to clients.
///
/// # Errors
/// Those of `work`; 500 after a panic in it.
pub(crate) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| ApiError::internal("the answer could not be composed"))?
}

/// JSON with a tag of its content: the client gets nothing where it has the same.
///
/// # Errors
/// Content that cannot be written as JSON.
pub(crate) fn tagged(
    app: &App,
    headers: &HeaderMap,
    content: &impl Serialize,
) -> Result<Response, ApiError> {
    let bytes = serde_json::to_vec(content)
        .map_err(|error| ApiError::internal(format!("the answer cannot be written: {error}")))?;
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    let tag = EntityTag::new(app.process, hasher.finish());
    if tag.is_known_to(headers) {
        return Ok(tag.not_modified());
    }
    Ok(tag.on(([(header::CONTENT_TYPE, "application/json")], bytes)))
}

/// Name of one version of an answer. The name starts with a number of this process, because
/// versions start again with every process. The tag is weak: an answer has the same one whatever its
/// compression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntityTag(String);

impl EntityTag {
    pub fn new(process: u64, version: u64) -> Self {
        Self(format!("\"{process:x}.{version:x}\""))
    }

    /// True if the client names this version as known.
    pub fn is_known_to(&self, headers: &HeaderMap) -> bool {
        let known = headers
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .filter_map(|value| value.to_str().ok());
        known.flat_map(|value| value.split(',')).any(|tag| {
            let tag = tag.trim();
            tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.0
        })
    }

    /// Adds this tag to an answer.
    pub fn on(&self, answer: impl IntoResponse) -> Response {
        let mut response = answer.into_response();
        response.headers_mut().insert(
            header::ETAG,
            HeaderValue::from_str(&format!("W/{}", self.0))
                .expect("a tag is hexadecimal digits in quotes"),
        );
        response
    }

    /// The answer without a body: the client has this version.
    pub fn not_modified(&self) -> Response {
        self.on(StatusCode::NOT_MODIFIED)
    }
}

/// Sets the headers of every answer: nothing from elsewhere may be loaded, framed or guessed, and
/// caches must ask again.
pub(crate) async fn set_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("\"a.7\"", true)]
    #[case("W/\"a.7\"", true)]
    #[case("\"a.6\", \"a.7\"", true)]
    #[case("*", true)]
    #[case("\"a.77\"", false)]
    #[case("\"b.7\"", false)]
    #[case("a.7", false)]
    fn a_tag_is_known_if_it_is_named(#[case] header: &str, #[case] known: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::IF_NONE_MATCH,
            HeaderValue::from_str(header).unwrap(),
        );
        assert_eq!(EntityTag::new(10, 7).is_known_to(&headers), known);
    }
}
