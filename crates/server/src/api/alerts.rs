//! `/api/v1/alerts`: the newest alerts of all tasks.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use leadpulse_engine::read_model::ALERTS_KEPT;
use leadpulse_records::ShownAlert;
use serde::{Deserialize, Serialize};

use super::answer::{ApiError, EntityTag};
use super::{DEFAULT_LIMIT, checked_limit};
use crate::service::App;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AlertsQuery {
    limit: Option<usize>,
}

/// `/api/v1/alerts`
pub(crate) async fn alerts(
    State(app): State<App>,
    query: Result<Query<AlertsQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct AlertsAnswer {
        alerts: Vec<Arc<ShownAlert>>,
    }
    let Query(query) = query.map_err(|rejection| {
        ApiError::bad_request(
            rejection.body_text(),
            "the only parameter is limit (a number)",
        )
    })?;
    let limit = checked_limit(query.limit.unwrap_or(DEFAULT_LIMIT), ALERTS_KEPT)?;
    let (version, alerts) = app.state.read_model.alerts(limit);
    let tag = EntityTag::new(app.process, version);
    Ok(if tag.is_known_to(&headers) {
        tag.not_modified()
    } else {
        tag.on(Json(AlertsAnswer { alerts }))
    })
}
