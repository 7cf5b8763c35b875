//! `leadpulse backtest`

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use leadpulse_features::Scorer;
use leadpulse_learn::{Period, TaskJudgement};
use leadpulse_model::Bundle;
use leadpulse_project::TaskPlan;

use crate::commands::train::labels;
use crate::commands::{History, HistoryArguments, parse_moment, tasks};
use crate::progress::Bar;

/// Arguments of `backtest`.
#[derive(clap::Args)]
pub struct Backtest {
    #[command(flatten)]
    history: HistoryArguments,
    /// Only this task; may be given several times. By default every task of the bundle.
    #[arg(long)]
    task: Vec<String>,
    /// CSV with columns `timestamp`, the entity's key and, where known, `label`; for several tasks also `task`. Without it every task is
    /// scored at its own anchors from --from on, and judged by what happened.
    #[arg(long)]
    rows: Option<PathBuf>,
    /// Without --rows: where the scored period starts; by default where the bundle's test started.
    #[arg(long, value_parser = parse_moment, conflicts_with = "rows")]
    from: Option<i64>,
    /// Nothing known after this moment is used, whatever a row's timestamp.
    #[arg(long, value_parser = parse_moment, requires = "rows")]
    freeze_at: Option<i64>,
    /// The rows with a column `probability` appended.
    #[arg(long)]
    out: PathBuf,
}

impl Backtest {
    pub fn run(self) -> Result<()> {
        let History {
            project,
            sources,
            bundle,
            ..
        } = self.history.load(&self.task)?;
        let chosen = tasks(&project, &self.task)?;
        let in_bundle = |task: &&TaskPlan| {
            !self.task.is_empty() || bundle.tasks().iter().any(|t| t.name == task.name)
        };
        let chosen: Vec<&TaskPlan> = chosen.into_iter().filter(in_bundle).collect();
        if chosen.is_empty() {
            bail!(
                "the bundle {} predicts none of the configured tasks",
                bundle.bundle_id()
            );
        }
        let create = || {
            File::create(&self.out)
                .with_context(|| format!("{} cannot be written", self.out.display()))
        };
        let mut bar = Bar::new();
        let judged: Vec<(TaskJudgement, Option<String>)> = match &self.rows {
            Some(path) => {
                let rows = File::open(path)
                    .with_context(|| format!("{} cannot be opened", path.display()))?;
                let job = leadpulse_learn::Backtest {
                    project: &project,
                    tasks: &chosen,
                    sources: &sources,
                    scorer: &bundle,
                    freeze_at_ms: self.freeze_at,
                };
                let judged =
                    leadpulse_learn::backtest(&job, rows, BufWriter::new(create()?), &mut |p| {
                        bar.show(p)
                    })?;
                judged
                    .into_iter()
                    .map(|judgement| (judgement, None))
                    .collect()
            }
            None => {
                let from_ms = self
                    .from
                    .or_else(|| test_from_ms(&bundle))
                    .context("say with --from where the scored period starts")?;
                let job = Period {
                    project: &project,
                    tasks: &chosen,
                    sources: &sources,
                    scorer: &bundle,
                    from_ms,
                };
                let judged =
                    leadpulse_learn::judge(&job, BufWriter::new(create()?), &mut |p| bar.show(p))?;
                judged
                    .into_iter()
                    .map(|(judgement, tally)| (judgement, Some(labels(&tally))))
                    .collect()
            }
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
        Ok(())
    }
}

/// Where the test of a bundle started.
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
