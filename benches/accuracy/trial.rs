//! One seed of one world: every model on the same rows.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use leadpulse_history::Files;
use leadpulse_model::{BinaryMetrics, FitOptions};
use leadpulse_project::{Project, TaskPlan};
use leadpulse_sim::{MarketOptions, World};
use serde::{Deserialize, Serialize};

use crate::calendar::Calendar;
use crate::compare::{Detection, Entry, detect, interval, resampled_auroc};
use crate::gauge::{cpu_of, resident_bytes};
use crate::gbdt::Trees;
use crate::net::{Explained, Net};
use crate::rows::{Rows, first_event_ms};
use crate::world::Simulated;
use leadpulse_deployment::Loaded;

/// Share of accounts on the list of a week.
pub const BUDGET_RATIO: f64 = 0.02;

/// Something that ranks accounts.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    Recency,
    Rules,
    Icp,
    Flat,
    Relational,
    /// The ensemble's trees alone: trees on our own cells.
    Own,
    /// The ensemble's networks alone.
    Net,
    Ensemble,
    Bayes,
}

impl Model {
    /// True for models that give calibrated probabilities. Members of the ensemble are calibrated
    /// together only.
    pub fn is_probability(self) -> bool {
        matches!(
            self,
            Model::Flat | Model::Relational | Model::Ensemble | Model::Bayes
        )
    }

    /// The name on the command line.
    pub fn code(self) -> String {
        let value = self.to_possible_value().expect("no model is hidden");
        value.get_name().to_owned()
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Model::Recency => "recency",
            Model::Rules => "point rules",
            Model::Icp => "static ICP",
            Model::Flat => "flat trees",
            Model::Relational => "relational trees",
            Model::Own => "trees on our cells",
            Model::Net => "our networks",
            Model::Ensemble => "our ensemble",
            Model::Bayes => "exact Bayes",
        })
    }
}

/// What decides the result of a trial, beside the code. A stored result of the same setup is not
/// computed again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    pub world: String,
    pub accounts: usize,
    pub days: u32,
    pub seed: u64,
    pub anchors: String,
    pub fit: FitOptions,
    pub models: Vec<Model>,
    /// Weeks of lists.
    pub weeks: usize,
    /// Table whose rows end with the start of the test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
}

/// One seed of one world, with the models to try.
pub struct Trial<'a> {
    pub loaded: &'a Loaded,
    pub project: &'a Project,
    pub task: &'a TaskPlan,
    pub world: World,
    pub options: MarketOptions,
    pub setup: Setup,
}

/// Figures of one model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Judged {
    pub metrics: BinaryMetrics,
    /// AUROC among the accounts that have no open deal.
    pub auroc_without_deal: Option<f64>,
    pub detection: Detection,
}

/// The AUROC of one model minus that of another, with the middle 95 % over resamples of accounts.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Difference {
    pub better: Model,
    pub worse: Model,
    pub low: f64,
    pub high: f64,
}

/// Results of a trial.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub setup: Setup,
    /// The commit that was measured.
    pub commit: String,
    pub rows_of_files: u64,
    pub training_rows: usize,
    pub test_rows: usize,
    pub positives: usize,
    /// Test rows of accounts without an open deal, and their positives.
    pub rows_without_deal: usize,
    pub positives_without_deal: usize,
    pub judged: BTreeMap<Model, Judged>,
    /// By chance of the accounts in this one market.
    pub differences: Vec<Difference>,
    pub explained: Option<Explained>,
    /// The manifest's figures of the ensemble's members.
    pub members: serde_json::Value,
    /// Remarks on how models were trained.
    pub notes: Vec<String>,
    /// CPU seconds by step.
    pub cpu_seconds: Vec<(String, f64)>,
    /// Memory at the end of the training of ours, MiB.
    pub resident_mib: u64,
}

/// CPU time of the steps; says on stderr how a trial goes on.
struct Clock {
    name: String,
    last: Duration,
    steps: Vec<(String, f64)>,
}

impl Clock {
    fn new(setup: &Setup) -> Self {
        Self {
            name: format!("{} seed {}", setup.world, setup.seed),
            last: cpu_of("self").unwrap_or_default(),
            steps: Vec::new(),
        }
    }

    fn step(&mut self, name: &str) {
        let now = cpu_of("self").unwrap_or_default();
        let seconds = (now - self.last).as_secs_f64();
        let mib = resident_bytes().unwrap_or_default() >> 20;
        eprintln!(
            "{}: {name}: {seconds:.0} s of CPU, {mib} MiB resident",
            self.name
        );
        self.steps.push((name.to_owned(), seconds));
        self.last = now;
    }
}

/// Scores by model, of the test rows and then of the weekly ones.
type Scores = HashMap<Model, Vec<f64>>;

/// What training and scoring ours gave.
struct Ours {
    scores: Scores,
    explained: Explained,
    members: serde_json::Value,
    note: String,
    resident_mib: u64,
}

impl Trial<'_> {
    fn has(&self, model: Model) -> bool {
        self.setup.models.contains(&model)
    }

    fn wants_ours(&self) -> bool {
        [Model::Own, Model::Net, Model::Ensemble]
            .into_iter()
            .any(|model| self.has(model))
    }

    /// Simulates the market, fits all models and compares them.
    pub fn run(self, commit: &str) -> Result<Outcome> {
        let mut clock = Clock::new(&self.setup);
        let catalog = &self.project.catalog;
        let simulated = Simulated::new(self.loaded, catalog, self.world, self.options.clone())?;
        clock.step("simulating");
        let files = Files::prepare(catalog.clone(), &simulated.files)?;
        let calendar = self.calendar(first_event_ms(catalog, &files)?)?;
        let files = match &self.setup.stopped {
            Some(table) => {
                simulated.stop(catalog, table, calendar.test_from_ms)?;
                Files::prepare(catalog.clone(), &simulated.files)?
            }
            None => files,
        };
        let rows = Rows::collect(catalog, &files, &calendar)?;
        clock.step("rows and columns of the baselines");

        let (test, weekly) = (rows.at(&calendar.test), rows.at(&calendar.weekly));
        let asked = [test.as_slice(), &weekly].concat();
        let mut notes = Vec::new();
        let mut scores = self.baselines(&rows, &calendar, &asked, &mut notes, &mut clock)?;
        let rows = Rows {
            features: Vec::new(),
            ..rows
        };
        if self.has(Model::Bayes) {
            let mut moments = [calendar.test.as_slice(), &calendar.weekly].concat();
            moments.sort_unstable();
            moments.dedup();
            let ceiling = rows.join(&asked, &simulated.ceiling(&moments)?)?;
            scores.insert(Model::Bayes, ceiling);
            clock.step("Bayes");
        }
        let ours = if self.wants_ours() {
            Some(self.ours(&files, &calendar, &rows, &asked, &mut clock)?)
        } else {
            None
        };
        let mut outcome = Outcome {
            setup: self.setup.clone(),
            commit: commit.to_owned(),
            rows_of_files: simulated.rows,
            training_rows: rows.at(&calendar.training).len(),
            test_rows: test.len(),
            positives: rows.outcomes(&test).iter().filter(|won| **won).count(),
            rows_without_deal: 0,
            positives_without_deal: 0,
            judged: BTreeMap::new(),
            differences: Vec::new(),
            explained: None,
            members: serde_json::Value::Null,
            notes,
            cpu_seconds: Vec::new(),
            resident_mib: 0,
        };
        if let Some(ours) = ours {
            scores.extend(ours.scores);
            outcome.explained = Some(ours.explained);
            outcome.members = ours.members;
            outcome.notes.push(ours.note);
            outcome.resident_mib = ours.resident_mib;
        }
        scores.retain(|model, _| self.has(*model));
        let entries = entries(&simulated, &rows, &calendar);
        judge(&mut outcome, &rows, &test, &weekly, &scores, &entries)?;
        clock.step("comparing");
        outcome.cpu_seconds = clock.steps;
        Ok(outcome)
    }

    fn calendar(&self, first_ms: i64) -> Result<Calendar> {
        Calendar::new(
            self.options.start_ms,
            i64::from(self.options.days),
            first_ms,
            self.task.anchors,
            self.setup.weeks,
        )
        .context(
            "the history is too short for training, validation and test: give --days 500 or more",
        )
    }

    fn baselines(
        &self,
        rows: &Rows,
        calendar: &Calendar,
        asked: &[usize],
        notes: &mut Vec<String>,
        clock: &mut Clock,
    ) -> Result<Scores> {
        let given = |values: &[f64]| asked.iter().map(|row| values[*row]).collect::<Vec<f64>>();
        let mut scores = Scores::from([
            (Model::Recency, given(&rows.recency)),
            (Model::Rules, given(&rows.points)),
            (Model::Icp, given(&rows.icp)),
        ]);
        for (model, columns) in [
            (Model::Flat, rows.flat_columns),
            (Model::Relational, rows.columns),
        ] {
            if self.has(model) {
                let trees = Trees::fit(rows, calendar, columns)?;
                let rounds = trees.rounds;
                notes.push(format!("{model}: {columns} columns, {rounds} rounds"));
                scores.insert(model, trees.score(rows, asked));
                clock.step(&model.to_string());
            }
        }
        Ok(scores)
    }

    fn ours(
        &self,
        files: &Files,
        calendar: &Calendar,
        rows: &Rows,
        asked: &[usize],
        clock: &mut Clock,
    ) -> Result<Ours> {
        let net = Net {
            project: self.project,
            task: self.task,
            files,
        };
        let (bundle, report) = net.train(calendar, self.setup.fit.clone())?;
        clock.step("training ours");
        let resident_mib = resident_bytes().unwrap_or_default() >> 20;
        let trained = &bundle.manifest().tasks[0];
        let note = format!(
            "ours: {} cells in {} MiB, {} + {} examples, ensemble of {}, {:?}",
            report.cells,
            report.cell_bytes >> 20,
            report.tasks[0].training,
            report.tasks[0].validation,
            self.setup.fit.ensemble,
            trained.regularisation
        );
        let members = trained.metrics.get("members").cloned().unwrap_or_default();
        let scores = net.score(&bundle, rows, asked)?;
        clock.step("backtest of ours");
        let at_first = |row: usize| rows.rows[row].0 == calendar.test[0];
        let first: HashMap<&str, f64> = asked
            .iter()
            .zip(&scores[&Model::Ensemble])
            .filter(|(row, _)| at_first(**row))
            .map(|(row, p)| (rows.keys[rows.rows[*row].1 as usize].as_str(), *p))
            .collect();
        let explained = net.explain(&bundle, calendar.test[0], &first)?;
        clock.step("explaining");
        Ok(Ours {
            scores,
            explained,
            members,
            note,
            resident_mib,
        })
    }
}

/// Differences that are told.
pub const COMPARED: [(Model, Model); 7] = [
    (Model::Ensemble, Model::Relational),
    (Model::Ensemble, Model::Own),
    (Model::Ensemble, Model::Net),
    (Model::Ensemble, Model::Flat),
    (Model::Own, Model::Relational),
    (Model::Relational, Model::Flat),
    (Model::Bayes, Model::Ensemble),
];

/// Compares the scores with what became of the accounts.
fn judge(
    outcome: &mut Outcome,
    rows: &Rows,
    test: &[usize],
    weekly: &[usize],
    scores: &Scores,
    entries: &[Entry],
) -> Result<()> {
    let won = rows.outcomes(test);
    let without: Vec<usize> = (0..test.len())
        .filter(|at| !rows.has_deal[test[*at]])
        .collect();
    let won_without: Vec<bool> = without.iter().map(|at| won[*at]).collect();
    outcome.rows_without_deal = without.len();
    outcome.positives_without_deal = won_without.iter().filter(|won| **won).count();
    let weeks: Vec<(i64, u32)> = weekly.iter().map(|row| rows.rows[*row]).collect();
    let models: Vec<Model> = Model::value_variants()
        .iter()
        .copied()
        .filter(|model| scores.contains_key(model))
        .collect();
    for model in &models {
        let (on_test, on_weeks) = scores[model].split_at(test.len());
        let on_those: Vec<f64> = without.iter().map(|at| on_test[*at]).collect();
        let judged = Judged {
            metrics: BinaryMetrics::of(on_test, &won).context("the test has no rows")?,
            auroc_without_deal: BinaryMetrics::of(&on_those, &won_without).and_then(|m| m.auroc),
            detection: detect(&weeks, on_weeks, BUDGET_RATIO, entries),
        };
        outcome.judged.insert(*model, judged);
    }
    let accounts: Vec<u32> = test.iter().map(|row| rows.rows[*row].1).collect();
    let on_test: Vec<&[f64]> = models
        .iter()
        .map(|model| &scores[model][..test.len()])
        .collect();
    let resampled = resampled_auroc(&on_test, &won, &accounts, outcome.setup.seed);
    let place = |model: Model| models.iter().position(|m| *m == model);
    for (better, worse) in COMPARED {
        if let (Some(b), Some(w)) = (place(better), place(worse)) {
            let (low, high) = interval(resampled.iter().map(|auroc| auroc[b] - auroc[w]).collect());
            outcome.differences.push(Difference {
                better,
                worse,
                low,
                high,
            });
        }
    }
    Ok(())
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
