//! The parts that CRM sinks share: scores of a task become fields of objects.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::protocols::{Fields, text};

/// The scores of a CRM sink and the fields that it writes.
#[derive(Clone, Debug)]
pub(crate) struct CrmFields {
    /// Field of the score that identifies the object.
    pub(crate) key: String,
    /// Task of the scores.
    pub(crate) task: String,
    /// Table of the entities; `None` for all.
    pub(crate) entity: Option<String>,
    /// Field of the object → field of the score.
    pub(crate) fields: BTreeMap<String, String>,
    /// Objects of a request, at least 1.
    pub(crate) batch: usize,
}

impl CrmFields {
    /// True for a score of the task and the table that has a key.
    pub(crate) fn wants(&self, score: &Fields) -> bool {
        let is_of_table = |table: &String| text(score, "entity_type") == Some(table);
        text(score, "task") == Some(&self.task)
            && self.entity.as_ref().is_none_or(is_of_table)
            && !self.key_of(score).is_empty()
    }

    /// The key of a score; empty for none.
    pub(crate) fn key_of<'f>(&self, score: &'f Fields) -> &'f str {
        text(score, &self.key).unwrap_or_default()
    }

    /// The newest score of each key, in requests. CRMs refuse a request that names an object twice.
    pub(crate) fn plan(&self, scores: &[&Fields]) -> Vec<Vec<usize>> {
        let mut newest: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, score) in scores.iter().enumerate() {
            newest.insert(self.key_of(score), index);
        }
        let mut kept: Vec<usize> = newest.into_values().collect();
        kept.sort_unstable();
        kept.chunks(self.batch).map(<[usize]>::to_vec).collect()
    }

    /// The values of an object's fields.
    pub(crate) fn values(&self, score: &Fields) -> Map<String, Json> {
        let value = |field: &String| score.get(field).cloned().unwrap_or_default();
        let fields = self.fields.iter();
        fields
            .map(|(field, from)| (field.clone(), value(from)))
            .collect()
    }
}
