//! `leadpulse backtest`

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use leadpulse_features::Scorer;
use leadpulse_learn::{DataReport, Period, TaskJudgement};
use leadpulse_model::Bundle;
use leadpulse_project::TaskPlan;

use crate::commands::train::labels;
use crate::commands::{HistoryArguments, LoadedHistory, parse_moment, tasks};
use crate::data_report::data_report;
use crate::progress::Bar;

/// Arguments of `backtest`.
#[derive(clap::Args)]
pub struct BacktestArguments {
    #[command(flatten)]
    history: HistoryArguments,
    /// Only this task; may be given several times. By default every task of the bundle.
    #[arg(long)]
    task: Vec<String>,
    /// CSV with columns `timestamp`, the entity's key and, where known, `label`; for several tasks
    /// also `task`. Without it every task is scored at its own anchors from --from on, and judged
    /// by what happened.
    #[arg(long)]
    rows: Option<PathBuf>,
    /// Without --rows: the start of the scored period; by default the start of the bundle's test.
    #[arg(long, value_parser = parse_moment, conflicts_with = "rows")]
    from: Option<i64>,
    /// Nothing known after this moment is used, whatever a row's timestamp.
    #[arg(long, value_parser = parse_moment, requires = "rows")]
    freeze_at: Option<i64>,
    /// The rows with a column `probability` appended.
    #[arg(long)]
    out: PathBuf,
}

/// A task's figures, with its labels in words where they were computed here.
type JudgedTask = (TaskJudgement, Option<String>);

impl BacktestArguments {
    pub fn run(self) -> Result<()> {
        let history = self.history.load(&self.task)?;
        let chosen = self.chosen(&history)?;
        let mut bar = Bar::new();
        let (judged, data) = match &self.rows {
            Some(path) => self.score_rows(path, &history, &chosen, &mut bar)?,
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
        say!(
            "{}",
            data_report(&history.project.catalog, &data).trim_end()
        );
        Ok(())
    }

    /// The tasks named; without names, those of the configuration that the bundle predicts.
    fn chosen<'a>(&self, history: &'a LoadedHistory) -> Result<Vec<&'a TaskPlan>> {
        let bundle = &history.bundle;
        let mut chosen = tasks(&history.project, &self.task)?;
        if self.task.is_empty() {
            chosen.retain(|task| bundle.tasks().iter().any(|t| t.name == task.name));
        }
        if chosen.is_empty() {
            bail!(
                "the bundle {} predicts none of the configured tasks",
                bundle.bundle_id()
            );
        }
        Ok(chosen)
    }

    fn create(&self) -> Result<BufWriter<File>> {
        let file = File::create(&self.out)
            .with_context(|| format!("{} cannot be written", self.out.display()))?;
        Ok(BufWriter::new(file))
    }

    /// Scores and judges the rows of a file.
    fn score_rows(
        &self,
        path: &Path,
        history: &LoadedHistory,
        chosen: &[&TaskPlan],
        bar: &mut Bar,
    ) -> Result<(Vec<JudgedTask>, DataReport)> {
        let rows =
            File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
        let job = leadpulse_learn::Backtest {
            project: &history.project,
            tasks: chosen,
            files: &history.files,
            scorer: &history.bundle,
            freeze_at_ms: self.freeze_at,
        };
        let judged = leadpulse_learn::backtest(&job, rows, self.create()?, &mut |p| bar.show(p))?;
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
        let job = Period {
            project: &history.project,
            tasks: chosen,
            files: &history.files,
            scorer: &history.bundle,
            from_ms,
        };
        let judged = leadpulse_learn::judge(&job, self.create()?, &mut |p| bar.show(p))?;
        let tasks = judged.tasks.into_iter();
        let tasks = tasks.map(|(task, tally)| (task, Some(labels(&tally))));
        Ok((tasks.collect(), judged.data))
    }
}

/// Start of the bundle's test period, milliseconds; `None` for bundles without a training report.
fn test_from_ms(bundle: &Bundle) -> Option<i64> {
    bundle
        .manifest()
        .tasks
        .first()?
        .metrics
        .get("training")?
        .get("test_from_ms")?
        .as_i64()
}

fn show(judged: &TaskJudgement) {
    say!(
        "rows    {} ({} scored, {} of entities not known yet)",
        judged.rows,
        judged.scored,
        judged.rows - judged.scored
    );
    let show = |x: Option<f64>| x.map_or("–".into(), |x| format!("{x:.4}"));
    if let Some(m) = &judged.binary {
        say!(
            "base    {:.4} ({} positive)",
            m.positives as f64 / m.rows as f64,
            m.positives
        );
        say!("AUROC   {}", show(m.auroc));
        say!("AP      {}", show(m.average_precision));
        say!("logloss {:.4}", m.log_loss);
        say!("ECE     {:.4}", m.ece);
        say!("lift@20 {}", show(m.lift_at_20_percent));
        say!(
            "p@2/5/10 {:.4} {:.4} {:.4}",
            m.precision_at_2_percent,
            m.precision_at_5_percent,
            m.precision_at_10_percent
        );
    }
    if let Some(m) = &judged.regression {
        say!("MAE     {:.4} ({:.4} of log1p)", m.mae, m.mae_log1p);
        say!("Spearman {}", show(m.spearman));
    }
}
