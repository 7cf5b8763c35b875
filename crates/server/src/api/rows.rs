//! Rows of lists: a summary of some hundred bytes, the whole record, or chosen fields of it.

use std::sync::Arc;
use std::sync::LazyLock;

use leadpulse_engine::read_model::ReadModel;
use leadpulse_records::{SCORE_SCHEMA, ShownScore};
use serde::Serialize;
use serde_json::{Map, Value};

use super::answer::ApiError;
use super::said::RuledScore;

/// Longest text of a field in a summary, bytes: with keys of up to 18 characters a row has at most
/// 400 bytes.
const MAX_WORDS_BYTES: usize = 32;
/// Fields that lists add to a score's record.
const ADDED_FIELDS: [&str; 5] = ["place", "name", "facts", "ruling", HISTORY];
/// The field with the newest points of a score, which only a list of named fields has.
const HISTORY: &str = "history";

/// Names of the fields of a row, those of the score record first.
static ROW_FIELDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let record = super::avro::field_names(SCORE_SCHEMA);
    let added = ADDED_FIELDS.map(str::to_owned);
    record.into_iter().chain(added).collect()
});

/// The columns of the rows of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RowView {
    Summary,
    Full,
    Fields(Vec<String>),
}

impl RowView {
    /// The view of these fields.
    ///
    /// # Errors
    /// A name that no row has.
    pub fn of_fields(names: &[&str]) -> Result<Self, ApiError> {
        for name in names {
            if !ROW_FIELDS.iter().any(|known| known == name) {
                let detail = format!("no row has a field \"{}\"", name.escape_debug());
                let hint =
                    "fields are those of score records, and place, name, facts, ruling, history";
                return Err(
                    ApiError::bad_request(detail, hint).of_parameter("fields", ROW_FIELDS.clone())
                );
            }
        }
        let names = names.iter().map(|name| (*name).to_owned());
        Ok(Self::Fields(names.collect()))
    }
}

/// A score on a list.
#[derive(Serialize)]
pub(crate) struct PlacedScore {
    /// Place in the order that was asked for, from 1. The record's `rank` is by score, at the
    /// moment it was written.
    pub place: u64,
    #[serde(flatten)]
    pub score: RuledScore,
}

/// A score in a few hundred bytes. Names are those of the score record and of the account's fields.
#[derive(Debug, Serialize)]
pub(crate) struct SummaryRow<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entity_type: Option<&'a str>,
    entity_id: &'a str,
    name: Option<&'a str>,
    score: Option<f64>,
    previous_score: Option<f64>,
    band: Option<&'a str>,
    trend: &'a str,
    velocity_per_day: Option<f64>,
    as_of: i64,
    owner_id: Option<&'a str>,
    region: Option<&'a str>,
    top_signal: Option<&'a str>,
    recommended_action: Option<&'a str>,
    has_open_opportunity: bool,
}

impl<'a> SummaryRow<'a> {
    /// A row of a list, whose task and table stand above it.
    pub fn listed(place: u64, score: &'a ShownScore, owner_fields: &[String]) -> Self {
        Self {
            place: Some(place),
            ..Self::of(score, owner_fields)
        }
    }

    /// A row that stands alone.
    pub fn alone(score: &'a ShownScore, owner_fields: &[String]) -> Self {
        Self {
            task: Some(&score.record.task),
            entity_type: Some(&score.record.entity_type),
            ..Self::of(score, owner_fields)
        }
    }

    fn of(score: &'a ShownScore, owner_fields: &[String]) -> Self {
        let record = &score.record;
        Self {
            place: None,
            task: None,
            entity_type: None,
            entity_id: &record.entity_id,
            name: score.name.as_deref().map(clipped),
            score: record.score.map(rounded),
            previous_score: record.previous_score.map(rounded),
            band: record.band.as_deref(),
            trend: record.trend.0,
            velocity_per_day: record.velocity_per_day.map(rounded),
            as_of: record.as_of,
            owner_id: owner(score, owner_fields).map(clipped),
            region: value(score, "region").map(clipped),
            top_signal: record.top_signal.as_deref().map(clipped),
            recommended_action: record.recommended_action.as_deref().map(clipped),
            has_open_opportunity: has_open_deal(score),
        }
    }
}

/// The text, cut where it is too long for a summary.
pub(super) fn clipped(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_WORDS_BYTES)]
}

/// Points with two decimals: what people read, and half the bytes.
pub(super) fn rounded(points: f64) -> f64 {
    (points * 100.0).round() / 100.0
}

/// A field of the account, as text.
pub(crate) fn value<'a>(score: &'a ShownScore, field: &str) -> Option<&'a str> {
    score.facts.get("values")?.get(field)?.as_str()
}

/// The person that the account is assigned to.
pub(crate) fn owner<'a>(score: &'a ShownScore, owner_fields: &[String]) -> Option<&'a str> {
    owner_fields.iter().find_map(|field| value(score, field))
}

/// True if the account has a deal that may still be won.
pub(crate) fn has_open_deal(score: &ShownScore) -> bool {
    let open = score.facts.get("open").and_then(Value::as_array);
    open.is_some_and(|open| !open.is_empty())
}

/// The rows of a page, as JSON. The first has place `first_place`.
///
/// # Errors
/// A record that cannot be written as JSON.
pub(crate) fn rows(
    view: &RowView,
    scores: Vec<Arc<ShownScore>>,
    first_place: u64,
    read_model: &ReadModel,
    owner_fields: &[String],
) -> Result<Vec<Value>, ApiError> {
    let fault = |error| ApiError::internal(format!("a score cannot be written: {error}"));
    let mut rows = Vec::with_capacity(scores.len());
    for (place, score) in (first_place..).zip(scores) {
        let row = match view {
            RowView::Summary => {
                serde_json::to_value(SummaryRow::listed(place, &score, owner_fields))
            }
            RowView::Full => serde_json::to_value(PlacedScore {
                place,
                score: RuledScore::of(read_model, score),
            }),
            RowView::Fields(names) => picked(names, place, score, read_model),
        };
        rows.push(row.map_err(fault)?);
    }
    Ok(rows)
}

/// The fields of a row that were asked for, in that order.
fn picked(
    names: &[String],
    place: u64,
    score: Arc<ShownScore>,
    read_model: &ReadModel,
) -> serde_json::Result<Value> {
    let has_history = names.iter().any(|name| name == HISTORY);
    let history = has_history.then(|| serde_json::to_value(&score.history));
    let score = RuledScore::of(read_model, score);
    let mut row = serde_json::to_value(PlacedScore { place, score })?;
    if let Some(history) = history {
        row[HISTORY] = history?;
    }
    let mut found = Map::new();
    for name in names {
        let value = row.get_mut(name).map(Value::take);
        found.insert(name.clone(), value.unwrap_or_default());
    }
    Ok(Value::Object(found))
}

#[cfg(test)]
mod tests {
    use leadpulse_records::{Score, Symbol};

    use super::*;

    #[test]
    fn a_summary_has_at_most_400_bytes() {
        let long =
            "Größte Gesellschaft für Überlandleitungen und Datenträger mbH & Co. KG ".repeat(3);
        let score = ShownScore {
            record: Score {
                entity_id: "0018d00000XyZzAAAB".into(),
                score: Some(99.123_456_789_012),
                previous_score: Some(88.123_456_789_012),
                band: Some("very-hot-lead".into()),
                trend: Symbol("improving"),
                velocity_per_day: Some(-12.345_678_9),
                as_of: 1_790_000_000_000,
                top_signal: Some(long.clone()),
                recommended_action: Some("call-the-champion-today".into()),
                ..Score::default()
            },
            name: Some(long),
            facts: serde_json::json!({"values": {"owner_id": "0058d00000abcdeAAA", "region": "EMEA"},
                "open": [{}]}),
            history: Vec::new(),
        };
        let row = SummaryRow::listed(1_000_000, &score, &["owner_id".to_owned()]);
        let text = serde_json::to_string(&row).unwrap();
        assert!(text.len() <= 400, "{} bytes: {text}", text.len());
        assert!(text.contains("\"score\":99.12,"), "{text}");
        assert!(text.contains("\"has_open_opportunity\":true"), "{text}");
    }
}
