//! Words of people about alerts, as queries see them.

use std::collections::BTreeMap;
use std::sync::Arc;

use leadpulse_policy::{AccountOverride, OverrideKind};
use leadpulse_records::ShownScore;
use serde::Serialize;

use super::{EntityKey, ReadModel};

/// A person's decision that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShownRuling {
    /// Kind of the decision: `pin`, `mute`, `exclude`.
    pub kind: &'static str,
    /// The person who decided.
    pub who: String,
    /// The reason in the person's words.
    pub why: Option<String>,
    /// End of the decision, milliseconds; `None` until another one.
    #[serde(rename = "until")]
    pub until_ms: Option<i64>,
}

impl From<&AccountOverride> for ShownRuling {
    fn from(ruling: &AccountOverride) -> Self {
        Self {
            kind: ruling.decision.name(),
            who: ruling.who.clone(),
            why: ruling.why.clone(),
            until_ms: ruling.until_ms,
        }
    }
}

/// A reader's last verdict on an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShownVerdict {
    /// `accepted` or `rejected`.
    pub verdict: &'static str,
    /// The category of the answer, in the words of the company.
    pub disposition: Option<Arc<str>>,
    /// The reader.
    pub who: Arc<str>,
    pub note: Option<Arc<str>>,
    /// Time of the answer, milliseconds.
    #[serde(rename = "at")]
    pub at_ms: i64,
}

/// Number of alerts with one answer. Task and type are those of the answers' rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FeedbackCount {
    pub task: Option<Arc<str>>,
    #[serde(rename = "type")]
    pub alert_type: Option<Arc<str>>,
    /// `accepted` or `rejected`.
    pub verdict: &'static str,
    pub disposition: Option<Arc<str>>,
    /// Alerts with this answer as their last one.
    pub alerts: u64,
}

/// The decisions in force, by entity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RulingsView {
    /// Name of the table of accounts.
    root: Arc<str>,
    by_entity: BTreeMap<EntityKey, Arc<ShownRuling>>,
    has_excluded: bool,
}

impl RulingsView {
    /// Decisions by table and key of their entity. `root` is the name of the table of accounts.
    pub fn new(root: &str, rulings: BTreeMap<(Arc<str>, Arc<str>), ShownRuling>) -> Self {
        let excluded = OverrideKind::Exclude.name();
        let has_excluded = rulings.values().any(|ruling| ruling.kind == excluded);
        let rulings = rulings.into_iter();
        Self {
            root: root.into(),
            by_entity: rulings.map(|(key, one)| (key, Arc::new(one))).collect(),
            has_excluded,
        }
    }

    /// The decision about an entity, else about its account.
    fn about(
        &self,
        entity_type: &Arc<str>,
        entity_id: &Arc<str>,
        account_id: Option<&Arc<str>>,
    ) -> Option<&Arc<ShownRuling>> {
        if self.by_entity.is_empty() {
            return None;
        }
        let of =
            |table: &Arc<str>, key: &Arc<str>| self.by_entity.get(&(table.clone(), key.clone()));
        of(entity_type, entity_id).or_else(|| of(&self.root, account_id?))
    }

    /// True if a person excluded the entity of a score, or its account.
    pub(super) fn excludes(&self, score: &ShownScore) -> bool {
        let score = &score.record;
        let ruling = || {
            let account_id = score.account_id.as_ref();
            self.about(&score.entity_type, &score.entity_id, account_id)
        };
        self.has_excluded && ruling().is_some_and(|one| one.kind == OverrideKind::Exclude.name())
    }

    /// True if a person excluded some entity.
    pub(super) fn has_excluded(&self) -> bool {
        self.has_excluded
    }
}

/// The last verdict on each alert, and counts of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerdictsView {
    /// By id of the alert.
    pub by_alert: BTreeMap<Arc<str>, ShownVerdict>,
    /// Ascending by task, type, verdict and disposition.
    pub counts: Vec<FeedbackCount>,
}

/// The parts of what people said that changed; `None` for one that did not.
#[derive(Clone, Debug, Default)]
pub struct SaidView {
    pub rulings: Option<RulingsView>,
    pub verdicts: Option<VerdictsView>,
}

/// Words of people, as they were last published.
#[derive(Debug, Default)]
pub(super) struct SaidShown {
    /// Number that changes whenever the content does.
    version: u64,
    pub(super) rulings: RulingsView,
    verdicts: VerdictsView,
}

impl ReadModel {
    /// Makes visible what people said.
    pub fn publish_said(&self, view: SaidView) {
        if view.rulings.is_none() && view.verdicts.is_none() {
            return;
        }
        let before = self.said.load();
        let next = SaidShown {
            version: before.version + 1,
            rulings: view.rulings.unwrap_or_else(|| before.rulings.clone()),
            verdicts: view.verdicts.unwrap_or_else(|| before.verdicts.clone()),
        };
        self.said.store(Arc::new(next));
    }

    /// Number that changes whenever a decision or an answer does; 0 before the first.
    pub fn said_version(&self) -> u64 {
        self.said.load().version
    }

    /// The decision in force about an entity, else about its account.
    pub fn ruling(
        &self,
        entity_type: &Arc<str>,
        entity_id: &Arc<str>,
        account_id: Option<&Arc<str>>,
    ) -> Option<Arc<ShownRuling>> {
        let said = self.said.load();
        let ruling = said.rulings.about(entity_type, entity_id, account_id);
        ruling.cloned()
    }

    /// The last verdict on an alert.
    pub fn verdict(&self, alert_id: &str) -> Option<ShownVerdict> {
        self.said.load().verdicts.by_alert.get(alert_id).cloned()
    }

    /// Counts of answers, ascending by task, type, verdict and disposition.
    pub fn feedback(&self) -> Vec<FeedbackCount> {
        self.said.load().verdicts.counts.clone()
    }
}
