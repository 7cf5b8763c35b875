//! The answers to programs: JSON at `/api/v1`, probes and metrics.

mod alerts;
pub(crate) mod answer;
mod dead_letters;
mod entity;
mod explanation;
mod process;
mod said;
mod scores;
mod simulate;
mod worklist;

pub(crate) use alerts::alerts;
pub(crate) use dead_letters::dead_letters;
pub(crate) use entity::entity;
pub(crate) use explanation::explanation;
pub(crate) use process::{healthz, metrics, readyz, status, version};
pub(crate) use said::feedback;
pub(crate) use scores::scores;
pub(crate) use simulate::simulate;
pub(crate) use worklist::worklist;

use answer::ApiError;

use crate::state::TaskView;

/// Entries of a list, unless the request names a limit.
const DEFAULT_LIMIT: usize = 50;

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
        ApiError::not_found(
            format!(
                "there is no task{}",
                wanted.into_iter().flatten().collect::<String>()
            ),
            hint,
        )
    })
}

fn checked_limit(limit: usize, max: usize) -> Result<usize, ApiError> {
    if (1..=max).contains(&limit) {
        Ok(limit)
    } else {
        Err(ApiError::bad_request(
            format!("limit is {limit}"),
            format!("it must be from 1 to {max}"),
        ))
    }
}

/// Answer of any other path.
pub(crate) async fn no_such_path() -> ApiError {
    ApiError::not_found(
        "there is nothing at this path",
        "the console is at /, scores are at /api/v1/scores",
    )
}

/// Answer of any other method.
pub(crate) async fn no_such_method() -> ApiError {
    ApiError::method_not_allowed()
}
