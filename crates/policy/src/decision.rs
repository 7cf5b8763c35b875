//! The answer of a policy to one observation.

use std::sync::Arc;

use crate::trend::Trend;

/// The consequences of an observation.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The reason for which a score record is due; `None` when none is.
    pub emit: Option<EmitReason>,
    /// The band now; `None` below all bands and without a score.
    pub band: Option<Arc<str>>,
    /// The band before this observation; `None` below all bands.
    pub previous_band: Option<Arc<str>>,
    /// The probability emitted before this observation.
    pub previous_probability: Option<f64>,
    /// The time for which that was valid, milliseconds.
    pub previous_as_of_ms: Option<i64>,
    /// The direction of the score.
    pub trend: Trend,
    /// The slope in probability per day over the last week, given scores that span a day.
    pub velocity_per_day: Option<f64>,
    /// The change of that slope in probability per day², given three scores that span two days.
    pub acceleration_per_day2: Option<f64>,
    /// True if the entity's state differs from before, and so has to be recorded.
    pub state_changed: bool,
}

/// The reason for a score record. Where several hold, the first in this order is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EmitReason {
    /// The score is the entity's first.
    First,
    /// The entity came (back) into the population.
    Eligible,
    /// The entity left the population.
    Ineligible,
    /// The thresholds were changed since the last score.
    Reconfigured,
    /// A threshold was crossed.
    Crossing,
    /// The score moved by the configured step since the last record.
    Step,
    /// The observation asked for a record.
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
