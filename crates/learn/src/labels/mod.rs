//! A history becomes labels: what was true of each entity after an anchor, as far as it was known
//! by another moment.
//!
//! Decision: docs/decisions/0014-labels-as-known-at-a-moment.md

mod belonging;
mod history;
mod label;
mod outcomes;
mod ties;
mod versions;

#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod market;
#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod reversal_tests;
#[cfg(test)]
mod world_tests;

pub(crate) use belonging::Belonging;
pub(crate) use history::LabelHistory;
pub(crate) use label::{Label, Labels};
pub(crate) use outcomes::{Chronicle, Seen, TaskOutcomes};
pub(crate) use ties::{Namings, Ties};

pub use outcomes::Tally;
pub use ties::{FilledIn, RootSketch, TieShare, TieShares};
