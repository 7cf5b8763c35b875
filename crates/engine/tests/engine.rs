//! The epoch machine from bytes to committed records, with ports in memory: no Kafka, no sleeping, every random choice from a printed seed.

#![allow(
    clippy::unwrap_used,
    reason = "clippy knows tests, but not their helpers"
)]

mod engine {
    mod bad_input;
    mod broker;
    mod chaos;
    mod decisions;
    mod driven;
    mod emission;
    mod erasure;
    mod exactly_once;
    mod explanations;
    mod headers;
    mod market;
    mod memory_store;
    mod moves;
    mod questions;
    mod releases;
    mod restart;
    mod rig;
    mod scorer;
    mod standby;
    mod stops;
    mod stored;
    mod swaps;
    mod ticks;
    mod what_if;
    mod work;
    mod worklists;
}
