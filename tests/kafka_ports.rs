//! The engine's ports on a real cluster.

mod harness;
mod late_requests;
mod ports_on_kafka;
mod proxy;
