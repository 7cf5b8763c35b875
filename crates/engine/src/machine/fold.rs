//! The decisions of a tick: cells that are due become observations, and those become alerts.

use std::collections::BTreeMap;
use std::sync::Arc;

use leadpulse_features::probability;
use leadpulse_graph::{CellRef, Reasons};
use leadpulse_policy::{
    AccountAlert, AlertDraft, AlertFacts, Decision, Digest, EntityDraft, Scored, Seen, Stage,
    combine,
};
use leadpulse_records::{Emission, ShownAlert, digest_alert};
use leadpulse_schema::Absence;

use super::Machine;
use super::decide::Decided;
use super::score::{Assessed, Subject, TickScores};
use super::state::Tracked;
use crate::epoch::EpochTally;

/// The parts of a record about an entity with a draft.
struct Told {
    subject: Subject,
    reasons: Reasons,
    logit: Result<f64, Absence>,
    facts: AlertFacts,
}

/// Task, table and key of an entity.
type ToldKey = (Arc<str>, Arc<str>, Arc<str>);

/// The drafts of a tick, and their entities by task, table and key.
#[derive(Default)]
struct Drafts {
    drafts: Vec<EntityDraft>,
    told: BTreeMap<ToldKey, Told>,
}

impl Machine {
    /// In: the cells that are due at a tick, which is the graph's moment.
    /// Out: the alerts that fire, in order; the memory of alerts is that after the tick.
    pub(super) fn fold(
        &mut self,
        tick_ms: i64,
        due: &[(CellRef, Reasons)],
        decided: &mut Decided,
        tally: &mut EpochTally,
    ) {
        let cells = self.with_revisits(due, tick_ms);
        tally.due.extend(Some(cells.len()).filter(|due| *due > 0));
        let assessed = self.score(&cells);
        let mut found = Drafts::default();
        for item in &assessed {
            self.fold_one(tick_ms, item, &mut found, decided, tally);
        }
        let alerts = combine(found.drafts);
        let exposures = self.exposures_of(&alerts);
        let caps = &self.given.caps;
        let digests = caps.due(&mut self.state.caps, tick_ms);
        // Most ticks tell of nobody, and the memory holds whole alerts.
        let before = (!alerts.is_empty()).then(|| self.state.caps.clone());
        let alerts = caps.admit(&mut self.state.caps, tick_ms, alerts);
        let is_changed = before.is_some_and(|before| before != self.state.caps);
        decided.caps_changed |= !digests.is_empty() || is_changed;
        for digest in &digests {
            self.tell_digest(digest, decided, tally);
        }
        for alert in &alerts {
            self.tell(alert, &found.told, decided, tally);
        }
        self.write_exposures(exposures, &alerts, decided, tally);
        decided.tick_scores = Some(TickScores {
            as_of: self.state.as_of,
            cells: cells.into_iter().map(|(at, _)| at).collect(),
            assessed,
        });
    }

    /// The due cells, and those of entities about which time alone decides by now.
    fn with_revisits(
        &mut self,
        due: &[(CellRef, Reasons)],
        tick_ms: i64,
    ) -> Vec<(CellRef, Reasons)> {
        let state = &mut self.state;
        let mut cells = due.to_vec();
        while let Some((at_ms, _, entity)) = state.revisits.first().copied() {
            if at_ms > tick_ms {
                break;
            }
            state.revisits.pop_first();
            let Some(place) = state.graph.directory().place(entity) else {
                continue;
            };
            if let Err(index) = cells.binary_search_by_key(&place.cell, |(at, _)| *at) {
                cells.insert(index, (place.cell, Reasons::TIMER));
            }
        }
        cells
    }

    fn fold_one(
        &mut self,
        tick_ms: i64,
        item: &Assessed,
        found: &mut Drafts,
        decided: &mut Decided,
        tally: &mut EpochTally,
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
            *tally.suppressed.entry(key).or_default() += 1;
        }
        let is_moved = self.given.work_lists.are_made() && tracked.note_listed(item.logit);
        if folded.changed || is_moved {
            decided.changed.insert(key);
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
        found
            .drafts
            .extend(folded.fired.into_iter().map(|draft| EntityDraft {
                task: task_name.clone(),
                entity_type: entity_type.clone(),
                entity_id: entity_id.clone(),
                account: account.clone(),
                owner: owner.clone(),
                draft,
            }));
        let told = Told {
            subject: item.subject(),
            reasons: item.reasons,
            logit: item.logit,
            facts,
        };
        found.told.insert((task_name, entity_type, entity_id), told);
    }

    /// Writes the record of a person's alerts beyond the cap of a day.
    fn tell_digest(&self, digest: &Digest, decided: &mut Decided, tally: &mut EpochTally) {
        let Some(record) = digest_alert(digest, &self.lineage()) else {
            return;
        };
        let shown = ShownAlert { record, name: None };
        self.write_alert(shown, decided, tally);
    }

    fn write_alert(&self, shown: ShownAlert, decided: &mut Decided, tally: &mut EpochTally) {
        let record = &shown.record;
        let key = (record.task.to_string(), record.r#type.0, record.severity.0);
        *tally.alerts.entry(key).or_default() += 1;
        decided.outputs.push(self.alert_output(&shown.record));
        decided.views.alerts.push(shown);
    }

    /// Writes the record of an alert: explained, as of the tick.
    fn tell(
        &self,
        alert: &AccountAlert,
        told: &BTreeMap<ToldKey, Told>,
        decided: &mut Decided,
        tally: &mut EpochTally,
    ) {
        let lead = &alert.lead;
        let key = (
            lead.task.clone(),
            lead.entity_type.clone(),
            lead.entity_id.clone(),
        );
        let Some(one) = told.get(&key) else { return };
        let lineage = self.lineage();
        let explained = one.logit.is_ok().then(|| self.explain_now(one.subject).1);
        let decision = told_by(&lead.draft);
        let emission = Emission {
            reasons: one.reasons,
            standing: one
                .logit
                .ok()
                .and_then(|logit| self.standing(one.subject.task, one.subject.entity, logit)),
            explained: explained.as_ref(),
            ..self.emission(one.subject, one.logit, &decision, &lineage)
        };
        let shown = emission.shown_alert(alert, &one.facts);
        let task = self.given.tasks[one.subject.task].name.to_string();
        *tally.explanations.entry((task, "made")).or_default() += 1;
        self.write_alert(shown, decided, tally);
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
