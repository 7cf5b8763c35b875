//! Gradient-boosted trees on the baselines' columns, tuned as in the published comparisons: rounds
//! are chosen on validation, then the model is fitted again on everything known by the test's
//! start.

use anyhow::{Result, anyhow};
use forust_ml::gradientbooster::GrowPolicy;
use forust_ml::metric::Metric;
use forust_ml::sampler::SampleMethod;
use forust_ml::{GradientBooster, Matrix};

use crate::calendar::Calendar;
use crate::rows::Rows;

const MOST_ROUNDS: usize = 600;
const PATIENCE_ROUNDS: usize = 50;

/// Trees over the first so many columns.
pub struct Trees {
    booster: GradientBooster,
    columns: usize,
    /// Rounds that validation chose.
    pub rounds: usize,
}

fn booster(rounds: usize) -> GradientBooster {
    let mut booster = GradientBooster::default()
        .set_iterations(rounds)
        .set_learning_rate(0.05)
        .set_max_leaves(15)
        .set_max_depth(8)
        .set_l2(5.0)
        // Of log-loss hessians, p (1 − p): about 60 rows at the base rate.
        .set_min_leaf_weight(2.0)
        .set_nbins(128)
        .set_sample_method(SampleMethod::Random)
        .set_subsample(0.8)
        .set_colsample_bytree(0.6)
        .set_initialize_base_score(true)
        .set_tiled_histograms(true)
        .set_seed(0);
    booster.grow_policy = GrowPolicy::LossGuide;
    booster
}

/// Columns one after the other, as the library wants them.
fn matrix(rows: &Rows, chosen: &[usize], columns: usize) -> Vec<f64> {
    let mut data = vec![0.0; chosen.len() * columns];
    for (at, row) in chosen.iter().enumerate() {
        for (column, value) in rows.features[row * rows.columns..][..columns]
            .iter()
            .enumerate()
        {
            data[column * chosen.len() + at] = f64::from(*value);
        }
    }
    data
}

fn outcomes(rows: &Rows, chosen: &[usize]) -> Vec<f64> {
    chosen
        .iter()
        .map(|row| f64::from(u8::from(rows.won[*row])))
        .collect()
}

impl Trees {
    /// Fits on the first so many columns.
    pub fn fit(rows: &Rows, calendar: &Calendar, columns: usize) -> Result<Self> {
        let failed = |error| anyhow!("the trees could not be fitted: {error}");
        let (training, validation) = (rows.at(&calendar.training), rows.at(&calendar.validation));
        let mut chooser = booster(MOST_ROUNDS)
            .set_evaluation_metric(Some(Metric::AUC))
            .set_early_stopping_rounds(Some(PATIENCE_ROUNDS));
        {
            let (data, held_out) = (
                matrix(rows, &training, columns),
                matrix(rows, &validation, columns),
            );
            let (y, y_held_out) = (outcomes(rows, &training), outcomes(rows, &validation));
            let (weights, weights_held_out) = (vec![1.0; y.len()], vec![1.0; y_held_out.len()]);
            let evaluation = (
                Matrix::new(&held_out, y_held_out.len(), columns),
                &y_held_out[..],
                &weights_held_out[..],
            );
            chooser
                .fit(
                    &Matrix::new(&data, y.len(), columns),
                    &y,
                    &weights,
                    Some(vec![evaluation]),
                )
                .map_err(failed)?;
        }
        let rounds = chooser.best_iteration.map_or(MOST_ROUNDS, |best| best + 1);
        let everything = rows.at(&calendar.refit);
        let (data, y) = (
            matrix(rows, &everything, columns),
            outcomes(rows, &everything),
        );
        let mut booster = booster(rounds);
        booster
            .fit_unweighted(&Matrix::new(&data, y.len(), columns), &y, None)
            .map_err(failed)?;
        Ok(Self {
            booster,
            columns,
            rounds,
        })
    }

    /// Probabilities of these rows.
    pub fn score(&self, rows: &Rows, chosen: &[usize]) -> Vec<f64> {
        let mut scores = Vec::with_capacity(chosen.len());
        for chunk in chosen.chunks(50_000) {
            let data = matrix(rows, chunk, self.columns);
            let logits = self
                .booster
                .predict(&Matrix::new(&data, chunk.len(), self.columns), true);
            scores.extend(logits.into_iter().map(|logit| 1.0 / (1.0 + (-logit).exp())));
        }
        scores
    }
}
