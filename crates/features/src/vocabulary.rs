//! The values of open categories that get a column of their own.

use std::collections::BTreeMap;

use leadpulse_schema::{Catalog, Feature, Role, Row, Value};

use crate::plan::FeatureSpec;

/// Counts of the values of categories without declared values, to choose a vocabulary.
#[derive(Clone, Debug, Default)]
pub struct VocabularyBuilder {
    counts: BTreeMap<String, BTreeMap<String, u64>>,
}

impl VocabularyBuilder {
    /// Least count of a value with a column of its own. Rarer values, and those beyond the cap,
    /// share the "other" column.
    // A column that is set in fewer rows can hardly be learnt from. Why 10, and why 32, is unknown.
    const MIN_COUNT: u64 = 10;
    /// Most values of a field with columns of their own.
    const CAP: usize = 32;

    /// Counts the values of a row of an entity table.
    pub fn observe(&mut self, catalog: &Catalog, row: Row<'_>) {
        let table = catalog.table_at(row.table());
        if matches!(table.role, Role::Event | Role::Hub | Role::Staff) {
            return;
        }
        for field in table.fields.iter().filter(|f| {
            matches!(f.feature, Feature::Category | Feature::Set) && f.values.is_empty()
        }) {
            let counts = self
                .counts
                .entry(format!("{}.{}", table.name, field.name))
                .or_default();
            let mut count = |value: &str| *counts.entry(value.to_owned()).or_default() += 1;
            match row.get(field.id) {
                Value::Text(value) => count(value),
                Value::List(values) => values.iter().for_each(count),
                _ => {}
            }
        }
    }

    /// The most frequent values of each field, at most 32, each seen at least 10 times.
    pub fn finish(self) -> FeatureSpec {
        let choose = |counts: BTreeMap<String, u64>| {
            let mut values: Vec<(String, u64)> = counts
                .into_iter()
                .filter(|(_, n)| *n >= Self::MIN_COUNT)
                .collect();
            // Ties by value, so that one history has one vocabulary and one plan hash.
            values.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            values.into_iter().take(Self::CAP).map(|(v, _)| v).collect()
        };
        FeatureSpec {
            vocabularies: self
                .counts
                .into_iter()
                .map(|(path, counts)| (path, choose(counts)))
                .collect(),
        }
    }
}
