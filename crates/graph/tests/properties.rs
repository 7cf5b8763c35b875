//! Properties of the graph on random streams: against a naive oracle, and against itself reached
//! on other ways.

#![allow(clippy::unwrap_used, reason = "what is missing here fails a test")]

#[path = "properties/erasure.rs"]
mod erasure;
#[path = "properties/gate.rs"]
mod gate;
#[path = "properties/hub_rows.rs"]
mod hub_rows;
#[path = "properties/identities.rs"]
mod identities;
#[path = "properties/invariance.rs"]
mod invariance;
#[path = "properties/market.rs"]
mod market;
#[path = "properties/oracle.rs"]
mod oracle;
#[path = "properties/state.rs"]
mod state;
#[path = "properties/stored.rs"]
mod stored;
#[path = "properties/ticks.rs"]
mod ticks;
#[path = "properties/timers.rs"]
mod timers;
#[path = "properties/tracker.rs"]
mod tracker;
#[path = "properties/versions.rs"]
mod versions;
