//! Signs of life between the processes of one deployment.

use super::{Nonce, PortError};

/// A sign of life, written by the owner of the outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignOfLife {
    /// Token of the process start that wrote it.
    pub owner: String,
    /// Number of the sign, ascending within one process.
    pub count: u64,
    /// True for the last sign of a process that ended on purpose.
    pub left: bool,
}

/// The mark of the newest transaction on the group's offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitMark {
    /// Number of the newest committed epoch; 0 before the first.
    pub epoch: u64,
    /// Nonce of that epoch; `None` in commit metadata of version 1.
    pub nonce: Option<Nonce>,
    /// Token of the process start that owns the outputs; `None` in commit metadata of version 1.
    pub owner: Option<String>,
}

/// What one look shows of the owner. Two equal sights mean that nothing was written between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnerSight {
    /// The newest transaction; `None` if there never was one.
    pub committed: Option<CommitMark>,
    /// The newest sign of life; `None` if none was ever written.
    pub sign: Option<SignOfLife>,
}

impl OwnerSight {
    /// True if the process that owns the outputs ended on purpose. A sign of any other process
    /// proves nothing: a process that was stopped may write it late.
    pub fn owner_left(&self) -> bool {
        let owner = self.committed.as_ref().and_then(|mark| mark.owner.as_ref());
        let left = self.sign.as_ref().filter(|sign| sign.left);
        left.is_some_and(|sign| Some(&sign.owner) == owner)
    }
}

/// Signs of life: written by the owner, looked at by followers.
///
/// Signs are outside of transactions. They decide only when a follower tries to take over;
/// [`Sink::take_over`](super::Sink::take_over) decides who owns the outputs.
pub trait Heartbeats: Send {
    /// The newest transaction and sign of life, as the cluster answers now.
    ///
    /// # Errors
    /// Retriable if no answer came within a moment. Nothing is concluded from it.
    fn look(&mut self) -> Result<OwnerSight, PortError>;
    /// Writes signs of the process start `owner` from now on, in the background, until
    /// [`Self::leave`] or until the process ends.
    ///
    /// # Errors
    /// If the background cannot be started.
    fn begin(&mut self, owner: &str) -> Result<(), PortError>;
    /// Writes the last sign of a process that ends on purpose. Waits for it a moment at most: a
    /// sign that is not written costs a follower the time of silence.
    fn leave(&mut self);
}
