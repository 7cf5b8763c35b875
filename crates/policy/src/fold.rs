//! The fold of alerts: from the observations of an entity at its ticks to the alerts that fire.
//!
//! Alerts are a function of data: of the ticks at which something touched the entity, of the score
//! and the facts then. Scores that are emitted between ticks never come here. Per rule the memory
//! is the side of its condition, a turn under way, a crossing that waits, and the open alert.
//!
//! Decision: docs/decisions/0053-alerts-are-a-fold.md

mod change;
mod drafting;
mod memory;
mod severity;

use std::collections::BTreeMap;
use std::sync::Arc;

use leadpulse_schema::Absence;
use serde::{Deserialize, Serialize};

use crate::actions::Situation;
use crate::alerts::Reading;
use crate::alerts::rules::AlertRule;
use crate::alerts::{
    AlertDraft, AlertKey, AlertLife, AlertType, ScoreChange, SuppressReason, View,
};
use crate::facts::AlertFacts;
use crate::level;
use crate::policy::Policy;
use crate::suppress::{AccountOverride, OverrideKind};
use crate::trend::{self, Trend};
use drafting::supersede;
use memory::{OpenAlert, RuleMemory, Turn, Turning};

/// One entity at one tick.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// The tick, milliseconds.
    pub tick_ms: i64,
    /// The score, or the reason for having none.
    pub score: Result<Scored, Absence>,
    pub stage: Stage,
    /// True if the entity was first seen after alerting began: it may alert at once.
    pub is_new: bool,
    pub facts: &'a AlertFacts,
    /// The decision of a person about the entity, or else about its account, if there is one.
    pub ruling: Option<&'a AccountOverride>,
}

impl Seen<'_> {
    /// The decision that is in force at the tick.
    fn ruling_kind(&self) -> Option<OverrideKind> {
        self.ruling?.at(self.tick_ms)
    }

    /// The end of the decision that is in force, milliseconds.
    fn ruled_until_ms(&self) -> Option<i64> {
        let ruling = self.ruling?;
        ruling.until_ms.filter(|until_ms| *until_ms > self.tick_ms)
    }
}

/// A score at a tick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// The calibrated probability, finite.
    pub probability: f64,
    /// The calibrated logit, finite.
    pub logit: f64,
}

/// Whether alerts may fire at a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Sides are placed and nothing fires: before alerting begins, and at the first tick after a
    /// change of bundle.
    Placing,
    /// Crossings fire.
    Live,
}

/// The memory of the fold about one (task, entity). The default is an entity never folded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertState {
    /// The last folded tick, milliseconds.
    pub tick_ms: Option<i64>,
    /// Identifies the rules that the memory is of.
    fingerprint: u32,
    /// Number of thresholds, from the lowest, that the entity is over.
    level: u8,
    rules: BTreeMap<AlertType, RuleMemory>,
    /// The first score of each of the last days (UTC) that had one, oldest first.
    history: Vec<ScoreChange>,
    /// The next moment at which time alone decides, milliseconds.
    pub revisit_at_ms: Option<i64>,
    /// The decision of a person that was in force at the last tick.
    #[serde(default)]
    ruling: Option<OverrideKind>,
}

impl AlertState {
    /// The key of the open alert of a type, if one is open.
    pub fn open(&self, alert_type: AlertType) -> Option<AlertKey> {
        let open = self.rules.get(&alert_type)?.open?;
        Some(AlertKey {
            alert_type,
            crossed_at_ms: open.crossed_at_ms,
        })
    }
}

/// The outcome of one fold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Folded {
    /// Alerts that are opened, updated or resolved, in the order of their types.
    pub fired: Vec<AlertDraft>,
    /// Crossings that do not fire now, with the reason of each.
    pub held: Vec<(AlertType, SuppressReason)>,
    /// The next moment at which time alone decides, milliseconds: the end of a dwell, a cooldown or
    /// a person's decision, or the day on which an account has gone dark.
    pub revisit_at_ms: Option<i64>,
    /// True if the memory differs in more than its tick. A memory that differs in its tick alone
    /// decides alike, so it need not be recorded.
    pub changed: bool,
}

/// The score of an entity between two ticks, as far as lists need it.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedScore {
    /// The band; `None` below all bands.
    pub band: Option<Arc<str>>,
    /// The score to compare with: about a week before, or the oldest known.
    pub change: Option<ScoreChange>,
    /// The direction from `change` to now; unknown without one.
    pub trend: Trend,
}

impl Policy {
    /// Band and direction of an entity, given its memory and the probability that it stands at.
    pub fn listed(&self, state: &AlertState, tick_ms: i64, probability: f64) -> ListedScore {
        let is_known = state.fingerprint == self.rules.fingerprint;
        let level = if is_known { state.level } else { 0 };
        let change = self.standing_change(&state.history, tick_ms, probability);
        ListedScore {
            band: self.thresholds.band_name_at(level),
            change: change.from,
            trend: change.trend,
        }
    }

    /// Folds one observation into the memory of an entity.
    ///
    /// Ticks of one entity come in ascending order. A tick at or before the last one changes
    /// nothing, so a fold may be repeated. Probability and logit are finite.
    pub fn fold(&self, state: &mut AlertState, seen: &Seen<'_>) -> Folded {
        if state.tick_ms.is_some_and(|last_ms| seen.tick_ms <= last_ms) {
            return Folded {
                revisit_at_ms: state.revisit_at_ms,
                ..Folded::default()
            };
        }
        let before = state.clone();
        let placing = self.placing(state, seen);
        if state.fingerprint != self.rules.fingerprint {
            self.forget_other_rules(state);
        }
        state.tick_ms = Some(seen.tick_ms);
        let ruled_before = std::mem::replace(&mut state.ruling, seen.ruling_kind());
        let comes_pinned = state.ruling == Some(OverrideKind::Pin) && state.ruling != ruled_before;
        let mut folded = match seen.score {
            Ok(scored) => self.fold_scored(state, seen, (scored, comes_pinned), placing),
            Err(_) => self.fold_absent(state, seen),
        };
        let ends_ms = seen.ruled_until_ms();
        folded.revisit_at_ms = folded.revisit_at_ms.into_iter().chain(ends_ms).min();
        state.revisit_at_ms = folded.revisit_at_ms;
        // A tick that changed nothing else is not kept: memory that is read back from records, which
        // are written for changes, has to equal the one that was kept all along.
        let kept = AlertState {
            tick_ms: before.tick_ms,
            ..state.clone()
        };
        folded.changed = before != kept || before.tick_ms.is_none();
        if !folded.changed {
            state.tick_ms = before.tick_ms;
        }
        folded
    }

    /// The longest time before a moment whose observations can matter at it, milliseconds: dwell,
    /// cooldown and confirmation, and the span that changes are told over. Alerting that begins at
    /// a moment folds from this long before it. 0 without rules.
    pub fn look_back_ms(&self) -> i64 {
        match self.rules.look_back_ms() {
            0 => 0,
            rules_ms => rules_ms.max(change::HISTORY_MS),
        }
    }

    /// The reason to place sides instead of crossing them, if there is one.
    fn placing(&self, state: &AlertState, seen: &Seen<'_>) -> Option<SuppressReason> {
        if seen.stage == Stage::Placing {
            return Some(SuppressReason::Placing);
        }
        match state.tick_ms {
            None if !seen.is_new => Some(SuppressReason::FirstScore),
            Some(_) if state.fingerprint != self.rules.fingerprint => {
                Some(SuppressReason::Reconfigured)
            }
            _ => None,
        }
    }

    /// Drops memory of rules that no longer exist; sides of the others are placed anew.
    fn forget_other_rules(&self, state: &mut AlertState) {
        let rules = &self.rules.rules;
        state
            .rules
            .retain(|alert_type, _| rules.iter().any(|rule| rule.alert_type == *alert_type));
        state.fingerprint = self.rules.fingerprint;
        state.level = 0;
    }

    fn fold_scored(
        &self,
        state: &mut AlertState,
        seen: &Seen<'_>,
        (scored, comes_pinned): (Scored, bool),
        placing: Option<SuppressReason>,
    ) -> Folded {
        // The level of a memory that is new, or of other thresholds, is 0: it settles where the
        // score alone places it.
        let level = level::settled(&self.thresholds.lines, state.level, scored.probability);
        let level_before = std::mem::replace(&mut state.level, level);
        let mut folded = Folded::default();
        for rule in &self.rules.rules {
            let now = Moment {
                seen,
                rule,
                scored,
                comes_pinned,
                level,
                history: &state.history,
            };
            let memory = state.rules.entry(rule.alert_type).or_default();
            self.fold_rule(memory, &now, level_before, placing, &mut folded);
        }
        let newest = ScoreChange {
            since_ms: seen.tick_ms,
            probability: scored.probability,
            active_people: seen.facts.active_people,
            counts: Some(seen.facts.counts.clone()),
        };
        trend::record(&mut state.history, newest, |point| point.since_ms);
        supersede(&mut folded.fired);
        folded
    }

    /// Turns one rule's memory, and fires what is due.
    fn fold_rule(
        &self,
        memory: &mut RuleMemory,
        now: &Moment<'_>,
        level_before: u8,
        placing: Option<SuppressReason>,
        folded: &mut Folded,
    ) {
        let (rule, tick_ms) = (now.rule, now.seen.tick_ms);
        let trigger = rule.alert_type.trigger();
        let view = View {
            tick_ms,
            probability: now.scored.probability,
            facts: now.seen.facts,
            thresholds: &self.thresholds,
            rule,
        };
        let reading = (trigger.reading)(&view);
        let fires_on = !trigger.fires_on_leaving;
        memory.expire(tick_ms);
        if let Some(reason) = placing {
            if memory.place(reading, fires_on) {
                folded.held.push((rule.alert_type, reason));
            }
        } else {
            match memory.turn(rule, reading, tick_ms, level_before) {
                Turning::Crossed(turn) if (turn == Turn::Met) == fires_on => {
                    memory.waiting_since_ms = Some(tick_ms);
                }
                Turning::Crossed(_) => {
                    memory.is_held = false;
                    if memory.waiting_since_ms.take().is_some() {
                        let reversed = (rule.alert_type, SuppressReason::Reversed);
                        folded.held.push(reversed);
                    }
                    if let Some(open) = memory.open.take() {
                        let draft = self.draft(now, AlertLife::Resolved, open, level_before);
                        folded.fired.push(draft);
                    }
                }
                Turning::Stayed => {}
            }
            if now.comes_pinned {
                memory.wait_again(fires_on, tick_ms);
            }
            let is_crossing = memory.waiting_since_ms == Some(tick_ms);
            self.end_silenced(memory, now, level_before, folded);
            // A score that is on the other side, if only for a moment, is nothing to tell of.
            if !memory.is_turning()
                && !self.fire_waiting(memory, now, (reading, is_crossing), folded)
            {
                self.update_open(memory, now, folded);
            }
        }
        let due_ms = memory
            .due_ms(rule, self.rules.confirm.within, tick_ms)
            .into_iter()
            .chain((trigger.due_ms)(&view));
        folded.revisit_at_ms = folded.revisit_at_ms.into_iter().chain(due_ms).min();
    }

    /// Fires the crossing that waits, unless something holds it back. Returns true if it fired.
    fn fire_waiting(
        &self,
        memory: &mut RuleMemory,
        now: &Moment<'_>,
        (reading, is_crossing): (Reading, bool),
        folded: &mut Folded,
    ) -> bool {
        let Some(crossed_at_ms) = memory.waiting_since_ms else {
            return false;
        };
        let (alert_type, tick_ms) = (now.rule.alert_type, now.seen.tick_ms);
        if let Some(reason) = self.held_back(now) {
            memory.hold();
            folded.held.push((alert_type, reason));
            return false;
        }
        let cooled_ms = memory.cooled_at_ms(now.rule);
        if tick_ms < cooled_ms {
            if is_crossing {
                folded.held.push((alert_type, SuppressReason::Cooldown));
            }
            return false;
        }
        // Between the two limits the side holds, but the alert would say what is not so now.
        let is_confirmed = reading != Reading::Between && self.is_confirmed(now);
        let until_ms = memory.waits_until_ms(now.rule, self.rules.confirm.within);
        if until_ms
            .is_some_and(|until_ms| tick_ms > until_ms || tick_ms == until_ms && !is_confirmed)
        {
            memory.hold();
            folded.held.push((alert_type, SuppressReason::Unconfirmed));
            return false;
        }
        if !is_confirmed {
            return false;
        }
        let open = OpenAlert {
            crossed_at_ms,
            severity: self.severity(now, memory),
            expires_at_ms: self.expires_at_ms(tick_ms),
        };
        let level_before = memory.level_before;
        let draft = self.draft(now, AlertLife::Open, open, level_before);
        memory.waiting_since_ms = None;
        memory.is_held = false;
        memory.fired_at_ms = Some(tick_ms);
        memory.open = Some(open);
        folded.fired.push(draft);
        true
    }

    /// Ends an open alert of an entity that a person muted or excluded.
    fn end_silenced(
        &self,
        memory: &mut RuleMemory,
        now: &Moment<'_>,
        level_before: u8,
        folded: &mut Folded,
    ) {
        if now.ruling().is_some_and(OverrideKind::is_silent)
            && let Some(open) = memory.open.take()
        {
            memory.is_held = true;
            folded.fired.push(AlertDraft {
                is_silenced: true,
                ..self.draft(now, AlertLife::Resolved, open, level_before)
            });
        }
    }

    /// Reports an open alert again that became more urgent.
    fn update_open(&self, memory: &mut RuleMemory, now: &Moment<'_>, folded: &mut Folded) {
        let Some(open) = memory.open else {
            return;
        };
        let severity = self.severity(now, memory);
        if severity >= open.severity || self.held_back(now).is_some() {
            return;
        }
        let open = OpenAlert { severity, ..open };
        memory.open = Some(open);
        let draft = self.draft(now, AlertLife::Updated, open, memory.level_before);
        folded.fired.push(draft);
    }

    /// An entity without a score is on the side that fires nothing; open alerts are resolved.
    fn fold_absent(&self, state: &mut AlertState, seen: &Seen<'_>) -> Folded {
        let level_before = std::mem::take(&mut state.level);
        let last = state.history.last().map_or(0.0, |last| last.probability);
        let mut folded = Folded::default();
        for rule in &self.rules.rules {
            let now = Moment {
                seen,
                rule,
                scored: Scored {
                    probability: last,
                    logit: f64::MIN,
                },
                comes_pinned: false,
                level: 0,
                history: &[],
            };
            let memory = state.rules.entry(rule.alert_type).or_default();
            memory.expire(seen.tick_ms);
            if memory.waiting_since_ms.is_some() {
                let held = (rule.alert_type, SuppressReason::Ineligible);
                folded.held.push(held);
            }
            if let Some(open) = memory.open.filter(|_| seen.stage == Stage::Live) {
                let draft = self.draft(&now, AlertLife::Resolved, open, level_before);
                folded.fired.push(draft);
            }
            memory.leave();
        }
        folded
    }

    /// The reason for which an account gets no alert now.
    fn held_back(&self, now: &Moment<'_>) -> Option<SuppressReason> {
        self.held_back_by(now.ruling(), now.seen.facts)
    }

    /// The reason for which an account gets no alert under a ruling in force.
    pub(crate) fn held_back_by(
        &self,
        ruling: Option<OverrideKind>,
        facts: &AlertFacts,
    ) -> Option<SuppressReason> {
        match ruling {
            Some(OverrideKind::Pin) => None,
            Some(OverrideKind::Mute) => Some(SuppressReason::Muted),
            Some(OverrideKind::Exclude) => Some(SuppressReason::Excluded),
            None => self.rules.suppress.reason(facts),
        }
    }

    /// True if the conditions of the rule hold, and the account's activity confirms a rise.
    fn is_confirmed(&self, now: &Moment<'_>) -> bool {
        let (facts, tick_ms) = (now.seen.facts, now.seen.tick_ms);
        if !now.rule.alert_type.is_fall() && !self.rules.confirm.is_confirmed(facts, tick_ms) {
            return false;
        }
        let band = self.thresholds.band_name_at(now.level);
        let no_highest = BTreeMap::new();
        let situation = Situation {
            band: band.as_deref(),
            trend: self.change(now).trend,
            top_group: None,
            alert: None,
            probability: now.scored.probability,
            active_members: facts.active_people.unwrap_or_default() as usize,
            values: &facts.by_field,
            highest: &no_highest,
            silent_ms: facts.silent_ms(tick_ms),
        };
        let when = &now.rule.when;
        let reaches = |(field, least): (&String, &String)| {
            let reached = facts.reached.get(field);
            reached.is_some_and(|values| values.contains(least))
        };
        when.holds(&situation) && when.highest.iter().all(reaches)
    }
}

/// An entity with a score at a tick, under one rule.
pub(crate) struct Moment<'a> {
    seen: &'a Seen<'a>,
    rule: &'a AlertRule,
    scored: Scored,
    /// True at the tick at which a pin comes into force.
    comes_pinned: bool,
    level: u8,
    history: &'a [ScoreChange],
}

impl Moment<'_> {
    fn ruling(&self) -> Option<OverrideKind> {
        self.seen.ruling_kind()
    }
}

#[cfg(test)]
mod tests;
