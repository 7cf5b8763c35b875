//! Effects of rows: admission, versions of entities, moves between cells, merges, events.

pub(crate) mod gate;
mod merges;
pub(crate) mod moves;
pub(crate) mod shard;
mod versions;
