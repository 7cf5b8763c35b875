//! Outcomes of an epoch's records: counts for its record, notices for people.

use std::sync::Arc;

use leadpulse_graph::RowOutcome;

use super::ReasonCount;

/// The first format that counts deletions without a target, stale versions and remarks.
const COUNTS_UNCHANGED: i32 = 3;

/// Counts of an epoch's records by outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutcomeCounts {
    /// Records applied to the graph, those with a remark included.
    pub accepted: i64,
    /// Repeats: of events, retractions, deletions.
    pub duplicate: i64,
    /// Records older than the late horizon.
    pub late: i64,
    /// Records ahead of their Kafka timestamp or of the clock.
    pub future: i64,
    /// Dead letters, late and future records included.
    pub dead: i64,
    /// Records that changed nothing besides these, by code, sorted.
    pub unchanged: Vec<ReasonCount>,
    /// Accepted records with a remark, by code, sorted.
    pub remarked: Vec<ReasonCount>,
}

impl OutcomeCounts {
    /// Counts from rows by [`RowOutcome`], and the number of records that are no rows.
    pub(crate) fn of(rows: &[i64; RowOutcome::ALL.len()], undecoded: i64) -> Self {
        let of = |outcome: RowOutcome| rows[outcome as usize];
        let (late, future) = (of(RowOutcome::Late), of(RowOutcome::Future));
        Self {
            accepted: of(RowOutcome::Accepted)
                + of(RowOutcome::SteppedBack)
                + of(RowOutcome::InPart),
            duplicate: of(RowOutcome::Duplicate),
            late,
            future,
            dead: undecoded + late + future,
            unchanged: by_code(
                rows,
                &[
                    RowOutcome::Erased,
                    RowOutcome::NothingToDelete,
                    RowOutcome::StaleVersion,
                ],
            ),
            remarked: by_code(rows, &[RowOutcome::InPart, RowOutcome::SteppedBack]),
        }
    }

    /// Adds records that gave no row: no source wants them, or they concern none.
    #[must_use]
    pub(crate) fn without_row(mut self, filtered: i64, ignored: i64) -> Self {
        for (code, count) in [("filtered", filtered), ("no_row", ignored)] {
            if count > 0 {
                self.unchanged.push(ReasonCount {
                    reason: code.to_owned(),
                    count,
                });
            }
        }
        self.unchanged.sort_by(|a, b| a.reason.cmp(&b.reason));
        self
    }

    /// The counts as a program that wrote this format of epoch records made them. Before format 3,
    /// a deletion counted as accepted whatever it found, and steps back were not counted.
    #[must_use]
    pub(crate) fn in_format(mut self, version: i32) -> Self {
        if version < COUNTS_UNCHANGED {
            self.accepted += self.duplicate + sum(&self.unchanged);
            self.duplicate = 0;
            self.unchanged.clear();
            self.remarked.clear();
        }
        self
    }

    /// The sum over all outcomes: the number of records.
    pub fn records(&self) -> i64 {
        self.accepted + self.duplicate + sum(&self.unchanged) + self.dead
    }
}

/// The counts that are not 0 of some outcomes, sorted by code.
fn by_code(rows: &[i64], outcomes: &[RowOutcome]) -> Vec<ReasonCount> {
    let counted = outcomes.iter().map(|outcome| ReasonCount {
        reason: outcome.code().to_owned(),
        count: rows[*outcome as usize],
    });
    let mut counts: Vec<ReasonCount> = counted.filter(|one| one.count > 0).collect();
    counts.sort_by(|a, b| a.reason.cmp(&b.reason));
    counts
}

/// The sum of counts by reason.
pub(crate) fn sum(counts: &[ReasonCount]) -> i64 {
    counts.iter().map(|one| one.count).sum()
}

/// Records of one topic with one outcome that people should see, in one epoch. Contains no
/// payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Topic of the records.
    pub topic: Arc<str>,
    /// Code of the dead letters' reason, or of the outcome.
    pub code: &'static str,
    /// Number of the records.
    pub count: u64,
    /// Partition of the first of them.
    pub partition: i32,
    /// Offset of the first of them.
    pub offset: i64,
    /// The case of the first of them, for people.
    pub message: Arc<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_an_older_format_hold_deletions_among_the_accepted() {
        let mut rows = [0; RowOutcome::ALL.len()];
        for (outcome, count) in [
            (RowOutcome::Accepted, 10),
            (RowOutcome::SteppedBack, 2),
            (RowOutcome::Duplicate, 3),
            (RowOutcome::Late, 4),
            (RowOutcome::NothingToDelete, 5),
            (RowOutcome::StaleVersion, 6),
            (RowOutcome::InPart, 7),
        ] {
            rows[outcome as usize] = count;
        }
        let counts = OutcomeCounts::of(&rows, 1);
        assert_eq!(counts.records(), 38);
        assert_eq!((counts.accepted, counts.dead), (19, 5));
        let codes = |counts: &[ReasonCount]| -> Vec<(String, i64)> {
            let pair = |one: &ReasonCount| (one.reason.clone(), one.count);
            counts.iter().map(pair).collect()
        };
        assert_eq!(
            codes(&counts.unchanged),
            [("nothing_to_delete".into(), 5), ("stale_version".into(), 6)]
        );
        assert_eq!(
            codes(&counts.remarked),
            [("in_part".into(), 7), ("stepped_back".into(), 2)]
        );
        assert_eq!(counts.clone().in_format(3), counts);
        let before = counts.in_format(2);
        assert_eq!((before.accepted, before.duplicate), (33, 0));
        assert_eq!(before.records(), 38);
    }
}
