//! One seed of one world: every model on the same rows.

use std::collections::HashMap;
use std::fmt;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::ValueEnum;
use leadpulse_history::Files;
use leadpulse_model::{BinaryMetrics, FitOptions};
use leadpulse_project::{Project, TaskPlan};
use leadpulse_sim::{MarketOptions, World};

use crate::calendar::Calendar;
use crate::compare::{Detection, Entry, detect, resampled_auroc};
use crate::gauge::resident_bytes;
use crate::gbdt::Trees;
use crate::net::{Explained, Net};
use crate::rows::{Rows, first_event_ms};
use crate::world::Simulated;
use leadpulse_deployment::Loaded;

/// Share of accounts on the list of a week.
pub const BUDGET_RATIO: f64 = 0.02;

/// Something that ranks accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Model {
    Rules,
    Icp,
    Flat,
    Relational,
    Net,
    Bayes,
}

impl Model {
    pub const ALL: [Model; 6] = [
        Model::Rules,
        Model::Icp,
        Model::Flat,
        Model::Relational,
        Model::Net,
        Model::Bayes,
    ];

    /// True for models that give probabilities, false for those that give an order only.
    pub fn is_probability(self) -> bool {
        !matches!(self, Model::Rules | Model::Icp)
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Model::Rules => "point rules",
            Model::Icp => "static ICP",
            Model::Flat => "flat GBDT",
            Model::Relational => "relational GBDT",
            Model::Net => "our net",
            Model::Bayes => "exact Bayes",
        })
    }
}

/// One seed of one world, with the models to try.
pub struct Trial<'a> {
    pub loaded: &'a Loaded,
    pub project: &'a Project,
    pub task: &'a TaskPlan,
    pub fit: &'a FitOptions,
    pub world: World,
    pub options: MarketOptions,
    pub models: &'a [Model],
    /// Weeks of lists.
    pub weeks: usize,
}

/// Figures of one model.
pub struct Judged {
    pub metrics: BinaryMetrics,
    pub detection: Detection,
}

/// Results of a trial.
pub struct Outcome {
    pub rows_of_files: u64,
    pub training_rows: usize,
    pub test_rows: usize,
    pub positives: usize,
    /// Weeks of lists.
    pub weeks: usize,
    pub judged: HashMap<Model, Judged>,
    /// AUROC on the same resamples of accounts.
    pub resampled: HashMap<Model, Vec<f64>>,
    pub explained: Option<Explained>,
    /// Remarks on how it was trained.
    pub notes: Vec<String>,
}

/// Says on stderr how long a step took.
struct Clock<'a> {
    name: String,
    started: Instant,
    notes: &'a mut Vec<String>,
}

impl Clock<'_> {
    fn step(&mut self, what: &str) {
        let (seconds, mib) = (
            self.started.elapsed().as_secs_f64(),
            resident_bytes().unwrap_or_default() >> 20,
        );
        eprintln!("{}: {what}: {seconds:.0} s, {mib} MiB resident", self.name);
        self.notes.push(format!("{what} {seconds:.0} s"));
        self.started = Instant::now();
    }
}

impl Trial<'_> {
    fn has(&self, model: Model) -> bool {
        self.models.contains(&model)
    }

    /// Simulates the market, fits all models and compares them.
    pub fn run(&self) -> Result<Outcome> {
        let mut notes = Vec::new();
        let mut spans = Vec::new();
        let name = format!("{} seed {}", self.world, self.options.seed);
        let mut clock = Clock {
            name,
            started: Instant::now(),
            notes: &mut spans,
        };
        let catalog = &self.project.catalog;
        let simulated = Simulated::new(self.loaded, catalog, self.world, self.options.clone())?;
        clock.step("simulating");
        let files = Files::prepare(catalog.clone(), &simulated.files)?;
        let first_ms = first_event_ms(catalog, &files)?;
        let calendar = Calendar::new(
            self.options.start_ms,
            i64::from(self.options.days),
            first_ms,
            self.task.anchors,
            self.weeks,
        )
        .context(
            "the history is too short for training, validation and test: give --days 500 or more",
        )?;
        let rows = Rows::collect(catalog, &files, &calendar)?;
        clock.step("rows and columns of the baselines");

        let (test, weekly) = (rows.at(&calendar.test), rows.at(&calendar.weekly));
        let asked = [test.as_slice(), &weekly].concat();
        let mut scores: HashMap<Model, Vec<f64>> = HashMap::new();
        let given = |values: &[f64]| asked.iter().map(|row| values[*row]).collect::<Vec<f64>>();
        scores.insert(Model::Rules, given(&rows.points));
        scores.insert(Model::Icp, given(&rows.icp));
        for (model, columns) in [
            (Model::Flat, rows.flat_columns),
            (Model::Relational, rows.columns),
        ] {
            if self.has(model) {
                let trees = Trees::fit(&rows, &calendar, columns)?;
                notes.push(format!(
                    "{model}: {columns} columns, {} rounds",
                    trees.rounds
                ));
                scores.insert(model, trees.score(&rows, &asked));
                clock.step(&model.to_string());
            }
        }
        let rows = Rows {
            features: Vec::new(),
            ..rows
        };
        if self.has(Model::Bayes) {
            let mut moments = [calendar.test.as_slice(), &calendar.weekly].concat();
            moments.sort_unstable();
            moments.dedup();
            scores.insert(
                Model::Bayes,
                rows.join(&asked, &simulated.ceiling(&moments)?)?,
            );
            clock.step("Bayes");
        }
        let mut explained = None;
        if self.has(Model::Net) {
            let net = Net {
                project: self.project,
                task: self.task,
                files: &files,
            };
            let (bundle, report) = net.train(&calendar, self.fit.clone())?;
            let chosen = &bundle.manifest().tasks[0].regularisation;
            notes.push(format!(
                "our net: {} cells in {} MiB, {} + {} examples, ensemble of {}, hidden {}, dropout {}, of inputs {}, weight decay {}, without {:?}",
                report.cells,
                report.cell_bytes >> 20,
                report.tasks[0].training,
                report.tasks[0].validation,
                self.fit.ensemble,
                chosen.hidden,
                chosen.dropout_ratio,
                chosen.input_dropout_ratio,
                chosen.weight_decay,
                chosen.without
            ));
            clock.step("training the net");
            let probabilities = net.score(&bundle, &rows, &asked)?;
            clock.step("backtest of the net");
            let first: HashMap<&str, f64> = test
                .iter()
                .zip(&probabilities)
                .filter(|(row, _)| rows.rows[**row].0 == calendar.test[0])
                .map(|(row, p)| (rows.keys[rows.rows[*row].1 as usize].as_str(), *p))
                .collect();
            explained = Some(net.explain(&bundle, calendar.test[0], &first)?);
            clock.step("explaining");
            scores.insert(Model::Net, probabilities);
        }

        let outcomes = rows.outcomes(&test);
        let accounts: Vec<u32> = test.iter().map(|row| rows.rows[*row].1).collect();
        let weeks: Vec<(i64, u32)> = weekly.iter().map(|row| rows.rows[*row]).collect();
        let entries = entries(&simulated, &rows, &calendar);
        let mut judged = HashMap::new();
        let models: Vec<Model> = Model::ALL
            .into_iter()
            .filter(|model| scores.contains_key(model))
            .collect();
        for model in &models {
            let (on_test, on_weeks) = scores[model].split_at(test.len());
            let metrics = BinaryMetrics::of(on_test, &outcomes).context("the test has no rows")?;
            judged.insert(
                *model,
                Judged {
                    metrics,
                    detection: detect(&weeks, on_weeks, BUDGET_RATIO, &entries),
                },
            );
        }
        let on_test: Vec<&[f64]> = models
            .iter()
            .map(|model| &scores[model][..test.len()])
            .collect();
        let resampled = resampled_auroc(&on_test, &outcomes, &accounts, self.options.seed);
        let by_model = |at: usize| resampled.iter().map(|models| models[at]).collect();
        let resampled = models
            .iter()
            .enumerate()
            .map(|(at, model)| (*model, by_model(at)))
            .collect();
        clock.step("comparing");
        notes.push(format!("took: {}", spans.join(", ")));
        Ok(Outcome {
            rows_of_files: simulated.rows,
            training_rows: rows.at(&calendar.training).len(),
            test_rows: test.len(),
            positives: outcomes.iter().filter(|won| **won).count(),
            weeks: calendar.weekly.len(),
            judged,
            resampled,
            explained,
            notes,
        })
    }
}

/// Accounts that began to evaluate vendors in the test period, watched until the purchase, the next
/// beginning or the end of the lists.
fn entries(simulated: &Simulated, rows: &Rows, calendar: &Calendar) -> Vec<Entry> {
    let numbers: HashMap<&str, u32> = rows
        .keys
        .iter()
        .enumerate()
        .map(|(number, key)| (key.as_str(), number as u32))
        .collect();
    let end_ms = calendar
        .weekly
        .last()
        .copied()
        .unwrap_or(calendar.test_from_ms);
    let by_account = |milestones: &[leadpulse_sim::Milestone]| {
        let mut found: HashMap<u32, Vec<i64>> = HashMap::new();
        for milestone in milestones {
            if let Some(account) = numbers.get(milestone.account.as_str()) {
                found.entry(*account).or_default().push(milestone.at_ms);
            }
        }
        found
    };
    let (begun, won) = (
        by_account(&simulated.evaluations),
        by_account(&simulated.purchases),
    );
    let mut entries = Vec::new();
    for (account, begun_ms) in begun {
        for (at, at_ms) in begun_ms
            .iter()
            .copied()
            .enumerate()
            .filter(|(_, t)| (calendar.test_from_ms..end_ms).contains(t))
        {
            let again_ms = begun_ms.get(at + 1).copied().unwrap_or(i64::MAX);
            let won_ms = won.get(&account).and_then(|won| {
                won.iter()
                    .copied()
                    .find(|t| *t >= at_ms && *t < again_ms && *t <= end_ms)
            });
            let until_ms = won_ms.unwrap_or(i64::MAX).min(again_ms).min(end_ms + 1);
            entries.push(Entry {
                account,
                at_ms,
                won_ms,
                until_ms,
            });
        }
    }
    entries.sort_by_key(|entry| (entry.at_ms, entry.account));
    entries
}
