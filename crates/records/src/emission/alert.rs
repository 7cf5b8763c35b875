//! The alert of a decision: fields of the score, a sentence about the crossing, and people to turn
//! to.

use leadpulse_features::{EventFact, Facts, assignee};
use leadpulse_graph::{DAY_MS, Reasons};
use leadpulse_policy::{Action, AlertDraft, AlertType, alert_id};

use super::{Emission, points};
use crate::alert::{Alert, EXPLAIN_METHOD, RecentEvent};
use crate::explained::Explained;
use crate::people;
use crate::score::Score;
use crate::symbol::{Symbol, TypeName};

/// Events that an alert lists, at most.
const LISTED_EVENTS: usize = 5;

/// State of a new alert; the program closes none.
const OPEN: Symbol = Symbol("open");

impl Emission<'_> {
    /// Builds the alert of one draft, about an entity that has a score.
    pub(super) fn alert(&self, draft: &AlertDraft, score: &Score, facts: &Facts) -> Alert {
        let alert_type = draft.alert_type.name();
        let probability = score.probability.unwrap_or_default();
        let name = self.name(facts);
        let name = name.as_deref().unwrap_or(&score.entity_id);
        let account_field = |field: &str| facts.values.get(field).cloned();
        let recent: Vec<RecentEvent> = facts.events.iter().map(recent_event).collect();
        let trigger = recent.first().filter(|_| self.has_trigger());
        let action = self.action(&facts.committee, Some(draft.alert_type));
        let (sla_minutes, expires_days) = self.limits(action);
        Alert {
            alert_id: alert_id(
                &score.task,
                &score.entity_type,
                &score.entity_id,
                draft.alert_type,
                draft.ordinal,
            ),
            r#type: TypeName(alert_type),
            severity: Symbol(draft.severity.name()),
            state: OPEN,
            ordinal: draft.ordinal as i64,
            dedupe_key: Some(format!(
                "{}|{}|{}|{alert_type}",
                score.task, score.entity_type, score.entity_id
            )),
            account_name: facts.name.clone(),
            // Fields of the account are carried over where its table has a field of that name.
            domain: account_field("domain"),
            lead_id: self.own_key("lead_id", score),
            contact_id: self.own_key("contact_id", score),
            owner_id: self.assignee().or_else(|| account_field("owner_id")),
            region: account_field("region"),
            segment: account_field("segment"),
            industry: account_field("industry"),
            threshold: Some(draft.threshold),
            band: draft.band.clone(),
            previous_band: draft.previous_band.clone(),
            target: Some(self.query.to_owned()),
            summary: Some(self.summary(draft, name, probability)),
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
            expires_at: expires_days
                .map(|days| score.as_of.saturating_add(i64::from(days) * DAY_MS)),
            ..repeated(score)
        }
    }

    /// True if an event made the entity be scored: then the newest event is the alert's trigger.
    fn has_trigger(&self) -> bool {
        self.reasons.contains(Reasons::EVENT)
    }

    /// Key of the person of the own company whom the alert is for; `None` without a staff table.
    fn assignee(&self) -> Option<String> {
        assignee(self.graph, self.graph.cell(self.cell), self.entity)
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

    /// Composes one sentence: the name, the crossing, the probability, the strongest signal behind
    /// it.
    fn summary(&self, draft: &AlertDraft, name: &str, p: f64) -> String {
        let (verb, signal) = match draft.alert_type {
            AlertType::ThresholdUp => {
                ("rose above", self.explained.and_then(Explained::top_signal))
            }
            AlertType::ThresholdDown => {
                ("fell below", self.explained.and_then(Explained::top_drag))
            }
        };
        let because = signal.map_or_else(String::new, |signal| format!(", driven by {signal}"));
        format!(
            "{name} {verb} {:.0} %: now {:.0} %{because}.",
            100.0 * draft.threshold,
            100.0 * p
        )
    }
}

/// An alert that repeats its score: the fields that both have.
fn repeated(score: &Score) -> Alert {
    let probability = score.probability.unwrap_or_default();
    Alert {
        task: score.task.clone(),
        entity_type: score.entity_type.clone(),
        entity_id: score.entity_id.clone(),
        account_id: score.account_id.clone(),
        probability,
        probability_low: score.probability_low,
        probability_high: score.probability_high,
        score: points(probability),
        previous_probability: score.previous_probability,
        previous_score: score.previous_score,
        delta: score
            .previous_probability
            .map(|before| points(probability - before)),
        percentile: score.percentile,
        rank: score.rank,
        ranked: score.ranked,
        trend: score.trend,
        velocity_per_day: score.velocity_per_day,
        acceleration_per_day2: score.acceleration_per_day2,
        horizon_days: score.horizon_days,
        drivers: score.drivers.clone(),
        base_logit: score.base_logit,
        change_since: score.change_since,
        change_drivers: score.change_drivers.clone(),
        top_signal: score.top_signal.clone(),
        as_of: score.as_of,
        epoch: score.epoch,
        bundle_id: score.bundle_id.clone(),
        plan_hash: score.plan_hash.clone(),
        board: score.board,
        trace: score.trace.clone(),
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
