//! A decision becomes its score record, an alert becomes its record, with what pages show of both.

use std::sync::Arc;

use leadpulse_features::{CommitteeFact, Facts, Group, probability};
use leadpulse_graph::{Cell, CellRef, DAY_MS, EntityId, Graph, Node, Reasons};
use leadpulse_policy::{Action, ActionTable, AlertType, Decision, Situation};
use leadpulse_schema::units::{AsOf, EventTime};
use leadpulse_schema::{Absence, Catalog, TableId};

use crate::explained::Explained;
use crate::output::output_key;
use crate::people;
use crate::score::{INELIGIBLE, SCORED, Score, ShownScore};
use crate::symbol::Symbol;

mod alert;
mod listing;

pub(crate) use alert::part;
pub use listing::Listing;

/// Events that a record names, at most.
const TRACED_EVENTS: usize = 8;

/// Place of a score among all scored entities of its task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// Place from 1; equal scores share one.
    pub rank: u64,
    /// Percent of the ranked entities below this one, 0–100.
    pub percentile: f64,
    /// Number of ranked entities.
    pub ranked: u64,
}

/// Origin of a score: the epoch, and the versions that decided it.
pub struct Lineage {
    /// Number of the epoch.
    pub epoch: i64,
    /// Moment that the score is valid at, milliseconds.
    pub as_of: AsOf,
    /// Id of the bundle that scored.
    pub bundle_id: Arc<str>,
    /// Hash of the bundle's feature plan.
    pub plan_hash: Arc<str>,
    /// Board of hub sums that was read; −1 before the first.
    pub board: i64,
}

/// Everything known about one score that is to be written or shown.
pub struct Emission<'a> {
    /// Tables of the entities.
    pub catalog: &'a Catalog,
    /// State that the score was computed from.
    pub graph: &'a Graph,
    pub task: &'a Arc<str>,
    /// Table of the task's entities.
    pub table: TableId,
    /// Query of the task.
    pub query: &'a str,
    /// Minutes to react to an alert and days until it expires, where the action has none of its
    /// own.
    pub alert_limits: (Option<u32>, Option<u32>),
    /// Action rules of the task.
    pub actions: &'a ActionTable,
    /// End of the predicted window after `as_of`, milliseconds.
    pub horizon_ms: i64,
    /// Grade of the bundle for the task; `None` for one without.
    pub quality: Option<&'a str>,
    /// Half the width of the interval of a logit, logits; `None` where the bundle has none.
    pub interval_logits: Option<f64>,
    /// Cell of the entity.
    pub cell: CellRef,
    pub entity: EntityId,
    /// Reasons for which the cell was scored; empty for an answer to a request.
    pub reasons: Reasons,
    /// The logit, or the reason for having none.
    pub logit: Result<f64, Absence>,
    /// Place of the score; `None` while the entity is not ranked.
    pub standing: Option<Standing>,
    /// Decision of the task's policy.
    pub decision: &'a Decision,
    /// Explanation groups of the plan that explained.
    pub groups: &'a [Group],
    /// Newest explanation of the entity under the task.
    pub explained: Option<&'a Explained>,
    /// Origin of the score.
    pub lineage: &'a Lineage,
}

/// Record of one emission, with what pages show once it is committed.
pub struct EmissionRecords {
    /// Kafka key of the score.
    pub key: Vec<u8>,
    /// The score; its record goes to the topic.
    pub score: ShownScore,
}

impl Emission<'_> {
    /// Composes the records. `sequence` is the position among the epoch's scores, from 0.
    pub fn records(&self, sequence: i32) -> EmissionRecords {
        let facts = self.facts();
        let name = self.name(&facts);
        let score = self.score(sequence, &facts);
        EmissionRecords {
            key: output_key(&score.task, &score.entity_type, &score.entity_id),
            score: ShownScore {
                record: score,
                name,
                facts: facts_json(&facts),
                history: Vec::new(),
            },
        }
    }

    /// Composes the score alone, for an answer to a request.
    pub fn shown(&self, sequence: i32) -> ShownScore {
        let facts = self.facts();
        ShownScore {
            record: self.score(sequence, &facts),
            name: self.name(&facts),
            facts: facts_json(&facts),
            history: Vec::new(),
        }
    }

    fn facts(&self) -> Facts {
        Facts::of(self.graph, self.graph.cell(self.cell), self.lineage.as_of)
    }

    /// Builds the score record: the one place where a field of a score gets its value.
    fn score(&self, sequence: i32, facts: &Facts) -> Score {
        let Self {
            decision,
            standing,
            explained,
            lineage,
            ..
        } = self;
        let probability = self.logit.ok().map(probability);
        let action = self.action(&facts.committee, None);
        let absence = self.logit.err();
        Score {
            task: self.task.clone(),
            entity_type: self.catalog.table_at(self.table).name.as_str().into(),
            entity_id: self.graph.directory().key(self.entity).clone(),
            account_id: facts.root.as_deref().map(Arc::from),
            epoch: lineage.epoch,
            sequence,
            as_of: lineage.as_of.ms(),
            status: absence.map_or(SCORED, |_| INELIGIBLE),
            reason: absence.map(|why| self.graph.absence_words(self.entity, why)),
            probability,
            logit: self.logit.ok(),
            score: probability.map(points),
            band: decision.band.clone(),
            previous_band: decision.previous_band.clone(),
            previous_probability: decision.previous_probability,
            previous_score: decision.previous_probability.map(points),
            previous_as_of: decision.previous_as_of_ms,
            percentile: standing.map(|standing| standing.percentile),
            rank: standing.map(|standing| standing.rank as i64),
            ranked: standing.map(|standing| standing.ranked as i64),
            trend: Symbol(decision.trend.name()),
            velocity_per_day: decision.velocity_per_day.map(points),
            acceleration_per_day2: decision.acceleration_per_day2.map(points),
            cause: Symbol(cause(self.reasons)),
            horizon_days: i32::try_from(self.horizon_ms / DAY_MS).ok(),
            bundle_id: Some(lineage.bundle_id.clone()),
            plan_hash: Some(lineage.plan_hash.clone()),
            board: lineage.board,
            drivers: explained.map_or_else(Vec::new, |e| e.drivers.clone()),
            base_logit: explained.map(|e| e.base_logit),
            drivers_as_of: explained.map(|e| e.as_of.ms()),
            change_since: explained.and_then(Explained::change_since_ms),
            change_drivers: explained.map_or_else(Vec::new, |e| e.change_drivers.clone()),
            top_signal: explained.and_then(Explained::top_signal),
            recommended_action: action.map(|action| action.code.to_string()),
            recommended_action_label: action.map(|action| action.label.to_string()),
            committee: probability.and_then(|_| people::for_score(&facts.committee)),
            trace: traced(facts),
            quality: self.quality.map(Arc::from),
            probability_low: self.end_of_interval(-1.0),
            probability_high: self.end_of_interval(1.0),
            sub_scores: explained.map(|e| e.sub_scores),
            compared_values: explained.map_or_else(Vec::new, |e| e.compared_values(self.groups)),
        }
    }

    /// The probability at one end of the interval: −1 for the lower, 1 for the upper.
    fn end_of_interval(&self, sign: f64) -> Option<f64> {
        let logit = self.logit.ok()?;
        Some(probability(logit + sign * self.interval_logits?))
    }

    /// Action of the first rule that fits the score, or the alert that comes with it.
    fn action(&self, people: &CommitteeFact, alert: Option<AlertType>) -> Option<&Action> {
        let top_group = self.explained.and_then(Explained::top_group);
        self.action_by(people, alert, top_group)
    }

    /// As [`Self::action`], with the code of the strongest positive group.
    fn action_by(
        &self,
        people: &CommitteeFact,
        alert: Option<AlertType>,
        top_group: Option<&str>,
    ) -> Option<&Action> {
        let probability = self.logit.ok().map(probability)?;
        self.actions.choose(&Situation {
            band: self.decision.band.as_deref(),
            trend: self.decision.trend,
            top_group,
            alert,
            probability,
            active_members: people.active,
            values: &people.by_field,
            highest: &people.highest,
            silent_ms: silent_ms(self.graph.cell(self.cell), self.lineage.as_of),
        })
    }

    /// Label of the entity, or of its root.
    fn name(&self, facts: &Facts) -> Option<String> {
        let node = self
            .graph
            .cell(self.cell)
            .nodes
            .iter()
            .find(|n| n.entity == self.entity)?;
        name_of(self.catalog, node, facts)
    }
}

/// Probability as points of a score, 0–100.
fn points(probability: f64) -> f64 {
    100.0 * probability
}

fn traced(facts: &Facts) -> Vec<String> {
    let newest = facts.events.iter().take(TRACED_EVENTS);
    newest.map(|event| event.id.clone()).collect()
}

/// Facts as JSON, as pages show them.
///
/// # Panics
/// Never: facts are text, numbers and maps of text.
pub fn facts_json(facts: &Facts) -> serde_json::Value {
    serde_json::to_value(facts).expect("facts are JSON")
}

/// Milliseconds since the newest event of a cell; `None` before the first.
fn silent_ms(cell: &Cell, as_of: AsOf) -> Option<i64> {
    cell.newest_event_ms()
        .map(|newest| as_of.since(EventTime::from_ms(newest)))
}

/// Label of an entity, or of its root; `None` if neither has one.
pub fn name_of(catalog: &Catalog, node: &Node, facts: &Facts) -> Option<String> {
    let table = catalog.table_at(node.table);
    let own = table
        .fields
        .iter()
        .filter(|f| f.label)
        .find_map(|f| node.value(f.id).text().map(str::to_owned));
    own.or_else(|| facts.name.clone())
}

/// Causes of a score record, the strongest first.
const CAUSES: [(Reasons, &str); 6] = [
    (Reasons::CLOSING, "closing"),
    (Reasons::EVENT, "event"),
    (Reasons::BUNDLE, "bundle_swap"),
    (Reasons::TIMER, "timer"),
    (Reasons::BOARD, "board"),
    (Reasons::REFRESH, "timer"),
];

/// The names of all causes of score records, in no order; some come twice.
pub fn score_causes() -> impl Iterator<Item = &'static str> {
    CAUSES.into_iter().map(|(_, name)| name)
}

fn cause(reasons: Reasons) -> &'static str {
    CAUSES
        .into_iter()
        .find_map(|(reason, name)| reasons.contains(reason).then_some(name))
        .unwrap_or("unknown")
}
