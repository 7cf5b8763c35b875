//! What is allowed but probably not meant, each with its reason.

use std::fmt;

use crate::diagnostic::Span;

/// A remark on a query that has a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Lint {
    /// Which rule.
    pub kind: LintKind,
    /// Where.
    pub span: Span,
    /// What the query means.
    pub message: String,
    /// What to write if that is not meant.
    pub hint: String,
}

/// The rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LintKind {
    /// Every new row of an entity table counts, whatever its status.
    AnyRow,
    /// A sum that may fall again: one probability for the window, no time curve.
    SumCanFall,
    /// Entities that are silent in the window give no example.
    SilentDropped,
    /// The filter reads a column of which no earlier versions are known.
    CurrentRow,
    /// The text is none of the values the schema declares.
    UnknownValue,
    /// Several references lead from the rows to the entity; one was chosen.
    SeveralPaths,
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.span.text > 0 { "in a named target, " } else { "" };
        write!(f, "{place}line {}, column {}: {} ({})", self.span.line, self.span.column, self.message, self.hint)
    }
}
