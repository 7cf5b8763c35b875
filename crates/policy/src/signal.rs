//! The input of a decision: a score, and the same score beside what was known of its entity before.

use crate::state::Emitted;
use crate::thresholds::Thresholds;

/// A new score of an entity that belongs to the task's population.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// The calibrated probability, finite.
    pub probability: f64,
    /// The calibrated logit, finite; given apart because a probability near 0 or 1 lost its digits.
    pub logit: f64,
    /// The time for which the score is valid, milliseconds. Never less than at the entity's
    /// observation before.
    pub as_of_ms: i64,
    /// Crossings set the band but fire nothing, as for the first score after a bundle swap. Set it
    /// from the input alone: a replay has to mute the same observations.
    pub muted: bool,
    /// Emits a score record whatever the step, as a closing tick does.
    pub forced: bool,
}

/// One entity in one task at one moment, with what was before: all that alert types look at.
///
/// An alert type that needs another fact gets it as a field here, so that every type stays a
/// function of one value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signal<'a> {
    /// The time of the observation, milliseconds.
    pub as_of_ms: i64,
    /// The score observed; `None` when the entity has none.
    pub observed: Option<Observation>,
    /// The last emitted score before this moment.
    pub emitted: Option<Emitted>,
    /// The relation of this observation to the one before.
    pub continuity: Continuity,
    /// The number of thresholds that the entity was over before, from the lowest; 0 where
    /// nothing comparable was before.
    pub level_before: u8,
    /// The number of thresholds that the entity is over now; 0 without a score.
    pub level: u8,
    /// The thresholds that both levels count.
    pub thresholds: &'a Thresholds,
}

impl Signal<'_> {
    /// True if the entity was not over line `line` before and is now.
    pub fn entered(&self, line: usize) -> bool {
        usize::from(self.level_before) <= line && usize::from(self.level) > line
    }

    /// True if the entity was over line `line` before and is not now.
    pub fn left(&self, line: usize) -> bool {
        usize::from(self.level_before) > line && usize::from(self.level) <= line
    }
}

/// The relation of an observation to the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Continuity {
    /// Nothing was observed before.
    First,
    /// The entity was outside the population, and so at level 0.
    Returned,
    /// Other thresholds were in force: the level before counts lines that no longer exist.
    Reconfigured,
    /// The levels before and now compare.
    Continued,
}

impl Continuity {
    /// True where the level is placed by the probability alone, without hysteresis and dwell.
    pub fn is_placed(self) -> bool {
        matches!(self, Continuity::First | Continuity::Reconfigured)
    }
}
