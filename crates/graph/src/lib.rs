//! Rows become cells, hubs, timers and the dirty set.
//!
//! Invariants: pure (time is an argument); one thread touches a shard at a time; event state commutes and links are never taken
//! back, so the graph is a function of the set of accepted rows (and, per key, the order of versions); nothing here knows of a model.
//!
//! A cell's features may read other cells in three ways: who stands for whom ([`Graph::survivor`]), who refers to its members
//! ([`Graph::incoming`]), and the outcomes of the cells its edges lead to ([`Graph::outcomes`]). A change of any of these marks it.

mod apply;
mod change;
mod graph;
mod ids;
mod invariants;
mod options;
mod read;
mod state;
mod who;

pub use apply::gate::RowOutcome;
pub use change::Tracking;
pub use change::reasons::Reasons;
pub use graph::Graph;
pub use ids::{CellRef, EntityId};
pub use invariants::BrokenInvariant;
pub use options::{DAY_MS, GraphOptions, GraphOptionsError};
pub use read::deals::DealOutcomes;
pub use read::image::{Image, NodeImage};
pub use read::population::EntityView;
pub use read::stats::{GraphSize, IdentityStats};
pub use state::cell::{Cell, HubContribution, StateRules};
pub use state::days::DayBuckets;
pub use state::decay::{Bank, Landmark};
pub use state::events::{EventState, Newest, StagedEvent};
pub use state::hubs::{HubSums, Hubs};
pub use state::layout::{
    EntityLayout, EventLayout, EventSlot, SlotKind, StateLayout, signed_log1p,
};
pub use state::node::{Node, Recent};
pub use state::tally::{DecayedTally, Mention, Touch};
pub use who::directory::{Directory, Namespace, NodePlace};
pub use who::domains::{Domains, registrable_domain};
pub use who::edges::{Edge, Edges};
pub use who::owner_of;
