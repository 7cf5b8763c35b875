//! Why a score is what it is: Shapley values over the layout's groups of columns.
//!
//! A coalition's value is the calibrated logit of the row with the columns of all other groups replaced by what stands for their
//! absence. Exact over all coalitions up to ten groups that differ from their absence; above, sampled from permutations in
//! antithetic pairs. Both are complete: base + Σ contributions = logit. A group that is as if absent contributes exactly 0.

use std::collections::BTreeMap;
use std::ops::Range;

use leadpulse_features::{Column, Contribution, Explanation, FeatureBatch, MemberBlock};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::fit::Fitted;
use crate::network::Target;
use crate::normalise::Scales;
use crate::score::{CHUNK, rounded};

/// Up to this many groups the value of every coalition is computed.
const EXACT_GROUPS: usize = 10;
/// Above, this many permutations are drawn, half of them the reverses of the others.
const PERMUTATIONS: usize = 32;
/// The same row always gets the same permutations.
const PERMUTATION_SEED: u64 = 0x5eed;
/// Coalitions are bits.
pub(crate) const MOST_GROUPS: usize = 64;

/// A set of players, a bit each.
type Coalition = u64;

/// Shapley values and the value of the empty coalition. `value` is asked for each distinct coalition once, except the full one,
/// whose value is `full`.
fn shapley(players: usize, full: f64, value: impl Fn(&[Coalition]) -> Vec<f64>) -> (f64, Vec<f64>) {
    if players == 0 {
        return (full, Vec::new());
    }
    let everyone = if players == MOST_GROUPS { Coalition::MAX } else { (1 << players) - 1 };
    let orders = if players <= EXACT_GROUPS { Vec::new() } else { permutations(players) };
    let wanted: Vec<Coalition> = if players <= EXACT_GROUPS {
        (0..everyone).collect()
    } else {
        coalitions_of(&orders).into_iter().filter(|c| *c != everyone).collect()
    };
    let mut values: BTreeMap<Coalition, f64> = wanted.iter().copied().zip(value(&wanted)).collect();
    values.insert(everyone, full);
    let contributions = if orders.is_empty() { exact(players, &values) } else { sampled(players, &orders, &values) };
    (values[&0], contributions)
}

fn exact(players: usize, values: &BTreeMap<Coalition, f64>) -> Vec<f64> {
    // |S|! (n − |S| − 1)! ÷ n! is 1 ÷ (n · C(n − 1, |S|)).
    let mut weights = vec![1.0 / players as f64];
    for size in 1..players {
        weights.push(weights[size - 1] * size as f64 / (players - size) as f64);
    }
    (0..players)
        .map(|player| {
            let bit = 1 << player;
            let without = values.iter().filter(|(coalition, _)| *coalition & bit == 0);
            without.map(|(coalition, v)| weights[coalition.count_ones() as usize] * (values[&(coalition | bit)] - v)).sum()
        })
        .collect()
}

fn permutations(players: usize) -> Vec<Vec<usize>> {
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
fn coalitions_of(orders: &[Vec<usize>]) -> Vec<Coalition> {
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

fn sampled(players: usize, orders: &[Vec<usize>], values: &BTreeMap<Coalition, f64>) -> Vec<f64> {
    let mut sums = vec![0.0; players];
    for order in orders {
        let mut joined: Coalition = 0;
        for player in order {
            let before = values[&joined];
            joined |= 1 << player;
            sums[*player] += values[&joined] - before;
        }
    }
    sums.into_iter().map(|sum| sum / orders.len() as f64).collect()
}

/// A normalised cell whose groups can be taken out.
struct Cell<'a> {
    fitted: &'a Fitted,
    values: FeatureBatch,
    /// Per group of the layout: its bit, if it is a player.
    bits: Vec<Option<u32>>,
}

impl<'a> Cell<'a> {
    fn new(fitted: &'a Fitted, values: FeatureBatch) -> Self {
        let layout = &fitted.layout;
        let mut present = vec![false; layout.groups.len()];
        let mut mark = |columns: &[Column], scales: &Scales, row: &[f32]| {
            for ((column, absent), x) in columns.iter().zip(&scales.absent).zip(row) {
                present[column.group] |= x != absent;
            }
        };
        mark(&layout.root, &fitted.normaliser.root, &values.root);
        for ((block, member), scales) in values.members.iter().zip(&layout.members).zip(&fitted.normaliser.members) {
            for row in rows_of(block) {
                mark(&member.columns, scales, &block.values[row]);
            }
        }
        let mut players = 0;
        let bits = present
            .iter()
            .map(|present| {
                present.then(|| {
                    players += 1;
                    players - 1
                })
            })
            .collect();
        Self { fitted, values, bits }
    }

    fn players(&self) -> usize {
        self.bits.iter().flatten().count()
    }

    fn is_in(&self, column: &Column, coalition: Coalition) -> bool {
        self.bits[column.group].is_none_or(|bit| coalition >> bit & 1 == 1)
    }

    /// The logits of output row `row` for each coalition.
    fn logits(&self, task: usize, row: usize, coalitions: &[Coalition]) -> Vec<f64> {
        let mut logits = Vec::with_capacity(coalitions.len());
        for chunk in coalitions.chunks(CHUNK) {
            let scored = self.fitted.chunk_logits(&self.chunk(chunk), task);
            let width = scored.len() / CHUNK;
            logits.extend((0..chunk.len()).map(|i| scored[i * width + row]));
        }
        logits
    }

    /// The cell once per coalition, in the shape cells are scored in.
    fn chunk(&self, coalitions: &[Coalition]) -> FeatureBatch {
        let (layout, normaliser) = (&self.fitted.layout, &self.fitted.normaliser);
        let coalitions = || (0..CHUNK).map(|i| coalitions.get(i).copied().unwrap_or(Coalition::MAX));
        let fill = |to: &mut [f32], columns: &[Column], scales: &Scales, coalition| {
            for ((x, column), absent) in to.iter_mut().zip(columns).zip(&scales.absent) {
                if !self.is_in(column, coalition) {
                    *x = *absent;
                }
            }
        };
        let mut root = Vec::with_capacity(CHUNK * self.values.root.len());
        for coalition in coalitions() {
            let start = root.len();
            root.extend_from_slice(&self.values.root);
            fill(&mut root[start..], &layout.root, &normaliser.root, coalition);
        }
        let members = self.values.members.iter().enumerate().map(|(table, block)| {
            let mut repeated = MemberBlock { slots: block.slots, width: block.width, ..MemberBlock::default() };
            for coalition in coalitions() {
                let start = repeated.values.len();
                repeated.values.extend_from_slice(&block.values);
                repeated.mask.extend_from_slice(&block.mask);
                for row in rows_of(block) {
                    let to = &mut repeated.values[start + row.start..start + row.end];
                    fill(to, &layout.members[table].columns, &normaliser.members[table], coalition);
                }
            }
            repeated
        });
        FeatureBatch { cells: CHUNK, members: members.collect(), root }
    }
}

/// Where the values of each row that is there lie in a block of one cell.
fn rows_of(block: &MemberBlock) -> impl Iterator<Item = Range<usize>> {
    let there = block.mask.iter().enumerate().filter(|(_, mask)| **mask != 0.0);
    there.map(|(slot, _)| slot * block.width..(slot + 1) * block.width)
}

impl Fitted {
    /// Explains one row, as [`leadpulse_features::Scorer::explain`].
    pub(crate) fn explain(&self, batch: &FeatureBatch, task: usize, cell: usize, slot: usize) -> Explanation {
        let row = if self.config.towers[task].target == Target::Root { 0 } else { slot };
        let cell = Cell::new(self, self.normalised_cell(batch, cell));
        // The published logit is rounded; the values sum to exactly that one.
        let logit = rounded(cell.logits(task, row, &[Coalition::MAX])[0]);
        let (base_logit, values) = shapley(cell.players(), logit, |coalitions| cell.logits(task, row, coalitions));
        let contributions = cell
            .bits
            .iter()
            .enumerate()
            .map(|(group, bit)| Contribution { group, logit: bit.map_or(0.0, |bit| values[bit as usize]) })
            .collect();
        Explanation { base_logit, logit, contributions }
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
        let ends = |i: usize| if i == 0 || i == players - 1 { 0.25 } else { 0.5 };
        (0..players).map(|i| i as f64 - 2.0 + if players == 1 { 0.0 } else { ends(i) }).collect()
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
                assert_eq!(explanation, fitted.explain(&batch, task, i / rows, i % rows));
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
        fitted.normaliser.root.scale[2] = 0.0;
        fitted.normaliser.root.absent[2] = 0.0;
        assert_eq!(fitted.explain(&batch, 0, 0, 0).contributions[2].logit, 0.0);
    }

    #[test]
    fn nobody_to_explain() {
        assert_eq!(shapley(0, 1.5, |_| unreachable!("no coalition is asked for")), (1.5, vec![]));
    }
}
