//! Rows become cells, hubs, timers and the dirty set.
//!
//! Invariants: pure (time is an argument); one thread touches a shard at a time; event state commutes, so the graph is a function
//! of the set of accepted rows (and, per key, the order of versions); nothing here knows of a model.

mod cell;
mod days;
mod decay;
mod dedupe;
mod directory;
mod events;
mod graph;
mod hubs;
mod image;
mod layout;
mod options;

pub use cell::{Cell, CellRef, Contribution, EntityId, EntityView, Node, Reasons, Recent, Shared, Touch};
pub use days::DayBuckets;
pub use decay::{Bank, Landmark};
pub use dedupe::Outcome;
pub use directory::{Directory, Namespace, Place};
pub use events::{EventState, Newest, Staged, order_reached};
pub use graph::{Graph, GraphSize, Tracking, owner_of};
pub use hubs::{HubSums, Hubs};
pub use image::{Image, NodeImage};
pub use layout::{EventLayout, Slot, SlotKind, StateLayout, signed_log1p};
pub use options::{DAY_MS, GraphOptions, GraphOptionsError};
