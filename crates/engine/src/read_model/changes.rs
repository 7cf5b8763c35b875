//! The newest publications in order, so that a reader goes on from the last one it knows.
//!
//! The log is bounded by publications and by scores. A reader that was away for longer than the log
//! reaches starts anew from the current state.

use std::collections::VecDeque;
use std::sync::Arc;

use leadpulse_records::{ShownAlert, ShownScore};

/// Publications that the log holds, at most.
pub const CHANGES_KEPT: usize = 256;
/// Scores in all publications of the log, at most: an older score stays in memory only for it.
pub const CHANGED_SCORES_KEPT: usize = 20_000;

/// The scores and alerts of one publication: an epoch's, or those that a start found.
#[derive(Clone, Debug)]
pub struct PublishedChange {
    /// Number of the publication, from 1 in every process, without gaps.
    pub number: u64,
    /// Epoch after which the content is the committed state.
    pub epoch: u64,
    /// Scores in the order of their records.
    pub scores: Vec<Arc<ShownScore>>,
    /// Alerts, oldest first.
    pub alerts: Vec<Arc<ShownAlert>>,
}

/// The newest publications. A snapshot: readers hold it as long as they like.
#[derive(Clone, Debug, Default)]
pub struct ChangeLog {
    /// Number of the newest publication; 0 before the first.
    newest: u64,
    kept: VecDeque<Arc<PublishedChange>>,
    scores_kept: usize,
}

impl ChangeLog {
    /// Number of the newest publication; 0 before the first.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// The publications after number `after`, oldest first; `None` if the log no longer holds all of
    /// them, or never had that number.
    pub fn since(&self, after: u64) -> Option<impl Iterator<Item = &Arc<PublishedChange>>> {
        let missing = self.newest.checked_sub(after)?;
        let start = self
            .kept
            .len()
            .checked_sub(usize::try_from(missing).ok()?)?;
        Some(self.kept.range(start..))
    }

    /// Adds a publication, and drops the oldest ones beyond the bounds.
    pub(super) fn push(
        &mut self,
        epoch: u64,
        scores: Vec<Arc<ShownScore>>,
        alerts: Vec<Arc<ShownAlert>>,
    ) {
        self.newest += 1;
        self.scores_kept += scores.len();
        self.kept.push_back(Arc::new(PublishedChange {
            number: self.newest,
            epoch,
            scores,
            alerts,
        }));
        while self.kept.len() > CHANGES_KEPT || self.scores_kept > CHANGED_SCORES_KEPT {
            let Some(oldest) = self.kept.pop_front() else {
                break;
            };
            self.scores_kept -= oldest.scores.len();
        }
    }

    /// Forgets all publications, so that every reader starts anew.
    pub(super) fn restart(&mut self) {
        self.newest += 1;
        self.kept.clear();
        self.scores_kept = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(log: &ChangeLog, after: u64) -> Option<Vec<u64>> {
        let changes = log.since(after)?;
        Some(changes.map(|change| change.number).collect())
    }

    #[test]
    fn a_reader_goes_on_where_it_was_or_is_told_that_it_cannot() {
        let mut log = ChangeLog::default();
        assert_eq!(numbers(&log, 0), Some(vec![]));
        assert_eq!(numbers(&log, 1), None, "a number that never was");
        for epoch in 1..=3 {
            log.push(epoch, Vec::new(), Vec::new());
        }
        assert_eq!(numbers(&log, 1), Some(vec![2, 3]));
        assert_eq!(numbers(&log, 3), Some(vec![]));
        for epoch in 4..=3 + CHANGES_KEPT as u64 {
            log.push(epoch, Vec::new(), Vec::new());
        }
        assert_eq!(numbers(&log, 2), None, "dropped");
        assert_eq!(
            numbers(&log, 3).map(|found| found.len()),
            Some(CHANGES_KEPT)
        );
        log.restart();
        assert_eq!(numbers(&log, log.newest() - 1), None);
        assert_eq!(numbers(&log, log.newest()), Some(vec![]));
    }

    #[test]
    fn a_publication_beyond_the_bound_is_not_kept() {
        let mut log = ChangeLog::default();
        let score = Arc::new(ShownScore {
            record: leadpulse_records::Score::default(),
            name: None,
            facts: serde_json::Value::Null,
            history: Vec::new(),
        });
        log.push(1, vec![score.clone(); CHANGED_SCORES_KEPT], Vec::new());
        assert_eq!(numbers(&log, 0), Some(vec![1]));
        log.push(2, vec![score.clone()], Vec::new());
        assert_eq!((numbers(&log, 0), numbers(&log, 1)), (None, Some(vec![2])));
        log.push(3, vec![score; CHANGED_SCORES_KEPT + 1], Vec::new());
        assert_eq!((numbers(&log, 2), numbers(&log, 3)), (None, Some(vec![])));
    }
}
