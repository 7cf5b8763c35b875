//! The policy of one task: from an observation of an entity to band, emission and trend. Alerts are
//! a fold of their own, see [`Policy::fold`].

use std::sync::Arc;

use leadpulse_schema::Absence;

use crate::actions::{self, ActionOptions, ActionTable, Vocabulary};
use crate::alerts::rules::AlertRules;
use crate::decision::{Decision, EmitReason};
use crate::error::PolicyError;
use crate::facts::FactOptions;
use crate::level;
use crate::options::{EmitStep, PolicyOptions};
use crate::signal::{Continuity, Observation};
use crate::state::{Eligibility, Emitted, EntityState, HistoryPoint};
use crate::thresholds::{Band, Thresholds};
use crate::trend::{self, Trend};

/// Checked [`PolicyOptions`]: cheap to ask, shared between threads.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) thresholds: Thresholds,
    pub(crate) rules: AlertRules,
    facts: FactOptions,
    emit_step: EmitStep,
    pub(crate) steady_logit_per_day: f64,
    actions: Vec<ActionOptions>,
    sla_minutes: Option<u32>,
    expires_days: Option<u32>,
}

impl Policy {
    /// The bands, lowest first.
    pub fn bands(&self) -> impl Iterator<Item = &Band> {
        self.thresholds.bands()
    }

    /// The meaning of tables and fields for alerts.
    pub fn fact_options(&self) -> &FactOptions {
        &self.facts
    }

    /// True if the policy has rules of alerts: without any, nothing needs to be folded.
    pub fn has_alerts(&self) -> bool {
        !self.rules.rules.is_empty()
    }

    /// The table of recommended actions. Names in rules of actions and of alerts are checked against
    /// data and bundle.
    ///
    /// # Errors
    /// The first unknown name, with the known ones.
    pub fn actions(&self, known: &Vocabulary) -> Result<ActionTable, PolicyError> {
        self.rules.check_names(known)?;
        ActionTable::bound(&self.actions, known)
    }

    /// The time to react to an alert (minutes) and the time it is worth acting on (days), for
    /// alerts whose action gives none.
    pub fn alert_limits(&self) -> (Option<u32>, Option<u32>) {
        (self.sla_minutes, self.expires_days)
    }

    /// The band of an entity; `None` below all bands, and while the state counts other thresholds.
    pub fn band_of(&self, state: &EntityState) -> Option<Arc<str>> {
        if self.knows_level_of(state) {
            self.thresholds.band_name_at(state.level)
        } else {
            None
        }
    }

    /// The trend of an entity, if its probability at this moment were `probability`.
    pub fn trend_of(&self, state: &EntityState, as_of_ms: i64, probability: f64) -> Trend {
        let newest = HistoryPoint {
            as_of_ms,
            probability,
        };
        trend::of(&state.history, newest, self.steady_logit_per_day).0
    }

    /// Decides about a score of an entity that belongs to the population.
    ///
    /// Observations of one entity come in ascending `as_of`. Probability and logit are finite.
    pub fn observe(&self, state: &mut EntityState, observation: Observation) -> Decision {
        let Observation {
            probability,
            logit,
            as_of_ms,
            ..
        } = observation;
        debug_assert!(
            probability.is_finite() && logit.is_finite(),
            "the scorer gave {observation:?}"
        );
        let previous = state.emitted;
        let continuity = self.continuity(state);
        let level_before = self.comparable_level(state);
        let settled_anew = self.settle(state, continuity, probability);

        let newest = HistoryPoint {
            as_of_ms,
            probability,
        };
        let (trend, velocity_per_day) =
            trend::of(&state.history, newest, self.steady_logit_per_day);
        let acceleration_per_day2 = trend::acceleration(&state.history, newest);
        let is_recorded = trend::record(&mut state.history, newest, |point| point.as_of_ms);

        let is_crossing = level_before != state.level;
        let emit = self.emit_reason(continuity, is_crossing, previous, observation);
        let previous_probability = previous.map(|emitted| emitted.probability);
        if emit.is_some() {
            state.emitted = Some(Emitted {
                as_of_ms,
                probability,
                logit,
                previous_probability,
            });
            state.emissions += 1;
        }
        Decision {
            emit,
            band: self.band_of(state),
            previous_band: self.thresholds.band_name_at(level_before),
            previous_probability,
            previous_as_of_ms: previous.map(|emitted| emitted.as_of_ms),
            trend,
            velocity_per_day,
            acceleration_per_day2,
            state_changed: settled_anew || is_recorded || emit.is_some(),
        }
    }

    /// Decides about an entity that has no score.
    ///
    /// Emits once for an entity that had a score, and again when the reason becomes another. The
    /// entity has no band until it returns.
    pub fn observe_ineligible(
        &self,
        state: &mut EntityState,
        why: Absence,
        forced: bool,
    ) -> Decision {
        let was_eligible = state.eligibility == Eligibility::Eligible;
        let has_other = state.absence != Some(why) || forced;
        let is_news = was_eligible || (state.emissions > 0 && has_other);
        let state_changed =
            state.eligibility != Eligibility::Ineligible || state.absence != Some(why);
        let emitted = state.emitted;
        let level_before = self.comparable_level(state);

        // Memory that is not recorded must not move: an entity that stays away keeps the thresholds
        // of its last record, whatever policy looks at it.
        if state_changed {
            state.eligibility = Eligibility::Ineligible;
            state.absence = Some(why);
            state.thresholds = self.thresholds.fingerprint;
            state.level = 0;
        }
        if is_news {
            state.emissions += 1;
        }
        Decision {
            emit: is_news.then_some(EmitReason::Ineligible),
            band: None,
            previous_band: self.thresholds.band_name_at(level_before),
            previous_probability: emitted.map(|emitted| emitted.probability),
            previous_as_of_ms: emitted.map(|emitted| emitted.as_of_ms),
            trend: Trend::Unknown,
            velocity_per_day: None,
            acceleration_per_day2: None,
            state_changed,
        }
    }

    /// Moves level and eligibility of the state. Returns true if the state moved.
    fn settle(&self, state: &mut EntityState, continuity: Continuity, probability: f64) -> bool {
        state.eligibility = Eligibility::Eligible;
        state.absence = None;
        state.thresholds = self.thresholds.fingerprint;
        let before = state.level;
        let lines = &self.thresholds.lines;
        state.level = if continuity.is_placed() {
            level::placed(lines, probability)
        } else {
            level::settled(lines, state.level, probability)
        };
        continuity != Continuity::Continued || before != state.level
    }

    fn emit_reason(
        &self,
        continuity: Continuity,
        is_crossing: bool,
        emitted: Option<Emitted>,
        observation: Observation,
    ) -> Option<EmitReason> {
        match continuity {
            Continuity::First => return Some(EmitReason::First),
            Continuity::Returned => return Some(EmitReason::Eligible),
            Continuity::Reconfigured => return Some(EmitReason::Reconfigured),
            Continuity::Continued => {}
        }
        let is_a_step = || match emitted {
            Some(emitted) => self.is_a_step(emitted, observation),
            None => true,
        };
        if is_crossing {
            Some(EmitReason::Crossing)
        } else if is_a_step() {
            Some(EmitReason::Step)
        } else if observation.forced {
            Some(EmitReason::Forced)
        } else {
            None
        }
    }

    fn is_a_step(&self, emitted: Emitted, observation: Observation) -> bool {
        let (moved, step) = match self.emit_step {
            EmitStep::Probability(step) => {
                ((observation.probability - emitted.probability).abs(), step)
            }
            EmitStep::Logit(step) => ((observation.logit - emitted.logit).abs(), step),
        };
        moved >= step && moved > 0.0
    }

    fn continuity(&self, state: &EntityState) -> Continuity {
        match state.eligibility {
            Eligibility::Unseen => Continuity::First,
            Eligibility::Ineligible => Continuity::Returned,
            Eligibility::Eligible if self.knows_level_of(state) => Continuity::Continued,
            Eligibility::Eligible => Continuity::Reconfigured,
        }
    }

    /// The level of a state, or 0 if it counts other thresholds.
    fn comparable_level(&self, state: &EntityState) -> u8 {
        if self.knows_level_of(state) {
            state.level
        } else {
            0
        }
    }

    /// True if the state's level counts this policy's thresholds. The level of an ineligible
    /// entity is 0 under any thresholds.
    fn knows_level_of(&self, state: &EntityState) -> bool {
        match state.eligibility {
            Eligibility::Unseen => false,
            Eligibility::Eligible => state.thresholds == self.thresholds.fingerprint,
            Eligibility::Ineligible => true,
        }
    }
}

impl Policy {
    pub(crate) fn from_options(options: &PolicyOptions) -> Result<Self, PolicyError> {
        let ratio = in_range(
            "hysteresis_ratio",
            options.hysteresis_ratio,
            |ratio| ratio > 0.0 && ratio < 1.0,
            "greater than 0 and less than 1",
        )?;
        let (EmitStep::Probability(step) | EmitStep::Logit(step)) = options.emit_step;
        in_range("emit_step", step, |step| step >= 0.0, "0 or greater")?;
        let steady_logit_per_day = in_range(
            "steady_logit_per_day",
            options.steady_logit_per_day,
            |steady| steady >= 0.0,
            "0 or greater",
        )?;
        in_range(
            "hold_out_share",
            options.hold_out_share,
            |share| (0.0..=1.0).contains(&share),
            "from 0 to 1",
        )?;
        if let Some(value) = options.large_value {
            in_range("large_value", value, |value| value > 0.0, "greater than 0")?;
        }
        Thresholds::check_count(&options.bands)?;
        let band_names: Vec<&str> = options.bands.iter().map(|b| b.name.as_str()).collect();
        actions::check(&options.actions, &band_names)?;
        let thresholds = Thresholds::checked(options, ratio)?;
        Ok(Policy {
            rules: AlertRules::checked(options, &thresholds)?,
            thresholds,
            facts: options.facts.clone(),
            emit_step: options.emit_step,
            steady_logit_per_day,
            actions: options.actions.clone(),
            sla_minutes: options.sla_minutes,
            expires_days: options.expires_days,
        })
    }
}

pub(crate) fn in_range(
    place: &'static str,
    value: f64,
    holds: fn(f64) -> bool,
    expected: &'static str,
) -> Result<f64, PolicyError> {
    if value.is_finite() && holds(value) {
        Ok(value)
    } else {
        Err(PolicyError::OutOfRange {
            place,
            value,
            expected,
        })
    }
}

#[cfg(test)]
mod tests;
