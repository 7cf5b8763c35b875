//! The guard before all answers: host, identity, rate, sizes and scope of a request.
//!
//! A request passes, in this order: the host that it names, the identity of its client, the rate of
//! that client, the length of its query, the number of requests at once, its scope and its body.
//! Refusals are problem documents like all others.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use crate::api::answer::ApiError;
use crate::api::endpoint::{Endpoint, EndpointAccess};
use crate::options::{CheckedOptions, LimitOptions, Scope, ServerOptions};
use crate::rates::Rates;
use crate::service::App;

mod identity;

pub(crate) use identity::{Client, network_of};

use identity::Identities;

/// Address of the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub SocketAddr);

/// The rules for requests, with the memory that they need.
#[derive(Debug)]
pub(crate) struct Guard {
    options: ServerOptions,
    identities: Identities,
    rates: Rates<Client>,
    at_once: Semaphore,
    /// Streams of events that may still be opened.
    pub streams: std::sync::Arc<Semaphore>,
}

impl Guard {
    /// Builds the guard for a listener.
    pub fn new(checked: CheckedOptions) -> Self {
        let CheckedOptions { options, proxies } = checked;
        let limits = &options.limits;
        Self {
            identities: Identities::new(&options, proxies),
            rates: Rates::new(limits.requests_per_second, limits.burst),
            at_once: Semaphore::new(limits.requests_at_once),
            streams: std::sync::Arc::new(Semaphore::new(limits.streams)),
            options,
        }
    }

    /// The warning for operators about a listener that anybody can ask; `None` for any other.
    pub fn warning(&self) -> Option<&'static str> {
        let is_open = self.identities.is_open() && !self.options.listen.ip().is_loopback();
        is_open.then_some(
            "the HTTP listener can be reached from other machines and knows no clients: everybody may \
             read, nobody may operate; set server.access.tokens, or server.access.proxies behind a \
             proxy that authenticates",
        )
    }

    /// Limits of connections and requests.
    pub fn limits(&self) -> &LimitOptions {
        &self.options.limits
    }

    /// Path before all paths; empty for none.
    pub fn base_path(&self) -> &str {
        &self.options.base_path
    }

    /// Forgets clients that have not come for a while.
    pub fn forget_idle(&self) {
        self.rates.forget_idle();
    }

    /// True if a request may name this host, with or without a port.
    fn accepts_host(&self, host: &str) -> bool {
        let name = name_of_host(host);
        let is_address = name.parse::<std::net::IpAddr>().is_ok();
        let is_listed = |listed: &String| listed == "*" || listed.eq_ignore_ascii_case(name);
        is_address
            || name.eq_ignore_ascii_case("localhost")
            || self.options.hosts.iter().any(is_listed)
    }

    /// Takes one request of a client from its rate.
    fn take_turn(&self, client: &Client) -> Result<(), ApiError> {
        let Err(seconds) = self.rates.take_turn(client) else {
            return Ok(());
        };
        Err(ApiError::new(
            StatusCode::TOO_MANY_REQUESTS,
            format!(
                "more than {} requests per second",
                self.options.limits.requests_per_second
            ),
            "ask less often, or raise server.limits.requests_per_second",
        )
        .retry_after(seconds))
    }

    /// Checks whether a client may ask an endpoint.
    fn check_scope(&self, client: &Client, access: EndpointAccess) -> Result<(), ApiError> {
        let needed = match access {
            EndpointAccess::Everybody => return Ok(()),
            EndpointAccess::Client(scope) => scope,
        };
        let granted = match client {
            Client::Token { scope, .. } | Client::User { scope, .. } => Some(*scope),
            Client::Address(_) if !self.identities.is_open() => None,
            // Nobody is known here. What others can reach answers, and does nothing else.
            Client::Address(_) if self.options.listen.ip().is_loopback() => Some(Scope::Operate),
            Client::Address(_) => Some(Scope::Read),
        };
        match granted {
            None => Err(ApiError::new(
                StatusCode::UNAUTHORIZED,
                "this needs a client that is known",
                "send Authorization: Bearer with a token of server.access.tokens",
            )),
            Some(granted) if granted < needed => Err(ApiError::new(
                StatusCode::FORBIDDEN,
                format!("this needs scope {}", needed.name()),
                "use a token with this scope, or list the user in server.access.operators",
            )),
            Some(_) => Ok(()),
        }
    }
}

/// The host without its port and without the brackets of an IPv6 address.
fn name_of_host(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

/// Checks a request before it reaches any route: host, identity, rate, length of the query, requests
/// at once.
pub(crate) async fn admit(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let guard = &app.guard;
    let is_probe = matches!(request.uri().path(), "/healthz" | "/readyz");
    if !is_probe && let Err(refusal) = check_host(guard, &request) {
        return refusal.into_response();
    }
    let peer = request.extensions().get::<Peer>().copied();
    let client = match guard.identities.client(peer, request.headers()) {
        Ok(client) => client,
        Err(refusal) => return refusal.into_response(),
    };
    if !is_probe && let Err(refusal) = guard.take_turn(&client) {
        return refusal.into_response();
    }
    let query_bytes = request.uri().query().map_or(0, str::len);
    if query_bytes > guard.options.limits.query_bytes {
        return ApiError::new(
            StatusCode::URI_TOO_LONG,
            format!("the query has {query_bytes} bytes"),
            format!("it may have {}", guard.options.limits.query_bytes),
        )
        .into_response();
    }
    request.extensions_mut().insert(client);
    if is_probe {
        return next.run(request).await;
    }
    let Ok(_permit) = guard.at_once.try_acquire() else {
        return ApiError::unavailable(
            "too many requests are being answered",
            "ask again in a moment",
        )
        .retry_after(1)
        .into_response();
    };
    next.run(request).await
}

fn check_host(guard: &Guard, request: &Request) -> Result<(), ApiError> {
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri().host()).unwrap_or_default();
    if guard.accepts_host(host) {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::MISDIRECTED_REQUEST,
        format!(
            "the host \"{}\" is not one of this server",
            host.escape_debug()
        ),
        "if it is, add its name to server.hosts",
    ))
}

/// Checks the scope of a request and reads its body, within its bounds, before the handler of
/// `endpoint`; then audits operations.
pub(crate) async fn pass(
    State((app, endpoint)): State<(App, &'static Endpoint)>,
    request: Request,
    next: Next,
) -> Response {
    let client = request.extensions().get::<Client>().cloned();
    let client = client.unwrap_or(Client::UNKNOWN);
    let mut audit = AuditLine {
        endpoint,
        client: client.clone(),
        path: request.uri().path().to_owned(),
        status: CLIENT_LEFT,
    };
    let response = match pass_checked(&app.guard, endpoint, &client, request, next).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    };
    audit.status = response.status().as_u16();
    response
}

/// The status of a request whose client left before its answer: no standard has one, proxies write
/// this.
const CLIENT_LEFT: u16 = 499;

/// The audit line of a request, written when it is dropped: also that of a client that has left.
struct AuditLine {
    endpoint: &'static Endpoint,
    client: Client,
    path: String,
    status: u16,
}

impl Drop for AuditLine {
    fn drop(&mut self) {
        if self.endpoint.is_audited {
            let (client, method) = (&self.client, self.endpoint.verb.name());
            let (path, status) = (&self.path, self.status);
            tracing::info!(target: "audit", %client, method, path, status, "{}", self.endpoint.summary);
        }
    }
}

async fn pass_checked(
    guard: &Guard,
    endpoint: &'static Endpoint,
    client: &Client,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    guard.check_scope(client, endpoint.access)?;
    request.extensions_mut().insert(endpoint);
    let (parts, body) = request.into_parts();
    let body = match endpoint.body {
        Some(_) => read_body(guard, body).await?,
        // An answer without a question in the body never reads one.
        None => Body::empty(),
    };
    Ok(next.run(Request::from_parts(parts, body)).await)
}

async fn read_body(guard: &Guard, body: Body) -> Result<Body, ApiError> {
    let limits = &guard.options.limits;
    let patience = Duration::from_millis(limits.body_timeout_ms);
    match tokio::time::timeout(patience, to_bytes(body, limits.body_bytes)).await {
        Ok(Ok(bytes)) => Ok(Body::from(bytes)),
        Ok(Err(_)) => Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {} bytes", limits.body_bytes),
            "ask for less, or raise server.limits.body_bytes",
        )),
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not come in time",
            "send it at once, or raise server.limits.body_timeout",
        )),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("127.0.0.1:8080", true)]
    #[case("[::1]:8080", true)]
    #[case("LOCALHOST:8080", true)]
    #[case("scores.example.com", true)]
    #[case("Scores.example.com:443", true)]
    #[case("evil.example.com:8080", false)]
    #[case("scores.example.com.evil.org", false)]
    #[case("", false)]
    #[case("127.0.0.1.evil.org", false)]
    fn only_own_names_are_accepted_as_hosts(#[case] host: &str, #[case] accepted: bool) {
        let options = ServerOptions {
            hosts: vec!["scores.example.com".into()],
            ..ServerOptions::default()
        };
        let guard = Guard::new(options.checked().unwrap());
        assert_eq!(guard.accepts_host(host), accepted);
    }
}
