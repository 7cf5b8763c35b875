//! The comparison of an explanation with an earlier one, and its values as a record carries them.

use serde::{Deserialize, Serialize};

use leadpulse_features::{Evidence, Group, PastValue, PastValues, changes, stopped};
use leadpulse_schema::units::{AsOf, DAY_MS, EventTime};

use super::Explained;
use crate::score::ComparedValue;

/// The span that changes are told over, where explanations allow it: that of alerts.
const SPAN_MS: i64 = 7 * DAY_MS;
/// Most differences in words that a group has.
const LINES: usize = 4;

/// An earlier explanation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Reference {
    pub as_of: AsOf,
    /// Contributions by group of the layout.
    pub contributions: Vec<f64>,
    /// Values of the evidence by group of the layout; all empty where a record of an older schema
    /// had none.
    pub values: Vec<PastValues>,
}

impl Explained {
    /// The explanation to compare one of `as_of` with.
    pub(super) fn reference_at(&self, as_of: AsOf) -> Reference {
        let off = |then: AsOf| (as_of.since(EventTime::from_ms(then.ms())) - SPAN_MS).abs();
        match &self.reference {
            Some(older) if off(older.as_of) < off(self.as_of) => older.clone(),
            _ => Reference {
                as_of: self.as_of,
                contributions: self.contributions.clone(),
                values: self.values.clone(),
            },
        }
    }
}

impl Reference {
    /// Contributions less those of then.
    pub(super) fn differences(&self, contributions: &[f64]) -> Vec<f64> {
        let both = contributions.iter().zip(&self.contributions);
        both.map(|(now, then)| now - then).collect()
    }

    /// The evidence of each group as differences, those that agree with the sign of its
    /// contribution's difference.
    pub(super) fn changed_evidence(
        &self,
        differences: &[f64],
        evidence: &[Evidence],
        as_of: AsOf,
    ) -> Vec<Evidence> {
        let is_known = self.values.iter().any(|values| !values.is_empty());
        let groups = evidence.iter().zip(&self.values).zip(differences);
        let changed = groups.map(|((now, then), difference)| {
            let rises = *difference > 0.0;
            let words: Vec<String> = if is_known {
                let found = changes(&now.values, then, self.as_of.ms(), as_of);
                let agreeing = found
                    .into_iter()
                    .filter(|one| one.direction.supports(rises));
                agreeing.map(|one| one.text).take(LINES).collect()
            } else if rises {
                Vec::new()
            } else {
                stopped(&now.values, as_of)
                    .into_iter()
                    .take(LINES)
                    .collect()
            };
            Evidence {
                value: None,
                words,
                event_ids: now.event_ids.clone(),
                values: Vec::new(),
            }
        });
        changed.collect()
    }
}

/// The values that are remembered of the evidence, by group of the layout.
pub(super) fn past_values(evidence: &[Evidence], groups: usize) -> Vec<PastValues> {
    let mut found = vec![PastValues::new(); groups];
    for (values, of_group) in found.iter_mut().zip(evidence) {
        for value in &of_group.values {
            values.extend(value.past().map(|past| (value.label.clone(), past)));
        }
    }
    found
}

/// The values of an explanation beside those of the one that it was compared with.
pub(super) fn recorded_values(
    values: &[PastValues],
    reference: Option<&Reference>,
    groups: &[Group],
) -> Vec<ComparedValue> {
    let none = PastValues::new();
    let mut found = Vec::new();
    for (index, (now, group)) in values.iter().zip(groups).enumerate() {
        let then = reference.map_or(&none, |reference| &reference.values[index]);
        let gone = then.keys().filter(|label| !now.contains_key(*label));
        let mut labels: Vec<&String> = now.keys().chain(gone).collect();
        labels.sort_unstable();
        for label in labels {
            let (number, text) = split(now.get(label));
            let (number_before, text_before) = split(then.get(label));
            found.push(ComparedValue {
                group: group.code.clone(),
                label: label.clone(),
                number,
                text,
                number_before,
                text_before,
            });
        }
    }
    found
}

fn split(value: Option<&PastValue>) -> (Option<f64>, Option<String>) {
    match value {
        Some(PastValue::Number(number)) => (Some(*number), None),
        Some(PastValue::Text(text)) => (None, Some(text.clone())),
        None => (None, None),
    }
}

fn joined(number: Option<f64>, text: Option<&String>) -> Option<PastValue> {
    let number = number.map(PastValue::Number);
    number.or_else(|| text.map(|text| PastValue::Text(text.clone())))
}

/// The values of a record by group of the layout: those of the explanation, and those that it was
/// compared with. Values of groups that do not exist are left out.
pub(super) fn restored_values(
    recorded: &[ComparedValue],
    groups: &[Group],
) -> (Vec<PastValues>, Vec<PastValues>) {
    let mut now = vec![PastValues::new(); groups.len()];
    let mut then = now.clone();
    for value in recorded {
        let Some(at) = groups.iter().position(|group| group.code == value.group) else {
            continue;
        };
        let found = joined(value.number, value.text.as_ref());
        now[at].extend(found.map(|past| (value.label.clone(), past)));
        let before = joined(value.number_before, value.text_before.as_ref());
        then[at].extend(before.map(|past| (value.label.clone(), past)));
    }
    (now, then)
}
