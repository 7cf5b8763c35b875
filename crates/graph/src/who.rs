//! Entity identity: keys, links between rows of one entity, domains, edges.

pub(crate) mod directory;
pub(crate) mod domains;
pub(crate) mod edges;
pub(crate) mod identity;
pub(crate) mod matching;
