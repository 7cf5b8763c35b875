//! The port to a simulation of alerts: what policies would have sent, from files.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;

/// A request for a simulation. Policies are those of the configuration, with these changes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimulationRequest {
    /// Days in which alerts fire; 30 by default.
    pub days: Option<u32>,
    /// The moment until which alerts fire, as a date or a time; by default the end of the files.
    pub until: Option<String>,
    /// Task → options of its policy that are put in place of those of the configuration.
    pub policies: BTreeMap<String, serde_json::Map<String, serde_json::Value>>,
    /// Options of `[alerts.caps]` that are put in place of those of the configuration.
    pub caps: serde_json::Map<String, serde_json::Value>,
    /// True to list every alert with its sentence, besides the figures.
    pub list: bool,
}

/// Reasons why a simulation has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SimulationError {
    /// The request asks for something that cannot be.
    Refused(String),
    /// Files, bundle or machine failed.
    Failed(String),
}

/// A simulation of alerts.
pub trait AlertSimulator: Send + Sync {
    /// The figures of the configuration's policies, then those of the changed ones, if the request
    /// changes any. Takes seconds to minutes.
    ///
    /// # Errors
    /// A request that does not fit the configuration or the files; files that cannot be read.
    fn simulate(&self, request: &SimulationRequest) -> Result<serde_json::Value, SimulationError>;
}

/// A simulator that one request uses at a time.
#[derive(Clone)]
pub struct SimulatorDesk {
    simulator: Arc<dyn AlertSimulator>,
    is_taken: Arc<AtomicBool>,
}

/// The right to use the simulator, until it is dropped.
pub(crate) struct Turn(SimulatorDesk);

impl SimulatorDesk {
    /// A desk before the first request.
    pub fn new(simulator: Arc<dyn AlertSimulator>) -> Self {
        Self {
            simulator,
            is_taken: Arc::default(),
        }
    }

    /// Takes the simulator; `None` while another request has it.
    pub(crate) fn take(&self) -> Option<Turn> {
        let was_taken = self.is_taken.swap(true, Ordering::AcqRel);
        (!was_taken).then(|| Turn(self.clone()))
    }
}

impl Turn {
    pub fn simulate(
        &self,
        request: &SimulationRequest,
    ) -> Result<serde_json::Value, SimulationError> {
        self.0.simulator.simulate(request)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.is_taken.store(false, Ordering::Release);
    }
}

impl fmt::Debug for SimulatorDesk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimulatorDesk")
    }
}
