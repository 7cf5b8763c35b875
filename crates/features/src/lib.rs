//! A cell at a time becomes numbers and facts; the `Scorer` trait.
//!
//! Invariants: no Burn; the same code serves the live engine, training and backtest; everything encoded is finite.

mod batch;
mod blocks;
mod facts;
mod plan;
mod scorer;

pub use batch::{Absent, Column, FeatureBatch, Group, Layout, MemberBlock, MemberLayout};
pub use facts::{EventFact, Facts, MemberFact};
pub use plan::{FeaturePlan, FeatureSpec, VocabularyBuilder};
pub use scorer::{Contribution, Explanation, Scorer, ScorerTask, probability};
