//! The `leadpulse` program from end to end: the output of its commands, and its records on real
//! Kafka under faults.

#![allow(
    clippy::unwrap_used,
    reason = "clippy knows tests, but not their helpers"
)]

mod harness;
#[allow(dead_code, reason = "the tests of the ports use more of it")]
mod proxy;
mod receiver;

mod leadpulse {
    mod alert_journey;
    mod bad_input;
    mod behaviours;
    mod brokers;
    mod checks;
    mod commands;
    mod connect;
    mod dataset;
    mod dead_letters;
    mod deliver;
    mod disk;
    mod erasure;
    mod exact;
    mod inferred;
    mod ingest;
    mod interleaving;
    mod kills;
    mod load;
    mod network;
    mod paused;
    mod process;
    mod questions;
    mod registry_away;
    mod retention;
    mod routers;
    mod run_to_end;
    mod scenario;
    mod script;
    mod secure;
    mod shapes;
    mod shim;
    mod staged;
    mod standby;
    mod topics_change;
}
