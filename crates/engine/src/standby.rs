//! Settings of the standby: whether a process starts as a follower, and how silence is told.

use serde::{Deserialize, Serialize};

use leadpulse_schema::units::as_span;

/// Settings of the standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StandbyOptions {
    /// Starts as a follower, which takes over when the owner is silent or has left. Without it a
    /// start takes over at once. All processes of a deployment have the same value.
    pub enabled: bool,
    /// Time without a commit and without a sign of life after which a follower takes over,
    /// milliseconds.
    #[serde(rename = "silence", with = "as_span::ms")]
    pub silence_ms: u64,
    /// Time between two signs of life of the owner, milliseconds.
    #[serde(rename = "heartbeat", with = "as_span::ms")]
    pub heartbeat_ms: u64,
}

impl Default for StandbyOptions {
    fn default() -> Self {
        Self {
            enabled: false,
            silence_ms: 1_500,
            heartbeat_ms: 500,
        }
    }
}

/// Refusal of standby options: the field, and its valid range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("standby.{field}: {message}")]
pub struct StandbyOptionsError {
    field: &'static str,
    message: &'static str,
}

impl StandbyOptions {
    /// Checks that each option lies in its range.
    ///
    /// # Errors
    /// The first field out of its range.
    pub fn validated(self) -> Result<Self, StandbyOptionsError> {
        let refuse = |field, message| Err(StandbyOptionsError { field, message });
        if !(50..=60_000).contains(&self.heartbeat_ms) {
            return refuse("heartbeat", "is from 50ms to 1m: set it to 500ms");
        }
        if self.silence_ms < 2 * self.heartbeat_ms {
            return refuse(
                "silence",
                "is at least twice standby.heartbeat, so that one late sign is no silence: raise it",
            );
        }
        if self.silence_ms > 600_000 {
            return refuse("silence", "is at most 10m: nothing is scored meanwhile");
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_longer_than_two_heartbeats() {
        let options = |heartbeat_ms, silence_ms| StandbyOptions {
            heartbeat_ms,
            silence_ms,
            ..StandbyOptions::default()
        };
        let field = |heartbeat_ms, silence_ms| {
            let checked = options(heartbeat_ms, silence_ms).validated();
            checked.err().map(|error| error.field)
        };
        let cases = [
            (500, 1_500, None),
            (500, 1_000, None),
            (500, 999, Some("silence")),
            (49, 1_500, Some("heartbeat")),
            (60_001, 600_000, Some("heartbeat")),
            (60_000, 600_001, Some("silence")),
        ];
        for (heartbeat_ms, silence_ms, expected) in cases {
            assert_eq!(
                field(heartbeat_ms, silence_ms),
                expected,
                "heartbeat {heartbeat_ms}, silence {silence_ms}"
            );
        }
    }
}
