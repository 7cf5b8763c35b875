//! Moments of training, validation and test: the same for every model.

use leadpulse_project::Anchors;

use crate::history::DAY_MS;

/// Window of the prediction, days.
pub const HORIZON_DAYS: i64 = 90;
/// Moments of the test, and days between them.
const TESTS: i64 = 5;
const TEST_EVERY_DAYS: i64 = 30;
/// Days at the start without any example.
pub const WARMUP_DAYS: i64 = 90;
/// Validation starts so long before the test: a window, and a third.
const VALIDATION_DAYS: i64 = HORIZON_DAYS + HORIZON_DAYS / 3;

/// The moments of a history.
#[derive(Clone, Debug)]
pub struct Calendar {
    pub val_from_ms: i64,
    pub test_from_ms: i64,
    /// Moments of training whose windows have closed by `val_from_ms`, of validation, and of both
    /// and those between.
    pub training: Vec<i64>,
    pub validation: Vec<i64>,
    pub refit: Vec<i64>,
    pub test: Vec<i64>,
    /// Every seventh day of the test.
    pub weekly: Vec<i64>,
}

impl Calendar {
    /// The moments of a history of so many days from `start_ms` on, whose first event is known at
    /// `first_ms`, with so many weeks of lists. `None`: it is too short.
    pub fn new(
        start_ms: i64,
        days: i64,
        first_ms: i64,
        anchors: Anchors,
        weeks: usize,
    ) -> Option<Self> {
        let end_ms = start_ms + days * DAY_MS;
        let test_from_ms = end_ms - (HORIZON_DAYS + (TESTS - 1) * TEST_EVERY_DAYS) * DAY_MS;
        let val_from_ms = test_from_ms - VALIDATION_DAYS * DAY_MS;
        // As training takes them.
        let last_ms = test_from_ms - HORIZON_DAYS * DAY_MS;
        let mut refit = anchors.between(first_ms + WARMUP_DAYS * DAY_MS, last_ms);
        refit.extend([val_from_ms, last_ms]);
        refit.sort_unstable();
        refit.dedup();
        let closed_ms = val_from_ms - HORIZON_DAYS * DAY_MS;
        let training: Vec<i64> = refit
            .iter()
            .copied()
            .filter(|at_ms| *at_ms <= closed_ms)
            .collect();
        let validation = refit
            .iter()
            .copied()
            .filter(|at_ms| *at_ms >= val_from_ms)
            .collect();
        let every = |days: i64, until_ms: i64| {
            (0..)
                .map(move |i| test_from_ms + i * days * DAY_MS)
                .take_while(move |t| *t <= until_ms)
        };
        let test = every(TEST_EVERY_DAYS, end_ms - HORIZON_DAYS * DAY_MS).collect();
        let weekly = every(7, end_ms - DAY_MS).take(weeks).collect();
        (!training.is_empty()).then_some(Self {
            val_from_ms,
            test_from_ms,
            training,
            validation,
            refit,
            test,
            weekly,
        })
    }

    /// All moments, ascending.
    pub fn all(&self) -> Vec<i64> {
        let mut all = [self.refit.as_slice(), &self.test, &self.weekly].concat();
        all.sort_unstable();
        all.dedup();
        all
    }
}
