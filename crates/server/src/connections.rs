//! Connections: taken within limits, each with time limits of its own.
//!
//! A connection beyond the limits is closed at once, so that waiting ones do not pile up. A head of a
//! request that does not come, and an answer that is not taken, close theirs.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Uri, header, uri::PathAndQuery};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

use crate::api::no_such_path;
use crate::guard::{Peer, network_of};
use crate::metrics::HttpMetrics;
use crate::options::LimitOptions;

/// Longest head of a request, bytes.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// Headers of a request, at most.
const MAX_HEADERS: usize = 64;
/// Pause after the operating system gave no connection: it has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Limits of connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    all: usize,
    of_an_address: usize,
    head: Duration,
    write: Duration,
}

impl ConnectionLimits {
    pub fn of(options: &LimitOptions) -> Self {
        Self {
            all: options.connections,
            of_an_address: options.connections_per_address,
            head: Duration::from_millis(options.head_timeout_ms),
            write: Duration::from_millis(options.write_timeout_ms),
        }
    }
}

/// The connections of a listener.
pub(crate) struct Connections {
    limits: ConnectionLimits,
    base_path: Arc<str>,
    open: Arc<Mutex<OpenConnections>>,
    metrics: HttpMetrics,
}

/// Numbers of open connections.
#[derive(Debug, Default)]
struct OpenConnections {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The place of one connection among the open ones, until it is dropped.
struct ConnectionSeat {
    address: IpAddr,
    open: Arc<Mutex<OpenConnections>>,
}

impl Connections {
    pub fn new(limits: ConnectionLimits, base_path: String, metrics: HttpMetrics) -> Self {
        Self {
            limits,
            base_path: base_path.into(),
            open: Arc::default(),
            metrics,
        }
    }

    /// Takes connections until `stopped`, then waits for the requests under way.
    pub async fn serve(
        self,
        listener: TcpListener,
        router: Router,
        stopped: impl Future<Output = ()>,
    ) {
        let graceful = GracefulShutdown::new();
        let mut stopped = std::pin::pin!(stopped);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut stopped => break,
            };
            match accepted {
                Ok((stream, peer)) => self.take(stream, peer, &router, &graceful),
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        graceful.shutdown().await;
    }

    fn take(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        router: &Router,
        graceful: &GracefulShutdown,
    ) {
        let Some(seat) = self.seat(peer.ip()) else {
            self.metrics.count_refused_connection();
            return;
        };
        // Without it answers in two parts wait for an acknowledgement of the first.
        let _as_it_was: io::Result<()> = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.limits.write));
        let base_path = self.base_path.clone();
        let router = router.clone();
        let service =
            service_fn(move |request| answer(request, peer, base_path.clone(), router.clone()));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(Box::pin(stream)), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            let _seat = seat;
            if let Err(error) = connection.await {
                tracing::debug!(%peer, %error, "a connection ended");
            }
        });
    }

    /// Takes a seat, if one is left.
    fn seat(&self, address: IpAddr) -> Option<ConnectionSeat> {
        let address = network_of(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = open.by_address.get(&address).copied().unwrap_or_default();
        if open.all >= self.limits.all || of_address >= self.limits.of_an_address {
            return None;
        }
        open.all += 1;
        open.by_address.insert(address, of_address + 1);
        self.metrics.set_connections(open.all);
        Some(ConnectionSeat {
            address,
            open: self.open.clone(),
        })
    }
}

impl Drop for ConnectionSeat {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all -= 1;
        if let Some(count) = open.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

/// Answers a request below the base path.
async fn answer(
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
    base_path: Arc<str>,
    router: Router,
) -> Result<Response, std::convert::Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(Peer(peer));
    if !base_path.is_empty() {
        match below(request.uri(), &base_path) {
            Below::Path(uri) => *request.uri_mut() = uri,
            Below::Itself => {
                let to = [(header::LOCATION, format!("{base_path}/"))];
                return Ok((axum::http::StatusCode::PERMANENT_REDIRECT, to).into_response());
            }
            Below::Elsewhere => return Ok(no_such_path().await.into_response()),
        }
    }
    router.oneshot(request).await
}

/// The place of a path relative to the base path.
enum Below {
    /// Below it: the address without it.
    Path(Uri),
    Itself,
    Elsewhere,
}

fn below(uri: &Uri, base_path: &str) -> Below {
    let path_and_query = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let Some(rest) = path_and_query.strip_prefix(base_path) else {
        return Below::Elsewhere;
    };
    match rest.parse() {
        _ if rest.is_empty() => Below::Itself,
        Ok(uri) if rest.starts_with('/') => Below::Path(uri),
        _ => Below::Elsewhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_below(path: &str) -> Option<String> {
        match below(&path.parse().unwrap(), "/lead") {
            Below::Path(uri) => Some(uri.to_string()),
            Below::Itself => Some("itself".into()),
            Below::Elsewhere => None,
        }
    }

    #[test]
    fn a_base_path_is_a_whole_part_of_a_path() {
        assert_eq!(path_below("/lead/api?x=1").as_deref(), Some("/api?x=1"));
        assert_eq!(path_below("/lead/").as_deref(), Some("/"));
        assert_eq!(path_below("/lead").as_deref(), Some("itself"));
        assert_eq!(path_below("/leads/api"), None);
        assert_eq!(path_below("/"), None);
    }

    #[test]
    fn seats_are_limited_in_all_and_by_address() {
        let options = LimitOptions {
            connections: 3,
            connections_per_address: 2,
            ..LimitOptions::default()
        };
        let metrics = HttpMetrics::register(&prometheus::Registry::new()).unwrap();
        let limits = ConnectionLimits::of(&options);
        let connections = Connections::new(limits, String::new(), metrics);
        let seat = |address: &str| connections.seat(address.parse().unwrap());
        let (first, _second) = (seat("10.0.0.1"), seat("10.0.0.1"));
        assert!(first.is_some() && seat("10.0.0.1").is_none());
        let third = seat("2001:db8::1");
        assert!(third.is_some());
        assert!(seat("10.0.0.2").is_none(), "all are taken");
        drop(first);
        let again = seat("2001:db8::2");
        assert!(again.is_some(), "there is room again");
        drop(third);
        assert!(seat("2001:db8::3").is_some());
        let open = connections.open.lock().unwrap();
        assert_eq!(open.by_address.len(), 2, "one network of IPv6: {open:?}");
    }
}
