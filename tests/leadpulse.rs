//! The `leadpulse` program from end to end: what its commands say, and what it writes to real Kafka, whatever happens to it on the way.

#![allow(
    clippy::unwrap_used,
    reason = "clippy knows tests, but not their helpers"
)]

mod harness;
#[allow(dead_code, reason = "the tests of the ports use more of it")]
mod proxy;

mod leadpulse {
    mod bad_input;
    mod behaviours;
    mod brokers;
    mod checks;
    mod commands;
    mod dataset;
    mod exact;
    mod interleaving;
    mod kills;
    mod load;
    mod network;
    mod paused;
    mod process;
    mod questions;
    mod run_to_end;
    mod scenario;
    mod script;
}
