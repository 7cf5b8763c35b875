//! The first stage: rows are applied to the graph, and each gets its one outcome.

use leadpulse_graph::RowOutcome;
use leadpulse_records::Reason;
use leadpulse_schema::Operation;

use super::Machine;
use crate::decode::Decoded;
use crate::epoch::{EpochTally, OutcomeCounts};

const LATE: &str = "older than the late horizon allows: behind its partition's newest event, or of a day that its table has forgotten";
const FUTURE: &str =
    "its time lies ahead of its Kafka timestamp, or of the clock here, by more than tolerated";

/// The outcomes of an epoch's rows.
pub(super) struct AdmittedRows {
    /// Rows by [`RowOutcome`].
    pub counts: [i64; RowOutcome::ALL.len()],
    /// Records that are no rows.
    pub undecoded: i64,
    /// Rows that people should see though no dead letter says so: index of the record, outcome.
    pub noticed: Vec<(u32, RowOutcome)>,
    /// Dead letters: index of the record, reason, message. Undecoded records first, then late and
    /// future rows.
    pub dead: Vec<(u32, Reason, String)>,
}

impl AdmittedRows {
    /// The counts for the epoch's record.
    pub fn outcomes(&self) -> OutcomeCounts {
        OutcomeCounts::of(&self.counts, self.undecoded)
    }
}

impl Machine {
    /// In: decoded rows by partition and offset, and the clock reading that bounds the future.
    /// Out: one outcome per row. Only accepted rows have changed the graph.
    pub(super) fn admit(
        &mut self,
        decoded: Decoded,
        bound_ms: Option<i64>,
        tally: &mut EpochTally,
    ) -> AdmittedRows {
        let Decoded {
            rows,
            records: record_of,
            mut dead,
            ..
        } = decoded;
        let undecoded = dead.len() as i64;
        let (mut counts, mut noticed) = ([0_i64; RowOutcome::ALL.len()], Vec::new());
        let outcomes = self.state.graph.apply(&rows, bound_ms);
        for (index, outcome) in outcomes.iter().enumerate() {
            counts[*outcome as usize] += 1;
            let row = rows.row(index);
            if outcome.is_accepted() {
                self.note_event_time(row.event_ms().min(row.known_ms()));
                tally.retracted += u64::from(row.operation() == Operation::Retract);
            } else if let Some((reason, message)) = refusal(*outcome) {
                dead.push((record_of[index], reason, message.to_owned()));
            }
            if remark(*outcome).is_some() {
                noticed.push((record_of[index], *outcome));
            }
        }
        AdmittedRows {
            counts,
            undecoded,
            noticed,
            dead,
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

/// The dead letter of a row that was not let in. Duplicates have none: producers and restarts
/// repeat rows by design.
fn refusal(outcome: RowOutcome) -> Option<(Reason, &'static str)> {
    match outcome {
        RowOutcome::Accepted
        | RowOutcome::SteppedBack
        | RowOutcome::Duplicate
        | RowOutcome::NothingToDelete
        | RowOutcome::StaleVersion => None,
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
            "older than the newest version of its key, by the table's version field, so nothing \
             changed; no action is needed unless the count keeps rising",
        ),
        RowOutcome::SteppedBack => Some(
            "its time lies before that of the version that it replaced; if the log's order is \
             not that of the changes, mark a field of the table with \"version\": true",
        ),
        RowOutcome::Accepted | RowOutcome::Duplicate | RowOutcome::Late | RowOutcome::Future => {
            None
        }
    }
}
