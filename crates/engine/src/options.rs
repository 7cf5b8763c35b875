//! Settings of the epoch loop: length and size of epochs, budgets, the clock's part.

use serde::{Deserialize, Serialize};

use leadpulse_schema::units::{as_moment, as_span};

/// The source of time that moves `as_of` on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockMode {
    /// The newest accepted event and, once the topics are read to their end, the wall clock:
    /// silence is seen.
    #[default]
    Wall,
    /// Events only: for history, replays and simulations.
    Events,
}

/// Settings of the epoch loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineOptions {
    /// Epochs are cut no closer to each other than this, milliseconds. The first record after a
    /// pause does not wait.
    #[serde(rename = "epoch_floor", alias = "epoch_floor_ms", with = "as_span::ms")]
    pub epoch_floor_ms: u64,
    /// Records in one epoch at most.
    pub max_records: usize,
    /// Bytes of records in one epoch at most.
    pub max_bytes: usize,
    /// Work of one epoch, milliseconds: scoring for ticks and subscribers, and half as much again for
    /// explanations. What does not fit waits, the nearest to a threshold first; a tick goes on in the
    /// next epoch. One cell and one explanation are done in any case.
    #[serde(rename = "epoch_work", with = "as_span::ms")]
    pub epoch_work_ms: u64,
    /// Work of one epoch as a number of nodes, instead of a time: for runs that are to be cut
    /// alike. By default the time counts.
    pub epoch_nodes: Option<u64>,
    /// Cells re-scored in one epoch because a board moved their hubs, at most.
    pub soft_budget: usize,
    /// Explanations computed in one epoch at most, besides alerts, which are always explained:
    /// band crossings first, then scores within a
    /// band that were never explained.
    pub explain_budget: usize,
    /// Entities at the top of each task that are kept explained, within the budget: no explanation
    /// there is older than a day.
    pub explain_top: usize,
    /// The source of time that moves `as_of` on.
    pub clock: ClockMode,
    /// Alerts are decided at multiples of this, milliseconds. It divides the board period.
    #[serde(rename = "tick", with = "as_span::ms")]
    pub tick_ms: u64,
    /// Alerts fire after this moment, milliseconds; what was known by then is history. By default
    /// the first start of the deployment, or, where only events count, the end of the topics then.
    #[serde(rename = "live_from", with = "as_moment", default)]
    pub live_from_ms: Option<i64>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            epoch_floor_ms: 20,
            max_records: 20_000,
            max_bytes: 16 << 20,
            epoch_work_ms: 100,
            epoch_nodes: None,
            soft_budget: 512,
            explain_budget: 4,
            explain_top: 200,
            clock: ClockMode::Wall,
            tick_ms: 10_000,
            live_from_ms: None,
        }
    }
}

/// Refusal of engine options: the field, and its valid range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("engine.{field}: {message}")]
pub struct EngineOptionsError {
    field: &'static str,
    message: &'static str,
}

impl EngineOptions {
    /// Checks that each option lies in its range.
    ///
    /// # Errors
    /// The first field out of its range.
    pub fn validated(self) -> Result<Self, EngineOptionsError> {
        let refuse = |field, message| Err(EngineOptionsError { field, message });
        if !(1..=10_000).contains(&self.epoch_floor_ms) {
            return refuse(
                "epoch_floor",
                "is from 1ms to 10s: nobody should wait longer for a score",
            );
        }
        if !(100..=3_600_000).contains(&self.tick_ms) {
            return refuse("tick", "is from 100ms to 1h: alerts wait for it");
        }
        if !3_600_000_u64.is_multiple_of(self.tick_ms) {
            return refuse("tick", "divides an hour: deadlines and boards lie on ticks");
        }
        if !(5..=10_000).contains(&self.epoch_work_ms) {
            return refuse(
                "epoch_work",
                "is from 5ms to 10s: a follower takes 1.5 s without an epoch for silence",
            );
        }
        if self.epoch_nodes == Some(0) {
            return refuse("epoch_nodes", "is at least 1: an epoch scores something");
        }
        if self.max_records == 0 || self.max_bytes < 1 << 16 {
            return refuse("max_records", "an epoch holds at least 1 record and 64 KiB");
        }
        Ok(self)
    }
}
