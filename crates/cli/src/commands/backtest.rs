//! `leadpulse backtest`

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use leadpulse_features::Scorer;
use leadpulse_learn::{
    Baselines, DataReport, GivenColumns, GivenRows, OutTable, Report, TaskEvaluation, TaskJudgement,
};
use leadpulse_project::TaskPlan;

use crate::backtest_figures::{base_rates, chosen, judged_task, period_of, test_from_ms};
use crate::commands::given::RowsArguments;
use crate::commands::train::labels;
use crate::commands::{HistoryArguments, LoadedHistory, parse_moment};
use crate::data_report::data_report;
use crate::evaluation;
use crate::output::JsonArgument;
use crate::progress::Bar;

/// Arguments of `backtest`.
#[derive(clap::Args)]
pub struct BacktestArguments {
    #[command(flatten)]
    history: HistoryArguments,
    /// Only this task; may be given several times. By default every task of the bundle.
    #[arg(long)]
    task: Vec<String>,
    #[command(flatten)]
    rows: RowsArguments,
    /// Column of the task of each row, with --rows and several tasks; by default `task`.
    #[arg(long, value_name = "NAME", requires = "rows")]
    task_column: Option<String>,
    /// Without --rows: the start of the scored period; by default the start of the bundle's test.
    #[arg(long, value_parser = parse_moment, conflicts_with = "rows")]
    from: Option<i64>,
    /// Nothing known after this moment is used, whatever a row's timestamp.
    #[arg(long, value_parser = parse_moment, requires = "rows")]
    freeze_at: Option<i64>,
    /// Column TABLE.FIELD of points that scores are compared with in the report: of the task's
    /// entity, or of its account.
    #[arg(long, value_name = "TABLE.FIELD")]
    existing_score: Option<String>,
    /// Folder of report.html and report.json; by default that of --out.
    #[arg(long, value_name = "FOLDER")]
    report: Option<PathBuf>,
    /// The scores, Parquet or CSV by the ending: the rows of --rows with a column `probability`
    /// appended, else one row for each task, moment and entity whose outcome is known.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    json: JsonArgument,
}

/// A task's figures, with its labels in words where they were computed here.
type JudgedTask = (TaskJudgement, Option<String>);

impl BacktestArguments {
    pub fn run(self) -> Result<()> {
        self.json.begin();
        let history = self.history.load(&self.task)?;
        let chosen = chosen(&history, &self.task)?;
        let mut bar = Bar::new();
        let others = GivenColumns {
            task: self.task_column.clone(),
            ..GivenColumns::default()
        };
        let rows = self.rows.read(others, &history.project, &chosen)?;
        let (judged, data) = match &rows {
            Some(rows) => self.score_rows(rows, &history, &chosen, &mut bar)?,
            None => self.score_period(&history, &chosen, &mut bar)?,
        };
        bar.finish();
        for (judgement, labels) in &judged {
            if judged.len() > 1 {
                say!("task    {}", judgement.task);
            }
            show(judgement);
            if let Some(labels) = labels {
                say!("labels  {labels}");
            }
        }
        say!("written {}", self.out.display());
        self.write_report(&judged, history.bundle.bundle_id())?;
        say!(
            "{}",
            data_report(&history.project.catalog, &data).trim_end()
        );
        self.json.print(|| {
            let tasks: Vec<_> = judged.iter().map(|(task, _)| judged_task(task)).collect();
            Ok(json!({
                "bundle": history.bundle.bundle_id(),
                "out": self.out,
                "tasks": tasks,
            }))
        })
    }

    /// Writes the report of the tasks whose outcomes are known.
    fn write_report(&self, judged: &[JudgedTask], bundle: &str) -> Result<()> {
        let evaluations = judged
            .iter()
            .filter_map(|(task, _)| task.evaluation.clone());
        let tasks: Vec<TaskEvaluation> = evaluations.collect();
        if tasks.is_empty() {
            say!(
                "no outcome is known, so nothing is judged and there is no report: the rows need a \
                 column `label`, or name theirs with --label-column"
            );
            return Ok(());
        }
        let report = Report {
            title: "Backtest".to_owned(),
            bundle: bundle.to_owned(),
            tasks,
        };
        let beside = self.out.parent().unwrap_or(Path::new(""));
        let folder = self.report.as_deref().unwrap_or(beside);
        std::fs::create_dir_all(if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        })
        .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
        evaluation::write(&report, folder)
    }

    /// Scores and judges the rows of a file.
    fn score_rows(
        &self,
        rows: &GivenRows,
        history: &LoadedHistory,
        chosen: &[&TaskPlan],
        bar: &mut Bar,
    ) -> Result<(Vec<JudgedTask>, DataReport)> {
        let job = leadpulse_learn::Backtest {
            project: &history.project,
            tasks: chosen,
            files: &history.files,
            scorer: &history.bundle,
            freeze_at_ms: self.freeze_at,
            baselines: Baselines {
                base_rates: &base_rates(&history.bundle, chosen),
                existing_score: self.existing_score.as_deref(),
            },
        };
        let out = OutTable::create(&self.out)?;
        let judged = leadpulse_learn::backtest(&job, rows, out, &mut |p| bar.show(p))?;
        let tasks = judged.tasks.into_iter().map(|task| (task, None)).collect();
        Ok((tasks, judged.data))
    }

    /// Scores every task at its own anchors of a period, and judges the scores by what happened.
    fn score_period(
        &self,
        history: &LoadedHistory,
        chosen: &[&TaskPlan],
        bar: &mut Bar,
    ) -> Result<(Vec<JudgedTask>, DataReport)> {
        let from_ms = self
            .from
            .or_else(|| test_from_ms(&history.bundle))
            .context("say with --from where the scored period starts")?;
        let base_rates = base_rates(&history.bundle, chosen);
        let mut job = period_of(history, chosen, &base_rates, from_ms);
        job.baselines.existing_score = self.existing_score.as_deref();
        let out = OutTable::create(&self.out)?;
        let judged = leadpulse_learn::judge(&job, out, &mut |p| bar.show(p))?;
        let tasks = judged.tasks.into_iter();
        let tasks = tasks.map(|(task, tally)| (task, Some(labels(&tally))));
        Ok((tasks.collect(), judged.data))
    }
}

fn show(judged: &TaskJudgement) {
    say!(
        "rows    {} ({} scored, {} of entities not known yet)",
        judged.rows,
        judged.scored,
        judged.rows - judged.scored
    );
    if let Some(m) = &judged.binary {
        say!(
            "base    {:.4} ({} positive)",
            m.positives as f64 / m.rows as f64,
            m.positives
        );
        let lift = m.lift_at_20_percent;
        say!(
            "short   lift@20 % {}, precision@2/5/10 % {:.4} {:.4} {:.4}",
            lift.map_or("–".into(), |x| format!("{x:.4}")),
            m.precision_at_2_percent,
            m.precision_at_5_percent,
            m.precision_at_10_percent
        );
    }
    if let Some(found) = &judged.evaluation {
        evaluation::show(found);
    }
}
