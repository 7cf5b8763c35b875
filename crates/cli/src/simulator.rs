//! The simulation of alerts behind `POST /api/v1/alerts/simulate`.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use leadpulse_deployment::Loaded;
use leadpulse_server::{AlertSimulator, SimulationError, SimulationRequest};
use rayon::ThreadPoolBuilder;

use crate::commands::{HistoryArguments, parse_moment};
use crate::nearest::known_names;
use crate::simulation::{DEFAULT_DAYS, Simulation};

/// The name of a request's policies in its findings.
const REQUESTED: &str = "requested";

/// A configuration, files and a bundle, which each request reads anew.
pub struct FileSimulator {
    history: HistoryArguments,
}

impl FileSimulator {
    /// A simulator on files in a folder.
    pub fn new(config: PathBuf, data: PathBuf, model: PathBuf) -> Self {
        Self {
            history: HistoryArguments::new(config, data, model),
        }
    }

    fn found(&self, request: &SimulationRequest) -> Result<serde_json::Value, SimulationError> {
        let failed = |error: anyhow::Error| SimulationError::Failed(format!("{error:#}"));
        let refused = |error: anyhow::Error| SimulationError::Refused(format!("{error:#}"));
        let history = self.history.load(&[]).map_err(failed)?;
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
}

impl AlertSimulator for FileSimulator {
    fn simulate(&self, request: &SimulationRequest) -> Result<serde_json::Value, SimulationError> {
        // One thread: scores of the running process come first.
        let pool = ThreadPoolBuilder::new().num_threads(1).build();
        let pool = pool.map_err(|error| SimulationError::Failed(error.to_string()))?;
        pool.install(|| self.found(request))
    }
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
    by: &serde_json::Map<String, serde_json::Value>,
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

    fn request(body: serde_json::Value) -> SimulationRequest {
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
