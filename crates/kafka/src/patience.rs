//! Waiting for brokers: reported, interruptible, with growing pauses.
//!
//! No wait gives up because of time. An outage is waited out, `/readyz` names it, and a stop ends
//! the wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use leadpulse_engine::ports::{Attendant, PortCause, PortError};

/// Name under which the sink reports to its attendant.
const MATTER: &str = "kafka";
/// Time between two looks at the stop flag within a pause.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The sink's reports to its attendant. A report is withdrawn once the wait is over.
pub(crate) struct Attended {
    attendant: Arc<dyn Attendant>,
    reported: AtomicBool,
}

impl Attended {
    pub(crate) fn new(attendant: Arc<dyn Attendant>) -> Self {
        Self {
            attendant,
            reported: AtomicBool::new(false),
        }
    }

    pub(crate) fn beat(&self) {
        self.attendant.beat();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.attendant.is_stopped()
    }

    /// Reports the reason of a long wait.
    pub(crate) fn report(&self, why: &str) {
        self.reported.store(true, Ordering::Relaxed);
        self.attendant.report(MATTER, Some(why.to_owned()));
    }

    /// Withdraws the report, if one was made.
    pub(crate) fn clear(&self) {
        if self.reported.swap(false, Ordering::Relaxed) {
            self.attendant.report(MATTER, None);
        }
    }

    /// The error of a wait that a stop ended.
    pub(crate) fn interrupted(&self) -> PortError {
        PortError::interrupted(
            PortCause::Stopped,
            "kafka: told to stop while waiting for the brokers",
        )
    }

    /// Sleeps for `pause`, and beats meanwhile.
    ///
    /// # Errors
    /// [`PortError::Interrupted`] once the process is told to stop.
    pub(crate) fn pause(&self, pause: Duration) -> Result<(), PortError> {
        let until = Instant::now() + pause;
        loop {
            if self.is_stopped() {
                return Err(self.interrupted());
            }
            self.beat();
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK_INTERVAL));
        }
    }
}

/// Pauses that double from 200 ms to 5 s. Each is shortened at random by up to a half, so that two
/// processes that fence each other do not try at the same moments.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST_PAUSE }
    }

    /// The next pause; every call lengthens the one after.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST_PAUSE);
        pause.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct RecordingAttendant {
        stopped: AtomicBool,
        reports: Mutex<Vec<Option<String>>>,
    }

    impl Attendant for RecordingAttendant {
        fn beat(&self) {}
        fn is_stopped(&self) -> bool {
            self.stopped.load(Ordering::Relaxed)
        }
        fn report(&self, matter: &'static str, condition: Option<String>) {
            assert_eq!(matter, "kafka");
            self.reports.lock().unwrap().push(condition);
        }
    }

    #[test]
    fn pauses_double_up_to_five_seconds() {
        let mut backoff = Backoff::new();
        let pauses: Vec<u128> = (0..8).map(|_| backoff.pause().as_millis()).collect();
        for (pause, longest) in pauses
            .iter()
            .zip([200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000])
        {
            assert!((longest / 2..=longest).contains(pause), "{pauses:?}");
        }
    }

    #[test]
    fn a_report_is_withdrawn_once() {
        let attendant = Arc::new(RecordingAttendant::default());
        let attended = Attended::new(Arc::clone(&attendant) as Arc<dyn Attendant>);
        attended.clear();
        attended.report("away");
        attended.clear();
        attended.clear();
        assert_eq!(
            *attendant.reports.lock().unwrap(),
            [Some("away".to_owned()), None]
        );
    }

    #[test]
    fn a_stop_ends_a_pause() {
        let attendant = Arc::new(RecordingAttendant::default());
        let attended = Attended::new(Arc::clone(&attendant) as Arc<dyn Attendant>);
        assert!(attended.pause(Duration::ZERO).is_ok());
        attendant.stopped.store(true, Ordering::Relaxed);
        assert!(matches!(
            attended.pause(Duration::from_secs(86_400)),
            Err(PortError::Interrupted(_))
        ));
    }
}
