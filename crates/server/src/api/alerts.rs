//! `/api/v1/alerts`: the newest alerts of all tasks.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use leadpulse_engine::read_model::ALERTS_KEPT;
use leadpulse_records::{Alert, ShownAlert};
use serde::Serialize;
use serde_json::Value;

use super::answer::{ApiError, EntityTag, apart};
use super::arguments::QueryArguments;
use super::endpoint::{AnswerKind, Endpoint, Parameter, ParameterValues, READS};
use super::said::AnsweredAlert;
use crate::service::App;

pub(crate) const ALERTS: Endpoint = Endpoint {
    path: "/api/v1/alerts",
    summary: "The newest alerts, newest first",
    parameters: &[
        Parameter {
            name: "task",
            values: ParameterValues::Text,
            about: "only alerts of this task; all without it",
        },
        Parameter {
            name: "owner",
            values: ParameterValues::Text,
            about: "only alerts to this person; empty for those to nobody",
        },
        Parameter {
            name: "region",
            values: ParameterValues::Text,
            about: "only alerts of accounts in this region",
        },
        Parameter {
            name: "type",
            values: ParameterValues::Text,
            about: "only alerts of this type",
        },
        super::VIEW,
        super::limit(ALERTS_KEPT as u64),
    ],
    answer: AnswerKind::Json("Alerts"),
    refusals: &[400],
    ..READS
};

/// An alert in a few hundred bytes. Names are those of the alert record.
#[derive(Serialize)]
pub(crate) struct AlertSummary<'a> {
    alert_id: &'a str,
    r#type: &'a str,
    severity: &'a str,
    state: &'a str,
    task: &'a str,
    entity_type: &'a str,
    entity_id: &'a str,
    name: Option<&'a str>,
    owner_id: Option<&'a str>,
    score: f64,
    band: Option<&'a str>,
    as_of: i64,
}

impl<'a> AlertSummary<'a> {
    pub fn of(alert: &'a ShownAlert) -> Self {
        let record = &alert.record;
        Self {
            alert_id: &record.alert_id,
            r#type: record.r#type.0,
            severity: record.severity.0,
            state: record.state.0,
            task: &record.task,
            entity_type: &record.entity_type,
            entity_id: &record.entity_id,
            name: alert.name.as_deref().map(super::rows::clipped),
            owner_id: record.owner_id.as_deref(),
            score: super::rows::rounded(record.score),
            band: record.band.as_deref(),
            as_of: record.as_of,
        }
    }
}

/// `/api/v1/alerts`
pub(crate) async fn alerts(
    State(app): State<App>,
    arguments: QueryArguments,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct AlertsAnswer {
        alerts: Vec<Value>,
    }
    let read_model = app.state.read_model.clone();
    let (version, alerts) = read_model.alerts(ALERTS_KEPT);
    // Both numbers only grow, so the sum changes with each of them.
    let tag = EntityTag::new(app.process, version + read_model.said_version());
    if tag.is_known_to(&headers) {
        return Ok(tag.not_modified());
    }
    let answer = apart(move || {
        let is_full = arguments.choice("view") == "full";
        let wanted = alerts
            .into_iter()
            .filter(|one| accepts(&arguments, &one.record));
        let mut rows = Vec::new();
        for alert in wanted.take(arguments.limit()) {
            let row = match is_full {
                true => serde_json::to_value(AnsweredAlert::of(&read_model, alert)),
                false => serde_json::to_value(AlertSummary::of(&alert)),
            };
            rows.push(row.map_err(|error| {
                ApiError::internal(format!("an alert cannot be written: {error}"))
            })?);
        }
        Ok(AlertsAnswer { alerts: rows })
    });
    Ok(tag.on(Json(answer.await?)))
}

fn accepts(arguments: &QueryArguments, alert: &Alert) -> bool {
    let is = |name: &str, value: Option<&str>| {
        let wanted = arguments.text(name);
        wanted.is_none_or(|wanted| value.unwrap_or_default() == wanted)
    };
    let is_of_task = arguments
        .chosen("task")
        .is_none_or(|task| *alert.task == *task);
    let is_of_type = arguments
        .chosen("type")
        .is_none_or(|one| alert.r#type.0 == one);
    is_of_task
        && is_of_type
        && is("owner", alert.owner_id.as_deref())
        && is("region", alert.region.as_deref())
}
