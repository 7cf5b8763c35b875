//! `leadpulse models compare`

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use leadpulse_deployment::{Loaded, ModelRegistry, load_bundle};
use leadpulse_features::Scorer;
use leadpulse_learn::{Comparison, compare};
use leadpulse_model::{Bundle, Manifest, TaskManifest};
use leadpulse_project::{Project, TaskPlan};

use crate::backtest_figures::test_from_ms;
use crate::commands::{Allowance, ConfigArgument, parse_moment};
use crate::evaluation::show_against;
use crate::progress::Bar;

/// Arguments of `models compare`.
#[derive(clap::Args)]
pub struct CompareArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Id of a bundle, the start of one, `champion` or `challenger`.
    model: String,
    /// The bundle to compare it with.
    other: String,
    /// Folder with the sources' files: both bundles are judged on the same rows of them.
    #[arg(long)]
    data: Option<PathBuf>,
    #[command(flatten)]
    allowance: Allowance,
    /// With --data: the start of the scored period; by default the later one of both bundles' tests.
    #[arg(long, value_parser = parse_moment, requires = "data")]
    from: Option<i64>,
    /// JSON: the figures of both manifests and, with --data, of the comparison.
    #[arg(long)]
    json: bool,
}

/// Figures of a manifest that are compared, with the sections of the metrics they stand in.
const FIGURES: [(&str, &str); 6] = [
    ("validation", "auroc"),
    ("validation", "average_precision"),
    ("validation", "log_loss"),
    ("validation", "ece"),
    ("validation", "spearman"),
    ("validation", "mae"),
];

impl CompareArguments {
    pub fn run(self) -> Result<()> {
        let loaded = self.config.load(&[])?;
        let registry = loaded.models()?;
        let models = [
            registry.find(&self.model)?.manifest,
            registry.find(&self.other)?.manifest,
        ];
        let judged = match &self.data {
            Some(data) => self.judge(&loaded, &registry, &models, data)?,
            None => Vec::new(),
        };
        if self.json {
            let sides = models.each_ref().map(side);
            let judged: Vec<Value> = judged
                .iter()
                .map(|one| json!({ "task": one.task, "against": one.against }))
                .collect();
            say!("{:#}", json!({ "models": sides, "judged": judged }));
            return Ok(());
        }
        let [first, second] = &models;
        say!("{:<26} {:<18} {}", "", first.bundle_id, second.bundle_id);
        for task in &first.tasks {
            show(task, second);
        }
        for one in judged {
            say!("judged      {}", one.task);
            match &one.against {
                Some(found) => show_against(found),
                None => say!("  none       no row that both have scored, or outcomes are numbers"),
            }
        }
        Ok(())
    }

    /// Scores both bundles on the files.
    fn judge(
        &self,
        loaded: &Loaded,
        registry: &ModelRegistry,
        models: &[Manifest; 2],
        data: &std::path::Path,
    ) -> Result<Vec<leadpulse_learn::ComparedTask>> {
        let project = loaded.project()?;
        let [first, second] = models
            .each_ref()
            .map(|model| registry.bundle_dir(&model.bundle_id));
        let bundles: [Bundle; 2] = [
            load_bundle(&project, &first)?,
            load_bundle(&project, &second)?,
        ];
        let tests = bundles.iter().filter_map(test_from_ms).max();
        let from_ms = self
            .from
            .or(tests)
            .context("say with --from where the scored period starts")?;
        let tasks = shared_tasks(&project, &bundles)?;
        let files = self.allowance.open(loaded, &project.catalog, data)?;
        let [first, second] = &bundles;
        let job = Comparison {
            project: &project,
            tasks: &tasks,
            files: &files,
            scorers: [
                (first.bundle_id(), first as &dyn Scorer),
                (second.bundle_id(), second as &dyn Scorer),
            ],
            from_ms,
        };
        let mut bar = Bar::new();
        let compared = compare(&job, &mut |p| bar.show(p))?;
        bar.finish();
        Ok(compared)
    }
}

/// The tasks that both bundles predict.
fn shared_tasks<'a>(project: &'a Project, bundles: &[Bundle; 2]) -> Result<Vec<&'a TaskPlan>> {
    let predicts =
        |bundle: &Bundle, task: &TaskPlan| bundle.tasks().iter().any(|t| t.name == task.name);
    let tasks: Vec<&TaskPlan> = project
        .tasks
        .iter()
        .filter(|task| bundles.iter().all(|bundle| predicts(bundle, task)))
        .collect();
    anyhow::ensure!(
        !tasks.is_empty(),
        "no configured task is in both bundles; compare bundles that share one"
    );
    Ok(tasks)
}

/// The figures of a task that its manifest has.
pub fn figures(task: &TaskManifest) -> Vec<(&'static str, f64)> {
    let of = |(section, name): (&str, &'static str)| {
        let section = task.metrics.get(section)?;
        Some((name, section.get(name)?.as_f64()?))
    };
    FIGURES.into_iter().filter_map(of).collect()
}

fn show(task: &TaskManifest, other: &Manifest) {
    say!("task        {}", task.name);
    let theirs = other.tasks.iter().find(|other| other.name == task.name);
    let grade = |task: Option<&TaskManifest>| {
        let quality = task.and_then(|task| task.quality.as_ref());
        quality.map_or("–", |quality| quality.grade.words())
    };
    say!(
        "  {:<24} {:<18} {}",
        "grade",
        grade(Some(task)),
        grade(theirs)
    );
    let theirs = theirs.map(figures).unwrap_or_default();
    for (name, figure) in figures(task) {
        let other = theirs.iter().find(|(of, _)| *of == name);
        let other = other.map_or("–".to_owned(), |(_, figure)| format!("{figure:.4}"));
        say!("  {name:<24} {figure:<18.4} {other}");
    }
}

fn side(model: &Manifest) -> Value {
    let task = |task: &TaskManifest| {
        let figures = figures(task).into_iter();
        let figures: serde_json::Map<String, Value> = figures
            .map(|(name, figure)| (name.to_owned(), figure.into()))
            .collect();
        json!({
            "task": task.name,
            "grade": task.quality.as_ref().map(|quality| quality.grade.code()),
            "figures": figures,
        })
    };
    json!({
        "bundle": model.bundle_id,
        "tasks": model.tasks.iter().map(task).collect::<Vec<_>>(),
    })
}
