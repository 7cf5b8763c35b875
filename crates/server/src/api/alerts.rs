//! `/api/v1/alerts`: the newest alerts of all tasks.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use leadpulse_engine::read_model::ALERTS_KEPT;
use serde::{Deserialize, Serialize};

use super::answer::{ApiError, EntityTag};
use super::said::AnsweredAlert;
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
        alerts: Vec<AnsweredAlert>,
    }
    let Query(query) = query.map_err(|rejection| {
        ApiError::bad_request(
            rejection.body_text(),
            "the only parameter is limit (a number)",
        )
    })?;
    let limit = checked_limit(query.limit.unwrap_or(DEFAULT_LIMIT), ALERTS_KEPT)?;
    let read_model = &app.state.read_model;
    let (version, alerts) = read_model.alerts(limit);
    // Both numbers only grow, so the sum changes with each of them.
    let tag = EntityTag::new(app.process, version + read_model.said_version());
    Ok(if tag.is_known_to(&headers) {
        tag.not_modified()
    } else {
        let shown = |alert| AnsweredAlert::of(read_model, alert);
        let alerts = alerts.into_iter().map(shown).collect();
        tag.on(Json(AlertsAnswer { alerts }))
    })
}
