//! [`OutputRetention`]: the time that records stay in output topics that a run creates.
//!
//! These topics name people and are never compacted, so only time removes anybody from them. The time
//! counts from the append (`LogAppendTime`): the records' own timestamps are of the events, which
//! may be years old.

use serde::{Deserialize, Serialize};

use leadpulse_engine::ports::Output;
use leadpulse_schema::units::as_span;

/// The `[kafka.retention]` section. 0 keeps records for ever. Topics that exist keep their own
/// settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutputRetention {
    /// Of the history of scores, milliseconds.
    #[serde(rename = "scores", with = "as_span::ms")]
    pub scores_ms: u64,
    /// Of alerts, milliseconds.
    #[serde(rename = "alerts", with = "as_span::ms")]
    pub alerts_ms: u64,
    /// Of dead letters, milliseconds.
    #[serde(rename = "dead_letters", with = "as_span::ms")]
    pub dead_letters_ms: u64,
    /// Of exposures, milliseconds: long enough to measure what alerts cause.
    #[serde(rename = "exposures", with = "as_span::ms")]
    pub exposures_ms: u64,
}

const DAY_MS: u64 = 86_400_000;

impl Default for OutputRetention {
    fn default() -> Self {
        Self {
            scores_ms: 180 * DAY_MS,
            alerts_ms: 180 * DAY_MS,
            dead_letters_ms: 30 * DAY_MS,
            exposures_ms: 400 * DAY_MS,
        }
    }
}

impl OutputRetention {
    /// The time that an output's records stay, milliseconds; `None` for an output that keeps them.
    pub fn of(&self, output: Output) -> Option<u64> {
        let ms = match output {
            Output::Scores => self.scores_ms,
            Output::Alerts => self.alerts_ms,
            Output::DeadLetters => self.dead_letters_ms,
            Output::Exposures => self.exposures_ms,
            Output::Epochs
            | Output::PolicyState
            | Output::CurrentScores
            | Output::WorkLists
            | Output::ErasureProofs => 0,
        };
        (ms > 0).then_some(ms)
    }
}

/// True for outputs that name people and are not compacted.
pub(crate) fn is_by_time(output: Output) -> bool {
    matches!(
        output,
        Output::Scores | Output::Alerts | Output::DeadLetters | Output::Exposures
    )
}
