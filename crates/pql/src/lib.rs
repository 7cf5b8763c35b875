//! A query becomes a plan.
//!
//! [`parse`] reads the text of a query into a tree (`syntax`). [`plan()`] checks the tree against
//! the schemas and names the rows to count for each entity (`plan`); [`Plan::describe`] puts the
//! plan in words, [`Lint`]s remark on what is probably not meant. `docs/pql.md` is the language as
//! its users see it.
//!
//! Invariants: no clock, no files, no Kafka. A window is (anchor + start, anchor + end]: an event
//! at the anchor is known, never predicted. A query that the planner accepts has a label for every
//! (entity, anchor) whose window has passed; any other query is refused with line, column, reason
//! and a way out, never ignored.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use leadpulse_pql::{TargetKind, parse, plan};
//! use leadpulse_schema::Catalog;
//!
//! # let accounts = r#"{"type": "record", "name": "Account",
//! #   "leadpulse": {"table": "accounts", "role": "root"},
//! #   "fields": [{"name": "id", "type": "string", "leadpulse": {"key": true}}]}"#;
//! # let visits = r#"{"type": "record", "name": "Visit",
//! #   "leadpulse": {"table": "visits", "role": "event"},
//! #   "fields": [
//! #     {"name": "id", "type": "string", "leadpulse": {"key": true}},
//! #     {"name": "account", "type": "string", "leadpulse": {"ref": "accounts", "owner": true}},
//! #     {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"},
//! #      "leadpulse": {"time": true}}]}"#;
//! let schemas = [("accounts.avsc", accounts), ("visits.avsc", visits)];
//! let catalog = Catalog::from_json(&schemas).expect("the schemas are valid");
//!
//! let query = parse("PREDICT COUNT(visits.*, 0, 30, days) > 0 FOR EACH accounts.id")?;
//! let plan = plan(&query, &catalog, &BTreeMap::new())?;
//!
//! assert_eq!(plan.horizon_ms, 30 * 86_400_000);
//! assert_eq!(plan.target.kind(), TargetKind::Monotone);
//! # Ok::<(), leadpulse_pql::Diagnostic>(())
//! ```

mod plan;
mod syntax;

pub use plan::{
    Aggregate, AggregateSource, HistoryExtent, Lint, LintKind, Plan, Quantity, Reach, Target,
    TargetExpression, TargetKind, Window, plan,
};
pub use syntax::{
    Diagnostic, MAX_DEPTH, MAX_QUERY_BYTES, Query, Span, Unit, Within, ast, parse, parse_target,
};
