//! Whether the engine's loop still comes round: told from a counter that it moves, and a monotonic clock here.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When the counter moved last.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    last: Mutex<(u64, Instant)>,
}

impl Heartbeat {
    pub fn new(beats: u64, now: Instant) -> Self {
        Self {
            last: Mutex::new((beats, now)),
        }
    }

    /// The counter stands at `beats`. How long it has stood there, as far as it was looked at.
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
