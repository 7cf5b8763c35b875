//! Calls of other systems: `POST /v1/ingest/{source}`, within limits, with probes beside them.
//!
//! A call passes, in this order: the rate of its network, the number of calls at once, the limits of
//! its body. Then a handler answers it, on a thread that may wait for Kafka.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use prometheus::Registry;
use tokio::sync::Semaphore;

use crate::api::answer::ApiError;
use crate::guard::{Peer, network_of};
use crate::metrics::HttpMetrics;
use crate::options::{LimitOptions, ServerError};
use crate::probes::{ProcessHealth, probe_routes};
use crate::rates::Rates;
use crate::service::Handle;
use crate::side;

/// Calls between two clean-ups of the rates of networks that are gone.
const CALLS_A_CLEAN_UP: u32 = 4096;

/// A call whose body was read.
#[derive(Clone, Debug)]
pub struct Call {
    /// The last part of the path.
    pub source: String,
    /// Path and query as they came.
    pub path_and_query: String,
    /// Headers that are text; names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

/// An answer to a call.
#[derive(Clone, Debug)]
pub struct CallAnswer {
    /// Status of HTTP.
    pub status: u16,
    /// Seconds after which to call again.
    pub retry_after_s: Option<u64>,
    /// JSON.
    pub body: serde_json::Value,
}

/// The program behind the calls.
pub trait CallHandler: Send + Sync + 'static {
    /// Answers a call; may wait.
    fn answer(&self, call: Call) -> CallAnswer;

    /// Notes a call that was refused before its body was whole.
    fn refused(&self, source: &str, status: u16);
}

/// Limits of calls.
#[derive(Clone, Copy, Debug)]
pub struct CallLimits {
    /// Longest body, bytes.
    pub body_bytes: usize,
    /// Longest time for a body.
    pub body_timeout: Duration,
    /// Calls that are worked on at once.
    pub at_once: usize,
    /// Calls of one network a second, on average; twice as many at once after a pause.
    pub per_second: u32,
}

struct Calls {
    limits: CallLimits,
    rates: Rates<IpAddr>,
    at_once: Semaphore,
    taken: AtomicU32,
    handler: Arc<dyn CallHandler>,
}

/// Answers calls, probes and requests for metrics.
///
/// # Errors
/// If the address is taken, the registry already has the metrics of a server, or no thread can be
/// started.
pub fn serve_calls(
    listen: SocketAddr,
    limits: CallLimits,
    registry: &Registry,
    health: Arc<dyn ProcessHealth>,
    version: &'static str,
    handler: Arc<dyn CallHandler>,
) -> Result<Handle, ServerError> {
    let metrics = HttpMetrics::register(registry)?;
    let calls = Arc::new(Calls {
        rates: Rates::new(limits.per_second, limits.per_second.saturating_mul(2)),
        at_once: Semaphore::new(limits.at_once),
        taken: AtomicU32::new(0),
        handler,
        limits,
    });
    let router = Router::new()
        .route("/v1/ingest/{source}", post(take))
        .with_state(calls)
        .merge(probe_routes(registry, health, version));
    side::start(
        (listen, "ingest.listen"),
        &LimitOptions::default(),
        router,
        metrics,
    )
}

async fn take(
    State(calls): State<Arc<Calls>>,
    Path(source): Path<String>,
    request: Request,
) -> Response {
    match calls.take(&source, request).await {
        Ok(answer) => answer,
        Err(refusal) => {
            let response = refusal.into_response();
            calls.handler.refused(&source, response.status().as_u16());
            response
        }
    }
}

impl Calls {
    async fn take(self: &Arc<Self>, source: &str, request: Request) -> Result<Response, ApiError> {
        self.take_turn(&request)?;
        let Ok(_permit) = self.at_once.try_acquire() else {
            return Err(busy("too many calls are being worked on").retry_after(1));
        };
        let (parts, body) = request.into_parts();
        let body = self.read(body).await?;
        let headers = parts.headers.iter().filter_map(|(name, value)| {
            let value = value.to_str().ok()?;
            Some((name.as_str().to_owned(), value.to_owned()))
        });
        let path_and_query = parts.uri.path_and_query().map_or("", |it| it.as_str());
        let call = Call {
            source: source.to_owned(),
            path_and_query: path_and_query.to_owned(),
            headers: headers.collect(),
            body: body.to_vec(),
        };
        let handler = Arc::clone(&self.handler);
        let answered = tokio::task::spawn_blocking(move || handler.answer(call)).await;
        let answer = answered.map_err(|_| ApiError::internal("the call could not be answered"))?;
        Ok(respond(answer))
    }

    fn take_turn(&self, request: &Request) -> Result<(), ApiError> {
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        if taken.is_multiple_of(CALLS_A_CLEAN_UP) {
            self.rates.forget_idle();
        }
        let peer = request.extensions().get::<Peer>();
        let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let network = peer.map_or(unknown, |peer| network_of(peer.0.ip()));
        let Err(seconds) = self.rates.take_turn(&network) else {
            return Ok(());
        };
        let refusal = busy("more calls a second than ingest.calls_per_second");
        Err(refusal.retry_after(seconds))
    }

    async fn read(&self, body: Body) -> Result<Bytes, ApiError> {
        let limit = self.limits.body_bytes;
        match tokio::time::timeout(self.limits.body_timeout, to_bytes(body, limit)).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(_)) => Err(ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body has more than {limit} bytes, or ended early"),
                "send fewer records in a call, or raise ingest.body_bytes",
            )),
            Err(_) => Err(ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "the body did not come in time",
                "send it at once, or raise ingest.body_timeout",
            )),
        }
    }
}

fn busy(detail: &str) -> ApiError {
    let status = StatusCode::TOO_MANY_REQUESTS;
    ApiError::new(
        status,
        detail,
        "call again after the seconds of Retry-After",
    )
}

fn respond(answer: CallAnswer) -> Response {
    let status = StatusCode::from_u16(answer.status);
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(answer.body)).into_response();
    if let Some(seconds) = answer.retry_after_s {
        let value = HeaderValue::from(seconds);
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}
