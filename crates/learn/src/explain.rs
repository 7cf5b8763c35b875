//! Explanations of past scores: entities as of a moment, each with its score, contributions and
//! evidence.

use leadpulse_features::{Evidence, Explanation, Scorer};
use leadpulse_graph::{CellRef, Graph, Node};

use crate::data_report::DataReport;
use crate::predict::Bound;
use crate::walk::Walk;
use crate::{LearnError, Progress};
use leadpulse_history::Files;
use leadpulse_project::{Project, TaskPlan};
use leadpulse_schema::units::AsOf;

/// The job of explaining: a bundle, a task, and a past moment.
pub struct Explain<'a> {
    pub project: &'a Project,
    pub task: &'a TaskPlan,
    pub files: &'a Files,
    pub scorer: &'a dyn Scorer,
    /// The moment, milliseconds: nothing known later is used.
    pub as_of: AsOf,
}

/// An entity at the moment.
#[derive(Clone, Debug, PartialEq)]
pub struct PastExplanation {
    pub key: String,
    /// The reason that the task does not score it, in words; `None` for one that it scores.
    pub absence: Option<String>,
    /// The score and its reasons, also outside the task's population; `None` for an entity that was
    /// merged into another.
    pub why: Option<Why>,
}

/// The findings of [`explain`].
#[derive(Clone, Debug)]
pub struct Explained {
    /// In the order of the keys.
    pub entities: Vec<PastExplanation>,
    /// What became of the rows of the files.
    pub data: DataReport,
}

/// A score and its reasons.
#[derive(Clone, Debug, PartialEq)]
pub struct Why {
    /// Calibrated probability; of a regression the number predicted.
    pub probability: f64,
    /// The logit, and what each group of the scorer's layout adds to it.
    pub explanation: Explanation,
    /// The evidence of each group, in the layout's order.
    pub evidence: Vec<Evidence>,
}

/// Explains entities of the task's table, in the order of their keys as given.
///
/// # Errors
/// [`LearnError::NotKnown`] names every key that nothing was known about; further the bundle lacks
/// the task, or a file cannot be read.
pub fn explain(
    job: &Explain<'_>,
    keys: &[String],
    progress: &mut dyn FnMut(Progress),
) -> Result<Explained, LearnError> {
    let Explain {
        project,
        task,
        files,
        scorer,
        as_of,
    } = *job;
    let bound = Bound::new(scorer, task)?;
    let mut walk = Walk::new(project, files, i64::MAX)?;
    walk.reach(as_of.ms(), progress)?;
    let graph = walk.graph();
    let found = keys.iter().map(|key| {
        let normal = project.catalog.normalised_key(task.plan.entity, key);
        graph
            .find(task.plan.entity, &normal)
            .filter(|(_, node)| graph.exists(node))
            .ok_or(key)
    });
    let (known, unknown): (Vec<_>, Vec<_>) = found.partition(Result::is_ok);
    if !unknown.is_empty() {
        let keys: Vec<&str> = unknown
            .into_iter()
            .filter_map(Result::err)
            .map(String::as_str)
            .collect();
        return Err(LearnError::NotKnown {
            table: project.catalog.table_at(task.plan.entity).name.clone(),
            keys: keys.join(", "),
        });
    }
    let told = keys
        .iter()
        .zip(known.into_iter().flatten())
        .map(|(key, (at, node))| {
            let absence = graph.absence(graph.cell(at), node, as_of, &task.population);
            let absence = absence.map(|why| graph.absence_words(node.entity, why));
            let why = if node.is_merged() {
                None
            } else {
                why(graph, &bound, at, node, as_of)
            };
            PastExplanation {
                key: key.clone(),
                absence,
                why,
            }
        });
    Ok(Explained {
        entities: told.collect(),
        data: walk.report(files),
    })
}

fn why(graph: &Graph, bound: &Bound<'_>, at: CellRef, node: &Node, as_of: AsOf) -> Option<Why> {
    let plan = bound.scorer.plan();
    let table = bound.task.plan.entity;
    let features = plan.encode(graph, &[at], as_of, &[table]);
    let (_, slot) = plan.row_of(&features, table, 0, node.entity)?;
    let explanation = bound.scorer.explain(&features, bound.index, 0, slot);
    let evidence = plan.evidence(graph, at, node.entity, as_of);
    Some(Why {
        probability: bound.predicted(explanation.logit),
        explanation,
        evidence,
    })
}
