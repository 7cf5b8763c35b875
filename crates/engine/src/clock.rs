//! The wall clock, guarded: a reading that jumps against the monotonic clock is not believed.
//!
//! `as_of` never goes back, so one wrong reading would spoil a deployment for good (an NTP step, a
//! typo in `date`). A jump is believed once
//! records that producers write now carry timestamps that speak for it; the monotonic clock stands
//! still while a machine sleeps, so a jump
//! forward may well be true. The first reading is believed, unless it lies before the newest one
//! that was recorded.

use std::sync::Arc;

use crate::ports::Clock;

/// Tolerated difference of wall and monotonic clock between two readings, milliseconds: slewing and
/// small steps are normal.
const TOLERANCE_MS: i64 = 60_000;

/// A reading of the guarded clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Milliseconds since 1970 UTC.
    pub now_ms: i64,
    /// Distance of the wall clock from `now_ms`, milliseconds, while the wall clock is not
    /// believed.
    pub refused_by_ms: Option<i64>,
}

/// The wall clock behind its guard.
pub(crate) struct GuardedClock {
    clock: Arc<dyn Clock>,
    /// Wall and monotonic time of the last reading that was believed.
    anchor: Option<(i64, i64)>,
}

impl GuardedClock {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            anchor: None,
        }
    }

    /// The wall and the monotonic clock, milliseconds.
    fn both_ms(&self) -> (i64, i64) {
        let elapsed_ms = self.clock.elapsed().as_millis();
        (self.clock.wall_ms(), elapsed_ms as i64)
    }

    /// Refuses a first reading before this recorded moment, milliseconds.
    pub fn not_before(&mut self, recorded_ms: i64) {
        let (wall_ms, monotonic_ms) = self.both_ms();
        if self.anchor.is_none() && wall_ms < recorded_ms.saturating_sub(TOLERANCE_MS) {
            self.anchor = Some((recorded_ms, monotonic_ms));
        }
    }

    /// The time. `newest_record_ms` is the newest Kafka timestamp among records that were read
    /// just now; `is_current` is true if nothing
    /// older waits, so that it is of about now.
    pub fn read(&mut self, newest_record_ms: Option<i64>, is_current: bool) -> Reading {
        let (wall_ms, monotonic_ms) = self.both_ms();
        let (anchor_wall_ms, anchor_monotonic_ms) =
            *self.anchor.get_or_insert((wall_ms, monotonic_ms));
        let expected_ms = anchor_wall_ms.saturating_add(monotonic_ms - anchor_monotonic_ms);
        let near = |other_ms: i64| (wall_ms - other_ms).abs() <= TOLERANCE_MS;
        let speaks_for_it = newest_record_ms.is_some_and(|record_ms| {
            // A record that is newer than we expect shows that we expect too little. An old one
            // shows nothing while a backlog is read.
            let is_between =
                record_ms > expected_ms + TOLERANCE_MS && record_ms <= wall_ms + TOLERANCE_MS;
            is_between || (is_current && near(record_ms))
        });
        if near(expected_ms) || speaks_for_it {
            self.anchor = Some((wall_ms, monotonic_ms));
            return Reading {
                now_ms: wall_ms,
                refused_by_ms: None,
            };
        }
        Reading {
            now_ms: expected_ms,
            refused_by_ms: Some(wall_ms - expected_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Hands {
        wall_ms: AtomicI64,
        monotonic_ms: AtomicI64,
    }

    impl Clock for Hands {
        fn wall_ms(&self) -> i64 {
            self.wall_ms.load(Ordering::SeqCst)
        }
        fn elapsed(&self) -> Duration {
            Duration::from_millis(self.monotonic_ms.load(Ordering::SeqCst) as u64)
        }
        fn wait(&self, _: Duration) {}
    }

    #[test]
    fn a_jump_is_refused_until_records_agree_with_it() {
        const HOUR_MS: i64 = 3_600_000;
        let hands = Arc::new(Hands::default());
        let mut clock = GuardedClock::new(hands.clone());
        // (wall, monotonic, newest record) → (time, refused by)
        type ClockStep = (i64, i64, Option<i64>, i64, Option<i64>);
        let steps: [ClockStep; 9] = [
            (1_000, 0, None, 1_000, None),
            (61_000, 1_000, None, 61_000, None),
            (62_000, 2_000, Some(5), 62_000, None),
            (
                10 * HOUR_MS,
                3_000,
                None,
                63_000,
                Some(10 * HOUR_MS - 63_000),
            ),
            (
                10 * HOUR_MS + 1_000,
                4_000,
                Some(64_000),
                64_000,
                Some(10 * HOUR_MS + 1_000 - 64_000),
            ),
            (65_000, 5_000, None, 65_000, None),
            (
                10 * HOUR_MS,
                6_000,
                Some(10 * HOUR_MS - 2_000),
                10 * HOUR_MS,
                None,
            ),
            (
                10 * HOUR_MS + 1_000,
                7_000,
                None,
                10 * HOUR_MS + 1_000,
                None,
            ),
            (
                HOUR_MS,
                8_000,
                None,
                10 * HOUR_MS + 2_000,
                Some(-9 * HOUR_MS - 2_000),
            ),
        ];
        for (index, (wall_ms, monotonic_ms, record_ms, now_ms, refused_by_ms)) in
            steps.into_iter().enumerate()
        {
            hands.wall_ms.store(wall_ms, Ordering::SeqCst);
            hands.monotonic_ms.store(monotonic_ms, Ordering::SeqCst);
            assert_eq!(
                clock.read(record_ms, true),
                Reading {
                    now_ms,
                    refused_by_ms
                },
                "step {index}"
            );
        }
    }

    #[test]
    fn a_sleep_is_believed_with_its_backlog_and_a_step_back_is_not() {
        const HOUR_MS: i64 = 3_600_000;
        let hands = Arc::new(Hands::default());
        let at = |wall_ms: i64| hands.wall_ms.store(wall_ms, Ordering::SeqCst);
        let mut clock = GuardedClock::new(hands.clone());
        at(100 * HOUR_MS);
        clock.not_before(101 * HOUR_MS);
        assert_eq!(
            clock.read(None, true),
            Reading {
                now_ms: 101 * HOUR_MS,
                refused_by_ms: Some(-HOUR_MS)
            },
            "it was later already"
        );
        at(101 * HOUR_MS);
        assert_eq!(clock.read(None, true).refused_by_ms, None);
        // Twelve hours of sleep: the backlog is of the time between.
        at(113 * HOUR_MS);
        assert_eq!(clock.read(None, false).now_ms, 101 * HOUR_MS);
        assert_eq!(
            clock.read(Some(105 * HOUR_MS), false),
            Reading {
                now_ms: 113 * HOUR_MS,
                refused_by_ms: None
            }
        );
        // A step back, while records of that time are read as a backlog.
        at(110 * HOUR_MS);
        assert_eq!(clock.read(Some(110 * HOUR_MS), false).now_ms, 113 * HOUR_MS);
        assert_eq!(clock.read(Some(110 * HOUR_MS), true).now_ms, 110 * HOUR_MS);
    }
}
