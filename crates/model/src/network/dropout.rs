//! Dropout with a seed of its own.

use burn::tensor::{Tensor, TensorData};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Random zeroes while training. Its randomness is its own: a seed decides it, whatever other
/// threads do.
#[derive(Debug)]
pub(crate) struct Dropout {
    pub rng: ChaCha8Rng,
    /// Share of hidden units left out.
    pub hidden_ratio: f64,
    /// Share of inputs left out.
    pub input_ratio: f64,
}

impl Dropout {
    pub(super) fn hidden<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
        let ratio = self.hidden_ratio;
        self.apply(tensor, ratio)
    }

    fn input<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
        let ratio = self.input_ratio;
        self.apply(tensor, ratio)
    }

    fn apply<const D: usize>(&mut self, tensor: Tensor<D>, ratio: f64) -> Tensor<D> {
        // A byte decides: ratios are multiples of 1/256, and the kept are scaled by what is really
        // kept.
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

/// Columns as a layer reads them: all, or while training without those left out.
pub(super) fn read<const D: usize>(
    columns: &Tensor<D>,
    dropout: Option<&mut Dropout>,
) -> Tensor<D> {
    dropout.map_or_else(|| columns.clone(), |dropout| dropout.input(columns.clone()))
}
