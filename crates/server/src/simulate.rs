//! The port to a simulation of alerts: what policies would have sent, from files.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::desk::Desk;

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
pub type SimulatorDesk = Desk<dyn AlertSimulator>;
