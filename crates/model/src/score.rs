//! Scoring: owns the promise that a cell's logit is the same, bit for bit, whatever else is in its
//! batch.
//!
//! Cells are scored in chunks of one fixed size. A cell's members are padded to a number of slots
//! that the cell alone decides, and cells with different numbers are never in one chunk, so every
//! tensor a cell meets has a shape of its own making. Within a shape no operation of the network
//! mixes cells. Trees read one cell at a time. Calibrated logits are rounded to the grid of
//! [`leadpulse_features::on_grid`].

use burn::tensor::Device;
use leadpulse_features::{FeatureBatch, MemberBlock, on_grid};

use crate::fit::{Fitted, FittedTask};
use crate::network::{Inputs, TowerTarget};
use crate::trees::columns::GridCell;

/// Cells per chunk: they fit the cache of one core.
// Decision: docs/decisions/0017-shapes-that-the-cell-alone-decides.md
// Measured with 128 columns and ten members: 5 µs a cell in chunks of 4 to 16, 13 µs alone or in
// chunks of a thousand.
const CHUNK: usize = 16;
/// The least slots members are padded to.
// Powers of two from here on: few shapes, so that chunks fill, and little padding.
const LEAST_SLOTS: usize = 4;

/// Slots in use in a cell by a task: of the table that it asks about up to the last row, of others
/// those that the cell is pooled over.
fn used_slots(block: &MemberBlock, cell: usize, is_asked: bool) -> usize {
    if !is_asked {
        return block.attended[cell] as usize;
    }
    let mask = &block.mask[cell * block.slots..(cell + 1) * block.slots];
    mask.iter()
        .rposition(|m| *m != 0.0)
        .map_or(0, |last| last + 1)
}

/// The slots a cell's members are padded to, in every table.
fn padded_slots(batch: &FeatureBatch, cell: usize, target: TowerTarget) -> usize {
    let blocks = batch.members.iter().enumerate();
    match blocks
        .map(|(t, block)| used_slots(block, cell, target == TowerTarget::Member(t)))
        .max()
        .unwrap_or(0)
    {
        0 => 0,
        used => used.next_power_of_two().max(LEAST_SLOTS),
    }
}

/// Copies some cells as a task sees them, with `slots` slots per table. Cells beyond those given
/// are zero.
fn gather(
    batch: &FeatureBatch,
    target: TowerTarget,
    cells: &[usize],
    slots: usize,
    room: usize,
) -> FeatureBatch {
    let width = batch.root.len() / batch.cells.max(1);
    let mut root = vec![0.0; room * width];
    for (to, cell) in cells.iter().enumerate() {
        root[to * width..(to + 1) * width]
            .copy_from_slice(&batch.root[cell * width..(cell + 1) * width]);
    }
    let members = batch
        .members
        .iter()
        .enumerate()
        .map(|(t, block)| {
            let mut values = vec![0.0; room * slots * block.width];
            let mut mask = vec![0.0; room * slots];
            let mut attended = vec![0; room];
            let is_asked = target == TowerTarget::Member(t);
            for (to, &cell) in cells.iter().enumerate() {
                let (from, used) = (cell * block.slots, used_slots(block, cell, is_asked));
                attended[to] = block.attended[cell];
                mask[to * slots..to * slots + used].copy_from_slice(&block.mask[from..from + used]);
                values[to * slots * block.width..(to * slots + used) * block.width]
                    .copy_from_slice(
                        &block.values[from * block.width..(from + used) * block.width],
                    );
            }
            MemberBlock {
                slots,
                width: block.width,
                values,
                mask,
                entities: Vec::new(),
                attended,
                folded: vec![0; room],
            }
        })
        .collect();
    FeatureBatch {
        cells: room,
        root,
        members,
    }
}

impl Fitted {
    /// Calibrated logits, as [`leadpulse_features::Scorer::logits`].
    pub(crate) fn logits(&self, batch: &FeatureBatch, task: usize) -> Vec<f64> {
        self.unrounded_logits(batch, task)
            .into_iter()
            .map(on_grid)
            .collect()
    }

    pub(crate) fn unrounded_logits(&self, batch: &FeatureBatch, task: usize) -> Vec<f64> {
        let target = self.config.towers[task].target;
        let rows = match target {
            TowerTarget::Root => 1,
            TowerTarget::Member(table) => batch.members[table].slots,
        };
        let mut logits = vec![f64::NAN; batch.cells * rows];
        let mut order: Vec<(usize, usize)> = (0..batch.cells)
            .map(|cell| (padded_slots(batch, cell, target), cell))
            .collect();
        order.sort_unstable();
        for group in order.chunk_by(|a, b| a.0 == b.0) {
            let slots = group[0].0;
            if slots == 0 && target != TowerTarget::Root {
                continue;
            }
            for chunk in group.chunks(CHUNK) {
                let cells: Vec<usize> = chunk.iter().map(|(_, cell)| *cell).collect();
                let gathered = gather(batch, target, &cells, slots, CHUNK);
                let scored = self.chunk_logits(gathered, cells.len(), task);
                let width = scored.len() / cells.len();
                for (from, cell) in cells.iter().enumerate() {
                    for row in 0..rows {
                        let there = match target {
                            TowerTarget::Root => true,
                            TowerTarget::Member(table) => {
                                batch.members[table].mask[cell * rows + row] != 0.0
                            }
                        };
                        if there {
                            logits[cell * rows + row] = scored[from * width + row];
                        }
                    }
                }
            }
        }
        logits
    }

    /// One cell as a batch of its own, as a task of this target sees it.
    pub(crate) fn alone(batch: &FeatureBatch, target: TowerTarget, cell: usize) -> FeatureBatch {
        gather(batch, target, &[cell], padded_slots(batch, cell, target), 1)
    }

    /// Calibrated logits, not rounded, of the first `cells` of a raw chunk: `[cells, rows]`.
    /// Padding rows have any value.
    pub(crate) fn chunk_logits(
        &self,
        mut chunk: FeatureBatch,
        cells: usize,
        task: usize,
    ) -> Vec<f64> {
        let trees = self.tree_logits(&chunk, cells, task);
        self.normaliser.apply(&mut chunk);
        let room = chunk.cells;
        let mut logits = self.network_logits(chunk, task);
        logits.truncate(logits.len() / room * cells);
        let task = &self.tasks[task];
        logits
            .into_iter()
            .enumerate()
            .map(|(row, networks)| task.ensemble_logit(networks, trees.as_ref().map(|t| t[row])))
            .collect()
    }

    /// The mean logits of the networks, of a normalised chunk: `[cells, rows]`.
    fn network_logits(&self, chunk: FeatureBatch, task: usize) -> Vec<f64> {
        let inputs = Inputs::from_batch(chunk, &Device::flex());
        let head = &self.tasks[task].definition.head;
        let mut sums: Vec<f64> = Vec::new();
        for network in &self.networks {
            let outputs = network
                .forward(&inputs, task)
                .try_into_vec_as::<f32>()
                .expect("outputs are f32 in host memory");
            let logits = outputs
                .chunks_exact(head.outputs())
                .map(|outputs| head.logit(outputs));
            if sums.is_empty() {
                sums.extend(logits);
            } else {
                sums.iter_mut()
                    .zip(logits)
                    .for_each(|(sum, logit)| *sum += logit);
            }
        }
        let networks = self.networks.len() as f64;
        sums.iter_mut().for_each(|sum| *sum /= networks);
        sums
    }

    /// The trees' logits of the first `cells` of a raw chunk, `[cells, rows]` with NaN for padding;
    /// `None` for a task without trees.
    fn tree_logits(&self, chunk: &FeatureBatch, cells: usize, task: usize) -> Option<Vec<f64>> {
        let FittedTask {
            definition, trees, ..
        } = &self.tasks[task];
        let forest = &trees.as_ref()?.forest;
        let target = self.config.towers[task].target;
        let rows = match target {
            TowerTarget::Root => 1,
            // As `Inputs::from_batch`: a table without members has one padding slot.
            TowerTarget::Member(table) => chunk.members[table].slots.max(1),
        };
        let mut logits = vec![f64::NAN; cells * rows];
        for cell in 0..cells {
            let grid = GridCell::new(chunk, cell);
            let there = match target {
                TowerTarget::Root => 1,
                TowerTarget::Member(table) => grid.members[table].rows,
            };
            for row in 0..there {
                let mut numbers = forest.numbers(&grid, target, row);
                logits[cell * rows + row] = definition.head.logit(&forest.outputs(&mut numbers));
            }
        }
        Some(logits)
    }
}

impl FittedTask {
    /// The calibrated logit of a row, not rounded, of its members' logits.
    pub(crate) fn ensemble_logit(&self, networks: f64, trees: Option<f64>) -> f64 {
        let mixed = match (&self.trees, trees) {
            (Some(member), Some(trees)) => member.mixed(networks, trees),
            _ => networks,
        };
        self.calibration.apply(mixed)
    }
}

#[cfg(test)]
mod tests {
    use leadpulse_features::Layout;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::testing::{OwnedCell, batch_of_owned, layout, random_cell, untrained};

    /// The bits of the logits of one cell's rows that are there.
    fn bits(fitted: &Fitted, layout: &Layout, cells: &[OwnedCell], cell: usize) -> Vec<Vec<u64>> {
        let batch = batch_of_owned(layout, cells);
        (0..fitted.tasks.len())
            .map(|task| {
                let logits = fitted.unrounded_logits(&batch, task);
                let rows = logits.len() / cells.len();
                logits[cell * rows..(cell + 1) * rows]
                    .iter()
                    .filter(|z| !z.is_nan())
                    .map(|z| z.to_bits())
                    .collect()
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_cell_scores_the_same_in_any_company(
            seed: u64,
            root in 1usize..90,
            members in prop::collection::vec(1usize..70, 0..3),
            most in 0usize..20,
        ) {
            let layout = layout(root, &members);
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let fitted = untrained(&layout, &mut rng);
            let cell = random_cell(&layout, most, &mut rng);
            let alone = bits(&fitted, &layout, std::slice::from_ref(&cell), 0);
            for company in [3, 16, 17, 50] {
                let mut cells: Vec<OwnedCell> = (0..company).map(|_| random_cell(&layout, 20, &mut rng)).collect();
                for _ in 0..3 {
                    let at = rng.random_range(0..company);
                    cells[at] = cell.clone();
                    prop_assert_eq!(&alone, &bits(&fitted, &layout, &cells, at), "position {} of {}", at, company);
                }
            }
        }
    }

    #[test]
    fn members_beyond_those_attended_to_have_scores_and_change_none() {
        let layout = layout(12, &[10, 7]);
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let fitted = untrained(&layout, &mut rng);
        let mut member = || -> Vec<f32> { (0..10).map(|_| rng.random_range(-2.0..2.0)).collect() };
        let rows: Vec<Vec<f32>> = (0..100).map(|_| member()).collect();
        let cell = |members: &[Vec<f32>]| -> OwnedCell {
            (vec![0.5; 12], vec![members.to_vec(), vec![vec![0.3; 7]; 2]])
        };
        let mut batch = batch_of_owned(&layout, &[cell(&rows)]);
        batch.members[0].attended[0] = 16;
        let scores = |batch: &FeatureBatch, task| fitted.unrounded_logits(batch, task);
        let members = scores(&batch, 1);
        let mut distinct: Vec<u64> = members.iter().map(|z| z.to_bits()).collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!((members.len(), distinct.len()), (100, 100));
        assert!(members.iter().all(|z| z.is_finite()));
        // The other tasks read what they would read without those rows, bit for bit.
        let few = batch_of_owned(&layout, &[cell(&rows[..16])]);
        for task in [0, 2] {
            let (with, without) = (scores(&batch, task), scores(&few, task));
            let bits = |logits: &[f64]| logits.iter().map(|z| z.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&with), bits(&without), "task {task}");
        }
        for (with, without) in members.iter().zip(scores(&few, 1)) {
            assert!((with - without).abs() < 1e-4);
        }
        // A row beyond decides its own score alone.
        batch.members[0].values[40 * 10..41 * 10].fill(3.0);
        let changed = scores(&batch, 1);
        for (slot, (before, after)) in members.iter().zip(&changed).enumerate() {
            assert_eq!(before != after, slot == 40, "slot {slot}");
        }
        // It is explained in full, and its explanation sums to its score.
        let explanation = fitted.explain(&batch, 1, 0, 40);
        let sum: f64 = explanation.contributions.iter().map(|c| c.logit).sum();
        assert_eq!(explanation.logit, fitted.logits(&batch, 1)[40]);
        assert!((explanation.base_logit + sum - explanation.logit).abs() < 1e-9);
    }

    #[test]
    fn threads_score_alike() {
        let layout = layout(20, &[12]);
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let fitted = untrained(&layout, &mut rng);
        let cells: Vec<OwnedCell> = (0..40).map(|_| random_cell(&layout, 9, &mut rng)).collect();
        let batch = batch_of_owned(&layout, &cells);
        let expected = fitted.logits(&batch, 0);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| fitted.logits(&batch, 0)))
                .collect();
            for thread in threads {
                assert_eq!(thread.join().unwrap(), expected);
            }
        });
    }

    #[test]
    fn member_rows_without_an_entity_behind_them_are_nan() {
        let layout = layout(2, &[3]);
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let fitted = untrained(&layout, &mut rng);
        let row = vec![0.1, 0.2, 0.3];
        let cells = [
            (vec![0.0, 1.0], vec![vec![]]),
            (vec![0.0, 1.0], vec![vec![row.clone(), row]]),
        ];
        let there: Vec<bool> = fitted
            .logits(&batch_of_owned(&layout, &cells), 1)
            .iter()
            .map(|z| z.is_finite())
            .collect();
        assert_eq!(there, [false, false, true, true]);
        assert_eq!(
            fitted.logits(
                &FeatureBatch {
                    members: vec![MemberBlock::default()],
                    ..FeatureBatch::default()
                },
                0
            ),
            [0.0; 0]
        );
    }
}
