//! The first stage: rows are applied to the graph, and each gets its one outcome.

use leadpulse_graph::RowOutcome;
use leadpulse_records::Reason;
use leadpulse_schema::{Operation, RowBatch};

use super::Machine;
use super::erased::Erasing;
use super::said::SaidChanges;
use super::ticks::Folding;
use super::trace::TracedRow;
use crate::decode::Decoded;
use crate::epoch::{EpochTally, OutcomeCounts};
use crate::ports::RecordBatch;

const LATE: &str = "older than the late horizon allows: behind its partition's newest event, or of a day that its table has forgotten";
const FUTURE: &str =
    "its time lies ahead of its Kafka timestamp, or of the clock here, by more than tolerated";

/// The outcomes of an epoch's rows.
pub(super) struct AdmittedRows {
    /// Records with rows, by [`RowOutcome`].
    pub counts: [i64; RowOutcome::ALL.len()],
    /// Records that could not be read: the first of `dead`.
    pub undecoded: usize,
    /// Records that no source of their topic wants, by index.
    pub filtered: Vec<u32>,
    /// Records that concern no row, by index.
    pub ignored: Vec<u32>,
    /// Rows that people should see though no dead letter says so: index of the record, outcome.
    pub noticed: Vec<(u32, RowOutcome)>,
    /// Dead letters: index of the record, reason, message. Undecoded records first, then late and
    /// future rows.
    pub dead: Vec<(u32, Reason, String)>,
    /// The parts of what people said that rows changed.
    pub said: SaidChanges,
    /// The effects of requests to erase.
    pub erasing: Erasing,
    /// Rows with their records and outcomes, for people who ask for one.
    pub traced: Vec<TracedRow>,
}

impl AdmittedRows {
    /// The records that give no row, and the rows with their records.
    pub fn of(decoded: Decoded) -> (Self, RowBatch, Vec<u32>) {
        let admitted = Self {
            counts: [0; RowOutcome::ALL.len()],
            undecoded: decoded.dead.len(),
            filtered: decoded.filtered,
            ignored: decoded.ignored,
            noticed: Vec::new(),
            dead: decoded.dead,
            said: SaidChanges::default(),
            erasing: Erasing::default(),
            traced: Vec::new(),
        };
        (admitted, decoded.rows, decoded.records)
    }

    /// The counts for the epoch's record.
    pub fn outcomes(&self) -> OutcomeCounts {
        let counts = OutcomeCounts::of(&self.counts, self.undecoded as i64);
        counts.without_row(self.filtered.len() as i64, self.ignored.len() as i64)
    }

    /// Leaves out records that gave no row, unless the epoch takes them. Rows that it does not take
    /// are not among them.
    pub fn keep(&mut self, takes: impl Fn(u32) -> bool) {
        let unread = self.dead.drain(..self.undecoded);
        let mut kept: Vec<_> = unread.filter(|(index, _, _)| takes(*index)).collect();
        self.undecoded = kept.len();
        kept.append(&mut self.dead);
        self.dead = kept;
        self.filtered.retain(|index| takes(*index));
        self.ignored.retain(|index| takes(*index));
    }
}

impl Machine {
    /// In: rows by partition and offset with the records they are of, and the clock reading that
    /// bounds the future.
    /// Out: their outcomes, added to `admitted`. Only accepted rows have changed the graph, or what
    /// people said. Rows that are applied again are traced for nobody.
    pub(super) fn admit(
        &mut self,
        rows: &RowBatch,
        record_of: &[u32],
        bound_ms: Option<i64>,
        folding: Folding,
        admitted: &mut AdmittedRows,
        tally: &mut EpochTally,
    ) {
        let screened = self.screen(rows, admitted);
        let seen = screened.as_ref().map_or(rows, |screened| &screened.rows);
        let mut outcomes = self.state.graph.apply(seen, bound_ms);
        self.admit_said(seen, bound_ms, &mut outcomes, admitted);
        for (index, outcome) in outcomes.iter().enumerate() {
            let row = seen.row(index);
            if outcome.is_accepted() {
                self.note_event_time(row.event_ms().min(row.known_ms()));
                tally.retracted += u64::from(row.operation() == Operation::Retract);
                tally.gaps += u64::from(row.operation() == Operation::Gap);
            }
        }
        if let Some(screened) = screened {
            outcomes = screened.all(outcomes);
        }
        if folding == Folding::On {
            self.trace(rows, record_of, &outcomes, &mut admitted.traced);
        }
        for (record, outcome) in by_record(record_of, &outcomes) {
            admitted.counts[outcome as usize] += 1;
            if let Some((reason, message)) = refusal(outcome) {
                admitted.dead.push((record, reason, message.to_owned()));
            }
            if remark(outcome).is_some() {
                admitted.noticed.push((record, outcome));
            }
        }
    }

    /// Counts the records that give no row, by topic.
    pub(super) fn count_without_row(
        &self,
        records: &RecordBatch,
        admitted: &AdmittedRows,
        tally: &mut EpochTally,
    ) {
        let topic = |index: &u32| {
            let partition = records.record(*index as usize).partition();
            self.state.partitions[partition as usize].topic.clone()
        };
        for index in &admitted.filtered {
            *tally.filtered.entry(topic(index)).or_default() += 1;
        }
        for index in &admitted.ignored {
            *tally.ignored.entry(topic(index)).or_default() += 1;
        }
    }

    fn note_event_time(&mut self, event_ms: i64) {
        let newest_ms = &mut self.state.newest_event_ms;
        *newest_ms = Some(newest_ms.map_or(event_ms, |t| t.max(event_ms)));
    }
}

/// The case of a row that is not simply taken, for people; `None` for accepted rows and duplicates.
pub fn outcome_in_words(outcome: RowOutcome) -> Option<&'static str> {
    let refused = refusal(outcome).map(|(_, message)| message);
    refused.or_else(|| remark(outcome))
}

/// The outcome of each record with rows. A record of several rows is refused if one of them is, and
/// changed nothing only if none of them did.
fn by_record(record_of: &[u32], outcomes: &[RowOutcome]) -> Vec<(u32, RowOutcome)> {
    let rank = |outcome: RowOutcome| match outcome {
        RowOutcome::Duplicate => 0,
        RowOutcome::StaleVersion => 1,
        RowOutcome::NothingToDelete => 2,
        RowOutcome::Erased => 3,
        RowOutcome::Accepted => 4,
        RowOutcome::SteppedBack => 5,
        RowOutcome::InPart => 6,
        RowOutcome::Late => 7,
        RowOutcome::Future => 8,
    };
    let mut found: Vec<(u32, RowOutcome)> = Vec::with_capacity(record_of.len());
    for (record, outcome) in record_of.iter().zip(outcomes) {
        match found.last_mut().filter(|(last, _)| last == record) {
            Some((_, worst)) if rank(*outcome) > rank(*worst) => *worst = *outcome,
            Some(_) => {}
            None => found.push((*record, *outcome)),
        }
    }
    found
}

/// The dead letter of a row that was not let in. Duplicates have none: producers and restarts
/// repeat rows by design.
fn refusal(outcome: RowOutcome) -> Option<(Reason, &'static str)> {
    match outcome {
        RowOutcome::Accepted
        | RowOutcome::SteppedBack
        | RowOutcome::InPart
        | RowOutcome::Duplicate
        | RowOutcome::NothingToDelete
        | RowOutcome::StaleVersion
        // A dead letter would keep the row's bytes.
        | RowOutcome::Erased => None,
        RowOutcome::Late => Some((Reason::LateBeyondHorizon, LATE)),
        RowOutcome::Future => Some((Reason::FutureTimestamp, FUTURE)),
    }
}

/// The case of a row that is no dead letter and yet not as its producer meant it, with the remedy.
pub(super) fn remark(outcome: RowOutcome) -> Option<&'static str> {
    match outcome {
        RowOutcome::NothingToDelete => Some(
            "a deletion names a key that no row has described, so nothing was deleted; \
             write the key as the rows of the table do",
        ),
        RowOutcome::StaleVersion => Some(
            "older than the newest version of its key, by the table's version field or, for what \
             people say, by its time, so nothing changed; no action is needed unless the count \
             keeps rising",
        ),
        RowOutcome::SteppedBack => Some(
            "its time lies before that of the version that it replaced; if the log's order is \
             not that of the changes, mark a field of the table with \"version\": true",
        ),
        RowOutcome::InPart => Some(
            "it carries some fields of a key that no row has described, so the others are null; \
             load whole rows first, such as a connector's snapshot",
        ),
        RowOutcome::Erased => Some(
            "a row of an entity or address that was erased, so nothing of it was kept; \
             remove it at its source too",
        ),
        RowOutcome::Accepted | RowOutcome::Duplicate | RowOutcome::Late | RowOutcome::Future => {
            None
        }
    }
}
