//! The network: requests with `reqwest`, one connection pool a sink.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Response, redirect};
use tokio::runtime::Runtime;

use leadpulse_registry::{AccessToken, TlsFiles, TokenError, TokenOptions, causes};

use crate::options::DeliverOptionsError;
use crate::ports::{Tokens, Transport, TransportError};
use crate::request::{HttpAnswer, HttpRequest, Method, retry_after};

/// Most bytes of an answer that are kept: a sink's memory does not depend on the other side.
const ANSWER_BYTES: usize = 1 << 20;

/// Sends requests over HTTP and TLS. Redirects are not followed: they would hand signatures and
/// tokens to an address that nobody configured.
pub struct HttpTransport {
    client: Client,
    runtime: Runtime,
}

impl HttpTransport {
    /// A transport with a limit for each request, from the connection to the last byte of the answer.
    ///
    /// # Errors
    /// A certificate file that cannot be used, or a system without threads.
    pub fn new(timeout: Duration, ca: Option<PathBuf>) -> Result<Self, DeliverOptionsError> {
        let fault = |problem: String| DeliverOptionsError {
            setting: "ca".to_owned(),
            problem,
        };
        let files = TlsFiles {
            ca,
            ..TlsFiles::default()
        };
        let tls = files.client_config_or_plain();
        let tls = tls.map_err(|error| fault(error.to_string()))?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .timeout(timeout)
            .redirect(redirect::Policy::none())
            .build();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        Ok(Self {
            client: client.map_err(|error| fault(causes(&error)))?,
            runtime: runtime.map_err(|error| fault(error.to_string()))?,
        })
    }
}

impl Transport for HttpTransport {
    fn send(&mut self, request: &HttpRequest) -> Result<HttpAnswer, TransportError> {
        let sent = self.runtime.block_on(exchange(&self.client, request));
        // The URL may be a secret.
        sent.map_err(|error| TransportError(causes(&error.without_url())))
    }
}

async fn exchange(client: &Client, request: &HttpRequest) -> Result<HttpAnswer, reqwest::Error> {
    let mut builder = match request.method {
        Method::Post => client.post(&request.url),
        Method::Patch => client.patch(&request.url),
    };
    for (name, value) in &request.headers {
        builder = builder.header(*name, value);
    }
    let response = builder.body(request.body.clone()).send().await?;
    let status = response.status().as_u16();
    let wait = asked_wait(&response);
    Ok(HttpAnswer {
        status,
        retry_after: wait,
        body: beginning(response).await?,
    })
}

/// The body up to [`ANSWER_BYTES`]. It is read to its end, so that the connection can be used again,
/// unless it is longer.
async fn beginning(mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = ANSWER_BYTES - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == ANSWER_BYTES {
            break;
        }
    }
    Ok(body)
}

fn asked_wait(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    retry_after(text, now_ms())
}

/// The system's time, for dates in `Retry-After`: the network is the edge, like the clock port.
#[expect(
    clippy::disallowed_methods,
    reason = "dates of answers are of the system's clock"
)]
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

/// Tokens of an OAuth 2.0 endpoint, by client credentials.
pub struct OauthTokens(pub TokenOptions);

impl Tokens for OauthTokens {
    fn fetch(&mut self) -> Result<AccessToken, TokenError> {
        self.0.fetch()
    }
}
