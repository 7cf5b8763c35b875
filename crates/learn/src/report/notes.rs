//! Notes of a walk: what simple rules know of each asked entity at its anchor.

use leadpulse_features::FeaturePlan;
use leadpulse_graph::{EntityId, Graph};
use leadpulse_project::{Project, TaskPlan};
use rustc_hash::FxHashMap;

use super::numbers::RowNumbers;
use super::rows::{Lookout, RowFacts, Words, divides_by_deals, points_field, segment_fields};
use crate::LearnError;

/// The fields to note for a task, and the values noted so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    pub lookout: Lookout,
    pub words: Words,
    /// The numbers that the model reads of the rows.
    pub numbers: RowNumbers,
    facts: FxHashMap<(EntityId, i64), RowFacts>,
}

impl Notes {
    /// Empty notes of a task; `existing_score` is a column `table.field` to compare with.
    ///
    /// # Errors
    /// [`LearnError::ExistingScore`] if the column cannot be compared with this task's scores.
    pub fn new(
        project: &Project,
        task: &TaskPlan,
        plan: &FeaturePlan,
        existing_score: Option<&str>,
    ) -> Result<Self, LearnError> {
        Ok(Self {
            numbers: RowNumbers::new(plan.layout(), task.plan.entity),
            ..Self::without_numbers(project, task, existing_score)?
        })
    }

    /// Empty notes of a task whose rows no model reads: a report of them has no cohorts.
    ///
    /// # Errors
    /// As [`Notes::new`].
    pub fn without_numbers(
        project: &Project,
        task: &TaskPlan,
        existing_score: Option<&str>,
    ) -> Result<Self, LearnError> {
        let (catalog, entity) = (&project.catalog, task.plan.entity);
        let points = existing_score.map(|name| {
            points_field(catalog, entity, name).map_err(|fault| LearnError::ExistingScore {
                task: task.name.clone(),
                fault,
            })
        });
        Ok(Self {
            lookout: Lookout {
                segments: segment_fields(catalog, entity),
                points: points.transpose()?.flatten(),
                has_deals: divides_by_deals(catalog, entity),
            },
            words: Words::default(),
            numbers: RowNumbers::default(),
            facts: FxHashMap::default(),
        })
    }

    /// Notes what is known of an entity at a moment, milliseconds, at which the graph stands.
    pub fn note(&mut self, graph: &Graph, entity: EntityId, at_ms: i64) {
        let Some(place) = graph.directory().place(entity) else {
            return;
        };
        let cell = graph.cell(place.cell);
        let node = &cell.nodes[place.node as usize];
        let facts = self
            .lookout
            .facts(graph, (cell, node), at_ms, &mut self.words);
        self.facts.insert((entity, at_ms), facts);
    }

    /// The facts of an entity at a moment; empty where nothing was noted.
    pub fn facts(&self, entity: EntityId, at_ms: i64) -> RowFacts {
        let noted = self.facts.get(&(entity, at_ms)).cloned();
        noted.unwrap_or_else(|| self.lookout.nothing())
    }
}
