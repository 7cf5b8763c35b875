//! Listeners beside the API: the same limits of connections, routes of their own.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use tokio::sync::watch;

use crate::api::answer::{ApiError, set_headers};
use crate::connections::{ConnectionLimits, Connections};
use crate::metrics::{HttpMetrics, measure};
use crate::options::{LimitOptions, ServerError};
use crate::service::{Handle, STOP_GRACE, until_stopped};

/// Threads of a listener: two serve thousands of clients.
const THREADS: usize = 2;

/// A bound address that nobody is answered at yet.
pub(crate) struct Listener {
    listener: TcpListener,
    /// The address, with its port.
    pub address: SocketAddr,
}

impl Listener {
    /// Binds the address of a setting.
    ///
    /// # Errors
    /// If it is taken.
    pub fn bind(listen: SocketAddr, setting: &'static str) -> Result<Self, ServerError> {
        let error = |source| ServerError::Listen {
            listen,
            setting,
            source,
        };
        let listener = TcpListener::bind(listen).map_err(error)?;
        listener.set_nonblocking(true).map_err(error)?;
        let address = listener.local_addr().map_err(error)?;
        Ok(Self { listener, address })
    }

    /// Serves on threads of its own until the handle stops it. `blocking` is the most threads that
    /// wait or compose.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn serve<F>(
        self,
        blocking: Option<usize>,
        run: impl FnOnce(tokio::net::TcpListener, watch::Receiver<bool>) -> F + Send + 'static,
    ) -> Result<Handle, ServerError>
    where
        F: Future<Output = io::Result<()>>,
    {
        let Self { listener, address } = self;
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime
            .worker_threads(THREADS)
            .thread_name("leadpulse-http")
            .enable_all();
        if let Some(threads) = blocking {
            runtime.max_blocking_threads(threads);
        }
        let runtime = runtime.build().map_err(ServerError::Threads)?;
        let (stop, stopped) = watch::channel(false);
        let thread = thread::Builder::new()
            .name("leadpulse-http".to_owned())
            .spawn(move || {
                let ended = runtime.block_on(async {
                    run(tokio::net::TcpListener::from_std(listener)?, stopped).await
                });
                // What is being computed keeps nobody waiting.
                runtime.shutdown_background();
                ended
            })
            .map_err(ServerError::Threads)?;
        tracing::info!(%address, "HTTP server listens");
        Ok(Handle::new(address, stop, thread))
    }
}

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
    let listener = Listener::bind(listen, setting)?;
    let router = router
        .fallback(no_such_path)
        .layer(from_fn_with_state(metrics.clone(), measure))
        .layer(from_fn(set_headers));
    let connections = Connections::new(ConnectionLimits::of(limits), String::new(), metrics);
    listener.serve(None, move |listener, stopped| {
        run(listener, connections, router, stopped)
    })
}

async fn run(
    listener: tokio::net::TcpListener,
    connections: Connections,
    router: Router,
    stopped: watch::Receiver<bool>,
) -> io::Result<()> {
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
