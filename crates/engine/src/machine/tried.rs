//! Answers a question about rows that never came, from a trial of the graph.

use leadpulse_features::{Explanation, Group, probability};
use leadpulse_graph::{Graph, Trial};
use leadpulse_policy::Policy;
use leadpulse_schema::TableId;
use leadpulse_schema::units::AsOf;

use super::Machine;
use super::admit::outcome_in_words;
use crate::explain::{ExplainRefusal, ExplainRequest};
use crate::what_if::{
    BandCrossing, GroupMove, TriedRows, TriedScore, WhatIf, WhatIfAnswer, WhatIfRefusal,
};

/// Farthest moment of a question after the worker's state, milliseconds: a year.
const FARTHEST_MS: i64 = 366 * 24 * 3_600_000;

/// A score of a question with its explanation; `Err` is the reason for which there is none.
type JudgedEntity = Result<Explanation, String>;

impl Machine {
    /// The score that an entity would have if some rows came, beside its score as of the last epoch.
    /// The state is unchanged.
    ///
    /// # Errors
    /// If there is no such task, if no row names the entity, now or in the question, or if rows of the
    /// question fit no table or would be refused.
    pub fn what_if(
        &self,
        request: &ExplainRequest,
        question: &WhatIf,
    ) -> Result<WhatIfAnswer, WhatIfRefusal> {
        let (task, table) = self.task_of(request)?;
        let now = self.as_of().ok_or(ExplainRefusal::NotReady)?;
        let rows = question.rows(&self.given.catalog, now.ms())?;
        let last_ms = rows.moments.last().map_or(now.ms(), |last| last.at_ms);
        let as_of_ms = question.as_of.unwrap_or(last_ms.max(now.ms()));
        let (from, to) = (now.ms().max(last_ms), now.ms() + FARTHEST_MS);
        if !(from..=to).contains(&as_of_ms) {
            let as_of = as_of_ms;
            return Err(WhatIfRefusal::Moment { as_of, from, to });
        }
        let then = AsOf::from_ms(as_of_ms);
        let subject = (task, table, request.entity_id.as_str());
        let before = self.judge(&self.state.graph, now, subject);
        let after = self.state.graph.try_out(|trial| {
            apply(trial, &rows)?;
            trial.advance(then);
            trial.settle(table, &request.entity_id);
            Ok::<_, WhatIfRefusal>(self.judge(trial, then, subject))
        })?;

        let unknown = || ExplainRefusal::NoSuchEntity {
            entity_type: request.entity_type.clone(),
            entity_id: request.entity_id.clone(),
        };
        let after = after.ok_or_else(unknown)?;
        let before = before.unwrap_or_else(|| Err("not known yet".to_owned()));
        let policy = &self.given.tasks[task].policy;
        let groups = &self.given.scorer.plan().layout().groups;
        let scored = before.as_ref().ok().zip(after.as_ref().ok());
        let shown = &self.given.scorer.tasks()[self.given.scorer_tasks[task]];
        Ok(WhatIfAnswer {
            task: request.task.clone(),
            entity_type: request.entity_type.clone(),
            entity_id: request.entity_id.clone(),
            quality: shown.quality.clone(),
            groups: scored.map_or_else(Vec::new, |(now, then)| moves(now, then, groups)),
            crossings: scored.map_or_else(Vec::new, |(now, then)| crossings(now, then, policy)),
            now: tried_score(now.ms(), &before, policy),
            then: tried_score(as_of_ms, &after, policy),
        })
    }

    /// The task and table of a request.
    fn task_of(&self, request: &ExplainRequest) -> Result<(usize, TableId), ExplainRefusal> {
        let table = self.given.catalog.table(&request.entity_type);
        let found = table.and_then(|table| {
            let task = self.given.task_index(&request.task, table.id)?;
            Some((task, table.id))
        });
        found.ok_or_else(|| ExplainRefusal::NoSuchTask {
            task: request.task.clone(),
            entity_type: request.entity_type.clone(),
        })
    }

    /// The explanation of an entity in a graph; `None` if no row names the entity there.
    fn judge(
        &self,
        graph: &Graph,
        as_of: AsOf,
        (task, table, key): (usize, TableId, &str),
    ) -> Option<JudgedEntity> {
        let (at, node) = graph.find(table, key)?;
        let entity = node.entity;
        let population = &self.given.tasks[task].population;
        if let Some(why) = graph.absence(graph.cell(at), node, as_of, population) {
            return Some(Err(graph.absence_words(entity, why)));
        }
        let scorer = &self.given.scorer;
        let batch = scorer.plan().encode(graph, &[at], as_of, &[table]);
        let row = scorer.plan().row_of(&batch, table, 0, entity);
        let slot = row.map_or(0, |(_, slot)| slot);
        Some(Ok(scorer.explain(
            &batch,
            self.given.scorer_tasks[task],
            0,
            slot,
        )))
    }
}

/// Applies the rows of a question, moment by moment.
fn apply(trial: &mut Trial, rows: &TriedRows) -> Result<(), WhatIfRefusal> {
    for moment in &rows.moments {
        let outcomes = trial.apply(&moment.rows, moment.at_ms);
        for (outcome, place) in outcomes.into_iter().zip(&moment.places) {
            if !outcome.is_accepted() {
                let words = outcome_in_words(outcome);
                let fault = words
                    .unwrap_or("an event with this key came already")
                    .to_owned();
                return Err(WhatIfRefusal::Row { row: *place, fault });
            }
        }
    }
    Ok(())
}

fn tried_score(as_of: i64, judged: &JudgedEntity, policy: &Policy) -> TriedScore {
    let logit = judged.as_ref().ok().map(|explanation| explanation.logit);
    let chance = logit.map(probability);
    let reached = |chance: f64| {
        let bands = policy.bands().filter(|band| chance >= band.enter);
        bands.last().map(|band| band.name.to_string())
    };
    TriedScore {
        as_of,
        logit,
        probability: chance,
        band: chance.and_then(reached),
        absent: judged.as_ref().err().cloned(),
    }
}

/// Contributions of groups that have one in either explanation, strongest change first.
fn moves(now: &Explanation, then: &Explanation, groups: &[Group]) -> Vec<GroupMove> {
    let of = |explanation: &Explanation, group: usize| {
        let mut parts = explanation.contributions.iter();
        let part = parts.find(|part| part.group == group);
        part.map_or(0.0, |part| part.logit)
    };
    let moved = groups.iter().enumerate().map(|(index, group)| GroupMove {
        group: group.code.clone(),
        label: group.label.clone(),
        now: of(now, index),
        then: of(then, index),
    });
    let mut moved: Vec<GroupMove> = moved
        .filter(|one| one.now != 0.0 || one.then != 0.0)
        .collect();
    let strength = |one: &GroupMove| (one.then - one.now).abs();
    // Stable: of equal changes, the order of the layout.
    moved.sort_by(|a, b| strength(b).total_cmp(&strength(a)));
    moved
}

fn crossings(now: &Explanation, then: &Explanation, policy: &Policy) -> Vec<BandCrossing> {
    let (before, after) = (probability(now.logit), probability(then.logit));
    let crossing = |name: &str, is_entered, threshold| BandCrossing {
        band: name.to_owned(),
        is_entered,
        threshold,
    };
    let mut crossed = Vec::new();
    for band in policy.bands() {
        if before < band.enter && after >= band.enter {
            crossed.push(crossing(&band.name, true, band.enter));
        } else if before >= band.exit && after < band.exit {
            crossed.push(crossing(&band.name, false, band.exit));
        }
    }
    crossed
}
