//! Answers a request for an explanation from the machine's state, without changing it.

use std::sync::Arc;

use leadpulse_features::{CommitteeSeats, RelatedEntity, TouchedHub, probability};
use leadpulse_policy::{Decision, Trend};
use leadpulse_records::{Emission, ON_REQUEST, ShownScore};
use serde::Serialize;

use super::Machine;
use super::score::Subject;
use super::state::Tracked;
use crate::explain::{ExplainRefusal, ExplainRequest};

/// Hub nodes of a neighbourhood, at most.
const NEAREST_HUBS: usize = 8;
/// Related entities of a neighbourhood, at most.
const RELATED: usize = 12;

/// The committee of the account of an entity, and what the account shares with others.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CommitteeOf {
    /// Key of the account; `None` while the entity has none.
    pub account_id: Option<Arc<str>>,
    /// Moment of the state, milliseconds.
    #[serde(rename = "as_of")]
    pub as_of_ms: i64,
    #[serde(flatten)]
    pub seats: CommitteeSeats,
    /// The hub nodes that the account touches most, most touched first; at most eight.
    pub hubs: Vec<TouchedHub>,
    /// Entities of other accounts that one of this account refers to or came from, or that refer to
    /// it; at most twelve.
    pub related: Vec<RelatedEntity>,
}

impl Machine {
    /// The people of an entity's account as of the last epoch; `None` if no row names the entity.
    pub fn committee(&self, entity_type: &str, entity_id: &str) -> Option<CommitteeOf> {
        let as_of = self.as_of()?;
        let graph = &self.state.graph;
        let table = self.given.catalog.table(entity_type)?;
        let (at, _) = graph.find(table.id, entity_id)?;
        let cell = graph.cell(at);
        let account = graph.root_node(cell);
        Some(CommitteeOf {
            account_id: account.map(|node| graph.directory().key(node.entity).clone()),
            as_of_ms: as_of.ms(),
            seats: CommitteeSeats::of(graph, cell, as_of),
            hubs: TouchedHub::of(graph, at, as_of, NEAREST_HUBS),
            related: RelatedEntity::of(graph, at, as_of, RELATED),
        })
    }

    /// Explains the score of an entity as of the last epoch.
    ///
    /// # Errors
    /// If there is no such task or entity, or the entity has no score now.
    pub fn explain(&self, request: &ExplainRequest) -> Result<ShownScore, ExplainRefusal> {
        let subject = self.subject_of(request)?;
        let (logit, explained) = self.explain_now(subject);
        let tracked = self.state.tracked.get(&(subject.task, subject.entity));
        let decision = self.standing_decision(subject.task, tracked, probability(logit));
        let lineage = self.lineage();
        let score = Emission {
            explained: Some(&explained),
            standing: tracked
                .and_then(Tracked::ranked_by)
                .and_then(|logit| self.standing(subject.task, subject.entity, logit)),
            ..self.emission(subject, Ok(logit), &decision, &lineage)
        };
        Ok(score.shown(ON_REQUEST))
    }

    /// The decision that stands for an entity: its band, its last record and the trend to this
    /// probability. Nothing fires.
    fn standing_decision(
        &self,
        task: usize,
        tracked: Option<&Tracked>,
        probability: f64,
    ) -> Decision {
        let policy = &self.given.tasks[task].policy;
        let state = tracked.map(|tracked| &tracked.policy);
        let band = state.and_then(|state| policy.band_of(state));
        let emitted = state.and_then(|state| state.emitted);
        Decision {
            emit: None,
            previous_band: band.clone(),
            band,
            previous_probability: emitted.map(|emitted| emitted.probability),
            previous_as_of_ms: emitted.map(|emitted| emitted.as_of_ms),
            trend: state.map_or(Trend::Unknown, |state| {
                policy.trend_of(state, self.state.as_of.ms(), probability)
            }),
            velocity_per_day: None,
            acceleration_per_day2: None,
            state_changed: false,
        }
    }

    /// The entity and task of a request.
    fn subject_of(&self, request: &ExplainRequest) -> Result<Subject, ExplainRefusal> {
        let ExplainRequest {
            task,
            entity_type,
            entity_id,
        } = request.clone();
        let table = self.given.catalog.table(&entity_type).map(|table| table.id);
        let index = table.and_then(|table| self.given.task_index(&task, table));
        let Some((index, table)) = index.zip(table) else {
            return Err(ExplainRefusal::NoSuchTask { task, entity_type });
        };
        let as_of = self.as_of().ok_or(ExplainRefusal::NotReady)?;
        let graph = &self.state.graph;
        let Some((at, node)) = graph.find(table, &entity_id) else {
            return Err(ExplainRefusal::NoSuchEntity {
                entity_type,
                entity_id,
            });
        };
        let population = &self.given.tasks[index].population;
        if let Some(why) = graph.absence(graph.cell(at), node, as_of, population) {
            return Err(ExplainRefusal::Ineligible {
                task,
                why: graph.absence_words(node.entity, why),
                entity_id,
            });
        }
        let plan = self.given.scorer.plan();
        let batch = plan.encode(graph, &[at], as_of, &[table]);
        let row = plan.row_of(&batch, table, 0, node.entity);
        Ok(Subject {
            cell: at,
            entity: node.entity,
            task: index,
            slot: row.map_or(0, |(_, slot)| slot),
        })
    }
}
