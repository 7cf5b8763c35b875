//! The project of a deployment: the catalog, the graph's options, the tasks. Shared by training,
//! backtests and the engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use leadpulse_features::{FeaturePlan, FeatureSpec};
use leadpulse_graph::{Graph, GraphOptions, Tracking};
use leadpulse_pql::{Diagnostic, HistoryExtent, Lint, Plan, parse, plan};
use leadpulse_schema::{Catalog, DayWindow, Population};

use crate::anchors::Anchors;

/// A task as configured.
#[derive(Clone, Debug)]
pub struct TaskSource {
    pub name: String,
    /// The query in PQL.
    pub query: String,
    /// The moments at which training examples are taken.
    pub anchors: Anchors,
    /// The time after the end of a window until its outcome counts as known, milliseconds; `None`
    /// where the observed lateness of rows decides.
    pub lateness_ms: Option<i64>,
}

/// A task, planned and bound to the graph.
#[derive(Clone, Debug)]
pub struct TaskPlan {
    pub name: String,
    /// The query as configured.
    pub query: String,
    pub plan: Plan,
    /// The plan's population, its windows bound to the graph's day counters.
    pub population: Population,
    /// The moments at which training examples are taken.
    pub anchors: Anchors,
    /// The time after the end of a window until its outcome counts as known, milliseconds; `None`
    /// where the observed lateness of rows decides.
    pub lateness_ms: Option<i64>,
}

impl TaskPlan {
    /// Remarks on the query that depend on the history it is to be trained on: known times of its
    /// first event and its last row.
    pub fn lints_on(&self, first_ms: i64, last_ms: i64) -> Vec<Lint> {
        self.plan.lints_on(HistoryExtent {
            first_ms,
            last_ms,
            stride_ms: self.anchors.stride_ms(),
        })
    }
}

/// Catalog, graph options and tasks that belong together.
#[derive(Clone, Debug)]
pub struct Project {
    pub catalog: Arc<Catalog>,
    /// The graph's options, day counters of all populations included.
    pub graph_options: GraphOptions,
    /// The tasks, in order of configuration.
    pub tasks: Vec<TaskPlan>,
}

/// A query that cannot be planned, rendered for people.
#[derive(Debug, Clone, thiserror::Error)]
#[error("task {task:?}:\n{rendered}")]
pub struct QueryError {
    pub task: String,
    /// The diagnostic, with line, column, caret and hint.
    pub rendered: String,
}

impl Project {
    /// Plans the tasks against the schemas. Every configured task's windows are counted, whatever a
    /// bundle predicts, so that state does not depend on a model.
    pub fn new(
        catalog: Arc<Catalog>,
        mut graph_options: GraphOptions,
        tasks: &[TaskSource],
        names: &BTreeMap<String, String>,
    ) -> Result<Self, QueryError> {
        let mut planned = Vec::new();
        for task in tasks {
            let fail = |d: Diagnostic| QueryError {
                task: task.name.clone(),
                rendered: d.render(&task.query),
            };
            let plan = parse(&task.query)
                .and_then(|q| plan(&q, &catalog, names))
                .map_err(fail)?;
            let mut population = plan.population.clone();
            let bound: Vec<usize> = population
                .counters
                .drain(..)
                .map(|counter| {
                    let counters = &mut graph_options.day_counters;
                    counters
                        .iter()
                        .position(|c| *c == counter)
                        .unwrap_or_else(|| {
                            counters.push(counter);
                            counters.len() - 1
                        })
                })
                .collect();
            for window in &mut population.windows {
                window.counter = bound[window.counter];
            }
            planned.push(TaskPlan {
                name: task.name.clone(),
                query: task.query.clone(),
                plan,
                population,
                anchors: task.anchors,
                lateness_ms: task.lateness_ms,
            });
        }
        let mut project = Self {
            catalog,
            graph_options,
            tasks: planned,
        };
        project.order_counters();
        Ok(project)
    }

    /// Puts the day counters in one order, whatever the order of the tasks: a graph fits every list of
    /// tasks that needs the same counters.
    fn order_counters(&mut self) {
        let counters = std::mem::take(&mut self.graph_options.day_counters);
        let mut order: Vec<usize> = (0..counters.len()).collect();
        // The Debug form names all that tells two counters apart.
        order.sort_by_cached_key(|index| format!("{:?}", counters[*index]));
        let mut place = vec![0; counters.len()];
        for (at, index) in order.iter().enumerate() {
            place[*index] = at;
        }
        for task in &mut self.tasks {
            for window in &mut task.population.windows {
                window.counter = place[window.counter];
            }
        }
        let ordered = order.into_iter().map(|index| counters[index].clone());
        self.graph_options.day_counters = ordered.collect();
    }

    /// The task of this name.
    pub fn task(&self, name: &str) -> Option<&TaskPlan> {
        self.tasks.iter().find(|t| t.name == name)
    }

    /// Creates an empty graph that counts the windows of all tasks.
    pub fn graph(&self, tracking: Tracking) -> Graph {
        let windows: Vec<DayWindow> = self
            .tasks
            .iter()
            .flat_map(|t| t.population.windows.iter().copied())
            .collect();
        Graph::new(
            self.catalog.clone(),
            self.graph_options.clone(),
            windows,
            tracking,
        )
    }

    /// The plan that encodes cells under given vocabularies.
    pub fn feature_plan(&self, spec: FeatureSpec) -> FeaturePlan {
        FeaturePlan::new(self.catalog.clone(), &self.graph_options, spec)
    }
}
