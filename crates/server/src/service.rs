//! Starts the server on threads of its own, and stops it.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use tokio::sync::watch;

use crate::api::answer::set_headers;
use crate::health::Heartbeat;
use crate::metrics::{HttpMetrics, measure};
use crate::options::{ServerError, ServerOptions};
use crate::state::ServerState;
use crate::{api, console};

/// Answers come from memory; two threads serve thousands of clients.
const THREADS: usize = 2;
/// Interval of readings of the engine's heartbeat between probes.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Longest time that requests under way may take when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// State of all handlers.
pub(crate) type App = Arc<ServerShared>;

pub(crate) struct ServerShared {
    pub state: ServerState,
    pub heartbeat: Heartbeat,
    pub heartbeat_timeout_ms: u64,
    /// Random number of this process, for entity tags.
    pub process: u64,
}

/// A running server. Dropping it stops the server too, without waiting.
#[derive(Debug)]
pub struct Handle {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: JoinHandle<io::Result<()>>,
}

impl Handle {
    /// Address that the server listens on, with its port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, lets those under way end (2 s at most), and ends.
    ///
    /// # Errors
    /// If the server had ended before, with the cause.
    pub fn stop(self) -> Result<(), ServerError> {
        self.stop.send_replace(true);
        self.thread
            .join()
            .map_err(|_| ServerError::Panicked)?
            .map_err(ServerError::Ended)
    }
}

/// Starts to listen, and answers from then on.
///
/// # Errors
/// If the address is taken, the registry already has the server's metrics, or no thread can be
/// started.
pub fn serve(options: &ServerOptions, state: ServerState) -> Result<Handle, ServerError> {
    let listen_error = |source| ServerError::Listen {
        listen: options.listen,
        source,
    };
    let metrics = HttpMetrics::register(&state.registry)?;
    let listener = TcpListener::bind(options.listen).map_err(listen_error)?;
    listener.set_nonblocking(true).map_err(listen_error)?;
    let address = listener.local_addr().map_err(listen_error)?;

    let app = Arc::new(ServerShared {
        heartbeat: Heartbeat::new(state.read_model.beats(), Instant::now()),
        heartbeat_timeout_ms: options.heartbeat_timeout_ms,
        process: RandomState::new().hash_one(address),
        state,
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("leadpulse-http")
        .enable_all()
        .build()
        .map_err(ServerError::Threads)?;
    let (stop, stopped) = watch::channel(false);
    let thread = thread::Builder::new()
        .name("leadpulse-http".to_owned())
        .spawn(move || runtime.block_on(run(listener, app, metrics, stopped)))
        .map_err(ServerError::Threads)?;
    tracing::info!(%address, "HTTP server listens");
    Ok(Handle {
        address,
        stop,
        thread,
    })
}

async fn run(
    listener: TcpListener,
    app: App,
    metrics: HttpMetrics,
    stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let serving = axum::serve(listener, router(app.clone(), metrics))
        .with_graceful_shutdown(until_stopped(stopped.clone()));
    tokio::select! {
        result = serving => result,
        () = watch_heartbeat(app) => Ok(()),
        () = async { until_stopped(stopped).await; tokio::time::sleep(STOP_GRACE).await } => Ok(()),
    }
}

/// Waits until the handle stops the server or is dropped.
async fn until_stopped(mut stopped: watch::Receiver<bool>) {
    let _gone = stopped.wait_for(|stopped| *stopped).await;
}

/// Reads the counter regularly, so that a probe after a long pause gets the time of the last
/// change, not merely a change since the probe before.
async fn watch_heartbeat(app: App) {
    let mut interval = tokio::time::interval(HEARTBEAT_INTERVAL);
    loop {
        interval.tick().await;
        app.heartbeat
            .age(app.state.read_model.beats(), Instant::now());
    }
}

fn router(app: App, metrics: HttpMetrics) -> Router {
    console::routes()
        .route("/api/v1/scores", get(api::scores))
        .route("/api/v1/alerts", get(api::alerts))
        .route("/api/v1/alerts/simulate", post(api::simulate))
        .route("/api/v1/worklist", get(api::worklist))
        .route("/api/v1/feedback", get(api::feedback))
        .route("/api/v1/dead-letters", get(api::dead_letters))
        .route("/api/v1/status", get(api::status))
        .route("/api/v1/{table}/{id}", get(api::entity))
        .route("/api/v1/{table}/{id}/explanation", get(api::explanation))
        .route("/metrics", get(api::metrics))
        .route("/healthz", get(api::healthz))
        .route("/readyz", get(api::readyz))
        .route("/version", get(api::version))
        .method_not_allowed_fallback(api::no_such_method)
        .fallback(api::no_such_path)
        .layer(from_fn_with_state(metrics, measure))
        .layer(from_fn(set_headers))
        .with_state(app)
}

#[cfg(test)]
mod tests;
