//! Accumulated state: cells of nodes, decayed sums of their events, and the hubs that cells share.

pub(crate) mod cell;
pub(crate) mod days;
pub(crate) mod decay;
pub(crate) mod events;
pub(crate) mod hubs;
pub(crate) mod layout;
pub(crate) mod node;
pub(crate) mod tally;
