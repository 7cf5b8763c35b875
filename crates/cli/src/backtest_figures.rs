//! Backtests over a period: the tasks that are judged, and the figures that the command and the API
//! give.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use leadpulse_features::Scorer;
use leadpulse_learn::{Baselines, Period, TaskJudgement};
use leadpulse_model::Bundle;
use leadpulse_project::TaskPlan;

use crate::commands::{LoadedHistory, tasks};

/// The tasks named; without names, those of the configuration that the bundle predicts.
///
/// # Errors
/// A name that the configuration lacks; a bundle that predicts none of the tasks.
pub fn chosen<'a>(history: &'a LoadedHistory, named: &[String]) -> Result<Vec<&'a TaskPlan>> {
    let bundle = &history.bundle;
    let mut chosen = tasks(&history.project, named)?;
    if named.is_empty() {
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

/// The job of judging a bundle from a moment on, beside the positive shares that its tasks learnt
/// from.
pub fn period_of<'a>(
    history: &'a LoadedHistory,
    tasks: &'a [&'a TaskPlan],
    base_rates: &'a [Option<f64>],
    from_ms: i64,
) -> Period<'a> {
    Period {
        project: &history.project,
        tasks,
        files: &history.files,
        scorer: &history.bundle,
        from_ms,
        baselines: Baselines {
            base_rates,
            existing_score: None,
        },
    }
}

/// The figures of a task.
pub fn judged_task(task: &TaskJudgement) -> Value {
    json!({
        "task": task.task,
        "rows": task.rows,
        "scored": task.scored,
        "evaluation": task.evaluation,
    })
}

/// Start of the bundle's test period, milliseconds; `None` for bundles without a training report.
pub fn test_from_ms(bundle: &Bundle) -> Option<i64> {
    bundle
        .manifest()
        .tasks
        .first()?
        .metrics
        .get("training")?
        .get("test_from_ms")?
        .as_i64()
}

/// The positive shares of the rows that the bundle's tasks learnt from, as its manifest has them.
pub fn base_rates(bundle: &Bundle, chosen: &[&TaskPlan]) -> Vec<Option<f64>> {
    let of_task = |task: &&TaskPlan| {
        let tasks = &bundle.manifest().tasks;
        let metrics = &tasks.iter().find(|t| t.name == task.name)?.metrics;
        let rows = metrics.get("training")?.get("rows")?;
        let count = |name: &str| rows.get(name).and_then(Value::as_f64);
        let (positive, labelled) = (count("positive")?, count("labelled")?);
        (labelled > 0.0).then(|| positive / labelled)
    };
    chosen.iter().map(of_task).collect()
}
