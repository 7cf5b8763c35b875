//! Standings: the exact rank and percentile of a score among all scored entities of its task.
//!
//! Logits are rounded to a grid before anything depends on them, so their order is that of whole
//! numbers. Entities are counted by grid point and by chunk; a chunk is allocated with its first
//! score. Both counts are Fenwick trees: a change and a query cost the logarithm of the grid,
//! whatever the number of entities.
//!
//! Reference: Fenwick, "A new data structure for cumulative frequency tables", 1994.

use leadpulse_features::LOGIT_STEPS;
use leadpulse_records::Standing;

/// Largest logit with a place of its own, 1e-14 from certainty: scores beyond share the last place.
const LARGEST_LOGIT: f64 = 32.0;
const HALF_GRID: i32 = (LARGEST_LOGIT * LOGIT_STEPS) as i32;
const GRID: usize = 2 * HALF_GRID as usize + 1;
/// Grid points of a chunk: 16 KiB of counts. Scores of one task lie in some hundred chunks.
const CHUNK: usize = 4096;

/// Counts at places, with sums over all lower places.
#[derive(Clone)]
struct Fenwick {
    /// Element `i` (from 1) counts the places `i − (i & −i) .. i`, from 0.
    tree: Box<[u32]>,
}

impl Fenwick {
    fn new(places: usize) -> Self {
        Self {
            tree: vec![0; places + 1].into(),
        }
    }
    fn add(&mut self, place: usize, enters: bool) {
        let mut at = place + 1;
        while let Some(count) = self.tree.get_mut(at) {
            *count = if enters { *count + 1 } else { *count - 1 };
            at += at & at.wrapping_neg();
        }
    }
    fn below(&self, place: usize) -> u64 {
        let (mut at, mut count) = (place, 0);
        while at > 0 {
            count += u64::from(self.tree[at]);
            at &= at - 1;
        }
        count
    }
}

/// Counts of one task's eligible entities by logit.
#[derive(Clone)]
pub(crate) struct Standings {
    /// Counts at the grid points of each chunk; `None` for a chunk that never had a score.
    chunks: Vec<Option<Fenwick>>,
    by_chunk: Fenwick,
    ranked: u64,
}

impl Default for Standings {
    fn default() -> Self {
        let chunks = GRID.div_ceil(CHUNK);
        Self {
            chunks: (0..chunks).map(|_| None).collect(),
            by_chunk: Fenwick::new(chunks),
            ranked: 0,
        }
    }
}

impl Standings {
    /// Moves an entity from the logit `before` to `now`; `None` while the entity is not ranked.
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

    /// The standing of a counted logit.
    pub fn of(&self, logit: f64) -> Standing {
        let place = place(logit);
        let (below, up_to) = (self.below(place), self.below(place + 1));
        Standing {
            rank: self.ranked - up_to + 1,
            percentile: if self.ranked == 0 {
                0.0
            } else {
                100.0 * below as f64 / self.ranked as f64
            },
            ranked: self.ranked,
        }
    }

    fn add(&mut self, place: usize, enters: bool) {
        self.chunks[place / CHUNK]
            .get_or_insert_with(|| Fenwick::new(CHUNK))
            .add(place % CHUNK, enters);
        self.by_chunk.add(place / CHUNK, enters);
        self.ranked = if enters {
            self.ranked + 1
        } else {
            self.ranked - 1
        };
    }

    /// Number of entities at lower places.
    fn below(&self, place: usize) -> u64 {
        let within = self
            .chunks
            .get(place / CHUNK)
            .and_then(Option::as_ref)
            .map_or(0, |chunk| chunk.below(place % CHUNK));
        self.by_chunk.below(place / CHUNK) + within
    }
}

/// Grid point of a logit, from 0.
fn place(logit: f64) -> usize {
    let steps = (logit * LOGIT_STEPS)
        .round()
        .clamp(-f64::from(HALF_GRID), f64::from(HALF_GRID));
    (steps as i32 + HALF_GRID) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pseudo-random numbers from a seed, by xorshift: the order of changes.
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
                // Few different values, so that many are equal: around 0, around the border of two
                // chunks, all over the grid and beyond.
                let logit = match step % 7 {
                    0 => (next(400) as f64 - 200.0) / 4.0,
                    1..4 => (next(400) as f64 - 200.0) / LOGIT_STEPS,
                    _ => {
                        ((900 * CHUNK + next(40) as usize) as f64 - 20.0 - f64::from(HALF_GRID))
                            / LOGIT_STEPS
                    }
                };
                let now = (next(4) > 0).then_some(logit);
                standings.replace(scores[entity], now);
                scores[entity] = now;

                let clamped = |x: f64| x.clamp(-LARGEST_LOGIT, LARGEST_LOGIT);
                let all: Vec<f64> = scores.iter().flatten().copied().map(clamped).collect();
                for logit in &all {
                    let (above, below) = (
                        all.iter().filter(|x| *x > logit).count(),
                        all.iter().filter(|x| *x < logit).count(),
                    );
                    let expected = Standing {
                        rank: above as u64 + 1,
                        percentile: 100.0 * below as f64 / all.len() as f64,
                        ranked: all.len() as u64,
                    };
                    assert_eq!(
                        standings.of(*logit),
                        expected,
                        "seed {seed}, step {step}, {logit}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_ends_of_the_grid_are_ranked() {
        let mut standings = Standings::default();
        let logits = [
            -1e9,
            -LARGEST_LOGIT,
            0.0,
            LARGEST_LOGIT - 1.0 / LOGIT_STEPS,
            LARGEST_LOGIT,
            1e9,
        ];
        logits
            .iter()
            .for_each(|logit| standings.replace(None, Some(*logit)));
        let ranks: Vec<u64> = logits
            .iter()
            .map(|logit| standings.of(*logit).rank)
            .collect();
        assert_eq!(ranks, [5, 5, 4, 3, 1, 1]);
        assert_eq!(
            standings.chunks.iter().flatten().count(),
            3,
            "only chunks with scores take memory"
        );
        logits
            .iter()
            .for_each(|logit| standings.replace(Some(*logit), None));
        assert_eq!(
            (
                standings.ranked,
                standings.by_chunk.below(GRID.div_ceil(CHUNK))
            ),
            (0, 0)
        );
    }
}
