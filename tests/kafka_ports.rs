//! The engine's ports on a real cluster.

mod harness;
mod ports_on_kafka;
