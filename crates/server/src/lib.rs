//! The API, the console and the metrics of committed state.
//!
//! [`serve`] answers from the engine's committed read model, on threads of its own. The engine
//! never waits for a client; explanations are the engine's own work, between epochs, a few at a
//! time. Nothing here changes a score; operations go through a port, on threads of their own. tokio and axum stay inside this crate: callers start and stop the
//! server like any other part.
//!
//! `api` lists the endpoints: router, checks, index and OpenAPI document are made from them.
//! [docs/api.md](../../../docs/api.md) is the same list for people. `guard` stands before all answers
//! ([0075](../../../docs/decisions/0075-who-may-ask.md)).
//!
//! Scores and alerts have the field names of their topics (`schemas/outputs`). Pages add `name` and
//! `facts`; a list of scores adds `place`, the position in the order that was asked for.
//!
//! Refusals are problem documents (RFC 9457) with a `hint`. Answers carry an `ETag`; `If-None-Match`
//! costs next to nothing while nothing has changed. Times are milliseconds since 1970 UTC.
//!
//! Invariants: no entity key ever becomes a metric label; nothing is loaded from another origin
//! (`Content-Security-Policy`).

mod api;
mod archive;
mod calls;
mod connections;
mod console;
mod desk;
mod guard;
mod health;
mod history_jobs;
mod metrics;
mod operations;
mod options;
mod probes;
mod queries;
mod rates;
mod service;
mod side;
mod state;

pub use api::{api_document, api_reference};
pub use archive::{
    ArchiveDesk, ArchiveFault, NoCursor, PastCursor, PastPoints, PastQuestion, ScoreArchive,
};
pub use calls::{Call, CallAnswer, CallHandler, CallLimits, serve_calls};
pub use desk::Desk;
pub use health::Heartbeat;
pub use history_jobs::{
    BacktestRequest, FIRST_LABELS, HistoryDesk, HistoryJobError, HistoryJobs, LabelRequest,
    MOST_LABELS, SimulationRequest,
};
pub use metrics::{SERVER_METRICS, register_http};
pub use operations::{
    AlertAnswer, ChangedChampion, KnownModel, OperationError, Operations, OperationsDesk,
    PromotionRequest, ReplayCounts, ReplayRequest, RollbackRequest, SentRow,
};
pub use options::{
    AccessOptions, BearerToken, LimitOptions, Scope, ServerError, ServerOptions, TokenAccess,
};
pub use probes::{ProcessHealth, serve_probes};
pub use queries::{NamedText, PlannedQuery, QueryDesk, QueryFault, QueryPlanner, QueryRemark};
pub use service::{Handle, serve};
pub use state::{ActionView, BandView, GroupView, ServerState, TaskView, TaskViews, WriterSchemas};
