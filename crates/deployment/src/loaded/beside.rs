//! The sections of processes beside the worker. Their secrets are needed there alone, so a worker
//! starts without them.

use leadpulse_deliver::{DeliverOptionsError, SinkSpec};

use super::Loaded;
use super::table::is_of_others;
use crate::config_error::ConfigError;

/// A reference of such a section that leads nowhere.
#[derive(Clone, Debug)]
pub(super) struct MissingReference {
    path: String,
    problem: String,
}

/// The missing references of such sections, and all other faults.
pub(super) fn apart(faults: Vec<ConfigError>) -> (Vec<MissingReference>, Vec<ConfigError>) {
    let (mut missing, mut others) = (Vec::new(), Vec::new());
    for fault in faults {
        match fault {
            ConfigError::Reference { path, problem } if is_of_others(&path) => {
                missing.push(MissingReference { path, problem });
            }
            other => others.push(other),
        }
    }
    (missing, others)
}

impl Loaded {
    /// Checks that the references of a section lead somewhere.
    pub(crate) fn check_references(&self, section: &str) -> Result<(), ConfigError> {
        let mut missing = self.missing_beside.iter();
        match missing.find(|missing| missing.path.starts_with(section)) {
            None => Ok(()),
            Some(missing) => Err(ConfigError::Reference {
                path: missing.path.clone(),
                problem: missing.problem.clone(),
            }),
        }
    }

    /// Checks that every task that a sink names is configured: else the sink would be silent.
    fn check_tasks_of_sinks(&self) -> Result<(), DeliverOptionsError> {
        let tasks = || self.config.tasks.iter().map(|task| task.name.as_str());
        for (setting, named) in self.config.deliver.tasks() {
            if !tasks().any(|task| task == named) {
                let known: Vec<&str> = tasks().collect();
                let problem = format!(
                    "there is no task {named:?}; the tasks are: {}",
                    known.join(", ")
                );
                return Err(DeliverOptionsError { setting, problem });
            }
        }
        Ok(())
    }

    /// The sinks, checked; at least one.
    ///
    /// # Errors
    /// A secret that is not at hand, a setting that cannot work, a task that is not configured, or no
    /// sink at all.
    pub fn sinks(&self) -> Result<Vec<SinkSpec>, ConfigError> {
        self.check_references("deliver.")?;
        let sinks = self.config.deliver.checked()?;
        self.check_tasks_of_sinks()?;
        if sinks.is_empty() {
            let path = self.path.clone();
            return Err(ConfigError::NoSink { path });
        }
        Ok(sinks)
    }
}
