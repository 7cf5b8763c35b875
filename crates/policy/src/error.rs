//! The faults that options of a policy may have.

use crate::alerts::AlertType;
#[cfg(doc)]
use crate::options::PolicyOptions;

/// A fault in [`PolicyOptions`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// A band has no name.
    #[error("bands[{index}] has an empty name; give it one, e.g. \"hot\"")]
    NamelessBand {
        /// Position in `bands`, from 0.
        index: usize,
    },
    /// Two bands have the same name.
    #[error("the band \"{name}\" is there twice; every band of a task needs a name of its own")]
    DuplicateBand {
        /// The name that two bands share.
        name: String,
    },
    /// More bands than a level can count.
    #[error("a task has at most {limit} bands, these are {found}")]
    TooManyBands {
        /// The greatest number allowed.
        limit: usize,
        /// The number in the configuration.
        found: usize,
    },
    /// An `enter` or a threshold is not a probability that can be crossed.
    #[error("{place} is {value}, but must be a probability greater than 0 and less than 1")]
    NotAProbability {
        /// The key in the configuration.
        place: String,
        /// The value found there.
        value: f64,
    },
    /// An `exit` does not lie below its `enter`.
    #[error(
        "{place}: exit {exit} must be at least 0 and less than enter {enter}, or every wobble \
         around it would be a crossing"
    )]
    ExitNotBelowEnter {
        /// The key in the configuration.
        place: String,
        /// The probability at which the threshold is entered.
        enter: f64,
        /// The probability below which the threshold is left.
        exit: f64,
    },
    /// Bands, or the points where they are left, are not in ascending order.
    #[error(
        "{lower} and {upper} are out of order: both enter and exit must ascend (enter {lower_enter}, {upper_enter}; exit {lower_exit}, {upper_exit}); \
         order the bands from low to high, and check exit and hysteresis_ratio"
    )]
    NotAscending {
        /// The key of the first of the two.
        lower: String,
        /// The key of the next.
        upper: String,
        /// `enter` of the first.
        lower_enter: f64,
        /// `enter` of the next.
        upper_enter: f64,
        /// `exit` of the first.
        lower_exit: f64,
        /// `exit` of the next.
        upper_exit: f64,
    },
    /// A threshold names a band that does not exist.
    #[error("{place} names the band \"{name}\", which is not one of: {known}")]
    UnknownBand {
        /// The key in the configuration.
        place: &'static str,
        /// The value found there.
        name: String,
        /// The values that are allowed there.
        known: String,
    },
    /// An action has no code.
    #[error("actions[{index}] has an empty code; give it one, e.g. \"schedule_call\"")]
    NamelessAction {
        /// Position in `actions`, from 0.
        index: usize,
    },
    /// More rules than are allowed.
    #[error("a task has at most {limit} actions, these are {found}")]
    TooManyActions {
        /// The greatest number allowed.
        limit: usize,
        /// The number in the configuration.
        found: usize,
    },
    /// A condition of a rule is not a probability.
    #[error("{place} is {value}, but must be a probability from 0 to 1")]
    ActionProbability {
        /// The key in the configuration.
        place: String,
        /// The value found there.
        value: f64,
    },
    /// A rule names a band, group, field or value that does not exist.
    #[error("{place} names \"{name}\", which is not one of: {known}")]
    UnknownName {
        /// The key in the configuration.
        place: String,
        /// The value found there.
        name: String,
        /// The values that are allowed there.
        known: String,
    },
    /// Two rules of alerts have one trigger.
    #[error("{place}: two rules are about {trigger}; make them one")]
    DuplicateTrigger {
        /// The key in the configuration.
        place: String,
        /// The trigger of both.
        trigger: AlertType,
    },
    /// A rule has a key that its trigger does not read.
    #[error("{place} has no meaning for this trigger; leave it out")]
    UselessKey {
        /// The key in the configuration.
        place: String,
    },
    /// A number of a rule is too small.
    #[error("{place} is {value}, but must be greater than {least}")]
    RuleNumber {
        /// The key in the configuration.
        place: String,
        /// The value found there.
        value: f64,
        /// The greatest value that is too small.
        least: f64,
    },
    /// A rule makes a fall the most urgent.
    #[error("{place} is P1, but a fall is never P1; write P2 or P3")]
    UrgentFall {
        /// The key in the configuration.
        place: String,
    },
    /// A rule is about a threshold that the policy does not set.
    #[error("{place} is about a threshold, but {threshold} of the policy is not set; set it")]
    NoThreshold {
        /// The key in the configuration.
        place: String,
        /// The key that is missing.
        threshold: &'static str,
    },
    /// A rule is about facts that the options do not name.
    #[error("{place} needs {key}, which is not set; name the tables there")]
    NoFacts {
        /// The key in the configuration.
        place: String,
        /// The key that is missing.
        key: &'static str,
    },
    /// An excluded domain is no domain.
    #[error("{place} is \"{value}\", which is not a domain; write it like example.com")]
    NotADomain {
        /// The key in the configuration.
        place: String,
        /// The value found there.
        value: String,
    },
    /// A number is outside its range.
    #[error("{place} is {value}, but must be {expected}")]
    OutOfRange {
        /// The key in the configuration.
        place: &'static str,
        /// The value found there.
        value: f64,
        /// The values that are allowed there.
        expected: &'static str,
    },
}
