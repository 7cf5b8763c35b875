//! Options of the server, and its errors.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use leadpulse_schema::units::as_span;

/// Options of the server, as in the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerOptions {
    /// Address and port. Port 0 takes any free one. There is no authentication: an address that
    /// others can reach belongs behind a proxy.
    pub listen: SocketAddr,
    /// Longest silence of the engine's loop before `/healthz` fails, milliseconds.
    #[serde(
        rename = "heartbeat_timeout",
        alias = "heartbeat_timeout_ms",
        with = "as_span::ms"
    )]
    pub heartbeat_timeout_ms: u64,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            heartbeat_timeout_ms: 30_000,
        }
    }
}

/// Failure to start the server, or to run it to its end.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be bound.
    #[error(
        "cannot listen on {listen}: {source}; is another process using the port? Choose another one with server.listen"
    )]
    Listen {
        /// Address from the configuration.
        listen: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The operating system gave no threads.
    #[error("cannot start the HTTP threads: {0}; check the process's limits")]
    Threads(#[source] io::Error),
    /// The registry has metrics of another server already.
    #[error("cannot register the HTTP metrics: {0}; give each server a registry of its own")]
    Metrics(#[from] prometheus::Error),
    /// The server ended by itself.
    #[error("the HTTP server ended: {0}")]
    Ended(#[source] io::Error),
    /// The server's thread panicked.
    #[error("the HTTP server panicked; the message is in the log")]
    Panicked,
}
