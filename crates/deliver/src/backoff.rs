//! Growing pauses between tries.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// Longest time that an answer may ask to wait: a mistaken date must not stop a sink for months.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);
/// Shortest pause, whatever an answer asks for.
const SHORTEST: Duration = Duration::from_millis(100);

/// Pauses that double, with jitter, up to a limit; they begin anew after progress.
#[derive(Debug)]
pub(crate) struct Backoff {
    builder: ExponentialBuilder,
    running: Option<ExponentialBackoff>,
    longest: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        let builder = ExponentialBuilder::new()
            .with_min_delay(first)
            .with_max_delay(longest)
            .without_max_times()
            .with_jitter();
        Self {
            builder,
            running: None,
            longest,
        }
    }

    /// Begins anew.
    pub(crate) fn reset(&mut self) {
        self.running = None;
    }

    /// The next pause: the one that was asked for, or else the next of the series.
    pub(crate) fn pause(&mut self, asked: Option<Duration>) -> Duration {
        let builder = self.builder;
        let series = self.running.get_or_insert_with(|| builder.build());
        let next = series.next().unwrap_or(self.longest);
        match asked {
            Some(asked) => asked.min(LONGEST_ASKED),
            // The jitter adds up to the pause itself.
            None => next.min(self.longest),
        }
        .max(SHORTEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_limit_and_begin_anew() {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(60));
        let mut backoff = Backoff::new(first, longest);
        let pauses: Vec<Duration> = (0..12).map(|_| backoff.pause(None)).collect();
        assert!(pauses[0] >= first && pauses[0] <= 2 * first, "{pauses:?}");
        assert!(pauses[3] >= 8 * first, "{pauses:?}");
        assert!(pauses[8..].iter().all(|pause| *pause == longest));
        backoff.reset();
        assert!(backoff.pause(None) <= 2 * first);
    }

    #[test]
    fn an_asked_pause_counts_within_bounds() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let asked = |backoff: &mut Backoff, seconds| {
            backoff.pause(Some(Duration::from_secs(seconds))).as_secs()
        };
        assert_eq!(asked(&mut backoff, 90), 90);
        assert_eq!(asked(&mut backoff, 1_000_000), 3600);
        assert_eq!(backoff.pause(Some(Duration::ZERO)), SHORTEST);
    }
}
