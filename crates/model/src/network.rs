//! The network: a small heterogeneous GNN over one cell, built from widths.
//!
//! ```text
//! h1_v = ReLU(W ReLU(W x_v))                              per member table
//! c    = W [Σ h1 ÷ 3 ‖ max h1 ‖ mean h1 ‖ G]              the cell's context, over all member tables
//! h2_v = ReLU(h1_v + c)                                   the context back to every member
//! z    = LayerNorm[Σ h2 ÷ 3 ‖ max h2 ‖ mean h2 ‖ ReLU(W G)]
//! u    = ReLU(W ReLU(W z))                                z → hidden → 32
//! out  = W u  for a task on the root;  W ReLU(W [h2_v ‖ ReLU(W x_v) ‖ u])  for a task on a member
//! ```
//!
//! G is the root row. Everything up to the pools of h2 is the *trunk*, which all tasks share; the
//! rest is a task's *tower*. A tower reads G itself, and a tower on a member table the row x_v that
//! it scores: a frozen trunk has learnt what matters to another task, and nothing else of them.
//! A tower on the root may do without the pools, and is then a multilayer perceptron on G, as it is
//! where a schema has no members.
//! Sums are divided by 3 to stay in the range of the other pools. After ReLU nothing is negative,
//! so a padding row that is multiplied by its mask of 0 can neither win a maximum nor change a sum,
//! and an empty table pools to 0. Members beyond those that are attended to are in no pool: they
//! have an output, from their own row and the pools of the others.
//!
//! Decisions: docs/decisions/0016-a-small-set-network-on-burn-flex.md,
//! docs/decisions/0085-networks-of-the-root-row.md

pub(crate) mod dropout;
pub(crate) mod head;
mod init;
pub(crate) mod inputs;
pub(crate) mod tower;
pub(crate) mod trunk;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub(crate) use dropout::Dropout;
pub(crate) use init::NORM_EPSILON;
pub use inputs::{Inputs, MemberInputs, MemberValues};
pub(crate) use tower::TowerColumns;
pub use tower::{TowerConfig, TowerTarget};
pub use trunk::TrunkConfig;
pub(crate) use trunk::pool_rows;

use tower::{Tower, TowerInputs};
use trunk::Trunk;

use crate::examples::normalise::Dropped;

/// The widths of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// The part that all tasks share.
    pub trunk: TrunkConfig,
    /// One tower per task.
    pub towers: Vec<TowerConfig>,
    /// Whether the trunk was trained, so that it stays what it is.
    #[serde(default = "is_trained")]
    pub has_trunk: bool,
}

/// Networks were written without this word when every trunk was trained.
fn is_trained() -> bool {
    true
}

/// A trunk and one tower per task.
#[derive(Module, Debug)]
pub struct Network {
    pub(crate) trunk: Trunk,
    pub(crate) towers: Vec<Tower>,
}

impl NetworkConfig {
    /// A network of these widths with random parameters, to load a record into.
    pub(crate) fn init(&self, rng: &mut ChaCha8Rng, device: &Device) -> Network {
        let none = Dropped::default();
        let trunk = self.trunk.init(&none, rng, device);
        let towers = self
            .towers
            .iter()
            .map(|t| t.init(&self.trunk, &none, &vec![0.0; t.outputs], rng, device))
            .collect();
        Network { trunk, towers }
    }
}

/// A trunk and the tower that is being trained on it.
#[derive(Module, Debug)]
pub(crate) struct Pair {
    pub trunk: Trunk,
    pub tower: Tower,
    #[module(skip)]
    frozen: bool,
}

impl Pair {
    /// A new tower, on a new trunk or on one that will not change. Dropped columns start with
    /// weights of 0. `bias` is that of the outputs.
    pub fn new(
        trunk: (&TrunkConfig, Option<&Trunk>),
        tower: &TowerConfig,
        dropped: &Dropped,
        bias: &[f32],
        rng: &mut ChaCha8Rng,
        device: &Device,
    ) -> Self {
        let (config, frozen) = trunk;
        let trunk = match frozen {
            Some(trunk) => trunk.clone().no_grad(),
            None => config.init(dropped, rng, device),
        };
        Self {
            trunk,
            tower: tower.init(config, dropped, bias, rng, device),
            frozen: frozen.is_some(),
        }
    }

    /// The outputs of the tower.
    ///
    /// # Shapes
    /// - `inputs`: as in [`Inputs`]
    /// - output: `[cells, rows, outputs]`
    pub fn forward(
        &self,
        inputs: &Inputs,
        columns: Option<&TowerColumns>,
        mut dropout: Option<&mut Dropout>,
    ) -> Tensor<3> {
        let trunk_dropout = if self.frozen {
            None
        } else {
            dropout.as_deref_mut()
        };
        let read = tower_inputs(&self.trunk, &self.tower, inputs, trunk_dropout);
        self.tower.forward(read, columns, dropout)
    }
}

impl Network {
    /// The outputs of one task.
    ///
    /// # Shapes
    /// - `inputs`: as in [`Inputs`]
    /// - output: `[cells, rows, outputs]`, with one row per cell for a task on the root, and one
    ///   per slot for a task on a member table
    pub fn forward(&self, inputs: &Inputs, task: usize) -> Tensor<3> {
        let tower = &self.towers[task];
        let read = tower_inputs(&self.trunk, tower, inputs, None);
        tower.forward(read, None, None)
    }
}

/// What a tower reads of some cells, through a trunk if it reads members.
fn tower_inputs(
    trunk: &Trunk,
    tower: &Tower,
    inputs: &Inputs,
    dropout: Option<&mut Dropout>,
) -> TowerInputs {
    if !tower.reads_members {
        return TowerInputs::of_root(inputs.root.clone());
    }
    let embedded = trunk.forward(inputs, dropout);
    TowerInputs::new(inputs, &embedded, tower.target)
}

#[cfg(test)]
mod tests {
    use leadpulse_features::{FeatureBatch, Layout};
    use rand::SeedableRng;

    use super::*;
    use crate::testing::{batch_of_owned, layout, random_cell};

    fn network(layout: &Layout, target: TowerTarget) -> Network {
        let config = NetworkConfig {
            trunk: TrunkConfig::for_layout(layout),
            towers: vec![TowerConfig {
                target,
                hidden: 64,
                outputs: 5,
                residual: false,
                reads_members: true,
            }],
            has_trunk: true,
        };
        config.init(&mut ChaCha8Rng::seed_from_u64(1), &Device::flex())
    }

    fn outputs(network: &Network, batch: &FeatureBatch) -> Vec<f32> {
        network
            .forward(&Inputs::from_batch(batch.clone(), &Device::flex()), 0)
            .try_into_vec_as::<f32>()
            .unwrap()
    }

    #[test]
    fn has_the_size_it_should() {
        // One member table of 72 columns and 44 of the root: the size the design was measured at.
        let size = network(&layout(44, &[72]), TowerTarget::Root).num_params();
        assert!((30_000..60_000).contains(&size), "{size}");
    }

    #[test]
    fn padding_and_the_order_of_members_change_nothing() {
        let layout = layout(3, &[4, 2]);
        let net = network(&layout, TowerTarget::Root);
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for _ in 0..20 {
            let small = random_cell(&layout, 3, &mut rng);
            let large = random_cell(&layout, 9, &mut rng);
            let mut turned = small.clone();
            turned.1.iter_mut().for_each(|rows| rows.reverse());
            let alone = outputs(&net, &batch_of_owned(&layout, std::slice::from_ref(&small)));
            let padded = outputs(&net, &batch_of_owned(&layout, &[small, large, turned]));
            for i in 0..5 {
                assert!((alone[i] - padded[i]).abs() < 1e-5, "padding");
                assert!((alone[i] - padded[10 + i]).abs() < 1e-5, "order");
            }
        }
    }

    #[test]
    fn packed_members_are_the_same_members() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        for members in [&[4, 2][..], &[3], &[]] {
            let layout = layout(3, members);
            let net = network(
                &layout,
                if members.is_empty() {
                    TowerTarget::Root
                } else {
                    TowerTarget::Member(0)
                },
            );
            for most in [0, 1, 7] {
                let cells: Vec<_> = (0..6)
                    .map(|i| random_cell(&layout, if i == 2 { most } else { most / 2 }, &mut rng))
                    .collect();
                let batch = batch_of_owned(&layout, &cells);
                let padded = outputs(&net, &batch);
                let packed = net
                    .forward(&Inputs::packed(batch.clone(), &Device::flex()), 0)
                    .try_into_vec_as::<f32>()
                    .unwrap();
                let slots = batch.members.first().map_or(1, |m| m.slots.max(1));
                for (row, (a, b)) in padded.chunks(5).zip(packed.chunks(5)).enumerate() {
                    let is_there = batch
                        .members
                        .first()
                        .is_none_or(|m| m.slots > 0 && m.mask[row] != 0.0);
                    assert!(
                        !is_there || a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5),
                        "row {row} of {slots} slots"
                    );
                }
            }
        }
    }

    #[test]
    fn a_members_output_depends_on_the_other_members() {
        let layout = layout(1, &[2]);
        let net = network(&layout, TowerTarget::Member(0));
        let with = |colleague: f32| {
            outputs(
                &net,
                &batch_of_owned(
                    &layout,
                    &[(vec![0.5], vec![vec![vec![1.0, -1.0], vec![colleague, 0.3]]])],
                ),
            )[0]
        };
        assert_ne!(with(2.0), with(-2.0));
    }

    #[test]
    fn dropout_depends_on_its_seed_only() {
        let device = Device::flex();
        let run = |seed| {
            let mut dropout = Dropout {
                rng: ChaCha8Rng::seed_from_u64(seed),
                hidden_ratio: 0.25,
                input_ratio: 0.0,
            };
            dropout
                .hidden(Tensor::<2>::ones([50, 40], &device))
                .try_into_vec_as::<f32>()
                .unwrap()
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
        let mean = run(3).iter().sum::<f32>() / 2000.0;
        assert!((mean - 1.0).abs() < 0.05, "{mean}");
    }
}
