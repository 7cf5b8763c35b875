//! The trunk: members to embeddings, and the context of their cell back to each of them.

use burn::config::Config;
use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use leadpulse_features::Layout;
use rand_chacha::ChaCha8Rng;

use super::dropout::{Dropout, read};
use super::init::Initialiser;
use super::inputs::{Inputs, MemberInputs, MemberValues};
use crate::examples::normalise::Dropped;

/// Sums over members are divided by this.
// Sums then stay in the range of the other pools. Why 3 is unknown.
const SUM_DIVISOR: f32 = 3.0;
/// Width of member embeddings with one member table, and with more, where the pools of all are
/// concatenated.
// 64 is the prototype's. Several tables share the width of what the tower reads, since few outcomes
// are the limit, not the size of the network.
const MEMBER_HIDDEN: (usize, usize) = (64, 32);

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
    pub(crate) fn pools(&self) -> usize {
        3 * self.member_hidden * self.member_widths.len()
    }

    pub(super) fn init(&self, dropped: &Dropped, rng: &mut ChaCha8Rng, device: &Device) -> Trunk {
        let mut init = Initialiser { rng, device };
        let encoders = self
            .member_widths
            .iter()
            .enumerate()
            .map(|(t, width)| MemberEncoder {
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

/// The two-layer perceptron of one member table.
#[derive(Module, Debug)]
pub(crate) struct MemberEncoder {
    pub first: Linear,
    pub second: Linear,
}

impl MemberEncoder {
    /// The embeddings h1 of one table's members: see [`embed_rows`].
    fn forward(&self, member: &MemberInputs, dropout: Option<&mut Dropout>) -> Tensor<3> {
        embed_rows(&[&self.first, &self.second], member, None, dropout)
    }
}

/// Layers with ReLU over the row of each member; 0 for padding. `columns` masks columns that the
/// fit leaves out, `[1, width]`.
///
/// # Shapes
/// - `member`: `[cells, slots, width]` padded, or `[rows, width]` packed with `places`
///   `[cells · slots]`
/// - output: `[cells, slots, width of the last layer]`
pub(super) fn embed_rows(
    layers: &[&Linear],
    member: &MemberInputs,
    columns: Option<&Tensor<2>>,
    dropout: Option<&mut Dropout>,
) -> Tensor<3> {
    match &member.values {
        MemberValues::Padded(x) => {
            let x = match columns {
                Some(columns) => x.clone() * columns.clone().unsqueeze_dim(1),
                None => x.clone(),
            };
            through(layers, read(&x, dropout)) * member.mask.clone()
        }
        MemberValues::Packed { rows, places } => {
            let rows = match columns {
                Some(columns) => rows.clone() * columns.clone(),
                None => rows.clone(),
            };
            let h = through(layers, read(&rows, dropout));
            let [cells, slots, _] = member.mask.dims();
            let [_, hidden] = h.dims();
            let padding = Tensor::zeros([1, hidden], &h.device());
            Tensor::cat(vec![padding, h], 0)
                .select(0, places.clone())
                .reshape([cells, slots, hidden])
        }
    }
}

fn through<const D: usize>(layers: &[&Linear], x: Tensor<D>) -> Tensor<D> {
    layers.iter().fold(x, |x, layer| relu(layer.forward(x)))
}

/// The layers that all tasks share: encoders of members, and the context of their cell.
#[derive(Module, Debug)]
pub(crate) struct Trunk {
    pub encoders: Vec<MemberEncoder>,
    pub context: Option<Linear>,
}

/// The embeddings of some cells.
pub(crate) struct EmbeddedCells {
    /// h2 of each member table: `[cells, slots, member hidden]`.
    pub rows: Vec<Tensor<3>>,
    /// Pools of h2 of each member table: `[cells, 3 · member hidden]` each.
    pub pools: Vec<Tensor<2>>,
}

impl Trunk {
    /// The embeddings h2 of all members and their pools; nothing for a layout without members.
    ///
    /// # Shapes
    /// - `inputs`: root `[cells, root width]`, members as in [`MemberValues`]
    /// - output per member table: rows `[cells, slots, member hidden]`, pools
    ///   `[cells, 3 · member hidden]`
    pub fn forward(&self, inputs: &Inputs, mut dropout: Option<&mut Dropout>) -> EmbeddedCells {
        let Some(context) = &self.context else {
            return EmbeddedCells {
                rows: Vec::new(),
                pools: Vec::new(),
            };
        };
        let mut h1 = Vec::with_capacity(self.encoders.len());
        let mut parts = Vec::with_capacity(self.encoders.len() + 1);
        for (encoder, member) in self.encoders.iter().zip(&inputs.members) {
            let h = encoder.forward(member, dropout.as_deref_mut());
            parts.push(pool_attended(&h, member));
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
            .map(|(h, member)| pool_attended(h, member))
            .collect();
        EmbeddedCells { rows, pools }
    }
}

/// [`pool`] over the rows that a cell is pooled over. Rows beyond them see the pools, and are in
/// none.
// Decision: docs/decisions/0044-a-slot-for-every-member-asked-about.md
fn pool_attended(h: &Tensor<3>, member: &MemberInputs) -> Tensor<2> {
    match &member.attended {
        Some(attended) => pool(h.clone() * attended.clone(), attended),
        None => pool(h.clone(), &member.mask),
    }
}

/// `[Σ ÷ 3 ‖ max ‖ mean]` over the rows of each cell, so that neither order nor padding counts.
///
/// Values are not negative, and 0 for padding. Sums of embeddings of a set's elements are Deep
/// Sets (Zaheer et al. 2017, <https://arxiv.org/abs/1703.06114>).
///
/// # Shapes
/// - `h`: `[cells, slots, hidden]`, `mask`: `[cells, slots, 1]`
/// - output: `[cells, 3 · hidden]`
fn pool(h: Tensor<3>, mask: &Tensor<3>) -> Tensor<2> {
    let count = mask.clone().sum_dim(1).clamp_min(1.0);
    let sum = h.clone().sum_dim(1);
    let max = h.max_dim(1);
    let mean = sum.clone() / count;
    Tensor::cat(vec![sum / SUM_DIVISOR, max, mean], 2).squeeze_dim(1)
}

/// [`pool`] of relu(row + context) for the rows of one cell, without padding.
///
/// # Shapes
/// - `rows`: `[hidden]` each, `context`: `[hidden]`, `pools`: `[3 · hidden]`
#[inline(always)]
pub(crate) fn pool_rows<'r>(
    rows: impl Iterator<Item = &'r [f32]>,
    context: &[f32],
    pools: &mut [f32],
) {
    let hidden = context.len();
    let (sum, rest) = pools.split_at_mut(hidden);
    let (max, mean) = rest.split_at_mut(hidden);
    sum.fill(0.0);
    max.fill(0.0);
    let mut count = 0.0f32;
    for row in rows {
        for (((sum, max), x), c) in sum.iter_mut().zip(max.iter_mut()).zip(row).zip(context) {
            let x = x + c;
            // Comparisons, because f32::max handles NaN, which is slow and cannot occur here.
            let x = if x > 0.0 { x } else { 0.0 };
            *sum += x;
            *max = if x > *max { x } else { *max };
        }
        count += 1.0;
    }
    let count = count.max(1.0);
    for (sum, mean) in sum.iter_mut().zip(mean) {
        *mean = *sum / count;
        *sum /= SUM_DIVISOR;
    }
}
