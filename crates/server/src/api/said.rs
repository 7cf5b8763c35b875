//! Words of people beside scores and alerts, and `/api/v1/feedback`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use leadpulse_engine::read_model::{
    ALERTS_KEPT, FeedbackCount, ReadModel, ShownRuling, ShownVerdict,
};
use leadpulse_records::{ShownAlert, ShownScore};
use serde::Serialize;

use super::endpoint::{AnswerKind, Endpoint, READS};
use crate::service::App;

/// An alert with the decision in force about its entity, and the last answer to it.
#[derive(Serialize)]
pub(crate) struct AnsweredAlert {
    #[serde(flatten)]
    alert: Arc<ShownAlert>,
    ruling: Option<Arc<ShownRuling>>,
    feedback: Option<ShownVerdict>,
}

impl AnsweredAlert {
    pub fn of(read_model: &ReadModel, alert: Arc<ShownAlert>) -> Self {
        let record = &alert.record;
        Self {
            ruling: read_model.ruling(
                &record.entity_type,
                &record.entity_id,
                record.account_id.as_ref(),
            ),
            feedback: read_model.verdict(&record.alert_id),
            alert,
        }
    }
}

/// A score with the decision in force about its entity.
#[derive(Serialize)]
pub(crate) struct RuledScore {
    #[serde(flatten)]
    score: Arc<ShownScore>,
    ruling: Option<Arc<ShownRuling>>,
}

impl RuledScore {
    pub fn of(read_model: &ReadModel, score: Arc<ShownScore>) -> Self {
        let record = &score.record;
        Self {
            ruling: read_model.ruling(
                &record.entity_type,
                &record.entity_id,
                record.account_id.as_ref(),
            ),
            score,
        }
    }
}

/// The answers to the newest alerts of a task and type.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct ToldAlerts {
    task: String,
    r#type: &'static str,
    /// Alerts that asked for something: new ones and more urgent ones.
    told: u64,
    accepted: u64,
    rejected: u64,
    /// Accepted ones among those that were answered; null without an answer.
    share: Option<f64>,
}

pub(crate) const FEEDBACK: Endpoint = Endpoint {
    path: "/api/v1/feedback",
    summary: "Counts of answers to alerts",
    answer: AnswerKind::Json("Feedback"),
    ..READS
};

/// `/api/v1/feedback`
pub(crate) async fn feedback(State(app): State<App>) -> Response {
    #[derive(Serialize)]
    struct FeedbackAnswer {
        newest: Vec<ToldAlerts>,
        answers: Vec<FeedbackCount>,
    }
    let read_model = &app.state.read_model;
    let (_, alerts) = read_model.alerts(ALERTS_KEPT);
    Json(FeedbackAnswer {
        newest: told(read_model, &alerts),
        answers: read_model.feedback(),
    })
    .into_response()
}

/// The newest alerts by task and type, with their answers.
fn told(read_model: &ReadModel, alerts: &[Arc<ShownAlert>]) -> Vec<ToldAlerts> {
    let mut found: BTreeMap<(&str, &'static str), ToldAlerts> = BTreeMap::new();
    for alert in alerts {
        let record = &alert.record;
        if !matches!(record.state.0, "open" | "updated") {
            continue;
        }
        let key = (&*record.task, record.r#type.0);
        let counts = found.entry(key).or_insert_with(|| ToldAlerts {
            task: record.task.to_string(),
            r#type: record.r#type.0,
            ..ToldAlerts::default()
        });
        counts.told += 1;
        match read_model.verdict(&record.alert_id).map(|one| one.verdict) {
            Some("accepted") => counts.accepted += 1,
            Some(_) => counts.rejected += 1,
            None => {}
        }
    }
    let mut found: Vec<ToldAlerts> = found.into_values().collect();
    for counts in &mut found {
        let answered = counts.accepted + counts.rejected;
        counts.share = (answered > 0).then(|| counts.accepted as f64 / answered as f64);
    }
    found
}
