//! The schemas, tasks and graph options that belong together.
//!
//! Invariants: training, backtests and the live engine build their graph from one [`Project`], so
//! that state means the same to all of them; no network, no files, no clock.

mod anchors;
mod project;

pub use anchors::{Anchors, AnchorsError};
pub use project::{Project, QueryError, TaskPlan, TaskSource};
