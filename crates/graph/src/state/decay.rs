//! The bank of exponential half-lives.
//!
//! A sum is stored relative to a landmark: adding an event at `t` is `S += φ·2^((t−L)/h)`,
//! whatever the order of arrival; reading at `t` is `S·2^(−(t−L)/h)`. Landmarks lie on a grid so
//! coarse that a weight never exceeds 2^256; a state moves to the landmark of its newest event.

use leadpulse_schema::units::DAY_MS_F64;

/// Half-lives and their landmark grid.
#[derive(Clone, Debug, PartialEq)]
// Decision: docs/decisions/0009-state-that-commutes.md
pub struct Bank {
    half_lives_ms: Vec<f64>,
    period_ms: i64,
}

/// Number of a landmark: `L = number · period`.
pub type Landmark = i32;

/// The landmark of a state without events.
pub const NO_LANDMARK: Landmark = i32::MIN;

impl Bank {
    /// A bank of these half-lives, in days, ascending.
    pub fn new(half_lives_days: &[f64]) -> Self {
        let half_lives_ms: Vec<f64> = half_lives_days.iter().map(|d| d * DAY_MS_F64).collect();
        let shortest = half_lives_ms
            .first()
            .copied()
            .expect("validated: at least one half-life");
        Self {
            period_ms: (shortest * 256.0) as i64,
            half_lives_ms,
        }
    }
    /// The number of half-lives, at least one.
    pub fn len(&self) -> usize {
        self.half_lives_ms.len()
    }
    /// Always false: a bank has at least one half-life.
    pub fn is_empty(&self) -> bool {
        self.half_lives_ms.is_empty()
    }
    /// The half-lives, milliseconds, ascending.
    pub fn half_lives_ms(&self) -> &[f64] {
        &self.half_lives_ms
    }
    /// The landmark at or before `t`.
    pub fn landmark(&self, t_ms: i64) -> Landmark {
        t_ms.div_euclid(self.period_ms)
            .clamp(i64::from(NO_LANDMARK) + 1, i64::from(Landmark::MAX)) as Landmark
    }
    /// Weight of an event at `t` relative to `landmark`, for half-life number `h`.
    pub fn weight(&self, h: usize, t_ms: i64, landmark: Landmark) -> f64 {
        let since_ms = t_ms.saturating_sub(i64::from(landmark).saturating_mul(self.period_ms));
        (since_ms as f64 / self.half_lives_ms[h]).exp2()
    }
    /// The factor by which a sum relative to `landmark` is read at `t`; 0 without a landmark.
    pub fn read(&self, h: usize, landmark: Landmark, t_ms: i64) -> f64 {
        if landmark == NO_LANDMARK {
            0.0
        } else {
            1.0 / self.weight(h, t_ms, landmark)
        }
    }
    /// The factor that moves a sum from one landmark to another.
    pub fn rebase(&self, h: usize, from: Landmark, to: Landmark) -> f64 {
        if from == NO_LANDMARK || from == to {
            return 1.0;
        }
        ((i64::from(from) - i64::from(to)) as f64 * self.period_ms as f64 / self.half_lives_ms[h])
            .exp2()
    }
}

#[cfg(test)]
mod tests {
    use leadpulse_schema::units::DAY_MS;

    use super::*;

    #[test]
    fn reading_is_a_semigroup_over_years() {
        let bank = Bank::new(&[2.0, 14.0, 90.0]);
        let day = DAY_MS;
        for h in 0..3 {
            for (t, read_at) in [(0, day), (400 * day, 1200 * day), (-90 * day, 30 * day)] {
                let landmark = bank.landmark(t);
                let value = bank.weight(h, t, landmark) * bank.read(h, landmark, read_at);
                let expected = (-((read_at - t) as f64) / bank.half_lives_ms()[h]).exp2();
                assert!(
                    (value - expected).abs() <= 1e-12 * expected.max(1e-300),
                    "{h} {t}: {value} {expected}"
                );
            }
        }
    }

    #[test]
    fn rebasing_keeps_the_value() {
        let bank = Bank::new(&[2.0, 14.0]);
        let t = 1_000_000_000_000;
        let (a, b) = (bank.landmark(t), bank.landmark(t) + 2);
        for h in 0..2 {
            let moved = bank.weight(h, t, a) * bank.rebase(h, a, b) * bank.read(h, b, t + 5);
            let direct = bank.weight(h, t, a) * bank.read(h, a, t + 5);
            assert!((moved / direct - 1.0).abs() < 1e-12);
        }
    }
}
