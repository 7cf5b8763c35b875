//! Log lines about records that were refused or without effect: the first of each topic and code at
//! once, then at most one line a minute with a count.
//!
//! A topic that a wrong producer fills gives one line a minute, not one a record. Nothing is lost
//! by it: every record is counted in the metrics and epoch records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::epoch::Notice;

/// Shortest time between two lines about one topic and code.
const QUIET: Duration = Duration::from_secs(60);

/// Memory of what was logged when.
#[derive(Debug, Default)]
pub(super) struct NoticeLog {
    kinds: BTreeMap<(Arc<str>, &'static str), NoticeKind>,
}

/// Notices of one topic and code.
#[derive(Debug)]
struct NoticeKind {
    logged: Duration,
    /// The first notice since the last line, its count that of all since.
    held: Option<Notice>,
}

impl NoticeLog {
    /// Logs notices, or holds them back. `now` is of a monotonic clock.
    pub fn note(&mut self, notices: &[Notice], now: Duration) {
        notices
            .iter()
            .filter_map(|notice| self.take(notice, now))
            .for_each(|line| log(&line));
    }

    /// Logs what was held back for long enough.
    pub fn look(&mut self, now: Duration) {
        self.due(|logged| now.saturating_sub(logged) >= QUIET, now)
            .iter()
            .for_each(log);
    }

    /// Logs everything that was held back: the run ends.
    pub fn end(&mut self) {
        self.due(|_| true, Duration::ZERO).iter().for_each(log);
    }

    /// The line to log now, if a notice makes one.
    fn take(&mut self, notice: &Notice, now: Duration) -> Option<Notice> {
        let key = (notice.topic.clone(), notice.code);
        let Some(kind) = self.kinds.get_mut(&key) else {
            let first = NoticeKind {
                logged: now,
                held: None,
            };
            self.kinds.insert(key, first);
            return Some(notice.clone());
        };
        match &mut kind.held {
            Some(held) => held.count += notice.count,
            held => *held = Some(notice.clone()),
        }
        if now.saturating_sub(kind.logged) < QUIET {
            return None;
        }
        kind.logged = now;
        kind.held.take()
    }

    /// The lines to log of kinds that are due by the time of their last line.
    fn due(&mut self, is_due: impl Fn(Duration) -> bool, now: Duration) -> Vec<Notice> {
        let mut lines = Vec::new();
        for kind in self.kinds.values_mut() {
            if is_due(kind.logged)
                && let Some(held) = kind.held.take()
            {
                kind.logged = now;
                lines.push(held);
            }
        }
        lines
    }
}

fn log(notice: &Notice) {
    tracing::warn!(
        topic = %notice.topic,
        partition = notice.partition,
        offset = notice.offset,
        reason = notice.code,
        records = notice.count,
        "{}",
        notice.message
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(code: &'static str, offset: i64) -> Notice {
        Notice {
            topic: "t".into(),
            code,
            count: 1,
            partition: 0,
            offset,
            message: "m".into(),
        }
    }

    #[test]
    fn the_first_record_of_a_kind_is_logged_and_later_ones_once_a_minute_with_a_count() {
        let mut log = NoticeLog::default();
        let mut told = |code, offset, second| {
            let line = log.take(&notice(code, offset), Duration::from_secs(second));
            line.map(|line| (line.offset, line.count))
        };
        assert_eq!(told("validation", 1, 100), Some((1, 1)));
        assert_eq!(told("stale_version", 2, 100), Some((2, 1)));
        assert_eq!(told("validation", 3, 101), None);
        assert_eq!(told("validation", 4, 159), None);
        assert_eq!(told("validation", 5, 160), Some((3, 3)));
        assert_eq!(told("validation", 6, 161), None);
        let minute = |second| Duration::from_secs(second);
        assert_eq!(log.due(|at| at <= minute(100), minute(161)), []);
        let due = log.due(|at| at <= minute(160), minute(220));
        assert_eq!(
            due,
            [notice("validation", 6)],
            "held back, nothing came after"
        );
        assert_eq!(log.due(|_| true, minute(221)), []);
    }
}
