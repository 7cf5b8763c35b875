//! A schema registry that speaks Confluent's API (Confluent, Apicurio under `/apis/ccompat/v7`,
//! Karapace).
//!
//! Questions are asked in the background, [`AT_ONCE`] at a time, so that neither a registry that is
//! away nor ids that nobody registered keep the engine waiting. A known answer is not asked for
//! again, so known schemas outlive an outage.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use reqwest::{Client, redirect};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use leadpulse_schema::{SchemaRef, WriterSchema};

use crate::answers::{Answers, Bounds, FailureTtl, Question, State};
use crate::client::RegistryClient;
use crate::folder::FolderStore;
use crate::lookup::{LookupError, WriterSchemas, name_of};
use crate::metrics::RegistryMetrics;
use crate::options::{RegistryOptions, RegistryOptionsError};
use crate::tls::without_roots;

/// Redirects of one request that are followed.
const MOST_REDIRECTS: usize = 5;
/// Requests under way at once.
pub(crate) const AT_ONCE: usize = 16;
/// Limits of the memory: records may carry any of 2³² ids.
const BOUNDS: Bounds = Bounds {
    answers: 10_000,
    questions: 1_000,
};

/// Writer schemas from a registry over HTTP.
///
/// [`WriterSchemas::find`] never waits. [`WriterSchemas::lookup`] and [`WriterSchemas::id_of`]
/// block the thread: call them outside asynchronous code.
pub struct HttpRegistry {
    pub(crate) registry: Arc<RegistryClient>,
    /// `Some` until drop, which takes the runtime to end it without a wait for requests under way.
    runtime: Option<Runtime>,
    schemas: Arc<Answers<SchemaRef, WriterSchema>>,
    ids: Arc<Answers<(String, String), u32>>,
    /// Schemas by fingerprint, which no registry is asked for.
    local: Option<FolderStore>,
}

impl HttpRegistry {
    /// Makes a client. Sends nothing yet.
    ///
    /// # Errors
    /// A setting that cannot work, or a system without threads.
    pub fn new(
        options: &RegistryOptions,
        metrics: &Arc<RegistryMetrics>,
    ) -> Result<Self, RegistryOptionsError> {
        let bases = options.checked()?;
        let fault = |problem: String| RegistryOptionsError {
            field: "registry".into(),
            problem,
        };
        let tls = if bases.iter().any(|base| base.scheme() == "https") {
            let config = options.tls().client_config();
            config.map_err(|fault| RegistryOptionsError::from(fault).within("registry"))?
        } else {
            without_roots()
        };
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(redirect::Policy::custom(follow_on_the_same_host))
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
        Ok(Self {
            registry: Arc::new(RegistryClient {
                options: options.clone(),
                bases,
                preferred: AtomicUsize::new(0),
                client,
                permits: Semaphore::new(AT_ONCE),
                metrics: Arc::clone(metrics),
            }),
            runtime: Some(runtime.map_err(|error| fault(error.to_string()))?),
            schemas: Arc::new(Answers::new(ttl, BOUNDS)),
            ids: Arc::new(Answers::new(ttl, BOUNDS)),
            local: None,
        })
    }

    /// Asks the registry a question that needs its permission, and waits for the answer.
    ///
    /// # Errors
    /// No answer, or a denial.
    pub fn ping(&self) -> Result<(), LookupError> {
        self.runtime().block_on(self.registry.subjects())
    }

    /// Takes schemas of single-object records, which carry a fingerprint instead of an id, from a
    /// folder.
    #[must_use]
    pub fn with_local(mut self, local: FolderStore) -> Self {
        self.local = Some(local);
        self
    }

    /// The schema of a fingerprint; `None` for an id or a GUID.
    fn by_fingerprint(&self, schema: &SchemaRef) -> Option<Result<WriterSchema, LookupError>> {
        let SchemaRef::Fingerprint(_) = schema else {
            return None;
        };
        let unknown = || LookupError::Unknown(format!("{} in the schemas folder", name_of(schema)));
        let found = self.local.as_ref().map(|local| local.lookup(schema));
        Some(
            found
                .unwrap_or_else(|| Err(unknown()))
                .map_err(|_| unknown()),
        )
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        self.runtime
            .as_ref()
            .expect("the runtime is there until drop")
    }

    /// Asks in the background; the memory keeps the answer.
    fn ask_for(&self, schema: SchemaRef) {
        let (registry, answers) = (Arc::clone(&self.registry), Arc::clone(&self.schemas));
        let question = Question::new(&answers, schema);
        self.runtime().spawn(async move {
            let answer = registry.schema(&schema).await;
            question.answer(answer);
            registry.metrics.cached_schemas.set(answers.known() as i64);
        });
    }
}

/// Follows a redirect on the same host only: another host would get the credentials, and a client
/// certificate is shown to whoever asks.
fn follow_on_the_same_host(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let same = attempt
        .previous()
        .last()
        .is_some_and(|from| from.origin() == attempt.url().origin());
    if same && attempt.previous().len() <= MOST_REDIRECTS {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

impl Drop for HttpRegistry {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn under_way(schema: &SchemaRef) -> LookupError {
    LookupError::Unavailable(format!(
        "{} was asked for, and its answer is not there yet",
        name_of(schema)
    ))
}

fn too_many(what: &str) -> LookupError {
    LookupError::Unavailable(format!(
        "{what}: {} other questions wait for an answer",
        BOUNDS.questions
    ))
}

impl WriterSchemas for HttpRegistry {
    fn lookup(&self, schema: &SchemaRef) -> Result<WriterSchema, LookupError> {
        if let Some(local) = self.by_fingerprint(schema) {
            return local;
        }
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

    fn find(&self, schema: &SchemaRef) -> Result<WriterSchema, LookupError> {
        if let Some(local) = self.by_fingerprint(schema) {
            return local;
        }
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
            let is_asked = !matches!(schema, SchemaRef::Fingerprint(_));
            if is_asked && self.schemas.begin(schema) == State::Yours {
                self.ask_for(*schema);
            }
        }
    }

    fn id_of(&self, subject: &str, schema_json: &str) -> Result<u32, LookupError> {
        let key = (subject.to_owned(), schema_json.to_owned());
        loop {
            match self.ids.begin(&key) {
                State::Answered(answer) => return answer,
                State::Full => return Err(too_many(subject)),
                State::Yours => {
                    let question = Question::new(&self.ids, key);
                    let answer = self
                        .runtime()
                        .block_on(self.registry.id(subject, schema_json));
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

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
