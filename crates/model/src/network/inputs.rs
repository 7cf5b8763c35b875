//! Cells as tensors, padded for scoring or packed for training.

use burn::tensor::{Device, Int, Tensor, TensorData};
use leadpulse_features::{FeatureBatch, MemberBlock};

/// Normalised features as tensors.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Root rows, `[cells, root width]`.
    pub root: Tensor<2>,
    /// One entry per member table.
    pub members: Vec<MemberInputs>,
}

/// The members of one table as tensors.
#[derive(Clone, Debug)]
pub struct MemberInputs {
    /// The columns, padded or packed.
    pub values: MemberValues,
    /// `[cells, slots, 1]`: 1 for a row, 0 for padding.
    pub mask: Tensor<3>,
    /// `[cells, slots, 1]`: 1 for a row that the cell is pooled over; `None` if those are all rows.
    pub attended: Option<Tensor<3>>,
}

/// The columns of members.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one per table and batch"
)]
pub enum MemberValues {
    /// `[cells, slots, width]`, padding included: a cell's shape is its own, whatever else is in
    /// the batch.
    Padded(Tensor<3>),
    /// Rows without padding. Most cells of a batch have fewer rows than the one with the most,
    /// and the first layer is the widest, so packing saves most of its work.
    Packed {
        /// Rows of all members, `[rows, width]`.
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
                let attended = attended(&block, device);
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
                    attended,
                }
            })
            .collect();
        Self { root, members }
    }

    /// As [`Self::from_batch`], without the padding. For training only: sums may differ in their
    /// last bits with the company of a cell.
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
            let attended = attended(&block, device);
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
            // A tensor has at least one row, and no place points to this one.
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
                attended,
            });
        }
        inputs
    }
}

/// The rows of a block that cells are pooled over: see [`MemberInputs::attended`].
fn attended(block: &MemberBlock, device: &Device) -> Option<Tensor<3>> {
    let slots = block.slots;
    let is_attended = |(row, _): (usize, &f32)| row % slots < block.attended[row / slots] as usize;
    let mask: Vec<f32> = block
        .mask
        .iter()
        .enumerate()
        .map(|row| f32::from(u8::from(is_attended(row))))
        .collect();
    let cells = block.attended.len();
    (mask != block.mask)
        .then(|| Tensor::from_data(TensorData::new(mask, [cells, slots, 1]), device))
}
