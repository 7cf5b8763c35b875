//! The growing of a forest: owns the call of the library, and the number of trees that validation
//! chooses.
//!
//! A hazard is grown on a row per example and bucket at risk whose end has passed, with the bucket
//! as a column, so that the newest outcomes count before their window has closed. Growing stops by
//! the plain log loss of those rows; the trees that are kept are chosen by the loss that networks
//! are chosen by.

use std::collections::BTreeSet;

use forust_ml::gradientbooster::GrowPolicy;
use forust_ml::metric::Metric;
use forust_ml::objective::ObjectiveType;
use forust_ml::sampler::SampleMethod;
use forust_ml::{GradientBooster, Matrix};

use crate::examples::normalise::{Dropped, Scales};
use crate::fit::train::Trainer;
use crate::trees::columns::TreeColumn;
use crate::trees::forest::{DecisionTree, Forest, TreeNode};
use crate::trees::matrix::{PeriodRow, PeriodTable, for_each_cell, thinned, varying};

/// Distinct entities with the rarer outcome below which no trees are grown.
// With fewer, a leaf is the memory of a few entities, and validation cannot tell.
const FEWEST_ENTITIES: usize = 20;
/// Least curvature of a leaf: of rows at a base rate p each has p (1 − p).
// Where outcomes are rare, twenty rows are not evidence. The accuracy bench's trees have the same.
const LEAST_CURVATURE: f64 = 2.0;
/// Columns that each tree may read at least, where there are as many.
const FEWEST_COLUMNS: usize = 8;
/// Levels of a tree at most.
const DEPTH: usize = 8;
/// Bins of a column.
const BINS: u16 = 128;
/// The chosen number of trees is a multiple of this, or all.
const ROUND_STEP: usize = 5;
/// The part of the table's size that validation may have.
const VALIDATION_PART: usize = 4;

/// A forest that validation has judged.
pub(crate) struct Grown {
    pub forest: Forest,
    /// Logits of the labelled validation rows.
    pub logits: Vec<f64>,
    /// Numbers of a row that varied in training.
    pub columns: usize,
}

/// The growing of forests for a task.
pub(crate) struct Grower<'a> {
    trainer: &'a Trainer<'a>,
    /// The numbers that this task's trees may read.
    columns: Vec<TreeColumn>,
}

impl<'a> Grower<'a> {
    /// A grower over all columns but those left out and those that the normaliser found constant.
    pub fn new(trainer: &'a Trainer<'a>, left_out: &Dropped) -> Self {
        let kept = |scales: &Scales, dropped: Option<&Vec<bool>>, column: usize| {
            let dropped = dropped.and_then(|d| d.get(column)).copied();
            scales.scale[column] != 0.0 && !dropped.unwrap_or(false)
        };
        let normaliser = trainer.normaliser;
        let outputs = trainer.head.outputs();
        let columns = TreeColumn::all(trainer.examples.layout(), trainer.target, outputs);
        let may_read = |column: &TreeColumn| match column.source(trainer.target) {
            None => true,
            Some((0, i)) => kept(&normaliser.root, Some(&left_out.root), i),
            Some((kind, i)) => kept(
                &normaliser.members[kind - 1],
                left_out.members.get(kind - 1),
                i,
            ),
        };
        Self {
            trainer,
            columns: columns.into_iter().filter(may_read).collect(),
        }
    }

    /// Grows trees until validation improves no more, and keeps as many as were best.
    ///
    /// # Errors
    /// The reason, in words, for which there is nothing to grow.
    pub fn grow(&self) -> Result<Grown, String> {
        let (rows, columns) = self.training()?;
        let options = &self.trainer.options.trees;
        let held_out = thinned(
            self.validation_rows(),
            self.most_rows(&columns) / VALIDATION_PART,
            false,
        );
        let held_out = self.table(self.trainer.validation, &columns, held_out);
        let table = self.table(self.trainer.examples, &columns, rows);
        let booster = fitted(
            self.booster(&table, columns.len(), options.rounds)
                .set_evaluation_metric(Some(self.metric()))
                .set_early_stopping_rounds(Some(options.patience)),
            &table,
            columns.len(),
            Some(&held_out),
        )?;
        drop(held_out);
        let all = forest(self.trainer.head.outputs(), &booster, &columns, &table)?;
        let (rounds, logits) = self.best_round(&all);
        if rounds == 0 {
            return Err("no tree improved validation".into());
        }
        Ok(Grown {
            forest: all.first(rounds),
            logits,
            columns: columns.len(),
        })
    }

    /// Grows so many trees without looking at validation.
    ///
    /// # Errors
    /// As [`Self::grow`].
    pub fn grow_again(&self, rounds: usize) -> Result<Forest, String> {
        let (rows, columns) = self.training()?;
        let table = self.table(self.trainer.examples, &columns, rows);
        let booster = fitted(
            self.booster(&table, columns.len(), rounds),
            &table,
            columns.len(),
            None,
        )?;
        forest(self.trainer.head.outputs(), &booster, &columns, &table)
    }

    /// The forest's logits of the labelled validation rows.
    pub fn logits(&self, forest: &Forest) -> Vec<f64> {
        let trainer = self.trainer;
        let mut logits = Vec::with_capacity(trainer.labelled.len());
        self.for_each_labelled(forest, |numbers| {
            logits.push(trainer.head.logit(&forest.outputs(numbers)));
        });
        logits
    }

    /// Hands the numbers of each labelled validation row to `each`.
    fn for_each_labelled(&self, forest: &Forest, mut each: impl FnMut(&mut [i64])) {
        let trainer = self.trainer;
        let examples: Vec<usize> = trainer.labelled.iter().map(|l| l.index).collect();
        for_each_cell(trainer.validation, &examples, |_, cell, own| {
            each(&mut forest.numbers(cell, trainer.target, own));
        });
    }

    /// Training rows, thinned to the table's size, and the columns that vary in them.
    fn training(&self) -> Result<(Vec<PeriodRow>, Vec<TreeColumn>), String> {
        let trainer = self.trainer;
        let outputs = trainer.head.outputs();
        let rows: Vec<PeriodRow> = trainer
            .usable
            .iter()
            .flat_map(|example| (0..outputs).map(move |bucket| (*example, bucket)))
            .filter_map(|(example, bucket)| {
                let (target, weight) = trainer.targets[example * outputs + bucket];
                period_row(example, bucket, target, weight)
            })
            .collect();
        self.check_outcomes(&rows)?;
        let columns = varying(
            trainer.examples,
            trainer.target,
            self.columns.clone(),
            &rows,
        );
        if columns.iter().all(|column| *column == TreeColumn::Bucket) {
            return Err("no column varies in training".into());
        }
        let most = self.most_rows(&columns);
        Ok((thinned(rows, most, trainer.head.is_binary()), columns))
    }

    fn check_outcomes(&self, rows: &[PeriodRow]) -> Result<(), String> {
        let entities = |keep: &dyn Fn(&PeriodRow) -> bool| {
            let of = |row: &PeriodRow| self.trainer.examples.examples()[row.example].entity;
            let kept = rows.iter().filter(|row| keep(row)).map(of);
            kept.collect::<BTreeSet<_>>().len()
        };
        let fewest = if self.trainer.head.is_binary() {
            entities(&|row| row.target > 0.5).min(entities(&|row| row.target <= 0.5))
        } else {
            entities(&|_| true)
        };
        if fewest < FEWEST_ENTITIES {
            return Err(format!(
                "too few outcomes: {fewest} distinct entities in training have the rarer one, \
                 trees need {FEWEST_ENTITIES}"
            ));
        }
        Ok(())
    }

    fn validation_rows(&self) -> Vec<PeriodRow> {
        let trainer = self.trainer;
        let mut rows = Vec::new();
        for labelled in &trainer.labelled {
            let mut bucket = 0;
            let example = &trainer.validation.examples()[labelled.index];
            trainer.head.targets(&example.outcome, |target, weight| {
                rows.extend(period_row(
                    labelled.index,
                    bucket,
                    target,
                    weight * example.weight,
                ));
                bucket += 1;
            });
        }
        rows
    }

    /// Rows of a table of these columns that the options have room for.
    fn most_rows(&self, columns: &[TreeColumn]) -> usize {
        self.trainer.options.trees.most_millions * 1_000_000 / columns.len()
    }

    fn table(
        &self,
        set: &crate::ExampleSet,
        columns: &[TreeColumn],
        rows: Vec<PeriodRow>,
    ) -> PeriodTable {
        PeriodTable::new(set, self.trainer.target, columns, rows)
    }

    fn metric(&self) -> Metric {
        if self.trainer.head.is_binary() {
            Metric::LogLoss
        } else {
            Metric::RootMeanSquaredError
        }
    }

    fn booster(&self, table: &PeriodTable, columns: usize, rounds: usize) -> GradientBooster {
        let options = &self.trainer.options.trees;
        let leaf_rows = options.leaf_rows as f64;
        let (objective, leaf_weight) = if self.trainer.head.is_binary() {
            let weight: f64 = table.rows.iter().map(|row| row.weight).sum();
            let events: f64 = table.rows.iter().map(|row| row.weight * row.target).sum();
            let rate = events / weight;
            let curvature = leaf_rows * rate * (1.0 - rate);
            (ObjectiveType::LogLoss, curvature.max(LEAST_CURVATURE))
        } else {
            (ObjectiveType::SquaredLoss, leaf_rows)
        };
        let mut booster = GradientBooster::default()
            .set_objective_type(objective)
            .set_iterations(rounds)
            .set_learning_rate(options.learning_rate as f32)
            .set_max_leaves(options.leaves)
            .set_max_depth(DEPTH)
            .set_l2(options.l2 as f32)
            .set_min_leaf_weight(leaf_weight as f32)
            .set_nbins(BINS)
            .set_sample_method(SampleMethod::Random)
            .set_subsample(options.rows_ratio as f32)
            .set_colsample_bytree(column_ratio(columns, options.columns_ratio))
            .set_initialize_base_score(true)
            // Sums in this form do not depend on the number of threads.
            .set_tiled_histograms(true)
            .set_seed(self.trainer.options.seed);
        booster.grow_policy = GrowPolicy::LossGuide;
        booster
    }

    /// The number of trees with the least loss on validation, and their logits there.
    fn best_round(&self, forest: &Forest) -> (usize, Vec<f64>) {
        let trainer = self.trainer;
        let is_looked_at =
            |round: usize| round.is_multiple_of(ROUND_STEP) || round == forest.rounds();
        let rounds: Vec<usize> = (0..=forest.rounds()).filter(|r| is_looked_at(*r)).collect();
        let mut logits = vec![Vec::with_capacity(trainer.labelled.len()); rounds.len()];
        self.for_each_labelled(forest, |numbers| {
            let mut at = 0;
            forest.outputs_by_round(numbers, |round, outputs| {
                if is_looked_at(round) {
                    let outputs: Vec<f32> = outputs.iter().map(|x| *x as f32).collect();
                    logits[at].push(trainer.head.logit(&outputs));
                    at += 1;
                }
            });
        });
        let losses: Vec<f64> = logits.iter().map(|z| trainer.validation_loss(z)).collect();
        // The first of equal ones: fewer trees.
        let best = (0..losses.len())
            .min_by(|a, b| losses[*a].total_cmp(&losses[*b]))
            .expect("the forest of no trees is looked at");
        (rounds[best], logits.swap_remove(best))
    }
}

/// The share of columns that gives each tree a whole number of them, and not too few.
fn column_ratio(columns: usize, asked: f64) -> f64 {
    let wanted = (columns as f64 * asked).ceil() as usize;
    let wanted = wanted.max(FEWEST_COLUMNS).min(columns);
    // The library rounds down.
    ((wanted as f64 + 0.5) / columns as f64).min(1.0)
}

/// A row whose bucket counts.
fn period_row(example: usize, bucket: usize, target: f32, weight: f32) -> Option<PeriodRow> {
    (weight > 0.0).then(|| PeriodRow {
        example,
        bucket,
        target: f64::from(target),
        weight: f64::from(weight),
    })
}

fn fitted(
    mut booster: GradientBooster,
    table: &PeriodTable,
    columns: usize,
    held_out: Option<&PeriodTable>,
) -> Result<GradientBooster, String> {
    let outcomes = |table: &PeriodTable| -> (Vec<f64>, Vec<f64>) {
        table
            .rows
            .iter()
            .map(|row| (row.target, row.weight))
            .unzip()
    };
    let (targets, weights) = outcomes(table);
    let held_out_outcomes = held_out.map(outcomes);
    let evaluation = held_out
        .zip(held_out_outcomes.as_ref())
        .map(|(table, (y, w))| {
            let matrix = Matrix::new(&table.values, table.rows.len(), columns);
            vec![(matrix, &y[..], &w[..])]
        });
    let matrix = Matrix::new(&table.values, table.rows.len(), columns);
    booster
        .fit(&matrix, &targets, &weights, evaluation)
        .map_err(|error| format!("the library could not grow them: {error}"))?;
    Ok(booster)
}

/// The library's trees as nodes of our own, over the columns that they read.
fn forest(
    outputs: usize,
    booster: &GradientBooster,
    columns: &[TreeColumn],
    table: &PeriodTable,
) -> Result<Forest, String> {
    let mut trees = Vec::with_capacity(booster.trees.len());
    for tree in &booster.trees {
        let mut nodes = Vec::with_capacity(tree.nodes.len());
        for node in &tree.nodes {
            nodes.push(if node.is_leaf {
                TreeNode::Leaf(node.weight_value)
            } else {
                let cut = match columns[node.split_feature] {
                    TreeColumn::Bucket => node.split_value as i64 - 1,
                    _ => table.cut_below(node.split_feature, node.split_value),
                };
                let [left, right] = [node.left_child, node.right_child].map(|c| c as u32);
                TreeNode::Split(node.split_feature as u32, cut, left, right)
            });
        }
        trees.push(DecisionTree { nodes });
    }
    if !booster.base_score.is_finite() {
        return Err("all rows have the same outcome".into());
    }
    let rounds = trees.len();
    Ok(Forest::new(outputs, booster.base_score, columns.to_vec(), trees).first(rounds))
}

#[cfg(test)]
mod tests {
    use super::column_ratio;

    #[test]
    fn every_tree_has_columns() {
        for (columns, asked, expected) in [(1, 0.1, 1), (5, 0.5, 5), (10, 0.5, 8), (1000, 0.5, 500)]
        {
            let taken = (columns as f64 * column_ratio(columns, asked)).floor() as usize;
            assert_eq!(taken, expected, "{columns} columns, {asked}");
        }
    }
}
