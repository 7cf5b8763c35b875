//! Outputs of trunks that do not change: computed once for each network and cell, and read in every
//! step of a head's training.
//!
//! A head reads the pools of its cell, and of a member that it scores the embedding and the row.
//! Everything before the pools is the larger part of a step, and the same in all of them.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use burn::tensor::{Device, Tensor, TensorData};

use crate::examples::ExampleSet;
use crate::examples::normalise::Normaliser;
use crate::examples::store::CellRow;
use crate::network::tower::TowerInputs;
use crate::network::trunk::Trunk;
use crate::network::{
    Dropout, MemberInputs, MemberValues, Pair, TowerColumns, TowerTarget, TrunkConfig,
};

/// Memory that the outputs of all trunks of a fit may take; larger fits compute them in every step.
const MOST_BYTES: usize = 1 << 30;
/// Cells that a trunk is run over at a time.
const CELLS: usize = 512;

/// The outputs of one trunk for the examples of a set.
pub(crate) struct EmbeddedSet {
    /// Width of the pools of all member tables.
    pooled: usize,
    /// Width of a member's embedding.
    hidden: usize,
    /// Of each distinct cell its pools.
    pools: Vec<f32>,
    /// Of each example its place among the distinct cells.
    cell_of: Vec<usize>,
    /// Of each example the embedding of the member that it is about; empty for tasks on the root.
    rows: Vec<f32>,
}

/// The outputs of the trunks of a fit, each computed when it is first asked for.
pub(crate) struct EmbeddedSets {
    pub training: Vec<OnceLock<EmbeddedSet>>,
    pub validation: Vec<OnceLock<EmbeddedSet>>,
}

impl EmbeddedSets {
    /// Room for the outputs of so many trunks. `None` if they would take too much memory.
    pub fn new(trunks: usize, config: &TrunkConfig, sets: [&ExampleSet; 2]) -> Option<Self> {
        let bytes = |set: &ExampleSet| {
            let (cells, examples) = (set.cells_used().len(), set.len());
            size_of::<f32>() * (cells * config.pools() + examples * config.member_hidden)
        };
        let all: usize = sets.into_iter().map(bytes).sum();
        let room = || (0..trunks).map(|_| OnceLock::new()).collect();
        (trunks * all <= MOST_BYTES).then(|| Self {
            training: room(),
            validation: room(),
        })
    }
}

/// Examples as the networks of a fit read them: whole, with the kept outputs of a frozen trunk, or
/// the root row alone.
pub(super) struct ExampleReader<'a> {
    set: &'a ExampleSet,
    normaliser: &'a Normaliser,
    target: TowerTarget,
    reads: Reads<'a>,
}

/// What a network reads of an example.
#[derive(Clone, Copy)]
enum Reads<'a> {
    Whole,
    Kept(&'a EmbeddedSet),
    Root,
}

impl<'a> ExampleReader<'a> {
    /// The examples of a set; `kept` is the place of a trunk's outputs, and the trunk.
    pub fn new(
        set: &'a ExampleSet,
        normaliser: &'a Normaliser,
        target: TowerTarget,
        kept: Option<(&'a OnceLock<EmbeddedSet>, &Trunk)>,
    ) -> Self {
        let reads = kept.map_or(Reads::Whole, |(place, trunk)| {
            Reads::Kept(place.get_or_init(|| EmbeddedSet::new(trunk, set, normaliser, target)))
        });
        Self {
            set,
            normaliser,
            target,
            reads,
        }
    }

    /// The root rows of a set's examples.
    pub fn of_root(set: &'a ExampleSet, normaliser: &'a Normaliser) -> Self {
        Self {
            set,
            normaliser,
            target: TowerTarget::Root,
            reads: Reads::Root,
        }
    }

    /// The outputs of a network for some examples.
    ///
    /// # Shapes
    /// - output: as of [`Pair::forward`]; of kept outputs and of roots `[examples, 1, outputs]`
    pub fn outputs(
        &self,
        pair: &Pair,
        examples: &[usize],
        device: &Device,
        columns: Option<&TowerColumns>,
        dropout: Option<&mut Dropout>,
    ) -> Tensor<3> {
        match self.reads {
            Reads::Kept(kept) => {
                let inputs = self.inputs(kept, examples, device);
                pair.tower.forward(inputs, columns, dropout)
            }
            Reads::Root => {
                let (root, _) = self.set.asked_rows(examples, self.normaliser, self.target);
                let inputs = TowerInputs::of_root(tensor_of(root, examples.len(), device));
                pair.tower.forward(inputs, columns, dropout)
            }
            Reads::Whole => {
                let set = self.set;
                let inputs = set.batch(examples, self.normaliser, self.target, device);
                pair.forward(&inputs, columns, dropout)
            }
        }
    }

    /// Some examples as a tower reads them: one row each, the root or the member that it is about.
    fn inputs(&self, kept: &EmbeddedSet, examples: &[usize], device: &Device) -> TowerInputs {
        let count = examples.len();
        let tensor = |values: Vec<f32>| tensor_of(values, count, device);
        let (root, own) = self.set.asked_rows(examples, self.normaliser, self.target);
        let EmbeddedSet {
            pooled,
            hidden,
            pools,
            cell_of,
            rows,
        } = kept;
        let gather = |from: &[f32], width: usize, at: &dyn Fn(usize) -> usize| {
            let of = |example: &usize| from[at(*example) * width..][..width].iter().copied();
            examples.iter().flat_map(of).collect::<Vec<f32>>()
        };
        let pools = match pooled {
            0 => Vec::new(),
            width => vec![tensor(gather(pools, *width, &|example| cell_of[example]))],
        };
        let member = matches!(self.target, TowerTarget::Member(_)).then(|| {
            let embedding = tensor(gather(rows, *hidden, &|example| example)).unsqueeze_dim(1);
            let own = MemberInputs {
                values: MemberValues::Padded(tensor(own).unsqueeze_dim(1)),
                mask: Tensor::ones([count, 1, 1], device),
                attended: None,
            };
            (embedding, own)
        });
        TowerInputs {
            root: tensor(root),
            pools,
            member,
        }
    }
}

/// So many rows as a tensor, `[count, width]`.
fn tensor_of(values: Vec<f32>, count: usize, device: &Device) -> Tensor<2> {
    let width = values.len() / count.max(1);
    Tensor::from_data(TensorData::new(values, [count, width]), device)
}

impl EmbeddedSet {
    fn new(trunk: &Trunk, set: &ExampleSet, normaliser: &Normaliser, target: TowerTarget) -> Self {
        let mut by_cell: BTreeMap<CellRow, Vec<usize>> = BTreeMap::new();
        for (index, example) in set.examples().iter().enumerate() {
            by_cell.entry(example.row).or_default().push(index);
        }
        let mut embedded = Self {
            pooled: 0,
            hidden: 0,
            pools: Vec::new(),
            cell_of: vec![0; set.len()],
            rows: Vec::new(),
        };
        let cells: Vec<Vec<usize>> = by_cell.into_values().collect();
        let device = Device::flex();
        for (part, cells) in cells.chunks(CELLS).enumerate() {
            let first: Vec<usize> = cells.iter().map(|examples| examples[0]).collect();
            let inputs = set.batch(&first, normaliser, target, &device);
            let outputs = trunk.forward(&inputs, None);
            if !outputs.pools.is_empty() {
                let pools = Tensor::cat(outputs.pools, 1);
                embedded.pooled = pools.dims()[1];
                embedded.pools.extend(host(pools));
            }
            let rows = match target {
                TowerTarget::Root => None,
                TowerTarget::Member(table) => Some(outputs.rows[table].clone()),
            };
            for (place, examples) in cells.iter().enumerate() {
                for example in examples {
                    embedded.cell_of[*example] = part * CELLS + place;
                }
            }
            if let Some(rows) = rows {
                embedded.take_rows(set, cells, rows);
            }
        }
        embedded
    }

    /// Takes the embeddings of the members that examples are about.
    fn take_rows(&mut self, set: &ExampleSet, cells: &[Vec<usize>], rows: Tensor<3>) {
        let [_, slots, hidden] = rows.dims();
        self.hidden = hidden;
        self.rows.resize(set.len() * hidden, 0.0);
        let rows = host(rows);
        for (cell, examples) in cells.iter().enumerate() {
            for example in examples {
                let from = (cell * slots + set.examples()[*example].slot) * hidden;
                self.rows[example * hidden..][..hidden].copy_from_slice(&rows[from..from + hidden]);
            }
        }
    }
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .try_into_vec_as::<f32>()
        .expect("outputs are f32 in host memory")
}

#[cfg(test)]
mod tests {
    use leadpulse_graph::EntityId;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::network::head::Outcome;
    use crate::network::tower::TowerInputs;
    use crate::testing::{OwnedCell, batch_of_owned, layout, one_set, random_cell, untrained};

    #[test]
    fn a_head_gets_from_kept_outputs_what_the_trunk_would_give() {
        let layout = layout(5, &[4, 3]);
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let fitted = untrained(&layout, &mut rng);
        let mut cells: Vec<OwnedCell> =
            (0..40).map(|_| random_cell(&layout, 6, &mut rng)).collect();
        for (_, tables) in &mut cells {
            for (rows, member) in tables.iter_mut().zip(&layout.members) {
                rows.push(vec![0.25; member.columns.len()]);
            }
        }
        let towers = fitted.config.towers.iter().enumerate();
        for (task, tower) in towers.filter(|(_, tower)| tower.reads_members) {
            let mut set = one_set(&layout, &batch_of_owned(&layout, &cells), |i| {
                let slots = match tower.target {
                    TowerTarget::Root => 1,
                    TowerTarget::Member(table) => cells[i].1[table].len(),
                };
                (i % slots, EntityId(i as u32), 0, Outcome::Window(true))
            });
            // Examples share cells, in any order.
            for _ in 0..20 {
                let example = set.examples()[rng.random_range(0..40)];
                set.push(example);
            }
            let (network, place) = (&fitted.networks[0], OnceLock::new());
            let kept = Some((&place, &network.trunk));
            let reader = ExampleReader::new(&set, &fitted.normaliser, tower.target, kept);
            let Reads::Kept(kept) = reader.reads else {
                panic!("a trunk was given");
            };
            let (device, asked) = (Device::flex(), [59, 3, 17, 3, 44, 0]);
            let kept = host(network.towers[task].forward(
                reader.inputs(kept, &asked, &device),
                None,
                None,
            ));
            let inputs = set.batch(&asked, &fitted.normaliser, tower.target, &device);
            let embedded = network.trunk.forward(&inputs, None);
            let whole = TowerInputs::new(&inputs, &embedded, tower.target);
            let whole = network.towers[task].forward(whole, None, None);
            let [_, slots, outputs] = whole.dims();
            let whole = host(whole);
            for (at, example) in asked.iter().enumerate() {
                let slot = set.examples()[*example].slot;
                let expected = &whole[(at * slots + slot) * outputs..][..outputs];
                for (kept, expected) in kept[at * outputs..].iter().zip(expected) {
                    assert!(
                        (kept - expected).abs() < 1e-5,
                        "task {task}, example {example}"
                    );
                }
            }
        }
    }
}
