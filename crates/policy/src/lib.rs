//! A signal over time becomes bands and alerts.
//!
//! [`PolicyOptions`] are checked once into a [`Policy`]. A policy takes one [`Observation`] of an
//! entity at a time, moves that entity's [`EntityState`] and returns a [`Decision`]: the reason
//! for a score record if one is due, the band, the trend, the alerts that fire, and the alerts
//! held back with the reason of each.
//!
//! ```
//! use leadpulse_policy::{AlertType, EntityState, Observation, PolicyOptions};
//!
//! let options: PolicyOptions = serde_json::from_str(
//!     r#"{
//!         "bands": [{ "name": "hot", "enter": 0.5, "exit": 0.4 }],
//!         "threshold_up": "hot"
//!     }"#,
//! )?;
//! let policy = options.validated()?;
//! let mut state = EntityState::default();
//! let mut observe = |probability: f64, as_of_ms: i64| {
//!     let logit = (probability / (1.0 - probability)).ln();
//!     let (muted, forced) = (false, false);
//!     policy.observe(
//!         &mut state,
//!         Observation { probability, logit, as_of_ms, muted, forced },
//!     )
//! };
//!
//! assert!(observe(0.3, 0).alerts.is_empty());
//! let decision = observe(0.6, 60_000);
//! assert_eq!(decision.band.as_deref(), Some("hot"));
//! assert_eq!(decision.alerts[0].alert_type, AlertType::ThresholdUp);
//! // Still over `exit`: the band is kept, and nothing fires again.
//! let decision = observe(0.45, 120_000);
//! assert_eq!(decision.band.as_deref(), Some("hot"));
//! assert!(decision.alerts.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Invariants:
//! - No clock, no randomness, no I/O: the same observations in the same order give the same
//!   decisions, on any machine. A replay that feeds a policy the same observations therefore ends
//!   in the same state and names the same alerts.
//! - An alert fires on a *crossing*, never on a value. Between two `threshold_up` alerts of an
//!   entity its score has left the threshold.
//! - A raised alert that does not fire is returned in [`Decision::suppressed`].
//! - Rules of an [`ActionTable`] recommend an action for a score. They read a [`Situation`], and
//!   the first rule that fits wins.
//! - States are kept per (task, entity). A policy belongs to one task and knows no other.

mod actions;
mod alerts;
mod decision;
mod level;
mod options;
mod policy;
mod signal;
mod state;
mod thresholds;
mod trend;

pub use actions::{Action, ActionOptions, ActionTable, ActionWhen, Situation, Vocabulary};
pub use alerts::{AlertDraft, AlertType, Severity, SuppressReason, alert_id};
pub use decision::{Decision, EmitReason};
pub use options::{BandOptions, EmitStep, PolicyError, PolicyOptions, Threshold};
pub use policy::Policy;
pub use signal::Observation;
pub use state::{Eligibility, Emitted, EntityState, Fired, HistoryPoint};
pub use thresholds::Band;
pub use trend::Trend;
