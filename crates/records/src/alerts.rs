//! The alert record: complete enough to be routed without a second look-up.

use std::collections::BTreeMap;

use leadpulse_features::{EventFact, Facts};
use leadpulse_graph::{DAY_MS, Reasons};
use leadpulse_policy::{AlertDraft, AlertType, alert_id};

use crate::emission::Emission;
use crate::explained::Explained;
use crate::output::{AlertRecord, EXPLAIN_METHOD, RecentEvent, ScoreRecord, Symbol, TypeName};
use crate::people;
use crate::views::AlertView;

/// Events an alert lists, at most.
const LISTED_EVENTS: usize = 5;

impl Emission<'_> {
    pub(crate) fn alert(
        &self,
        draft: &AlertDraft,
        score: &ScoreRecord,
        facts: &Facts,
    ) -> (AlertRecord, AlertView) {
        let p = score.probability.unwrap_or_default();
        let alert_type = draft.alert_type.name();
        // Fields of the account are carried over where its table has a field of that name.
        let fact = |name: &str| facts.values.get(name).cloned();
        let key_field = self
            .catalog
            .table_at(self.table)
            .field_at(self.catalog.table_at(self.table).key)
            .name
            .clone();
        let own_key = |name: &str| (key_field == name).then(|| score.entity_id.clone());
        let name = self.name(facts);
        let action = self.action(&facts.committee, Some(draft.alert_type));
        let (sla_minutes, expires_days) = self.alert_limits;
        let sla_minutes = action.and_then(|action| action.sla_minutes).or(sla_minutes);
        let expires_days = action
            .and_then(|action| action.expires_days)
            .or(expires_days);
        let summary = self.summary(draft, name.as_deref().unwrap_or(&score.entity_id), p);
        let recent: Vec<RecentEvent> = facts.events.iter().map(recent_event).collect();
        let record = AlertRecord {
            alert_id: alert_id(
                &score.task,
                &score.entity_type,
                &score.entity_id,
                draft.alert_type,
                draft.ordinal,
            ),
            r#type: TypeName(alert_type),
            severity: Symbol(draft.severity.name()),
            state: Symbol("open"),
            ordinal: draft.ordinal as i64,
            dedupe_key: Some(format!(
                "{}|{}|{}|{alert_type}",
                score.task, score.entity_type, score.entity_id
            )),
            supersedes_alert_id: None,
            task: score.task.clone(),
            entity_type: score.entity_type.clone(),
            entity_id: score.entity_id.clone(),
            account_id: score.account_id.clone(),
            account_name: facts.name.clone(),
            domain: fact("domain"),
            lead_id: own_key("lead_id"),
            contact_id: own_key("contact_id"),
            crm_ids: BTreeMap::new(),
            owner_id: fact("owner_id"),
            region: fact("region"),
            segment: fact("segment"),
            industry: fact("industry"),
            probability: p,
            probability_low: None,
            probability_high: None,
            score: 100.0 * p,
            previous_probability: score.previous_probability,
            previous_score: score.previous_score,
            delta: score
                .previous_probability
                .map(|before| 100.0 * (p - before)),
            threshold: Some(draft.threshold),
            band: draft.band.as_ref().map(|b| b.to_string()),
            previous_band: draft.previous_band.as_ref().map(|b| b.to_string()),
            percentile: score.percentile,
            rank: score.rank,
            ranked: score.ranked,
            trend: score.trend,
            velocity_per_day: score.velocity_per_day,
            acceleration_per_day2: score.acceleration_per_day2,
            baseline_score: None,
            horizon_days: score.horizon_days,
            target: Some(self.query.to_owned()),
            drivers: score.drivers.clone(),
            base_logit: score.base_logit,
            change_since: score.change_since,
            change_drivers: score.change_drivers.clone(),
            top_signal: score.top_signal.clone(),
            summary: Some(summary),
            explain_method: self.explained.map(|_| EXPLAIN_METHOD.to_owned()),
            committee: people::for_alert(&facts.committee),
            last_events: recent.iter().take(LISTED_EVENTS).cloned().collect(),
            open_opportunities: facts.open.iter().map(people::open_opportunity).collect(),
            trigger: self
                .reasons
                .contains(Reasons::EVENT)
                .then(|| recent.first().cloned())
                .flatten(),
            recommended_action: action.map(|action| action.code.to_string()),
            recommended_action_label: action.map(|action| action.label.to_string()),
            suggested_contact_id: facts.committee.members.first().map(|m| m.key.clone()),
            sla_minutes: sla_minutes.and_then(|minutes| i32::try_from(minutes).ok()),
            expires_at: expires_days
                .map(|days| score.as_of.saturating_add(i64::from(days) * DAY_MS)),
            do_not_contact: None,
            data_classes: Vec::new(),
            as_of: score.as_of,
            occurred_at: self
                .reasons
                .contains(Reasons::EVENT)
                .then(|| facts.events.first().map(|e| e.time_ms))
                .flatten(),
            epoch: score.epoch,
            bundle_id: score.bundle_id.clone(),
            plan_hash: score.plan_hash.clone(),
            board: score.board,
            trace: score.trace.clone(),
        };
        let view = AlertView::of(&record, name);
        (record, view)
    }
    /// One sentence: who, what, how high, and the strongest signal in that direction.
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

fn recent_event(event: &EventFact) -> RecentEvent {
    RecentEvent {
        event_id: event.id.clone(),
        table: event.table.clone(),
        kind: (!event.kind.is_empty()).then(|| event.kind.clone()),
        occurred_at: event.time_ms,
        contact_id: event.by_person.then(|| event.owner.clone()),
    }
}
