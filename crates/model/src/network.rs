//! The network: a small heterogeneous GNN over one cell, built from widths.
//!
//! ```text
//! h1_v = ReLU(W ReLU(W x_v))                              per member table
//! c    = W [Σ h1 ÷ 3 ‖ max h1 ‖ mean h1 ‖ G]              the cell's context, over all member tables
//! h2_v = ReLU(h1_v + c)                                   the context back to every member
//! z    = LayerNorm[Σ h2 ÷ 3 ‖ max h2 ‖ mean h2 ‖ ReLU(W G)]
//! u    = ReLU(W ReLU(W z))                                z → hidden → 32
//! out  = W u  for a task on the root;  W ReLU(W [h2_v ‖ u])  for a task on a member table
//! ```
//!
//! G is the root row. Everything up to the pools of h2 is the *trunk*, which all tasks share; the rest is a task's *tower*. A tower
//! reads G itself, so that a task learnt later on a frozen trunk loses nothing where a cell has no members: the network is then a
//! multilayer perceptron on G. Sums are divided by 3 to stay in the range of the other pools. After ReLU nothing is negative, so a
//! padding row that is multiplied by its mask of 0 can neither win a maximum nor change a sum, and an empty table pools to 0.

pub(crate) mod head;

use burn::config::Config;
use burn::module::{Module, Param, ParamId};
use burn::nn::{LayerNorm, LayerNormConfig, Linear};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorData};
use leadpulse_features::{FeatureBatch, Layout};
use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::examples::normalise::Dropped;

/// Width of `u`.
const NARROW: usize = 32;
/// Sums over members are divided by this.
const SUM_DIVISOR: f32 = 3.0;
/// Width of member embeddings with one member table, and with more, where the pools of all are concatenated.
const MEMBER_HIDDEN: (usize, usize) = (64, 32);

/// Normalised features as tensors.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// `[cells, root width]`
    pub root: Tensor<2>,
    /// One per member table.
    pub members: Vec<MemberInputs>,
}

/// The members of one table as tensors.
#[derive(Clone, Debug)]
pub struct MemberInputs {
    /// What is known of them.
    pub values: MemberValues,
    /// `[cells, slots, 1]`: 1 for a row, 0 for padding.
    pub mask: Tensor<3>,
}

/// The columns of members.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one per table and batch"
)]
pub enum MemberValues {
    /// `[cells, slots, width]`, padding included: a cell's shape is its own, whatever else is in the batch.
    Padded(Tensor<3>),
    /// Only the rows that are there: most cells of a batch have fewer than the one with the most, and the first layer is the widest.
    Packed {
        /// `[rows, width]`
        rows: Tensor<2>,
        /// `[cells · slots]`: a row's number, from 1; 0 for padding.
        places: Tensor<1, Int>,
    },
}

impl Inputs {
    /// The tensors of a normalised batch. A table without members gets one padding slot.
    pub fn from_batch(batch: FeatureBatch, device: &Device) -> Self {
        let cells = batch.cells;
        let width = batch.root.len() / cells.max(1);
        let root = Tensor::from_data(TensorData::new(batch.root, [cells, width]), device);
        let members = batch
            .members
            .into_iter()
            .map(|block| {
                let slots = block.slots.max(1);
                let (values, mask) = if block.slots == 0 {
                    (vec![0.0; cells * block.width], vec![0.0; cells])
                } else {
                    (block.values, block.mask)
                };
                MemberInputs {
                    values: MemberValues::Padded(Tensor::from_data(
                        TensorData::new(values, [cells, slots, block.width]),
                        device,
                    )),
                    mask: Tensor::from_data(TensorData::new(mask, [cells, slots, 1]), device),
                }
            })
            .collect();
        Self { root, members }
    }

    /// As [`Self::from_batch`], without the padding: for training, where nobody asks for the same bits in any company.
    pub fn packed(batch: FeatureBatch, device: &Device) -> Self {
        let mut inputs = Self::from_batch(
            FeatureBatch {
                members: Vec::new(),
                ..batch
            },
            device,
        );
        for block in batch.members {
            let (width, slots) = (block.width, block.slots.max(1));
            let (mut rows, mut places) = (Vec::new(), Vec::with_capacity(batch.cells * slots));
            let mut mask = block.mask;
            mask.resize(batch.cells * slots, 0.0);
            for (slot, is_there) in mask.iter().enumerate() {
                if *is_there != 0.0 {
                    rows.extend_from_slice(&block.values[slot * width..(slot + 1) * width]);
                }
                places.push(if *is_there != 0.0 {
                    (rows.len() / width.max(1)) as i32
                } else {
                    0
                });
            }
            // A tensor has at least one row; nothing points to this one.
            if rows.is_empty() {
                rows.resize(width, 0.0);
            }
            let count = rows.len() / width.max(1);
            inputs.members.push(MemberInputs {
                values: MemberValues::Packed {
                    rows: Tensor::from_data(TensorData::new(rows, [count, width]), device),
                    places: Tensor::from_data(
                        TensorData::new(places, [batch.cells * slots]),
                        device,
                    ),
                },
                mask: Tensor::from_data(TensorData::new(mask, [batch.cells, slots, 1]), device),
            });
        }
        inputs
    }
}

/// Random zeroes while training. Its randomness is its own: a seed decides it, whatever other threads do.
#[derive(Debug)]
pub(crate) struct Dropout {
    pub rng: ChaCha8Rng,
    /// Share of hidden units left out.
    pub hidden_ratio: f64,
    /// Share of inputs left out.
    pub input_ratio: f64,
}

impl Dropout {
    fn hidden<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
        let ratio = self.hidden_ratio;
        self.apply(tensor, ratio)
    }

    fn input<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
        let ratio = self.input_ratio;
        self.apply(tensor, ratio)
    }

    fn apply<const D: usize>(&mut self, tensor: Tensor<D>, ratio: f64) -> Tensor<D> {
        // A byte decides: ratios are multiples of 1/256, and the kept are scaled by what is really kept.
        let below = (ratio * 256.0).round().clamp(0.0, 255.0) as u8;
        if below == 0 {
            return tensor;
        }
        let mut bytes = vec![0u8; tensor.shape().num_elements()];
        self.rng.fill_bytes(&mut bytes);
        let kept = 256.0 / (256.0 - f32::from(below));
        let mask: Vec<f32> = bytes
            .into_iter()
            .map(|b| if b < below { 0.0 } else { kept })
            .collect();
        let mask = Tensor::from_data(TensorData::new(mask, tensor.dims()), &tensor.device());
        tensor * mask
    }
}

/// Draws initial parameters and their ids from one seed.
struct Initialiser<'a> {
    rng: &'a mut ChaCha8Rng,
    device: &'a Device,
}

impl Initialiser<'_> {
    fn param<const D: usize>(&mut self, values: Vec<f32>, shape: [usize; D]) -> Param<Tensor<D>> {
        // An id of our own: burn's are drawn from the process, and a bundle of the same seed must be the same bytes.
        let id = ParamId::from(self.rng.next_u64());
        Param::initialized(
            id,
            Tensor::from_data(TensorData::new(values, shape), self.device),
        )
        .set_require_grad(true)
    }

    /// He's uniform initialisation for a layer before a ReLU, with `gain` 1. Rows of `dropped` inputs are 0.
    fn linear(&mut self, input: usize, output: usize, gain: f32, dropped: &[bool]) -> Linear {
        let bound = gain * (6.0 / input.max(1) as f32).sqrt();
        let mut weights = Vec::with_capacity(input * output);
        for i in 0..input {
            let scale = if dropped.get(i).copied().unwrap_or(false) {
                0.0
            } else {
                bound
            };
            weights.extend((0..output).map(|_| self.rng.random_range(-1.0f32..1.0) * scale));
        }
        Linear {
            weight: self.param(weights, [input, output]),
            bias: Some(self.param(vec![0.0; output], [output])),
        }
    }

    fn layer_norm(&mut self, width: usize) -> LayerNorm {
        let mut norm = LayerNormConfig::new(width).init(self.device);
        norm.gamma = self.param(vec![1.0; width], [width]);
        norm.beta = Some(self.param(vec![0.0; width], [width]));
        norm
    }
}

/// The widths of a trunk.
#[derive(Config, Debug, PartialEq)]
pub struct TrunkConfig {
    /// Columns of the root row.
    pub root_width: usize,
    /// Columns of each member table.
    pub member_widths: Vec<usize>,
    /// Width of a member's embedding.
    pub member_hidden: usize,
}

impl TrunkConfig {
    /// The trunk that reads such cells.
    pub fn for_layout(layout: &Layout) -> Self {
        let member_widths: Vec<usize> = layout.members.iter().map(|m| m.columns.len()).collect();
        let hidden = if member_widths.len() <= 1 {
            MEMBER_HIDDEN.0
        } else {
            MEMBER_HIDDEN.1
        };
        Self::new(layout.root.len(), member_widths, hidden)
    }

    /// Width of the three pools of all member tables.
    fn pools(&self) -> usize {
        3 * self.member_hidden * self.member_widths.len()
    }

    fn init(&self, dropped: &Dropped, rng: &mut ChaCha8Rng, device: &Device) -> Trunk {
        let mut init = Initialiser { rng, device };
        let encoders = self
            .member_widths
            .iter()
            .enumerate()
            .map(|(t, width)| Encoder {
                first: init.linear(
                    *width,
                    self.member_hidden,
                    1.0,
                    dropped.members.get(t).map_or(&[], Vec::as_slice),
                ),
                second: init.linear(self.member_hidden, self.member_hidden, 1.0, &[]),
            })
            .collect();
        let context = (!self.member_widths.is_empty()).then(|| {
            let mut inputs = vec![false; self.pools()];
            inputs.extend(dropped.root.iter().copied());
            init.linear(
                self.pools() + self.root_width,
                self.member_hidden,
                1.0,
                &inputs,
            )
        });
        Trunk { encoders, context }
    }
}

/// Columns as a layer reads them: all, or while training without those left out.
fn read<const D: usize>(columns: &Tensor<D>, dropout: Option<&mut Dropout>) -> Tensor<D> {
    dropout.map_or_else(|| columns.clone(), |dropout| dropout.input(columns.clone()))
}

/// The two-layer perceptron of one member table.
#[derive(Module, Debug)]
pub(crate) struct Encoder {
    pub first: Linear,
    pub second: Linear,
}

impl Encoder {
    /// h1: `[cells, slots, member hidden]`, 0 for padding.
    fn forward(&self, member: &MemberInputs, dropout: Option<&mut Dropout>) -> Tensor<3> {
        match &member.values {
            MemberValues::Padded(x) => {
                relu(
                    self.second
                        .forward(relu(self.first.forward(read(x, dropout)))),
                ) * member.mask.clone()
            }
            MemberValues::Packed { rows, places } => {
                let h = relu(
                    self.second
                        .forward(relu(self.first.forward(read(rows, dropout)))),
                );
                let [cells, slots, _] = member.mask.dims();
                let [_, hidden] = h.dims();
                let padding = Tensor::zeros([1, hidden], &h.device());
                Tensor::cat(vec![padding, h], 0)
                    .select(0, places.clone())
                    .reshape([cells, slots, hidden])
            }
        }
    }
}

/// What all tasks share.
#[derive(Module, Debug)]
pub(crate) struct Trunk {
    pub encoders: Vec<Encoder>,
    pub context: Option<Linear>,
}

/// What a trunk makes of some cells.
pub(crate) struct Embedded {
    /// h2 of each member table: `[cells, slots, member hidden]`.
    rows: Vec<Tensor<3>>,
    /// Their pools: `[cells, 3 · member hidden]` each.
    pools: Vec<Tensor<2>>,
}

impl Trunk {
    pub fn forward(&self, inputs: &Inputs, mut dropout: Option<&mut Dropout>) -> Embedded {
        let Some(context) = &self.context else {
            return Embedded {
                rows: Vec::new(),
                pools: Vec::new(),
            };
        };
        let mut h1 = Vec::with_capacity(self.encoders.len());
        let mut parts = Vec::with_capacity(self.encoders.len() + 1);
        for (encoder, member) in self.encoders.iter().zip(&inputs.members) {
            let h = encoder.forward(member, dropout.as_deref_mut());
            parts.push(pool(h.clone(), &member.mask));
            h1.push(h);
        }
        parts.push(read(&inputs.root, dropout));
        let c = context.forward(Tensor::cat(parts, 1)).unsqueeze_dim::<3>(1);
        let rows: Vec<Tensor<3>> = h1
            .into_iter()
            .zip(&inputs.members)
            .map(|(h, member)| relu(h + c.clone()) * member.mask.clone())
            .collect();
        let pools = rows
            .iter()
            .zip(&inputs.members)
            .map(|(h, member)| pool(h.clone(), &member.mask))
            .collect();
        Embedded { rows, pools }
    }
}

/// `[Σ ÷ 3 ‖ max ‖ mean]` over the rows that are there. Takes values that are not negative, and 0 for padding.
fn pool(h: Tensor<3>, mask: &Tensor<3>) -> Tensor<2> {
    let count = mask.clone().sum_dim(1).clamp_min(1.0);
    let sum = h.clone().sum_dim(1);
    let max = h.max_dim(1);
    let mean = sum.clone() / count;
    Tensor::cat(vec![sum / SUM_DIVISOR, max, mean], 2).squeeze_dim(1)
}

/// [`pool`] of relu(row + context) for the rows of one cell, which are all there: `rows` is `[rows, hidden]`, `context` `[hidden]`,
/// `pools` `[3 · hidden]`.
pub(crate) fn pool_rows(rows: &[f32], context: &[f32], pools: &mut [f32]) {
    let hidden = context.len();
    let (sum, rest) = pools.split_at_mut(hidden);
    let (max, mean) = rest.split_at_mut(hidden);
    sum.fill(0.0);
    max.fill(0.0);
    for row in rows.chunks_exact(hidden) {
        for (((sum, max), x), c) in sum.iter_mut().zip(max.iter_mut()).zip(row).zip(context) {
            let x = x + c;
            // Comparisons rather than f32::max, whose care for NaN is not needed here and slow.
            let x = if x > 0.0 { x } else { 0.0 };
            *sum += x;
            *max = if x > *max { x } else { *max };
        }
    }
    let count = (rows.len() / hidden).max(1) as f32;
    for (sum, mean) in sum.iter_mut().zip(mean) {
        *mean = *sum / count;
        *sum /= SUM_DIVISOR;
    }
}

/// What a task reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// One output row per cell.
    Root,
    /// One output row per member of this table (index into [`Layout::members`]).
    Member(usize),
}

/// The widths of a tower.
#[derive(Config, Debug, PartialEq)]
pub struct TowerConfig {
    /// What it scores.
    pub target: Target,
    /// Width of its first hidden layers.
    pub hidden: usize,
    /// Outputs per row.
    pub outputs: usize,
    /// Whether the root row also reaches the output directly, through one linear layer.
    pub residual: bool,
}

impl TowerConfig {
    fn init(
        &self,
        trunk: &TrunkConfig,
        dropped: &Dropped,
        bias: &[f32],
        rng: &mut ChaCha8Rng,
        device: &Device,
    ) -> Tower {
        let mut init = Initialiser { rng, device };
        let normed = trunk.pools() + self.hidden;
        let mut output = init.linear(NARROW, self.outputs, 0.4, &[]);
        output.bias = Some(init.param(bias.to_vec(), [self.outputs]));
        Tower {
            project: init.linear(trunk.root_width, self.hidden, 1.0, &dropped.root),
            norm: init.layer_norm(normed),
            hidden: init.linear(normed, self.hidden, 1.0, &[]),
            narrow: init.linear(self.hidden, NARROW, 1.0, &[]),
            row: matches!(self.target, Target::Member(_))
                .then(|| init.linear(trunk.member_hidden + NARROW, NARROW, 1.0, &[])),
            direct: self
                .residual
                .then(|| init.linear(trunk.root_width, self.outputs, 0.1, &dropped.root)),
            output,
            target: self.target,
        }
    }
}

/// What belongs to one task.
#[derive(Module, Debug)]
pub(crate) struct Tower {
    pub project: Linear,
    norm: LayerNorm,
    hidden: Linear,
    narrow: Linear,
    row: Option<Linear>,
    pub direct: Option<Linear>,
    output: Linear,
    #[module(skip)]
    pub target: Target,
}

impl Tower {
    /// `[cells, rows, outputs]`: one row per cell for a task on the root, one per slot for a task on a member table.
    /// `columns` masks root columns, `[1, root width]`.
    pub fn forward(
        &self,
        inputs: &Inputs,
        embedded: &Embedded,
        columns: Option<&Tensor<2>>,
        mut dropout: Option<&mut Dropout>,
    ) -> Tensor<3> {
        let mut root = inputs.root.clone();
        if let Some(columns) = columns {
            root = root * columns.clone();
        }
        let mut parts = embedded.pools.clone();
        parts.push(relu(
            self.project.forward(read(&root, dropout.as_deref_mut())),
        ));
        let members = match self.target {
            Target::Root => None,
            Target::Member(table) => Some(embedded.rows[table].clone()),
        };
        let out = self.read(Tensor::cat(parts, 1), members, dropout);
        match &self.direct {
            Some(direct) => out + direct.forward(root).unsqueeze_dim::<3>(1),
            None => out,
        }
    }

    /// From the pools and the projected root, `[cells, normed]`, to the outputs, without the direct layer. `members` is h2 of the rows
    /// to score, `[cells, rows, member hidden]`, for a task on a member table.
    pub fn read(
        &self,
        z: Tensor<2>,
        members: Option<Tensor<3>>,
        mut dropout: Option<&mut Dropout>,
    ) -> Tensor<3> {
        let mut z = self.norm.forward(z);
        if let Some(dropout) = dropout.as_deref_mut() {
            z = dropout.hidden(z);
        }
        let mut hidden = relu(self.hidden.forward(z));
        if let Some(dropout) = dropout {
            hidden = dropout.hidden(hidden);
        }
        let u = relu(self.narrow.forward(hidden));
        match (&self.row, members) {
            (Some(row), Some(members)) => {
                let [cells, slots, _] = members.dims();
                let u = u.unsqueeze_dim::<3>(1).expand([cells, slots, NARROW]);
                self.output
                    .forward(relu(row.forward(Tensor::cat(vec![members, u], 2))))
            }
            _ => self.output.forward(u).unsqueeze_dim(1),
        }
    }
}

/// The widths of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// What all tasks share.
    pub trunk: TrunkConfig,
    /// One per task.
    pub towers: Vec<TowerConfig>,
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
    /// A new tower, on a new trunk or on one that will not change. Dropped columns start with weights of 0. `bias` is that of the
    /// outputs.
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

    /// The outputs of the tower. `columns` masks root columns for the tower.
    pub fn forward(
        &self,
        inputs: &Inputs,
        columns: Option<&Tensor<2>>,
        mut dropout: Option<&mut Dropout>,
    ) -> Tensor<3> {
        let trunk_dropout = if self.frozen {
            None
        } else {
            dropout.as_deref_mut()
        };
        let embedded = self.trunk.forward(inputs, trunk_dropout);
        self.tower.forward(inputs, &embedded, columns, dropout)
    }
}

impl Network {
    /// The outputs of one task: `[cells, rows, outputs]`.
    pub fn forward(&self, inputs: &Inputs, task: usize) -> Tensor<3> {
        self.towers[task].forward(inputs, &self.trunk.forward(inputs, None), None, None)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::testing::{batch_of_owned, layout, random_cell};

    fn network(layout: &Layout, target: Target) -> Network {
        let config = NetworkConfig {
            trunk: TrunkConfig::for_layout(layout),
            towers: vec![TowerConfig::new(target, 64, 5, false)],
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
        let size = network(&layout(44, &[72]), Target::Root).num_params();
        assert!((30_000..60_000).contains(&size), "{size}");
    }

    #[test]
    fn padding_and_the_order_of_members_change_nothing() {
        let layout = layout(3, &[4, 2]);
        let net = network(&layout, Target::Root);
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
                    Target::Root
                } else {
                    Target::Member(0)
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
    fn a_member_sees_its_colleagues() {
        let layout = layout(1, &[2]);
        let net = network(&layout, Target::Member(0));
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
