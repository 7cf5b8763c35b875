//! A schema registry that speaks Confluent's API (Confluent, Apicurio under `/apis/ccompat/v7`, Karapace).
//!
//! Questions are asked in the background, [`AT_ONCE`] at a time, so that neither a registry that is away nor ids that nobody registered keep
//! the engine waiting. What is known once is not asked again, so known schemas outlive an outage. Only the registry's own "no such schema" makes a schema
//! unknown; everything else — no answer, an error, a proxy's 404 — means that nobody could be asked, and the record waits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value as Json;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use leadpulse_engine::ports::{SchemaLookupError, SchemaStore};
use leadpulse_schema::SchemaRef;

use crate::metrics::KafkaMetrics;
use crate::options::OptionsError;
use crate::schemas::{Answers, Bounds, FailureTtl, Question, State, name_of};

const CONTENT: &str = "application/vnd.schemaregistry.v1+json";

/// The `[registry]` section.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryOptions {
    /// Base URL, with the path below which `schemas/ids/…` is found.
    pub url: String,
    /// User name of basic authentication.
    pub username: Option<String>,
    /// Password of basic authentication.
    #[serde(serialize_with = "serialize_redacted")]
    pub password: Option<String>,
    /// Bearer token; not together with a user name.
    #[serde(serialize_with = "serialize_redacted")]
    pub token: Option<String>,
    /// Register our own output schemas; else they must be registered already.
    pub register: bool,
    /// Limit of one request, milliseconds.
    pub timeout_ms: u64,
    /// Requests for one answer while the registry fails.
    pub attempts: u32,
    /// Pause before the second request, milliseconds; doubled before each further one.
    pub backoff_ms: u64,
    /// How long "no such schema" is believed, milliseconds.
    pub unknown_ttl_ms: u64,
    /// How long the registry is left in peace after it could not be reached, milliseconds.
    pub unavailable_ttl_ms: u64,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8081".into(),
            username: None,
            password: None,
            token: None,
            register: true,
            timeout_ms: 5_000,
            attempts: 3,
            backoff_ms: 100,
            unknown_ttl_ms: 10_000,
            unavailable_ttl_ms: 1_000,
        }
    }
}

impl fmt::Debug for RegistryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string(self).map_err(|_| fmt::Error)?;
        write!(f, "RegistryOptions {text}")
    }
}

fn serialize_redacted<S: Serializer>(
    secret: &Option<String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|_| "***").serialize(serializer)
}

impl RegistryOptions {
    /// Checks the section; gives the base URL.
    fn validate(&self) -> Result<Url, OptionsError> {
        let fault = |field: &str, problem: String| OptionsError::Field {
            field: format!("registry.{field}"),
            problem,
        };
        let mut url = Url::parse(&self.url)
            .map_err(|error| fault("url", format!("\"{}\" is no URL: {error}", self.url)))?;
        if url.scheme() != "http" || url.host_str().is_none() {
            return Err(fault(
                "url",
                format!(
                    "\"{}\" is not of the form http://host:port/path (this build has no TLS: put a proxy in between)",
                    self.url
                ),
            ));
        }
        if self.token.is_some() && self.username.is_some() {
            return Err(fault("token", "cannot be combined with username".into()));
        }
        if self.timeout_ms == 0 || self.attempts == 0 {
            return Err(fault(
                "timeout_ms",
                "timeout_ms and attempts must be at least 1".into(),
            ));
        }
        // Paths are appended: the base must end in one slash.
        let path = format!("{}/", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(url)
    }
}

/// Questions asked at the same time.
const AT_ONCE: usize = 16;
/// Ids that records may carry are 2³²: what is remembered of them is bounded, and what waits to be asked.
const BOUNDS: Bounds = Bounds {
    answers: 10_000,
    questions: 1_000,
};

/// Writer schemas from a registry over HTTP.
///
/// [`SchemaStore::find`] never waits. [`SchemaStore::lookup`] and [`SchemaStore::id_of`] do: they must not be called from asynchronous code.
pub struct HttpRegistry {
    connection: Arc<Connection>,
    /// Taken when this is dropped: it must not wait for what is under way.
    runtime: Option<Runtime>,
    schemas: Arc<Answers<SchemaRef, Arc<str>>>,
    ids: Arc<Answers<(String, String), u32>>,
}

struct Connection {
    options: RegistryOptions,
    base: Url,
    client: Client,
    permits: Semaphore,
    metrics: Arc<KafkaMetrics>,
}

impl HttpRegistry {
    /// A client; asks nothing yet.
    pub fn new(
        options: &RegistryOptions,
        metrics: &Arc<KafkaMetrics>,
    ) -> Result<Self, OptionsError> {
        let base = options.validate()?;
        let fault = |problem: String| OptionsError::Field {
            field: "registry".into(),
            problem,
        };
        let client = Client::builder()
            .timeout(Duration::from_millis(options.timeout_ms))
            .build();
        let client = client.map_err(|error| fault(error.to_string()))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("schema-registry")
            .enable_all()
            .build();
        let ttl = FailureTtl {
            unknown: Duration::from_millis(options.unknown_ttl_ms),
            unavailable: Duration::from_millis(options.unavailable_ttl_ms),
        };
        let permits = Semaphore::new(AT_ONCE);
        Ok(Self {
            connection: Arc::new(Connection {
                options: options.clone(),
                base,
                client,
                permits,
                metrics: Arc::clone(metrics),
            }),
            runtime: Some(runtime.map_err(|error| fault(error.to_string()))?),
            schemas: Arc::new(Answers::new(ttl, BOUNDS)),
            ids: Arc::new(Answers::new(ttl, BOUNDS)),
        })
    }

    fn runtime(&self) -> &Runtime {
        self.runtime
            .as_ref()
            .expect("the runtime is there until drop")
    }

    /// Asks in the background; the answer goes to the cache.
    fn ask_for(&self, schema: SchemaRef) {
        let (connection, answers) = (Arc::clone(&self.connection), Arc::clone(&self.schemas));
        let question = Question::new(&answers, schema);
        self.runtime().spawn(async move {
            let answer = connection.schema(&schema).await;
            question.answer(answer);
            connection
                .metrics
                .cached_schemas
                .set(answers.known() as i64);
        });
    }
}

impl Drop for HttpRegistry {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Connection {
    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .expect("an http URL has a path")
            .pop_if_empty()
            .extend(segments);
        url
    }

    async fn schema(&self, schema: &SchemaRef) -> Result<Arc<str>, SchemaLookupError> {
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
            return Err(SchemaLookupError::Unknown(format!(
                "{name} as Avro (it is registered as {other})"
            )));
        }
        let json = answer.get("schema").and_then(Json::as_str);
        json.map(Arc::from).ok_or_else(|| {
            SchemaLookupError::Unavailable(format!(
                "{name}: the answer of {} holds no schema",
                self.base
            ))
        })
    }

    async fn id(&self, subject: &str, schema_json: &str) -> Result<u32, SchemaLookupError> {
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
            SchemaLookupError::Unavailable(format!(
                "{what}: the answer of {} holds no id",
                self.base
            ))
        })
    }

    /// The registry's answer; `what` names what is asked for.
    async fn ask(
        &self,
        what: &str,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<Json, SchemaLookupError> {
        let mut backoff = Duration::from_millis(self.options.backoff_ms);
        let mut attempt = 1;
        loop {
            let failure = match self.once(request()).await {
                Ok((status, body)) if status.is_success() => {
                    return serde_json::from_slice(&body).map_err(|error| {
                        SchemaLookupError::Unavailable(format!(
                            "{what}: the answer of {} is not JSON: {error}",
                            self.base
                        ))
                    });
                }
                Ok((status, body)) => {
                    let answer = RegistryError::read(&body);
                    // 40401 no such subject, 40402 version, 40403 schema.
                    if status == StatusCode::NOT_FOUND
                        && answer
                            .error_code
                            .is_some_and(|code| code == 404 || (40401..=40403).contains(&code))
                    {
                        return Err(SchemaLookupError::Unknown(what.to_owned()));
                    }
                    let failure = format!(
                        "{what}: {} answered {status}: {}",
                        self.base, answer.message
                    );
                    if !(status.is_server_error()
                        || status == StatusCode::TOO_MANY_REQUESTS
                        || status == StatusCode::REQUEST_TIMEOUT)
                    {
                        return Err(SchemaLookupError::Unavailable(failure));
                    }
                    failure
                }
                Err(error) => format!("{what}: {}", causes(&error)),
            };
            if attempt >= self.options.attempts {
                return Err(SchemaLookupError::Unavailable(failure));
            }
            tracing::debug!(attempt, "{failure}; asking again");
            attempt += 1;
            tokio::time::sleep(backoff).await;
            backoff *= 2;
        }
    }

    async fn once(&self, request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), reqwest::Error> {
        let _permit = self.permits.acquire().await; // never closed
        let request = request.header(ACCEPT, CONTENT);
        let request = match (&self.options.token, &self.options.username) {
            (Some(token), _) => request.bearer_auth(token),
            (None, Some(username)) => request.basic_auth(username, self.options.password.as_ref()),
            (None, None) => request,
        };
        let count = |code: &str| {
            self.metrics
                .registry_requests
                .with_label_values(&[code])
                .inc()
        };
        let response = request.send().await.inspect_err(|_| count("failed"))?;
        let status = response.status();
        count(status.as_str());
        Ok((status, response.bytes().await?.to_vec()))
    }
}

fn under_way(schema: &SchemaRef) -> SchemaLookupError {
    SchemaLookupError::Unavailable(format!(
        "{} was asked for, and its answer is not there yet",
        name_of(schema)
    ))
}

fn too_many(what: &str) -> SchemaLookupError {
    SchemaLookupError::Unavailable(format!(
        "{what}: {} other questions wait for an answer",
        BOUNDS.questions
    ))
}

impl SchemaStore for HttpRegistry {
    fn lookup(&self, schema: &SchemaRef) -> Result<Arc<str>, SchemaLookupError> {
        loop {
            match self.schemas.begin(schema) {
                State::Answered(answer) => return answer,
                State::Full => return Err(too_many(&name_of(schema))),
                State::Yours => self.ask_for(*schema),
                State::UnderWay => {}
            }
            if let Some(answer) = self.schemas.wait(schema) {
                return answer;
            }
        }
    }

    fn find(&self, schema: &SchemaRef) -> Result<Arc<str>, SchemaLookupError> {
        match self.schemas.begin(schema) {
            State::Answered(answer) => answer,
            State::Full => Err(too_many(&name_of(schema))),
            State::Yours => {
                self.ask_for(*schema);
                Err(under_way(schema))
            }
            State::UnderWay => Err(under_way(schema)),
        }
    }

    fn prefetch(&self, schemas: &[SchemaRef]) {
        for schema in schemas {
            if self.schemas.begin(schema) == State::Yours {
                self.ask_for(*schema);
            }
        }
    }

    fn id_of(&self, subject: &str, schema_json: &str) -> Result<u32, SchemaLookupError> {
        let key = (subject.to_owned(), schema_json.to_owned());
        loop {
            match self.ids.begin(&key) {
                State::Answered(answer) => return answer,
                State::Full => return Err(too_many(subject)),
                State::Yours => {
                    let question = Question::new(&self.ids, key);
                    let answer = self
                        .runtime()
                        .block_on(self.connection.id(subject, schema_json));
                    question.answer(answer.clone());
                    return answer;
                }
                State::UnderWay => {}
            }
            if let Some(answer) = self.ids.wait(&key) {
                return answer;
            }
        }
    }
}

/// What a registry says when it refuses.
#[derive(Deserialize)]
struct RegistryError {
    error_code: Option<u32>,
    #[serde(default)]
    message: String,
}

impl RegistryError {
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

fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::Mutex;

    use super::*;

    /// Status and body.
    type Answer = (u16, &'static str);

    /// Answers each connection with the next of `answers`, and keeps what was asked. An empty answer closes the connection.
    struct Double {
        url: String,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl Double {
        fn new(answers: &[Answer]) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/apis/ccompat/v7/", listener.local_addr().unwrap());
            let asked = Arc::new(Mutex::new(Vec::new()));
            let (kept, answers) = (
                Arc::clone(&asked),
                answers
                    .iter()
                    .map(|(status, body)| (*status, (*body).to_owned()))
                    .collect::<Vec<_>>(),
            );
            std::thread::spawn(move || {
                for (status, body) in answers {
                    let (mut stream, _) = listener.accept().unwrap();
                    kept.lock().unwrap().push(read_request(&mut stream));
                    if status != 0 {
                        let length = body.len();
                        write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").unwrap();
                    }
                }
            });
            Self { url, asked }
        }

        fn registry(&self, change: impl FnOnce(&mut RegistryOptions)) -> HttpRegistry {
            let mut options = RegistryOptions {
                url: self.url.clone(),
                backoff_ms: 0,
                unknown_ttl_ms: 0,
                unavailable_ttl_ms: 0,
                ..RegistryOptions::default()
            };
            change(&mut options);
            HttpRegistry::new(
                &options,
                &KafkaMetrics::register(&prometheus::Registry::new()).unwrap(),
            )
            .unwrap()
        }

        fn asked(&self) -> Vec<String> {
            self.asked.lock().unwrap().clone()
        }
    }

    fn read_request(stream: &mut impl Read) -> String {
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&bytes).to_lowercase();
            if let Some(end) = text.find("\r\n\r\n") {
                let length = text
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .map_or(0, |length| length.parse().unwrap());
                if bytes.len() >= end + 4 + length {
                    return String::from_utf8(bytes).unwrap();
                }
            }
            let read = stream.read(&mut chunk).unwrap();
            assert!(read > 0, "the client closed the connection");
            bytes.extend_from_slice(&chunk[..read]);
        }
    }

    #[test]
    fn answers_are_judged() {
        let cases: [(&[Answer], Result<&str, &str>); 9] = [
            (&[(200, r#"{"schema":"\"string\""}"#)], Ok("\"string\"")),
            (
                &[(200, r#"{"schema":"{}","schemaType":"AVRO","id":7}"#)],
                Ok("{}"),
            ),
            (&[(503, ""), (0, ""), (200, r#"{"schema":"1"}"#)], Ok("1")),
            (
                &[(404, r#"{"error_code":40403,"message":"Schema not found"}"#)],
                Err("no schema 7 is registered"),
            ),
            (
                &[(200, r#"{"schema":"x","schemaType":"PROTOBUF"}"#)],
                Err("it is registered as PROTOBUF"),
            ),
            (
                &[(404, "<html>no such page</html>")],
                Err("cannot be reached"),
            ),
            (
                &[(401, r#"{"error_code":401,"message":"Unauthorized"}"#)],
                Err("Unauthorized"),
            ),
            (
                &[(500, ""), (502, ""), (503, "overloaded")],
                Err("overloaded"),
            ),
            (&[(200, "{}")], Err("holds no schema")),
        ];
        for (answers, expected) in cases {
            let double = Double::new(answers);
            let found = double.registry(|_| {}).lookup(&SchemaRef::Id(7));
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.as_ref(), expected),
                (Err(error), Err(expected)) => {
                    assert!(error.to_string().contains(expected), "{expected}: {error}")
                }
                (found, _) => panic!("{answers:?} gave {found:?}"),
            }
            assert_eq!(double.asked().len(), answers.len(), "{answers:?}");
        }
    }

    #[test]
    fn known_schemas_outlive_the_registry() {
        let double = Double::new(&[(200, r#"{"schema":"\"long\""}"#)]); // answers once
        let registry = double.registry(|_| {});
        for _ in 0..3 {
            assert_eq!(
                registry.lookup(&SchemaRef::Id(7)).unwrap().as_ref(),
                "\"long\""
            );
        }
        assert!(matches!(
            registry.lookup(&SchemaRef::Id(8)),
            Err(SchemaLookupError::Unavailable(_))
        ));
    }

    /// Answers every request on a thread of its own, as `answer` says of its path.
    fn serve(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, answer) = (stream.unwrap(), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let request = read_request(&mut stream);
                    let (status, body) = answer(request.split(' ').nth(1).unwrap());
                    let length = body.len();
                    // The client may be gone.
                    let _ = write!(
                        stream,
                        "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                    );
                });
            }
        });
        url
    }

    fn registry_at(url: String) -> HttpRegistry {
        let options = RegistryOptions {
            url,
            ..RegistryOptions::default()
        };
        HttpRegistry::new(
            &options,
            &KafkaMetrics::register(&prometheus::Registry::new()).unwrap(),
        )
        .unwrap()
    }

    /// Finds until there is an answer.
    fn found(registry: &HttpRegistry, id: u32) -> Result<Arc<str>, SchemaLookupError> {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            match registry.find(&SchemaRef::Id(id)) {
                Err(SchemaLookupError::Unavailable(why)) => {
                    assert!(std::time::Instant::now() < deadline, "{why}")
                }
                answer => return answer,
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    const NO_SCHEMA: Answer = (404, r#"{"error_code":40403,"message":"Schema not found"}"#);

    #[test]
    fn finding_never_waits_and_known_schemas_are_found_while_the_registry_hangs() {
        let (release, held) = crossbeam_channel::bounded::<()>(0);
        let url = serve(move |path| {
            if path.ends_with("/7") {
                return (200, r#"{"schema":"\"long\""}"#);
            }
            let _ = held.recv(); // until the test ends
            NO_SCHEMA
        });
        let registry = registry_at(url);
        assert_eq!(found(&registry, 7).unwrap().as_ref(), "\"long\"");
        // Every request that may be under way hangs; nothing here would return if a call waited for one.
        let hanging: Vec<SchemaRef> = (100..2_000).map(SchemaRef::Id).collect();
        registry.prefetch(&hanging);
        for id in 100..110 {
            assert!(matches!(
                registry.find(&SchemaRef::Id(id)),
                Err(SchemaLookupError::Unavailable(_))
            ));
        }
        assert_eq!(
            registry.find(&SchemaRef::Id(7)).unwrap().as_ref(),
            "\"long\""
        );
        assert_eq!(
            registry.lookup(&SchemaRef::Id(7)).unwrap().as_ref(),
            "\"long\""
        );
        let full = registry
            .find(&SchemaRef::Id(1_999))
            .unwrap_err()
            .to_string();
        assert!(full.contains("1000 other questions"), "{full}");
        drop(release);
    }

    #[test]
    fn ids_that_nobody_registered_are_asked_for_together() {
        // Nobody is answered until as many wait as may: asked one after the other, none ever would be.
        let waiting = (Mutex::new(0), std::sync::Condvar::new());
        let url = serve(move |_| {
            let (count, arrived) = &waiting;
            let mut count = count.lock().unwrap();
            *count += 1;
            arrived.notify_all();
            drop(arrived.wait_while(count, |count| *count < AT_ONCE).unwrap());
            NO_SCHEMA
        });
        let registry = registry_at(url);
        let junk: Vec<SchemaRef> = (0..64).map(SchemaRef::Id).collect();
        registry.prefetch(&junk);
        for id in 0..64 {
            assert_eq!(
                found(&registry, id),
                Err(SchemaLookupError::Unknown(id.to_string()))
            );
        }
    }

    #[test]
    fn paths_and_credentials_are_right() {
        let double = Double::new(&[
            (200, r#"{"schema":"1"}"#),
            (200, r#"{"id":5}"#),
            (200, r#"{"id":6}"#),
        ]);
        let token = double.registry(|options| options.token = Some("t0k".into()));
        token.lookup(&SchemaRef::Guid([1; 16])).unwrap();
        assert_eq!(token.id_of("a/b-value", "\"long\""), Ok(5));
        let basic = double.registry(|options| {
            options.register = false;
            (options.username, options.password) = (Some("u".into()), Some("p".into()));
        });
        assert_eq!(basic.id_of("s-value", "\"long\""), Ok(6));
        assert_eq!(basic.id_of("s-value", "\"long\""), Ok(6));
        let expected = [
            (
                "GET /apis/ccompat/v7/schemas/guids/01010101-0101-0101-0101-010101010101 ",
                "authorization: Bearer t0k",
            ),
            (
                "POST /apis/ccompat/v7/subjects/a%2Fb-value/versions ",
                r#"{"schema":"\"long\""}"#,
            ),
            (
                "POST /apis/ccompat/v7/subjects/s-value ",
                "authorization: Basic dTpw",
            ),
        ];
        let asked = double.asked();
        assert_eq!(asked.len(), expected.len());
        for (request, (start, part)) in asked.iter().zip(expected) {
            assert!(
                request.starts_with(start) && request.contains(part),
                "{request}"
            );
        }
    }

    #[test]
    fn options_are_checked_and_secrets_not_printed() {
        let metrics = KafkaMetrics::register(&prometheus::Registry::new()).unwrap();
        let good = RegistryOptions {
            password: Some("hunter2".into()),
            username: Some("u".into()),
            ..RegistryOptions::default()
        };
        assert!(HttpRegistry::new(&good, &metrics).is_ok());
        assert!(!format!("{good:?}").contains("hunter2"));
        let cases = [
            (
                RegistryOptions {
                    url: "nowhere".into(),
                    ..good.clone()
                },
                "is no URL",
            ),
            (
                RegistryOptions {
                    url: "https://x".into(),
                    ..good.clone()
                },
                "no TLS",
            ),
            (
                RegistryOptions {
                    token: Some("t".into()),
                    ..good.clone()
                },
                "cannot be combined",
            ),
            (
                RegistryOptions {
                    attempts: 0,
                    ..good.clone()
                },
                "at least 1",
            ),
        ];
        for (options, expected) in cases {
            let error = HttpRegistry::new(&options, &metrics)
                .map(drop)
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
