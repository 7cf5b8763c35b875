//! Remarks: queries that are allowed but probably not meant, each with its reason.

use std::fmt;

use leadpulse_schema::units::{DAY_MS, DAY_MS_F64};

use crate::plan::Plan;
use crate::syntax::diagnostic::Span;

/// A remark on a query that has a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Lint {
    pub kind: LintKind,
    /// The place in the query's text; the default for the query as a whole.
    pub span: Span,
    /// The query's meaning, in words.
    pub message: String,
    /// The query to write instead, if that is not meant.
    pub hint: String,
}

/// The rules that remarks come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LintKind {
    /// Rows that end well, badly or not at all count alike.
    AnyRow,
    /// A sum that may fall again: one probability for the window, no time curve.
    SumCanFall,
    /// Entities that are silent in the window give no example.
    SilentDropped,
    /// A column is read of which no earlier versions are known.
    CurrentRow,
    /// No value that the schema declares passes the comparison.
    UnknownValue,
    /// Several references lead from the rows to the entity; one was chosen.
    SeveralPaths,
    /// An entity may become another, for which its rows count from then on.
    Becomes,
    /// The history is shorter than the query looks ahead or back.
    ShortHistory,
    /// Anchors are further apart than the query looks ahead.
    Gaps,
}

/// The history a plan is to be trained on, as far as remarks depend on it.
#[derive(Clone, Copy, Debug)]
pub struct HistoryExtent {
    /// Start of the history, milliseconds since 1970.
    pub first_ms: i64,
    /// End of the history, milliseconds since 1970.
    pub last_ms: i64,
    /// The time between two anchors of an entity, milliseconds; `None` where each has its own.
    pub stride_ms: Option<i64>,
}

impl Plan {
    /// Remarks that depend on the history; the others are in [`Plan::lints`].
    pub fn lints_on(&self, history: HistoryExtent) -> Vec<Lint> {
        let days = |ms: i64| format!("{:.0} days", ms as f64 / DAY_MS_F64);
        let lint = |kind, message, hint: &str| Lint {
            kind,
            span: Span::default(),
            message,
            hint: hint.to_owned(),
        };
        let length_ms = history.last_ms.saturating_sub(history.first_ms);
        let mut lints = Vec::new();
        if self.horizon_ms >= length_ms {
            let message = format!(
                "the query looks {} ahead, the history is {} long: no anchor has a label",
                days(self.horizon_ms),
                days(length_ms)
            );
            lints.push(lint(
                LintKind::ShortHistory,
                message,
                "shorten the window or supply more history",
            ));
        } else if let Some(back) = self
            .population
            .windows
            .iter()
            .filter_map(|window| window.start_days)
            .min()
        {
            let before_ms = length_ms - self.horizon_ms;
            let back_ms = back.saturating_neg().saturating_mul(DAY_MS);
            if back_ms > before_ms {
                let message = format!(
                    "the filter looks {} back, but the last anchor that has a label has {} of \
                     history before it: it counts less in training than in scoring",
                    days(back_ms),
                    days(before_ms)
                );
                lints.push(lint(
                    LintKind::ShortHistory,
                    message,
                    "shorten the filter's window, supply more history, or start it at -INF",
                ));
            }
        }
        if let Some(stride_ms) = history
            .stride_ms
            .filter(|stride_ms| *stride_ms > self.horizon_ms)
        {
            let message = format!(
                "anchors are {} apart and the query looks {} ahead: what happens in between is in \
                 no label",
                days(stride_ms),
                days(self.horizon_ms)
            );
            lints.push(lint(
                LintKind::Gaps,
                message,
                "let anchors follow each other within the window",
            ));
        }
        lints
    }
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.span.line > 0 {
            let place = if self.span.text > 0 {
                "in a named target, "
            } else {
                ""
            };
            write!(
                f,
                "{place}line {}, column {}: ",
                self.span.line, self.span.column
            )?;
        }
        write!(f, "{} ({})", self.message, self.hint)
    }
}
