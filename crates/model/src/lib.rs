//! Examples become a calibrated, explained network.
//!
//! Invariants: the network is built from the widths of a `Layout`, nothing here names a table; everything random comes from a seed
//! that is an argument; scoring runs on the plain device, never on an autodiff one, and a cell's logit does not depend on what
//! else is in its batch; nothing reads a clock.

mod average;
mod bundle;
mod calibrate;
mod coalitions;
mod deletion;
mod examples;
mod explain;
mod fit;
mod head;
mod manifest;
mod metrics;
mod network;
mod normalise;
mod score;
mod store;
mod train;

#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod testing;

pub use bundle::{Bundle, BundleError, BundleMeta, FORMAT_VERSION};
pub use calibrate::Calibration;
pub use deletion::DeletionTest;
pub use examples::{Example, ExampleSet};
pub use fit::{
    FitError, FitOptions, Fitted, FittedTask, Regularisation, TaskDefinition, Weighting, fit,
    fit_head,
};
pub use head::{Head, Outcome};
pub use manifest::{Manifest, TaskManifest};
pub use metrics::{BinaryMetrics, RegressionMetrics};
pub use network::{
    Inputs, MemberInputs, MemberValues, Network, NetworkConfig, Target, TowerConfig, TrunkConfig,
};
pub use normalise::Normaliser;
pub use store::{CellRow, CellStore};
pub use train::Progress;
