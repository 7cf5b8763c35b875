//! A cell at a moment becomes numbers, facts and evidence.
//!
//! The [`FeaturePlan`] of a catalog encodes cells for a [`Scorer`], the port to a model.
//!
//! Invariants: no Burn; the same code serves the live engine, training and backtest; every encoded
//! number is finite; columns and evidence agree on the explanation group of each field.

mod alert_facts;
mod assigned;
mod batch;
mod columns;
mod committee;
mod events;
mod evidence;
mod facts;
mod fields;
mod groups;
mod hub_rows;
mod hubs;
mod ignored;
mod members;
mod order;
mod outcomes;
mod plan;
mod relations;
mod scorer;
mod seats;
mod shares;
mod sources;
mod spec;
mod vocabulary;
pub mod words;

pub use alert_facts::AlertFactPlan;
pub use assigned::assignee;
pub use batch::{
    Absent, Column, FeatureBatch, Group, GroupKind, Layout, MemberBlock, MemberLayout,
};
pub use evidence::{
    Direction, EventMeasure, Evidence, EvidenceChange, EvidenceValue, Measure, NamedEntity,
    PastValue, PastValues, PeerEnds, RelatedEntity, TouchedHub, account_values, changes, stopped,
};
pub use facts::{CommitteeFact, EventFact, Facts, MemberFact, OpenFact};
pub use ignored::{IgnoredField, ignored_fields};
pub use plan::FeaturePlan;
pub use scorer::{
    Contribution, Explanation, Forward, LOGIT_STEPS, Scorer, ScorerTask, on_grid, probability,
};
pub use seats::{CommitteeSeats, Seat, SeatedPerson};
pub use spec::FeatureSpec;
pub use vocabulary::VocabularyBuilder;
