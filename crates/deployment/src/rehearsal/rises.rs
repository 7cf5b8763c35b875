//! Rises of scores over the threshold of a task, and those that were taken back soon.

use std::collections::BTreeMap;
use std::sync::Arc;

use leadpulse_engine::Score;
use leadpulse_policy::{PolicyOptions, Threshold};
use leadpulse_schema::units::DAY_MS;

use crate::config::TaskConfig;

/// A rise is reversed if the score is below `exit` within this time, milliseconds.
pub const REVERSED_WITHIN_MS: i64 = 3 * DAY_MS;

/// A rise of an entity's score over `threshold_up` of its task, whether or not an alert fired.
#[derive(Clone, Debug, PartialEq)]
pub struct Rise {
    /// Name of the task.
    pub task: Arc<str>,
    /// Key of the entity.
    pub entity_id: Arc<str>,
    /// The tick of the rise, milliseconds.
    pub at_ms: i64,
    /// True if the score fell below `exit` within [`REVERSED_WITHIN_MS`]; `None` for rises so near
    /// to the end that it may still fall.
    pub is_reversed: Option<bool>,
}

/// The scores at which a task's threshold is entered and left.
#[derive(Clone, Copy)]
struct UpLine {
    enter: f64,
    exit: f64,
}

/// The side of an entity.
#[derive(Default)]
struct Side {
    is_over: bool,
    /// Index of the rise that led there; `None` before alerting began.
    rise: Option<usize>,
}

/// Watches emitted scores. A score that crosses a threshold is emitted whatever its size, so none
/// is missed.
pub(super) struct RiseWatch {
    /// By task; tasks without a threshold have no rises.
    lines: BTreeMap<String, UpLine>,
    sides: BTreeMap<(Arc<str>, Arc<str>), Side>,
    rises: Vec<Rise>,
    live_from_ms: i64,
}

impl RiseWatch {
    /// A watch that notes rises after a tick.
    pub fn new(tasks: &[TaskConfig], live_from_ms: i64) -> Self {
        let lines = tasks
            .iter()
            .filter_map(|task| Some((task.name.clone(), up_line(&task.policy)?)));
        Self {
            lines: lines.collect(),
            sides: BTreeMap::new(),
            rises: Vec::new(),
            live_from_ms,
        }
    }

    /// Takes an emitted score. Scores of an entity come in order of time.
    pub fn observe(&mut self, score: &Score) {
        let Some(line) = self.lines.get(&*score.task) else {
            return;
        };
        let key = (score.task.clone(), score.entity_id.clone());
        let side = self.sides.entry(key).or_default();
        match score.probability.filter(|_| score.is_scored()) {
            Some(now) if now >= line.enter && !side.is_over => {
                side.is_over = true;
                if score.as_of > self.live_from_ms {
                    side.rise = Some(self.rises.len());
                    self.rises.push(Rise {
                        task: score.task.clone(),
                        entity_id: score.entity_id.clone(),
                        at_ms: score.as_of,
                        is_reversed: Some(false),
                    });
                }
            }
            Some(now) if now < line.exit => {
                let rise = side.rise.take().map(|index| &mut self.rises[index]);
                if let Some(rise) = rise {
                    let lasted_ms = score.as_of - rise.at_ms;
                    rise.is_reversed = Some(lasted_ms <= REVERSED_WITHIN_MS);
                }
                side.is_over = false;
            }
            Some(_) => {}
            // An entity that left the population has not fallen.
            None => *side = Side::default(),
        }
    }

    /// The rises, as they are known at the end of the scores, milliseconds.
    pub fn take(&mut self, end_ms: i64) -> Vec<Rise> {
        let mut rises = std::mem::take(&mut self.rises);
        for rise in &mut rises {
            let is_watched = rise.at_ms + REVERSED_WITHIN_MS <= end_ms;
            if !is_watched && rise.is_reversed == Some(false) {
                rise.is_reversed = None;
            }
        }
        rises
    }
}

fn up_line(policy: &PolicyOptions) -> Option<UpLine> {
    let (enter, exit) = match policy.threshold_up.as_ref()? {
        Threshold::Probability(enter) => (*enter, None),
        Threshold::Band(name) => {
            let band = policy.bands.iter().find(|band| band.name == *name)?;
            (band.enter, band.exit)
        }
    };
    Some(UpLine {
        enter,
        exit: exit.unwrap_or(enter * (1.0 - policy.hysteresis_ratio)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = DAY_MS;

    fn watched(scores: &[(i64, Option<f64>)], end_ms: i64) -> Vec<(i64, Option<bool>)> {
        let task: TaskConfig = serde_json::from_value(serde_json::json!({
            "name": "t",
            "query": "",
            "policy": {"bands": [{"name": "hot", "enter": 0.2}], "threshold_up": "hot"},
        }))
        .expect("the task is valid");
        let mut watch = RiseWatch::new(&[task], 10 * DAY);
        for (at_ms, probability) in scores {
            watch.observe(&Score {
                task: "t".into(),
                entity_id: "A".into(),
                as_of: *at_ms,
                status: score_status(probability.is_some()),
                probability: *probability,
                ..Score::default()
            });
        }
        let rises = watch.take(end_ms).into_iter();
        rises.map(|rise| (rise.at_ms, rise.is_reversed)).collect()
    }

    fn score_status(is_scored: bool) -> leadpulse_records::Symbol {
        leadpulse_records::Symbol(if is_scored { "scored" } else { "ineligible" })
    }

    #[test]
    fn a_rise_that_ends_within_three_days_is_reversed() {
        let rise = (11 * DAY, Some(0.25));
        type Score = (i64, Option<f64>);
        let cases: [(&[Score], Option<bool>); 6] = [
            (&[rise, (14 * DAY, Some(0.1))], Some(true)),
            (&[rise, (14 * DAY + 1, Some(0.1))], Some(false)),
            // 0.15 is above the exit of .14.
            (&[rise, (12 * DAY, Some(0.15))], Some(false)),
            (&[rise, (12 * DAY, None)], Some(false)),
            (&[(9 * DAY, Some(0.1)), rise], Some(false)),
            (
                &[rise, (12 * DAY, Some(0.3)), (13 * DAY, Some(0.1))],
                Some(true),
            ),
        ];
        for (scores, expected) in cases {
            let found = watched(scores, 30 * DAY);
            assert_eq!(found, [(11 * DAY, expected)], "{scores:?}");
        }
    }

    #[test]
    fn rises_of_history_and_rises_that_were_not_watched_do_not_count() {
        let of_history = [(9 * DAY, Some(0.25)), (11 * DAY, Some(0.1))];
        assert_eq!(watched(&of_history, 30 * DAY), []);
        let again = [
            (9 * DAY, Some(0.25)),
            (11 * DAY, Some(0.1)),
            (12 * DAY, Some(0.3)),
        ];
        assert_eq!(watched(&again, 14 * DAY), [(12 * DAY, None)]);
        let fell = [(12 * DAY, Some(0.3)), (13 * DAY, Some(0.1))];
        assert_eq!(watched(&fell, 13 * DAY), [(12 * DAY, Some(true))]);
    }
}
