//! `leadpulse train`

use std::path::PathBuf;

use anyhow::Result;

use leadpulse_learn::TrainOptions;

use crate::commands::{ConfigArgument, date, parse_duration, parse_moment, task};
use crate::progress::Bar;

/// Arguments of `train`.
#[derive(clap::Args)]
pub struct Train {
    #[command(flatten)]
    config: ConfigArgument,
    /// Folder with the sources' files.
    #[arg(long)]
    data: PathBuf,
    /// The task.
    #[arg(long)]
    task: String,
    /// Training sees nothing known after this moment; validation starts here.
    #[arg(long, value_parser = parse_moment)]
    val_from: Option<i64>,
    /// Validation outcomes are known by this moment.
    #[arg(long, value_parser = parse_moment)]
    test_from: Option<i64>,
    /// Keep what was trained before validation; by default it is trained again on everything known by --test-from.
    #[arg(long)]
    no_refit: bool,
    /// No anchors this soon after the first event, e.g. 90d.
    #[arg(long, value_parser = parse_duration)]
    warmup: Option<i64>,
    /// Seed of everything random.
    #[arg(long)]
    seed: Option<u64>,
    /// Folder of the bundle.
    #[arg(long)]
    out: PathBuf,
}

impl Train {
    pub fn run(self) -> Result<()> {
        let loaded = self.config.load(&[])?;
        let project = loaded.project()?;
        let task = task(&project, &self.task)?;
        let sources = loaded.files(&project.catalog, &self.data)?;
        let mut fit = loaded.config.tasks.iter().find(|t| t.name == task.name).map(|t| t.fit.clone()).unwrap_or_default();
        if let Some(seed) = self.seed {
            fit.seed = seed;
        }
        let options = TrainOptions {
            val_from_ms: self.val_from,
            test_from_ms: self.test_from,
            warmup_ms: self.warmup,
            refit: !self.no_refit,
            fit,
            ..TrainOptions::default()
        };
        for lint in &task.plan.lints {
            tracing::warn!("{lint}");
        }
        let mut bar = Bar::new();
        let (bundle, report) = leadpulse_learn::train(&project, task, &sources, &options, &mut |p| bar.show(p))?;
        bar.finish();
        bundle.save(&self.out)?;
        println!("task        {}", task.name);
        println!(
            "history     {} … {}, {} rows, {} passed over",
            date(report.extent.first_ms),
            date(report.extent.last_ms),
            report.extent.rows,
            report.rejected
        );
        println!("training    {} examples, known by {}", report.training, date(report.split.val_from_ms));
        println!("validation  {} examples, known by {}", report.validation, date(report.split.test_from_ms));
        let manifest = bundle.manifest();
        println!("metrics     {}", serde_json::to_string_pretty(&manifest.tasks[0].metrics)?);
        println!("bundle      {} → {}", manifest.bundle_id, self.out.display());
        Ok(())
    }
}
