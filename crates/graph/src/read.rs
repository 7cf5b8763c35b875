//! Answers from the graph beside cells.

pub(crate) mod image;
pub(crate) mod readings;
