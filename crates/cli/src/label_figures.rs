//! The labels of a query: the query that is meant, and the counts that the command and the API give.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use leadpulse_deployment::Loaded;
use leadpulse_learn::LabelCount;
use leadpulse_project::{Anchors, Project, TaskPlan, TaskSource};
use leadpulse_schema::units::{DAY_MS_F64, Span};

use crate::nearest::known_names;

/// Moments at which the labels of a query are taken, unless something says others.
pub const DEFAULT_ANCHORS: &str = "every 30d";

/// True if a text may be meant as the name of a task: a query has a verb and a table, a name is one
/// word.
fn is_name(text: &str) -> bool {
    let text = text.trim();
    let is_word = !text.is_empty() && !text.contains(char::is_whitespace);
    is_word && !text.eq_ignore_ascii_case("predict")
}

/// The task that a text means: a configured one by its name, else the text as a query.
///
/// # Errors
/// A single word that is no name of a task.
pub fn task_source(loaded: &Loaded, text: &str, anchors: Anchors) -> Result<TaskSource> {
    let tasks = &loaded.config.tasks;
    if let Some(task) = tasks.iter().find(|task| task.name == text) {
        return Ok(TaskSource {
            name: task.name.clone(),
            query: task.query.trim().to_owned(),
            anchors: task.anchors,
            lateness_ms: task.lateness.map(Span::ms),
        });
    }
    if is_name(text) && !tasks.is_empty() {
        let known = tasks.iter().map(|task| task.name.as_str());
        bail!(
            "the configuration has no task {text:?}; {}",
            known_names(text, known)
        );
    }
    Ok(TaskSource {
        name: "query".into(),
        query: text.to_owned(),
        anchors,
        lateness_ms: None,
    })
}

/// The project of one task alone.
///
/// # Errors
/// A query with a fault.
pub fn project_of(loaded: &Loaded, source: TaskSource) -> Result<Project> {
    let graph = loaded.config.graph.clone();
    let targets = &loaded.config.targets;
    Ok(Project::new(loaded.catalog()?, graph, &[source], targets)?)
}

/// The query in words.
pub fn query_figures(project: &Project, task: &TaskPlan) -> Value {
    let plan = &task.plan;
    json!({
        "query": plan.text,
        "entity": project.catalog.table_at(plan.entity).name,
        "horizon_days": plan.horizon_ms as f64 / DAY_MS_F64,
        "meaning": plan.describe(&project.catalog),
    })
}

/// Remarks on a query, also those that only the files give rise to.
pub fn remarks(task: &TaskPlan, count: &LabelCount) -> Vec<String> {
    let of_query = task.plan.lints.iter().map(ToString::to_string);
    let extent = count.extent;
    let of_files = task.lints_on(extent.first_ms, extent.last_ms);
    of_query
        .chain(of_files.iter().map(ToString::to_string))
        .chain(count.remarks.iter().cloned())
        .collect()
}

/// The counts of a task's labels.
pub fn label_figures(task: &TaskPlan, count: &LabelCount) -> Value {
    let tally = &count.tally;
    json!({
        "from": count.extent.first_ms,
        "until": count.extent.last_ms,
        "rule": String::from(task.anchors),
        "anchors": count.anchors,
        "asked": tally.asked,
        "labelled": tally.labelled,
        "positive": tally.positive,
        "base_rate": tally.base_rate(),
        "entities": tally.entities,
        "positive_entities": tally.positive_entities,
        "open": tally.open,
        "dropped": tally.dropped,
        "rows": tally.rows,
        "unowned_rows": tally.unowned_rows,
        "unowned_example": tally.unowned_example,
    })
}
