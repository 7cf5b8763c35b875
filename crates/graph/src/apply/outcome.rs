//! Outcomes of rows: each row that reaches the graph has exactly one, and each is counted.

/// The fate of a row at the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowOutcome {
    /// The row is in the graph; a retraction took its event back, or will hold it off.
    Accepted,
    /// The row is in the graph, though its time lies before that of the version it replaced. The
    /// table marks no version field, so the log's order decides.
    SteppedBack,
    /// A repeat: of an event, of a retraction, of a deletion, or an event whose retraction came
    /// first.
    Duplicate,
    /// Older than the newest event of the row's partition by more than the horizon, or of a day
    /// whose fingerprints the table has forgotten.
    Late,
    /// Further ahead of the row's known time, or of the clock, than tolerated.
    Future,
    /// A deletion of an entity that no row has described.
    NothingToDelete,
    /// A version or deletion older than the newest of its entity, by the table's version field.
    StaleVersion,
    /// The row is in the graph, but it carries a part of an entity that no row describes: the other
    /// fields are null until a whole row comes.
    InPart,
    /// A row of an entity that was erased: nothing of it is kept.
    Erased,
}

/// Rows of an entity that a deletion finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Described {
    /// No row has described the entity.
    Never,
    /// The rows were deleted already.
    Before,
    /// A row describes the entity.
    Now,
}

impl RowOutcome {
    /// All outcomes; the position of each is its number as an index.
    pub const ALL: [Self; 9] = [
        Self::Accepted,
        Self::SteppedBack,
        Self::Duplicate,
        Self::Late,
        Self::Future,
        Self::NothingToDelete,
        Self::StaleVersion,
        Self::InPart,
        Self::Erased,
    ];

    /// The outcome of a deletion. Connectors write a change event and a tombstone for one deletion,
    /// so the second of them is a repeat.
    pub(crate) fn of_deletion(described: Described) -> Self {
        match described {
            Described::Never => Self::NothingToDelete,
            Described::Before => Self::Duplicate,
            Described::Now => Self::Accepted,
        }
    }

    /// True for a row that is in the graph. Every other row has changed nothing that can be read.
    pub fn is_accepted(self) -> bool {
        matches!(self, Self::Accepted | Self::SteppedBack | Self::InPart)
    }

    /// The code in epoch records, metric labels and logs.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::SteppedBack => "stepped_back",
            Self::Duplicate => "duplicate",
            Self::Late => "late",
            Self::Future => "future",
            Self::NothingToDelete => "nothing_to_delete",
            Self::StaleVersion => "stale_version",
            Self::InPart => "in_part",
            Self::Erased => "erased",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_listed_by_their_number() {
        for (number, outcome) in RowOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, number);
        }
    }
}
