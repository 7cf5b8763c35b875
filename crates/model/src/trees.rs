//! Boosted trees as a member of the ensemble: what they read, how they are grown, stored, checked
//! and evaluated.
//!
//! A tree reads one row of integers: the root's columns, for each member table the number of rows
//! and per column their sum, maximum and mean, for a task on a member table the asked member's own
//! columns, and the bucket of a hazard. Values are rounded to a grid before anything is summed, so
//! neither the order of members nor a last bit changes a leaf, and nothing depends on other cells.
//! Growing is left to a library; what scores is the evaluator here, over plain nodes.
//!
//! Decision: docs/decisions/0045-trees-beside-the-nets.md

pub(crate) mod columns;
pub(crate) mod forest;
pub(crate) mod grow;
mod matrix;
pub(crate) mod options;

use crate::trees::forest::Forest;

/// The trees of a task, and their share of its logit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TreeMember {
    /// Weight of the trees' logit, above 0 and at most 1; the networks' mean has the rest.
    pub weight: f64,
    pub forest: Forest,
}

impl TreeMember {
    /// The logit of the ensemble: both members' logits by their weights.
    pub fn mixed(&self, networks: f64, trees: f64) -> f64 {
        mixed(self.weight, networks, trees)
    }
}

/// `(1 − weight) · networks + weight · trees`.
pub(crate) fn mixed(weight: f64, networks: f64, trees: f64) -> f64 {
    (1.0 - weight) * networks + weight * trees
}
