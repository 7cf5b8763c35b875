//! Our network: trained, backtested and explained through the same calls as the commands.

use std::collections::HashMap;

use anyhow::{Context, Result};
use leadpulse_features::{Explanation, FeatureBatch, FeaturePlan, Scorer, ScorerTask};
use leadpulse_graph::{CellRef, Graph, Tracking};
use leadpulse_history::Files;
use leadpulse_learn::{
    Backtest, Baselines, GivenColumns, GivenRows, OutTable, TrainOptions, TrainReport, TrainTask,
    backtest, train,
};
use leadpulse_model::{Bundle, DeletionTest, FitOptions, Member};
use leadpulse_project::{Project, TaskPlan};
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{RowBatch, TextRow, TextTable};
use serde::{Deserialize, Serialize};

use crate::calendar::{Calendar, WARMUP_DAYS};
use crate::history::DAY_MS;
use crate::rows::Rows;
use crate::trial::Model;

/// Accounts explained: those with the highest scores.
const EXPLAINED: usize = 150;
const CHUNK_ROWS: usize = 8192;

/// The task that is trained, with its files.
pub struct Net<'a> {
    pub project: &'a Project,
    pub task: &'a TaskPlan,
    pub files: &'a Files,
}

/// Explanations of the accounts with the highest scores, in figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explained {
    pub deletion: Option<DeletionTest>,
    /// Largest |base + Σφ − logit|.
    pub completeness_error: f64,
    /// Mean of |φ| ÷ Σ|φ| by group, the largest first.
    pub shares: Vec<(String, f64)>,
}

impl Net<'_> {
    /// As `leadpulse train` does.
    pub fn train(&self, calendar: &Calendar, fit: FitOptions) -> Result<(Bundle, TrainReport)> {
        let options = TrainOptions {
            val_from_ms: Some(calendar.val_from_ms),
            test_from_ms: Some(calendar.test_from_ms),
            warmup_ms: Some(WARMUP_DAYS * DAY_MS),
            refit: true,
            ..TrainOptions::default()
        };
        let tasks = [TrainTask {
            plan: self.task,
            fit,
            is_optional: false,
        }];
        Ok(train(
            self.project,
            &tasks,
            self.files,
            &options,
            &mut |_| {},
        )?)
    }

    /// Scores of the ensemble and of its members, as `leadpulse backtest` makes them, by model.
    pub fn score(
        &self,
        bundle: &Bundle,
        rows: &Rows,
        chosen: &[usize],
    ) -> Result<HashMap<Model, Vec<f64>>> {
        let members = Members::of(bundle);
        let plans: Vec<TaskPlan> = members
            .tasks
            .iter()
            .map(|task| TaskPlan {
                name: task.name.clone(),
                ..self.task.clone()
            })
            .collect();
        let plans: Vec<&TaskPlan> = plans.iter().collect();
        let cells = |task: &TaskPlan, row: usize| {
            let (at_ms, account) = rows.rows[row];
            let key = rows.keys[account as usize].clone();
            vec![Some(at_ms.to_string()), Some(key), Some(task.name.clone())]
        };
        let asked = plans
            .iter()
            .flat_map(|task| chosen.iter().map(move |row| cells(task, *row)));
        let table = TextTable {
            columns: vec!["timestamp".into(), "key".into(), "task".into()],
            rows: (2..)
                .zip(asked)
                .map(|(line, cells)| TextRow { line, cells })
                .collect(),
        };
        let mut answered = Vec::new();
        let job = Backtest {
            project: self.project,
            tasks: &plans,
            files: self.files,
            scorer: &members,
            freeze_at_ms: None,
            baselines: Baselines::default(),
        };
        let columns = GivenColumns::default();
        let asked = GivenRows::of_table(
            "the asked rows".into(),
            table,
            &columns,
            self.project,
            &plans,
        )?;
        backtest(&job, &asked, OutTable::csv(&mut answered), &mut |_| {})?;
        let mut reader = csv::Reader::from_reader(answered.as_slice());
        let column = reader.headers()?.iter().position(|h| h == "probability");
        let column = column.context("the backtest writes no column \"probability\"")?;
        let read = |record: csv::Result<csv::StringRecord>| {
            let record = record?;
            let probability = record.get(column).unwrap_or_default();
            probability.parse().with_context(|| {
                format!(
                    "account {} was not scored",
                    record.get(1).unwrap_or_default()
                )
            })
        };
        let all: Vec<f64> = reader.records().map(read).collect::<Result<_>>()?;
        let parts = all.chunks(chosen.len().max(1)).map(<[f64]>::to_vec);
        Ok(members.models.into_iter().zip(parts).collect())
    }

    /// The graph as of a moment.
    fn graph(&self, at_ms: i64) -> Result<Graph> {
        let mut graph = self.project.graph(Tracking::Off);
        let mut replay = self.files.replay()?;
        let mut batch = RowBatch::new();
        // The board of a moment holds what was known at its place on the grid.
        let period_ms = self.project.graph_options.board_period_ms;
        for until_ms in [at_ms.div_euclid(period_ms) * period_ms, at_ms] {
            while replay.read(until_ms, CHUNK_ROWS, &mut batch)? > 0 {
                graph.apply(&batch, None);
                batch.clear();
            }
            graph.advance(AsOf::from_ms(until_ms));
        }
        Ok(graph)
    }

    /// Explains the accounts that score highest at a moment; `scores` by key.
    pub fn explain(
        &self,
        bundle: &Bundle,
        at_ms: i64,
        scores: &HashMap<&str, f64>,
    ) -> Result<Explained> {
        let graph = self.graph(at_ms)?;
        let mut highest: Vec<(&str, f64)> =
            scores.iter().map(|(key, score)| (*key, *score)).collect();
        highest.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
        highest.truncate(EXPLAINED);
        let mut cells: Vec<CellRef> = highest
            .iter()
            .filter_map(|(key, _)| Some(graph.find(self.task.plan.entity, key)?.0))
            .collect();
        cells.sort_unstable();
        cells.dedup();
        let batch = bundle
            .plan()
            .encode(&graph, &cells, AsOf::from_ms(at_ms), &[]);
        let rows: Vec<(usize, usize)> = (0..cells.len()).map(|cell| (cell, 0)).collect();
        let groups = &bundle.plan().layout().groups;
        let mut shares = vec![0.0; groups.len()];
        let mut completeness_error = 0.0_f64;
        for (cell, slot) in &rows {
            let explanation = bundle.explain(&batch, 0, *cell, *slot);
            let sum: f64 = explanation.contributions.iter().map(|c| c.logit).sum();
            completeness_error =
                completeness_error.max((explanation.base_logit + sum - explanation.logit).abs());
            let all: f64 = explanation
                .contributions
                .iter()
                .map(|c| c.logit.abs())
                .sum();
            for c in &explanation.contributions {
                shares[c.group] += c.logit.abs() / all.max(1e-12) / rows.len() as f64;
            }
        }
        let mut shares: Vec<(String, f64)> = groups
            .iter()
            .map(|group| group.code.clone())
            .zip(shares)
            .collect();
        shares.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ok(Explained {
            deletion: bundle.fitted().deletion_test(&batch, 0, &rows),
            completeness_error,
            shares,
        })
    }
}

/// A bundle of one task and the members of its ensemble, as tasks of one model: one walk over the
/// files scores them all.
struct Members {
    models: Vec<Model>,
    bundles: Vec<Bundle>,
    tasks: Vec<ScorerTask>,
}

impl Members {
    fn of(bundle: &Bundle) -> Self {
        let members = [
            (Model::Ensemble, Some(bundle.clone())),
            (Model::Net, bundle.only(Member::Networks)),
            (Model::Own, bundle.only(Member::Trees)),
        ];
        let present = members
            .into_iter()
            .filter_map(|(model, bundle)| Some((model, bundle?)));
        let (models, bundles): (Vec<Model>, Vec<Bundle>) = present.unzip();
        let tasks = models
            .iter()
            .map(|model| ScorerTask {
                name: model.code(),
                ..bundle.tasks()[0].clone()
            })
            .collect();
        Self {
            models,
            bundles,
            tasks,
        }
    }
}

impl Scorer for Members {
    fn bundle_id(&self) -> &str {
        self.bundles[0].bundle_id()
    }
    fn plan(&self) -> &FeaturePlan {
        self.bundles[0].plan()
    }
    fn tasks(&self) -> &[ScorerTask] {
        &self.tasks
    }
    fn logits(&self, batch: &FeatureBatch, task: usize) -> Vec<f64> {
        self.bundles[task].logits(batch, 0)
    }
    fn explain(&self, batch: &FeatureBatch, task: usize, cell: usize, slot: usize) -> Explanation {
        self.bundles[task].explain(batch, 0, cell, slot)
    }
}
