//! Spans of committed epochs, exported over OTLP: one of the epoch, one for each of its stages.
//!
//! Nothing is exported unless `[telemetry] otlp_endpoint` is set. The engine hands over the times of an
//! epoch and goes on: a collector that is slow or away costs spans, never an epoch.
//!
//! Decision: docs/decisions/0081-spans-of-committed-epochs.md

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use reqwest::{Client, Url};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use leadpulse_engine::ports::Clock;
use leadpulse_engine::read_model::{EpochTimes, ReadModel};
use leadpulse_registry::{TlsFiles, causes};

use crate::clock::SystemClock;
use crate::error::DeployError;

mod spans;

use spans::{Span, Tracer};

/// Epochs that wait for the exporter, at most; later ones leave no spans.
const WAITING_EPOCHS: usize = 1024;
/// Spans of one request, at most, but for those of its last epoch.
const BATCH_SPANS: usize = 512;
/// The longest that a span waits for others.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// Limit of a request.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// Distance of two lines about a collector that fails.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// The `[telemetry]` section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryOptions {
    /// Base URL of an OTLP collector over HTTP, such as `http://127.0.0.1:4318`; spans go to
    /// `v1/traces` below it, in JSON. `None` exports nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
}

/// A thread that exports spans until it is told to end.
pub(crate) struct SpanExport {
    thread: JoinHandle<()>,
}

impl SpanExport {
    /// Begins to export the epochs that a read model shows. `None` where no endpoint is configured.
    ///
    /// # Errors
    /// An endpoint that is no URL, or a system without threads.
    pub(crate) fn begin(
        options: &TelemetryOptions,
        worker: &str,
        read_model: &ReadModel,
    ) -> Result<Option<Self>, DeployError> {
        let Some(endpoint) = &options.otlp_endpoint else {
            return Ok(None);
        };
        let collector = Collector::new(endpoint)?;
        let tracer = Tracer::of(worker);
        let (sender, epochs) = sync_channel(WAITING_EPOCHS);
        let thread = std::thread::Builder::new()
            .name("telemetry".into())
            .spawn(move || export(&epochs, &tracer, &collector))?;
        read_model.watch_epochs(Some(sender));
        Ok(Some(Self { thread }))
    }

    /// Exports the spans that wait, and ends.
    pub(crate) fn end(self, read_model: &ReadModel) {
        // The thread ends once nobody can send to it.
        read_model.watch_epochs(None);
        if self.thread.join().is_err() {
            tracing::warn!("the export of spans panicked");
        }
    }
}

/// A collector of traces.
struct Collector {
    client: Client,
    runtime: Runtime,
    traces: Url,
}

impl Collector {
    fn new(endpoint: &str) -> Result<Self, DeployError> {
        let fault = |problem: String| DeployError::Telemetry {
            endpoint: endpoint.to_owned(),
            problem,
        };
        let traces = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let traces: Url = traces
            .parse()
            .map_err(|error| fault(format!("it is no URL ({error})")))?;
        if !matches!(traces.scheme(), "http" | "https") {
            return Err(fault("it is no address of HTTP".to_owned()));
        }
        let tls = TlsFiles::default().client_config_or_plain();
        let tls = tls.map_err(|error| fault(error.to_string()))?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .timeout(REQUEST_LIMIT)
            .build()
            .map_err(|error| fault(causes(&error)))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            client,
            runtime,
            traces,
        })
    }

    /// Sends one request.
    ///
    /// # Errors
    /// No answer, or one that is not a success, in words.
    fn send(&self, tracer: &Tracer, spans: Vec<Span>) -> Result<(), String> {
        let request = self.client.post(self.traces.clone());
        let request = request.json(&tracer.request(spans));
        // Within the runtime: a request looks for its clock as soon as it is made.
        let answer = self.runtime.block_on(async { request.send().await });
        let status = answer.map_err(|error| causes(&error))?.status();
        match status.is_success() {
            true => Ok(()),
            false => Err(format!("{} answers {status}", self.traces)),
        }
    }
}

/// Exports epochs in batches until their sender is gone.
fn export(epochs: &Receiver<EpochTimes>, tracer: &Tracer, collector: &Collector) {
    let mut logged: Option<Duration> = None;
    let mut is_open = true;
    while is_open {
        let (batch, is_last) = next_batch(epochs, tracer);
        is_open = !is_last;
        let count = batch.len();
        if count == 0 {
            continue;
        }
        let now = SystemClock.elapsed();
        let is_due = logged.is_none_or(|at| now.saturating_sub(at) >= LINE_EVERY);
        if let Err(fault) = collector.send(tracer, batch)
            && is_due
        {
            tracing::warn!(spans = count, "spans are lost: {fault}");
            logged = Some(now);
        }
    }
}

/// The spans of the epochs of the next moment, and true once no more can come.
fn next_batch(epochs: &Receiver<EpochTimes>, tracer: &Tracer) -> (Vec<Span>, bool) {
    let (mut batch, began) = (Vec::new(), SystemClock.elapsed());
    while batch.len() < BATCH_SPANS {
        let passed = SystemClock.elapsed().saturating_sub(began);
        match epochs.recv_timeout(BATCH_WAIT.saturating_sub(passed)) {
            Ok(times) => batch.extend(tracer.spans(&times, SystemClock.wall_ms())),
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => return (batch, true),
        }
    }
    (batch, false)
}
