//! Training examples, stored compactly: owns the raw features of (entity, anchor) pairs with their outcomes.
//!
//! Values are kept as they were encoded; normalising happens when a batch is made, by the same code that scoring uses.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::Device;
use leadpulse_features::{FeatureBatch, Layout, MemberBlock};
use leadpulse_graph::EntityId;

use crate::head::Outcome;
use crate::network::Inputs;
use crate::normalise::Normaliser;

/// A quarter of a mean Gregorian year, milliseconds.
const QUARTER_MS: i64 = 7_889_238_000;

/// What is known of one example beside its features.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Example {
    /// Whom it is about.
    pub entity: EntityId,
    /// The moment its features are known at, milliseconds since 1970 UTC.
    pub anchor_ms: i64,
    /// Its weight in the loss and in calibration; 1 unless changed.
    pub weight: f32,
    /// For a task on a member table: the slot of the target. 0 for tasks on the root.
    pub slot: u32,
    /// What happened after the anchor.
    pub outcome: Outcome,
}

/// The rows of one member table, of all examples one after another.
#[derive(Clone, Debug)]
struct MemberRows {
    width: usize,
    /// Rows of example `i` are `offsets[i]..offsets[i + 1]`.
    offsets: Vec<usize>,
    values: Vec<f32>,
}

/// Examples of one layout.
#[derive(Clone, Debug)]
pub struct ExampleSet {
    layout: Arc<Layout>,
    root: Vec<f32>,
    members: Vec<MemberRows>,
    examples: Vec<Example>,
}

impl ExampleSet {
    /// An empty set of examples with these columns.
    pub fn new(layout: &Layout) -> Self {
        let members = layout.members.iter().map(|m| MemberRows { width: m.columns.len(), offsets: vec![0], values: Vec::new() }).collect();
        Self { layout: Arc::new(layout.clone()), root: Vec::new(), members, examples: Vec::new() }
    }

    /// Adds cell `cell` of `batch`. `slot` is the target's slot in its member block, for a task on a member table, and 0 otherwise.
    /// Padding is not stored.
    ///
    /// # Panics
    /// When the batch was encoded for another layout, `cell` is outside of it, or padding comes before a row.
    pub fn push(&mut self, batch: &FeatureBatch, cell: usize, slot: usize, entity: EntityId, anchor_ms: i64, outcome: Outcome) {
        let width = self.root_width();
        assert_eq!(batch.members.len(), self.members.len(), "a batch of this layout has one block per member table");
        self.root.extend_from_slice(&batch.root[cell * width..(cell + 1) * width]);
        for (rows, block) in self.members.iter_mut().zip(&batch.members) {
            let mask = &block.mask[cell * block.slots..(cell + 1) * block.slots];
            let present = mask.iter().take_while(|m| **m != 0.0).count();
            assert!(mask[present..].iter().all(|m| *m == 0.0), "rows come before padding");
            assert!(present == 0 || block.width == rows.width, "a batch of this layout has its widths");
            let start = cell * block.slots * rows.width;
            rows.values.extend_from_slice(&block.values[start..start + present * rows.width]);
            rows.offsets.push(rows.offsets[rows.offsets.len() - 1] + present);
        }
        self.examples.push(Example { entity, anchor_ms, weight: 1.0, slot: slot as u32, outcome });
    }

    /// How many examples.
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// The columns.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What is known of each example beside its features, in order of insertion.
    pub fn examples(&self) -> &[Example] {
        &self.examples
    }

    /// The examples that satisfy a predicate.
    pub fn filter(&self, keep: impl Fn(&Example) -> bool) -> Self {
        let indices: Vec<usize> = (0..self.len()).filter(|i| keep(&self.examples[*i])).collect();
        self.select(&indices)
    }

    /// Takes out the examples that satisfy a predicate and returns them.
    pub fn split_off(&mut self, take: impl Fn(&Example) -> bool) -> Self {
        let taken = self.filter(&take);
        *self = self.filter(|example| !take(example));
        taken
    }

    /// The examples at these indices, in their order.
    pub fn select(&self, indices: &[usize]) -> Self {
        let mut selected = Self::new(&self.layout);
        let width = self.root_width();
        for &i in indices {
            selected.root.extend_from_slice(&self.root[i * width..(i + 1) * width]);
            for (to, from) in selected.members.iter_mut().zip(&self.members) {
                let (start, end) = (from.offsets[i], from.offsets[i + 1]);
                to.values.extend_from_slice(&from.values[start * from.width..end * from.width]);
                to.offsets.push(to.offsets[to.offsets.len() - 1] + (end - start));
            }
            selected.examples.push(self.examples[i]);
        }
        selected
    }

    /// Gives each entity the same total weight in each quarter, however many anchors it has there; the mean weight is 1.
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

    /// The raw features of some examples, padded to the largest number of members among them.
    pub fn feature_batch(&self, indices: &[usize]) -> FeatureBatch {
        let width = self.root_width();
        let mut root = Vec::with_capacity(indices.len() * width);
        for &i in indices {
            root.extend_from_slice(&self.root[i * width..(i + 1) * width]);
        }
        let members = self.members.iter().map(|rows| rows.block(indices)).collect();
        FeatureBatch { cells: indices.len(), root, members }
    }

    /// The normalised features of some examples, as tensors of `device`.
    pub fn batch(&self, indices: &[usize], normaliser: &Normaliser, device: &Device) -> Inputs {
        let mut batch = self.feature_batch(indices);
        normaliser.apply(&mut batch);
        Inputs::from_batch(&batch, device)
    }

    /// How many rows of member table `table` example `index` has.
    pub(crate) fn members_of(&self, index: usize, table: usize) -> usize {
        let offsets = &self.members[table].offsets;
        offsets[index + 1] - offsets[index]
    }

    /// The raw root row of every example.
    pub(crate) fn root_rows(&self) -> impl Iterator<Item = &[f32]> {
        self.root.chunks_exact(self.root_width().max(1))
    }

    /// Every raw row of member table `table`.
    pub(crate) fn member_rows(&self, table: usize) -> impl Iterator<Item = &[f32]> {
        let rows = &self.members[table];
        rows.values.chunks_exact(rows.width.max(1))
    }

    fn root_width(&self) -> usize {
        self.layout.root.len()
    }
}

impl MemberRows {
    fn block(&self, indices: &[usize]) -> MemberBlock {
        let slots = indices.iter().map(|&i| self.offsets[i + 1] - self.offsets[i]).max().unwrap_or(0);
        let mut values = vec![0.0; indices.len() * slots * self.width];
        let mut mask = vec![0.0; indices.len() * slots];
        for (cell, &i) in indices.iter().enumerate() {
            let rows = self.offsets[i + 1] - self.offsets[i];
            let from = &self.values[self.offsets[i] * self.width..self.offsets[i + 1] * self.width];
            let start = cell * slots;
            values[start * self.width..start * self.width + from.len()].copy_from_slice(from);
            mask[start..start + rows].fill(1.0);
        }
        MemberBlock { slots, width: self.width, values, mask, entities: vec![None; indices.len() * slots] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch_of, layout};

    fn sample() -> ExampleSet {
        let layout = layout(2, &[1]);
        let batch = batch_of(&layout, &[(&[1.0, 2.0], &[&[&[5.0], &[6.0]]]), (&[3.0, 4.0], &[&[]]), (&[7.0, 8.0], &[&[&[9.0]]])]);
        let mut set = ExampleSet::new(&layout);
        for cell in 0..3 {
            set.push(&batch, cell, 0, EntityId(cell as u32 % 2), cell as i64, Outcome::Window(cell == 1));
        }
        set
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
}
