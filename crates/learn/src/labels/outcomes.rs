//! Outcomes after anchors, as far as they were known by a moment.

use std::collections::BTreeSet;

use serde::Serialize;

use leadpulse_graph::{EntityId, Graph};
use leadpulse_model::Outcome;
use leadpulse_pql::TargetKind;
use leadpulse_schema::{Row, Value};
use rustc_hash::FxHashSet;
use smallvec::SmallVec;

use super::belonging::{Belonging, Owners};
use super::history::Unowned;
use super::{Label, LabelHistory, Labels};
use crate::lateness::Lateness;
use leadpulse_history::Files;
use leadpulse_project::{Project, TaskPlan};

/// Collects what a task's target counts while a history passes.
#[derive(Debug)]
pub(crate) struct Chronicle<'a> {
    task: &'a TaskPlan,
    history: LabelHistory<'a>,
    /// The time after a window's end that late rows are waited for, milliseconds.
    wait_ms: i64,
    /// Entities of the task that exist so far.
    existing: FxHashSet<EntityId>,
}

impl<'a> Chronicle<'a> {
    /// Creates an empty chronicle of a task that waits for late rows as [`Lateness::wait_ms`] says.
    pub fn new(
        project: &'a Project,
        task: &'a TaskPlan,
        files: &Files,
        lateness: &Lateness,
    ) -> Self {
        Self {
            task,
            history: LabelHistory::new(&task.plan, &project.catalog),
            wait_ms: lateness.wait_ms(task, files),
            existing: FxHashSet::default(),
        }
    }

    /// An outcome is known this long after its anchor: the horizon, and as long as rows are late.
    pub fn closes_after_ms(&self) -> i64 {
        self.task.plan.horizon_ms + self.wait_ms
    }

    /// Takes an accepted row. Returns the entities of the task that exist since the row was known:
    /// the one that the row describes, and roots that the row is the first to name.
    pub fn observe(&mut self, graph: &Graph, row: Row<'_>) -> SmallVec<[EntityId; 1]> {
        self.history.offer(row);
        let entity = self.task.plan.entity;
        let mut keys: SmallVec<[&str; 2]> = SmallVec::new();
        if row.table() == entity {
            keys.push(row.key());
        }
        for field in &graph.catalog().table_at(row.table()).fields {
            if field.reference.is_some_and(|to| to.table == entity) {
                match row.get(field.id) {
                    Value::Text(key) => keys.push(key),
                    Value::List(named) => keys.extend(named.iter()),
                    _ => {}
                }
            }
        }
        let mut found = SmallVec::new();
        for key in keys {
            let existing = graph
                .find(entity, key)
                .filter(|(_, node)| graph.exists(node));
            if let Some((_, node)) = existing
                && self.existing.insert(node.entity)
            {
                found.push(node.entity);
            }
        }
        found
    }

    /// The outcomes of all that was observed, as they were known at a moment, milliseconds.
    /// `graph` and `belonging` are those of the walk that observed it.
    pub fn known_by(
        &mut self,
        graph: &Graph,
        belonging: &Belonging,
        known_until_ms: i64,
    ) -> TaskOutcomes<'a> {
        let owners = Owners {
            belonging,
            directory: graph.directory(),
            catalog: graph.catalog(),
        };
        let (labels, rows) = self.history.known_by(&owners, known_until_ms);
        TaskOutcomes {
            task: self.task,
            labels,
            rows,
            known_until_ms,
            wait_ms: self.wait_ms,
        }
    }
}

/// The knowledge of an outcome at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Seen {
    /// Enough to learn from.
    Known {
        /// The outcome as the network learns it.
        outcome: Outcome,
        /// Whether the condition held by the end of the window, or the value; `None` while the
        /// window is open.
        label: Option<f64>,
    },
    /// Nothing yet: the window is open.
    Open,
    /// There is none, e.g. an average of nothing, or an assumption that did not come true.
    Dropped,
}

/// The outcomes of a task, as they were known at a moment.
#[derive(Debug)]
pub(crate) struct TaskOutcomes<'a> {
    task: &'a TaskPlan,
    labels: Labels,
    rows: Unowned,
    known_until_ms: i64,
    wait_ms: i64,
}

impl TaskOutcomes<'_> {
    /// The counts of pairs to come, with those of the rows that the target counts.
    pub fn tally(&self) -> Tally {
        Tally {
            rows: self.rows.counted,
            unowned_rows: self.rows.unowned,
            unowned_example: self.rows.example.clone(),
            wait_ms: self.wait_ms,
            ..Tally::default()
        }
    }

    /// The knowledge of the outcome after an anchor.
    pub fn seen(&self, entity: EntityId, anchor_ms: i64) -> Seen {
        // Rows may be as late as the wait: what lies nearer to the moment is not known to be all.
        let observed_ms = self.known_until_ms - self.wait_ms - anchor_ms;
        // A calendar month is shorter or longer, depending on the anchor.
        let window_ms = self.task.plan.closes_ms(anchor_ms) - anchor_ms;
        match self.task.plan.target.kind() {
            TargetKind::Monotone if observed_ms <= 0 => Seen::Open,
            TargetKind::Monotone => {
                let is_closed = observed_ms >= window_ms;
                // What a window that is shorter than the longest leaves out cannot come any more.
                let observed_ms = match is_closed {
                    true => self.task.plan.horizon_ms,
                    false => observed_ms,
                };
                let first_ms = self.labels.first_time_true(entity.0, anchor_ms);
                let after_ms = first_ms
                    .map(|t| t - anchor_ms)
                    .filter(|after| *after <= observed_ms);
                let label = is_closed.then(|| f64::from(u8::from(after_ms.is_some())));
                Seen::Known {
                    outcome: Outcome::Hazard {
                        after_ms,
                        observed_ms,
                    },
                    label,
                }
            }
            TargetKind::Window | TargetKind::Regression if observed_ms < window_ms => Seen::Open,
            TargetKind::Window | TargetKind::Regression => {
                match self.labels.label(entity.0, anchor_ms) {
                    Label::Binary(held) => Seen::Known {
                        outcome: Outcome::Window(held),
                        label: Some(f64::from(u8::from(held))),
                    },
                    Label::Value(value) => Seen::Known {
                        outcome: Outcome::Value(value),
                        label: Some(value),
                    },
                    Label::Dropped => Seen::Dropped,
                }
            }
        }
    }
}

/// Counts of (entity, anchor) pairs by outcome.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Tally {
    /// All pairs that were asked about.
    pub asked: usize,
    /// Pairs whose window had closed: those with a label.
    pub labelled: usize,
    /// Labelled and the condition came true; for a regression a value above 0.
    pub positive: usize,
    /// Different entities among the labelled.
    pub entities: usize,
    /// Different entities among the positive.
    pub positive_entities: usize,
    /// Pairs whose window was open, or only partly observed.
    pub open: usize,
    /// Without an outcome: nothing to average or compare in the window, or the assumption did not
    /// come true.
    pub dropped: usize,
    /// Rows that the target counts, known by the moment of the labels.
    pub rows: usize,
    /// Those of them that count for nobody: what they name leads to no known entity.
    pub unowned_rows: usize,
    /// What one of the latter names, in words.
    pub unowned_example: Option<String>,
    /// The time after the end of a window until it counts as closed, because rows come late,
    /// milliseconds.
    pub wait_ms: i64,
    #[serde(skip)]
    labelled_entities: BTreeSet<EntityId>,
    #[serde(skip)]
    entities_with_positive: BTreeSet<EntityId>,
}

impl Tally {
    /// The share of labelled pairs that are positive; `None` without any.
    pub fn base_rate(&self) -> Option<f64> {
        (self.labelled > 0).then(|| self.positive as f64 / self.labelled as f64)
    }

    /// Different entities with a positive outcome here or there.
    pub(crate) fn positive_entities_with(&self, other: &Self) -> usize {
        let (here, there) = (&self.entities_with_positive, &other.entities_with_positive);
        here.union(there).count()
    }

    pub(crate) fn add(&mut self, entity: EntityId, seen: &Seen) {
        self.asked += 1;
        match seen {
            Seen::Known {
                label: Some(label), ..
            } => {
                self.labelled += 1;
                self.entities += usize::from(self.labelled_entities.insert(entity));
                if *label > 0.0 {
                    self.positive += 1;
                    self.positive_entities +=
                        usize::from(self.entities_with_positive.insert(entity));
                }
            }
            Seen::Known { label: None, .. } | Seen::Open => self.open += 1,
            Seen::Dropped => self.dropped += 1,
        }
    }
}
