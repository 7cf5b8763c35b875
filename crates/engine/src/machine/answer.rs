//! Answers a request for an explanation from the machine's state, without changing it.

use leadpulse_features::{Facts, probability};
use leadpulse_policy::{Situation, Trend};

use super::Machine;
use super::score::Subject;
use super::state::Tracked;
use crate::explain::{ExplainRefusal, ExplainRequest, ExplanationView};
use crate::explained::driver_views;
use crate::records::{name_of, silent_ms};

impl Machine {
    /// Explains the score of an entity as of the last epoch.
    ///
    /// # Errors
    /// If there is no such task or entity, or the entity has no score now.
    pub fn explain(&self, request: &ExplainRequest) -> Result<ExplanationView, ExplainRefusal> {
        let (subject, as_of_ms) = self.subject_of(request)?;
        let ExplainRequest {
            task,
            entity_type,
            entity_id,
        } = request.clone();
        let (cell, index, entity) = (
            self.state.graph.cell(subject.cell),
            subject.task,
            subject.entity,
        );
        let (logit, explained) = self.explain_now(subject);

        let facts = Facts::of(&self.state.graph, cell, as_of_ms);
        let node = cell.nodes.iter().find(|node| node.entity == entity);
        let tracked = self.state.tracked.get(&(index, entity));
        let band =
            tracked.and_then(|tracked| self.given.tasks[index].policy.band_of(&tracked.policy));
        let standing = tracked
            .and_then(Tracked::ranked_by)
            .map(|logit| self.state.standings[index].of(logit));
        let trend = tracked.map_or(Trend::Unknown, |tracked| {
            self.given.tasks[index]
                .policy
                .trend_of(&tracked.policy, as_of_ms, probability(logit))
        });
        let action = self.given.actions[index].choose(&Situation {
            band: band.as_deref(),
            trend,
            top_group: explained.top_group(),
            alert: None,
            probability: probability(logit),
            active_members: facts.committee.active,
            values: &facts.committee.by_field,
            highest: &facts.committee.highest,
            silent_ms: silent_ms(cell, as_of_ms),
        });
        Ok(ExplanationView {
            task,
            entity_type,
            entity_id,
            account_id: facts.root.clone(),
            name: node.and_then(|node| name_of(&self.given.catalog, node, &facts)),
            as_of_ms,
            epoch: self.state.number,
            board: self.state.graph.board().unwrap_or(-1),
            bundle_id: self.given.scorer.bundle_id().to_owned(),
            probability: probability(logit),
            score: 100.0 * probability(logit),
            logit,
            base_logit: explained.base_logit,
            band: band.map(|band| band.to_string()),
            rank: standing.map(|standing| standing.rank),
            percentile: standing.map(|standing| standing.percentile),
            drivers: driver_views(&explained.drivers, as_of_ms),
            change_since_ms: explained.change_since_ms,
            change_drivers: driver_views(&explained.change_drivers, as_of_ms),
            top_signal: explained.top_signal(),
            recommended_action: action.map(|action| action.code.to_string()),
            recommended_action_label: action.map(|action| action.label.to_string()),
            facts: serde_json::to_value(&facts).expect("facts are JSON"),
        })
    }

    /// The entity and task of a request, and the moment of the answer, milliseconds.
    fn subject_of(&self, request: &ExplainRequest) -> Result<(Subject, i64), ExplainRefusal> {
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
        let as_of_ms = self.as_of_ms().ok_or(ExplainRefusal::NotReady)?;
        let graph = &self.state.graph;
        let Some((at, node)) = graph.find(table, &entity_id) else {
            return Err(ExplainRefusal::NoSuchEntity {
                entity_type,
                entity_id,
            });
        };
        let population = &self.given.tasks[index].population;
        if let Some(why) = graph.absence(graph.cell(at), node, as_of_ms, population) {
            return Err(ExplainRefusal::Ineligible {
                task,
                why: graph.absence_words(node.entity, why),
                entity_id,
            });
        }
        let plan = self.given.scorer.plan();
        let batch = plan.encode(graph, &[at], as_of_ms);
        let row = plan.row_of(&batch, table, 0, node.entity);
        let subject = Subject {
            cell: at,
            entity: node.entity,
            task: index,
            slot: row.map_or(0, |(_, slot)| slot),
        };
        Ok((subject, as_of_ms))
    }
}
