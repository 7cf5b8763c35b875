//! From a decision to the score record, and to what the read model shows of it.

use std::sync::Arc;

use leadpulse_features::{CommitteeFact, Facts, probability};
use leadpulse_graph::{Cell, CellRef, EntityId, Graph, Node, Reasons};
use leadpulse_policy::{Action, ActionTable, AlertType, Decision, Situation};
use leadpulse_schema::{Absence, Catalog, TableId};

use crate::explained::{Explained, driver_views};
use crate::output::{AlertRecord, ScoreRecord, Symbol};
use crate::people;
use crate::topics::output_key;
use crate::views::{AlertView, ScoreStatus, ScoreView};

/// Event ids a record names, at most.
const TRACED_EVENTS: usize = 8;

/// The place of a score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// From 1; equal scores share a place.
    pub rank: u64,
    /// Percent of the ranked that are below, 0–100.
    pub percentile: f64,
    /// How many are ranked.
    pub ranked: u64,
}

/// Where a score comes from.
pub struct Lineage {
    pub epoch: i64,
    pub as_of_ms: i64,
    pub bundle_id: Arc<str>,
    pub plan_hash: Arc<str>,
    pub board: i64,
}

/// Everything known about one score that is to be emitted.
pub struct Emission<'a> {
    pub catalog: &'a Catalog,
    pub graph: &'a Graph,
    pub task: &'a str,
    pub table: TableId,
    pub query: &'a str,
    /// Minutes within which somebody should react to an alert, and days for which it is worth acting on, where no action has others.
    pub alert_limits: (Option<u32>, Option<u32>),
    pub actions: &'a ActionTable,
    pub horizon_ms: i64,
    pub cell: CellRef,
    pub entity: EntityId,
    pub reasons: Reasons,
    pub logit: Result<f64, Absence>,
    pub standing: Option<Standing>,
    pub decision: &'a Decision,
    pub explained: Option<&'a Explained>,
    pub lineage: &'a Lineage,
}

/// What an emission becomes.
pub struct Records {
    pub key: Vec<u8>,
    pub score: ScoreRecord,
    pub view: ScoreView,
    pub alerts: Vec<(AlertRecord, AlertView)>,
}

impl Emission<'_> {
    pub fn records(&self, sequence: i32) -> Records {
        let entity_type = &self.catalog.table_at(self.table).name;
        let entity_id = self.graph.directory().key(self.entity).to_string();
        let facts = Facts::of(
            self.graph,
            self.graph.cell(self.cell),
            self.lineage.as_of_ms,
        );
        let p = self.logit.ok().map(probability);
        let band = |b: &Option<Arc<str>>| b.as_ref().map(|b| b.to_string());
        let decision = self.decision;
        let drivers = self
            .explained
            .map_or_else(Vec::new, |explained| explained.drivers.clone());
        let change_drivers = self
            .explained
            .map_or_else(Vec::new, |explained| explained.change_drivers.clone());
        let alert_types = decision.alerts.iter().map(|draft| draft.alert_type);
        let action = self.action(&facts.committee, alert_types.clone().next());
        let score = ScoreRecord {
            task: self.task.to_owned(),
            entity_type: entity_type.clone(),
            entity_id: entity_id.clone(),
            account_id: facts.root.clone(),
            epoch: self.lineage.epoch,
            sequence,
            as_of: self.lineage.as_of_ms,
            status: Symbol(if self.logit.is_ok() {
                "scored"
            } else {
                "ineligible"
            }),
            reason: self
                .logit
                .err()
                .map(|why| self.graph.absence_words(self.entity, why)),
            probability: p,
            logit: self.logit.ok(),
            score: p.map(|p| 100.0 * p),
            band: band(&decision.band),
            previous_band: band(&decision.previous_band),
            previous_probability: decision.previous_probability,
            previous_score: decision.previous_probability.map(|p| 100.0 * p),
            previous_as_of: decision.previous_as_of_ms,
            percentile: self.standing.map(|standing| standing.percentile),
            rank: self.standing.map(|standing| standing.rank as i64),
            ranked: self.standing.map(|standing| standing.ranked as i64),
            trend: Symbol(decision.trend.name()),
            velocity_per_day: decision.velocity_per_day.map(|v| 100.0 * v),
            acceleration_per_day2: decision.acceleration_per_day2.map(|a| 100.0 * a),
            cause: Symbol(cause(self.reasons)),
            horizon_days: i32::try_from(self.horizon_ms / 86_400_000).ok(),
            bundle_id: Some(self.lineage.bundle_id.to_string()),
            plan_hash: Some(self.lineage.plan_hash.to_string()),
            board: self.lineage.board,
            drivers,
            base_logit: self.explained.map(|explained| explained.base_logit),
            drivers_as_of: self.explained.map(|explained| explained.as_of_ms),
            change_since: self
                .explained
                .and_then(|explained| explained.change_since_ms),
            change_drivers,
            top_signal: self.explained.and_then(Explained::top_signal),
            recommended_action: action.map(|action| action.code.to_string()),
            recommended_action_label: action.map(|action| action.label.to_string()),
            committee: self
                .logit
                .ok()
                .and_then(|_| people::for_score(&facts.committee)),
            trace: facts
                .events
                .iter()
                .take(TRACED_EVENTS)
                .map(|e| e.id.clone())
                .collect(),
        };
        let alerts = decision
            .alerts
            .iter()
            .map(|draft| self.alert(draft, &score, &facts))
            .collect();
        let view = ScoreView::of(
            &score,
            self.name(&facts),
            serde_json::to_value(&facts).expect("facts are JSON"),
        );
        Records {
            key: output_key(self.task, entity_type, &entity_id),
            score,
            view,
            alerts,
        }
    }

    /// What to do about the score, or about the alert that comes with it.
    pub fn action(&self, people: &CommitteeFact, alert: Option<AlertType>) -> Option<&Action> {
        let probability = self.logit.ok().map(probability)?;
        self.actions.choose(&Situation {
            band: self.decision.band.as_deref(),
            trend: self.decision.trend,
            top_group: self.explained.and_then(Explained::top_group),
            alert,
            probability,
            active_members: people.active,
            values: &people.by_field,
            highest: &people.highest,
            silent_ms: silent_ms(self.graph.cell(self.cell), self.lineage.as_of_ms),
        })
    }

    /// What people call the entity: its own label, or the root's.
    pub fn name(&self, facts: &Facts) -> Option<String> {
        let node = self
            .graph
            .cell(self.cell)
            .nodes
            .iter()
            .find(|n| n.entity == self.entity)?;
        name_of(self.catalog, node, facts)
    }
}

impl ScoreView {
    /// The view of a score record; `facts` are what is known about the entity.
    pub fn of(record: &ScoreRecord, name: Option<String>, facts: serde_json::Value) -> Self {
        let drivers_as_of = record.drivers_as_of.unwrap_or(0);
        let is_scored = record.status.0 == "scored";
        Self {
            task: record.task.as_str().into(),
            entity_type: record.entity_type.as_str().into(),
            entity_id: record.entity_id.as_str().into(),
            account_id: record.account_id.as_deref().map(Arc::from),
            name,
            status: if is_scored {
                ScoreStatus::Scored
            } else {
                ScoreStatus::Ineligible
            },
            probability: record.probability.or(record.previous_probability),
            score: record.score,
            band: record.band.as_deref().map(Arc::from),
            trend: record.trend.0,
            previous_probability: record.previous_probability,
            velocity_per_day: record.velocity_per_day.map(|v| v / 100.0),
            acceleration_per_day2: record.acceleration_per_day2.map(|a| a / 100.0),
            percentile: record.percentile,
            top_signal: record.top_signal.clone(),
            recommended_action: record.recommended_action.clone(),
            recommended_action_label: record.recommended_action_label.clone(),
            as_of_ms: record.as_of,
            epoch: record.epoch as u64,
            board: record.board.max(0) as u64,
            bundle_id: record.bundle_id.as_deref().unwrap_or_default().into(),
            drivers: driver_views(&record.drivers, drivers_as_of),
            change_drivers: driver_views(&record.change_drivers, drivers_as_of),
            change_since_ms: record.change_since,
            facts,
        }
    }
}

impl AlertView {
    /// The view of an alert record; `name` is what people call its entity.
    pub fn of(record: &AlertRecord, name: Option<String>) -> Self {
        Self {
            alert_id: record.alert_id.clone(),
            task: record.task.as_str().into(),
            entity_type: record.entity_type.as_str().into(),
            entity_id: record.entity_id.as_str().into(),
            name,
            alert_type: record.r#type.0,
            severity: record.severity.0,
            as_of_ms: record.as_of,
            epoch: record.epoch as u64,
            record: serde_json::to_value(record).expect("an alert record is JSON"),
        }
    }
}

/// How long nothing has happened in a cell, milliseconds.
pub fn silent_ms(cell: &Cell, as_of_ms: i64) -> Option<i64> {
    cell.newest_event_ms()
        .map(|newest| as_of_ms.saturating_sub(newest))
}

/// What people call an entity: its own label, or the root's.
pub fn name_of(catalog: &Catalog, node: &Node, facts: &Facts) -> Option<String> {
    let table = catalog.table_at(node.table);
    let own = table
        .fields
        .iter()
        .filter(|f| f.label)
        .find_map(|f| node.value(f.id).text().map(str::to_owned));
    own.or_else(|| facts.name.clone())
}

fn cause(reasons: Reasons) -> &'static str {
    let named = [
        (Reasons::CLOSING, "closing"),
        (Reasons::EVENT, "event"),
        (Reasons::BUNDLE, "bundle_swap"),
        (Reasons::TIMER, "timer"),
        (Reasons::BOARD, "board"),
    ];
    named
        .into_iter()
        .find_map(|(reason, name)| reasons.contains(reason).then_some(name))
        .unwrap_or("unknown")
}
