//! Requests to a running worker, and to the process of its sinks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::{Client, StatusCode};
use serde_json::Value as Json;
use tokio::runtime::Runtime;

use leadpulse_registry::{TlsFiles, causes};

use super::exposition::Samples;

/// The longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Newest alerts that are asked for.
const ALERTS: usize = 5;

/// The answers of one moment.
#[derive(Clone, Debug)]
pub struct Answers {
    /// Monotonic time of the answers.
    pub elapsed: Duration,
    /// Wall clock of this machine, milliseconds.
    pub wall_ms: i64,
    /// `/api/v1/status`
    pub status: Json,
    /// Rows of `/api/v1/alerts`, newest first.
    pub alerts: Vec<Json>,
    /// `/metrics` of the worker.
    pub worker: Samples,
    /// `/metrics` of `leadpulse deliver`, or the fault; `None` if it is not asked.
    pub sinks: Option<Result<Samples, String>>,
}

/// A client of a worker and, perhaps, of the process of its sinks.
pub struct Reader {
    client: Client,
    runtime: Runtime,
    worker: String,
    sinks: Option<String>,
    token: Option<String>,
}

impl Reader {
    /// A client of these base URLs. The token goes to the worker alone.
    ///
    /// # Errors
    /// A file that cannot be read, or a system without threads.
    pub fn new(
        worker: &str,
        sinks: Option<String>,
        token: Option<&Path>,
        ca: Option<PathBuf>,
    ) -> Result<Self> {
        let files = TlsFiles {
            ca,
            ..TlsFiles::default()
        };
        let client = Client::builder()
            .tls_backend_preconfigured(files.client_config_or_plain()?)
            .timeout(TIMEOUT)
            .build()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let read = |path: &Path| -> Result<String> {
            let text = std::fs::read_to_string(path);
            let text = text.with_context(|| format!("{} cannot be read", path.display()))?;
            Ok(text.trim().to_owned())
        };
        Ok(Self {
            client,
            runtime,
            worker: worker.trim_end_matches('/').to_owned(),
            sinks: sinks.map(|url| url.trim_end_matches('/').to_owned()),
            token: token.map(read).transpose()?,
        })
    }

    /// Base URL of the worker.
    pub fn worker(&self) -> &str {
        &self.worker
    }

    /// Asks once. Sinks that do not answer are a fault within the answers.
    ///
    /// # Errors
    /// A worker that does not answer, or refuses.
    pub fn ask(&self, clock: &dyn leadpulse_engine::ports::Clock) -> Result<Answers> {
        let status = self.json("/api/v1/status")?;
        let mut alerts = self.json(&format!("/api/v1/alerts?limit={ALERTS}"))?;
        let worker = Samples::read(&self.of_worker("/metrics")?);
        // Sinks are no part of the worker: it is watched on while their process is away.
        let sinks = self.sinks.as_ref().map(|base| {
            let page = self.get(&format!("{base}/metrics"), None);
            let page = page.map(|page| Samples::read(&page));
            page.map_err(|error| format!("{error:#}"))
        });
        let alerts = match alerts["alerts"].take() {
            Json::Array(alerts) => alerts,
            _ => Vec::new(),
        };
        Ok(Answers {
            elapsed: clock.elapsed(),
            wall_ms: clock.wall_ms(),
            status,
            alerts,
            worker,
            sinks,
        })
    }

    fn json(&self, path: &str) -> Result<Json> {
        let text = self.of_worker(path)?;
        serde_json::from_str(&text).with_context(|| {
            format!(
                "{}{path} does not answer as a worker; pass the URL of a running one",
                self.worker
            )
        })
    }

    fn of_worker(&self, path: &str) -> Result<String> {
        self.get(&format!("{}{path}", self.worker), self.token.as_deref())
    }

    fn get(&self, url: &str, token: Option<&str>) -> Result<String> {
        let asked = async {
            let mut request = self.client.get(url);
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let response = request.send().await?;
            let status = response.status();
            let body = response.bytes().await?;
            Ok::<_, reqwest::Error>((status, String::from_utf8_lossy(&body).into_owned()))
        };
        let (status, body) = self.runtime.block_on(asked).map_err(|error| {
            let why = causes(&error.without_url());
            anyhow::anyhow!("{url} does not answer ({why}); is the process running there?")
        })?;
        match status {
            StatusCode::OK => Ok(body),
            StatusCode::UNAUTHORIZED => bail!("{url} asks for a token; pass --token-file FILE"),
            StatusCode::FORBIDDEN => bail!("{url} needs the scope read; pass another token"),
            _ => bail!("{url} answers {status}; pass the URL of a running worker"),
        }
    }
}
