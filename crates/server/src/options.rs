//! Where to listen, and what can go wrong on the way.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// How the server runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerOptions {
    /// Address and port. Port 0 takes any free one. There is no authentication: an address that others can reach belongs behind a proxy.
    pub listen: SocketAddr,
    /// `/healthz` fails once the engine's loop has not come round for this long, milliseconds.
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

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be had.
    #[error(
        "cannot listen on {listen}: {source}; is another process using the port? Choose another one with server.listen"
    )]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// The system's word.
        source: io::Error,
    },
    /// The system gave no threads.
    #[error("cannot start the HTTP threads: {0}; check the process's limits")]
    Threads(#[source] io::Error),
    /// The registry has these metrics already.
    #[error("cannot register the HTTP metrics: {0}; give each server a registry of its own")]
    Metrics(#[from] prometheus::Error),
    /// It ended by itself.
    #[error("the HTTP server ended: {0}")]
    Ended(#[source] io::Error),
    /// A thread panicked.
    #[error("the HTTP server panicked; the message is in the log")]
    Panicked,
}
