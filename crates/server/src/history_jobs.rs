//! The port to jobs on files of a past: alerts that policies would have sent, labels of a query, the
//! judgement of the model.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::desk::Desk;

/// Labels that a request gets one by one unless it says how many.
pub const FIRST_LABELS: usize = 20;
/// Labels that a request can get one by one, at most.
pub const MOST_LABELS: usize = 200;

/// A request for a simulation. Policies are those of the configuration, with these changes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimulationRequest {
    /// Days in which alerts fire; 30 by default.
    pub days: Option<u32>,
    /// The moment until which alerts fire, as a date or a time; by default the end of the files.
    pub until: Option<String>,
    /// Task → options of its policy that are put in place of those of the configuration.
    pub policies: BTreeMap<String, Map<String, Value>>,
    /// Options of `[alerts.caps]` that are put in place of those of the configuration.
    pub caps: Map<String, Value>,
    /// True to list every alert with its sentence, besides the figures.
    pub list: bool,
}

/// A request for the labels of a query.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelRequest {
    /// A query in PQL, or the name of a configured task.
    pub query: String,
    /// The rule for the moments at which labels are taken; `every 30d` by default, and for a
    /// configured task its own.
    #[serde(default)]
    pub anchors: Option<String>,
    /// Labels to list one by one, the earliest; [`FIRST_LABELS`] by default.
    #[serde(default)]
    pub first: Option<usize>,
}

/// A request for a judgement of the model's tasks on the files.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BacktestRequest {
    /// A configured task; all that the model predicts without it.
    pub task: Option<String>,
    /// The first moment that is scored, as a date or a time; by default the start of the model's
    /// test.
    pub from: Option<String>,
}

/// Reasons why a job has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryJobError {
    /// The request asks for something that cannot be.
    Refused(String),
    /// The job was ended before its result.
    Ended,
    /// Files, bundle or machine failed.
    Failed(String),
}

/// Jobs on the files of a past. Each takes seconds to minutes, and ends early with
/// [`HistoryJobError::Ended`] once its sign is set.
pub trait HistoryJobs: Send + Sync {
    /// The figures of the configuration's policies, then those of the changed ones, if the request
    /// changes any.
    ///
    /// # Errors
    /// A request that does not fit the configuration or the files; files that cannot be read.
    fn simulate(
        &self,
        request: &SimulationRequest,
        end: &Arc<AtomicBool>,
    ) -> Result<Value, HistoryJobError>;

    /// The counts of a query's labels, and the first of them.
    ///
    /// # Errors
    /// As [`Self::simulate`].
    fn labels(
        &self,
        request: &LabelRequest,
        end: &Arc<AtomicBool>,
    ) -> Result<Value, HistoryJobError>;

    /// The figures of the model on the files.
    ///
    /// # Errors
    /// As [`Self::simulate`].
    fn backtest(
        &self,
        request: &BacktestRequest,
        end: &Arc<AtomicBool>,
    ) -> Result<Value, HistoryJobError>;
}

/// Jobs that one request has at a time.
pub type HistoryDesk = Desk<dyn HistoryJobs>;
