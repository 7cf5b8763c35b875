//! `committee_formed`: several people with different values of a field became active.

use super::{Limits, Reading, Severity, Trigger, View};

/// Different values of one field that make people more than a team.
const DISTINCT_VALUES: usize = 2;

pub(super) const TRIGGER: Trigger = Trigger {
    limits: Limits {
        least: Some(3.0),
        ..Limits::NONE
    },
    ..Trigger::new("committee_formed", Severity::P2, reading)
};

/// Met with `least` active people, and two values of one of their fields where they have fields.
/// Unmet with fewer than two thirds of them, so that one person's pause is no end.
fn reading(view: &View<'_>) -> Reading {
    let facts = view.facts;
    let (active, least) = (
        f64::from(facts.active_people.unwrap_or_default()),
        view.rule.least(),
    );
    let widest = facts.by_field.values().map(Vec::len).max();
    if widest.is_some_and(|widest| widest < DISTINCT_VALUES) && active >= least {
        return Reading::Between;
    }
    Reading::of(active, least, least * 2.0 / 3.0)
}
