//! `/api/v1/model`: the card of the model; `/api/v1/pipeline`: the pipeline as it runs.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use leadpulse_engine::read_model::{EngineStatus, EpochTimes, PartitionLag};
use serde::Serialize;
use serde_json::Value;

use super::answer::{ApiError, tagged};
use super::arguments::QueryArguments;
use super::endpoint::{AnswerKind, Endpoint, READS};
use crate::service::App;

pub(crate) const MODEL: Endpoint = Endpoint {
    path: "/api/v1/model",
    summary: "The card of the model: origin, columns, and grade, calibration and metrics of each task",
    answer: AnswerKind::Json("Model"),
    refusals: &[404],
    ..READS
};
pub(crate) const PIPELINE: Endpoint = Endpoint {
    path: "/api/v1/pipeline",
    summary: "Phase, lag in records and seconds, the times of the newest epoch, and every partition",
    answer: AnswerKind::Json("Pipeline"),
    ..READS
};

/// `/api/v1/model`
pub(crate) async fn model(
    State(app): State<App>,
    _: QueryArguments,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    match &*app.state.tasks.model() {
        Value::Null => Err(ApiError::not_found(
            "the model has no card",
            "a bundle written by leadpulse train has one",
        )),
        card => tagged(&app, &headers, card),
    }
}

/// `/api/v1/pipeline`
pub(crate) async fn pipeline(
    State(app): State<App>,
    _: QueryArguments,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct PipelineAnswer<'a> {
        #[serde(flatten)]
        engine: &'a EngineStatus,
        /// Seconds from the newest record's Kafka timestamp to its commit; null without one.
        lag_seconds: Option<f64>,
        newest_epoch: Option<Arc<EpochTimes>>,
        partitions: &'a [PartitionLag],
    }
    let read_model = &app.state.read_model;
    let (engine, pipeline) = (read_model.status(), read_model.pipeline());
    let newest_epoch = pipeline.newest_epoch.clone();
    let answer = PipelineAnswer {
        engine: &engine,
        lag_seconds: newest_epoch
            .as_ref()
            .and_then(|epoch| epoch.newest_record_age_seconds),
        newest_epoch,
        partitions: &pipeline.partitions,
    };
    tagged(&app, &headers, &answer)
}
