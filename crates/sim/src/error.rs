//! What can go wrong while a market is made or written.

use std::path::PathBuf;

/// An error of the simulator.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// An option is outside its range.
    #[error("market option `{option}` is {value}, it must be {expected}")]
    Option {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A file or folder could not be written.
    #[error("cannot write {}: {source}; check that the folder is writable and the disk has room", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}
