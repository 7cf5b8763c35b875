//! The API, the console and the metrics of committed state.
//!
//! [`serve`] answers from the engine's committed read model, on threads of its own. The engine
//! never waits for a client; explanations are the engine's own work, between epochs, a few at a
//! time. Everything is read only. tokio and axum stay inside this crate: callers start and stop the
//! server like any other part.
//!
//! | path | answer |
//! |---|---|
//! | `/` | the console: the ranked list as it moves, and the alerts |
//! | `/dead-letters` | the console's page of records that could not be used |
//! | `/api/v1/scores` | a page of a ranking: `task`, `entity`, `sort`, `limit`, `cursor` |
//! | `/api/v1/{table}/{id}` | every task's score of one entity, and its latest alerts |
//! | `/api/v1/{table}/{id}/explanation` | why the entity's score is what it is, as of now: `task`; 409 while it has no score, 503 while the engine cannot answer |
//! | `/api/v1/alerts` | the newest alerts: `limit` |
//! | `POST /api/v1/alerts/simulate` | the alerts that policies would have sent on a history, judged: `days`, `until`, `policies`, `caps`, `list` |
//! | `/api/v1/worklist` | the newest work lists: `task`, `owner` |
//! | `/api/v1/dead-letters` | the newest records that could not be used, with reason, remedy and a look into their bytes: `topic`, `reason`, `limit` |
//! | `/api/v1/status` | phase, epoch, `as_of`, lag, tasks with their bands |
//! | `/metrics` | the given registry, Prometheus text format |
//! | `/healthz` | 200 while the engine's loop comes round, whatever Kafka does; else 503 |
//! | `/readyz` | 200 once scores are live; else 503 with the reason |
//! | `/version` | name and version |
//!
//! Scores and alerts have the field names of their topics (`schemas/outputs`). Pages add `name` and
//! `facts`; a list of scores adds `place`, the position in the order that was asked for.
//!
//! Errors are JSON, `{"error": what happened, "hint": what to do}`. Lists carry an `ETag`;
//! `If-None-Match` costs next to nothing while nothing has changed. Times are milliseconds since
//! 1970 UTC.
//!
//! Invariants: no entity key ever becomes a metric label; nothing is loaded from another origin
//! (`Content-Security-Policy`).

mod api;
mod console;
mod health;
mod metrics;
mod options;
mod service;
mod simulate;
mod state;

pub use options::{ServerError, ServerOptions};
pub use service::{Handle, serve};
pub use simulate::{AlertSimulator, SimulationError, SimulationRequest, SimulatorDesk};
pub use state::{BandView, GroupView, ServerState, TaskView, TaskViews, WriterSchemas};
