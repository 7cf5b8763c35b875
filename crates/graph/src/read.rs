//! Answers from the graph: cells, relations between entities, ends of deals, counts, a canonical
//! image.
//!
//! Functions here read and change nothing.

pub(crate) mod assigned;
pub(crate) mod deals;
pub(crate) mod image;
pub(crate) mod lookup;
pub(crate) mod persons;
pub(crate) mod population;
pub(crate) mod relations;
pub(crate) mod stats;
