//! `leadpulse backtest`

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::commands::{ConfigArgument, load_bundle, parse_moment, task};
use crate::progress::Bar;

/// Arguments of `backtest`.
#[derive(clap::Args)]
pub struct Backtest {
    #[command(flatten)]
    config: ConfigArgument,
    /// Folder with the sources' files.
    #[arg(long)]
    data: PathBuf,
    /// Folder of the bundle.
    #[arg(long)]
    model: PathBuf,
    /// The task.
    #[arg(long)]
    task: String,
    /// CSV with columns `timestamp`, the entity's key and, where known, `label`.
    #[arg(long)]
    rows: PathBuf,
    /// Nothing known after this moment is used, whatever a row's timestamp.
    #[arg(long, value_parser = parse_moment)]
    freeze_at: Option<i64>,
    /// The rows with a column `probability` appended.
    #[arg(long)]
    out: PathBuf,
}

impl Backtest {
    pub fn run(self) -> Result<()> {
        let loaded = self.config.load(&[])?;
        let project = loaded.project()?;
        let task = task(&project, &self.task)?;
        let sources = loaded.files(&project.catalog, &self.data)?;
        let bundle = load_bundle(&project, &self.model)?;
        let rows = File::open(&self.rows).with_context(|| format!("{} cannot be opened", self.rows.display()))?;
        let out = File::create(&self.out).with_context(|| format!("{} cannot be written", self.out.display()))?;
        let job = leadpulse_learn::Backtest { project: &project, task, sources: &sources, scorer: &bundle, freeze_at_ms: self.freeze_at };
        let mut bar = Bar::new();
        let report = leadpulse_learn::backtest(&job, rows, BufWriter::new(out), &mut |p| bar.show(p))?;
        bar.finish();
        println!("rows    {} ({} scored, {} of entities not known yet)", report.rows, report.scored, report.rows - report.scored);
        if let Some(m) = &report.binary {
            let show = |x: Option<f64>| x.map_or("–".into(), |x| format!("{x:.4}"));
            println!("base    {:.4} ({} positive)", m.positives as f64 / m.rows as f64, m.positives);
            println!("AUROC   {}", show(m.auroc));
            println!("AP      {}", show(m.average_precision));
            println!("logloss {:.4}", m.log_loss);
            println!("ECE     {:.4}", m.ece);
            println!("lift@20 {}", show(m.lift_at_20_percent));
            println!("p@2/5/10 {:.4} {:.4} {:.4}", m.precision_at_2_percent, m.precision_at_5_percent, m.precision_at_10_percent);
        }
        if let Some(m) = &report.regression {
            println!("MAE     {:.4}", m.mae);
            println!("Spearman {}", m.spearman.map_or("–".into(), |x| format!("{x:.4}")));
        }
        println!("written {}", self.out.display());
        Ok(())
    }
}
