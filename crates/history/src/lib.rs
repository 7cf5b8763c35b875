//! Files of many tables become one stream in order of known time.
//!
//! Invariants: memory is bounded, whatever the files' size and order; the order is a function of
//! the files and their list; every row is in the stream or counted as rejected.

mod files;
#[cfg(any(feature = "object-stores", test))]
mod objects;
mod places;
mod replay;
mod report;
mod spill;

use leadpulse_schema::FileError;

pub use files::{FileSource, Files, REFUSED_RATIO};
#[cfg(feature = "object-stores")]
pub use places::object_store_at;
pub use places::{FoundFile, PlaceError, find_files, is_glob, store_not_built};
pub use replay::Replay;
pub use report::{FileReport, Refusal};

/// Files that cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Somebody ended the reading.
    #[error(
        "the reading of the files was ended before they were; ask again to read them from the start"
    )]
    Ended,
    /// Too many rows of some files cannot be used.
    #[error(
        "{files}\ncorrect the files or their sources' settings, or allow a larger share with --allow-bad"
    )]
    BadFiles {
        /// Each file with its counts and reasons.
        files: String,
    },
    /// A file that is not in order cannot be sorted.
    #[error(
        "{file} is not in order of known time, and sorting it in the temporary folder {folder} failed: {source}; \
         make room there, or name another folder with TMPDIR"
    )]
    Spill {
        /// The file that is not in order.
        file: String,
        /// The folder for temporary files.
        folder: String,
        source: std::io::Error,
    },
}
