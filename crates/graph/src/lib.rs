//! Rows become cells, hubs, timers and the dirty set.
//!
//! Invariants: pure (time is an argument); one thread touches a shard at a time; event state commutes and links are never taken
//! back, so the graph is a function of the set of accepted rows (and, per key, the order of versions); nothing here knows of a model.
//!
//! A cell's features may read other cells in three ways: who stands for whom ([`Graph::survivor`]), who refers to its members
//! ([`Graph::incoming`]), and the outcomes of the cells its edges lead to ([`Graph::outcomes`]). A change of any of these marks it.

mod cell;
mod days;
mod decay;
mod dedupe;
mod directory;
mod domains;
mod events;
mod graph;
mod hubs;
mod identity;
mod image;
mod layout;
mod matching;
mod merge;
mod node;
mod options;
mod places;
mod readings;
mod relations;
mod resolve;
mod shard;
mod tally;

pub use cell::{Cell, CellRef, Contribution, EntityId, EntityView, Reasons, Shared};
pub use days::DayBuckets;
pub use decay::{Bank, Landmark};
pub use dedupe::Outcome;
pub use directory::{Directory, Namespace, Place};
pub use domains::{Domains, registrable_domain};
pub use events::{EventState, Newest, Staged};
pub use graph::{Graph, GraphSize, Tracking, owner_of};
pub use hubs::{HubSums, Hubs};
pub use image::{Image, NodeImage};
pub use layout::{EntityLayout, EventLayout, Slot, SlotKind, StateLayout, signed_log1p};
pub use node::{Node, Recent};
pub use options::{DAY_MS, GraphOptions, GraphOptionsError};
pub use readings::{IdentityStats, Outcomes};
pub use relations::{Edge, Edges};
pub use tally::{Mention, Tally, Touch};
