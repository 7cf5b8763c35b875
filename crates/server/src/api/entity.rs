//! `/api/v1/{table}/{id}`: the scores of one entity under every task, and the newest alerts about
//! it; `…/history`: their past.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use leadpulse_engine::read_model::{ALERTS_KEPT, Phase, ShownRuling};
use leadpulse_records::{ScorePoint, ShownScore};
use serde::Serialize;

use super::answer::{ApiError, tagged};
use super::apart::run_apart;
use super::arguments::QueryArguments;
use super::endpoint::{AnswerKind, Endpoint, Parameter, ParameterValues, READS};
use super::said::AnsweredAlert;
use crate::archive::{PastCursor, PastPoints, PastQuestion};
use crate::service::App;

pub(crate) const ENTITY: Endpoint = Endpoint {
    path: "/api/v1/{table}/{id}",
    summary: "Every task's score of one entity, its newest points, and its latest alerts",
    answer: AnswerKind::Json("Entity"),
    refusals: &[404],
    ..READS
};
pub(crate) const HISTORY: Endpoint = Endpoint {
    path: "/api/v1/{table}/{id}/history",
    summary: "The newest emitted probabilities of one entity under one task, or older ones from the scores topic, the last one last",
    parameters: &[super::TASK, BEFORE],
    answer: AnswerKind::Json("History"),
    refusals: &[400, 404, 503],
    ..READS
};

/// The parameter that asks for older points.
const BEFORE: Parameter = Parameter {
    name: "before",
    values: ParameterValues::Text,
    about: "before of the answer with later points: older ones, from the scores topic; the newest without it",
};
/// Seconds after which a client may read the archive that another one reads.
const NEXT_TURN_S: u64 = 1;

/// `/api/v1/{table}/{id}`
pub(crate) async fn entity(
    State(app): State<App>,
    Path((table, id)): Path<(String, String)>,
    _: QueryArguments,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct EntityAnswer {
        table: String,
        id: String,
        ruling: Option<Arc<ShownRuling>>,
        scores: Vec<Arc<ShownScore>>,
        /// By task, the newest emitted probabilities, the last one last.
        history: BTreeMap<Arc<str>, Vec<ScorePoint>>,
        alerts: Vec<AnsweredAlert>,
    }
    let (id, scores) = scores_of(&app, &table, id)?;
    let (_, mut alerts) = app.state.read_model.alerts(ALERTS_KEPT);
    alerts.retain(|alert| *alert.record.entity_type == *table && *alert.record.entity_id == *id);
    let read_model = &app.state.read_model;
    let ruling = scores.first().and_then(|score| {
        let record = &score.record;
        let account_id = record.account_id.as_ref();
        read_model.ruling(&record.entity_type, &record.entity_id, account_id)
    });
    let shown = |alert| AnsweredAlert::of(read_model, alert);
    let alerts = alerts.into_iter().map(shown).collect();
    let past = |score: &Arc<ShownScore>| (score.record.task.clone(), score.history.clone());
    let history = scores.iter().map(past).collect();
    let answer = EntityAnswer {
        ruling,
        history,
        table,
        id,
        scores,
        alerts,
    };
    tagged(&app, &headers, &answer)
}

/// The key of an entity as its rows have it, and its scores: one at least.
fn scores_of(
    app: &App,
    table: &str,
    id: String,
) -> Result<(String, Vec<Arc<ShownScore>>), ApiError> {
    if !app.state.tables.iter().any(|known| known == table) {
        let hint = format!("entity tables are: {}", app.state.tables.join(", "));
        return Err(ApiError::not_found(
            format!("there is no entity table \"{table}\""),
            hint,
        ));
    }
    let id = app.state.key(table, id);
    let scores = app.state.read_model.get(table, &id);
    if scores.is_empty() {
        let hint = match app.state.read_model.status().phase {
            Phase::Live
            | Phase::Following {
                is_current: true, ..
            } => "an entity is here once a task has scored it and the epoch is committed",
            _ => "scores are still being loaded; /readyz tells when they are",
        };
        return Err(ApiError::not_found(
            format!("no score of \"{id}\" in {table}"),
            hint,
        ));
    }
    Ok((id, scores))
}

/// `/api/v1/{table}/{id}/history`
pub(crate) async fn history(
    State(app): State<App>,
    Path((table, id)): Path<(String, String)>,
    arguments: QueryArguments,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct HistoryAnswer<'a> {
        task: &'a str,
        entity_type: &'a str,
        entity_id: &'a str,
        points: &'a [ScorePoint],
        /// The parameter of a request for older points; null where there are none.
        before: Option<String>,
        /// Records of the topic that were looked at.
        looked_at: u64,
    }
    let (id, scores) = scores_of(&app, &table, id)?;
    let tasks = app.state.tasks.now();
    let task = super::task_of(&tasks, arguments.chosen("task"), Some(&table))?;
    let score = scores.iter().find(|one| *one.record.task == *task.name);
    let score = score.ok_or_else(|| {
        let detail = format!("no score of \"{id}\" under {}", task.name);
        ApiError::not_found(
            detail,
            "/api/v1/{table}/{id} lists the tasks that scored it",
        )
    })?;
    let past = match arguments.chosen("before") {
        None => newest(&app, &score.history),
        Some(before) => {
            let question = PastQuestion {
                task: task.name.clone(),
                table: table.clone(),
                id: id.clone(),
                before: cursor_of(before)?,
            };
            older(&app, question).await?
        }
    };
    let answer = HistoryAnswer {
        task: &task.name,
        entity_type: &table,
        entity_id: &id,
        points: &past.points,
        before: past.next.map(|cursor| cursor.to_string()),
        looked_at: past.looked_at,
    };
    tagged(&app, &headers, &answer)
}

fn cursor_of(before: &str) -> Result<PastCursor, ApiError> {
    before.parse().map_err(|_| {
        ApiError::bad_request(
            format!("before is \"{before}\""),
            "hand back the before of an answer as it is",
        )
        .of_parameter("before", Vec::new())
    })
}

/// The points of the read model. Older ones may be in the archive, if there is one.
fn newest(app: &App, points: &[ScorePoint]) -> PastPoints {
    let oldest = points.first().filter(|_| app.state.archive.is_some());
    PastPoints {
        points: points.to_vec(),
        next: oldest.map(|oldest| PastCursor::Moment(oldest.as_of)),
        looked_at: 0,
    }
}

/// Points of the archive, read apart from the threads that talk to clients.
async fn older(app: &App, question: PastQuestion) -> Result<PastPoints, ApiError> {
    let Some(desk) = &app.state.archive else {
        return Err(ApiError::unavailable(
            "this process reads no older scores",
            "ask a process that runs on a cluster, or read the scores topic",
        ));
    };
    let Some(turn) = desk.take() else {
        let refusal = ApiError::unavailable(
            "older scores are being read for another client",
            "ask again in a moment",
        );
        return Err(refusal.retry_after(NEXT_TURN_S));
    };
    let names = ("leadpulse-past", "read of older scores");
    let found = run_apart(names, move || turn.before(&question)).await?;
    found.map_err(|fault| {
        ApiError::unavailable(
            fault.0,
            "see the process's log; the newest points are there without before",
        )
    })
}
