//! Readings of a running worker over HTTP, for `leadpulse top`.

pub mod exposition;
pub mod figures;
pub mod lines;
pub mod reader;
