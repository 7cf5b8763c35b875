//! Windows of the future, checked: they start at the anchor or later and end within a century.

use leadpulse_schema::units::DAY_MS;

use crate::plan::{Planned, Window};
use crate::syntax::ast::{self, Start, Unit};
use crate::syntax::diagnostic::Diagnostic;

/// No window reaches further: a century.
// Arithmetic on moments cannot overflow then, and a longer one is a wrong unit.
const MAX_WINDOW_MS: i64 = 36_525 * DAY_MS;
/// The same in calendar years.
const MAX_WINDOW_YEARS: i64 = 100;

/// The window of a target.
pub(crate) fn future_window(window: &ast::WrittenWindow) -> Planned<Window> {
    let start = match window.start {
        Start::At(start) if start >= 0 => start,
        _ => {
            let hint = "start at 0 or later: 0, 90, days; what happened before the anchor goes \
                into WHERE after the entity";
            return Err(Diagnostic::new(
                window.span,
                "a target lies after the anchor, this window starts before it",
                hint,
            ));
        }
    };
    if start >= window.end {
        return Err(inverted(window));
    }
    let is_too_long = match window.unit {
        Unit::Months => window.end > MAX_WINDOW_YEARS * 12,
        Unit::Years => window.end > MAX_WINDOW_YEARS,
        unit => window
            .end
            .checked_mul(unit.longest_ms())
            .is_none_or(|ms| ms > MAX_WINDOW_MS),
    };
    if is_too_long {
        return Err(Diagnostic::new(
            window.span,
            "the window is longer than a century",
            "check the unit",
        ));
    }
    Ok(Window {
        start,
        end: window.end,
        unit: window.unit,
    })
}

/// The error for a window that ends before it starts, or is empty.
pub(crate) fn inverted(window: &ast::WrittenWindow) -> Diagnostic {
    let start = match window.start {
        Start::At(start) => start,
        Start::Ever => i64::MIN,
    };
    let unit = window.unit.keyword();
    if start == window.end {
        let message =
            format!("the window is empty: it is (start, end], from {start} to {start} {unit}");
        let hint = if start == 0 {
            "0, 90, days is the 90 days after the anchor; -90, 0, days the 90 before"
        } else {
            "let it end later than it starts"
        };
        Diagnostic::new(window.span, message, hint)
    } else {
        let message = format!(
            "the window ends before it starts: from {start} to {} {unit}",
            window.end
        );
        Diagnostic::new(
            window.span,
            message,
            format!(
                "the earlier bound comes first: {}, {start}, {unit}",
                window.end
            ),
        )
    }
}
