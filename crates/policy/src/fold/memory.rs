//! The memory of one rule about one entity: the side of its condition, and what follows from it.

use leadpulse_schema::units::Span;
use serde::{Deserialize, Serialize};

use crate::alerts::rules::AlertRule;
use crate::alerts::{Reading, Severity};

/// The memory of one rule about one entity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleMemory {
    /// True on the side where the condition is met.
    is_met: bool,
    /// Start of a turn to the other side that has not dwelt long enough, milliseconds.
    turning_since_ms: Option<i64>,
    /// Level of the entity when it was last seen on its side without a turn under way.
    pub level_before: u8,
    /// Newest occurrence that the condition was met by, milliseconds.
    occurred_ms: Option<i64>,
    /// Tick of a crossing that has not fired yet, milliseconds.
    pub waiting_since_ms: Option<i64>,
    /// Tick of the last alert that fired, milliseconds.
    pub fired_at_ms: Option<i64>,
    /// The alert that is open.
    pub open: Option<OpenAlert>,
    /// True if the crossing to this side was held back, or its alert was ended by a person: a pin
    /// that comes tells of it.
    #[serde(default)]
    pub is_held: bool,
}

/// An alert that fired and is neither resolved nor expired.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OpenAlert {
    pub crossed_at_ms: i64,
    pub severity: Severity,
    pub expires_at_ms: Option<i64>,
}

/// The direction of a crossing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The condition is met now.
    Met,
    /// The condition is met no longer.
    Left,
}

/// What an observation does to the side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turning {
    /// The side changed, or the condition was met by another occurrence.
    Crossed(Turn),
    /// The side is as before.
    Stayed,
}

impl RuleMemory {
    /// Moves to the side of a reading without a crossing. Returns true if one was passed over.
    pub fn place(&mut self, reading: Reading, fires_on: bool) -> bool {
        let was_met = self.is_met;
        self.turning_since_ms = None;
        match reading {
            Reading::Met { since_ms } => {
                self.is_met = true;
                self.occurred_ms = self.occurred_ms.max(since_ms);
            }
            Reading::Unmet => self.is_met = false,
            Reading::Between => {}
        }
        if self.is_met != fires_on {
            // What waited, or was open, is about the other side.
            self.waiting_since_ms = None;
            self.open = None;
            self.is_held = false;
        }
        let is_passed_over = was_met != self.is_met && self.is_met == fires_on;
        self.is_held |= is_passed_over;
        is_passed_over
    }

    /// Moves the side by a reading, once it has lasted for the rule's dwell.
    pub fn turn(
        &mut self,
        rule: &AlertRule,
        reading: Reading,
        tick_ms: i64,
        level_before: u8,
    ) -> Turning {
        let is_met = match reading {
            Reading::Met { .. } => true,
            Reading::Unmet => false,
            Reading::Between => self.is_met,
        };
        if self.turning_since_ms.is_none() {
            self.level_before = level_before;
        }
        if is_met == self.is_met {
            self.turning_since_ms = None;
            return self.occur(reading);
        }
        let since_ms = *self.turning_since_ms.get_or_insert(tick_ms);
        if tick_ms.saturating_sub(since_ms) < dwell_ms(rule, is_met) {
            return Turning::Stayed;
        }
        self.turning_since_ms = None;
        self.is_met = is_met;
        if is_met {
            self.occur(reading);
            Turning::Crossed(Turn::Met)
        } else {
            Turning::Crossed(Turn::Left)
        }
    }

    /// True if the last observation was on the other side, however short the time.
    pub fn is_turning(&self) -> bool {
        self.turning_since_ms.is_some()
    }

    /// Notes the occurrence of a reading: a later one crosses again.
    fn occur(&mut self, reading: Reading) -> Turning {
        let Reading::Met {
            since_ms: Some(since_ms),
        } = reading
        else {
            return Turning::Stayed;
        };
        if self.occurred_ms.is_some_and(|before| since_ms <= before) {
            return Turning::Stayed;
        }
        self.occurred_ms = Some(since_ms);
        Turning::Crossed(Turn::Met)
    }

    /// Holds back the crossing that waits.
    pub fn hold(&mut self) {
        self.waiting_since_ms = None;
        self.is_held = true;
    }

    /// Makes a crossing that was held back wait from a tick on, if its side still holds.
    pub fn wait_again(&mut self, fires_on: bool, tick_ms: i64) {
        if self.is_met == fires_on && std::mem::take(&mut self.is_held) {
            self.waiting_since_ms = Some(tick_ms);
        }
    }

    /// Moves to the side of an entity without a score.
    pub fn leave(&mut self) {
        self.is_met = false;
        self.turning_since_ms = None;
        self.waiting_since_ms = None;
        self.open = None;
        self.is_held = false;
    }

    /// Forgets an open alert that nobody has to act on any more.
    pub fn expire(&mut self, tick_ms: i64) {
        let is_over = |open: &OpenAlert| open.expires_at_ms.is_some_and(|at_ms| at_ms <= tick_ms);
        if self.open.as_ref().is_some_and(is_over) {
            self.open = None;
        }
    }

    /// The end of the cooldown, milliseconds; the earliest moment before the first alert.
    pub fn cooled_at_ms(&self, rule: &AlertRule) -> i64 {
        self.fired_at_ms.map_or(i64::MIN, |fired_at_ms| {
            fired_at_ms.saturating_add(rule.cooldown_ms)
        })
    }

    /// The last moment at which a crossing that waits may be confirmed, milliseconds: `within`
    /// after the crossing, or after the cooldown that it waited for.
    pub fn waits_until_ms(&self, rule: &AlertRule, within: Span) -> Option<i64> {
        let since_ms = self.waiting_since_ms?.max(self.cooled_at_ms(rule));
        Some(since_ms.saturating_add(within.ms()))
    }

    /// The next moment at which time alone decides, milliseconds: the end of a dwell; of a crossing
    /// that waits the end of the cooldown, and the end of the time for its confirmation.
    pub fn due_ms(&self, rule: &AlertRule, within: Span, tick_ms: i64) -> Option<i64> {
        let dwelt = self
            .turning_since_ms
            .map(|since_ms| since_ms.saturating_add(dwell_ms(rule, !self.is_met)));
        let cooled = self.waiting_since_ms.map(|_| self.cooled_at_ms(rule));
        let waited = self.waits_until_ms(rule, within);
        [dwelt, cooled, waited]
            .into_iter()
            .flatten()
            .filter(|at_ms| *at_ms > tick_ms)
            .min()
    }
}

fn dwell_ms(rule: &AlertRule, is_met: bool) -> i64 {
    if is_met {
        rule.met_dwell_ms
    } else {
        rule.left_dwell_ms
    }
}
