//! One observation of one entity: band, emission, alerts.

use std::sync::Arc;

use leadpulse_schema::Absence;
use sha2::{Digest, Sha256};

use crate::actions::{self, ActionOptions, ActionTable, Vocabulary};
use crate::alerts::{AlertDraft, AlertType, Severity, SuppressReason};
use crate::level::{self, Line, MinDwell};
use crate::options::{EmitStep, PolicyError, PolicyOptions, Threshold};
use crate::state::{Eligibility, Emitted, EntityState, Fired, HistoryPoint};
use crate::trend::{self, Trend};

const MAX_BANDS: usize = 32;

/// Checked [`PolicyOptions`]: cheap to ask, shared between threads.
#[derive(Clone, Debug)]
pub struct Policy {
    /// All thresholds, ascending: bands, and plain probabilities that alerts name.
    lines: Vec<Line>,
    /// The band that starts at each line, if one does.
    bands: Vec<Option<Band>>,
    /// The lines at which alerts fire.
    up: Option<usize>,
    down: Option<usize>,
    min_dwell: MinDwell,
    cooldown_ms: i64,
    alert_on_first: bool,
    emit_step: EmitStep,
    steady_logit_per_day: f64,
    actions: Vec<ActionOptions>,
    sla_minutes: Option<u32>,
    expires_days: Option<u32>,
    fingerprint: u32,
}

/// A named range of the probability.
#[derive(Clone, Debug, PartialEq)]
pub struct Band {
    /// Its name.
    pub name: Arc<str>,
    /// The probability at which it is entered.
    pub enter: f64,
    /// The probability below which it is left.
    pub exit: f64,
    /// How urgent alerts about it are.
    pub severity: Severity,
}

/// A new score of an entity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// The calibrated probability, finite.
    pub probability: f64,
    /// Its logit.
    pub logit: f64,
    /// When it is valid, milliseconds; never less than at the entity's observation before.
    pub as_of_ms: i64,
    /// Crossings set the band but fire nothing: a backfill, or the first score after a bundle swap. What is muted must be a function of the
    /// input, like everything else here; a replay of live epochs observes unmuted and lets the engine drop what was already sent.
    pub muted: bool,
    /// Emit whatever the step (a closing tick).
    pub forced: bool,
}

/// What follows from an observation.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Whether a score record is due, and why.
    pub emit: Option<EmitReason>,
    /// The band now.
    pub band: Option<Arc<str>>,
    /// The band before.
    pub previous_band: Option<Arc<str>>,
    /// The probability emitted before this observation.
    pub previous_probability: Option<f64>,
    /// When that was valid, milliseconds.
    pub previous_as_of_ms: Option<i64>,
    /// Where the score is heading.
    pub trend: Trend,
    /// Its slope in probability per day over the last week, where there is a day's worth of scores.
    pub velocity_per_day: Option<f64>,
    /// How fast the slope changes, in probability per day², where there are three scores over two days at least.
    pub acceleration_per_day2: Option<f64>,
    /// Alerts that fire.
    pub alerts: Vec<AlertDraft>,
    /// Crossings that do not, and why.
    pub suppressed: Vec<(AlertType, SuppressReason)>,
    /// The state is not what it was before: it has to be recorded.
    pub state_changed: bool,
    /// A crossing needs nothing but time: observe the entity again at this `as_of`, milliseconds.
    pub revisit_at_ms: Option<i64>,
}

/// Why a score record is due. Where several hold, the first in this order is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EmitReason {
    /// The entity's first score.
    First,
    /// The entity came (back) into the population.
    Eligible,
    /// The entity left the population.
    Ineligible,
    /// The thresholds were changed since the last score.
    Reconfigured,
    /// A threshold was crossed.
    Crossing,
    /// It moved by the configured step since the last record.
    Step,
    /// It was asked for.
    Forced,
}

impl EmitReason {
    /// The name in records and metrics.
    pub fn name(self) -> &'static str {
        match self {
            EmitReason::First => "first",
            EmitReason::Eligible => "eligible",
            EmitReason::Ineligible => "ineligible",
            EmitReason::Reconfigured => "reconfigured",
            EmitReason::Crossing => "crossing",
            EmitReason::Step => "step",
            EmitReason::Forced => "forced",
        }
    }
}

impl Policy {
    /// The bands, lowest first.
    pub fn bands(&self) -> impl Iterator<Item = &Band> {
        self.bands.iter().flatten()
    }

    /// The rules for what to do, their names checked against what data and bundle have.
    ///
    /// # Errors
    /// The first name that is not known, with those that are.
    pub fn actions(&self, known: &Vocabulary) -> Result<ActionTable, PolicyError> {
        ActionTable::bound(&self.actions, known)
    }

    /// How soon somebody should react to an alert (minutes), and how long it is worth acting on (days), where no action says.
    pub fn alert_limits(&self) -> (Option<u32>, Option<u32>) {
        (self.sla_minutes, self.expires_days)
    }

    /// The band an entity is in.
    pub fn band_of(&self, state: &EntityState) -> Option<Arc<str>> {
        if self.knows_level_of(state) {
            self.band_at(state.level).map(|band| band.name.clone())
        } else {
            None
        }
    }

    /// When a crossing under way needs to be looked at again, milliseconds; see [`Decision::revisit_at_ms`].
    pub fn revisit_at_ms(&self, state: &EntityState) -> Option<i64> {
        state.dwell.ends_at_ms(self.min_dwell)
    }

    /// Where a score would be heading that is `probability` at this moment.
    pub fn trend_of(&self, state: &EntityState, as_of_ms: i64, probability: f64) -> Trend {
        trend::of(
            &state.history,
            HistoryPoint {
                as_of_ms,
                probability,
            },
            self.steady_logit_per_day,
        )
        .0
    }

    /// The entity belongs to the population and has this score.
    pub fn observe(&self, state: &mut EntityState, observation: Observation) -> Decision {
        let Observation {
            probability,
            logit,
            as_of_ms,
            muted,
            forced,
        } = observation;
        debug_assert!(
            probability.is_finite() && logit.is_finite(),
            "the scorer gave {observation:?}"
        );

        let first = state.eligibility == Eligibility::Unseen;
        let returned = state.eligibility == Eligibility::Ineligible;
        let reconfigured = !first && !self.knows_level_of(state);
        let mut changed = first || returned || reconfigured;
        state.eligibility = Eligibility::Eligible;
        state.absence = None;
        state.thresholds = self.fingerprint;

        // Without a known past the level is placed, not crossed into; the alerts of the crossings it may have missed are counted below.
        let previous_level = if first || reconfigured {
            0
        } else {
            state.level
        };
        if first || reconfigured {
            state.dwell.clear();
            state.level = level::placed(&self.lines, probability);
        } else {
            let before = (state.level, state.dwell.clone());
            state.level = level::settled(
                &self.lines,
                self.min_dwell,
                state.level,
                &mut state.dwell,
                probability,
                as_of_ms,
            );
            changed |= before != (state.level, state.dwell.clone());
        }

        let (mut alerts, mut suppressed) = (Vec::new(), Vec::new());
        let held_back = match (muted, reconfigured, first && !self.alert_on_first) {
            (true, _, _) => Some(SuppressReason::Muted),
            (_, true, _) => Some(SuppressReason::Reconfigured),
            (_, _, true) => Some(SuppressReason::FirstScore),
            _ => None,
        };
        for alert_type in self.crossings(previous_level, state.level) {
            match held_back.or_else(|| self.cooling_down(state, alert_type, as_of_ms)) {
                Some(reason) => suppressed.push((alert_type, reason)),
                None => {
                    alerts.push(self.fire(state, alert_type, previous_level, as_of_ms));
                    changed = true;
                }
            }
        }

        let newest = HistoryPoint {
            as_of_ms,
            probability,
        };
        let (trend, velocity_per_day) =
            trend::of(&state.history, newest, self.steady_logit_per_day);
        let acceleration_per_day2 = trend::acceleration(&state.history, newest);
        changed |= trend::record(&mut state.history, newest);

        let previous = state.emitted;
        let previous_probability = previous.map(|emitted| emitted.probability);
        let reasons = [
            (first, EmitReason::First),
            (returned, EmitReason::Eligible),
            (reconfigured, EmitReason::Reconfigured),
            (previous_level != state.level, EmitReason::Crossing),
            (
                state
                    .emitted
                    .is_none_or(|emitted| self.is_a_step(emitted, probability, logit)),
                EmitReason::Step,
            ),
            (forced, EmitReason::Forced),
        ];
        let emit = reasons
            .into_iter()
            .find_map(|(holds, reason)| holds.then_some(reason));
        if emit.is_some() {
            state.emitted = Some(Emitted {
                as_of_ms,
                probability,
                logit,
                previous_probability,
            });
            state.emissions += 1;
            changed = true;
        }

        Decision {
            emit,
            band: self.band_of(state),
            previous_band: self.band_at(previous_level).map(|band| band.name.clone()),
            previous_probability,
            previous_as_of_ms: previous.map(|emitted| emitted.as_of_ms),
            trend,
            velocity_per_day,
            acceleration_per_day2,
            alerts,
            suppressed,
            state_changed: changed,
            revisit_at_ms: state.dwell.ends_at_ms(self.min_dwell),
        }
    }

    /// The entity has no score. Emits once for an entity that had one, and again when the reason becomes another; it has no band until it
    /// returns.
    pub fn observe_ineligible(&self, state: &mut EntityState, why: Absence) -> Decision {
        let was_eligible = state.eligibility == Eligibility::Eligible;
        let is_news = was_eligible || (state.emissions > 0 && state.absence != Some(why));
        let changed = state.eligibility != Eligibility::Ineligible || state.absence != Some(why);
        let previous_level = if self.knows_level_of(state) {
            state.level
        } else {
            0
        };
        let suppressed = self
            .crossings(previous_level, 0)
            .map(|alert_type| (alert_type, SuppressReason::Ineligible))
            .collect();

        state.eligibility = Eligibility::Ineligible;
        state.absence = Some(why);
        state.thresholds = self.fingerprint;
        state.level = 0;
        state.dwell.clear();
        if is_news {
            state.emissions += 1;
        }
        Decision {
            emit: is_news.then_some(EmitReason::Ineligible),
            band: None,
            previous_band: self.band_at(previous_level).map(|band| band.name.clone()),
            previous_probability: state.emitted.map(|emitted| emitted.probability),
            previous_as_of_ms: state.emitted.map(|emitted| emitted.as_of_ms),
            trend: Trend::Unknown,
            velocity_per_day: None,
            acceleration_per_day2: None,
            alerts: Vec::new(),
            suppressed,
            state_changed: changed,
            revisit_at_ms: None,
        }
    }

    /// The level of an ineligible entity is 0 under any thresholds.
    fn knows_level_of(&self, state: &EntityState) -> bool {
        match state.eligibility {
            Eligibility::Unseen => false,
            Eligibility::Eligible => state.thresholds == self.fingerprint,
            Eligibility::Ineligible => true,
        }
    }

    fn band_at(&self, level: u8) -> Option<&Band> {
        self.bands[..usize::from(level)]
            .iter()
            .rev()
            .flatten()
            .next()
    }

    /// The alert types between two levels.
    fn crossings(&self, previous_level: u8, level: u8) -> impl Iterator<Item = AlertType> + use<> {
        let over =
            |line: Option<usize>, level: u8| line.is_some_and(|line| usize::from(level) > line);
        let up = !over(self.up, previous_level) && over(self.up, level);
        let down = over(self.down, previous_level) && !over(self.down, level);
        [
            (up, AlertType::ThresholdUp),
            (down, AlertType::ThresholdDown),
        ]
        .into_iter()
        .filter_map(|(crossed, alert_type)| crossed.then_some(alert_type))
    }

    fn cooling_down(
        &self,
        state: &EntityState,
        alert_type: AlertType,
        as_of_ms: i64,
    ) -> Option<SuppressReason> {
        let last = state.fired.get(&alert_type)?;
        (as_of_ms.saturating_sub(last.last_as_of_ms) < self.cooldown_ms)
            .then_some(SuppressReason::Cooldown)
    }

    fn fire(
        &self,
        state: &mut EntityState,
        alert_type: AlertType,
        previous_level: u8,
        as_of_ms: i64,
    ) -> AlertDraft {
        let fired = state.fired.entry(alert_type).or_insert(Fired {
            last_as_of_ms: as_of_ms,
            ordinal: 0,
        });
        *fired = Fired {
            last_as_of_ms: as_of_ms,
            ordinal: fired.ordinal + 1,
        };
        let (line, severity_level) = match alert_type {
            AlertType::ThresholdUp => (self.up, state.level),
            AlertType::ThresholdDown => (self.down, previous_level),
        };
        let line = self.lines[line.expect("only a configured threshold is crossed")];
        AlertDraft {
            alert_type,
            severity: self
                .band_at(severity_level)
                .map_or(Severity::P3, |band| band.severity),
            ordinal: fired.ordinal,
            threshold: if alert_type == AlertType::ThresholdUp {
                line.enter
            } else {
                line.exit
            },
            previous_band: self.band_at(previous_level).map(|band| band.name.clone()),
            band: self.band_at(state.level).map(|band| band.name.clone()),
        }
    }

    fn is_a_step(&self, emitted: Emitted, probability: f64, logit: f64) -> bool {
        let (moved, step) = match self.emit_step {
            EmitStep::Probability(step) => ((probability - emitted.probability).abs(), step),
            EmitStep::Logit(step) => ((logit - emitted.logit).abs(), step),
        };
        moved >= step && moved > 0.0
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
        if options.bands.len() > MAX_BANDS {
            return Err(PolicyError::TooManyBands {
                limit: MAX_BANDS,
                found: options.bands.len(),
            });
        }

        actions::check(
            &options.actions,
            &options
                .bands
                .iter()
                .map(|band| band.name.as_str())
                .collect::<Vec<_>>(),
        )?;

        let mut places = Vec::new();
        let mut lines = Vec::new();
        let mut bands: Vec<Option<Band>> = Vec::new();
        for (index, band) in options.bands.iter().enumerate() {
            if band.name.trim().is_empty() {
                return Err(PolicyError::NamelessBand { index });
            }
            if options.bands[..index]
                .iter()
                .any(|other| other.name == band.name)
            {
                return Err(PolicyError::DuplicateBand {
                    name: band.name.clone(),
                });
            }
            let place = format!("bands[{index}].enter (\"{}\")", band.name);
            let line = line(&place, band.enter, band.exit, ratio)?;
            let severity = band.severity.unwrap_or(match options.bands.len() - index {
                1 => Severity::P1,
                2 => Severity::P2,
                _ => Severity::P3,
            });
            places.push(place);
            lines.push(line);
            bands.push(Some(Band {
                name: Arc::from(band.name.as_str()),
                enter: line.enter,
                exit: line.exit,
                severity,
            }));
        }
        check_ascending(&places, &lines)?;

        for (place, threshold) in [
            ("threshold_up", &options.threshold_up),
            ("threshold_down", &options.threshold_down),
        ] {
            if let Some(Threshold::Probability(enter)) = threshold {
                let line = line(place, *enter, None, ratio)?;
                let index = lines.partition_point(|other| other.enter < line.enter);
                if lines
                    .get(index)
                    .is_none_or(|other| other.enter != line.enter)
                {
                    places.insert(index, place.to_owned());
                    lines.insert(index, line);
                    bands.insert(index, None);
                }
            }
        }
        check_ascending(&places, &lines)?;

        let line_of = |place: &'static str, threshold: &Option<Threshold>| match threshold {
            None => Ok(None),
            Some(Threshold::Probability(enter)) => {
                Ok(lines.iter().position(|line| line.enter == *enter))
            }
            Some(Threshold::Band(name)) => {
                let index = bands
                    .iter()
                    .position(|band| band.as_ref().is_some_and(|band| *band.name == **name));
                let known = || {
                    options
                        .bands
                        .iter()
                        .map(|band| band.name.as_str())
                        .collect::<Vec<_>>()
                        .join(", ")
                };
                index.map(Some).ok_or_else(|| PolicyError::UnknownBand {
                    place,
                    name: name.clone(),
                    known: known(),
                })
            }
        };
        let (up, down) = (
            line_of("threshold_up", &options.threshold_up)?,
            line_of("threshold_down", &options.threshold_down)?,
        );
        let fingerprint = fingerprint(&lines, &bands);
        Ok(Policy {
            lines,
            bands,
            up,
            down,
            min_dwell: MinDwell {
                epochs: options.min_dwell_epochs,
                ms: i64::try_from(options.min_dwell_ms).unwrap_or(i64::MAX),
            },
            cooldown_ms: i64::try_from(options.cooldown_ms).unwrap_or(i64::MAX),
            alert_on_first: options.alert_on_first,
            emit_step: options.emit_step,
            steady_logit_per_day,
            actions: options.actions.clone(),
            sla_minutes: options.sla_minutes,
            expires_days: options.expires_days,
            fingerprint,
        })
    }
}

fn in_range(
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

fn line(
    place: &str,
    enter: f64,
    exit: Option<f64>,
    hysteresis_ratio: f64,
) -> Result<Line, PolicyError> {
    if !(enter > 0.0 && enter < 1.0) {
        return Err(PolicyError::NotAProbability {
            place: place.to_owned(),
            value: enter,
        });
    }
    let exit = exit.unwrap_or(enter * (1.0 - hysteresis_ratio));
    if !(exit >= 0.0 && exit < enter) {
        return Err(PolicyError::ExitNotBelowEnter {
            place: place.to_owned(),
            enter,
            exit,
        });
    }
    Ok(Line { enter, exit })
}

fn check_ascending(places: &[String], lines: &[Line]) -> Result<(), PolicyError> {
    for index in 1..lines.len() {
        let (lower, upper) = (lines[index - 1], lines[index]);
        if lower.enter >= upper.enter || lower.exit > upper.exit {
            return Err(PolicyError::NotAscending {
                lower: places[index - 1].clone(),
                upper: places[index].clone(),
                lower_enter: lower.enter,
                upper_enter: upper.enter,
                lower_exit: lower.exit,
                upper_exit: upper.exit,
            });
        }
    }
    Ok(())
}

/// Equal where a level means the same.
fn fingerprint(lines: &[Line], bands: &[Option<Band>]) -> u32 {
    let mut hasher = Sha256::new();
    for (line, band) in lines.iter().zip(bands) {
        hasher.update(line.enter.to_bits().to_be_bytes());
        hasher.update(line.exit.to_bits().to_be_bytes());
        let name = band.as_ref().map_or("", |band| &band.name);
        hasher.update((name.len() as u64).to_be_bytes());
        hasher.update(name.as_bytes());
    }
    let digest = hasher.finalize();
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

#[cfg(test)]
mod tests;
