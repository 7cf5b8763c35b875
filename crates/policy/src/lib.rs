//! A signal over time becomes bands and alerts.
//!
//! [`PolicyOptions`] are checked once into a [`Policy`], which does two things, apart:
//!
//! - [`Policy::observe`] takes one [`Observation`] of an entity at a time, moves its
//!   [`EntityState`] and returns a [`Decision`]: the reason for a score record if one is due, the
//!   band, the trend.
//! - [`Policy::fold`] takes an entity at a tick as [`Seen`], moves its [`AlertState`] and returns
//!   the alerts that fire, and those held back with the reason of each.
//!
//! ```
//! use leadpulse_policy::{AlertFacts, AlertState, AlertType, PolicyOptions, Scored, Seen, Stage};
//!
//! let options: PolicyOptions = serde_json::from_str(
//!     r#"{
//!         "bands": [{ "name": "hot", "enter": 0.5, "exit": 0.4 }],
//!         "threshold_up": "hot"
//!     }"#,
//! )?;
//! let policy = options.validated()?;
//! let facts = AlertFacts { account: "A1".into(), newest_event_ms: Some(0), ..AlertFacts::default() };
//! let mut state = AlertState::default();
//! let mut fold = |probability: f64, tick_ms: i64, stage: Stage| {
//!     let logit = (probability / (1.0 - probability)).ln();
//!     let score = Ok(Scored { probability, logit });
//!     let seen = Seen { tick_ms, score, stage, is_new: false, facts: &facts, ruling: None };
//!     policy.fold(&mut state, &seen)
//! };
//!
//! assert!(fold(0.3, 0, Stage::Placing).fired.is_empty());
//! let folded = fold(0.6, 60_000, Stage::Live);
//! assert_eq!(folded.fired[0].key.alert_type, AlertType::ThresholdUp);
//! // Still over `exit`: nothing fires again.
//! assert!(fold(0.45, 120_000, Stage::Live).fired.is_empty());
//! assert!(fold(0.6, 180_000, Stage::Live).fired.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Invariants:
//! - No clock, no randomness, no I/O: the same observations in the same order give the same
//!   decisions and alerts, on any machine. A tick that was folded changes nothing when it comes
//!   again.
//! - An alert fires on a *crossing*, never on a value. Between two `threshold_up` alerts of an
//!   entity its score has left the threshold for the dwell of falls.
//! - A crossing that does not fire is returned in [`Folded::held`].
//! - Rules of an [`ActionTable`] recommend an action for a score. They read a [`Situation`], and
//!   the first rule that fits wins.
//! - States are kept per (task, entity). A policy belongs to one task and knows no other.

mod account;
mod actions;
mod alerts;
mod caps;
mod decision;
mod error;
mod facts;
mod fold;
mod level;
mod options;
mod policy;
mod signal;
mod state;
mod suppress;
mod thresholds;
mod trend;
mod worklist;

pub use account::{AccountAlert, EntityDraft, combine};
pub use actions::{Action, ActionOptions, ActionTable, ActionWhen, Situation, Vocabulary};
pub use alerts::{
    AlertDraft, AlertKey, AlertLife, AlertRuleOptions, AlertType, ScoreChange, Severity,
    SuppressReason, alert_id, digest_id,
};
pub use caps::{CapOptions, CapState, Caps, Digest};
pub use decision::{Decision, EmitReason};
pub use error::PolicyError;
pub use facts::{AlertFacts, Arrival, FactOptions, OpenDeal, Pace, PeerClosings};
pub use fold::{AlertState, Folded, ListedScore, Scored, Seen, Stage};
pub use options::{BandOptions, EmitStep, PolicyOptions, Threshold};
pub use policy::Policy;
pub use signal::Observation;
pub use state::{Eligibility, Emitted, EntityState, HistoryPoint};
pub use suppress::{AccountOverride, ConfirmOptions, OverrideKind, SuppressOptions, is_held_out};
pub use thresholds::Band;
pub use trend::Trend;
pub use worklist::{WorkListOptions, WorkLists};
