//! What the server answers from.

use std::sync::Arc;

use leadpulse_engine::explain::ExplainDesk;
use leadpulse_engine::read_model::ReadModel;
use prometheus::Registry;
use serde::Serialize;

/// Everything the server reads. Given once, at start.
#[derive(Clone, Debug)]
pub struct ServerState {
    /// The committed scores, alerts and status.
    pub read_model: Arc<ReadModel>,
    /// The metrics of the whole process; the server adds its own.
    pub registry: Registry,
    /// The tasks, in the order of the configuration: the first is what the console opens with.
    pub tasks: Vec<TaskView>,
    /// Names of the entity tables: what `/api/v1/{table}/{id}` answers for.
    pub tables: Vec<String>,
    /// Where explanations are asked for; without it there are only those that came with the scores.
    pub explanations: Option<ExplainDesk>,
    /// The program's version.
    pub version: String,
}

/// A task, for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskView {
    /// Its name.
    pub name: String,
    /// The entity table it scores.
    pub entity: String,
    /// The query.
    pub query: String,
    /// End of the predicted window after the moment of scoring, milliseconds.
    pub horizon_ms: i64,
    /// Its bands, lowest first.
    pub bands: Vec<BandView>,
}

/// A band of a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BandView {
    /// Its name.
    pub name: String,
    /// The probability at which it is entered.
    pub enter: f64,
    /// The probability below which it is left.
    pub exit: f64,
}
