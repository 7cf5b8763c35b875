//! `leadpulse train`

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

use leadpulse_learn::{
    GivenColumns, GivenRows, LeftOut, Report, Tally, TaskReport, TrainOptions, TrainReport,
    TrainTask,
};
use leadpulse_model::{CLEARLY_AHEAD, Grade, RowTally};
use leadpulse_project::{Project, TaskPlan};

use crate::commands::given::RowsArguments;
use crate::commands::{
    ConfigArgument, DataArguments, date, parse_duration, parse_moment, parse_ratio, tasks,
};
use crate::data_report::data_report;
use crate::evaluation;
use crate::output::JsonArgument;
use crate::progress::Bar;

/// Arguments of `train`.
#[derive(clap::Args)]
pub struct TrainArguments {
    #[command(flatten)]
    config: ConfigArgument,
    #[command(flatten)]
    data: DataArguments,
    /// Only this task; may be given several times. The first task of the configuration shapes the
    /// network that the others share.
    #[arg(long)]
    task: Vec<String>,
    /// Training sees nothing known after this moment; validation starts here.
    #[arg(long, value_parser = parse_moment)]
    val_from: Option<i64>,
    /// Validation outcomes are known by this moment.
    #[arg(long, value_parser = parse_moment, conflicts_with = "rows")]
    test_from: Option<i64>,
    /// Keep what was trained before validation; by default it is trained again on everything known
    /// by --test-from.
    #[arg(long)]
    no_refit: bool,
    /// No anchors before this moment.
    #[arg(long, value_parser = parse_moment, conflicts_with = "rows")]
    train_from: Option<i64>,
    #[command(flatten)]
    rows: RowsArguments,
    /// Column of weights of 0 or more, with --rows; by default every row weighs 1.
    #[arg(long, value_name = "NAME", requires = "rows")]
    weight_column: Option<String>,
    /// Column of `train` and `validation`, with --rows; by default time divides.
    #[arg(long, value_name = "NAME", requires = "rows")]
    split_column: Option<String>,
    /// Write the examples whose outcome is known as a flat table, Parquet or CSV by the ending: key,
    /// moment, outcome and every number that boosted trees read.
    #[arg(long, value_name = "FILE")]
    examples: Option<PathBuf>,
    /// No anchors this soon after the first event, e.g. 90d.
    #[arg(long, value_parser = parse_duration, conflicts_with = "rows")]
    warmup: Option<i64>,
    /// Learn from this share of the accounts without an event in the 30 days before an anchor, with
    /// the weight of all, and from all others. By default from all of them up to 400,000 (account,
    /// anchor) pairs, above that from as many as make about so many.
    #[arg(long, value_parser = parse_ratio, value_name = "SHARE", conflicts_with = "rows")]
    sample: Option<f64>,
    /// Seed of everything random.
    #[arg(long)]
    seed: Option<u64>,
    /// Column TABLE.FIELD of points that scores are compared with in the report: of the task's
    /// entity, or of its account.
    #[arg(long, value_name = "TABLE.FIELD")]
    existing_score: Option<String>,
    /// Write the bundle although a task of it is worse than chance.
    #[arg(long)]
    force: bool,
    /// Put the bundle into the registry of models, as challenger.
    #[arg(long)]
    register: bool,
    /// Folder of the bundle.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    json: JsonArgument,
}

impl TrainArguments {
    pub fn run(self) -> Result<()> {
        self.json.begin();
        let loaded = self.config.load(&[])?;
        // Before the training: a registry that is not there is told at once.
        let registry = match self.register {
            true => Some(loaded.models()?),
            false => None,
        };
        let project = loaded.project()?;
        let mut chosen = Vec::new();
        for plan in tasks(&project, &self.task)? {
            let mut fit = loaded
                .config
                .tasks
                .iter()
                .find(|t| t.name == plan.name)
                .map(|t| t.fit.clone())
                .unwrap_or_default();
            if let Some(seed) = self.seed {
                fit.seed = seed;
            }
            for lint in &plan.plan.lints {
                tracing::warn!(task = plan.name, "{lint}");
            }
            chosen.push(TrainTask {
                plan,
                fit,
                is_optional: self.task.is_empty(),
            });
        }
        let given = self.given(&project, &chosen)?;
        let files = self.data.open(&loaded, &project.catalog)?;
        let options = TrainOptions {
            val_from_ms: self.val_from,
            test_from_ms: self.test_from,
            warmup_ms: self.warmup,
            train_from_ms: self.train_from,
            given,
            examples: self.examples.clone(),
            refit: !self.no_refit,
            sample_share: self.sample,
            existing_score: self.existing_score.clone(),
            keep_worse_than_chance: self.force,
            ..TrainOptions::default()
        };
        let mut bar = Bar::new();
        let (bundle, report) =
            leadpulse_learn::train(&project, &chosen, &files, &options, &mut |p| bar.show(p))?;
        bar.finish();
        self.show(&report, files.refused());
        self.refuse_worse_than_chance(&report.tasks)?;
        bundle.save(&self.out)?;
        self.write_report(&report.tasks, &bundle.manifest().bundle_id)?;
        say!(
            "bundle      {} → {}",
            bundle.manifest().bundle_id,
            self.out.display()
        );
        if let Some(registry) = registry {
            let id = &bundle.manifest().bundle_id;
            registry.add(bundle.manifest(), &self.out)?;
            registry.challenge(id)?;
            say!("challenger  {id} in {}", registry.dir().display());
        }
        say!("{}", data_report(&project.catalog, &report.data).trim_end());
        let id = &bundle.manifest().bundle_id;
        self.json.print(|| Ok(self.figures(&report, id)))
    }

    fn figures(&self, report: &TrainReport, bundle: &str) -> Value {
        let tasks: Vec<Value> = report
            .tasks
            .iter()
            .map(|task| {
                json!({
                    "task": task.name,
                    "training": task.training,
                    "validation": task.validation,
                    "evaluation": task.evaluation,
                })
            })
            .collect();
        let left_out: Vec<Value> = report
            .left_out
            .iter()
            .map(|one| json!({ "task": one.task, "reason": one.reason.to_string() }))
            .collect();
        json!({ "bundle": bundle, "out": self.out, "tasks": tasks, "left_out": left_out })
    }

    /// Prints the findings; `refused` is the number of rows that could not be read.
    fn show(&self, report: &TrainReport, refused: u64) {
        say!(
            "history     {} … {}, {} rows, {} refused",
            date(report.extent.first_ms),
            date(report.extent.last_ms),
            report.extent.rows,
            refused
        );
        say!(
            "split       training known by {}, validation by {}",
            date(report.split.val_from_ms),
            date(report.split.test_from_ms)
        );
        say!(
            "cells       {} in {:.1} MiB",
            report.cells,
            report.cell_bytes as f64 / f64::from(1 << 20)
        );
        for rows in &report.rows {
            show_rows(rows);
        }
        for task in &report.tasks {
            show(task);
        }
        show_left_out(report);
        if let Some(path) = &self.examples {
            say!("examples    {}", path.display());
        }
    }

    /// The rows of --rows; `None` without it.
    fn given(&self, project: &Project, tasks: &[TrainTask<'_>]) -> Result<Option<GivenRows>> {
        let others = GivenColumns {
            weight: self.weight_column.clone(),
            split: self.split_column.clone(),
            ..GivenColumns::default()
        };
        let plans: Vec<&TaskPlan> = tasks.iter().map(|task| task.plan).collect();
        if let (true, [_, _, ..]) = (self.rows.rows.is_some(), &plans[..]) {
            bail!(
                "--rows has the examples of one task, but {} would be trained; name one with \
                 --task",
                plans.len()
            );
        }
        self.rows.read(others, project, &plans)
    }

    /// Writes the evaluation on validation into the bundle's folder.
    fn write_report(&self, tasks: &[TaskReport], bundle: &str) -> Result<()> {
        let evaluations = tasks.iter().map(|task| task.evaluation.clone());
        let report = Report {
            title: "Validation of a training".to_owned(),
            bundle: bundle.to_owned(),
            tasks: evaluations.collect(),
        };
        evaluation::write(&report, &self.out)
    }

    /// A bundle that ranks worse than a coin is not written by accident.
    fn refuse_worse_than_chance(&self, tasks: &[TaskReport]) -> Result<()> {
        let is_worse = |task: &&TaskReport| {
            let quality = task.evaluation.quality.as_ref();
            quality.is_some_and(|quality| quality.grade == Grade::WorseThanChance)
        };
        match tasks.iter().find(is_worse) {
            Some(task) if !self.force => bail!(
                "{} ranks worse than chance on validation, so no bundle is written; look at its \
                 labels with `leadpulse query`, give more history, train the others with --task, \
                 or write it all the same with --force",
                task.name
            ),
            _ => Ok(()),
        }
    }
}

/// Prints the tasks that are not in the bundle, and why.
fn show_left_out(report: &TrainReport) {
    for LeftOut { task, reason } in &report.left_out {
        say!(
            "left out    {task}: {reason}. The bundle has no scores of it; name it with --task to \
             have this end the training"
        );
    }
}

/// Prints the width of one kind of row, by explanation group, and how many members share a row.
fn show_rows(rows: &RowTally) {
    let groups: Vec<String> = rows
        .groups
        .iter()
        .map(|(group, columns)| format!("{group} {columns}"))
        .collect();
    say!(
        "columns     {} {}, {} of them used: {}",
        rows.table.as_deref().unwrap_or("cell"),
        rows.columns,
        rows.used,
        groups.join(", ")
    );
    if rows.folded > 0 {
        say!(
            "  folded     {} times a member was in the row of the rest of its cell, for the others \
             to see; its own score has a row of its own",
            rows.folded
        );
    }
}

fn show(task: &TaskReport) {
    say!("task        {}", task.name);
    for (set, examples, tally) in [
        ("training", task.training, &task.training_tally),
        ("validation", task.validation, &task.validation_tally),
    ] {
        say!("  {set:<11}{examples} examples; {}", labels(tally));
    }
    if task.stopped > 0 {
        say!(
            "  stopped    {} of the training examples show a source that stopped",
            task.stopped
        );
    }
    let asked = task.training_tally.asked;
    if task.sampling.share < 1.0 {
        say!(
            "  sample     {} of {asked} rows: those with an event in the 30 days before, and a share \
             of {:.3} of the others",
            asked - task.left_out,
            task.sampling.share
        );
    }
    if let Some(unowned) = unowned(&task.validation_tally) {
        say!("  nobody's   {unowned}");
    }
    evaluation::show(&task.evaluation);
    if let Some(members) = task.metrics.get("members").and_then(members) {
        say!("  members    {members}");
    }
    if let Some(read) = rows_read(&task.metrics) {
        say!("  networks   {read}");
    }
}

/// What the networks of a task about the root read, and how that was chosen; `None` where there was
/// nothing to choose.
fn rows_read(metrics: &Map<String, Value>) -> Option<String> {
    let ahead = metrics.get("members_ahead")?.as_f64()?;
    let mut candidates = metrics.get("candidates")?.as_array()?.iter();
    let chosen = candidates.find(|one| one["chosen"] == true)?;
    let read = match chosen["regularisation"]["members"].as_bool()? {
        true => "the root row and the rows of members",
        false => "the root row alone",
    };
    Some(format!(
        "read {read}: on validation those with rows of members are {ahead:.1} standard errors ahead, \
         more than {CLEARLY_AHEAD} are asked for"
    ))
}

/// Weights and validation losses of networks and trees, in words.
fn members(members: &Value) -> Option<String> {
    let (networks, trees) = (&members["networks"], &members["trees"]);
    let one = |member: &Value| {
        let quality = ["auroc", "spearman"].iter().find_map(|name| {
            let value = member["validation"][*name].as_f64()?;
            Some(format!(", {name} {value:.4}"))
        });
        Some(format!(
            "weight {:.2}, loss {:.5}{}",
            member["weight"].as_f64()?,
            member["validation_loss"].as_f64()?,
            quality.unwrap_or_default()
        ))
    };
    let trees = match trees["left_out"].as_str() {
        Some(reason) => format!("none, {reason}"),
        None => format!("{}, {}", trees["rounds"], one(trees)?),
    };
    Some(format!(
        "{} networks, {}; trees {trees}",
        networks["networks"],
        one(networks)?
    ))
}

/// Rows that the target counts and that count for nobody, in words; `None` without any.
pub fn unowned(tally: &Tally) -> Option<String> {
    let example = tally.unowned_example.as_deref()?;
    Some(format!(
        "{} of {} rows that the target counts belong to no known entity, e.g. one of {example}",
        tally.unowned_rows, tally.rows
    ))
}

/// A duration for people.
fn span(ms: i64) -> String {
    let hours = ms as f64 / 3_600_000.0;
    match hours {
        hours if hours >= 24.0 => format!("{:.1} days", hours / 24.0),
        hours if hours >= 1.0 => format!("{hours:.1} hours"),
        hours => format!("{:.1} minutes", hours * 60.0),
    }
}

/// Counts of labels in words: base rate, rows still open, rows dropped.
pub fn labels(tally: &Tally) -> String {
    let base_rate = tally
        .base_rate()
        .map_or("–".to_owned(), |rate| format!("{rate:.4}"));
    let wait = match tally.wait_ms {
        0 => String::new(),
        ms => format!("; windows wait {} for late rows", span(ms)),
    };
    format!(
        "{} labels of {} entities, base rate {base_rate} ({} positive, of {} entities); {} open, {} dropped{wait}",
        tally.labelled,
        tally.entities,
        tally.positive,
        tally.positive_entities,
        tally.open,
        tally.dropped
    )
}
