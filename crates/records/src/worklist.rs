//! The work list record: the next entities of one person and task.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Avro schema of [`WorkList`], JSON.
pub const WORK_LIST_SCHEMA: &str = include_str!("../../../schemas/outputs/worklist.avsc");

/// One work list: written to its topic, kept in the read model, served by the HTTP API.
///
/// `schemas/outputs/worklist.avsc` gives the meaning, unit and empty case of each field. No field
/// depends on the epoch, so the same rows and ticks give the same bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkList {
    pub task: Arc<str>,
    pub owner_id: Option<Arc<str>>,
    pub as_of: i64,
    pub horizon_days: Option<i32>,
    pub bundle_id: Option<Arc<str>>,
    pub entries: Vec<WorkListEntry>,
}

/// One account on a work list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkListEntry {
    pub entity_type: Arc<str>,
    pub entity_id: Arc<str>,
    pub account_id: Arc<str>,
    pub name: Option<String>,
    pub quality: Option<Arc<str>>,
    pub probability: f64,
    pub logit: f64,
    pub percentile: f64,
    pub rank: i64,
    pub ranked: i64,
    pub band: Option<Arc<str>>,
    pub trend: String,
    pub top_group: Option<String>,
    pub top_signal: Option<String>,
    pub drivers_as_of: i64,
    pub summary: String,
    pub recommended_action: Option<String>,
    pub recommended_action_label: Option<String>,
    pub suggested_contact_id: Option<String>,
    pub value_at_stake: Option<f64>,
    pub has_open_opportunity: bool,
    pub listed_since: i64,
}

/// The parts of an explanation that a work list needs.
#[derive(Clone, Debug, PartialEq)]
pub struct ListReasons {
    /// Code of the strongest positive group.
    pub top_group: Option<String>,
    /// The strongest positive driver in a few words.
    pub top_signal: Option<String>,
    /// Moment of the explanation, milliseconds.
    pub as_of_ms: i64,
}

impl WorkList {
    /// Kafka key: task and person, joined by a bar. The person is empty for entities of nobody.
    pub fn key(&self) -> Vec<u8> {
        format!("{}|{}", self.task, self.owner()).into_bytes()
    }

    /// The person; empty for entities of nobody.
    pub fn owner(&self) -> &str {
        self.owner_id.as_deref().unwrap_or_default()
    }

    /// True if both lists ask for the same: entities, order, bands and actions are equal.
    pub fn asks_as(&self, other: &Self) -> bool {
        let asked = |list: &Self| -> Vec<_> {
            let entries = list.entries.iter();
            entries
                .map(|one| {
                    (
                        one.entity_type.clone(),
                        one.entity_id.clone(),
                        one.band.clone(),
                        one.recommended_action.clone(),
                    )
                })
                .collect()
        };
        asked(self) == asked(other)
    }

    /// The list without some entities, by table (`None` where the record does not name it) and key.
    /// `None` if it names none of them.
    pub fn without(&self, is_gone: &dyn Fn(Option<&str>, &str) -> bool) -> Option<Self> {
        let is_kept = |entry: &WorkListEntry| {
            !is_gone(Some(&entry.entity_type), &entry.entity_id)
                && !is_gone(None, &entry.account_id)
        };
        let suggests = |entry: &WorkListEntry| {
            let suggested = entry.suggested_contact_id.as_deref();
            suggested.is_some_and(|key| is_gone(None, key))
        };
        let is_free = |entry: &WorkListEntry| is_kept(entry) && !suggests(entry);
        if self.entries.iter().all(is_free) {
            return None;
        }
        let mut entries: Vec<WorkListEntry> = self.entries.clone();
        entries.retain(is_kept);
        for entry in entries.iter_mut().filter(|entry| suggests(entry)) {
            entry.suggested_contact_id = None;
        }
        Some(Self {
            entries,
            ..self.clone()
        })
    }

    /// The reasons of an entity on the list with this logit; `None` where the list lacks it.
    pub fn reasons_of(&self, entity_id: &str, logit: f64) -> Option<ListReasons> {
        let mut entries = self.entries.iter();
        let entry = entries.find(|one| &*one.entity_id == entity_id)?;
        (entry.logit.to_bits() == logit.to_bits()).then(|| ListReasons {
            top_group: entry.top_group.clone(),
            top_signal: entry.top_signal.clone(),
            as_of_ms: entry.drivers_as_of,
        })
    }

    /// The moment from which on an account has been on the list, milliseconds.
    pub fn listed_since(&self, account_id: &str) -> Option<i64> {
        let mut entries = self.entries.iter();
        let entry = entries.find(|one| &*one.account_id == account_id)?;
        Some(entry.listed_since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(entity_id: &str) -> WorkListEntry {
        WorkListEntry {
            entity_type: "accounts".into(),
            entity_id: entity_id.into(),
            account_id: "A1".into(),
            name: None,
            quality: None,
            probability: 0.5,
            logit: 0.0,
            percentile: 99.0,
            rank: 1,
            ranked: 100,
            band: Some("hot".into()),
            trend: "steady".into(),
            top_group: Some("usage".into()),
            top_signal: None,
            drivers_as_of: 10,
            summary: "A1: 2 people active this week. 50 %.".into(),
            recommended_action: Some("call".into()),
            recommended_action_label: None,
            suggested_contact_id: None,
            value_at_stake: None,
            has_open_opportunity: false,
            listed_since: 5,
        }
    }

    fn list(entries: Vec<WorkListEntry>) -> WorkList {
        WorkList {
            task: "wins".into(),
            owner_id: None,
            as_of: 10,
            horizon_days: Some(90),
            bundle_id: None,
            entries,
        }
    }

    #[test]
    fn a_list_is_another_by_entities_order_bands_and_actions() {
        let (a, b) = (entry("A1"), entry("A2"));
        let before = list(vec![a.clone(), b.clone()]);
        let changed = |change: fn(&mut WorkListEntry)| {
            let mut after = before.clone();
            change(&mut after.entries[1]);
            !before.asks_as(&after)
        };
        assert!(!changed(|one| one.probability = 0.7));
        assert!(!changed(|one| one.summary.clear()));
        assert!(changed(|one| one.band = None));
        assert!(changed(|one| one.recommended_action = None));
        assert!(changed(|one| one.entity_id = "A3".into()));
        assert!(!before.asks_as(&list(vec![b, a.clone()])), "the order");
        assert!(!before.asks_as(&list(vec![a])), "one less");
    }

    #[test]
    fn reasons_are_those_of_a_score() {
        let list = list(vec![entry("A1")]);
        assert_eq!(list.reasons_of("A1", 0.0).map(|one| one.as_of_ms), Some(10));
        assert_eq!(list.reasons_of("A1", 0.05), None, "the score moved");
        assert_eq!(list.reasons_of("A2", 0.0), None);
        assert_eq!(list.listed_since("A1"), Some(5));
        assert_eq!(list.key(), b"wins|");
    }
}
