//! Requests to a schema registry, and the meaning of its answers.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value as Json;
use tokio::sync::Semaphore;

use leadpulse_schema::SchemaRef;

use crate::lookup::{LookupError, name_of};
use crate::metrics::RegistryMetrics;
use crate::options::RegistryOptions;

const CONTENT: &str = "application/vnd.schemaregistry.v1+json";

/// A client of one registry.
pub(crate) struct RegistryClient {
    pub(crate) options: RegistryOptions,
    pub(crate) base: Url,
    pub(crate) client: Client,
    /// One for each request that may be under way.
    pub(crate) permits: Semaphore,
    pub(crate) metrics: Arc<RegistryMetrics>,
}

/// The meaning of a response.
enum AnswerFate {
    /// An answer or a refusal; further requests would get the same.
    Final(Result<Json, LookupError>),
    /// A failure that may pass, in words.
    AskAgain(String),
}

impl RegistryClient {
    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .expect("an http URL has a path")
            .pop_if_empty()
            .extend(segments);
        url
    }

    /// Asks for a schema by id or GUID.
    pub(crate) async fn schema(&self, schema: &SchemaRef) -> Result<Arc<str>, LookupError> {
        let name = name_of(schema);
        let url = match schema {
            SchemaRef::Id(_) => self.url(&["schemas", "ids", &name]),
            SchemaRef::Guid(_) => self.url(&["schemas", "guids", &name]),
        };
        let answer = self.ask(&name, || self.client.get(url.clone())).await?;
        // Registries leave the type out for Avro, older ones always.
        if let Some(other) = answer
            .get("schemaType")
            .and_then(Json::as_str)
            .filter(|kind| *kind != "AVRO")
        {
            return Err(LookupError::Unknown(format!(
                "{name} as Avro (it is registered as {other})"
            )));
        }
        let json = answer.get("schema").and_then(Json::as_str);
        json.map(Arc::from).ok_or_else(|| {
            LookupError::Unavailable(format!(
                "{name}: the answer of {} holds no schema",
                self.base
            ))
        })
    }

    /// Asks for the id of one of our schemas; registers the schema where the options say so.
    pub(crate) async fn id(&self, subject: &str, schema_json: &str) -> Result<u32, LookupError> {
        let url = if self.options.register {
            self.url(&["subjects", subject, "versions"])
        } else {
            self.url(&["subjects", subject])
        };
        let body = serde_json::json!({ "schema": schema_json }).to_string();
        let what = format!("of subject {subject}");
        let answer = self
            .ask(&what, || {
                self.client
                    .post(url.clone())
                    .header(CONTENT_TYPE, CONTENT)
                    .body(body.clone())
            })
            .await?;
        let id = answer
            .get("id")
            .and_then(Json::as_u64)
            .and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| {
            LookupError::Unavailable(format!("{what}: the answer of {} holds no id", self.base))
        })
    }

    /// The registry's answer to a request, which is sent again while the registry fails. `what`
    /// names the question in errors.
    async fn ask(
        &self,
        what: &str,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<Json, LookupError> {
        let mut backoff = Duration::from_millis(self.options.backoff_ms);
        let mut attempt = 1;
        loop {
            let failure = match self.once(request()).await {
                Ok((status, body)) => match self.judge(what, status, &body) {
                    AnswerFate::Final(answer) => return answer,
                    AnswerFate::AskAgain(failure) => failure,
                },
                Err(error) => format!("{what}: {}", causes(&error)),
            };
            if attempt >= self.options.attempts {
                return Err(LookupError::Unavailable(failure));
            }
            tracing::debug!(attempt, "{failure}; asking again");
            attempt += 1;
            tokio::time::sleep(backoff).await;
            backoff *= 2;
        }
    }

    /// The meaning of a response.
    fn judge(&self, what: &str, status: StatusCode, body: &[u8]) -> AnswerFate {
        if status.is_success() {
            return AnswerFate::Final(serde_json::from_slice(body).map_err(|error| {
                LookupError::Unavailable(format!(
                    "{what}: the answer of {} is not JSON: {error}",
                    self.base
                ))
            }));
        }
        let refusal = RefusalBody::read(body);
        // Only the registry's own code makes a schema unknown: a proxy answers 404 too, and then
        // the record must wait. 40401 is no such subject, 40402 no such version, 40403 no such
        // schema.
        if status == StatusCode::NOT_FOUND
            && refusal
                .error_code
                .is_some_and(|code| code == 404 || (40401..=40403).contains(&code))
        {
            return AnswerFate::Final(Err(LookupError::Unknown(what.to_owned())));
        }
        let failure = format!(
            "{what}: {} answered {status}: {}",
            self.base, refusal.message
        );
        if status.is_server_error()
            || status == StatusCode::TOO_MANY_REQUESTS
            || status == StatusCode::REQUEST_TIMEOUT
        {
            AnswerFate::AskAgain(failure)
        } else {
            AnswerFate::Final(Err(LookupError::Unavailable(failure)))
        }
    }

    /// Sends one request, as soon as one of the permits is free.
    async fn once(&self, request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), reqwest::Error> {
        let _permit = self.permits.acquire().await; // never closed
        let request = request.header(ACCEPT, CONTENT);
        let request = match (&self.options.token, &self.options.username) {
            (Some(token), _) => request.bearer_auth(token),
            (None, Some(username)) => request.basic_auth(username, self.options.password.as_ref()),
            (None, None) => request,
        };
        let count = |code: &str| self.metrics.requests.with_label_values(&[code]).inc();
        let response = request.send().await.inspect_err(|_| count("failed"))?;
        let status = response.status();
        count(status.as_str());
        Ok((status, response.bytes().await?.to_vec()))
    }
}

/// The body of a refusal.
#[derive(Deserialize)]
struct RefusalBody {
    error_code: Option<u32>,
    #[serde(default)]
    message: String,
}

impl RefusalBody {
    fn read(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_else(|_| {
            let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
            Self {
                error_code: None,
                message: if text.is_empty() {
                    "no details".into()
                } else {
                    text
                },
            }
        })
    }
}

/// An error with its causes, which `reqwest` leaves out of its message.
fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
