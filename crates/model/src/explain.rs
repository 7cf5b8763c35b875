//! Explanations of scores: Shapley values over the layout's groups of columns.
//!
//! A coalition's value is the calibrated logit of the row with the columns of all other groups
//! replaced by what stands for their absence, and the member rows taken out that only they bring.
//! So the empty coalition is worth the same for every row of a task. Exact over all
//! coalitions up to ten groups that differ from their absence; above, sampled from permutations in
//! antithetic pairs. Both are complete: base + Σ contributions = logit. A group that is as if
//! absent contributes exactly 0.
//!
//! Decision: docs/decisions/0019-shapley-values-over-groups.md

pub(crate) mod coalitions;
pub(crate) mod deletion;
mod differences;
mod parts;
mod presence;
#[cfg(test)]
mod properties;
mod tree_game;

use leadpulse_features::{Contribution, Explanation, FeatureBatch};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::explain::coalitions::{Coalition, Game, MOST_GROUPS};
use crate::fit::Fitted;
use crate::network::TowerTarget;

/// Up to this many groups the value of every coalition is computed.
// Each further group doubles the time, and 12 take up to ten times what is sampled:
// docs/decisions/0019-shapley-values-over-groups.md.
const EXACT_GROUPS: usize = 10;
/// Above, this many permutations are drawn, half of them the reverses of the others.
// Antithetic pairs: what an order gives to the early groups its reverse gives to the late ones
// (Mitchell et al., "Sampling Permutations for Shapley Value Estimation", [arXiv
// 2104.12199](https://arxiv.org/abs/2104.12199)). Why 32 is unknown; the error was not measured.
const PERMUTATIONS: usize = 32;
/// The same row always gets the same permutations.
const PERMUTATION_SEED: u64 = 0x5eed;

/// All of so many players.
pub(crate) fn everyone(players: usize) -> Coalition {
    if players == MOST_GROUPS {
        Coalition::MAX
    } else {
        (1 << players) - 1
    }
}

/// Shapley values and the value of the empty coalition. `value` is asked for each distinct
/// coalition once, except the full one, whose value is `full`.
fn shapley(players: usize, full: f64, value: impl Fn(&[Coalition]) -> Vec<f64>) -> (f64, Vec<f64>) {
    if players == 0 {
        return (full, Vec::new());
    }
    let everyone = everyone(players);
    // The full coalition is the greatest number, and so always the last.
    let with_full = |coalitions: &[Coalition]| {
        let mut values = value(coalitions);
        values.push(full);
        values
    };
    if players <= EXACT_GROUPS {
        let values = with_full(&(0..everyone).collect::<Vec<_>>());
        return (values[0], exact(players, &values));
    }
    let orders = permutations(players);
    let coalitions = coalitions_of(&orders);
    let values = with_full(&coalitions[..coalitions.len() - 1]);
    let of = |coalition: Coalition| {
        values[coalitions
            .binary_search(&coalition)
            .expect("the coalitions are those of the orders")]
    };
    (values[0], sampled(players, &orders, of))
}

/// Shapley values by their definition (Shapley, "A Value for n-Person Games", 1953). `values` holds
/// the value of every coalition, in the order of their bits.
fn exact(players: usize, values: &[f64]) -> Vec<f64> {
    // |S|! (n − |S| − 1)! ÷ n! is 1 ÷ (n · C(n − 1, |S|)).
    let mut weights = vec![1.0 / players as f64];
    for size in 1..players {
        weights.push(weights[size - 1] * size as f64 / (players - size) as f64);
    }
    (0..players)
        .map(|player| {
            let bit = 1 << player;
            let without = (0..values.len()).filter(|coalition| coalition & bit == 0);
            without
                .map(|coalition| {
                    weights[coalition.count_ones() as usize]
                        * (values[coalition | bit] - values[coalition])
                })
                .sum()
        })
        .collect()
}

/// Orders in which players join: random ones, each followed by its reverse. In an order and its
/// reverse a pair's interaction goes once to each of the two, so pairs cost no variance (antithetic
/// sampling: Mitchell et al., "Sampling Permutations for Shapley Value Estimation", 2022).
pub(crate) fn permutations(players: usize) -> Vec<Vec<usize>> {
    let mut rng = ChaCha8Rng::seed_from_u64(PERMUTATION_SEED);
    let mut orders = Vec::with_capacity(PERMUTATIONS);
    for _ in 0..PERMUTATIONS / 2 {
        let mut order: Vec<usize> = (0..players).collect();
        order.shuffle(&mut rng);
        orders.push(order.clone());
        order.reverse();
        orders.push(order);
    }
    orders
}

/// The distinct coalitions that occur when players join in these orders, the empty one included.
pub(crate) fn coalitions_of(orders: &[Vec<usize>]) -> Vec<Coalition> {
    let mut coalitions = vec![0];
    for order in orders {
        let mut joined = 0;
        for player in order {
            joined |= 1 << player;
            coalitions.push(joined);
        }
    }
    coalitions.sort_unstable();
    coalitions.dedup();
    coalitions
}

/// Shapley values as the mean contribution over orders (Castro et al., "Polynomial calculation of
/// the Shapley value based on sampling", 2009).
fn sampled(players: usize, orders: &[Vec<usize>], value: impl Fn(Coalition) -> f64) -> Vec<f64> {
    let mut sums = vec![0.0; players];
    for order in orders {
        let mut joined: Coalition = 0;
        let mut before = value(joined);
        for player in order {
            joined |= 1 << player;
            let after = value(joined);
            sums[*player] += after - before;
            before = after;
        }
    }
    sums.into_iter()
        .map(|sum| sum / orders.len() as f64)
        .collect()
}

impl Game<'_> {
    /// The value of the empty coalition and each player's contribution; the full coalition is worth
    /// `full`.
    pub(crate) fn shapley(&self, full: f64) -> (f64, Vec<f64>) {
        shapley(self.players(), full, |coalitions| self.logits(coalitions))
    }
}

impl Fitted {
    /// Explains one row, as [`leadpulse_features::Scorer::explain`].
    #[cfg(test)]
    pub(crate) fn explain(
        &self,
        batch: &FeatureBatch,
        task: usize,
        cell: usize,
        slot: usize,
    ) -> Explanation {
        let (game, logit) = self.game(batch, task, cell, slot);
        explanation(&game, logit)
    }

    /// Explains row `row` of a cell alone, whose published logit the values sum to.
    pub(crate) fn explain_as(
        &self,
        alone: &FeatureBatch,
        task: usize,
        row: usize,
        logit: f64,
    ) -> Explanation {
        explanation(&Game::new(self, alone, task, row), logit)
    }

    /// One row as a game, and its published logit, which the values sum to.
    pub(crate) fn game(
        &self,
        batch: &FeatureBatch,
        task: usize,
        cell: usize,
        slot: usize,
    ) -> (Game<'_>, f64) {
        let target = self.config.towers[task].target;
        let row = if target == TowerTarget::Root { 0 } else { slot };
        let alone = Self::alone(batch, target, cell);
        let logit = self.logits(&alone, task)[row];
        (Game::new(self, &alone, task, row), logit)
    }
}

fn explanation(game: &Game<'_>, logit: f64) -> Explanation {
    let (base_logit, values) = game.shapley(logit);
    let contribution = |player: Option<u32>| player.map_or(0.0, |player| values[player as usize]);
    let groups = game.player_of().iter().enumerate();
    let contributions = groups.map(|(group, player)| Contribution {
        group,
        logit: contribution(*player),
    });
    Explanation {
        base_logit,
        logit,
        contributions: contributions.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch_of_owned, layout, random_cell, untrained};

    /// A game with interactions: weights of single players and of pairs.
    fn game(players: usize) -> impl Fn(&[Coalition]) -> Vec<f64> {
        move |coalitions| {
            let value = |c: &Coalition| {
                let has = |i: usize| f64::from(u8::from(c >> i & 1 == 1));
                let single: f64 = (0..players).map(|i| (i as f64 - 2.0) * has(i)).sum();
                let pairs: f64 = (1..players).map(|i| 0.5 * has(i - 1) * has(i)).sum();
                0.25 + single + pairs
            };
            coalitions.iter().map(value).collect()
        }
    }

    /// In this game a pair's weight is shared equally.
    fn expected(players: usize) -> Vec<f64> {
        let ends = |i: usize| {
            if i == 0 || i == players - 1 {
                0.25
            } else {
                0.5
            }
        };
        (0..players)
            .map(|i| i as f64 - 2.0 + if players == 1 { 0.0 } else { ends(i) })
            .collect()
    }

    #[test]
    fn exact_values_by_hand() {
        for players in [1, 2, 3, 7, 10] {
            let value = game(players);
            let full = value(&[(1 << players) - 1])[0];
            let (base, contributions) = shapley(players, full, value);
            assert_eq!(base, 0.25);
            for (actual, expected) in contributions.iter().zip(expected(players)) {
                assert!((actual - expected).abs() < 1e-9, "{players} players");
            }
        }
    }

    #[test]
    fn sampled_values_are_complete_and_exact_for_pairs() {
        // In an order and its reverse a pair's weight goes once to each of the two.
        for players in [11, 40, 64] {
            let value = game(players);
            let full = value(&[Coalition::MAX])[0];
            let (base, contributions) = shapley(players, full, value);
            assert!((base + contributions.iter().sum::<f64>() - full).abs() < 1e-9);
            for (actual, expected) in contributions.iter().zip(expected(players)) {
                assert!((actual - expected).abs() < 1e-9, "{players} players");
            }
        }
    }

    #[test]
    fn explanations_of_networks_are_complete() {
        let layout = layout(14, &[9]);
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let fitted = untrained(&layout, &mut rng);
        let cells: Vec<_> = (0..5).map(|_| random_cell(&layout, 6, &mut rng)).collect();
        let batch = batch_of_owned(&layout, &cells);
        for task in 0..2 {
            let logits = fitted.logits(&batch, task);
            let rows = logits.len() / cells.len();
            for (i, logit) in logits.iter().enumerate().filter(|(_, z)| z.is_finite()) {
                let explanation = fitted.explain(&batch, task, i / rows, i % rows);
                let sum: f64 = explanation.contributions.iter().map(|c| c.logit).sum();
                assert_eq!(explanation.logit, *logit);
                assert!((explanation.base_logit + sum - logit).abs() < 1e-9);
                assert_eq!(explanation.contributions.len(), layout.groups.len());
                assert!(explanation.contributions.iter().any(|c| c.logit != 0.0));
                assert_eq!(
                    explanation,
                    fitted.explain(&batch, task, i / rows, i % rows)
                );
            }
        }
    }

    #[test]
    fn a_group_as_if_absent_contributes_nothing() {
        let layout = layout(6, &[]);
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut fitted = untrained(&layout, &mut rng);
        let mut cell = random_cell(&layout, 0, &mut rng);
        cell.0[0] = 0.0; // absent is 0 for even columns
        let batch = batch_of_owned(&layout, &[cell]);
        let explanation = fitted.explain(&batch, 0, 0, 0);
        assert_eq!(explanation.contributions[0].logit, 0.0);
        assert_ne!(explanation.contributions[2].logit, 0.0);
        // Nor does a column that was constant in training.
        // Trees never read such a column.
        fitted.tasks[0].trees = None;
        fitted.normaliser.root.scale[2] = 0.0;
        fitted.normaliser.root.absent[2] = 0.0;
        assert_eq!(fitted.explain(&batch, 0, 0, 0).contributions[2].logit, 0.0);
    }

    #[test]
    fn nobody_to_explain() {
        assert_eq!(
            shapley(0, 1.5, |_| unreachable!("no coalition is asked for")),
            (1.5, vec![])
        );
    }
}
