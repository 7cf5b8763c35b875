//! The port to releases: deployed versions under a digest, kept outside of the engine.

use std::sync::Arc;

use crate::machine::Deployed;

/// Refusal of a release: it is not there, or does not fit this worker. The text names the place and
/// what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("release {release} cannot be used: {reason}")]
pub struct ReleaseRefusal {
    /// Digest of the release.
    pub release: String,
    /// The fault, and the remedy.
    pub reason: String,
}

/// The outcome of loading a release that was asked for.
pub type OfferedRelease = Result<Arc<Deployed>, ReleaseRefusal>;

/// Releases that a worker may go on under. They are loaded off the engine's thread.
pub trait Releases: Send {
    /// The release that was asked for last and has not been answered, once it was loaded or
    /// refused. Never waits.
    fn offered(&mut self) -> Option<OfferedRelease>;

    /// Loads the release that a committed epoch names. Waits for files, never for brokers.
    ///
    /// # Errors
    /// A release whose bytes are gone, damaged, or do not fit this worker.
    fn load(&mut self, release: &str) -> OfferedRelease;

    /// Notes that the epochs from now on are decided under this version.
    fn is_in_force(&mut self, given: &Deployed);
}
