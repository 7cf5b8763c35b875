//! Heartbeat of a loop: a counter that the loop moves, timed by a monotonic clock here.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The newest reading of the counter, with the time of the last change.
#[derive(Debug)]
pub struct Heartbeat {
    last: Mutex<(u64, Instant)>,
}

impl Heartbeat {
    /// A first reading.
    pub fn new(beats: u64, now: Instant) -> Self {
        Self {
            last: Mutex::new((beats, now)),
        }
    }

    /// Takes a reading of the counter. Returns the time since the first reading of this number.
    pub fn age(&self, beats: u64, now: Instant) -> Duration {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != beats {
            *last = (beats, now);
        }
        now.saturating_duration_since(last.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_stands_still_ages() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let heartbeat = Heartbeat::new(0, start);
        let ages = [(0, 5), (1, 6), (1, 9), (2, 9), (2, 40)]
            .map(|(beats, seconds)| heartbeat.age(beats, after(seconds)).as_secs());
        assert_eq!(ages, [5, 0, 3, 0, 31]);
    }
}
