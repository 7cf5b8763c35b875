//! `leadpulse report`

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;

use leadpulse_deployment::load_bundle;
use leadpulse_learn::{
    Baselines, Extent, Report, Shadow, ShadowMoments, Shadowed, ShadowedTask, predicts_number,
    shadow,
};
use leadpulse_project::{Project, TaskPlan};

use crate::backtest_figures::base_rates;
use crate::commands::train::labels;
use crate::commands::{ConfigArgument, DataArguments, date, parse_duration, parse_moment, tasks};
use crate::data_report::data_report;
use crate::evaluation;
use crate::output::JsonArgument;
use crate::progress::Bar;
use crate::score_records::{self, ScoreFile};

/// Arguments of `report`.
#[derive(clap::Subcommand)]
pub enum ReportArguments {
    /// Judges the scores that a deployment emitted by what happened since.
    Shadow(ShadowArguments),
}

impl ReportArguments {
    pub fn run(self) -> Result<()> {
        match self {
            Self::Shadow(command) => command.run(),
        }
    }
}

/// Arguments of `report shadow`.
#[derive(clap::Args)]
pub struct ShadowArguments {
    #[command(flatten)]
    config: ConfigArgument,
    #[command(flatten)]
    data: DataArguments,
    /// Score records of the scores topic: JSON lines, or an Avro container file.
    #[arg(long, value_name = "FILE")]
    scores: PathBuf,
    /// Score records of a challenger, compared on the rows that both have.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Only this task; may be given several times. By default every task of the configuration.
    #[arg(long)]
    task: Vec<String>,
    /// The time between the moments at which standing scores are judged.
    #[arg(long, value_parser = parse_span, default_value = "1d", conflicts_with = "own_anchors")]
    every: i64,
    /// Judge at the anchors of each task, as `backtest` does.
    #[arg(long)]
    own_anchors: bool,
    /// The first moment; by default that of the first record.
    #[arg(long, value_parser = parse_moment)]
    from: Option<i64>,
    /// The bundle that scored: its base rate is what the losses are compared with. By default that
    /// of the rows.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Column TABLE.FIELD of points that scores are compared with in the report: of the task's
    /// entity, or of its account.
    #[arg(long, value_name = "TABLE.FIELD")]
    existing_score: Option<String>,
    /// Folder of report.html and report.json.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    #[command(flatten)]
    json: JsonArgument,
}

/// A duration above 0, milliseconds.
fn parse_span(text: &str) -> Result<i64, String> {
    let ms = parse_duration(text)?;
    match ms > 0 {
        true => Ok(ms),
        false => Err("moments are some time apart; write e.g. 1d".to_owned()),
    }
}

impl ShadowArguments {
    fn run(self) -> Result<()> {
        self.json.begin();
        let loaded = self.config.load(&[])?;
        let project = loaded.project()?;
        let chosen = self.chosen(&project)?;
        let scores = score_records::read(&self.scores, &chosen)?;
        let against = self.against.as_deref();
        let against = against.map(|path| anyhow::Ok((path, score_records::read(path, &chosen)?)));
        let against = against.transpose()?;
        let files = self.data.open(&loaded, &project.catalog)?;
        let bundle = self
            .model
            .as_deref()
            .map(|path| anyhow::Ok(load_bundle(&project, path)?));
        let bundle = bundle.transpose()?;
        let rates = bundle.as_ref().map(|bundle| base_rates(bundle, &chosen));
        let other_name = against.as_ref().map(|(path, _)| path.display().to_string());
        let others = against.as_ref().map(|(_, file)| &file.log);
        let job = Shadow {
            project: &project,
            tasks: &chosen,
            files: &files,
            scores: &scores.log,
            against: other_name.as_deref().zip(others),
            moments: match self.own_anchors {
                true => ShadowMoments::OwnAnchors,
                false => ShadowMoments::Every(self.every),
            },
            from_ms: self.from,
            baselines: Baselines {
                base_rates: rates.as_deref().unwrap_or_default(),
                existing_score: self.existing_score.as_deref(),
            },
        };
        say_other_tasks(&self.scores, &scores);
        if let Some((path, file)) = &against {
            say_other_tasks(path, file);
        }
        self.refuse_no_record(&scores, &chosen)?;
        let mut bar = Bar::new();
        let found = shadow(&job, &mut |p| bar.show(p))?;
        bar.finish();
        for task in &found.tasks {
            show(task);
        }
        say!("{}", data_report(&project.catalog, &found.data).trim_end());
        refuse_nothing_judged(&found)?;
        self.write_report(&found)?;
        let tasks = found.tasks.iter();
        let tasks: Vec<_> = tasks.map(|task| (&task.task, &task.evaluation)).collect();
        self.json
            .print(|| Ok(json!({ "out": self.out, "tasks": tasks })))
    }

    /// The tasks named, or all; without those that predict numbers, which score records do not
    /// have.
    fn chosen<'a>(&self, project: &'a Project) -> Result<Vec<&'a TaskPlan>> {
        let mut chosen = tasks(project, &self.task)?;
        if let Some(task) = chosen.iter().find(|task| predicts_number(task)) {
            if !self.task.is_empty() {
                bail!(
                    "{} predicts a number, and score records have probabilities; name other tasks",
                    task.name
                );
            }
            say!("not judged  {}: it predicts a number", task.name);
        }
        chosen.retain(|task| !predicts_number(task));
        Ok(chosen)
    }

    fn refuse_no_record(&self, scores: &ScoreFile, chosen: &[&TaskPlan]) -> Result<()> {
        if scores.records > 0 {
            return Ok(());
        }
        let names: Vec<&str> = chosen.iter().map(|task| task.name.as_str()).collect();
        let others: Vec<&str> = scores.others.keys().map(String::as_str).collect();
        bail!(
            "{} has no record of {}; it has records of: {}. Give the configuration that scored, or \
             another file",
            self.scores.display(),
            names.join(", "),
            if others.is_empty() {
                "no task".to_owned()
            } else {
                others.join(", ")
            }
        )
    }

    fn write_report(&self, found: &Shadowed) -> Result<()> {
        let evaluations = found
            .tasks
            .iter()
            .filter_map(|task| task.evaluation.clone());
        let report = Report {
            title: "Shadow: emitted scores beside what happened".to_owned(),
            bundle: self.scores.display().to_string(),
            tasks: evaluations.collect(),
        };
        std::fs::create_dir_all(&self.out)
            .with_context(|| format!("the folder {} cannot be made", self.out.display()))?;
        evaluation::write(&report, &self.out)
    }
}

/// Prints the records of tasks that were not asked for.
fn say_other_tasks(path: &Path, file: &ScoreFile) {
    for (task, records) in &file.others {
        say!(
            "not judged  {records} records of {task} in {}: the configuration or --task lacks it",
            path.display()
        );
    }
}

/// Prints the figures of a task, and what could not be judged.
fn show(task: &ShadowedTask) {
    say!("task        {}", task.task);
    say!("labels      {}", labels(&task.tally));
    if let Some(found) = &task.evaluation {
        evaluation::show(found);
    }
    let unjudged = &task.unjudged;
    if task.tally.open > 0 {
        say!(
            "not judged  {} scores whose window has not ended",
            task.tally.open
        );
    }
    if let Some(key) = &unjudged.unknown_example {
        say!(
            "not judged  {} entities of which the files have no row when they were scored, e.g. {key:?}",
            unjudged.unknown
        );
    }
    if unjudged.outside > 0 {
        say!(
            "not judged  {} scores of entities that are not in the population by the files",
            unjudged.outside
        );
    }
    if unjudged.unscored > 0 {
        say!("no score    {} rows of the population", unjudged.unscored);
    }
    if unjudged.unpaired > 0 {
        say!(
            "no score    of the challenger for {} judged rows",
            unjudged.unpaired
        );
    }
}

/// Ends the command where no task has a judged row.
fn refuse_nothing_judged(found: &Shadowed) -> Result<()> {
    if found.tasks.iter().any(|task| task.evaluation.is_some()) {
        return Ok(());
    }
    let Extent { last_ms, .. } = found.extent;
    let first_known_ms = found.tasks.iter().filter_map(|t| t.first_known_ms).min();
    match first_known_ms {
        Some(known_ms) if known_ms > last_ms => bail!(
            "nothing can be judged yet: the files end on {}, and the first window has ended with \
             its late rows on {}; come again with files up to then",
            date(last_ms),
            date(known_ms)
        ),
        _ => bail!(
            "nothing can be judged: no scored entity is in the population of its task at a moment \
             whose window has ended; check that --data has the rows of the deployment, and its \
             keys are those of the records"
        ),
    }
}
