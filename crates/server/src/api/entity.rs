//! `/api/v1/{table}/{id}`: the scores of one entity under every task, and the newest alerts about
//! it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use leadpulse_engine::read_model::{ALERTS_KEPT, Phase, ShownRuling};
use leadpulse_records::{ScorePoint, ShownScore};
use serde::Serialize;

use super::answer::ApiError;
use super::said::AnsweredAlert;
use crate::service::App;

/// `/api/v1/{table}/{id}`
pub(crate) async fn entity(
    State(app): State<App>,
    Path((table, id)): Path<(String, String)>,
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
    if !app.state.tables.contains(&table) {
        let hint = format!("entity tables are: {}", app.state.tables.join(", "));
        return Err(ApiError::not_found(
            format!("there is no entity table \"{table}\""),
            hint,
        ));
    }
    let id = app.state.key(&table, id);
    let scores = app.state.read_model.get(&table, &id);
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
    Ok(Json(EntityAnswer {
        ruling,
        history,
        table,
        id,
        scores,
        alerts,
    })
    .into_response())
}
