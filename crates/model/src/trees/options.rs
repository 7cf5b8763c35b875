//! The settings of the trees of a fit.

use serde::{Deserialize, Serialize};

/// The settings of the boosted trees beside the networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TreeOptions {
    /// Trees at most; validation chooses how many of them are kept. 0 leaves trees out.
    pub rounds: usize,
    /// Growing ends after so many trees that did not improve validation.
    pub patience: usize,
    /// Factor of every leaf.
    pub learning_rate: f64,
    /// Leaves of a tree at most.
    pub leaves: usize,
    /// Added to the curvature of a leaf, which pulls its value towards 0.
    pub l2: f64,
    /// Rows that a leaf has at least, at the base rate.
    pub leaf_rows: usize,
    /// The share of columns that each tree may read.
    pub columns_ratio: f64,
    /// The share of rows that each tree is grown on.
    pub rows_ratio: f64,
    /// Size of the table that trees are grown on at most, in millions of numbers of some 12 bytes.
    /// Rows beyond are thinned: rows where the target came true last, the others by a hash and
    /// with their weight raised.
    pub most_millions: usize,
}

impl Default for TreeOptions {
    fn default() -> Self {
        Self {
            rounds: 400,
            patience: 50,
            learning_rate: 0.05,
            leaves: 15,
            l2: 5.0,
            leaf_rows: 20,
            columns_ratio: 0.5,
            rows_ratio: 0.8,
            most_millions: 32,
        }
    }
}

impl TreeOptions {
    /// The name of an option that no growing could follow, and its fault.
    pub(crate) fn fault(&self) -> Option<(&'static str, &'static str)> {
        let ratio = |x: f64| x > 0.0 && x <= 1.0;
        if self.patience == 0 {
            return Some(("trees.patience", "must be at least 1"));
        }
        if self.leaves < 2 {
            return Some(("trees.leaves", "must be at least 2"));
        }
        if self.most_millions == 0 {
            return Some(("trees.most_millions", "must be at least 1"));
        }
        if !ratio(self.learning_rate) {
            return Some(("trees.learning_rate", "lies above 0 and at most at 1"));
        }
        if !(self.l2 >= 0.0 && self.l2.is_finite()) {
            return Some(("trees.l2", "must be finite and not below 0"));
        }
        if !ratio(self.columns_ratio) || !ratio(self.rows_ratio) {
            return Some((
                "trees.columns_ratio",
                "ratios of columns and rows lie above 0 and at most at 1",
            ));
        }
        None
    }
}
