//! Layers as matrices in memory, and the sums over their inputs.
//!
//! An output is summed up in the order of the inputs, whatever the width of the processor's
//! registers: each lane is one output. A product is rounded before it is added. So a score has the
//! same bits on every processor.

use burn::nn::Linear;
use burn::tensor::Tensor;
use pulp::Simd;

/// Registers of outputs that are summed up at once: half of those that a processor with AVX2 has.
const TILE: usize = 8;
/// Matrices have a multiple of so many outputs, the last of which are 0: the lanes of a register of
/// AVX-512.
const LANES: usize = 16;

/// Inputs of a layer that are not 0, with their numbers.
pub(super) type Terms = Vec<(u32, f32)>;

/// Weights, a row of outputs for each input.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    weights: Vec<f32>,
    outputs: usize,
}

/// Weights and biases.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    matrix: Matrix,
    bias: Vec<f32>,
}

/// The values of a parameter.
pub(super) fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    let values = tensor.clone().try_into_vec_as::<f32>();
    values.expect("networks compute f32 in host memory")
}

/// The weights of a linear layer, a row for each input, and their width.
pub(super) fn weights(linear: &Linear) -> (Vec<f32>, usize) {
    let [_, outputs] = linear.weight.dims();
    (values(&linear.weight.val()), outputs)
}

/// The biases of a linear layer.
pub(super) fn biases(linear: &Linear) -> Vec<f32> {
    let [_, outputs] = linear.weight.dims();
    let bias = linear.bias.as_ref();
    bias.map_or_else(|| vec![0.0; outputs], |bias| values(&bias.val()))
}

/// Sets `terms` to the inputs that are not 0.
#[inline(always)]
pub(super) fn terms_of(values: &[f32], terms: &mut Terms) {
    terms.resize(values.len(), (0, 0.0));
    let mut count = 0;
    for (at, x) in values.iter().enumerate() {
        // Without a branch: whether an input is 0 is not to be guessed.
        terms[count] = (at as u32, *x);
        count += usize::from(*x != 0.0);
    }
    terms.truncate(count);
}

/// The larger of each value and 0.
#[inline(always)]
pub(super) fn relu(values: &mut [f32]) {
    for x in values {
        // A comparison, because f32::max handles NaN, which is slow and cannot occur here.
        *x = if *x > 0.0 { *x } else { 0.0 };
    }
}

impl Matrix {
    /// Matrices of the same inputs side by side. Each is given with its number of outputs.
    pub fn beside(parts: &[(Vec<f32>, usize)], inputs: usize) -> Self {
        let together: usize = parts.iter().map(|(_, outputs)| outputs).sum();
        let outputs = together.next_multiple_of(LANES);
        let mut weights = Vec::with_capacity(inputs * outputs);
        for input in 0..inputs {
            for (part, width) in parts {
                weights.extend_from_slice(&part[input * width..(input + 1) * width]);
            }
            weights.resize((input + 1) * outputs, 0.0);
        }
        Self { weights, outputs }
    }

    /// The number of outputs with those that are always 0.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Adds each input times its weights to `sums`, `[outputs]`.
    #[inline(always)]
    pub fn add<S: Simd>(&self, simd: S, terms: &[(u32, f32)], sums: &mut [f32]) {
        let (sums, _) = S::as_mut_simd_f32s(sums);
        let mut from = 0;
        while from + TILE <= sums.len() {
            self.add_tile::<S, TILE>(simd, terms, from, sums);
            from += TILE;
        }
        while from + 2 <= sums.len() {
            self.add_tile::<S, 2>(simd, terms, from, sums);
            from += 2;
        }
        while from < sums.len() {
            self.add_tile::<S, 1>(simd, terms, from, sums);
            from += 1;
        }
    }

    /// Sums of a few registers, from number `from` on.
    #[inline(always)]
    fn add_tile<S: Simd, const REGISTERS: usize>(
        &self,
        simd: S,
        terms: &[(u32, f32)],
        from: usize,
        sums: &mut [S::f32s],
    ) {
        let mut tile = [simd.splat_f32s(0.0); REGISTERS];
        tile.copy_from_slice(&sums[from..from + REGISTERS]);
        let (weights, _) = S::as_simd_f32s(&self.weights);
        for (input, x) in terms {
            let x = simd.splat_f32s(*x);
            let row = &weights[*input as usize * sums.len() + from..][..REGISTERS];
            for (sum, weight) in tile.iter_mut().zip(row) {
                *sum = simd.add_f32s(*sum, simd.mul_f32s(x, *weight));
            }
        }
        sums[from..from + REGISTERS].copy_from_slice(&tile);
    }
}

impl Layer {
    /// Linear layers of the same inputs side by side.
    pub fn beside(linears: &[&Linear]) -> Self {
        let [inputs, _] = linears[0].weight.dims();
        let parts: Vec<_> = linears.iter().map(|linear| weights(linear)).collect();
        let bias = linears.iter().flat_map(|linear| biases(linear)).collect();
        Self::new(Matrix::beside(&parts, inputs), bias)
    }

    pub fn new(matrix: Matrix, mut bias: Vec<f32>) -> Self {
        bias.resize(matrix.outputs, 0.0);
        Self { matrix, bias }
    }

    /// The same layer for inputs from which `zero` was subtracted: what they would have added is in
    /// the biases.
    pub fn of_differences(mut self, zero: &[f32]) -> Self {
        let outputs = self.matrix.outputs;
        let mut sums: Vec<f64> = self.bias.iter().map(|b| f64::from(*b)).collect();
        for (row, x) in self.matrix.weights.chunks_exact(outputs.max(1)).zip(zero) {
            for (sum, weight) in sums.iter_mut().zip(row) {
                *sum += f64::from(*x) * f64::from(*weight);
            }
        }
        self.bias = sums.into_iter().map(|sum| sum as f32).collect();
        self
    }

    /// The outputs, `[outputs]`.
    #[inline(always)]
    pub fn forward<S: Simd>(&self, simd: S, terms: &[(u32, f32)], sums: &mut Vec<f32>) {
        sums.clear();
        sums.extend_from_slice(&self.bias);
        self.matrix.add(simd, terms, sums);
    }
}
