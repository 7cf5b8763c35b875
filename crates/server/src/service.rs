//! Starts the server on threads of its own, and stops it.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use tokio::sync::watch;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;

use crate::api::answer::set_headers;
use crate::connections::{ConnectionLimits, Connections};
use crate::guard::{Guard, admit};
use crate::health::Heartbeat;
use crate::metrics::{HttpMetrics, measure};
use crate::options::{ServerError, ServerOptions};
use crate::side::Listener;
use crate::state::ServerState;
use crate::{api, console};

/// Threads that compose lists. Greedy clients wait for each other here, and the engine keeps the
/// other processors.
const COMPOSING_THREADS: usize = 2;
/// Interval of readings of the engine's heartbeat between probes.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Interval of looks for a new publication, for streams of events. The engine calls nobody.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Looks between two clean-ups of the rates of clients that are gone.
const LOOKS_A_CLEAN_UP: u32 = 1200;
/// Longest time that requests under way may take when the server stops.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(2);
/// Effort of compression: above it, time grows faster than bytes shrink.
const COMPRESSION: CompressionLevel = CompressionLevel::Precise(4);

/// State of all handlers.
pub(crate) type App = Arc<ServerShared>;

pub(crate) struct ServerShared {
    pub state: ServerState,
    pub guard: Guard,
    pub heartbeat: Heartbeat,
    pub heartbeat_timeout_ms: u64,
    /// Number of the newest publication; `None` once the server stops.
    pub newest: watch::Sender<Option<u64>>,
    /// Random number of this process, for entity tags and ids of events.
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
    pub(crate) fn new(
        address: SocketAddr,
        stop: watch::Sender<bool>,
        thread: JoinHandle<io::Result<()>>,
    ) -> Self {
        Self {
            address,
            stop,
            thread,
        }
    }

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
/// If a setting cannot be used, the address is taken, the registry already has the server's metrics,
/// or no thread can be started.
pub fn serve(options: &ServerOptions, state: ServerState) -> Result<Handle, ServerError> {
    let checked = options.checked()?;
    let metrics = HttpMetrics::register(&state.registry)?;
    metrics.routes_at_zero(api::paths());
    let listener = Listener::bind(options.listen, "server.listen")?;

    let guard = Guard::new(checked);
    if let Some(warning) = guard.warning() {
        tracing::warn!("{warning}");
    }
    let app = Arc::new(ServerShared {
        heartbeat: Heartbeat::new(state.read_model.beats(), Instant::now()),
        heartbeat_timeout_ms: options.heartbeat_timeout_ms,
        process: RandomState::new().hash_one(listener.address),
        newest: watch::Sender::new(Some(0)),
        guard,
        state,
    });
    let connections = Connections::new(
        ConnectionLimits::of(&options.limits),
        options.base_path.clone(),
        metrics.clone(),
    );
    listener.serve(Some(COMPOSING_THREADS), move |listener, stopped| {
        run(listener, app, connections, metrics, stopped)
    })
}

async fn run(
    listener: tokio::net::TcpListener,
    app: App,
    connections: Connections,
    metrics: HttpMetrics,
    stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let router = router(&app, metrics);
    let end = async {
        until_stopped(stopped.clone()).await;
        app.newest.send_replace(None);
        tokio::time::sleep(STOP_GRACE).await;
    };
    tokio::select! {
        () = connections.serve(listener, router, until_stopped(stopped.clone())) => {}
        () = watch_heartbeat(&app) => {}
        () = watch_publications(&app) => {}
        () = end => {}
    }
    Ok(())
}

/// Waits until the handle stops the server or is dropped.
pub(crate) async fn until_stopped(mut stopped: watch::Receiver<bool>) {
    let _gone = stopped.wait_for(|stopped| *stopped).await;
}

/// Reads the counter regularly, so that a probe after a long pause gets the time of the last
/// change, not merely a change since the probe before.
async fn watch_heartbeat(app: &App) {
    let mut interval = tokio::time::interval(HEARTBEAT_INTERVAL);
    loop {
        interval.tick().await;
        app.heartbeat
            .age(app.state.read_model.beats(), Instant::now());
    }
}

/// Looks for new publications and wakes the streams of events. Now and then it forgets the rates of
/// clients that are gone.
async fn watch_publications(app: &App) {
    let mut interval = tokio::time::interval(LOOK_INTERVAL);
    let mut looks: u32 = 0;
    loop {
        interval.tick().await;
        let newest = app.state.read_model.changes().newest();
        app.newest.send_if_modified(|known| {
            let is_new = known.is_some_and(|known| known != newest);
            if is_new {
                *known = Some(newest);
            }
            is_new
        });
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(LOOKS_A_CLEAN_UP) {
            app.guard.forget_idle();
        }
    }
}

fn router(app: &App, metrics: HttpMetrics) -> Router {
    api::add_routes(console::routes(), app)
        .method_not_allowed_fallback(api::no_such_method)
        .fallback(api::no_such_path)
        .layer(from_fn_with_state(app.clone(), admit))
        .layer(CompressionLayer::new().quality(COMPRESSION))
        .layer(from_fn_with_state(metrics, measure))
        .layer(from_fn(set_headers))
        .with_state(app.clone())
}

#[cfg(test)]
mod tests;
