//! The engine's ports on a real cluster.

mod harness;
mod owners_on_kafka;
mod ports_on_kafka;
