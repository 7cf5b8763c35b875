//! The answers to programs: JSON at `/api/v1`, probes and metrics.

mod alerts;
pub(crate) mod answer;
mod apart;
mod arguments;
mod avro;
mod committee;
mod dead_letters;
mod document;
pub(crate) mod endpoint;
mod entity;
mod events;
mod explanation;
mod history_jobs;
mod model;
mod operations;
pub(crate) mod process;
mod query;
mod rows;
mod said;
mod scores;
mod tables;
mod tasks;
mod trace;
mod what_if;
mod worklist;

use std::sync::LazyLock;

use axum::Router;

pub use document::{api_document, api_reference};

use answer::ApiError;
use endpoint::{ApiRoute, Endpoint, Parameter, ParameterValues};

use crate::service::App;
use crate::state::TaskView;

/// The parameter that names a task.
const TASK: Parameter = Parameter {
    name: "task",
    values: ParameterValues::Text,
    about: "name of a task; the first task without it, of the table where the path names one",
};
/// The parameter that chooses the columns of a list.
const VIEW: Parameter = Parameter {
    name: "view",
    values: ParameterValues::OneOf(&["summary", "full"]),
    about: "columns: a summary of at most 400 bytes a row with usual names, or the whole record",
};
/// The parameter that names the columns of a list.
const FIELDS: Parameter = Parameter {
    name: "fields",
    values: ParameterValues::List { max: 64 },
    about: "columns by name, in place of a view",
};

/// The parameter of the number of entries.
const fn limit(max: u64) -> Parameter {
    Parameter {
        name: "limit",
        values: ParameterValues::Number {
            min: 1,
            max,
            default: 50,
        },
        about: "entries, at most",
    }
}

/// All endpoints with their handlers.
fn routes() -> Vec<ApiRoute> {
    vec![
        ApiRoute::new(&scores::SCORES, scores::scores),
        ApiRoute::new(&entity::ENTITY, entity::entity),
        ApiRoute::new(&entity::HISTORY, entity::history),
        ApiRoute::new(&explanation::EXPLANATION, explanation::explanation),
        ApiRoute::new(&committee::COMMITTEE, committee::committee),
        ApiRoute::new(&what_if::WHAT_IF, what_if::what_if),
        ApiRoute::new(&trace::TRACE, trace::trace),
        ApiRoute::new(&alerts::ALERTS, alerts::alerts),
        ApiRoute::new(&history_jobs::SIMULATE, history_jobs::simulate),
        ApiRoute::new(&query::QUERY, query::query),
        ApiRoute::new(&history_jobs::LABELS, history_jobs::labels),
        ApiRoute::new(&history_jobs::BACKTEST, history_jobs::backtest),
        ApiRoute::new(&worklist::WORK_LISTS, worklist::worklist),
        ApiRoute::new(&said::FEEDBACK, said::feedback),
        ApiRoute::new(&operations::ANSWER, operations::answer),
        ApiRoute::new(&dead_letters::DEAD_LETTERS, dead_letters::dead_letters),
        ApiRoute::new(&operations::REPLAY, operations::replay),
        ApiRoute::new(&events::EVENTS, events::events),
        ApiRoute::new(&tasks::TASKS, tasks::tasks),
        ApiRoute::new(&tables::TABLES, tables::tables),
        ApiRoute::new(&tasks::SCHEMA, tasks::schema),
        ApiRoute::new(&model::MODEL, model::model),
        ApiRoute::new(&operations::MODELS, operations::models),
        ApiRoute::new(&operations::PROMOTE, operations::promote),
        ApiRoute::new(&operations::ROLL_BACK, operations::roll_back),
        ApiRoute::new(&model::PIPELINE, model::pipeline),
        ApiRoute::new(&process::STATUS, process::status),
        ApiRoute::new(&document::INDEX, document::index),
        ApiRoute::new(&document::DOCUMENT, document::document),
        ApiRoute::new(&process::METRICS, process::metrics),
        ApiRoute::new(&process::HEALTHZ, process::healthz),
        ApiRoute::new(&process::READYZ, process::readyz),
        ApiRoute::new(&process::VERSION, process::version),
    ]
}

/// The endpoints, in the order of the index.
static ENDPOINTS: LazyLock<Vec<&'static Endpoint>> =
    LazyLock::new(|| routes().iter().map(|route| route.endpoint).collect());

/// The patterns of all endpoints' paths, as the metrics have them.
pub(crate) fn paths() -> impl Iterator<Item = &'static str> {
    ENDPOINTS.iter().map(|endpoint| endpoint.path)
}

/// Adds all endpoints to a router.
pub(crate) fn add_routes(router: Router<App>, app: &App) -> Router<App> {
    let add = |router, route: ApiRoute| route.on(router, app);
    routes().into_iter().fold(router, add)
}

/// The first task with this name and this table, where the request names them.
pub(crate) fn task_of<'a>(
    tasks: &'a [TaskView],
    name: Option<&str>,
    entity: Option<&str>,
) -> Result<&'a TaskView, ApiError> {
    let fits = |task: &&TaskView| {
        name.is_none_or(|name| task.name == name)
            && entity.is_none_or(|entity| task.entity == entity)
    };
    tasks.iter().find(fits).ok_or_else(|| {
        let wanted = [
            name.map(|name| format!(" named \"{name}\"")),
            entity.map(|entity| format!(" for \"{entity}\"")),
        ];
        let known: Vec<String> = tasks
            .iter()
            .map(|task| format!("{} (for {})", task.name, task.entity))
            .collect();
        let hint = if known.is_empty() {
            "no task is configured".into()
        } else {
            format!("there is: {}", known.join(", "))
        };
        let names = tasks.iter().map(|task| task.name.clone()).collect();
        ApiError::not_found(
            format!(
                "there is no task{}",
                wanted.into_iter().flatten().collect::<String>()
            ),
            hint,
        )
        .of_parameter("task", names)
    })
}

/// Answer of any other path.
pub(crate) async fn no_such_path() -> ApiError {
    ApiError::not_found(
        "there is nothing at this path",
        "the console is at /, /api lists the paths of the API, scores are at /api/v1/scores",
    )
}

/// Answer of any other method.
pub(crate) async fn no_such_method() -> ApiError {
    ApiError::method_not_allowed()
}
