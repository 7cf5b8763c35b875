//! Everything that is given to a worker: configuration, bundle, catalog, tasks. Never changed,
//! only replaced between two epochs.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use leadpulse_features::{AlertFactPlan, Scorer};
use leadpulse_graph::{Graph, GraphOptions};
use leadpulse_policy::{ActionTable, Caps, Policy, PolicyError, WorkLists};
use leadpulse_records::{EventHeaders, vocabulary};
use leadpulse_schema::units::at_or_after;
use leadpulse_schema::{Catalog, Population, TableId, hex};

use super::erased::ErasureKey;
use crate::encoders::OutputEncoders;
use crate::ports::{InputPartition, NextOffset};

/// The program, as epoch records name it.
pub(super) const PROGRAM: &str = concat!("leadpulse/", env!("CARGO_PKG_VERSION"));

/// Something to predict, as the engine needs it.
#[derive(Debug)]
pub struct Task {
    /// Name of the task in the configuration and in the bundle.
    pub name: Arc<str>,
    /// Table of the entities scored.
    pub entity: TableId,
    /// The entities to score. Windows of the filter index the graph's day counters.
    pub population: Population,
    /// Bands, emission and alerts of the task's scores.
    pub policy: Policy,
    /// The query, for records.
    pub query: String,
}

/// Everything given to a worker, checked against each other once. See DESIGN: deployed version.
pub struct Deployed {
    pub(super) catalog: Arc<Catalog>,
    pub(super) fingerprint: String,
    pub(super) worker: String,
    pub(super) headers: EventHeaders,
    pub(super) graph_options: GraphOptions,
    pub(super) tasks: Vec<Task>,
    pub(super) scorer: Arc<dyn Scorer>,
    /// Task → index among the scorer's tasks.
    pub(super) scorer_tasks: Vec<usize>,
    /// Recommended actions, by task.
    pub(super) actions: Vec<ActionTable>,
    /// Readings of the facts that alerts are decided by, by task.
    pub(super) facts: Vec<AlertFactPlan>,
    pub(super) encoders: Arc<OutputEncoders>,
    pub(super) soft_budget: usize,
    /// Distance of two ticks, milliseconds.
    pub(super) tick_ms: i64,
    pub(super) explain_budget: usize,
    pub(super) explain_top: usize,
    pub(super) current_scores: bool,
    pub(super) caps: Caps,
    pub(super) work_lists: WorkLists,
    pub(super) erasure_key: ErasureKey,
    pub(super) exports_spans: bool,
    /// Digests of the tasks' policies with the caps, hexadecimal.
    pub(super) policy_digests: Vec<Arc<str>>,
    /// Digest of the release that the version comes from.
    release: Option<Arc<str>>,
    digest: String,
    shape: StateShape,
}

/// Reasons why a machine cannot be built.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MachineError {
    /// The bundle does not know a configured task.
    #[error(
        "the bundle {bundle} has no task {task:?} (it has: {known}); train it with this task, or remove the task from the configuration"
    )]
    NoSuchTask {
        bundle: String,
        task: String,
        /// Names of the bundle's tasks, for the reader of the message.
        known: String,
    },
    /// The bundle's task is about another table.
    #[error(
        "task {task:?} is about {configured} in the configuration and about {trained} in the bundle; train it again"
    )]
    OtherEntity {
        task: String,
        /// Table in the configuration.
        configured: String,
        /// Table in the bundle.
        trained: String,
    },
    /// A rule of a task's actions names something that neither the data nor the bundle has.
    #[error("task {task:?}: {source}")]
    Actions {
        task: String,
        /// The name, and the names that exist.
        source: PolicyError,
    },
    /// The facts of a task's alerts name something that the data lack.
    #[error("task {task:?}: {source}")]
    Facts {
        task: String,
        /// The name, and the names that exist.
        source: PolicyError,
    },
}

/// The parts of a machine: [`Deployed`] before checks, and the state to start from.
pub struct MachineParts {
    /// Identifies the worker in epoch records.
    pub worker: String,
    /// Fingerprint of the input schemas.
    pub fingerprint: String,
    /// An empty graph that tracks changes.
    pub graph: Graph,
    /// The tasks to score, in the order of records.
    pub tasks: Vec<Task>,
    /// The loaded bundle. It must know all of `tasks`.
    pub scorer: Arc<dyn Scorer>,
    /// Encoders of all output topics.
    pub encoders: Arc<OutputEncoders>,
    /// Input partitions, in order.
    pub partitions: Vec<InputPartition>,
    /// First offset of each partition.
    pub start: Vec<NextOffset>,
    /// Token of the process start ([`Sink::owner`](crate::ports::Sink::owner)).
    pub owner: String,
    /// See [`crate::EngineOptions::soft_budget`].
    pub soft_budget: usize,
    /// See [`crate::EngineOptions::explain_budget`].
    pub explain_budget: usize,
    /// See [`crate::EngineOptions::explain_top`].
    pub explain_top: usize,
    /// See [`crate::EngineOptions::tick_ms`].
    pub tick_ms: i64,
    /// True if [`Output::CurrentScores`](crate::ports::Output::CurrentScores) is written.
    pub current_scores: bool,
    /// The most alerts that a person gets on a day.
    pub caps: Caps,
    /// The lists of what each person should work on next.
    pub work_lists: WorkLists,
    /// The secret by which erased subjects are recognised.
    pub erasure_key: ErasureKey,
    /// True if spans of committed epochs are exported: headers say so, and epochs note the traces of
    /// their records.
    pub exports_spans: bool,
    /// Digest of the release that the version comes from; `None` for one that was put together at a
    /// start.
    pub release: Option<Arc<str>>,
}

impl MachineParts {
    /// Separates the given from the known, and checks the given.
    ///
    /// # Errors
    /// If bundle, tasks and actions do not fit each other.
    pub(super) fn split(self) -> Result<(Deployed, WorkerStart), MachineError> {
        let catalog = self.graph.catalog().clone();
        let found = scorer_tasks(&self.tasks, self.scorer.as_ref(), &catalog)?;
        let actions = action_tables(&self.tasks, self.scorer.as_ref(), &catalog)?;
        let facts = fact_plans(&self.tasks, &self.graph)?;
        let graph_options = self.graph.shared().options.clone();
        let mut given = Deployed {
            policy_digests: policy_digests(&self.tasks, &self.caps),
            catalog,
            fingerprint: self.fingerprint,
            headers: EventHeaders::of_worker(&self.worker, self.exports_spans),
            exports_spans: self.exports_spans,
            worker: self.worker,
            graph_options,
            tasks: self.tasks,
            scorer: self.scorer,
            scorer_tasks: found,
            actions,
            facts,
            encoders: self.encoders,
            soft_budget: self.soft_budget,
            explain_budget: self.explain_budget,
            explain_top: self.explain_top,
            tick_ms: self.tick_ms,
            current_scores: self.current_scores,
            caps: self.caps,
            work_lists: self.work_lists,
            erasure_key: self.erasure_key,
            release: self.release,
            digest: String::new(),
            shape: StateShape::default(),
        };
        given.digest = given.computed_digest();
        given.shape = given.computed_shape();
        let start = WorkerStart {
            graph: self.graph,
            partitions: self.partitions,
            positions: self.start,
            owner: self.owner,
        };
        Ok((given, start))
    }
}

/// The parts of a deployed version that shape a worker's state, as hashes. State goes on under
/// versions of one shape only: its numbers mean nothing under another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateShape {
    /// Of the input schemas: rows of the graph are of them.
    pub schemas: u64,
    /// Of the graph options: they shape the memory of every node.
    pub graph_options: u64,
    /// Of the tasks' names, tables and populations: memory is kept by task, and timers follow
    /// populations.
    pub tasks: u64,
}

impl StateShape {
    /// The three hashes, in a fixed order.
    pub fn hashes(self) -> [u64; 3] {
        [self.schemas, self.graph_options, self.tasks]
    }

    /// The shape with these [hashes](Self::hashes).
    pub fn of_hashes([schemas, graph_options, tasks]: [u64; 3]) -> Self {
        Self {
            schemas,
            graph_options,
            tasks,
        }
    }
}

/// The known part of a machine before the first epoch.
pub(super) struct WorkerStart {
    pub graph: Graph,
    pub partitions: Vec<InputPartition>,
    pub positions: Vec<NextOffset>,
    pub owner: String,
}

impl Deployed {
    /// Digest of schemas, bundle, tasks, policies, graph options and budgets. Hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }
    /// The parts that a worker's state is made for.
    pub fn shape(&self) -> StateShape {
        self.shape
    }
    /// Digest of the release that the version comes from; `None` for one that was put together at a
    /// start.
    pub fn release(&self) -> Option<&str> {
        self.release.as_deref()
    }
    /// Names of the tasks, in the order of records.
    pub fn task_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.tasks.iter().map(|task| &task.name)
    }
    /// The worker's transactional id, as epoch records name it.
    pub fn worker(&self) -> &str {
        &self.worker
    }
    /// Id of the bundle that scores.
    pub fn bundle_id(&self) -> &str {
        self.scorer.bundle_id()
    }
    /// The tick at which something is looked at that is due at a moment, milliseconds.
    pub(super) fn revisit_ms(&self, due_ms: Option<i64>) -> Option<i64> {
        due_ms.map(|due_ms| at_or_after(due_ms, self.tick_ms))
    }
    /// True if work lists are made.
    pub fn makes_work_lists(&self) -> bool {
        self.work_lists.are_made()
    }
    /// The index of a task about a table, by name.
    pub(super) fn task_index(&self, name: &str, entity: TableId) -> Option<usize> {
        self.tasks
            .iter()
            .position(|task| *task.name == *name && task.entity == entity)
    }

    fn computed_shape(&self) -> StateShape {
        // As for the digest: Debug forms change only with their meaning or the program.
        let mut tasks = Xxh3::new();
        for task in &self.tasks {
            let (name, entity, population) = (&task.name, task.entity, &task.population);
            tasks.update(format!("{name}|{entity:?}|{population:?}\0").as_bytes());
        }
        // State names tables by their place among all of them, those that the fingerprint leaves
        // out included.
        let mut schemas = Xxh3::new();
        schemas.update(self.fingerprint.as_bytes());
        for table in &self.catalog.tables {
            schemas.update(format!("|{} {}", table.name, table.role.name()).as_bytes());
        }
        StateShape {
            schemas: schemas.digest(),
            graph_options: xxh3_64(format!("{:?}", self.graph_options).as_bytes()),
            tasks: tasks.digest(),
        }
    }

    fn computed_digest(&self) -> String {
        let mut hash = Sha256::new();
        for part in [
            self.fingerprint.as_str(),
            self.scorer.bundle_id(),
            self.scorer.plan().hash(),
            PROGRAM,
        ] {
            hash.update(part);
            hash.update([0]);
        }
        // The Debug form of options changes only with their meaning or the program. A digest that
        // changes too often costs a log line, never a refused start.
        for task in &self.tasks {
            hash.update(format!(
                "{}|{:?}|{}|{:?}|{:?}\0",
                task.name, task.entity, task.query, task.population, task.policy
            ));
        }
        let budgets = (self.soft_budget, self.explain_budget, self.explain_top);
        hash.update(format!(
            "{:?}|{budgets:?}|{}|{:?}|{:?}",
            self.graph_options, self.tick_ms, self.caps, self.work_lists
        ));
        hex(&hash.finalize())
    }
}

/// SHA-256 of each task's policy with the caps, hexadecimal.
fn policy_digests(tasks: &[Task], caps: &Caps) -> Vec<Arc<str>> {
    let digest = |task: &Task| {
        let rules = format!("{:?}|{caps:?}", task.policy);
        hex(&Sha256::digest(rules)).into()
    };
    tasks.iter().map(digest).collect()
}

/// The index of each configured task among those of the bundle.
fn scorer_tasks(
    tasks: &[Task],
    scorer: &dyn Scorer,
    catalog: &Catalog,
) -> Result<Vec<usize>, MachineError> {
    let mut found = Vec::with_capacity(tasks.len());
    for task in tasks {
        let Some(index) = scorer.tasks().iter().position(|t| t.name == *task.name) else {
            let known: Vec<&str> = scorer.tasks().iter().map(|t| t.name.as_str()).collect();
            return Err(MachineError::NoSuchTask {
                bundle: scorer.bundle_id().to_owned(),
                task: task.name.to_string(),
                known: known.join(", "),
            });
        };
        let trained = scorer.tasks()[index].entity;
        if trained != task.entity {
            return Err(MachineError::OtherEntity {
                task: task.name.to_string(),
                configured: catalog.table_at(task.entity).name.clone(),
                trained: catalog.table_at(trained).name.clone(),
            });
        }
        found.push(index);
    }
    Ok(found)
}

/// The action table of each task, its names checked against data and bundle.
fn action_tables(
    tasks: &[Task],
    scorer: &dyn Scorer,
    catalog: &Catalog,
) -> Result<Vec<ActionTable>, MachineError> {
    let groups = &scorer.plan().layout().groups;
    let known = vocabulary(catalog, groups.iter().map(|group| group.code.as_str()));
    let mut tables = Vec::with_capacity(tasks.len());
    for task in tasks {
        let table = task.policy.actions(&known);
        tables.push(table.map_err(|source| MachineError::Actions {
            task: task.name.to_string(),
            source,
        })?);
    }
    Ok(tables)
}

/// The reading of alert facts of each task, its names checked against the data.
fn fact_plans(tasks: &[Task], graph: &Graph) -> Result<Vec<AlertFactPlan>, MachineError> {
    let layout = &graph.shared().layout;
    let plans = tasks.iter().map(|task| {
        let plan = AlertFactPlan::new(graph.catalog(), layout, task.policy.fact_options());
        plan.map_err(|source| MachineError::Facts {
            task: task.name.to_string(),
            source,
        })
    });
    plans.collect()
}
