//! `/api/v1/trace`: one record's way: taken, accepted or why not, whose it is, its score and alerts.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use leadpulse_engine::read_model::{ALERTS_KEPT, LETTERS_KEPT, TracedRecord};
use leadpulse_records::{KeptLetter, ShownScore};
use serde::Serialize;

use super::alerts::AlertSummary;
use super::answer::ApiError;
use super::arguments::QueryArguments;
use super::endpoint::{AnswerKind, Endpoint, Parameter, ParameterValues, READS};
use super::rows::SummaryRow;
use crate::service::App;

pub(crate) const TRACE: Endpoint = Endpoint {
    path: "/api/v1/trace",
    summary: "What became of one of the newest records: its outcome, its entity, the scores and alerts since",
    parameters: &[
        Parameter {
            name: "topic",
            values: ParameterValues::Text,
            about: "topic of the record; with partition and offset, or narrows id down",
        },
        Parameter {
            name: "partition",
            values: ParameterValues::Number {
                min: 0,
                max: i32::MAX as u64,
                default: 0,
            },
            about: "partition of the record",
        },
        Parameter {
            name: "offset",
            values: ParameterValues::Number {
                min: 0,
                max: i64::MAX as u64,
                default: 0,
            },
            about: "offset of the record",
        },
        Parameter {
            name: "id",
            values: ParameterValues::Text,
            about: "key of the row or id of the event, in place of an offset; the newest record with it",
        },
    ],
    answer: AnswerKind::Json("Trace"),
    refusals: &[400, 404],
    ..READS
};

#[derive(Serialize)]
struct TraceAnswer<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    /// Epoch that took the record; null for a dead letter, whose epoch is not kept.
    epoch: Option<u64>,
    /// `accepted`, a code for which it changed nothing or not everything, or `dead_letter`.
    outcome: &'a str,
    /// Code of a dead letter's reason.
    reason: Option<&'a str>,
    /// The case in words.
    remark: Option<&'a str>,
    table: Option<&'a str>,
    key: Option<&'a str>,
    entity_type: Option<&'a str>,
    entity_id: Option<&'a str>,
    account_id: Option<&'a str>,
    /// Current scores of the entity and its account.
    scores: Vec<TracedScore<'a>>,
    /// Alerts of the record's epoch and later about the entity or its account, newest first.
    alerts: Vec<AlertSummary<'a>>,
}

#[derive(Serialize)]
struct TracedScore<'a> {
    #[serde(flatten)]
    score: SummaryRow<'a>,
    /// Epoch of the score.
    epoch: i64,
    /// True if the score was emitted in the epoch of the record or later.
    is_since: bool,
    /// True if the record's id is among the events that made it be scored.
    is_traced: bool,
}

/// `/api/v1/trace`
pub(crate) async fn trace(
    State(app): State<App>,
    arguments: QueryArguments,
) -> Result<Response, ApiError> {
    let wanted = WantedRecord::of(&arguments)?;
    let read_model = &app.state.read_model;
    if let Some(record) = read_model.traced(|record| wanted.is(record)) {
        return Ok(of_record(&app, &record));
    }
    let letters = read_model
        .dead_letters(wanted.topic, None, LETTERS_KEPT)
        .letters;
    match letters.iter().find(|letter| wanted.is_letter(letter)) {
        Some(letter) => Ok(of_letter(letter)),
        None => Err(ApiError::not_found(
            "this record is not among the newest that this process took",
            "epochs have counts of all outcomes, leadpulse dlq has all dead letters, and \
             /api/v1/{table}/{id} has the newest events of an entity",
        )),
    }
}

/// The record that is asked for.
struct WantedRecord<'a> {
    topic: Option<&'a str>,
    place: Option<(i64, i64)>,
    id: Option<&'a str>,
}

impl<'a> WantedRecord<'a> {
    fn of(arguments: &'a QueryArguments) -> Result<Self, ApiError> {
        let topic = arguments.chosen("topic");
        let id = arguments.chosen("id");
        let has_place = topic.is_some() && arguments.has("offset");
        if id.is_none() && !has_place {
            let hint = "give topic, partition and offset, or id";
            return Err(ApiError::bad_request("no record is named", hint));
        }
        let number = |name| i64::try_from(arguments.number(name)).unwrap_or(i64::MAX);
        let has_place = arguments.has("offset");
        Ok(Self {
            topic,
            place: has_place.then(|| (number("partition"), number("offset"))),
            id,
        })
    }

    fn is(&self, record: &TracedRecord) -> bool {
        let place = (i64::from(record.partition), record.offset);
        self.topic.is_none_or(|topic| topic == &*record.topic)
            && self.place.is_none_or(|wanted| wanted == place)
            && self.id.is_none_or(|id| id == &*record.key)
    }

    /// True for a dead letter at the place; its key may be unreadable, so an id finds none.
    fn is_letter(&self, letter: &KeptLetter) -> bool {
        let place = (i64::from(letter.partition), letter.offset);
        self.id.is_none() && self.place == Some(place) && self.topic == Some(letter.topic.as_str())
    }
}

fn of_letter(letter: &KeptLetter) -> Response {
    Json(TraceAnswer {
        topic: &letter.topic,
        partition: letter.partition,
        offset: letter.offset,
        epoch: None,
        outcome: "dead_letter",
        reason: Some(&letter.reason),
        remark: Some(&letter.message),
        table: None,
        key: None,
        entity_type: None,
        entity_id: None,
        account_id: None,
        scores: Vec::new(),
        alerts: Vec::new(),
    })
    .into_response()
}

fn of_record(app: &App, record: &TracedRecord) -> Response {
    let read_model = &app.state.read_model;
    let mut scores: Vec<Arc<ShownScore>> = Vec::new();
    if let Some((table, key)) = &record.entity {
        scores.extend(read_model.get(table, key));
        let root = app.state.root_table();
        if let (Some(account), Some(root)) = (&record.account_id, root)
            && (**table != *root || account != key)
        {
            scores.extend(read_model.get(&root, account));
        }
    }
    let (_, alerts) = read_model.alerts(ALERTS_KEPT);
    let is_about = |entity: &str, account: Option<&Arc<str>>| {
        let is_entity = record
            .entity
            .as_ref()
            .is_some_and(|(_, key)| **key == *entity);
        is_entity || (account.is_some() && account == record.account_id.as_ref())
    };
    let alerts: Vec<_> = alerts
        .into_iter()
        .filter(|alert| {
            let alert = &alert.record;
            alert.epoch >= record.epoch as i64
                && is_about(&alert.entity_id, alert.account_id.as_ref())
        })
        .collect();
    let owner_fields = app.state.owner_fields();
    let traced = |score: &'_ Arc<ShownScore>| {
        let of_score = &score.record;
        (
            of_score.epoch,
            of_score.epoch >= record.epoch as i64,
            of_score.trace.iter().any(|id| **id == *record.key),
        )
    };
    let traced_scores = scores.iter().map(|score| {
        let (epoch, is_since, is_traced) = traced(score);
        TracedScore {
            score: SummaryRow::alone(score, &owner_fields),
            epoch,
            is_since,
            is_traced,
        }
    });
    Json(TraceAnswer {
        topic: &record.topic,
        partition: record.partition,
        offset: record.offset,
        epoch: Some(record.epoch),
        outcome: record.outcome,
        reason: None,
        remark: record.remark,
        table: Some(&record.table),
        key: Some(&record.key),
        entity_type: record.entity.as_ref().map(|(table, _)| &**table),
        entity_id: record.entity.as_ref().map(|(_, key)| &**key),
        account_id: record.account_id.as_deref(),
        scores: traced_scores.collect(),
        alerts: alerts.iter().map(|alert| AlertSummary::of(alert)).collect(),
    })
    .into_response()
}
