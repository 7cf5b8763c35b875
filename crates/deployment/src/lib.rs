//! A configuration becomes ports, machine and server, running.

mod config;
mod wiring;

pub use config::{Config, Loaded, SourceConfig, TaskConfig};
pub use wiring::{
    Cluster, Deployment, SystemClock, WithinLimit, auditor, create_missing, schema_store,
    stop_on_signal,
};
