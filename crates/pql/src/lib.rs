//! A query becomes a plan.
//!
//! [`parse`] reads the text of a query, [`plan()`] checks it against the schemas and says what has to be counted for whom
//! ([`Plan::describe`] in words, [`Lint`]s where it is probably not meant). `docs/pql.md` is the language as its users see it.
//!
//! Invariants: no clock, no files, no Kafka. A window is (anchor + start, anchor + end]: what happened at the anchor is known,
//! never predicted. Whatever the planner accepts has a label for every (entity, anchor) whose window has passed; what it does
//! not accept is refused with line, column, reason and a way out, never ignored.

pub mod ast;
mod compile;
mod dates;
mod describe;
mod diagnostic;
mod lexer;
mod lint;
mod parser;
mod plan;
mod planner;
mod population;
mod print;
mod remarks;
mod resolve;

#[cfg(test)]
mod catalogue_tests;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod market;
#[cfg(test)]
mod parser_tests;
#[cfg(test)]
mod planner_tests;
#[cfg(test)]
mod samples;

pub use ast::{Query, Unit};
pub use diagnostic::{Diagnostic, Span, Within};
pub use lint::{HistoryExtent, Lint, LintKind};
pub use parser::{MAX_DEPTH, MAX_QUERY_BYTES, parse, parse_target};
pub use plan::{
    Aggregate, Plan, Quantity, Reach, Source, Target, TargetExpression, TargetKind, Window,
};
pub use planner::plan;
