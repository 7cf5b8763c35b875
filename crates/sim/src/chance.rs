//! Dice: the few distributions that the market needs, from an explicit seed.
//!
//! Each concern has a stream of its own, so that more engagement noise does not change the
//! purchases.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::rates::Ways;

/// The concerns with a stream of random numbers each.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DiceStream {
    /// Accounts and people at the start.
    Birth = 1,
    /// Moves of the hidden states.
    Fate = 2,
    /// Activities, content views, product usage.
    Engagement = 3,
    /// Opportunities and their stages.
    Deals = 4,
    /// Leads and people who become known.
    People = 5,
    /// People who change employer.
    Moves = 6,
    /// Faults on the way into the files.
    Mess = 7,
    /// People from free-mail addresses.
    Strangers = 8,
}

/// A seeded source of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    pub(crate) fn new(seed: u64, stream: DiceStream) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(stream as u64);
        Self(generator)
    }

    /// A uniform number in [0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0.random::<f64>()
    }

    /// True with a probability, 0 to 1.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// A uniform integer in `0..n`. `n` must not be 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n as u64) as usize
    }

    /// One of the items, all with equal probability.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// An index with probability proportional to its weight.
    pub(crate) fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut left = self.uniform() * weights.iter().sum::<f64>();
        for (index, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return index;
            }
        }
        weights.len() - 1
    }

    /// A standard normal number (method of Box and Muller).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// The number of events of a Poisson process with this mean.
    pub(crate) fn poisson(&mut self, mean: f64) -> u32 {
        /// Above it e^-mean loses precision: the mean is split, as sums of Poisson variables are
        /// Poisson.
        const SPLIT: f64 = 16.0;
        let mut total = 0;
        let mut left = mean;
        while left > SPLIT {
            total += self.poisson_by_inversion(SPLIT);
            left -= SPLIT;
        }
        total + self.poisson_by_inversion(left)
    }

    fn poisson_by_inversion(&mut self, mean: f64) -> u32 {
        let mut left = self.uniform();
        let mut probability = (-mean).exp();
        let mut count = 0;
        while left >= probability && probability > 0.0 {
            left -= probability;
            count += 1;
            probability *= mean / f64::from(count);
        }
        count
    }

    /// The index of the way that is taken today, if one is.
    pub(crate) fn way<const N: usize>(&mut self, ways: &Ways<N>) -> Option<usize> {
        let taken = -(-ways.total()).exp_m1();
        let roll = self.uniform();
        if roll >= taken {
            return None;
        }
        let mut left = roll / taken * ways.total();
        for (way, rate) in ways.0.iter().enumerate() {
            left -= rate;
            if left < 0.0 {
                return Some(way);
            }
        }
        Some(N - 1)
    }

    /// A moment of a working day, in milliseconds after midnight: between 6 and 20 o'clock, most
    /// around 13.
    pub(crate) fn time_of_day_ms(&mut self) -> i64 {
        let spread = 0.5 * (self.uniform() + self.uniform());
        between(6.0, 20.0, spread)
    }

    /// A moment between 6 and 12 o'clock: before the day's opportunities move.
    pub(crate) fn morning_ms(&mut self) -> i64 {
        between(6.0, 12.0, self.uniform())
    }

    /// A moment between 12 and 20 o'clock.
    pub(crate) fn afternoon_ms(&mut self) -> i64 {
        between(12.0, 20.0, self.uniform())
    }

    /// A moment between 21 and 24 o'clock: after all that people do.
    pub(crate) fn evening_ms(&mut self) -> i64 {
        between(21.0, 24.0, self.uniform())
    }
}

fn between(from_hour: f64, to_hour: f64, share: f64) -> i64 {
    (3_600_000.0 * (from_hour + (to_hour - from_hour) * share)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_have_their_moments() {
        let mut dice = Dice::new(7, DiceStream::Birth);
        const DRAWS: usize = 40_000;
        for mean in [0.0, 0.02, 0.7, 5.0, 40.0] {
            let draws: Vec<f64> = (0..DRAWS).map(|_| f64::from(dice.poisson(mean))).collect();
            let average = draws.iter().sum::<f64>() / DRAWS as f64;
            let variance = draws.iter().map(|x| (x - average).powi(2)).sum::<f64>() / DRAWS as f64;
            let tolerance = 5.0 * (mean / DRAWS as f64).sqrt();
            assert!(
                (average - mean).abs() <= tolerance,
                "mean {mean}: {average}"
            );
            assert!(
                (variance - mean).abs() <= 0.05 * mean + 0.01,
                "mean {mean}: variance {variance}"
            );
        }
        let normals: Vec<f64> = (0..DRAWS).map(|_| dice.normal()).collect();
        let average = normals.iter().sum::<f64>() / DRAWS as f64;
        let variance = normals.iter().map(|x| x * x).sum::<f64>() / DRAWS as f64;
        assert!(
            average.abs() < 0.025 && (variance - 1.0).abs() < 0.05,
            "{average} {variance}"
        );
    }

    #[test]
    fn weights_decide_how_often() {
        let mut dice = Dice::new(1, DiceStream::Fate);
        let mut seen = [0_u32; 3];
        (0..10_000).for_each(|_| seen[dice.weighted(&[1.0, 0.0, 3.0])] += 1);
        assert_eq!(seen[1], 0);
        assert!((2_300..2_700).contains(&seen[0]), "{seen:?}");
    }

    #[test]
    fn streams_differ_and_repeat() {
        let draw = |stream| Dice::new(3, stream).uniform();
        assert_eq!(draw(DiceStream::Fate), draw(DiceStream::Fate));
        assert_ne!(draw(DiceStream::Fate), draw(DiceStream::Engagement));
    }
}
