//! Initial parameters, drawn from a seed.

use burn::module::{Param, ParamId};
use burn::nn::{LayerNorm, LayerNormConfig, Linear};
use burn::tensor::{Device, Tensor, TensorData};
use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;

/// Added to the variance where a layer is normalised.
pub(crate) const NORM_EPSILON: f64 = 1e-5;

/// Draws initial parameters and their ids from one seed.
pub(super) struct Initialiser<'a> {
    pub rng: &'a mut ChaCha8Rng,
    pub device: &'a Device,
}

impl Initialiser<'_> {
    pub fn param<const D: usize>(
        &mut self,
        values: Vec<f32>,
        shape: [usize; D],
    ) -> Param<Tensor<D>> {
        // An id of our own: burn's are drawn from the process, and a bundle of the same seed must
        // be the same bytes.
        let id = ParamId::from(self.rng.next_u64());
        Param::initialized(
            id,
            Tensor::from_data(TensorData::new(values, shape), self.device),
        )
        .set_require_grad(true)
    }

    /// He's uniform initialisation for a layer before a ReLU, with `gain` 1 (He et al. 2015,
    /// <https://arxiv.org/abs/1502.01852>). Rows of `dropped` inputs are 0.
    pub fn linear(&mut self, input: usize, output: usize, gain: f32, dropped: &[bool]) -> Linear {
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

    pub fn layer_norm(&mut self, width: usize) -> LayerNorm {
        let mut norm = LayerNormConfig::new(width)
            .with_epsilon(NORM_EPSILON)
            .init(self.device);
        norm.gamma = self.param(vec![1.0; width], [width]);
        norm.beta = Some(self.param(vec![0.0; width], [width]));
        norm
    }
}
