//! The training of one ensemble member: owns the loop over batches, the learning rate, and when to
//! stop.
//!
//! Early stopping looks at the log loss on validation *after Platt's two parameters are refitted to
//! it*: as smooth as the log loss where positives are few and AUROC jumps, but blind to a shifted
//! base rate, which calibration mends anyway. It looks twice per epoch, because a small net
//! overfits within few. What it looks at, and what is kept, is the running average of the
//! parameters.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use burn::grad_clipping::GradientClippingConfig;
use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::activation::log_sigmoid;
use burn::tensor::{Device, Tensor, TensorData};
use leadpulse_graph::EntityId;
use leadpulse_schema::units::logit;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::examples::ExampleSet;
use crate::examples::normalise::{Dropped, Normaliser};
use crate::fit::average::Average;
use crate::fit::calibrate::{Calibration, OutcomeRow, log_loss};
use crate::fit::embedded::{EmbeddedSet, EmbeddedSets, ExampleReader};
use crate::fit::{FitOptions, Regularisation};
use crate::network::head::Head;
use crate::network::trunk::Trunk;
use crate::network::{Dropout, Network, Pair, TowerColumns, TowerConfig, TowerTarget, TrunkConfig};

/// Evaluations on validation per epoch.
const EVALUATIONS_PER_EPOCH: usize = 2;
/// Batches get smaller than asked for, down to [`LEAST_BATCH`] rows, where an epoch would have
/// fewer steps than this.
// The average over steps needs steps: both together gave +.025 of AUROC on markets of 1,500
// accounts (docs/decisions/0020-averaged-ensembles-chosen-by-validation.md).
const STEPS_PER_EPOCH: usize = 256;
const LEAST_BATCH: usize = 64;
/// The gradient of each parameter is scaled down to at most this norm.
// One batch with an extreme row must not undo what the others taught. Why 1 is unknown.
const GRADIENT_NORM: f32 = 1.0;
/// The learning rate ends at this share of its start.
// Not zero, so that the last steps still enter the average. Why .02 is unknown.
const FINAL_RATE_RATIO: f64 = 0.02;
/// Rows per batch where no gradient is needed.
// Evaluation keeps no graph of operations, so memory allows more than training does.
const EVALUATION_BATCH: usize = 512;
/// Keeps the dropout of a member apart from its initial weights and shuffles.
const DROPOUT_STREAM: u64 = 1 << 32;

/// The progress of a fit.
#[derive(Clone, Debug, PartialEq)]
pub struct FitProgress {
    /// Done, from 0 to 1. Early stopping makes it jump.
    pub done_ratio: f64,
    /// The member in training.
    pub part: FitPart,
    /// Loss on validation (see [`crate::fit()`]); NaN where validation is not looked at.
    pub validation_loss: f64,
}

/// The member of an ensemble that a progress is about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FitPart {
    /// A network.
    Network {
        /// Index of the regularisation, from 0.
        candidate: usize,
        /// Index of the network, from 0.
        member: usize,
        /// Epochs so far.
        epochs: f64,
        /// Mean loss over the batches since the last evaluation.
        training_loss: f64,
    },
    /// All trees, once they are grown.
    Trees {
        /// The number of trees.
        rounds: usize,
    },
}

/// A validation row whose outcome is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Labelled {
    /// Index in the validation set.
    pub index: usize,
    pub label: f64,
    pub weight: f64,
    pub entity: EntityId,
}

/// Everything that the members of one fit share.
pub(crate) struct Trainer<'a> {
    /// The task's name, for messages.
    pub task: &'a str,
    pub examples: &'a ExampleSet,
    /// Training rows of which at least one output trains.
    pub usable: Vec<usize>,
    /// Per training row and output: the target and its weight.
    pub targets: Vec<(f32, f32)>,
    pub validation: &'a ExampleSet,
    pub labelled: Vec<Labelled>,
    pub normaliser: &'a Normaliser,
    pub head: &'a Head,
    pub target: TowerTarget,
    pub trunk: &'a TrunkConfig,
    /// Networks whose trunks do not change, one per member; none where trunks are trained.
    pub frozen: Option<&'a [Network]>,
    /// Their outputs; none for new networks, and where they would take too much memory.
    pub embedded: Option<EmbeddedSets>,
    pub options: &'a FitOptions,
}

/// A trained member of an ensemble.
pub(crate) struct Trained {
    /// Of the best evaluation, on the plain device.
    pub pair: Pair,
    /// Raw logits of the labelled validation rows.
    pub logits: Vec<f64>,
    /// Epochs until the best evaluation.
    pub epochs: f64,
}

/// The end of a member's training.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Length {
    /// The rule that ends training: validation improves no more. The best evaluation is kept.
    ByValidation,
    /// After so many epochs, without looking at validation.
    Epochs(f64),
}

/// The loss became infinite or not a number.
#[derive(Debug)]
pub(crate) struct Diverged {
    pub step: usize,
}

/// The columns that a member in training sees.
struct ColumnView {
    dropped: Dropped,
    normaliser: Normaliser,
    /// The columns that a tower on a frozen trunk sees.
    columns: Option<TowerColumns>,
}

/// The steps of a training.
struct StepSchedule {
    batch_size: usize,
    steps_per_epoch: usize,
    /// Steps until the learning rate has reached its end.
    steps: usize,
    steps_per_evaluation: usize,
}

impl StepSchedule {
    fn new(rows: usize, options: &FitOptions) -> Self {
        let batch_size = batch_size(rows, options.batch_size);
        let steps_per_epoch = rows.div_ceil(batch_size);
        Self {
            batch_size,
            steps_per_epoch,
            steps: steps_per_epoch * options.max_epochs,
            steps_per_evaluation: steps_per_epoch.div_ceil(EVALUATIONS_PER_EPOCH),
        }
    }

    /// The number of steps to take at most.
    fn last_step(&self, length: Length) -> usize {
        match length {
            Length::ByValidation => self.steps,
            Length::Epochs(epochs) => {
                let steps = (epochs * self.steps_per_epoch as f64).round() as usize;
                steps.clamp(1, self.steps)
            }
        }
    }

    /// The rows of a step, of an epoch's shuffled rows.
    fn rows<'o>(&self, step: usize, order: &'o [usize]) -> &'o [usize] {
        let start = (step % self.steps_per_epoch) * self.batch_size;
        &order[start..(start + self.batch_size).min(order.len())]
    }

    fn ends_epoch(&self, step: usize) -> bool {
        step % self.steps_per_epoch + 1 == self.steps_per_epoch
    }

    /// True if validation is looked at after this step.
    fn evaluates(&self, step: usize) -> bool {
        let done = step % self.steps_per_epoch + 1;
        done.is_multiple_of(self.steps_per_evaluation) || done == self.steps_per_epoch
    }
}

/// The mean loss over the batches since it was last reported.
#[derive(Default)]
struct MeanLoss {
    sum: f64,
    batches: usize,
}

impl MeanLoss {
    fn add(&mut self, loss: f32) {
        self.sum += f64::from(loss);
        self.batches += 1;
    }

    fn take(&mut self) -> f64 {
        let mean = self.sum / self.batches as f64;
        *self = Self::default();
        mean
    }
}

/// The best evaluation so far.
#[derive(Default)]
struct Best {
    /// The least loss on validation, and the member that had it.
    least: Option<(f64, Trained)>,
    /// The number of evaluations since then.
    since: usize,
}

impl Best {
    fn into_trained(self) -> Result<Trained, Diverged> {
        let (_, trained) = self.least.ok_or(Diverged { step: 0 })?;
        Ok(trained)
    }

    /// Keeps a member if its loss is less than any before. Returns the evaluations since the best.
    fn offer(&mut self, loss: f64, trained: Trained) -> usize {
        if self.least.as_ref().is_none_or(|(least, _)| loss < *least) {
            self.least = Some((loss, trained));
            self.since = 0;
        } else {
            self.since += 1;
        }
        self.since
    }
}

impl Trainer<'_> {
    /// Trains member `member` with a regularisation. `report` gets the epochs done, the training
    /// and the validation loss.
    pub fn train(
        &self,
        regularisation: &Regularisation,
        member: usize,
        length: Length,
        mut report: impl FnMut(f64, f64, f64),
    ) -> Result<Trained, Diverged> {
        // Evaluations run on the plain device: a forward pass without a backward pass would keep
        // its graph in memory (burn issues [4339](https://github.com/tracel-ai/burn/issues/4339)
        // and [4970](https://github.com/tracel-ai/burn/issues/4970)).
        let training_device = Device::flex().autodiff();
        let (mut rng, mut dropout) = self.randomness(regularisation, member);
        let frozen = self.frozen.map(|networks| &networks[member].trunk);
        let view = self.view(regularisation, &training_device);
        let mut pair = self.start(regularisation, &view, frozen, &mut rng);
        let kept = self.embedded.as_ref().map(|kept| &kept.training[member]);
        let reader = self.reader(&pair, (self.examples, &view.normaliser), kept, member);
        let mut optimiser = AdamWConfig::new()
            .with_weight_decay(regularisation.weight_decay as f32)
            .with_grad_clipping(Some(GradientClippingConfig::Norm(GRADIENT_NORM)))
            .init();

        let schedule = StepSchedule::new(self.usable.len(), self.options);
        let last_step = schedule.last_step(length);
        let mut order = self.usable.clone();
        let mut average = Average::default();
        let mut best = Best::default();
        let mut losses = MeanLoss::default();
        for step in 0..last_step {
            if step % schedule.steps_per_epoch == 0 {
                order.shuffle(&mut rng);
            }
            let rows = schedule.rows(step, &order);
            let (columns, dropout) = (view.columns.as_ref(), Some(&mut dropout));
            let outputs = reader.outputs(&pair, rows, &training_device, columns, dropout);
            let loss = self.loss(rows, outputs, &training_device);
            let gradients = GradientsParams::from_grads(loss.backward(), &pair);
            let rate = regularisation.learning_rate * cosine(step as f64 / schedule.steps as f64);
            pair = optimiser.step(rate, pair, gradients);
            match frozen {
                Some(_) => average.add(&pair.tower),
                None => average.add(&pair),
            }
            losses.add(loss.into_scalar::<f32>());
            if !losses.sum.is_finite() {
                return Err(Diverged { step });
            }
            let epochs_done = (step + 1) as f64 / schedule.steps_per_epoch as f64;
            if let Length::Epochs(epochs) = length {
                if schedule.ends_epoch(step) {
                    report(epochs_done, losses.take(), f64::NAN);
                }
                if step + 1 == last_step {
                    return Ok(self.trained(average.of(pair.valid()), member, epochs));
                }
            } else if schedule.evaluates(step) {
                let trained = self.trained(average.of(pair.valid()), member, epochs_done);
                let loss = self.validation_loss(&trained.logits);
                report(epochs_done, losses.take(), loss);
                if !loss.is_finite() {
                    return Err(Diverged { step });
                }
                if best.offer(loss, trained) >= self.options.patience {
                    break;
                }
            }
        }
        best.into_trained()
    }

    /// The randomness of a member: one stream for weights and shuffles, one for dropout.
    fn randomness(&self, regularisation: &Regularisation, member: usize) -> (ChaCha8Rng, Dropout) {
        let mut rng = ChaCha8Rng::seed_from_u64(self.options.seed);
        rng.set_stream(member as u64);
        let mut dropout = Dropout {
            rng: ChaCha8Rng::seed_from_u64(self.options.seed),
            hidden_ratio: regularisation.dropout_ratio,
            input_ratio: regularisation.input_dropout_ratio,
        };
        dropout.rng.set_stream(DROPOUT_STREAM + member as u64);
        (rng, dropout)
    }

    /// An untrained member on the autodiff device.
    fn start(
        &self,
        regularisation: &Regularisation,
        view: &ColumnView,
        frozen: Option<&Trunk>,
        rng: &mut ChaCha8Rng,
    ) -> Pair {
        let tower = self.tower(regularisation);
        let bias = self.output_bias();
        let device = Device::flex();
        let trunk = (self.trunk, frozen);
        Pair::new(trunk, &tower, &view.dropped, &bias, rng, &device).train()
    }

    /// The columns that a regularisation leaves to the network.
    fn view(&self, regularisation: &Regularisation, device: &Device) -> ColumnView {
        let dropped = Dropped::by_prefix(self.examples.layout(), &regularisation.without);
        // A new network never sees dropped columns. A frozen trunk needs them, so there only the
        // tower's view is masked.
        if self.frozen.is_none() {
            return ColumnView {
                normaliser: self.normaliser.without(&dropped),
                columns: None,
                dropped,
            };
        }
        let mask = |dropped: &Vec<bool>| {
            let keep = |dropped: &bool| if *dropped { 0.0 } else { 1.0 };
            let mask: Vec<f32> = dropped.iter().map(keep).collect();
            let width = mask.len();
            Tensor::<2>::from_data(TensorData::new(mask, [1, width]), device)
        };
        let columns = (!dropped.is_empty()).then(|| TowerColumns {
            root: mask(&dropped.root),
            own: match self.target {
                TowerTarget::Root => None,
                TowerTarget::Member(table) => Some(mask(&dropped.members[table])),
            },
        });
        ColumnView {
            normaliser: self.normaliser.clone(),
            columns,
            dropped,
        }
    }

    /// Reads a set, with its scales, for the network of a member; `kept` is the place of its
    /// trunk's outputs.
    fn reader<'s>(
        &'s self,
        pair: &Pair,
        (set, normaliser): (&'s ExampleSet, &'s Normaliser),
        kept: Option<&'s OnceLock<EmbeddedSet>>,
        member: usize,
    ) -> ExampleReader<'s> {
        if !pair.tower.reads_members {
            return ExampleReader::of_root(set, normaliser);
        }
        let trunk = || &self.frozen.expect("only frozen trunks are kept")[member].trunk;
        let kept = kept.map(|place| (place, trunk()));
        ExampleReader::new(set, normaliser, self.target, kept)
    }

    fn trained(&self, pair: Pair, member: usize, epochs: f64) -> Trained {
        let logits = self.validation_logits(&pair, member);
        Trained {
            pair,
            logits,
            epochs,
        }
    }

    /// The widths of the tower that this regularisation asks for.
    pub fn tower(&self, regularisation: &Regularisation) -> TowerConfig {
        TowerConfig {
            target: self.target,
            hidden: regularisation.hidden,
            outputs: self.head.outputs(),
            residual: regularisation.residual,
            reads_members: regularisation.members,
        }
    }

    /// The loss on validation that candidates and epochs are chosen by. `logits` are those of the
    /// labelled rows.
    pub fn validation_loss(&self, logits: &[f64]) -> f64 {
        let weight: f64 = self.labelled.iter().map(|l| l.weight).sum();
        self.validation_losses(logits).iter().sum::<f64>() / weight
    }

    /// Of each labelled row its loss, weighted.
    pub fn validation_losses(&self, logits: &[f64]) -> Vec<f64> {
        let rows = logits.iter().zip(&self.labelled);
        if !self.head.is_binary() {
            return rows
                .map(|(z, l)| l.weight * (z - l.label).powi(2))
                .collect();
        }
        let platt = Calibration::fit_platt(&self.evidence(logits));
        rows.map(|(z, l)| l.weight * log_loss(platt.apply(*z), l.label > 0.5))
            .collect()
    }

    /// Logits that tell nothing apart.
    pub fn constant_logits(&self) -> Vec<f64> {
        if self.head.is_binary() {
            return vec![0.0; self.labelled.len()];
        }
        let weight: f64 = self.labelled.iter().map(|l| l.weight).sum();
        let sum: f64 = self.labelled.iter().map(|l| l.weight * l.label).sum();
        vec![sum / weight; self.labelled.len()]
    }

    /// Distinct entities among the labelled rows.
    pub fn labelled_entities(&self) -> usize {
        let entities: BTreeSet<EntityId> = self.labelled.iter().map(|l| l.entity).collect();
        entities.len()
    }

    /// The rows from which calibration learns.
    pub fn evidence(&self, logits: &[f64]) -> Vec<OutcomeRow> {
        let rows = logits.iter().zip(&self.labelled);
        rows.map(|(z, l)| OutcomeRow {
            logit: *z,
            outcome: l.label > 0.5,
            weight: l.weight,
            entity: l.entity,
            anchor_ms: self.validation.examples()[l.index].anchor_ms,
        })
        .collect()
    }

    /// Σ over outputs of the loss, per row: cross-entropy, or the squared error of a regression.
    fn loss(&self, rows: &[usize], outputs: Tensor<3>, device: &Device) -> Tensor<1> {
        let width = self.head.outputs();
        let pick = |f: fn(&(f32, f32)) -> f32| {
            let values: Vec<f32> = rows
                .iter()
                .flat_map(|r| self.targets[r * width..(r + 1) * width].iter().map(f))
                .collect();
            Tensor::<2>::from_data(TensorData::new(values, [rows.len(), width]), device)
        };
        let (targets, weights) = (pick(|t| t.0), pick(|t| t.1));
        let z = self.target_rows(rows, outputs, device);
        let loss = if self.head.is_binary() {
            // −y log σ(z) − (1 − y) log(1 − σ(z)), with log(1 − σ(z)) = log σ(z) − z.
            (targets.neg() + 1.0) * z.clone() - log_sigmoid(z)
        } else {
            (z - targets).square()
        };
        (loss * weights).sum() / rows.len() as f32
    }

    /// The outputs of each example's own row: `[examples, outputs]`.
    fn target_rows(&self, rows: &[usize], outputs: Tensor<3>, device: &Device) -> Tensor<2> {
        let [cells, slots, _] = outputs.dims();
        if slots == 1 {
            return outputs.squeeze_dim(1);
        }
        let mut chosen = vec![0.0f32; cells * slots];
        for (cell, row) in rows.iter().enumerate() {
            chosen[cell * slots + self.examples.examples()[*row].slot] = 1.0;
        }
        (outputs * Tensor::<3>::from_data(TensorData::new(chosen, [cells, slots, 1]), device))
            .sum_dim(1)
            .squeeze_dim(1)
    }

    fn validation_logits(&self, pair: &Pair, member: usize) -> Vec<f64> {
        let device = Device::flex();
        let kept = self.embedded.as_ref().map(|kept| &kept.validation[member]);
        let reader = self.reader(pair, (self.validation, self.normaliser), kept, member);
        let mut logits = Vec::with_capacity(self.labelled.len());
        for chunk in self.labelled.chunks(EVALUATION_BATCH) {
            let rows: Vec<usize> = chunk.iter().map(|l| l.index).collect();
            let outputs = reader.outputs(pair, &rows, &device, None, None);
            let [_, slots, width] = outputs.dims();
            let outputs = outputs
                .try_into_vec_as::<f32>()
                .expect("outputs are f32 in host memory");
            logits.extend(rows.iter().enumerate().map(|(cell, row)| {
                // One row a cell is the row that was asked for.
                let slot = match slots {
                    1 => 0,
                    _ => self.validation.examples()[*row].slot,
                };
                let start = (cell * slots + slot) * width;
                self.head.logit(&outputs[start..start + width])
            }));
        }
        logits
    }

    /// The bias at which every output starts: the logit of its base rate (the mean, for a
    /// regression).
    fn output_bias(&self) -> Vec<f32> {
        let width = self.head.outputs();
        (0..width)
            .map(|b| {
                let of = self.usable.iter().map(|r| self.targets[r * width + b]);
                let (sum, weight) = of.fold((0.0f64, 0.0f64), |(sum, weight), (y, w)| {
                    (sum + f64::from(y) * f64::from(w), weight + f64::from(w))
                });
                if !self.head.is_binary() {
                    return (sum / weight.max(f64::MIN_POSITIVE)) as f32;
                }
                // Half an example of each outcome keeps the logit finite. Starting at the base rate
                // saves the epochs in which a network would learn nothing else.
                let rate = (sum + 0.5) / (weight + 1.0);
                logit(rate) as f32
            })
            .collect()
    }
}

/// Rows per step: fewer where there are few, down to a floor, so that an epoch has steps enough to
/// average over.
fn batch_size(rows: usize, most: usize) -> usize {
    (rows / STEPS_PER_EPOCH).clamp(LEAST_BATCH.min(most), most)
}

/// The share of the learning rate after a share of the steps: half a cosine from 1 down to
/// [`FINAL_RATE_RATIO`] (Loshchilov and Hutter, "SGDR",
/// [arXiv 1608.03983](https://arxiv.org/abs/1608.03983), without restarts).
fn cosine(done_ratio: f64) -> f64 {
    FINAL_RATE_RATIO
        + (1.0 - FINAL_RATE_RATIO) * 0.5 * (1.0 + (std::f64::consts::PI * done_ratio).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_smaller_where_rows_are_few() {
        let sizes = [
            (10, 256),
            (20_000, 256),
            (32_768, 256),
            (1_000_000, 256),
            (1_000_000, 32),
            (10, 1),
        ];
        assert_eq!(
            sizes.map(|(rows, most)| batch_size(rows, most)),
            [64, 78, 128, 256, 32, 1]
        );
    }
}
