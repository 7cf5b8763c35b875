//! Jobs on files of a past behind the API: simulations of alerts, labels of a query, backtests.
//!
//! Decision: docs/decisions/0087-analysts-ask-a-past.md

use std::io::sink;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow};
use leadpulse_deployment::Loaded;
use leadpulse_features::Scorer;
use leadpulse_learn::{LabelBounds, OutTable, count_labels, judge};
use leadpulse_project::Anchors;
use leadpulse_schema::units::DAY_MS;
use leadpulse_server::{
    BacktestRequest, FIRST_LABELS, HistoryJobError, HistoryJobs, LabelRequest, SimulationRequest,
};
use rayon::ThreadPoolBuilder;
use serde_json::{Value, json};

use crate::backtest_figures::{base_rates, chosen, judged_task, period_of, test_from_ms};
use crate::commands::train::labels;
use crate::commands::{HistoryArguments, parse_moment};
use crate::label_figures::{
    DEFAULT_ANCHORS, label_figures, project_of, query_figures, remarks, task_source,
};
use crate::nearest::known_names;
use crate::simulation::{DEFAULT_DAYS, Simulation};

/// The name of a request's policies in its findings.
const REQUESTED: &str = "requested";
/// Pairs of entity and anchor that a count of labels looks at, at most: 80 MB of memory.
const MOST_PAIRS: usize = 5_000_000;
/// Closest anchors of a request, milliseconds: each is kept in memory, and asks a whole population.
const CLOSEST_ANCHORS_MS: i64 = DAY_MS;

/// A configuration, files and a bundle, which each request reads anew.
pub struct FileJobs {
    history: HistoryArguments,
}

impl FileJobs {
    /// Jobs on files in a folder.
    pub fn new(config: PathBuf, data: PathBuf, model: PathBuf) -> Self {
        Self {
            history: HistoryArguments::new(config, data, model),
        }
    }

    fn simulated(
        &self,
        request: &SimulationRequest,
        end: &Arc<AtomicBool>,
    ) -> Result<Value, HistoryJobError> {
        let history = self.history.load_until(&[], end).map_err(failed)?;
        let requested = changed(&history.loaded, request).map_err(refused)?;
        let until = request.until.as_deref().map(parse_moment).transpose();
        let until_ms = until.map_err(|words| refused(anyhow!("until: {words}")))?;
        let days = request.days.unwrap_or(DEFAULT_DAYS);
        if days == 0 {
            return Err(refused(anyhow!("days is 0; it must be 1 or more")));
        }
        let simulation = Simulation::new(history, days, until_ms).map_err(refused)?;
        let others: Vec<(String, Loaded)> = requested
            .map(|loaded| (REQUESTED.to_owned(), loaded))
            .into_iter()
            .collect();
        let simulated = simulation.run(&others, &mut |_| ()).map_err(refused)?;
        simulated.json(request.list).map_err(failed)
    }

    fn labelled(
        &self,
        request: &LabelRequest,
        end: &Arc<AtomicBool>,
    ) -> Result<Value, HistoryJobError> {
        let loaded = self.history.configuration().map_err(failed)?;
        let anchors = anchors_of(request).map_err(refused)?;
        let source = task_source(&loaded, &request.query, anchors).map_err(refused)?;
        let project = project_of(&loaded, source).map_err(refused)?;
        let task = &project.tasks[0];
        let files = self.history.files_until(&loaded, &project.catalog, end);
        let files = files.map_err(failed)?;
        let bounds = LabelBounds {
            first: request.first.unwrap_or(FIRST_LABELS),
            most_pairs: MOST_PAIRS,
        };
        let count = count_labels(&project, task, &files, bounds);
        let count = count.map_err(|error| refused(error.into()))?;
        let mut found = query_figures(&project, task);
        found["remarks"] = remarks(task, &count).into();
        found["labels"] = label_figures(task, &count);
        found["first"] = json!(count.first);
        Ok(found)
    }

    fn judged(
        &self,
        request: &BacktestRequest,
        end: &Arc<AtomicBool>,
    ) -> Result<Value, HistoryJobError> {
        let named: Vec<String> = request.task.iter().cloned().collect();
        let from = request.from.as_deref().map(parse_moment).transpose();
        let from_ms = from.map_err(|words| refused(anyhow!("from: {words}")))?;
        let history = self.history.load_until(&[], end).map_err(failed)?;
        let tasks = chosen(&history, &named).map_err(refused)?;
        let from_ms = from_ms
            .or_else(|| test_from_ms(&history.bundle))
            .context("the bundle names no test; say with from where the scored period starts")
            .map_err(refused)?;
        let base_rates = base_rates(&history.bundle, &tasks);
        let job = period_of(&history, &tasks, &base_rates, from_ms);
        let found = judge(&job, OutTable::csv(sink()), &mut |_| {});
        let found = found.map_err(|error| refused(error.into()))?;
        let tasks: Vec<Value> = found
            .tasks
            .iter()
            .map(|(task, tally)| {
                let mut figures = judged_task(task);
                figures["labels"] = labels(tally).into();
                figures
            })
            .collect();
        Ok(json!({
            "bundle": history.bundle.bundle_id(),
            "from": from_ms,
            "tasks": tasks,
        }))
    }
}

impl HistoryJobs for FileJobs {
    fn simulate(
        &self,
        request: &SimulationRequest,
        end: &Arc<AtomicBool>,
    ) -> Result<Value, HistoryJobError> {
        beside(end, || self.simulated(request, end))
    }

    fn labels(
        &self,
        request: &LabelRequest,
        end: &Arc<AtomicBool>,
    ) -> Result<Value, HistoryJobError> {
        beside(end, || self.labelled(request, end))
    }

    fn backtest(
        &self,
        request: &BacktestRequest,
        end: &Arc<AtomicBool>,
    ) -> Result<Value, HistoryJobError> {
        beside(end, || self.judged(request, end))
    }
}

/// Runs a job on one thread: scores of the running process come first.
fn beside(
    end: &AtomicBool,
    job: impl FnOnce() -> Result<Value, HistoryJobError> + Send,
) -> Result<Value, HistoryJobError> {
    let pool = ThreadPoolBuilder::new().num_threads(1).build();
    let pool = pool.map_err(|error| HistoryJobError::Failed(error.to_string()))?;
    pool.install(job)
        .map_err(|error| match end.load(Ordering::Relaxed) {
            // An error after the sign is the end of the reading.
            true => HistoryJobError::Ended,
            false => error,
        })
}

fn failed(error: anyhow::Error) -> HistoryJobError {
    HistoryJobError::Failed(format!("{error:#}"))
}

fn refused(error: anyhow::Error) -> HistoryJobError {
    HistoryJobError::Refused(format!("{error:#}"))
}

/// The rule for anchors that a request names, or the usual one.
fn anchors_of(request: &LabelRequest) -> Result<Anchors> {
    let rule = request.anchors.as_deref().unwrap_or(DEFAULT_ANCHORS);
    let anchors: Anchors = rule.parse().context("anchors")?;
    if anchors
        .stride_ms()
        .is_some_and(|stride| stride < CLOSEST_ANCHORS_MS)
    {
        return Err(anyhow!(
            "anchors: {rule:?} is closer than a day; take anchors further apart, or ask the command \
             leadpulse query"
        ));
    }
    Ok(anchors)
}

/// The configuration with the changes of a request; `None` where it asks for none.
fn changed(loaded: &Loaded, request: &SimulationRequest) -> Result<Option<Loaded>> {
    if request.policies.is_empty() && request.caps.is_empty() {
        return Ok(None);
    }
    let mut changed = loaded.clone();
    for (name, options) in &request.policies {
        let mut tasks = changed.config.tasks.iter_mut();
        let Some(task) = tasks.find(|task| task.name == *name) else {
            let known = loaded.config.tasks.iter().map(|t| &*t.name);
            return Err(anyhow!(
                "policies: there is no task {name:?}; {}",
                known_names(name, known)
            ));
        };
        task.policy =
            overlaid(&task.policy, options).with_context(|| format!("policies.{name}"))?;
        let policy = task.policy.clone().validated();
        policy.with_context(|| format!("policies.{name}"))?;
    }
    let caps = &mut changed.config.alerts.caps;
    *caps = overlaid(caps, &request.caps).context("caps")?;
    caps.checked().context("caps")?;
    Ok(Some(changed))
}

/// Options with some of them replaced.
fn overlaid<T: serde::Serialize + serde::de::DeserializeOwned>(
    options: &T,
    by: &serde_json::Map<String, Value>,
) -> Result<T> {
    let mut all = serde_json::to_value(options)?;
    if let Some(all) = all.as_object_mut() {
        all.extend(by.clone());
    }
    Ok(serde_json::from_value(all)?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn shipped() -> Loaded {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../leadpulse.toml");
        Loaded::read(&path, &[]).unwrap()
    }

    fn request(body: Value) -> SimulationRequest {
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn a_request_changes_what_it_names_and_nothing_else() {
        let loaded = shipped();
        assert!(changed(&loaded, &request(json!({}))).unwrap().is_none());
        let body = json!({
            "policies": {"account-wins-90d": {"bands": [{"name": "warm", "enter": 0.1}, {"name": "hot", "enter": 0.4}]}},
            "caps": {"per_owner_and_day": 2}
        });
        let changed = changed(&loaded, &request(body)).unwrap().unwrap();
        let (before, after) = (
            &loaded.config.tasks[0].policy,
            &changed.config.tasks[0].policy,
        );
        assert_eq!(after.bands[1].enter, 0.4);
        assert_eq!(before.bands[1].enter, 0.2);
        assert_eq!(before.alerts, after.alerts);
        assert_eq!(changed.config.alerts.caps.per_owner_and_day, Some(2));
        assert_eq!(
            loaded.config.tasks[1].policy,
            changed.config.tasks[1].policy
        );
    }

    #[test]
    fn a_request_that_does_not_fit_names_the_place() {
        for (body, words) in [
            (
                json!({"policies": {"wins": {}}}),
                "no task \"wins\"; there is: account-wins-90d",
            ),
            (
                json!({"policies": {"account-wins-90d": {"band": []}}}),
                "policies.account-wins-90d: unknown field `band`",
            ),
            (
                json!({"policies": {"account-wins-90d": {"threshold_up": "hotter"}}}),
                "hotter",
            ),
            (
                json!({"caps": {"per_owner": 3}}),
                "caps: unknown field `per_owner`",
            ),
        ] {
            let error = changed(&shipped(), &request(body.clone())).unwrap_err();
            let told = format!("{error:#}");
            assert!(told.contains(words), "{body}: {told}");
        }
    }
}
