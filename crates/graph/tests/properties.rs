//! Properties of the graph on random streams: against a naive oracle, and against itself reached on other ways.

#[path = "properties/gate.rs"]
mod gate;
#[path = "properties/invariance.rs"]
mod invariance;
#[path = "properties/market.rs"]
mod market;
#[path = "properties/oracle.rs"]
mod oracle;
#[path = "properties/state.rs"]
mod state;
#[path = "properties/timers.rs"]
mod timers;
