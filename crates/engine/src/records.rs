//! From a decision to the records people and systems read.

use std::sync::Arc;

use leadpulse_features::{EventFact, Explanation, Facts, Group, MemberFact, probability};
use leadpulse_graph::{CellRef, EntityId, Graph, Reasons};
use leadpulse_policy::{AlertDraft, Decision, alert_id};
use leadpulse_schema::Catalog;

use crate::machine::{Task, output_key};
use crate::output::{AlertRecord, Committee, CommitteeMember, Driver, EXPLAIN_METHOD, RecentEvent, ScoreRecord, Symbol};
use crate::read_model::{AlertView, DriverView, ScoreStatus, ScoreView};

/// Event ids a record names, at most.
const TRACED_EVENTS: usize = 8;
/// Events an alert lists, at most.
const LISTED_EVENTS: usize = 5;

/// Where a score comes from.
pub(crate) struct Lineage {
    pub epoch: i64,
    pub as_of_ms: i64,
    pub bundle_id: Arc<str>,
    pub plan_hash: Arc<str>,
    pub board: i64,
}

/// Everything known about one score that is to be emitted.
pub(crate) struct Emission<'a> {
    pub catalog: &'a Catalog,
    pub graph: &'a Graph,
    pub groups: &'a [Group],
    pub task: &'a Task,
    pub horizon_ms: i64,
    pub cell: CellRef,
    pub entity: EntityId,
    pub reasons: Reasons,
    pub logit: Option<f64>,
    pub decision: &'a Decision,
    pub explained: Option<&'a (i64, Explanation)>,
    pub lineage: &'a Lineage,
}

/// What an emission becomes.
pub(crate) struct Records {
    pub key: Vec<u8>,
    pub score: ScoreRecord,
    pub view: ScoreView,
    pub alerts: Vec<(AlertRecord, AlertView)>,
}

impl Emission<'_> {
    pub(crate) fn records(&self, sequence: i32) -> Records {
        let entity_type = &self.catalog.table_at(self.task.entity).name;
        let entity_id = self.graph.directory().key(self.entity).to_string();
        let facts = Facts::of(self.graph, self.graph.cell(self.cell), self.lineage.as_of_ms);
        let p = self.logit.map(probability);
        let drivers = self.drivers();
        let horizon_days = i32::try_from(self.horizon_ms / 86_400_000).ok();
        let band = |b: &Option<Arc<str>>| b.as_ref().map(|b| b.to_string());
        let score = ScoreRecord {
            task: self.task.name.to_string(),
            entity_type: entity_type.clone(),
            entity_id: entity_id.clone(),
            account_id: facts.root.clone(),
            epoch: self.lineage.epoch,
            sequence,
            as_of: self.lineage.as_of_ms,
            status: Symbol(if self.logit.is_some() { "scored" } else { "ineligible" }),
            reason: self.logit.is_none().then(|| self.ineligible_because()),
            probability: p,
            logit: self.logit,
            score: p.map(|p| 100.0 * p),
            band: band(&self.decision.band),
            previous_band: band(&self.decision.previous_band),
            previous_probability: self.decision.previous_probability,
            trend: Symbol(self.decision.trend.name()),
            cause: Symbol(cause(self.reasons)),
            horizon_days,
            bundle_id: Some(self.lineage.bundle_id.to_string()),
            plan_hash: Some(self.lineage.plan_hash.to_string()),
            board: self.lineage.board,
            drivers: drivers.clone(),
            drivers_as_of: self.explained.map(|(as_of, _)| *as_of),
            trace: facts.events.iter().take(TRACED_EVENTS).map(|e| e.id.clone()).collect(),
        };
        let alerts = self.decision.alerts.iter().map(|draft| self.alert(draft, &score, &facts)).collect();
        let view = ScoreView {
            task: self.task.name.clone(),
            entity_type: entity_type.as_str().into(),
            entity_id: entity_id.as_str().into(),
            account_id: facts.root.as_deref().map(Arc::from),
            name: self.name(&facts),
            status: if self.logit.is_some() { ScoreStatus::Scored } else { ScoreStatus::Ineligible },
            probability: p.or(self.decision.previous_probability),
            score: score.score,
            band: self.decision.band.clone(),
            trend: self.decision.trend.name(),
            previous_probability: self.decision.previous_probability,
            velocity_per_day: self.decision.velocity_per_day,
            as_of_ms: self.lineage.as_of_ms,
            epoch: self.lineage.epoch as u64,
            board: self.lineage.board.max(0) as u64,
            bundle_id: self.lineage.bundle_id.clone(),
            drivers: self.driver_views(&drivers),
            facts: serde_json::to_value(&facts).expect("facts are JSON"),
        };
        Records { key: output_key(&self.task.name, entity_type, &entity_id), score, view, alerts }
    }

    fn ineligible_because(&self) -> String {
        let known = self.graph.cell(self.cell).nodes.iter().any(|n| n.entity == self.entity && n.is_known());
        if known { "outside the task's population".into() } else { "deleted".into() }
    }

    /// What people call the entity: its own label, or the root's.
    fn name(&self, facts: &Facts) -> Option<String> {
        let node = self.graph.cell(self.cell).nodes.iter().find(|n| n.entity == self.entity)?;
        let table = self.catalog.table_at(node.table);
        let own = table.fields.iter().filter(|f| f.label).find_map(|f| node.value(f.id).text().map(str::to_owned));
        own.or_else(|| facts.name.clone())
    }

    fn drivers(&self) -> Vec<Driver> {
        let Some((_, explanation)) = self.explained else { return Vec::new() };
        let mut contributions: Vec<(usize, f64)> = explanation.contributions.iter().map(|c| (c.group, c.logit)).collect();
        contributions.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
        let shares = shares(&contributions.iter().map(|(_, x)| *x).collect::<Vec<_>>());
        contributions
            .into_iter()
            .zip(shares)
            .filter(|((_, x), _)| x.abs() > 1e-6)
            .map(|((group, contribution), share)| Driver {
                group: self.groups[group].code.clone(),
                label: self.groups[group].label.clone(),
                contribution,
                share,
                value: None,
                evidence: Vec::new(),
            })
            .collect()
    }

    fn driver_views(&self, drivers: &[Driver]) -> Vec<DriverView> {
        let as_of_ms = self.explained.map_or(0, |(as_of, _)| *as_of);
        let total =
            |positive: bool| drivers.iter().filter(|d| (d.contribution > 0.0) == positive).map(|d| d.contribution.abs()).sum::<f64>();
        let (up, down) = (total(true), total(false));
        drivers
            .iter()
            .map(|d| DriverView {
                label: d.label.clone(),
                logit: d.contribution,
                share_ratio: d.contribution.abs() / (if d.contribution > 0.0 { up } else { down }).max(1e-12),
                evidence: d.evidence.clone(),
                as_of_ms,
            })
            .collect()
    }

    fn alert(&self, draft: &AlertDraft, score: &ScoreRecord, facts: &Facts) -> (AlertRecord, AlertView) {
        let p = score.probability.unwrap_or_default();
        let alert_type = draft.alert_type.name();
        // Fields of the account are carried over where its table has a field of that name.
        let fact = |name: &str| facts.values.get(name).cloned();
        let key_field = self.catalog.table_at(self.task.entity).field_at(self.catalog.table_at(self.task.entity).key).name.clone();
        let own_key = |name: &str| (key_field == name).then(|| score.entity_id.clone());
        let name = self.name(facts);
        let top: Vec<&str> = score.drivers.iter().filter(|d| d.contribution > 0.0).take(2).map(|d| d.label.as_str()).collect();
        let direction = if draft.alert_type == leadpulse_policy::AlertType::ThresholdUp { "rose above" } else { "fell below" };
        let because = if top.is_empty() { String::new() } else { format!(", driven by {}", top.join(" and ").to_lowercase()) };
        let summary = format!(
            "{} {direction} {:.0} %: now {:.0} %{because}.",
            name.as_deref().unwrap_or(&score.entity_id),
            100.0 * draft.threshold,
            100.0 * p
        );
        let recent: Vec<RecentEvent> = facts.events.iter().map(recent_event).collect();
        let record = AlertRecord {
            alert_id: alert_id(&score.task, &score.entity_type, &score.entity_id, draft.alert_type, draft.ordinal),
            r#type: alert_type,
            severity: Symbol(draft.severity.name()),
            state: Symbol("open"),
            ordinal: draft.ordinal as i64,
            dedupe_key: Some(format!("{}|{}|{}|{alert_type}", score.task, score.entity_type, score.entity_id)),
            supersedes_alert_id: None,
            task: score.task.clone(),
            entity_type: score.entity_type.clone(),
            entity_id: score.entity_id.clone(),
            account_id: score.account_id.clone(),
            account_name: facts.name.clone(),
            domain: fact("domain"),
            lead_id: own_key("lead_id"),
            contact_id: own_key("contact_id"),
            crm_ids: std::collections::BTreeMap::new(),
            owner_id: fact("owner_id"),
            region: fact("region"),
            segment: fact("segment"),
            industry: fact("industry"),
            probability: p,
            probability_low: None,
            probability_high: None,
            score: 100.0 * p,
            previous_probability: score.previous_probability,
            previous_score: score.previous_probability.map(|p| 100.0 * p),
            delta: score.previous_probability.map(|before| 100.0 * (p - before)),
            threshold: Some(draft.threshold),
            band: draft.band.as_ref().map(|b| b.to_string()),
            previous_band: draft.previous_band.as_ref().map(|b| b.to_string()),
            percentile: None,
            rank: None,
            trend: score.trend,
            velocity_per_day: self.decision.velocity_per_day.map(|v| 100.0 * v),
            baseline_score: None,
            horizon_days: score.horizon_days,
            target: Some(self.task.query.clone()),
            drivers: score.drivers.clone(),
            change_drivers: Vec::new(),
            summary: Some(summary),
            explain_method: self.explained.map(|_| EXPLAIN_METHOD.to_owned()),
            committee: committee(facts),
            last_events: recent.iter().take(LISTED_EVENTS).cloned().collect(),
            open_opportunities: Vec::new(),
            trigger: self.reasons.contains(Reasons::EVENT).then(|| recent.first().cloned()).flatten(),
            recommended_action: None,
            suggested_contact_id: facts.members.first().map(|m| m.key.clone()),
            sla_minutes: None,
            expires_at: None,
            do_not_contact: None,
            data_classes: Vec::new(),
            as_of: score.as_of,
            occurred_at: self.reasons.contains(Reasons::EVENT).then(|| facts.events.first().map(|e| e.time_ms)).flatten(),
            epoch: score.epoch,
            bundle_id: score.bundle_id.clone(),
            plan_hash: score.plan_hash.clone(),
            board: score.board,
            trace: score.trace.clone(),
        };
        let view = AlertView {
            alert_id: record.alert_id.clone(),
            task: self.task.name.clone(),
            entity_type: score.entity_type.as_str().into(),
            entity_id: score.entity_id.as_str().into(),
            name,
            alert_type,
            severity: record.severity.0,
            as_of_ms: score.as_of,
            epoch: score.epoch as u64,
            record: serde_json::to_value(&record).expect("an alert record is JSON"),
        };
        (record, view)
    }
}

fn recent_event(event: &EventFact) -> RecentEvent {
    RecentEvent {
        event_id: event.id.clone(),
        table: event.table.clone(),
        kind: (!event.kind.is_empty()).then(|| event.kind.clone()),
        occurred_at: event.time_ms,
        contact_id: Some(event.owner.clone()),
    }
}

fn committee(facts: &Facts) -> Option<Committee> {
    let distinct = |suffix: &str| -> Vec<String> {
        let mut values: Vec<String> =
            facts.active_values.iter().filter(|(path, _)| path.ends_with(suffix)).flat_map(|(_, v)| v.iter().cloned()).collect();
        values.sort();
        values.dedup();
        values
    };
    let member = |m: &MemberFact| CommitteeMember {
        contact_id: m.key.clone(),
        title: m.values.get("title").cloned(),
        department: m.values.get("department").cloned(),
        seniority: m.values.get("seniority").cloned(),
        last_activity_at: Some(m.last_event_ms),
        active_days_14d: m.active_days as i32,
    };
    let active: usize = facts.active_members.values().sum();
    (active > 0).then(|| Committee {
        active_contacts_14d: active as i32,
        departments: distinct(".department"),
        seniority_max: None,
        members: facts.members.iter().map(member).collect(),
    })
}

fn cause(reasons: Reasons) -> &'static str {
    let named = [
        (Reasons::CLOSING, "closing"),
        (Reasons::EVENT, "event"),
        (Reasons::BUNDLE, "bundle_swap"),
        (Reasons::TIMER, "timer"),
        (Reasons::BOARD, "board"),
    ];
    named.into_iter().find_map(|(reason, name)| reasons.contains(reason).then_some(name)).unwrap_or("unknown")
}

/// Percent of the positive contributions, by largest remainder: they sum to 100; 0 for the others.
fn shares(contributions: &[f64]) -> Vec<i32> {
    let total: f64 = contributions.iter().filter(|x| **x > 0.0).sum();
    if total <= 0.0 {
        return vec![0; contributions.len()];
    }
    let exact: Vec<f64> = contributions.iter().map(|x| 100.0 * x.max(0.0) / total).collect();
    let mut rounded: Vec<i32> = exact.iter().map(|x| x.floor() as i32).collect();
    let mut order: Vec<usize> = (0..exact.len()).collect();
    order.sort_by(|a, b| (exact[*b] - exact[*b].floor()).total_cmp(&(exact[*a] - exact[*a].floor())).then(a.cmp(b)));
    let missing = 100 - rounded.iter().sum::<i32>();
    for index in order.into_iter().take(missing as usize) {
        rounded[index] += 1;
    }
    rounded
}

#[cfg(test)]
mod tests {
    use super::shares;

    #[test]
    fn positive_shares_sum_to_a_hundred() {
        for (contributions, expected) in [
            (vec![1.0, 1.0, 1.0], vec![34, 33, 33]),
            (vec![0.3, -2.0, 0.1], vec![75, 0, 25]),
            (vec![-1.0, -2.0], vec![0, 0]),
            (vec![0.002, 1.0, 0.5, 0.25], vec![0, 57, 29, 14]),
        ] {
            assert_eq!(shares(&contributions), expected, "{contributions:?}");
        }
    }
}
