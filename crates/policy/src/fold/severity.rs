//! The severity of an alert: band, velocity, value at stake and people.

use super::Moment;
use super::memory::RuleMemory;
use crate::alerts::{AlertType, Severity};
use crate::policy::Policy;

/// A change of the odds to three times or a third of what they were, in logits: a fast one within a week.
const FAST_LOGITS: f64 = 1.098_612_288_668_109_8;
/// Active people that make a rise broad, and kinds of events.
const BROAD: u32 = 3;
/// Points from which an alert is P1.
const URGENT: i32 = 3;

impl Policy {
    /// The severity of an alert of the rule at a moment.
    ///
    /// Points: the band's severity (P1 two, P2 one, P3 none; of other types the type's), one for
    /// odds that tripled within the span of the change and one less for a fall of them, one for a
    /// large value at stake, one for broad activity and one less for a single person's. Three make a
    /// P1, one or two a P2. A fall is never P1.
    pub(crate) fn severity(&self, now: &Moment<'_>, memory: &RuleMemory) -> Severity {
        if let Some(severity) = now.rule.severity {
            return severity;
        }
        let alert_type = now.rule.alert_type;
        let base = match alert_type {
            AlertType::ThresholdUp => self.thresholds.severity_at(now.level),
            AlertType::ThresholdDown => self.thresholds.severity_at(memory.level_before),
            _ => alert_type.trigger().severity,
        };
        let value = now.seen.facts.value_at_stake();
        let is_large = self.rules.large_value.is_some_and(|least| value >= least);
        let mut points = points_of(base) + i32::from(is_large);
        if alert_type.is_fall() {
            return severity_of(points).max(Severity::P2);
        }
        let logits = self.change(now).logits;
        points += i32::from(logits >= FAST_LOGITS) - i32::from(logits <= -FAST_LOGITS);
        let facts = now.seen.facts;
        let is_many = |found: Option<u32>| found.is_some_and(|found| found >= BROAD);
        points += i32::from(is_many(facts.active_people) && is_many(facts.active_kinds));
        points -= i32::from(facts.active_people.is_some_and(|people| people <= 1));
        severity_of(points)
    }
}

fn points_of(severity: Severity) -> i32 {
    match severity {
        Severity::P1 => 2,
        Severity::P2 => 1,
        Severity::P3 => 0,
    }
}

fn severity_of(points: i32) -> Severity {
    match points {
        URGENT.. => Severity::P1,
        1..URGENT => Severity::P2,
        _ => Severity::P3,
    }
}
