//! The alert of an account at a tick: the leading part with its score, a sentence, people to turn
//! to, and the other parts.

use leadpulse_features::{
    Direction, EventFact, EvidenceChange, Facts, PastValue, account_values, changes, stopped,
};
use leadpulse_graph::{DAY_MS, Reasons};
use leadpulse_policy::{
    AccountAlert, Action, AlertDraft, AlertFacts, AlertLife, EntityDraft, ScoreChange,
};

use super::{Emission, name_of, points};
use crate::alert::{Alert, AlertPart, EXPLAIN_METHOD, RecentEvent, ShownAlert};
use crate::people;
use crate::score::{ON_REQUEST, Score};
use crate::symbol::{Symbol, TypeName};
use crate::wording::Telling;

/// Events that an alert lists, at most.
const LISTED_EVENTS: usize = 5;

impl Emission<'_> {
    /// Composes the record of an account's alert. The emission is of the leading part at its tick,
    /// and so are the facts.
    pub fn shown_alert(&self, alert: &AccountAlert, alert_facts: &AlertFacts) -> ShownAlert {
        let facts = self.facts();
        let score = self.score(ON_REQUEST, &facts);
        let record = self.alert(alert, alert_facts, &score, &facts);
        let name = self.name(&facts);
        ShownAlert { record, name }
    }

    fn alert(
        &self,
        alert: &AccountAlert,
        alert_facts: &AlertFacts,
        score: &Score,
        facts: &Facts,
    ) -> Alert {
        let (lead, draft) = (&alert.lead, &alert.lead.draft);
        let account_field = |field: &str| facts.values.get(field).cloned();
        let recent: Vec<RecentEvent> = facts.events.iter().map(recent_event).collect();
        let trigger = recent.first().filter(|_| self.has_trigger());
        let action = self.action(&facts.committee, Some(draft.key.alert_type));
        let (sla_minutes, expires_days) = self.limits(action);
        let expires_at_ms = expires_days
            .map(|days| draft.tick_ms.saturating_add(i64::from(days) * DAY_MS))
            .or(draft.expires_at_ms);
        Alert {
            alert_id: lead.alert_id(),
            r#type: TypeName(draft.key.alert_type.name()),
            severity: Symbol(draft.severity.name()),
            state: state_of(draft),
            dedupe_key: Some(format!(
                "{}|{}|{}|{}",
                lead.task, lead.entity_type, lead.entity_id, draft.key.alert_type
            )),
            supersedes_alert_id: lead.supersedes_alert_id(),
            account_name: facts.name.clone(),
            domain: alert_facts
                .domain
                .clone()
                .or_else(|| account_field("domain")),
            lead_id: self.own_key("lead_id", score),
            contact_id: self.own_key("contact_id", score),
            owner_id: alert_facts
                .owner
                .clone()
                .or_else(|| account_field("owner_id")),
            // Fields of the account are carried over where its table has a field of that name.
            region: account_field("region"),
            segment: account_field("segment"),
            industry: account_field("industry"),
            target: Some(self.query.to_owned()),
            summary: Some(self.summary(lead, alert_facts, facts, action)),
            explain_method: self.explained.map(|_| EXPLAIN_METHOD.to_owned()),
            committee: people::for_alert(&facts.committee),
            trigger: trigger.cloned(),
            occurred_at: trigger.map(|event| event.occurred_at),
            last_events: recent.into_iter().take(LISTED_EVENTS).collect(),
            open_opportunities: facts.open.iter().map(people::open_opportunity).collect(),
            recommended_action: action.map(|action| action.code.to_string()),
            recommended_action_label: action.map(|action| action.label.to_string()),
            suggested_contact_id: facts.committee.members.first().map(|m| m.key.clone()),
            sla_minutes: sla_minutes.and_then(|minutes| i32::try_from(minutes).ok()),
            expires_at: expires_at_ms,
            do_not_contact: Some(alert_facts.do_not_contact),
            value_at_stake: Some(draft.value_at_stake).filter(|value| *value > 0.0),
            is_customer: alert_facts.is_customer,
            hold_out: draft.is_held_out,
            parts: alert.parts.iter().map(part).collect(),
            ..drafted(score, draft)
        }
    }

    /// True if an event made the entity be scored: then the newest event is the alert's trigger.
    fn has_trigger(&self) -> bool {
        self.reasons.contains(Reasons::EVENT)
    }

    /// Key of the entity, if the key field of its table has this name.
    fn own_key(&self, field: &str, score: &Score) -> Option<String> {
        let table = self.catalog.table_at(self.table);
        (table.field_at(table.key).name == field).then(|| score.entity_id.to_string())
    }

    /// Minutes to react and days until the alert expires: the action's, else the task's.
    fn limits(&self, action: Option<&Action>) -> (Option<u32>, Option<u32>) {
        let (sla_minutes, expires_days) = self.alert_limits;
        (
            action.and_then(|a| a.sla_minutes).or(sla_minutes),
            action.and_then(|a| a.expires_days).or(expires_days),
        )
    }

    fn summary(
        &self,
        lead: &EntityDraft,
        alert_facts: &AlertFacts,
        facts: &Facts,
        action: Option<&Action>,
    ) -> String {
        let name = self.told_name(facts);
        let came_from = alert_facts.from_elsewhere.first();
        let from = came_from.and_then(|arrival| self.account_name(arrival.from.as_deref()?));
        let drag = self.explained.and_then(|explained| explained.top_drag());
        let changes = self.changes(lead.draft.change.as_ref());
        let telling = Telling {
            name: name.as_deref().unwrap_or(&lead.entity_id),
            draft: &lead.draft,
            alert_facts,
            facts,
            changes: &changes,
            drag,
            from: from.as_deref(),
            next: action
                .filter(|action| !action.is_nothing())
                .map(|action| &*action.label),
        };
        telling.sentence()
    }

    /// Name of the entity; of a person, deal or lead with that of its account: `Ann Lee of Acme`.
    fn told_name(&self, facts: &Facts) -> Option<String> {
        let own = self.name(facts)?;
        let account = facts.name.as_ref();
        let account = account.filter(|account| **account != own);
        Some(match account {
            Some(account) => format!("{own} of {account}"),
            None => own,
        })
    }

    /// Differences of the account's events and deals since the score that the alert compares with.
    /// Without what was then, only what stopped.
    pub(super) fn changes(&self, before: Option<&ScoreChange>) -> Vec<EvidenceChange> {
        let as_of = self.lineage.as_of;
        let values = account_values(self.graph, self.graph.cell(self.cell), as_of);
        let then = before.and_then(|before| Some((before.since_ms, before.counts.as_ref()?)));
        let Some((since_ms, counts)) = then else {
            let fallen = stopped(&values, as_of).into_iter();
            return fallen
                .map(|text| EvidenceChange {
                    text,
                    direction: Direction::Fall,
                })
                .collect();
        };
        let past = |(label, number): (&String, &f64)| (label.clone(), PastValue::Number(*number));
        changes(&values, &counts.iter().map(past).collect(), since_ms, as_of)
    }

    /// Label of an account by its key; the key where it has none.
    fn account_name(&self, key: &str) -> Option<String> {
        let root = self.catalog.root().id;
        let (_, node) = self.graph.find(root, key)?;
        let label = name_of(self.catalog, node, &Facts::default());
        label.or_else(|| Some(key.to_owned()))
    }
}

/// State of an alert's record; suppressed for an account of the hold-out share.
fn state_of(draft: &AlertDraft) -> Symbol {
    if draft.is_held_out {
        return Symbol("suppressed");
    }
    match draft.life {
        AlertLife::Open => Symbol("open"),
        AlertLife::Updated => Symbol("updated"),
        AlertLife::Resolved => Symbol("resolved"),
    }
}

/// The alert of an entity as a part of a record.
pub(crate) fn part(part: &EntityDraft) -> AlertPart {
    AlertPart {
        alert_id: part.alert_id(),
        r#type: TypeName(part.draft.key.alert_type.name()),
        severity: Symbol(part.draft.severity.name()),
        state: state_of(&part.draft),
        task: part.task.clone(),
        entity_type: part.entity_type.clone(),
        entity_id: part.entity_id.clone(),
        probability: part.draft.probability,
    }
}

/// An alert with the figures of its draft, and fields that it shares with the entity's score.
///
/// Score, change, direction and slope are the draft's, so that no two figures disagree.
fn drafted(score: &Score, draft: &AlertDraft) -> Alert {
    let change = draft.change.as_ref();
    let before = change.map(|change| change.probability);
    Alert {
        task: score.task.clone(),
        entity_type: score.entity_type.clone(),
        entity_id: score.entity_id.clone(),
        account_id: score.account_id.clone(),
        probability: draft.probability,
        probability_low: score.probability_low,
        probability_high: score.probability_high,
        score: points(draft.probability),
        previous_probability: before,
        previous_score: before.map(points),
        previous_as_of: change.map(|change| change.since_ms),
        delta: before.map(|before| points(draft.probability - before)),
        threshold: draft.threshold,
        band: draft.band.clone(),
        previous_band: draft.previous_band.clone(),
        percentile: score.percentile,
        rank: score.rank,
        ranked: score.ranked,
        trend: Symbol(draft.trend.name()),
        velocity_per_day: draft.velocity_per_day.map(points),
        horizon_days: score.horizon_days,
        drivers: score.drivers.clone(),
        base_logit: score.base_logit,
        drivers_as_of: score.drivers_as_of,
        change_since: score.change_since,
        change_drivers: score.change_drivers.clone(),
        top_signal: score.top_signal.clone(),
        as_of: draft.tick_ms,
        crossed_at: draft.key.crossed_at_ms,
        epoch: score.epoch,
        bundle_id: score.bundle_id.clone(),
        plan_hash: score.plan_hash.clone(),
        board: score.board,
        trace: score.trace.clone(),
        sub_scores: score.sub_scores,
        ..Alert::default()
    }
}

fn recent_event(event: &EventFact) -> RecentEvent {
    RecentEvent {
        event_id: event.id.clone(),
        table: event.table.clone(),
        kind: (!event.kind.is_empty()).then(|| event.kind.clone()),
        occurred_at: event.time_ms,
        contact_id: event.by_person.then(|| event.owner.clone()),
    }
}
