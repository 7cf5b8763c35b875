//! Scores become bands and alerts.
//!
//! [`PolicyOptions`] are checked once into a [`Policy`]; a policy takes one [`Observation`] of an entity at a time, moves that entity's
//! [`EntityState`] and returns a [`Decision`]: whether a score record is due and why, the band, the trend, the alerts that fire and
//! the ones held back, each with its reason.
//!
//! Invariants:
//! - No clock, no randomness, no I/O: the same observations in the same order give the same decisions, on any machine. A replay that
//!   feeds a policy what it was fed before therefore ends in the same state and names the same alerts.
//! - An alert fires on a *crossing*, never on a value. Between two `threshold_up` alerts of an entity it has left the threshold.
//! - A crossing that does not fire is returned in [`Decision::suppressed`].
//! - Rules of [`ActionTable`] say what to do about a score; they read a [`Situation`], the first that fits wins.
//! - States are kept per (task, entity); a policy belongs to one task and knows no other.

mod actions;
mod alerts;
mod level;
mod options;
mod policy;
mod state;
mod trend;

pub use actions::{Action, ActionOptions, ActionTable, ActionWhen, Situation, Vocabulary};
pub use alerts::{AlertDraft, AlertType, Severity, SuppressReason, alert_id};
pub use options::{BandOptions, EmitStep, PolicyError, PolicyOptions, Threshold};
pub use policy::{Band, Decision, EmitReason, Observation, Policy};
pub use state::{Eligibility, Emitted, EntityState, Fired, HistoryPoint};
pub use trend::Trend;
