//! A running average of a module's parameters over the steps of its training.
//!
//! Step t enters with weight (η + 1) ÷ (t + η): early steps fade, and the last fifth of the steps
//! carries most, however long the training is. A small network on few outcomes wanders around its
//! optimum while the learning rate is high; the average stays there. (Polynomial-decay averaging:
//! Shamir and Zhang, "Stochastic Gradient Descent for Non-smooth Optimization", 2013.)
//!
//! Decision: docs/decisions/0020-averaged-ensembles-chosen-by-validation.md

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorData};

/// η of the weights above.
const DECAY: f64 = 4.0;

/// The average so far, by parameter.
#[derive(Default)]
pub(crate) struct Average {
    steps: usize,
    values: HashMap<ParamId, Vec<f32>>,
}

impl Average {
    /// Takes the parameters of the next step in.
    pub fn add<M: Module>(&mut self, module: &M) {
        self.steps += 1;
        let share = ((DECAY + 1.0) / (self.steps as f64 + DECAY)) as f32;
        module.visit(&mut Adding {
            share,
            values: &mut self.values,
        });
    }

    /// The module with its parameters replaced by their averages.
    pub fn of<M: Module>(&self, module: M) -> M {
        module.map(&mut Replacing(&self.values))
    }
}

struct Adding<'a> {
    share: f32,
    values: &'a mut HashMap<ParamId, Vec<f32>>,
}

impl ModuleVisitor for Adding<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let new = param.val().into_data();
        let new = new
            .as_slice::<f32>()
            .expect("parameters are f32 in host memory");
        match self.values.get_mut(&param.id) {
            Some(average) => average
                .iter_mut()
                .zip(new)
                .for_each(|(average, x)| *average += self.share * (x - *average)),
            None => {
                self.values.insert(param.id, new.to_vec());
            }
        }
    }
}

struct Replacing<'a>(&'a HashMap<ParamId, Vec<f32>>);

impl ModuleMapper for Replacing<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(average) = self.0.get(&param.id) else {
            return param;
        };
        param.map(|tensor| {
            Tensor::from_data(
                TensorData::new(average.clone(), tensor.dims()),
                &tensor.device(),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;
    use burn::tensor::Device;

    use super::*;

    fn weights(module: &burn::nn::Linear) -> Vec<f32> {
        module
            .weight
            .val()
            .into_data()
            .try_into_vec_as::<f32>()
            .unwrap()
    }

    #[test]
    fn recent_steps_count_most_and_all_steps_sum_to_one() {
        let device = Device::flex();
        let first = LinearConfig::new(2, 3).init(&device);
        let at = |x: f32| {
            let mut module = first.clone();
            module.weight = module.weight.map(|w| w * 0.0 + x);
            module
        };
        let mut average = Average::default();
        average.add(&at(3.0));
        assert_eq!(
            weights(&average.of(first.clone())),
            [3.0; 6],
            "of one step: the step"
        );
        (0..50).for_each(|_| average.add(&at(3.0)));
        assert_eq!(
            weights(&average.of(first.clone())),
            [3.0; 6],
            "of equal steps: each of them"
        );
        // 1,000 steps that rise from 0 to 1: weights in proportion to t⁴ have their mean at 5 ÷ 6.
        let mut average = Average::default();
        (0..1000).for_each(|t| average.add(&at(t as f32 / 1000.0)));
        let mean = weights(&average.of(first.clone()))[0];
        assert!((mean - 5.0 / 6.0).abs() < 0.005, "{mean}");
        let other = LinearConfig::new(2, 3).init(&device);
        let before = weights(&other);
        assert_eq!(
            weights(&average.of(other)),
            before,
            "parameters that were never seen stay"
        );
    }
}
