//! Whether explanations name what carries a score: the deletion test.
//!
//! A row's groups are taken out one after another in some order; `p_k` is the calibrated
//! probability once k of n are out. What is left on the way is the area under that curve, over the
//! share taken out:
//!
//! ```text
//! A = (p_0 ÷ 2 + p_1 + … + p_{n−1} + p_n ÷ 2) ÷ n
//! ```
//!
//! An order that takes first what carries the score leaves little (the deletion metric of Petsiuk,
//! Das and Saenko, "RISE", 2018, with groups of columns for pixels and absence for their removal).
//! It says something of rows that score high; random orders are what to compare with, since n and
//! the scores decide the scale.

use leadpulse_features::{FeatureBatch, probability};
use serde::{Deserialize, Serialize};

use crate::explain::coalitions::{Coalition, Game};
use crate::explain::{coalitions_of, everyone, permutations};
use crate::fit::Fitted;

/// The remainder of some rows' probabilities while their groups are taken out: means of A over the
/// rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeletionTest {
    /// Rows that have a group to take out.
    pub rows: usize,
    /// In the order of the explanation, largest contribution first.
    pub explained: f64,
    /// In the order of what taking out each group alone takes away.
    pub leave_one_out: f64,
    /// Area with the groups taken out in random orders.
    pub random: f64,
    /// `explained ÷ random`: below 1, and the lower the better.
    pub ratio_to_random: f64,
}

impl Fitted {
    /// The deletion test of a task on rows (cell and slot in `batch`, as
    /// [`leadpulse_features::Scorer::explain`] takes them; best those with the highest scores).
    /// `None` for a regression, and where no row has a group that differs from its absence.
    pub fn deletion_test(
        &self,
        batch: &FeatureBatch,
        task: usize,
        rows: &[(usize, usize)],
    ) -> Option<DeletionTest> {
        if !self.tasks[task].definition.head.is_binary() {
            return None;
        }
        let games = rows
            .iter()
            .map(|(cell, slot)| self.game(batch, task, *cell, *slot))
            .filter(|(game, _)| game.players() > 0);
        let areas: Vec<[f64; 3]> = games.map(|(game, logit)| areas(&game, logit)).collect();
        let mean = |i: usize| areas.iter().map(|a| a[i]).sum::<f64>() / areas.len() as f64;
        let (explained, leave_one_out, random) = (mean(0), mean(1), mean(2));
        let test = DeletionTest {
            rows: areas.len(),
            explained,
            leave_one_out,
            random,
            ratio_to_random: explained / random,
        };
        (!areas.is_empty()).then_some(test)
    }
}

/// A of one row: as explained, leaving one out, and the mean over random orders.
fn areas(game: &Game<'_>, logit: f64) -> [f64; 3] {
    let players = game.players();
    let everyone = everyone(players);
    let contributions = game.shapley(logit).1;
    let others: Vec<Coalition> = (0..players)
        .map(|player| everyone ^ (1 << player))
        .collect();
    let losses: Vec<f64> = game
        .logits(&others)
        .into_iter()
        .map(|without| logit - without)
        .collect();
    let mut orders = permutations(players);
    let random = orders.len();
    orders.extend([largest_first(&contributions), largest_first(&losses)]);
    let taken = coalitions_of(&orders);
    let left: Vec<Coalition> = taken.iter().map(|taken| everyone ^ taken).collect();
    let left: Vec<f64> = game.logits(&left).into_iter().map(probability).collect();
    let areas: Vec<f64> = orders
        .iter()
        .map(|order| {
            let mut out: Coalition = 0;
            let of = |out: Coalition| {
                left[taken
                    .binary_search(&out)
                    .expect("it was collected from these orders")]
            };
            let mut curve = vec![of(0)];
            curve.extend(order.iter().map(|player| {
                out |= 1 << player;
                of(out)
            }));
            area(&curve)
        })
        .collect();
    [
        areas[random],
        areas[random + 1],
        areas[..random].iter().sum::<f64>() / random as f64,
    ]
}

/// The players, that of the largest value first.
fn largest_first(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    order
}

/// The mean height of a curve at equal steps, by trapezoids.
fn area(curve: &[f64]) -> f64 {
    curve.windows(2).map(|w| 0.5 * (w[0] + w[1])).sum::<f64>() / (curve.len() - 1) as f64
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::network::head::Head;
    use crate::testing::{OwnedCell, batch_of_owned, layout, random_cell, untrained};

    #[test]
    fn areas_by_hand() {
        assert_eq!(area(&[1.0, 0.0]), 0.5);
        assert_eq!(area(&[1.0, 0.5, 0.25]), (0.5 + 0.5 + 0.125) / 2.0);
        assert_eq!(largest_first(&[-1.0, 3.0, 2.0]), [1, 2, 0]);
    }

    #[test]
    fn explanations_leave_less_than_chance() {
        let layout = layout(30, &[9]);
        let mut rng = ChaCha8Rng::seed_from_u64(21);
        let mut fitted = untrained(&layout, &mut rng);
        let cells: Vec<OwnedCell> = (0..20).map(|_| random_cell(&layout, 4, &mut rng)).collect();
        let batch = batch_of_owned(&layout, &cells);
        for task in 0..2 {
            let there = |cell: usize| task == 0 || !cells[cell].1[0].is_empty();
            let rows: Vec<(usize, usize)> = (0..cells.len())
                .filter(|cell| there(*cell))
                .map(|cell| (cell, 0))
                .collect();
            let test = fitted.deletion_test(&batch, task, &rows).unwrap();
            assert_eq!(test.rows, rows.len());
            assert!(
                test.explained < test.random && test.leave_one_out < test.random,
                "{test:?}"
            );
            assert_eq!(test.ratio_to_random, test.explained / test.random);
        }
        assert_eq!(fitted.deletion_test(&batch, 0, &[]), None);
        fitted.tasks[1].definition.head = Head::Regression;
        assert_eq!(fitted.deletion_test(&batch, 1, &[(0, 0)]), None);
    }
}
