//! Cells as numbers, on the random streams of the graph's own tests: finite, named, blind to the
//! future, and never changed without a mark.

#![allow(clippy::unwrap_used, reason = "what is missing here fails a test")]

#[path = "encode/alerts.rs"]
mod alerts;
#[path = "encode/assigned.rs"]
mod assigned;
#[path = "encode/bounds.rs"]
mod bounds;
#[path = "encode/cell.rs"]
mod cell;
#[path = "encode/changes.rs"]
mod changes;
#[path = "encode/declared.rs"]
mod declared;
#[path = "encode/moments.rs"]
mod moments;
#[path = "encode/plan.rs"]
mod plan;
#[path = "encode/reasons.rs"]
mod reasons;
#[path = "encode/scene.rs"]
mod scene;
#[path = "encode/slots.rs"]
mod slots;
#[path = "encode/support.rs"]
mod support;
#[path = "encode/tracker.rs"]
mod tracker;
#[path = "encode/widths.rs"]
mod widths;

#[path = "../../graph/tests/properties/market.rs"]
mod market;
