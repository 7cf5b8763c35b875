//! The port to scores that the read model keeps no longer.

use std::fmt;
use std::str::FromStr;

use leadpulse_records::ScorePoint;

use crate::desk::Desk;

/// A question about the past of one entity under one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastQuestion {
    /// Name of the task.
    pub task: String,
    /// Table of the entity.
    pub table: String,
    /// Key of the entity, as its rows have it.
    pub id: String,
    /// The place before which points are wanted.
    pub before: PastCursor,
}

/// A place in the past of an entity, whose text clients hand back as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PastCursor {
    /// Points valid before this moment, milliseconds: `t…`.
    Moment(i64),
    /// Points behind this place of the archive, towards its beginning: `o…`.
    Offset(i64),
}

impl fmt::Display for PastCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Moment(at_ms) => write!(f, "t{at_ms}"),
            Self::Offset(offset) => write!(f, "o{offset}"),
        }
    }
}

/// A text that is no [`PastCursor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoCursor;

impl FromStr for PastCursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let (kind, place) = text.split_at_checked(1).ok_or(NoCursor)?;
        let place: i64 = place.parse().map_err(|_| NoCursor)?;
        match kind {
            "t" if place >= 0 => Ok(Self::Moment(place)),
            "o" if place >= 0 => Ok(Self::Offset(place)),
            _ => Err(NoCursor),
        }
    }
}

/// Points of a past.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PastPoints {
    /// The points, oldest first; empty where none was found in the part that was looked at.
    pub points: Vec<ScorePoint>,
    /// The place to go on at; `None` at the beginning of the archive.
    pub next: Option<PastCursor>,
    /// Records that were looked at, those of other entities included.
    pub looked_at: u64,
}

/// An archive that cannot be read now, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveFault(pub String);

/// All emitted scores, as far back as they are kept.
pub trait ScoreArchive: Send + Sync {
    /// The newest points before a place. Looks at a bounded part of the archive, for a few seconds at
    /// most.
    ///
    /// # Errors
    /// An archive that is not there or does not answer.
    fn before(&self, question: &PastQuestion) -> Result<PastPoints, ArchiveFault>;
}

/// An archive that one request reads at a time.
pub type ArchiveDesk = Desk<dyn ScoreArchive>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_as_it_was_written_and_nothing_else_is_one() {
        for cursor in [PastCursor::Moment(1_760_486_400_000), PastCursor::Offset(0)] {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for text in ["", "t", "7", "x7", "t-1", "o1.5", "é1", "o 1"] {
            assert_eq!(text.parse::<PastCursor>(), Err(NoCursor), "{text:?}");
        }
    }
}
