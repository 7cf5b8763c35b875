//! Failures of ports: what the engine does about one is a variant of [`PortError`], what happened
//! is a [`PortCause`].

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// Cause of a port's failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortCause {
    /// A broker or registry does not answer, or refuses for now.
    NoAnswer,
    /// A broker refuses for good: permissions, settings, a request it does not support.
    Refused,
    /// Another process owns the outputs.
    OtherOwner,
    /// The process was told to stop.
    Stopped,
    /// A topic does not exist.
    TopicMissing,
    /// A topic exists, but has another number of partitions than its use needs.
    TopicUnsuitable,
    /// A topic was deleted, created again or truncated: its offsets mean other records.
    TopicReplaced,
    /// Retention removed records that are still to be read.
    RecordsExpired,
    /// The stored state is of another deployment than the log.
    StoreForeign,
    /// Committed positions are gone, though committed outputs exist.
    PositionsLost,
    /// Committed positions were written by something else than this deployment.
    PositionsForeign,
    /// An output record is larger than its topic takes.
    RecordTooLarge,
    /// The records of the epochs topic do not follow from each other, or from the committed
    /// positions.
    ScriptBroken(ScriptFault),
    /// A committed output record cannot be read back.
    Unreadable,
    /// Committed epochs were decided under a release that cannot be loaded.
    ReleaseMissing,
    /// Committed epochs were read from a topic that the configuration does not name.
    NotConfigured,
    /// A thread or client of this process cannot be started, or has ended.
    Local,
    /// A port was called out of order or with impossible arguments: a mistake in the program.
    Misuse,
}

/// The rule of a script that its records break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScriptFault {
    /// A layout does not start with the partitions of the one before.
    LayoutShrinks,
    /// An epoch does not follow the number before.
    NumberGap,
    /// An epoch refers to another layout than the newest.
    OtherLayout,
    /// An epoch has another number of intervals than its layout has partitions.
    IntervalCount,
    /// An epoch's `as_of` is less than that of the epoch before.
    AsOfBack,
    /// An interval does not start where the one before ended.
    IntervalsApart,
    /// Ticks do not ascend, or their positions lie outside the epoch.
    TicksApart,
    /// A record without value.
    NoValue,
    /// The topic ends with another epoch than the committed one.
    OtherEnd,
    /// The last record has another nonce than the committed epoch.
    OtherNonce,
    /// The last record ends at another offset than the committed one.
    OtherOffset,
}

/// Description of a port's failure: what was tried, where, and what the reader can do.
#[derive(Clone, Debug)]
pub struct PortFailure {
    cause: PortCause,
    message: String,
    origin: Option<Arc<dyn Error + Send + Sync>>,
}

impl PortFailure {
    /// The typed cause, for tests and decisions.
    pub fn cause(&self) -> PortCause {
        self.cause
    }
    /// The text for people.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for PortFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A failure of a port, by what the engine does about it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PortError {
    /// May go away by itself: try again.
    #[error("{0}")]
    Retriable(PortFailure),
    /// Another process took this one's place: stop at once.
    #[error("fenced: {0}")]
    Fenced(PortFailure),
    /// The process was told to stop while the port waited.
    #[error("stopped: {0}")]
    Interrupted(PortFailure),
    /// Will not go away by itself: stop, and restore on the next start.
    #[error("{0}")]
    Fatal(PortFailure),
}

impl PortError {
    /// A failure that may go away by itself.
    pub fn retriable(cause: PortCause, message: impl Into<String>) -> Self {
        Self::Retriable(failure(cause, message.into()))
    }
    /// The loss of this process's place to another one.
    pub fn fenced(cause: PortCause, message: impl Into<String>) -> Self {
        Self::Fenced(failure(cause, message.into()))
    }
    /// A wait that was ended.
    pub fn interrupted(cause: PortCause, message: impl Into<String>) -> Self {
        Self::Interrupted(failure(cause, message.into()))
    }
    /// A failure that will not go away by itself.
    pub fn fatal(cause: PortCause, message: impl Into<String>) -> Self {
        Self::Fatal(failure(cause, message.into()))
    }

    /// Adds the error of a library below the port. The message contains that error's text already,
    /// so [`Error::source`] stays empty: reports that print a chain would print the text twice.
    #[must_use]
    pub fn with_origin(mut self, origin: impl Error + Send + Sync + 'static) -> Self {
        self.failure_mut().origin = Some(Arc::new(origin));
        self
    }

    /// The typed cause, for tests and decisions.
    pub fn cause(&self) -> PortCause {
        self.failure().cause
    }
    /// The error of a library below the port.
    pub fn origin(&self) -> Option<&(dyn Error + Send + Sync)> {
        self.failure().origin.as_deref()
    }

    fn failure(&self) -> &PortFailure {
        match self {
            Self::Retriable(it) | Self::Fenced(it) | Self::Interrupted(it) | Self::Fatal(it) => it,
        }
    }
    fn failure_mut(&mut self) -> &mut PortFailure {
        match self {
            Self::Retriable(it) | Self::Fenced(it) | Self::Interrupted(it) | Self::Fatal(it) => it,
        }
    }
}

fn failure(cause: PortCause, message: String) -> PortFailure {
    PortFailure {
        cause,
        message,
        origin: None,
    }
}
