//! Answers a request for an explanation from the machine's state, without changing it.

use leadpulse_features::probability;
use leadpulse_policy::{Decision, Trend};
use leadpulse_records::{Emission, ON_REQUEST, ShownScore};

use super::{Machine, Tracked};
use crate::explain::{ExplainRefusal, ExplainRequest};

impl Machine {
    /// The score of an entity as of the last epoch, and why.
    ///
    /// # Errors
    /// If there is no such task or entity, or the entity has no score now.
    pub fn explain(&self, request: &ExplainRequest) -> Result<ShownScore, ExplainRefusal> {
        let ExplainRequest {
            task,
            entity_type,
            entity_id,
        } = request.clone();
        let table = self.catalog.table(&entity_type).map(|table| table.id);
        let index = self
            .tasks
            .iter()
            .position(|t| *t.name == *task && Some(t.entity) == table);
        let Some((index, table)) = index.zip(table) else {
            return Err(ExplainRefusal::NoSuchTask { task, entity_type });
        };
        let as_of_ms = self.as_of_ms().ok_or(ExplainRefusal::NotReady)?;
        let found = self.graph.find(table, &entity_id);
        let Some((at, node)) = found else {
            return Err(ExplainRefusal::NoSuchEntity {
                entity_type,
                entity_id,
            });
        };
        let (cell, entity) = (self.graph.cell(at), node.entity);
        if let Some(why) =
            self.graph
                .absence(cell, node, self.as_of_ms, &self.tasks[index].population)
        {
            return Err(ExplainRefusal::Ineligible {
                task,
                why: self.graph.absence_words(entity, why),
                entity_id,
            });
        }
        let plan = self.scorer.plan();
        let batch = plan.encode(&self.graph, &[at], as_of_ms);
        let slot = plan
            .row_of(&batch, table, 0, entity)
            .map_or(0, |(_, slot)| slot);
        let (logit, explained) = self.explain_now(at, entity, index, slot);
        let tracked = self.tracked.get(&(index, entity));
        let decision = self.standing_decision(index, tracked, probability(logit));
        let lineage = self.lineage();
        let score = Emission {
            explained: Some(&explained),
            standing: tracked
                .and_then(Tracked::ranked_by)
                .map(|logit| self.standings[index].of(logit)),
            ..self.emission(index, at, entity, Ok(logit), &decision, &lineage)
        };
        Ok(score.shown(ON_REQUEST))
    }

    /// The decision that stands for an entity: its band and its last record, and where this probability is heading. Nothing fires.
    fn standing_decision(
        &self,
        task: usize,
        tracked: Option<&Tracked>,
        probability: f64,
    ) -> Decision {
        let policy = &self.tasks[task].policy;
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
                policy.trend_of(state, self.as_of_ms, probability)
            }),
            velocity_per_day: None,
            acceleration_per_day2: None,
            alerts: Vec::new(),
            suppressed: Vec::new(),
            state_changed: false,
            revisit_at_ms: None,
        }
    }
}
