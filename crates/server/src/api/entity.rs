//! `/api/v1/{table}/{id}`: the scores of one entity under every task, and the newest alerts about
//! it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use leadpulse_engine::read_model::{ALERTS_KEPT, Phase};
use leadpulse_records::{ShownAlert, ShownScore};
use serde::Serialize;

use super::answer::ApiError;
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
        scores: Vec<Arc<ShownScore>>,
        alerts: Vec<Arc<ShownAlert>>,
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
            Phase::Live => "an entity is here once a task has scored it and the epoch is committed",
            _ => "scores are still being loaded; /readyz tells when they are",
        };
        return Err(ApiError::not_found(
            format!("no score of \"{id}\" in {table}"),
            hint,
        ));
    }
    let (_, mut alerts) = app.state.read_model.alerts(ALERTS_KEPT);
    alerts.retain(|alert| *alert.record.entity_type == *table && *alert.record.entity_id == *id);
    Ok(Json(EntityAnswer {
        table,
        id,
        scores,
        alerts,
    })
    .into_response())
}
