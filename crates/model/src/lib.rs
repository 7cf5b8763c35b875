//! Examples become a calibrated, explained network.
//!
//! Invariants: the network is built from the widths of a `Layout`, nothing here names a table;
//! everything random comes from a seed that is an argument; scoring runs on the plain device, never
//! on an autodiff one, and a cell's logit does not depend on what else is in its batch; nothing
//! reads a clock.

mod bundle;
mod examples;
mod explain;
mod fit;
mod network;
mod plain;
mod score;
mod trees;

#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tree_scenarios;

pub use bundle::manifest::{Grade, Manifest, Quality, TaskManifest, TreesManifest};
pub use bundle::{Bundle, BundleError, BundleMeta, FORMAT_VERSION, Member};
pub use examples::flat::FlatColumns;
pub use examples::normalise::Normaliser;
pub use examples::store::{CellRow, CellStore};
pub use examples::{Example, ExampleSet, RowTally};
pub use explain::deletion::DeletionTest;
pub use fit::calibrate::Calibration;
pub use fit::metrics::{BinaryMetrics, RegressionMetrics};
pub use fit::train::{FitPart, FitProgress};
pub use fit::{
    CLEARLY_AHEAD, FitError, FitOptions, Fitted, FittedTask, JudgedRow, Regularisation,
    TaskDefinition, Weighting, fit, fit_head, fit_with_trunk,
};
pub use network::head::{Head, Outcome};
pub use network::{
    Inputs, MemberInputs, MemberValues, Network, NetworkConfig, TowerConfig, TowerTarget,
    TrunkConfig,
};
pub use trees::options::TreeOptions;
