//! Requests to a schema registry, and the meaning of its answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value as Json;
use tokio::sync::Semaphore;

use leadpulse_schema::{SchemaLanguage, SchemaRef, WriterSchema};

use crate::lookup::{LookupError, name_of};
use crate::metrics::RegistryMetrics;
use crate::options::RegistryOptions;
use crate::secret::Secret;
use crate::tls::why_untrusted;

const CONTENT: &str = "application/vnd.schemaregistry.v1+json";

/// A client of one registry.
pub(crate) struct RegistryClient {
    pub(crate) options: RegistryOptions,
    /// The base URLs of its replicas, each with a slash at its end; at least one.
    pub(crate) bases: Vec<Url>,
    /// Index of the base that answered last; the next question goes there first.
    pub(crate) preferred: AtomicUsize,
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

pub(crate) fn url_of(base: &Url, segments: &[&str]) -> Url {
    let mut url = base.clone();
    url.path_segments_mut()
        .expect("an http URL has a path")
        .pop_if_empty()
        .extend(segments);
    url
}

impl RegistryClient {
    /// Asks for a schema by id or GUID, and for the schemas that it refers to.
    pub(crate) async fn schema(&self, schema: &SchemaRef) -> Result<WriterSchema, LookupError> {
        let name = name_of(schema);
        let kind = match schema {
            SchemaRef::Id(_) => "ids",
            SchemaRef::Guid(_) => "guids",
            SchemaRef::Fingerprint(_) => return Err(LookupError::Unknown(name)),
        };
        let segments = ["schemas", kind, &name];
        let answer = self
            .ask(&name, |base| self.client.get(url_of(base, &segments)))
            .await?;
        // Registries leave the type out for Avro, older ones always.
        let kind = answer
            .get("schemaType")
            .and_then(Json::as_str)
            .unwrap_or("AVRO");
        let language = SchemaLanguage::of_name(kind).ok_or_else(|| {
            LookupError::Unknown(format!(
                "{name} in a language that is read (it is registered as {kind})"
            ))
        })?;
        let text = self.text_of(&name, &answer)?;
        Ok(WriterSchema {
            language,
            text,
            references: self.references_of(&name, &answer).await?,
        })
    }

    fn text_of(&self, name: &str, answer: &Json) -> Result<Arc<str>, LookupError> {
        let text = answer.get("schema").and_then(Json::as_str);
        text.map(Arc::from).ok_or_else(|| {
            LookupError::Unavailable(format!(
                "{name}: the answer of {} holds no schema",
                self.base()
            ))
        })
    }

    /// The schemas that an answer refers to, and those that they refer to; those that others need
    /// come first.
    async fn references_of(
        &self,
        name: &str,
        answer: &Json,
    ) -> Result<Vec<(String, Arc<str>)>, LookupError> {
        let mut found: Vec<(String, Arc<str>)> = Vec::new();
        let mut wanted = references(answer);
        let mut asked = 0;
        while let Some(SchemaReference {
            name: referred,
            subject,
            version,
        }) = wanted.pop()
        {
            asked += 1;
            if asked > MOST_REFERENCES {
                return Err(LookupError::Unknown(format!(
                    "{name} with its references (there are more than {MOST_REFERENCES})"
                )));
            }
            let what = format!("{subject} version {version}, which {name} refers to");
            let version = version.to_string();
            let segments = ["subjects", &subject, "versions", &version];
            let request = |base: &Url| self.client.get(url_of(base, &segments));
            let answer = self.ask(&what, request).await?;
            let text = self.text_of(&what, &answer)?;
            // One that is needed again is needed earlier.
            found.retain(|(known, _)| *known != referred);
            found.push((referred, text));
            wanted.extend(references(&answer));
        }
        found.reverse();
        Ok(found)
    }

    /// Asks for the id of one of our schemas; registers the schema where the options say so.
    pub(crate) async fn id(&self, subject: &str, schema_json: &str) -> Result<u32, LookupError> {
        let segments: &[&str] = if self.options.register {
            &["subjects", subject, "versions"]
        } else {
            &["subjects", subject]
        };
        let body = serde_json::json!({ "schema": schema_json }).to_string();
        let what = format!("of subject {subject}");
        let answer = self
            .ask(&what, |base| {
                self.client
                    .post(url_of(base, segments))
                    .header(CONTENT_TYPE, CONTENT)
                    .body(body.clone())
            })
            .await?;
        let id = answer
            .get("id")
            .and_then(Json::as_u64)
            .and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| {
            LookupError::Unavailable(format!("{what}: the answer of {} holds no id", self.base()))
        })
    }

    /// Asks for the list of subjects: a question that every registry answers, and that needs the
    /// same permission as any other.
    pub(crate) async fn subjects(&self) -> Result<(), LookupError> {
        let request = |base: &Url| self.client.get(url_of(base, &["subjects"]));
        self.ask("the list of subjects", request).await.map(drop)
    }

    /// The base URL that questions go to first.
    pub(crate) fn base(&self) -> &Url {
        &self.bases[self.preferred.load(Ordering::Relaxed) % self.bases.len()]
    }

    /// The registry's answer to a request, which goes to each replica in turn, and again while all
    /// of them fail. `what` names the question in errors.
    pub(crate) async fn ask(
        &self,
        what: &str,
        request: impl Fn(&Url) -> RequestBuilder,
    ) -> Result<Json, LookupError> {
        let mut backoff = Duration::from_millis(self.options.backoff_ms);
        let mut attempt = 1;
        loop {
            let first = self.preferred.load(Ordering::Relaxed);
            let mut failure = String::new();
            for turn in 0..self.bases.len() {
                let index = (first + turn) % self.bases.len();
                let base = &self.bases[index];
                failure = match self.once(request(base)).await {
                    Ok((status, body)) => match self.judge(what, base, status, &body) {
                        AnswerFate::Final(answer) => {
                            self.preferred.store(index, Ordering::Relaxed);
                            return answer;
                        }
                        AnswerFate::AskAgain(failure) => failure,
                    },
                    Err(error) => format!("{what}: {}", self.no_answer(base, &error).await),
                };
                tracing::debug!(attempt, "{failure}");
            }
            if attempt >= self.options.attempts {
                return Err(LookupError::Unavailable(failure));
            }
            attempt += 1;
            tokio::time::sleep(backoff).await;
            backoff *= 2;
        }
    }

    /// The meaning of a response.
    fn judge(&self, what: &str, base: &Url, status: StatusCode, body: &[u8]) -> AnswerFate {
        if status.is_success() {
            return AnswerFate::Final(serde_json::from_slice(body).map_err(|error| {
                LookupError::Unavailable(format!(
                    "{what}: the answer of {base} is not JSON: {error}"
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
        let failure = format!("{what}: {base} answered {status}: {}", refusal.message);
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let advice = self.options.denial_advice();
            let denied = LookupError::Denied(format!("{failure}; {advice}"));
            return AnswerFate::Final(Err(denied));
        }
        if status.is_redirection() {
            let moved = format!("{failure} (a redirect; write its target as registry.url)");
            return AnswerFate::Final(Err(LookupError::Unavailable(moved)));
        }
        if status.is_server_error()
            || status == StatusCode::TOO_MANY_REQUESTS
            || status == StatusCode::REQUEST_TIMEOUT
        {
            AnswerFate::AskAgain(failure)
        } else {
            AnswerFate::Final(Err(LookupError::Unavailable(failure)))
        }
    }

    /// Words for a request without an answer. A certificate that is not accepted is named as the
    /// cause.
    async fn no_answer(&self, base: &Url, error: &reqwest::Error) -> String {
        let said = causes(error);
        if base.scheme() != "https" || !error.is_connect() {
            return said;
        }
        let host = base.host_str().unwrap_or_default();
        let address = format!("{host}:{}", base.port_or_known_default().unwrap_or(443));
        let (files, limit) = (self.options.tls(), self.client_limit());
        let asked = tokio::task::spawn_blocking(move || why_untrusted(&address, &files, limit));
        match asked.await {
            Ok(Some(why)) => format!("{base}: {why}; renew it, or see registry.ca"),
            Ok(None) | Err(_) => said,
        }
    }

    fn client_limit(&self) -> Duration {
        Duration::from_millis(self.options.timeout_ms)
    }

    /// Sends one request, as soon as one of the permits is free.
    async fn once(&self, request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), reqwest::Error> {
        let _permit = self.permits.acquire().await; // never closed
        let request = request.header(ACCEPT, CONTENT);
        let request = match (&self.options.token, &self.options.username) {
            (Some(token), _) => request.bearer_auth(token.reveal()),
            (None, Some(username)) => {
                let password = self.options.password.as_ref();
                request.basic_auth(username, password.map(Secret::reveal))
            }
            (None, None) => request,
        };
        let count = |code: &str| self.metrics.requests.with_label_values(&[code]).inc();
        let response = request.send().await.inspect_err(|_| count("failed"))?;
        let status = response.status();
        count(status.as_str());
        Ok((status, response.bytes().await?.to_vec()))
    }
}

/// Most schemas that one schema may refer to, directly or not. A schema that refers to itself ends
/// here.
const MOST_REFERENCES: usize = 100;

/// A schema that another refers to.
#[derive(Deserialize)]
struct SchemaReference {
    /// The name that the referring schema uses.
    name: String,
    subject: String,
    version: i64,
}

/// The references of an answer, last first.
fn references(answer: &Json) -> Vec<SchemaReference> {
    let listed = answer.get("references").cloned().unwrap_or_default();
    let mut references: Vec<SchemaReference> = serde_json::from_value(listed).unwrap_or_default();
    references.reverse();
    references
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
pub fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
