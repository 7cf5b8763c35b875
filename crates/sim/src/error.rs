//! Errors of making and writing a market.

use std::path::PathBuf;

/// An error of the simulator.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// An option is outside its range.
    #[error("market option `{option}` is {value}, it must be {expected}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// Value of the option.
        value: String,
        /// Range that the value must be in.
        expected: &'static str,
    },
    /// A file or folder could not be written.
    #[error("cannot write {}: {source}; check that the folder is writable and the disk has room", path.display())]
    Write {
        /// Path of the file or folder.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: std::io::Error,
    },
}
