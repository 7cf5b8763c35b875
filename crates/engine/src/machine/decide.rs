//! Scores become decisions, explanations and output records, in the order the scores were found.

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use leadpulse_features::probability;
use leadpulse_graph::{CellRef, EntityId, Reasons};
use leadpulse_policy::{Decision, EmitReason, Observation, Policy};
use leadpulse_records::{
    Emission, EmissionRecords, Explained, Lineage, Output, OutputRecord, PolicyStateRecord,
    ShownAlert, ShownScore, output_key,
};
use leadpulse_schema::Absence;

use super::score::Found;
use super::{Machine, Tally, Task};

/// What an epoch's decisions become: output records in order, and what to show once they are committed.
#[derive(Default)]
pub(super) struct Decided {
    pub outputs: Vec<OutputRecord>,
    pub scores: Vec<ShownScore>,
    pub alerts: Vec<ShownAlert>,
}

impl Machine {
    /// Policy, explanations and output records, in order.
    pub(super) fn decide(
        &mut self,
        dirty: &[(CellRef, Reasons)],
        found: &[Found],
        closing: bool,
        tally: &mut Tally,
    ) -> Decided {
        let decisions = self.observe(dirty, found, closing);
        self.explain_wanted(found, &decisions, tally);

        let mut decided = Decided::default();
        let lineage = self.lineage();
        for (item, decision) in found.iter().zip(&decisions) {
            for (alert_type, reason) in &decision.suppressed {
                *tally
                    .suppressed
                    .entry((alert_type.name(), reason.name()))
                    .or_default() += 1;
            }
            if decision.emit.is_some() {
                self.emit(item, decision, &lineage, &mut decided, tally);
                // The newest record of an entity without a score holds no explanation, so a restart would not find one.
                if item.logit.is_err()
                    && let Some(tracked) = self.tracked.get_mut(&(item.task, item.entity))
                {
                    tracked.explained = None;
                }
            }
            // An emitted score is part of the state, so whoever reads the state back knows what consumers have.
            if decision.state_changed {
                decided.outputs.push(self.policy_state(item, decision));
            }
        }
        decided
    }

    /// What each score means for its entity, and where everyone stands after all of them.
    fn observe(
        &mut self,
        dirty: &[(CellRef, Reasons)],
        found: &[Found],
        closing: bool,
    ) -> Vec<Decision> {
        let as_of_ms = self.as_of_ms;
        let mut decisions = Vec::with_capacity(found.len());
        let mut margins: FxHashMap<CellRef, f32> = FxHashMap::default();
        for item in found {
            let policy = &self.tasks[item.task].policy;
            let tracked = self.tracked.entry((item.task, item.entity)).or_default();
            let ranked_before = tracked.ranked_by();
            let decision = match item.logit {
                Ok(logit) => {
                    let margin = margin(policy, logit);
                    let nearest = margins.entry(item.cell).or_insert(f32::MAX);
                    *nearest = nearest.min(margin);
                    let muted = item.reasons.contains(Reasons::BUNDLE);
                    let observation = Observation {
                        probability: probability(logit),
                        logit,
                        as_of_ms,
                        muted,
                        forced: closing,
                    };
                    policy.observe(&mut tracked.policy, observation)
                }
                Err(why) => policy.observe_ineligible(&mut tracked.policy, why),
            };
            self.standings[item.task].replace(ranked_before, tracked.ranked_by());
            self.revisits
                .extend(decision.revisit_at_ms.map(|at_ms| (at_ms, item.entity)));
            decisions.push(decision);
        }
        for (at, _) in dirty {
            self.graph
                .scored(*at, margins.get(at).copied().unwrap_or(f32::MAX));
        }
        decisions
    }

    /// Explains every alert and, as far as the budget goes, band crossings, then scores within a band that were never explained.
    fn explain_wanted(&mut self, found: &[Found], decisions: &[Decision], tally: &mut Tally) {
        let (mut explain, mut crossings, mut unexplained) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (item, decision)) in found
            .iter()
            .zip(decisions)
            .enumerate()
            .filter(|(_, (item, _))| item.logit.is_ok())
        {
            let is_new = || {
                self.tracked
                    .get(&(item.task, item.entity))
                    .is_none_or(|tracked| tracked.explained.is_none())
            };
            if !decision.alerts.is_empty() {
                explain.push(index);
            } else if decision.emit == Some(EmitReason::Crossing) {
                crossings.push(index);
            } else if decision.emit.is_some() && decision.band.is_some() && is_new() {
                unexplained.push(index);
            }
        }
        let mut wanted = crossings.into_iter().chain(unexplained);
        explain.extend(wanted.by_ref().take(self.explain_budget));
        let mut count = |index: usize, outcome: &'static str| {
            let task = self.tasks[found[index].task].name.to_string();
            *tally.explanations.entry((task, outcome)).or_default() += 1;
        };
        wanted.for_each(|index| count(index, "over_budget"));
        explain.iter().for_each(|index| count(*index, "made"));

        let this = &*self;
        let made: Vec<Explained> = explain
            .par_iter()
            .map(|index| {
                let Found {
                    cell,
                    entity,
                    task,
                    slot,
                    ..
                } = found[*index];
                this.explain_now(cell, entity, task, slot).1
            })
            .collect();
        for (index, explained) in explain.into_iter().zip(made) {
            let item = &found[index];
            self.tracked
                .entry((item.task, item.entity))
                .or_default()
                .explained = Some(Box::new(explained));
        }
    }

    /// The logit of an entity at this moment, and its explanation compared with the last one in a record. Changes nothing.
    pub(super) fn explain_now(
        &self,
        cell: CellRef,
        entity: EntityId,
        task: usize,
        slot: usize,
    ) -> (f64, Explained) {
        let plan = self.scorer.plan();
        let batch = plan.encode(&self.graph, &[cell], self.as_of_ms);
        let explanation = self
            .scorer
            .explain(&batch, self.scorer_tasks[task], 0, slot);
        let evidence = plan.evidence(&self.graph, cell, entity, self.as_of_ms);
        let before = self
            .tracked
            .get(&(task, entity))
            .and_then(|tracked| tracked.explained.as_deref());
        let explained = Explained::new(
            before,
            self.as_of_ms,
            &explanation,
            evidence,
            &plan.layout().groups,
        );
        (explanation.logit, explained)
    }

    /// The records of one score that is due.
    fn emit(
        &self,
        item: &Found,
        decision: &Decision,
        lineage: &Lineage,
        decided: &mut Decided,
        tally: &mut Tally,
    ) {
        let task = &self.tasks[item.task];
        let tracked = self.tracked.get(&(item.task, item.entity));
        let explained = tracked
            .and_then(|tracked| tracked.explained.as_deref())
            .filter(|_| item.logit.is_ok());
        if explained.is_some_and(|explained| explained.as_of_ms < self.as_of_ms) {
            *tally
                .explanations
                .entry((task.name.to_string(), "carried"))
                .or_default() += 1;
        }
        let emission = Emission {
            reasons: item.reasons,
            standing: item
                .logit
                .ok()
                .map(|logit| self.standings[item.task].of(logit)),
            explained,
            ..self.emission(
                item.task,
                item.cell,
                item.entity,
                item.logit,
                decision,
                lineage,
            )
        };
        let EmissionRecords { key, score, alerts } = emission.records(decided.scores.len() as i32);
        *tally
            .emitted
            .entry((task.name.to_string(), score.record.cause.0))
            .or_default() += 1;
        let mut write = |output, key, value| {
            decided.outputs.push(OutputRecord {
                output,
                key: Some(key),
                value,
                headers: Vec::new(),
                timestamp_ms: self.as_of_ms,
            });
        };
        let value = self.encoders.score(&score.record);
        if self.current_scores {
            let current = (item.logit != Err(Absence::Deleted)).then(|| value.clone());
            write(Output::CurrentScores, key.clone(), current);
        }
        write(Output::Scores, key, Some(value));
        for shown in alerts {
            let alert = &shown.record;
            *tally
                .alerts
                .entry((alert.r#type.0, alert.severity.0))
                .or_default() += 1;
            let key = alert
                .account_id
                .as_ref()
                .unwrap_or(&alert.entity_id)
                .as_bytes()
                .to_vec();
            write(Output::Alerts, key, Some(self.encoders.alert(alert)));
            decided.alerts.push(shown);
        }
        decided.scores.push(score);
    }

    /// Origin of the scores of the last epoch.
    pub(super) fn lineage(&self) -> Lineage {
        Lineage {
            epoch: self.number as i64,
            as_of_ms: self.as_of_ms,
            bundle_id: self.scorer.bundle_id().into(),
            plan_hash: self.scorer.plan().hash().into(),
            board: self.graph.board().unwrap_or(-1),
        }
    }

    /// An emission without reasons, standing and explanation: the caller adds those it has.
    pub(super) fn emission<'a>(
        &'a self,
        task: usize,
        cell: CellRef,
        entity: EntityId,
        logit: Result<f64, Absence>,
        decision: &'a Decision,
        lineage: &'a Lineage,
    ) -> Emission<'a> {
        let Task {
            name,
            entity: table,
            policy,
            query,
            ..
        } = &self.tasks[task];
        Emission {
            catalog: &self.catalog,
            graph: &self.graph,
            task: name,
            table: *table,
            query,
            alert_limits: policy.alert_limits(),
            actions: &self.actions[task],
            horizon_ms: self.scorer.tasks()[self.scorer_tasks[task]].horizon_ms,
            cell,
            entity,
            reasons: Reasons::default(),
            logit,
            standing: None,
            decision,
            explained: None,
            lineage,
        }
    }

    fn policy_state(&self, item: &Found, decision: &Decision) -> OutputRecord {
        let task = &self.tasks[item.task];
        let state = &self.tracked[&(item.task, item.entity)].policy;
        let record = PolicyStateRecord {
            task: task.name.to_string(),
            entity_type: self.catalog.table_at(task.entity).name.clone(),
            entity_id: self.graph.directory().key(item.entity).to_string(),
            epoch: self.number as i64,
            band: decision.band.as_ref().map(|b| b.to_string()),
            state: serde_json::to_string(state).expect("a policy state is JSON"),
        };
        OutputRecord {
            output: Output::PolicyState,
            key: Some(output_key(
                &record.task,
                &record.entity_type,
                &record.entity_id,
            )),
            value: Some(self.encoders.policy_state(&record)),
            headers: Vec::new(),
            timestamp_ms: self.as_of_ms,
        }
    }
}

/// How near a score is to the nearest band, logits.
pub(super) fn margin(policy: &Policy, logit: f64) -> f32 {
    policy
        .bands()
        .map(|b| (logit - logit_of(b.enter)).abs() as f32)
        .fold(f32::MAX, f32::min)
}

fn logit_of(p: f64) -> f64 {
    (p / (1.0 - p)).ln()
}
