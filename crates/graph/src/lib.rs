//! Rows become cells, hubs, timers and the dirty set.
//!
//! # Invariants
//!
//! The crate is pure: time is an argument. One thread touches a shard at a time. Event state
//! commutes and links are never taken back, so the graph is a function of the set of accepted rows
//! (and, per key, of the order of versions). Nothing here knows of a model.
//!
//! # Rooms
//!
//! | room | matter | uses |
//! |---|---|---|
//! | `who` | keys, links, domains, edges, homes | |
//! | `state` | cells, nodes, decayed sums, hubs | `who` |
//! | `change` | effects, dirty and soft-dirty cells, timers, boards | `state`, `who` |
//! | `apply` | admission, versions, moves, merges, events | `change` for effects, `state`, `who` |
//! | `graph` | the public entry | all above |
//! | `read` | answers | `graph`, `state`, `who` |
//! | `encoding` | forms of fields in stored state | |
//! | `stored` | all state as one value that can be written and read | all above |
//! | `trial` | a graph with rows that never came, above one that does not change | all above |
//!
//! # Reading across cells
//!
//! A cell's features may read other cells in three ways: the survivor of an entity
//! ([`Graph::survivor`]), the entities that refer to its members ([`Graph::incoming`]), and the
//! ends of deals in the cells that its edges lead to ([`Graph::outcomes`]). A change of any of
//! these marks the cell. All cells read the ages of sources ([`Graph::source_times`]), as of a
//! board.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//!
//! use leadpulse_graph::{Graph, GraphOptions, RowOutcome, Tracking};
//! use leadpulse_schema::units::AsOf;
//! use leadpulse_schema::{Catalog, Operation, Position, RowBatch, Value};
//!
//! let accounts = r#"{"type": "record", "name": "Account",
//!   "leadpulse": {"table": "accounts", "role": "root"}, "fields": [
//!     {"name": "id", "type": "string", "leadpulse": {"key": true}}]}"#;
//! let visits = r#"{"type": "record", "name": "Visit",
//!   "leadpulse": {"table": "visits", "role": "event"}, "fields": [
//!     {"name": "id", "type": "string", "leadpulse": {"key": true}},
//!     {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"},
//!      "leadpulse": {"time": true}},
//!     {"name": "account", "type": "string", "leadpulse": {"ref": "accounts", "owner": true}}]}"#;
//! let files = [("accounts.avsc".to_owned(), accounts), ("visits.avsc".to_owned(), visits)];
//! let catalog = Arc::new(Catalog::from_json(&files).expect("the schemas are sound"));
//! let options = GraphOptions::default().validated().expect("defaults are in range");
//! let mut graph = Graph::new(catalog.clone(), options, Vec::new(), Tracking::On);
//!
//! // One visit to an account that has no row of its own yet.
//! let visits = catalog.table("visits").expect("the catalog has the table");
//! let at_ms = 1_709_251_200_000;
//! let position = Position { partition: 0, offset: 0 };
//! let mut batch = RowBatch::new();
//! let mut row = batch.start(&catalog, visits.id, Operation::Upsert, position, at_ms);
//! for (name, value) in [
//!     ("id", Value::Text("v1")),
//!     ("at", Value::Time(at_ms)),
//!     ("account", Value::Text("acme")),
//! ] {
//!     row.set(visits.field(name).expect("the table has the field").id, value);
//! }
//! row.finish();
//!
//! assert_eq!(graph.apply(&batch, None), [RowOutcome::Accepted]);
//! assert_eq!(graph.apply(&batch, None), [RowOutcome::Duplicate]);
//! graph.advance(AsOf::from_ms(at_ms));
//!
//! let accounts = catalog.table("accounts").expect("the catalog has the table");
//! let (cell, account) = graph.find(accounts.id, "acme").expect("the visit named the account");
//! assert!(!account.is_known() && graph.exists(account));
//! assert_eq!(account.newest_event_ms(), Some(at_ms));
//! let dirty = graph.take_dirty(0);
//! assert_eq!(dirty.len(), 1);
//! assert_eq!(dirty[0].0, cell);
//! ```

mod apply;
mod change;
mod encoding;
mod graph;
mod ids;
mod invariants;
mod options;
pub mod pieces;
mod read;
mod state;
mod stored;
mod trial;
mod who;

pub use apply::erase::ErasedRows;
pub use apply::outcome::RowOutcome;
pub use change::Tracking;
pub use change::dirty::TakeLimit;
pub use change::reasons::Reasons;
pub use encoding::StoredGraphError;
pub use graph::Graph;
pub use ids::{CellRef, EntityId};
pub use invariants::BrokenInvariant;
pub use options::{DAY_MS, GraphOptions, GraphOptionsError};
pub use pieces::{PieceError, Pieces, Which};
pub use read::deals::DealOutcomes;
pub use read::image::{Image, NodeImage};
pub use read::persons::Persons;
pub use read::population::EntityView;
pub use read::stats::{GraphSize, IdentityStats, Outsiders, SharedDomain};
pub use state::cell::{Cell, HubContribution, StateRules};
pub use state::days::DayBuckets;
pub use state::decay::{Bank, Landmark};
pub use state::events::{EventState, Newest, Occurrence, StagedEvent};
pub use state::hubs::{HubSums, Hubs};
pub use state::layout::{
    EntityLayout, EventLayout, EventSlot, SlotKind, StateLayout, signed_log1p,
};
pub use state::node::{EngagementTraces, EngagingEvent, Node, Recent};
pub use state::nodes::{EachNode, Nodes, Residence, StoredNodes, UnreadableNodes};
pub use state::revisable::{Accumulated, OpenEvent, Revisable};
pub use state::sources::SourceTimes;
pub use state::tally::{DecayedTally, Mention, Touch};
pub use stored::{GRAPH_AREAS, NODE_AREA};
pub use trial::{Trial, TriedGraph};
pub use who::addresses::person_address;
pub use who::directory::{Directory, Namespace, NodePlace};
pub use who::domains::{Domains, registrable_domain};
pub use who::edges::{Edge, Edges};
pub use who::home::RootFoundBy;
pub use who::journal::Change;
pub use who::{owner_of, owners_of};
