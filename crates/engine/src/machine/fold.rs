//! The decisions of a tick: cells that are due become observations, and those become alerts.

use std::collections::BTreeMap;
use std::sync::Arc;

use leadpulse_features::probability;
use leadpulse_graph::Reasons;
use leadpulse_policy::{
    AccountAlert, AlertDraft, Decision, Digest, EntityDraft, Scored, Seen, Stage, combine,
};
use leadpulse_records::{Emission, ShownAlert, digest_alert};
use leadpulse_schema::Absence;

use super::Machine;
use super::half::{HalfTick, Pass};
use super::score::{Assessed, Subject, TickScores};
use super::state::Tracked;

/// Task, table and key of an entity.
type ToldKey = (Arc<str>, Arc<str>, Arc<str>);

fn told_key(draft: &EntityDraft) -> ToldKey {
    let EntityDraft {
        task,
        entity_type,
        entity_id,
        ..
    } = draft;
    (task.clone(), entity_type.clone(), entity_id.clone())
}

impl Machine {
    /// In: the drafts of all due cells of a tick, which is the graph's moment.
    /// Out: the alerts that fire, in order, still to be written. The memory of caps is that after the
    /// tick; digests and exposures are written.
    pub(super) fn decide_tick(&mut self, half: &mut HalfTick, pass: &mut Pass<'_>) {
        let tick_ms = half.progress.tick;
        let fired = std::mem::take(&mut half.progress.fired);
        let reasons: BTreeMap<ToldKey, Reasons> = fired
            .iter()
            .map(|(draft, reasons)| (told_key(draft), *reasons))
            .collect();
        let alerts = combine(fired.into_iter().map(|(draft, _)| draft).collect());
        let exposures = self.exposures_of(&alerts);
        let caps = &self.given.caps;
        let digests = caps.due(&mut self.state.caps, tick_ms);
        // Most ticks tell of nobody, and the memory holds whole alerts.
        let before = (!alerts.is_empty()).then(|| self.state.caps.clone());
        let alerts = caps.admit(&mut self.state.caps, tick_ms, alerts);
        let is_changed = before.is_some_and(|before| before != self.state.caps);
        pass.decided.caps_changed |= !digests.is_empty() || is_changed;
        for digest in &digests {
            self.tell_digest(digest, pass);
        }
        self.write_exposures(exposures, &alerts, pass);
        let with_reasons = alerts.into_iter().map(|alert| {
            let reasons = reasons.get(&told_key(&alert.lead)).copied();
            (alert, reasons.unwrap_or_default())
        });
        half.progress.alerts = with_reasons.collect();
    }

    /// Folds one entity of a due cell. Drafts go to `fired`.
    pub(super) fn fold_one(
        &mut self,
        tick_ms: i64,
        item: &Assessed,
        fired: &mut Vec<(EntityDraft, Reasons)>,
        pass: &mut Pass<'_>,
    ) {
        let task = &self.given.tasks[item.task];
        let ticks = &self.state.ticks;
        let key = (item.task, item.entity);
        let is_folded = |tracked: &Tracked| tracked.alerts.tick_ms.is_some();
        if item.logit.is_err() && !self.state.tracked.get(&key).is_some_and(is_folded) {
            // Emitted scores may have seen it; for alerts it begins with its first score.
            return;
        }
        let is_history = ticks.live_from_ms.is_none_or(|live_ms| tick_ms <= live_ms);
        let is_placed = is_history || item.reasons.contains(Reasons::BUNDLE);
        let graph = &self.state.graph;
        let plan = &self.given.facts[item.task];
        let facts = plan.facts(graph, graph.cell(item.cell), item.entity, self.state.as_of);
        let rulings = &self.state.said.rulings;
        let ruling = rulings.about(graph, graph.cell(item.cell), item.entity, tick_ms);
        let seen = Seen {
            tick_ms,
            score: item.logit.map(|logit| Scored {
                probability: probability(logit),
                logit,
            }),
            stage: if is_placed {
                Stage::Placing
            } else {
                Stage::Live
            },
            is_new: ticks.known.is_some_and(|known| item.entity.0 >= known),
            facts: &facts,
            ruling,
        };
        let tracked = self.state.tracked.entry_or(key, Tracked::default);
        let before_ms = tracked.alerts.revisit_at_ms;
        let folded = task.policy.fold(&mut tracked.alerts, &seen);
        for (alert_type, reason) in &folded.held {
            let key = (task.name.to_string(), alert_type.name(), reason.name());
            *pass.tally.suppressed.entry(key).or_default() += 1;
        }
        let is_moved = self.given.work_lists.are_made() && tracked.note_listed(item.logit);
        if folded.changed || is_moved {
            pass.decided.changed.insert(key);
        }
        let revisit = |at_ms: i64| (at_ms, item.task, item.entity);
        if let Some(before_ms) = self.given.revisit_ms(before_ms) {
            self.state.revisits.remove(&revisit(before_ms));
        }
        let after_ms = self.given.revisit_ms(folded.revisit_at_ms);
        self.state.revisits.extend(after_ms.map(revisit));
        if folded.fired.is_empty() {
            return;
        }
        let task_name = task.name.clone();
        let entity_type: Arc<str> = self
            .given
            .catalog
            .table_at(task.entity)
            .name
            .as_str()
            .into();
        let entity_id = self.state.graph.directory().key(item.entity).clone();
        let account: Arc<str> = facts.account.as_str().into();
        let owner: Option<Arc<str>> = facts.owner.as_deref().map(Arc::from);
        fired.extend(folded.fired.into_iter().map(|draft| {
            let draft = EntityDraft {
                task: task_name.clone(),
                entity_type: entity_type.clone(),
                entity_id: entity_id.clone(),
                account: account.clone(),
                owner: owner.clone(),
                draft,
            };
            (draft, item.reasons)
        }));
    }

    /// Writes the record of a person's alerts beyond the cap of a day.
    fn tell_digest(&self, digest: &Digest, pass: &mut Pass<'_>) {
        let Some(record) = digest_alert(digest, &self.lineage()) else {
            return;
        };
        let shown = ShownAlert { record, name: None };
        self.write_alert(shown, pass);
    }

    fn write_alert(&self, shown: ShownAlert, pass: &mut Pass<'_>) {
        let record = &shown.record;
        let key = (record.task.to_string(), record.r#type.0, record.severity.0);
        *pass.tally.alerts.entry(key).or_default() += 1;
        pass.decided.outputs.push(self.alert_output(&shown.record));
        pass.decided.views.alerts.push(shown);
    }

    /// Writes the record of an alert: explained, as of the tick.
    pub(super) fn tell(&self, alert: &AccountAlert, reasons: Reasons, pass: &mut Pass<'_>) {
        let started = (pass.elapsed)();
        let lead = &alert.lead;
        let known = pass.decided.tick_scores.as_ref();
        let Some((subject, logit)) = self.assessed_again(lead, reasons, known) else {
            return;
        };
        let lineage = self.lineage();
        let explained = logit.is_ok().then(|| self.explain_now(subject).1);
        let decision = told_by(&lead.draft);
        let emission = Emission {
            reasons,
            standing: logit
                .ok()
                .and_then(|logit| self.standing(subject.task, subject.entity, logit)),
            explained: explained.as_ref(),
            ..self.emission(subject, logit, &decision, &lineage)
        };
        let graph = &self.state.graph;
        let plan = &self.given.facts[subject.task];
        let cell = graph.cell(subject.cell);
        let facts = plan.facts(graph, cell, subject.entity, self.state.as_of);
        let shown = emission.shown_alert(alert, &facts);
        let task = self.given.tasks[subject.task].name.to_string();
        *pass.tally.explanations.entry((task, "made")).or_default() += 1;
        pass.note_explained(1, started);
        self.write_alert(shown, pass);
    }

    /// The score that an alert is about, at the moment of its tick: looked up among those of this
    /// epoch, else computed again, which gives the same.
    fn assessed_again(
        &self,
        lead: &EntityDraft,
        reasons: Reasons,
        known: Option<&TickScores>,
    ) -> Option<(Subject, Result<f64, Absence>)> {
        let named = self.named(&lead.task, &lead.entity_type, &lead.entity_id);
        let (task, entity, _) = named.ok()?;
        let cell = self.state.graph.directory().place(entity)?.cell;
        let is_it = |one: &&Assessed| one.task == task && one.entity == entity;
        let found = known.and_then(|known| {
            let first = known.assessed.partition_point(|one| one.cell < cell);
            let of_cell = known.assessed[first..].iter();
            let mut of_cell = of_cell.take_while(|one| one.cell == cell);
            of_cell.find(is_it).map(|one| (one.subject(), one.logit))
        });
        found.or_else(|| {
            let again = self.score(&[(cell, reasons)]);
            let one = again.iter().find(is_it)?;
            Some((one.subject(), one.logit))
        })
    }
}

/// The decision that an alert stands for: its bands, and the change that it tells.
fn told_by(draft: &AlertDraft) -> Decision {
    Decision {
        emit: None,
        band: draft.band.clone(),
        previous_band: draft.previous_band.clone(),
        previous_probability: draft.change.as_ref().map(|before| before.probability),
        previous_as_of_ms: draft.change.as_ref().map(|before| before.since_ms),
        trend: draft.trend,
        velocity_per_day: draft.velocity_per_day,
        acceleration_per_day2: None,
        state_changed: false,
    }
}
