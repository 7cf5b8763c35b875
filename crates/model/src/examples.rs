//! Training examples: owns the list of (entity, anchor) pairs with their outcomes, over cells that
//! are stored once.
//!
//! Cells are kept as they were encoded; normalising happens when a batch is made, by the same code
//! that scoring uses.

pub(crate) mod flat;
pub(crate) mod normalise;
pub(crate) mod store;
mod tally;

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::Device;
use leadpulse_features::{FeatureBatch, Layout};
use leadpulse_graph::EntityId;

use crate::examples::normalise::Normaliser;
use crate::examples::store::{CellRow, CellStore};
use crate::network::head::Outcome;
use crate::network::{Inputs, TowerTarget};

pub use tally::RowTally;

/// A quarter of a mean Gregorian year, milliseconds.
const QUARTER_MS: i64 = 7_889_238_000;

/// A cell at an anchor, with the outcome to learn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Example {
    /// The features: a cell of the set's store.
    pub row: CellRow,
    /// For a task on a member table: the slot of the target in its member block. 0 for tasks on the
    /// root.
    pub slot: usize,
    /// Whom it is about.
    pub entity: EntityId,
    /// The moment its features are known at, milliseconds since 1970 UTC.
    pub anchor_ms: i64,
    /// The outcome after the anchor.
    pub outcome: Outcome,
    /// The weight of the example in the loss and in calibration; 1 is usual.
    pub weight: f32,
}

/// Examples over the cells of one store. Copies and parts are cheap: they share the store.
#[derive(Clone, Debug)]
pub struct ExampleSet {
    cells: Arc<CellStore>,
    examples: Vec<Example>,
}

impl ExampleSet {
    /// An empty set over these cells.
    pub fn new(cells: Arc<CellStore>) -> Self {
        Self {
            cells,
            examples: Vec::new(),
        }
    }

    /// Adds an example. Many may share a cell.
    ///
    /// # Panics
    /// When the store holds no such cell.
    pub fn push(&mut self, example: Example) {
        assert!(
            self.cells.holds(example.row),
            "an example's cell is one of its set's store"
        );
        self.examples.push(example);
    }

    /// The number of examples in the set.
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// The columns of every cell.
    pub fn layout(&self) -> &Layout {
        self.cells.layout()
    }

    /// The store that holds the cells.
    pub fn cells(&self) -> &Arc<CellStore> {
        &self.cells
    }

    /// The examples, in order of insertion.
    pub fn examples(&self) -> &[Example] {
        &self.examples
    }

    /// The examples that satisfy a predicate.
    pub fn filter(&self, keep: impl Fn(&Example) -> bool) -> Self {
        Self {
            cells: self.cells.clone(),
            examples: self.examples.iter().filter(|e| keep(e)).copied().collect(),
        }
    }

    /// Takes out the examples that satisfy a predicate and returns them.
    pub fn split_off(&mut self, take: impl Fn(&Example) -> bool) -> Self {
        let taken = self.filter(&take);
        self.examples.retain(|example| !take(example));
        taken
    }

    /// The examples at these indices, in their order.
    pub fn select(&self, indices: &[usize]) -> Self {
        Self {
            cells: self.cells.clone(),
            examples: indices.iter().map(|i| self.examples[*i]).collect(),
        }
    }

    /// Gives each entity the same total weight in each quarter, however many anchors it has there;
    /// the mean weight is 1.
    pub fn weigh_entity_quarters(&mut self) {
        let key = |e: &Example| (e.entity, e.anchor_ms.div_euclid(QUARTER_MS));
        let mut rows: BTreeMap<(EntityId, i64), usize> = BTreeMap::new();
        for example in &self.examples {
            *rows.entry(key(example)).or_default() += 1;
        }
        let scale = self.len() as f32 / rows.len().max(1) as f32;
        for example in &mut self.examples {
            example.weight = scale / rows[&key(example)] as f32;
        }
    }

    /// The mean weight of the examples; 1 without any.
    pub fn mean_weight(&self) -> f64 {
        if self.is_empty() {
            return 1.0;
        }
        let sum: f64 = self.examples.iter().map(|e| f64::from(e.weight)).sum();
        sum / self.len() as f64
    }

    /// Multiplies every weight.
    pub fn scale_weights(&mut self, factor: f64) {
        for example in &mut self.examples {
            example.weight = (f64::from(example.weight) * factor) as f32;
        }
    }

    /// The raw features of some examples, padded to the largest number of members among them.
    pub fn feature_batch(&self, indices: &[usize]) -> FeatureBatch {
        self.cells.batch(&self.rows(indices), None, None)
    }

    /// The normalised features of some examples, as tensors of `device`: the rows that a task with
    /// this target reads.
    pub fn batch(
        &self,
        indices: &[usize],
        normaliser: &Normaliser,
        target: TowerTarget,
        device: &Device,
    ) -> Inputs {
        let rows = self.rows(indices);
        let batch = self.cells.batch(&rows, Some(normaliser), Some(target));
        Inputs::packed(batch, device)
    }

    /// The normalised root rows of some examples, one after the other, and for a task on a member
    /// table the rows of the members that they are about.
    pub(crate) fn asked_rows(
        &self,
        indices: &[usize],
        normaliser: &Normaliser,
        target: TowerTarget,
    ) -> (Vec<f32>, Vec<f32>) {
        let examples = indices.iter().map(|index| &self.examples[*index]);
        let cells = examples.map(|example| (example.row, example.slot));
        self.cells.asked_rows(cells, normaliser, target)
    }

    /// Number of rows of member table `table` in example `index`.
    pub(crate) fn members_of(&self, index: usize, table: usize) -> usize {
        self.cells.members_of(self.examples[index].row, table)
    }

    /// The distinct cells, in the store's order, each with the number of examples that share it.
    pub(crate) fn cells_used(&self) -> Vec<(CellRow, u32)> {
        let mut rows: Vec<CellRow> = self.examples.iter().map(|e| e.row).collect();
        rows.sort_unstable();
        rows.chunk_by(|a, b| a == b)
            .map(|same| (same[0], same.len() as u32))
            .collect()
    }

    fn rows(&self, indices: &[usize]) -> Vec<CellRow> {
        indices.iter().map(|i| self.examples[*i].row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch_of, layout, one_set};

    fn sample() -> ExampleSet {
        let layout = layout(2, &[1]);
        let batch = batch_of(
            &layout,
            &[
                (&[1.0, 2.0], &[&[&[5.0], &[6.0]]]),
                (&[3.0, 4.0], &[&[]]),
                (&[7.0, 8.0], &[&[&[9.0]]]),
            ],
        );
        one_set(&layout, &batch, |cell| {
            (
                0,
                EntityId(cell as u32 % 2),
                cell as i64,
                Outcome::Window(cell == 1),
            )
        })
    }

    #[test]
    fn stores_and_returns_ragged_members() {
        let set = sample();
        let batch = set.feature_batch(&[2, 0]);
        assert_eq!(batch.root, [7.0, 8.0, 1.0, 2.0]);
        assert_eq!(batch.members[0].slots, 2);
        assert_eq!(batch.members[0].values, [9.0, 0.0, 5.0, 6.0]);
        assert_eq!(batch.members[0].mask, [1.0, 0.0, 1.0, 1.0]);
        assert_eq!(set.feature_batch(&[1]).members[0].slots, 0);
    }

    #[test]
    fn splits_by_predicate() {
        let mut set = sample();
        let late = set.split_off(|e| e.anchor_ms >= 1);
        assert_eq!((set.len(), late.len()), (1, 2));
        assert_eq!(late.feature_batch(&[1]).members[0].values, [9.0]);
        assert_eq!(late.examples()[0].outcome, Outcome::Window(true));
    }

    #[test]
    fn quarters_of_an_entity_weigh_the_same() {
        let mut set = sample();
        set.weigh_entity_quarters();
        let weights: Vec<f32> = set.examples().iter().map(|e| e.weight).collect();
        assert_eq!(weights, [0.75, 1.5, 0.75]);
    }

    #[test]
    fn examples_share_cells() {
        let mut set = sample();
        let again = Example {
            slot: 1,
            outcome: Outcome::Window(true),
            ..set.examples()[0]
        };
        set.push(again);
        assert_eq!(set.cells().len(), 3);
        assert_eq!(set.feature_batch(&[3]).root, set.feature_batch(&[0]).root);
        let uses: Vec<u32> = set.cells_used().into_iter().map(|(_, uses)| uses).collect();
        assert_eq!(uses, [2, 1, 1]);
    }
}
