//! The fourth stage: logits become decisions, explanations and output records, in the order of the
//! logits.

use std::collections::BTreeSet;
use std::time::Duration;

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use leadpulse_features::probability;
use leadpulse_graph::{CellRef, EntityId, Reasons};
use leadpulse_policy::{Decision, EmitReason, Observation, Policy};
use leadpulse_records::{
    Alert, Emission, EmissionRecords, Explained, Lineage, Output, OutputRecord, PolicyStateRecord,
    output_key,
};
use leadpulse_schema::{Absence, units};

use super::rescoring::Rescoring;
use super::score::{Assessed, Subject, TickScores};
use super::state::Tracked;
use super::{Machine, Task};
use crate::epoch::{EpochTally, EpochViews};

/// The wishes of an epoch besides the scores that moved.
pub(super) struct Asked {
    /// Every score is emitted.
    pub closing: bool,
    /// Tasks and entities to explain and emit.
    pub wanted: BTreeSet<(usize, EntityId)>,
}

/// The records of an epoch's decisions, in order, and the views of them to show after the commit.
#[derive(Default)]
pub(super) struct Decided {
    pub outputs: Vec<OutputRecord>,
    pub views: EpochViews,
    /// Tasks and entities whose memory has to be recorded.
    pub changed: BTreeSet<(usize, EntityId)>,
    /// True if the memory of caps has to be recorded.
    pub caps_changed: bool,
    /// The scores of the last tick, unless something was applied after it.
    pub tick_scores: Option<TickScores>,
}

impl Machine {
    /// In: logits in order, and the dirty cells they are of.
    /// Out: output records in the same order, then the memory that changed. Policy memory,
    /// standings and explanations are those after the epoch.
    pub(super) fn decide(
        &mut self,
        dirty: &[(CellRef, Reasons)],
        assessed: &[Assessed],
        asked: &Asked,
        decided: &mut Decided,
        (elapsed, tally): (&dyn Fn() -> Duration, &mut EpochTally),
    ) {
        let decisions = self.observe(dirty, assessed, asked);
        let started = elapsed();
        let explained = self.explain_wanted(assessed, &decisions, asked, tally);
        let seconds = elapsed().saturating_sub(started).as_secs_f64();
        tally.explained.add(explained as u64, seconds);
        let lineage = self.lineage();
        for (item, decision) in assessed.iter().zip(&decisions) {
            if decision.emit.is_some() {
                self.emit(item, decision, &lineage, decided, tally);
                self.forget_unrecorded(item);
            }
            // An emitted score is part of the policy state: a restart reads back from it what
            // consumers have.
            if decision.state_changed {
                decided.changed.insert((item.task, item.entity));
            }
        }
        let changed = std::mem::take(&mut decided.changed);
        // An entity that was erased since its tick has no memory to record.
        let known = |key: &(usize, EntityId)| self.state.tracked.contains_key(key);
        let states = changed
            .into_iter()
            .filter(known)
            .map(|(task, entity)| self.policy_state(task, entity));
        decided.outputs.extend(states);
        if std::mem::take(&mut decided.caps_changed) {
            let state = serde_json::to_string(&self.state.caps).expect("memory of caps is JSON");
            let record = PolicyStateRecord::of_caps(self.state.number as i64, state);
            decided.outputs.push(self.state_output(&record));
        }
    }

    /// Origin of the scores of the last epoch.
    pub(super) fn lineage(&self) -> Lineage {
        Lineage {
            epoch: self.state.number as i64,
            as_of: self.state.as_of,
            bundle_id: self.given.scorer.bundle_id().into(),
            plan_hash: self.given.scorer.plan().hash().into(),
            board: self.state.graph.board().unwrap_or(-1),
        }
    }

    /// Drops the explanation of an entity whose newest record has no score, because a restart
    /// would not find one there.
    fn forget_unrecorded(&mut self, item: &Assessed) {
        if item.logit.is_err() {
            self.state.explained.remove(&(item.task, item.entity));
        }
    }

    /// Decisions of the policies, one per logit; standings are those after all of them.
    fn observe(
        &mut self,
        dirty: &[(CellRef, Reasons)],
        assessed: &[Assessed],
        asked: &Asked,
    ) -> Vec<Decision> {
        let as_of_ms = self.state.as_of.ms();
        let mut decisions = Vec::with_capacity(assessed.len());
        let mut margins: FxHashMap<CellRef, f32> = FxHashMap::default();
        for item in assessed {
            let policy = &self.given.tasks[item.task].policy;
            let key = (item.task, item.entity);
            let tracked = self.state.tracked.entry_or(key, Tracked::default);
            let ranked_before = tracked.ranked_by();
            let rescoring = &mut self.state.rescoring;
            let awaits = |one: &Rescoring| one.awaits(item.task, item.entity);
            let awaits_score = rescoring.as_ref().is_some_and(awaits);
            let decision = match item.logit {
                Ok(logit) => {
                    let margin = margin(policy, logit);
                    let nearest = margins.entry(item.cell).or_insert(f32::MAX);
                    *nearest = nearest.min(margin);
                    let observation = Observation {
                        probability: probability(logit),
                        logit,
                        as_of_ms,
                        // A record of each entity names the new model, however little moved.
                        forced: asked.closing
                            || awaits_score
                            || asked.wanted.contains(&(item.task, item.entity)),
                    };
                    policy.observe(&mut tracked.policy, observation)
                }
                Err(why) => {
                    let is_asked = asked.wanted.contains(&key);
                    policy.observe_ineligible(&mut tracked.policy, why, is_asked)
                }
            };
            if awaits_score && let Some(rescoring) = rescoring {
                rescoring.settle(item.task, item.entity);
            }
            self.state.standings[item.task].replace(ranked_before, tracked.ranked_by());
            decisions.push(decision);
        }
        self.end_rescoring();
        for (at, _) in dirty {
            self.state
                .graph
                .scored(*at, margins.get(at).copied().unwrap_or(f32::MAX));
        }
        decisions
    }

    /// Explains what is asked for, every score whose last explanation is of this moment and of another
    /// state, and, as far as the budget goes, band crossings, then scores within a band that were
    /// never explained. Returns their number.
    fn explain_wanted(
        &mut self,
        assessed: &[Assessed],
        decisions: &[Decision],
        asked: &Asked,
        tally: &mut EpochTally,
    ) -> usize {
        let mut wanted = self.wanted_explanations(assessed, decisions, asked);
        let within_budget = wanted.optional.len().min(self.given.explain_budget);
        let over_budget = wanted.optional.split_off(within_budget);
        let mut explain = wanted.due;
        explain.append(&mut wanted.optional);
        let mut count = |index: usize, outcome: &'static str| {
            let task = self.given.tasks[assessed[index].task].name.to_string();
            *tally.explanations.entry((task, outcome)).or_default() += 1;
        };
        over_budget
            .iter()
            .for_each(|index| count(*index, "over_budget"));
        explain.iter().for_each(|index| count(*index, "made"));

        let this = &*self;
        let made: Vec<Explained> = explain
            .par_iter()
            .map(|index| this.explain_now(assessed[*index].subject()).1)
            .collect();
        let count = made.len();
        for (index, explained) in explain.into_iter().zip(made) {
            let item = &assessed[index];
            let key = (item.task, item.entity);
            self.state.explained.insert(key, Box::new(explained));
        }
        count
    }

    fn wanted_explanations(
        &self,
        assessed: &[Assessed],
        decisions: &[Decision],
        asked: &Asked,
    ) -> Wanted {
        let (mut due, mut crossings, mut unexplained) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (item, decision)) in assessed.iter().zip(decisions).enumerate() {
            if item.logit.is_err() {
                continue;
            }
            // A record names the moment of its explanation. Two states of one moment, as late rows
            // make them, cannot be told apart by it.
            let outdated = decision.emit.is_some() && self.is_outdated(item);
            if outdated || asked.wanted.contains(&(item.task, item.entity)) {
                due.push(index);
            } else if decision.emit == Some(EmitReason::Crossing) {
                crossings.push(index);
            } else if decision.emit.is_some() && decision.band.is_some() && !self.is_explained(item)
            {
                unexplained.push(index);
            }
        }
        crossings.append(&mut unexplained);
        Wanted {
            due,
            optional: crossings,
        }
    }

    /// True for an explanation of this moment whose base and contributions are not the logit.
    fn is_outdated(&self, item: &Assessed) -> bool {
        let explained = self.state.explained.get(&(item.task, item.entity));
        let of_now = explained.filter(|explained| explained.as_of == self.state.as_of);
        of_now.is_some_and(|explained| item.logit.is_ok_and(|z| explained.is_of_another(z)))
    }

    fn is_explained(&self, item: &Assessed) -> bool {
        self.state.explained.contains_key(&(item.task, item.entity))
    }

    /// The logit of an entity at this moment, and its explanation compared with the last one in a
    /// record. The state is unchanged.
    pub(super) fn explain_now(&self, one: Subject) -> (f64, Explained) {
        let (graph, as_of) = (&self.state.graph, self.state.as_of);
        let scorer = &self.given.scorer;
        let plan = scorer.plan();
        let asked = [self.given.tasks[one.task].entity];
        let batch = plan.encode(graph, &[one.cell], as_of, &asked);
        let explanation = scorer.explain(&batch, self.given.scorer_tasks[one.task], 0, one.slot);
        let evidence = plan.evidence(graph, one.cell, one.entity, as_of);
        let before = self.state.explained.get(&(one.task, one.entity));
        let before = before.map(|explained| &**explained);
        let groups = &plan.layout().groups;
        let explained = Explained::new(before, as_of, &explanation, evidence, groups);
        (explanation.logit, explained)
    }

    /// The records of one score that is due.
    fn emit(
        &self,
        item: &Assessed,
        decision: &Decision,
        lineage: &Lineage,
        decided: &mut Decided,
        tally: &mut EpochTally,
    ) {
        let task = &self.given.tasks[item.task];
        let explained = self.state.explained.get(&(item.task, item.entity));
        let explained = explained.filter(|_| item.logit.is_ok()).map(|one| &**one);
        if explained.is_some_and(|explained| explained.as_of < self.state.as_of) {
            let key = (task.name.to_string(), "carried");
            *tally.explanations.entry(key).or_default() += 1;
        }
        let standing = item.logit.ok();
        let emission = Emission {
            reasons: item.reasons,
            standing: standing.and_then(|logit| self.standing(item.task, item.entity, logit)),
            explained,
            ..self.emission(item.subject(), item.logit, decision, lineage)
        };
        let EmissionRecords { key, score } = emission.records(decided.views.scores.len() as i32);
        let emitted = (task.name.to_string(), score.record.cause.0);
        *tally.emitted.entry(emitted).or_default() += 1;
        let value = self.given.encoders.score(&score.record);
        let headers = self.given.headers.score(&score.record);
        if self.given.current_scores {
            let key = key.clone();
            let record = match item.logit {
                Err(Absence::Deleted) => self.output(Output::CurrentScores, key, None),
                _ => OutputRecord {
                    headers: headers.clone(),
                    ..self.output(Output::CurrentScores, key, Some(value.clone()))
                },
            };
            decided.outputs.push(record);
        }
        decided.outputs.push(OutputRecord {
            headers,
            ..self.output(Output::Scores, key, Some(value))
        });
        decided.views.scores.push(score);
    }

    /// An emission without reasons, standing and explanation: the caller adds those it has.
    pub(super) fn emission<'a>(
        &'a self,
        one: Subject,
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
        } = &self.given.tasks[one.task];
        let scored = &self.given.scorer.tasks()[self.given.scorer_tasks[one.task]];
        Emission {
            catalog: &self.given.catalog,
            graph: &self.state.graph,
            task: name,
            table: *table,
            query,
            alert_limits: policy.alert_limits(),
            actions: &self.given.actions[one.task],
            horizon_ms: scored.horizon_ms,
            quality: scored.quality.as_deref(),
            interval_logits: scored.interval_logits,
            cell: one.cell,
            entity: one.entity,
            reasons: Reasons::default(),
            logit,
            standing: None,
            decision,
            groups: &self.given.scorer.plan().layout().groups,
            explained: None,
            lineage,
        }
    }

    /// An alert's record, keyed by account, or by entity where no account is known.
    pub(super) fn alert_output(&self, alert: &Alert) -> OutputRecord {
        let key = alert.account_id.as_ref().unwrap_or(&alert.entity_id);
        let value = self.given.encoders.alert(alert);
        OutputRecord {
            headers: self.given.headers.alert(alert),
            ..self.output(Output::Alerts, key.as_bytes().to_vec(), Some(value))
        }
    }

    fn policy_state(&self, task: usize, entity: EntityId) -> OutputRecord {
        let Tracked {
            policy,
            alerts,
            listed,
        } = &self.state.tracked[&(task, entity)];
        let rescoring = self.state.rescoring.as_ref();
        let key = (task, entity);
        let task = &self.given.tasks[task];
        let band = task.policy.band_of(policy);
        let record = PolicyStateRecord {
            task: task.name.to_string(),
            entity_type: self.given.catalog.table_at(task.entity).name.clone(),
            entity_id: self.state.graph.directory().key(entity).to_string(),
            epoch: self.state.number as i64,
            band: band.as_ref().map(|b| b.to_string()),
            state: serde_json::to_string(policy).expect("a policy state is JSON"),
            alerts: Some(serde_json::to_string(alerts).expect("an alert state is JSON")),
            listed: *listed,
            awaits_score: rescoring.map(|one| one.awaits(key.0, entity)),
            ranked_by: rescoring.and_then(|one| one.ranked_by(key.0, entity)),
        };
        self.state_output(&record)
    }

    fn state_output(&self, record: &PolicyStateRecord) -> OutputRecord {
        let key = output_key(&record.task, &record.entity_type, &record.entity_id);
        let value = self.given.encoders.policy_state(record);
        self.output(Output::PolicyState, key, Some(value))
    }

    /// A record of the epoch, at its `as_of`, without headers.
    pub(super) fn output(
        &self,
        output: Output,
        key: Vec<u8>,
        value: Option<Vec<u8>>,
    ) -> OutputRecord {
        OutputRecord {
            output,
            key: Some(key),
            value,
            headers: Vec::new(),
            timestamp_ms: self.state.as_of.ms(),
        }
    }
}

/// Entities to explain, by index among those assessed.
struct Wanted {
    /// Explained whatever the budget.
    due: Vec<usize>,
    /// Explained as far as the budget goes, most wanted first.
    optional: Vec<usize>,
}

/// Distance of a logit to the nearest band's entry, logits; `f32::MAX` without bands.
pub(super) fn margin(policy: &Policy, logit: f64) -> f32 {
    policy
        .bands()
        .map(|b| (logit - units::logit(b.enter)).abs() as f32)
        .fold(f32::MAX, f32::min)
}
