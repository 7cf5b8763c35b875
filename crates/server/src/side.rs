//! Listeners beside the API: the same limits of connections, routes of their own.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use tokio::sync::watch;

use crate::api::answer::{ApiError, set_headers};
use crate::connections::{ConnectionLimits, Connections};
use crate::metrics::{HttpMetrics, measure};
use crate::options::{LimitOptions, ServerError};
use crate::service::{Handle, STOP_GRACE, until_stopped};

/// Threads of a listener.
const THREADS: usize = 2;

/// Starts to listen, and answers from then on. An address comes with its setting, for errors.
///
/// # Errors
/// If the address is taken or no thread can be started.
pub(crate) fn start(
    (listen, setting): (SocketAddr, &'static str),
    limits: &LimitOptions,
    router: Router,
    metrics: HttpMetrics,
) -> Result<Handle, ServerError> {
    let listen_error = |source| ServerError::Listen {
        listen,
        setting,
        source,
    };
    let listener = TcpListener::bind(listen).map_err(listen_error)?;
    listener.set_nonblocking(true).map_err(listen_error)?;
    let address = listener.local_addr().map_err(listen_error)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("leadpulse-http")
        .enable_all()
        .build()
        .map_err(ServerError::Threads)?;
    let router = router
        .fallback(no_such_path)
        .layer(from_fn_with_state(metrics.clone(), measure))
        .layer(from_fn(set_headers));
    let connections = Connections::new(ConnectionLimits::of(limits), String::new(), metrics);
    let (stop, stopped) = watch::channel(false);
    let thread = thread::Builder::new()
        .name("leadpulse-http".to_owned())
        .spawn(move || {
            let ended = runtime.block_on(run(listener, connections, router, stopped));
            runtime.shutdown_timeout(Duration::ZERO);
            ended
        })
        .map_err(ServerError::Threads)?;
    tracing::info!(%address, "HTTP server listens");
    Ok(Handle::new(address, stop, thread))
}

async fn run(
    listener: TcpListener,
    connections: Connections,
    router: Router,
    stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let end = async {
        until_stopped(stopped.clone()).await;
        tokio::time::sleep(STOP_GRACE).await;
    };
    tokio::select! {
        () = connections.serve(listener, router, until_stopped(stopped.clone())) => {}
        () = end => {}
    }
    Ok(())
}

async fn no_such_path() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "there is nothing at this path",
        "probes are at /healthz and /readyz, metrics at /metrics",
    )
}
