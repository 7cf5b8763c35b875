//! Requests per second of one sink.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use leadpulse_engine::ports::Clock;

/// The clock port as the limiter reads it.
#[derive(Clone)]
pub(crate) struct PortClock(pub(crate) Arc<dyn Clock>);

impl GovernorClock for PortClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A limiter without bursts: a second's requests are spread over the second.
pub(crate) struct Rate {
    limiter: RateLimiter<NotKeyed, InMemoryState, PortClock, NoOpMiddleware<Duration>>,
    clock: PortClock,
}

impl Rate {
    pub(crate) fn new(per_second: NonZeroU32, clock: &Arc<dyn Clock>) -> Self {
        let clock = PortClock(Arc::clone(clock));
        let quota = Quota::per_second(per_second).allow_burst(NonZeroU32::MIN);
        Self {
            limiter: RateLimiter::direct_with_clock(quota, clock.clone()),
            clock,
        }
    }

    /// Takes a turn. `Err` holds the time until there is one.
    pub(crate) fn take_turn(&self) -> Result<(), Duration> {
        let taken = self.limiter.check();
        taken.map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }
}
