//! Reasons for which a bundle is not made, written or loaded.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::FORMAT_VERSION;

/// The reason for which a bundle is not made, written or loaded.
#[derive(Debug, Error)]
pub enum BundleError {
    /// A file could not be read or written.
    #[error(
        "cannot {action} {path}: {source}; check that the bundle's folder exists and may be \
         accessed{hint}"
    )]
    Io {
        /// The attempt: `read` or `write`.
        action: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// The error of the operation that failed.
        source: io::Error,
        /// Another place to look, or empty.
        hint: String,
    },
    /// A file is not what it should be.
    #[error(
        "{path} is not a bundle file: {reason}; train the bundle again or restore it from a backup"
    )]
    Malformed {
        /// Path of the file.
        path: PathBuf,
        /// The fault, in words.
        reason: String,
    },
    /// Written by another version of the format.
    #[error(
        "{path} has bundle format {found}, this program reads {FORMAT_VERSION}; use the program \
         that wrote it or train again"
    )]
    Format {
        /// Path of the manifest.
        path: PathBuf,
        /// The version of the format found.
        found: u64,
    },
    /// A file was changed after it was written.
    #[error(
        "{path} was changed or damaged: its SHA-256 is {found}, the bundle says {expected}; \
         restore the bundle or train again"
    )]
    Changed {
        /// Path of the file.
        path: PathBuf,
        /// The hash, or for the manifest the bundle id, that was written.
        expected: String,
        /// The hash of the file now.
        found: String,
    },
    /// The feature plan could not be rebuilt.
    #[error(
        "the feature plan of bundle {bundle} does not fit the schemas: {source}; use the schemas \
         it was trained with or train again"
    )]
    Plan {
        /// Id of the bundle.
        bundle: String,
        /// The error of the operation that failed.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Features mean something else than in training.
    #[error(
        "bundle {bundle} was trained with feature plan {expected}, schemas and graph options here \
         give {found}: features would mean something else; use the schemas and graph options it \
         was trained with (schemas then: {catalog_fingerprint}) or train again"
    )]
    PlanHash {
        /// Id of the bundle.
        bundle: String,
        /// The hash of the plan in training.
        expected: String,
        /// The hash of the plan built here.
        found: String,
        /// The schemas it was trained with.
        catalog_fingerprint: String,
    },
    /// A task is about a table that is not there.
    #[error(
        "task `{task}` of bundle {bundle} scores table `{table}`, which is neither the root nor a \
         member table of the schemas here"
    )]
    UnknownTable {
        /// Id of the bundle.
        bundle: String,
        /// Name of the task.
        task: String,
        /// Name of the table scored.
        table: String,
    },
    /// Parts that do not belong together.
    #[error("{what} do not fit together: {reason}; train the bundle again")]
    Mismatch {
        /// The parts that do not fit together.
        what: &'static str,
        /// The difference, in words.
        reason: String,
    },
    /// A parameter is infinite or not a number.
    #[error("{what} holds a number that is not finite; train the bundle again")]
    NotFinite {
        /// The part, in words.
        what: String,
    },
    /// The network computes something else than when it was written.
    #[error(
        "golden cell {cell} of task `{task}` gives logit {found}, but gave {expected} when the \
         bundle was written: the program computes differently; train the bundle again with this \
         program"
    )]
    Golden {
        /// Name of the task.
        task: String,
        /// Index into the golden logits.
        cell: usize,
        /// The logit when the bundle was written.
        expected: String,
        /// The logit computed now.
        found: String,
    },
}
