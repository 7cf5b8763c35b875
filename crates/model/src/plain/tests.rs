//! Plain networks beside those that they are compiled from.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::fit::Fitted;
use crate::testing::{OwnedCell, batch_of_owned, layout, random_cell, untrained};

/// Cells of which a share of the columns is 0, and some of whose members are not attended to.
fn sparse_batch(
    layout: &leadpulse_features::Layout,
    most: usize,
    zeros_ratio: f64,
    rng: &mut ChaCha8Rng,
) -> FeatureBatch {
    let mut cells: Vec<OwnedCell> = (0..9).map(|_| random_cell(layout, most, rng)).collect();
    for (root, tables) in &mut cells {
        let rows = tables.iter_mut().flatten();
        for x in std::iter::once(root).chain(rows).flatten() {
            *x *= f32::from(u8::from(!rng.random_bool(zeros_ratio)));
        }
    }
    let mut batch = batch_of_owned(layout, &cells);
    for attended in batch.members.iter_mut().flat_map(|m| &mut m.attended) {
        *attended = rng.random_range(0..=*attended);
    }
    batch
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn plain_networks_are_the_networks(
        seed: u64,
        root in 1usize..90,
        members in prop::collection::vec(1usize..70, 0..3),
        most in 0usize..20,
        zeros_ratio in 0.0f64..1.0,
    ) {
        let layout = layout(root, &members);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut fitted = untrained(&layout, &mut rng);
        if rng.random_bool(0.5) {
            fitted.tasks[0].trees = None;
        }
        let batch = sparse_batch(&layout, most, zeros_ratio, &mut rng);
        let tasks: Vec<usize> = (0..fitted.tasks.len()).collect();
        let plain = PlainEnsemble::new(&fitted);
        let all = plain.unrounded_logits(&fitted.tasks, &batch, &tasks);
        for (task, found) in tasks.iter().zip(&all) {
            let expected = fitted.unrounded_logits(&batch, *task);
            prop_assert_eq!(found.len(), expected.len());
            for (row, (a, b)) in found.iter().zip(&expected).enumerate() {
                prop_assert_eq!(a.is_nan(), b.is_nan(), "task {} row {}", task, row);
                prop_assert!(
                    a.is_nan() || (a - b).abs() < 1e-6 * b.abs().max(1.0),
                    "task {task} row {row}: {a} for {b}, by {}",
                    a - b
                );
            }
            // A task alone, and a cell alone, have the same bits.
            let bits = |z: &[f64]| z.iter().map(|z| z.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&plain.unrounded_logits(&fitted.tasks, &batch, &[*task])[0]), bits(found));
            let target = fitted.config.towers[*task].target;
            let rows = found.len() / batch.cells;
            for cell in 0..batch.cells {
                let alone = Fitted::alone(&batch, target, cell);
                let alone = &plain.unrounded_logits(&fitted.tasks, &alone, &[*task])[0];
                let there = found[cell * rows..(cell + 1) * rows].iter();
                let there: Vec<f64> = there.copied().filter(|z| !z.is_nan()).collect();
                let alone: Vec<f64> = alone.iter().copied().filter(|z| !z.is_nan()).collect();
                prop_assert_eq!(bits(&alone), bits(&there));
            }
        }
    }
}
