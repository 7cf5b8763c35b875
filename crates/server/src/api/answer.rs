//! Answers on the wire: JSON, errors with a hint, entity tags, headers.

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// An answer that tells an error and the remedy.
#[derive(Debug)]
pub(crate) struct ApiError {
    code: StatusCode,
    error: String,
    hint: String,
}

impl ApiError {
    pub fn bad_request(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code: StatusCode::BAD_REQUEST,
            error: error.into(),
            hint: hint.into(),
        }
    }
    pub fn not_found(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code: StatusCode::NOT_FOUND,
            error: error.into(),
            hint: hint.into(),
        }
    }
    pub fn conflict(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code: StatusCode::CONFLICT,
            error: error.into(),
            hint: hint.into(),
        }
    }
    pub fn unavailable(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code: StatusCode::SERVICE_UNAVAILABLE,
            error: error.into(),
            hint: hint.into(),
        }
    }
    pub fn method_not_allowed() -> Self {
        let error = "this path does not answer that method".into();
        Self {
            code: StatusCode::METHOD_NOT_ALLOWED,
            error,
            hint: "everything is read by GET and HEAD, but /api/v1/alerts/simulate by POST; events are written to Kafka".into(),
        }
    }
    pub fn internal(error: impl Into<String>) -> Self {
        Self {
            code: StatusCode::INTERNAL_SERVER_ERROR,
            error: error.into(),
            hint: "see the process's log".into(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            error: String,
            hint: String,
        }
        (
            self.code,
            Json(Body {
                error: self.error,
                hint: self.hint,
            }),
        )
            .into_response()
    }
}

/// Name of one version of an answer. The name starts with a number of this process, because
/// versions start again with every process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntityTag(String);

impl EntityTag {
    pub fn new(process: u64, version: u64) -> Self {
        Self(format!("\"{process:x}.{version}\""))
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
            HeaderValue::from_str(&self.0).expect("a tag is hexadecimal digits in quotes"),
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
