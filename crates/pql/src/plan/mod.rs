//! A query and the schemas become a plan.
//!
//! Decision: docs/decisions/0015-a-query-says-what-to-predict.md

mod compile;
mod describe;
mod lint;
mod planner;
mod population;
mod quantity;
mod reach;
mod remarks;
mod resolve;
mod rewrite;
mod target;
mod truth;
mod window;

#[cfg(test)]
mod catalogue_tests;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod market;
#[cfg(test)]
mod planner_tests;

pub use lint::{HistoryExtent, Lint, LintKind};
pub use planner::plan;
pub use target::{
    Aggregate, AggregateSource, Plan, Quantity, Reach, Target, TargetExpression, TargetKind, Window,
};

/// A part of a plan, or the reason that the query has none.
pub(crate) type Planned<T> = Result<T, crate::syntax::Diagnostic>;
