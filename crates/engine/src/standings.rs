//! Where a score stands among all scored entities of its task: rank and percentile, exact, at any moment.
//!
//! Logits are rounded to 1e-4 before anything depends on them, so their order is that of whole numbers on a fixed grid. A Fenwick tree
//! counts the entities at each grid point: a change and a question cost the logarithm of the grid, whatever the number of entities.

/// Grid points per logit.
const STEPS_PER_LOGIT: f64 = 1e4;
/// Beyond this many logits (a probability of 1e-14) scores share the last place.
const LARGEST_LOGIT: i32 = 32;
const HALF_GRID: i32 = LARGEST_LOGIT * STEPS_PER_LOGIT as i32;
const GRID: usize = 2 * HALF_GRID as usize + 1;

/// The place of a score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// From 1; equal scores share a place.
    pub rank: u64,
    /// Percent of the ranked that are below, 0–100.
    pub percentile: f64,
    /// How many are ranked.
    pub ranked: u64,
}

/// The scores of one task's eligible entities, counted.
pub(crate) struct Standings {
    /// Element `i` (from 1) counts the grid points `i − (i & −i) + 1 ..= i`.
    tree: Vec<u32>,
    ranked: u64,
}

impl Default for Standings {
    fn default() -> Self {
        Self { tree: vec![0; GRID + 1], ranked: 0 }
    }
}

impl Standings {
    /// An entity's score changes: from `before` to `now`; `None` where it is not ranked.
    pub fn replace(&mut self, before: Option<f64>, now: Option<f64>) {
        let (before, now) = (before.map(place), now.map(place));
        if before == now {
            return;
        }
        if let Some(place) = before {
            self.add(place, false);
        }
        if let Some(place) = now {
            self.add(place, true);
        }
    }

    /// The place of a logit that is counted.
    pub fn of(&self, logit: f64) -> Standing {
        let place = place(logit);
        let (below, up_to) = (self.up_to(place - 1), self.up_to(place));
        Standing {
            rank: self.ranked - up_to + 1,
            percentile: if self.ranked == 0 { 0.0 } else { 100.0 * below as f64 / self.ranked as f64 },
            ranked: self.ranked,
        }
    }

    fn add(&mut self, place: usize, enters: bool) {
        let mut at = place;
        while at <= GRID {
            let count = &mut self.tree[at];
            *count = if enters { *count + 1 } else { *count - 1 };
            at += at & at.wrapping_neg();
        }
        self.ranked = if enters { self.ranked + 1 } else { self.ranked - 1 };
    }

    /// How many are at this place or a lower one.
    fn up_to(&self, place: usize) -> u64 {
        let (mut at, mut count) = (place, 0);
        while at > 0 {
            count += u64::from(self.tree[at]);
            at &= at - 1;
        }
        count
    }
}

/// Grid points from 1.
fn place(logit: f64) -> usize {
    let steps = (logit * STEPS_PER_LOGIT).round().clamp(-f64::from(HALF_GRID), f64::from(HALF_GRID));
    (steps as i32 + HALF_GRID) as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// xorshift: the order of changes, from a seed.
    fn numbers(mut seed: u64) -> impl FnMut(u64) -> u64 {
        move |below| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        }
    }

    #[test]
    fn places_equal_those_of_a_sorted_list() {
        for seed in [1_u64, 77, 4_242] {
            let mut next = numbers(seed);
            let mut scores: Vec<Option<f64>> = vec![None; 60];
            let mut standings = Standings::default();
            for step in 0..2_000 {
                let entity = next(scores.len() as u64) as usize;
                // Few different values, so that many are equal; some beyond the grid.
                let logit = (next(400) as f64 - 200.0) / if step % 7 == 0 { 4.0 } else { 1e4 };
                let now = (next(4) > 0).then_some(logit);
                standings.replace(scores[entity], now);
                scores[entity] = now;

                let clamped = |x: f64| x.clamp(-f64::from(LARGEST_LOGIT), f64::from(LARGEST_LOGIT));
                let all: Vec<f64> = scores.iter().flatten().copied().map(clamped).collect();
                for logit in &all {
                    let (above, below) = (all.iter().filter(|x| *x > logit).count(), all.iter().filter(|x| *x < logit).count());
                    let expected =
                        Standing { rank: above as u64 + 1, percentile: 100.0 * below as f64 / all.len() as f64, ranked: all.len() as u64 };
                    assert_eq!(standings.of(*logit), expected, "seed {seed}, step {step}, {logit}");
                }
            }
        }
    }
}
