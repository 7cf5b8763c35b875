//! The input of a decision: a score, and its relation to what was known of its entity before.

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
    /// Emits a score record whatever the step, as a closing tick does.
    pub forced: bool,
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
    /// True where the level is placed by the probability alone, without hysteresis.
    pub fn is_placed(self) -> bool {
        matches!(self, Continuity::First | Continuity::Reconfigured)
    }
}
