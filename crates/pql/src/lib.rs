//! A query becomes a plan.
//!
//! [`parse`] reads the text of a query, [`plan()`] checks it against the schemas and says what has to be counted for whom
//! ([`Plan::describe`] in words, [`Lint`]s where it is probably not meant). `docs/pql.md` is the language as its users see it.
//!
//! Invariants: no clock, no files, no Kafka. A window is (anchor + start, anchor + end]: what happened at the anchor is known,
//! never predicted. Whatever the planner accepts has a label for every (entity, anchor) whose window has passed; what it does
//! not accept is refused with line, column, reason and a way out, never ignored.

mod plan;
mod syntax;

pub use plan::{
    Aggregate, HistoryExtent, Lint, LintKind, Plan, Quantity, Reach, Source, Target,
    TargetExpression, TargetKind, Window, plan,
};
pub use syntax::{
    Diagnostic, MAX_DEPTH, MAX_QUERY_BYTES, Query, Span, Unit, Within, ast, parse, parse_target,
};
