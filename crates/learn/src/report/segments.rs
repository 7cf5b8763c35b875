//! Parts of the rows by fields of the entity and its root.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::rank::Ranking;
use super::rows::{EvaluatedRow, Lookout, Words};

/// Rows of each kind below which a part has no AUROC of its own.
const MIN_ROWS_OF_A_KIND: usize = 20;

/// The rows with one value of a field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// `table.field`.
    pub field: String,
    /// The value of the rows; `None` where it is missing.
    pub value: Option<String>,
    pub rows: usize,
    pub entities: usize,
    /// Rows with a positive outcome.
    pub positives: usize,
    /// Share of positive outcomes.
    pub rate: f64,
    /// Mean probability.
    pub predicted: f64,
    /// `None` with fewer than 20 rows of either outcome.
    pub auroc: Option<f64>,
}

/// The parts by each field that has a few values, values by rows.
pub(super) fn segments(lookout: &Lookout, words: &Words, rows: &[EvaluatedRow]) -> Vec<Segment> {
    let mut found = Vec::new();
    for (index, field) in lookout.segments.iter().enumerate() {
        let values = words.values(index);
        if values.is_empty() {
            continue;
        }
        let names = values.iter().map(|value| Some(value.to_string()));
        let numbers = (0..=u8::MAX).map(Some);
        let parts = std::iter::once((None, None)).chain(numbers.zip(names));
        let mut parts: Vec<Segment> = parts
            .filter_map(|(number, value)| {
                let of_value = rows.iter().filter(|r| r.facts.segments[index] == number);
                segment(&field.name, value, of_value)
            })
            .collect();
        if parts.len() > 1 {
            parts.sort_by_key(|part| std::cmp::Reverse(part.rows));
            found.extend(parts);
        }
    }
    found
}

fn segment<'a>(
    field: &str,
    value: Option<String>,
    rows: impl Iterator<Item = &'a EvaluatedRow>,
) -> Option<Segment> {
    let rows: Vec<&EvaluatedRow> = rows.collect();
    if rows.is_empty() {
        return None;
    }
    let outcomes: Vec<bool> = rows.iter().map(|row| row.label > 0.5).collect();
    let predicted: Vec<f64> = rows.iter().map(|row| row.predicted).collect();
    let positives = outcomes.iter().filter(|outcome| **outcome).count();
    let entities: BTreeSet<_> = rows.iter().map(|row| row.entity).collect();
    let is_enough = positives.min(rows.len() - positives) >= MIN_ROWS_OF_A_KIND;
    let auroc = || Ranking::new(&predicted).auroc(&outcomes, |_| 1.0);
    Some(Segment {
        field: field.to_owned(),
        value,
        rows: rows.len(),
        entities: entities.len(),
        positives,
        rate: positives as f64 / rows.len() as f64,
        predicted: predicted.iter().sum::<f64>() / rows.len() as f64,
        auroc: is_enough.then(auroc).flatten(),
    })
}
